//! Averaged weights.

use crate::prune::Mask;
use crate::{Arena, Model, Real};

/// The exponential moving average of a model's parameters.
///
/// a ← p after the first step, then a ← a + (1 − decay)(p − a)
///
/// # Source
/// Polyak & Juditsky 1992; PyTorch's `AveragedModel` with `get_ema_multi_avg_fn(decay)`.
pub(super) struct Average<R> {
    weight: R,
    values: Vec<R>,
    started: bool,
}

impl<R: Real> Average<R> {
    /// The average of this number of parameters.
    pub(super) fn new(decay: f64, parameters: usize) -> Self {
        Self { weight: R::from_f64(1.0 - decay), values: vec![R::ZERO; parameters], started: false }
    }

    /// Adds the parameters after a step. Statistics are those of the last step, as PyTorch's buffers are: they are averages
    /// already.
    pub(super) fn update(&mut self, params: &Arena<R>) {
        let (layout, params) = (params.layout(), params.as_slice());
        if self.started {
            R::lerp(&mut self.values, params, self.weight);
            layout.statistics().for_each(|own| self.values[own.clone()].copy_from_slice(&params[own]));
        } else {
            self.values.copy_from_slice(params);
            self.started = true;
        }
    }

    /// The averages, or 0 before the first step, and whether there was one.
    pub(super) fn state(&self) -> (&[R], bool) {
        (&self.values, self.started)
    }

    /// Restores what [`state`](Self::state) returned.
    pub(super) fn restore(&mut self, values: Vec<R>, started: bool) {
        (self.values, self.started) = (values, started);
    }

    /// Zeroes what is pruned.
    pub(super) fn mask(&mut self, mask: &Mask) {
        mask.apply(&mut self.values);
    }

    /// Keeps these of the averages.
    pub(super) fn take(&mut self, from: &[usize]) {
        self.values = from.iter().map(|&i| self.values[i]).collect();
    }

    /// Swaps the model's parameters and the averages, once there are any.
    pub(super) fn swap(&mut self, model: &mut Model<R>) {
        if self.started {
            model.params_mut().as_mut_slice().swap_with_slice(&mut self.values);
        }
    }
}
