//! The passes of a batch whose tiles wait for one another: a layer such as a batch normalisation needs sums over all of them.
//!
//! The passes fall into stages, each of which ends where a layer waits. All tiles pass a stage, side by side, and leave
//! their sums; these are added by the tree of the slots, over all ranks, and the next stage begins with the total. The backward
//! pass does the same from the last stage to the first. A model without such layers has one stage, and does not come here.

use std::ops::Range;

use super::ranks::Ranks;
use super::slot::{Slot, Work, pairs};
use crate::nn::{Mode, Wait, Workspace};
use crate::{Model, Real, Result, par};

/// Where the passes of a model wait, and the sums over a batch there.
pub(super) struct Stages {
    forward: Vec<Wait>,
    backward: Vec<Wait>,
    /// For each layer, its sums over the last batch: of the forward pass, and of the backward pass.
    pub(super) sums: Vec<Vec<f64>>,
}

impl Stages {
    pub(super) fn new<R: Real>(model: &Model<R>) -> Self {
        Self {
            forward: model.forward_waits(Mode::Train).collect(),
            backward: model.backward_waits(Mode::Train).collect(),
            sums: model.slots().iter().map(|slot| vec![0.0; 2 * slot.sizes.sums]).collect(),
        }
    }

    /// Whether no layer waits.
    pub(super) fn is_one(&self) -> bool {
        self.forward.is_empty()
    }

    /// The most sums at one point.
    pub(super) fn most(&self) -> usize {
        self.forward.iter().map(|wait| wait.sums.len()).max().unwrap_or(0)
    }

    /// Sums the losses and gradients of the tiles of all slots of this rank, of which the first is slot `first`, if the batch
    /// `fits`.
    ///
    /// A rank that has failed still takes part in the sums over the ranks: otherwise the others would wait for it.
    ///
    /// # Errors
    /// Those of [`Slot::open_all`], or that the other ranks cannot be reached.
    pub(super) fn run<R: Real>(
        &mut self,
        (slots, first): (&mut [Slot<R>], usize),
        work: Work<'_, R>,
        ranks: Option<&mut Ranks<'_, R>>,
        fits: Result<()>,
    ) -> Result<()> {
        let (model, mut begin) = (work.model, 0);
        let mut pass = Pass { slots, first, work, ranks, done: fits };
        pass.each(|i, slot| slot.open_all(i, work));
        for wait in &self.forward {
            pass.each_tile(|ws, _| {
                model.forward_layers(ws, begin..wait.layer);
                model.forward_sums(ws, wait);
            });
            pass.share(wait, &mut self.sums[wait.layer][wait.sums.clone()]);
            begin = wait.layer;
        }
        let mut end = model.layer_count();
        pass.each(|i, slot| {
            slot.tiles_of(i, work).0.iter_mut().for_each(|ws| model.forward_layers(ws, begin..end));
            slot.measure_all(i, work);
            Ok(())
        });
        for wait in &self.backward {
            pass.each_tile(|ws, grads| {
                model.backward_layers(ws, grads, false, wait.layer + 1..end);
                model.backward_sums(ws, grads, false, wait);
            });
            pass.share(wait, &mut self.sums[wait.layer][wait.sums.clone()]);
            end = wait.layer + 1;
        }
        pass.each_tile(|ws, grads| model.backward_layers(ws, grads, false, 0..end));
        pass.done
    }
}

/// A pass of a batch.
struct Pass<'p, 'r, R: Real> {
    /// The slots of this rank.
    slots: &'p mut [Slot<R>],
    first: usize,
    work: Work<'p, R>,
    ranks: Option<&'p mut Ranks<'r, R>>,
    /// Whether this rank has failed; then it computes nothing.
    done: Result<()>,
}

impl<R: Real> Pass<'_, '_, R> {
    /// Calls `f(i, slot i)` for each slot, side by side.
    fn each(&mut self, f: impl Fn(usize, &mut Slot<R>) -> Result<()> + Sync) {
        if self.done.is_ok() {
            self.done = par::for_each(self.slots, |i, slot| f(self.first + i, slot));
        }
    }

    /// Calls `f` with each tile and the gradients of its slot, slots side by side.
    fn each_tile(&mut self, f: impl Fn(&mut Workspace<R>, &mut [R]) + Sync) {
        let work = self.work;
        self.each(|i, slot| {
            let (tiles, grads) = slot.tiles_of(i, work);
            tiles.iter_mut().for_each(|ws| f(ws, grads));
            Ok(())
        });
    }

    /// Adds what the tiles of all ranks have left where they wait, in order within a slot and by the tree over the slots, and
    /// gives each the total.
    fn share(&mut self, wait: &Wait, total: &mut [f64]) {
        let (slots, first, work) = (&mut *self.slots, self.first, self.work);
        let width = work.cut.width(work.batch.len());
        let failed = self.done.is_err();
        let mut sum = |node: Range<usize>, sum: &mut [f64]| {
            let own = node.start.max(first)..node.end.min(first + slots.len());
            if !failed && !own.is_empty() {
                let slots = &mut slots[own.start - first..own.end - first];
                sum.copy_from_slice(sum_tiles(slots, (own.start, wait), work));
            }
        };
        match &mut self.ranks {
            None => sum(0..width, total),
            Some(ranks) => {
                let reached = ranks.sum_counts(width, total, sum);
                self.done = std::mem::replace(&mut self.done, Ok(())).and(reached);
            }
        }
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let tiles = slot.tiles_of(first + i, work).0;
            tiles.iter_mut().for_each(|ws| ws.sums_mut(wait).copy_from_slice(total));
        }
    }
}

/// The sum over the tiles of some slots, of which the first is slot `first`.
fn sum_tiles<'s, R: Real>(
    slots: &'s mut [Slot<R>],
    (first, wait): (usize, &Wait),
    work: Work<'_, R>,
) -> &'s [f64] {
    let add =
        |into: &mut [f64], from: &[f64]| into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
    for (i, slot) in slots.iter_mut().enumerate() {
        if let [one, others @ ..] = slot.tiles_of(first + i, work).0 {
            let own = one.sums_mut(wait);
            others.iter_mut().for_each(|other| add(own, other.sums_mut(wait)));
        }
    }
    for (into, from) in pairs(slots.len()) {
        let (left, right) = slots.split_at_mut(from);
        add(left[into].first_sums(wait), right[0].first_sums(wait));
    }
    slots[0].first_sums(wait)
}
