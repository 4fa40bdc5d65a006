//! The points at which the passes of a batch wait for sums over all of it, and what the layers make of these afterwards.

use std::ops::Range;

use super::Model;
use crate::Real;
use crate::nn::Mode;

/// A point at which a pass waits.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) layer: usize,
    /// Its sums, among those of the layer: first of the forward pass, then of the backward pass.
    pub(crate) sums: Range<usize>,
}

/// Neighbouring ranges of these lengths.
pub(super) fn ranges(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut end = 0;
    let range = |&len: &usize| {
        let start = end;
        end += len;
        start..end
    };
    lengths.iter().map(range).collect()
}

impl<R: Real> Model<R> {
    /// Where forward passes wait, in order; nowhere but in training.
    pub(crate) fn forward_waits(&self, mode: Mode) -> impl DoubleEndedIterator<Item = Wait> {
        let slots = self.slots().iter().enumerate().filter(move |_| mode == Mode::Train);
        slots.flat_map(|(layer, slot)| slot.waits.iter().map(move |sums| Wait { layer, sums: sums.clone() }))
    }

    /// Where backward passes wait, in order: at the same points, of which the last one comes first.
    pub(crate) fn backward_waits(&self, mode: Mode) -> impl Iterator<Item = Wait> {
        self.forward_waits(mode).rev().map(|Wait { layer, sums }| {
            let half = self.slots()[layer].sizes.sums;
            Wait { layer, sums: sums.start + half..sums.end + half }
        })
    }

    /// Lets each layer that has statistics move them towards those of a batch with these sums. `held` has room for those that
    /// are frozen, which stay as they are.
    pub(crate) fn track(&mut self, sums: &[Vec<f64>], frozen: &[Range<usize>], held: &mut [R]) {
        let (layout, params) = (self.params.layout().clone(), self.params.as_mut_slice());
        let mut end = 0;
        for own in layout.statistics_in(frozen) {
            held[end..][..own.len()].copy_from_slice(&params[own.clone()]);
            end += own.len();
        }
        for (slot, sums) in self.layers.iter().zip(sums).filter(|(slot, _)| slot.sizes.sums > 0) {
            slot.layer.track(slot.input, &sums[..slot.sizes.sums], &mut params[slot.params.clone()]);
        }
        let mut held = &held[..end];
        for own in layout.statistics_in(frozen) {
            let (values, rest) = held.split_at(own.len());
            params[own].copy_from_slice(values);
            held = rest;
        }
    }
}
