//! Stopping when nothing gets better any more.

use std::sync::Arc;

use super::{Callback, EpochEnd, Flow, Monitor};
use crate::nn::same_mask;
use crate::prune::Mask;
use crate::{Model, Real, Result};

/// Ends a run when a score has not got better for some epochs, and gives the model the parameters of its best epoch
/// back at the end of any run.
///
/// Epochs of before and after a pruning are not compared: where the model's mask has changed, the search for the best
/// epoch begins anew with the next.
///
/// # Source
/// Prechelt 1998, "Early stopping — but when?"; the options are Keras's, with `restore_best_weights` on by default.
/// # Examples
/// ```
/// use bptt::train::{EarlyStopping, Monitor};
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3))
///     .epochs(100)
///     .with(EarlyStopping::patience(5).monitor(Monitor::ValidAccuracy).min_delta(0.001));
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug)]
pub struct EarlyStopping<R = f32> {
    patience: usize,
    monitor: Monitor,
    min_delta: f64,
    restore: bool,
    best: Option<f64>,
    since: usize,
    weights: Vec<R>,
    mask: Option<Arc<Mask>>,
}

impl<R: Real> EarlyStopping<R> {
    /// Stops after this many epochs without improvement, but never after an epoch with one.
    pub fn patience(patience: usize) -> Self {
        Self {
            patience,
            monitor: Monitor::default(),
            min_delta: 0.0,
            restore: true,
            best: None,
            since: 0,
            weights: Vec::new(),
            mask: None,
        }
    }

    /// The score to watch; the validation loss by default.
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// The score must get better by more than this to count; 0 by default.
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta;
        self
    }

    /// Whether the model gets the parameters of its best epoch back; true by default.
    pub fn restore_best_weights(mut self, restore: bool) -> Self {
        self.restore = restore;
        self
    }

    /// Begins the search for the best epoch, of this model as it is pruned.
    fn forget(&mut self, model: &Model<R>) {
        (self.best, self.since) = (None, 0);
        self.weights.clear();
        self.mask = model.shared_mask().cloned();
    }
}

impl<R: Real> Callback<R> for EarlyStopping<R> {
    fn monitor(&self) -> Option<Monitor> {
        Some(self.monitor)
    }

    fn on_start(&mut self, model: &mut Model<R>) -> Result<()> {
        self.forget(model);
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        if !same_mask(self.mask.as_ref(), end.model.shared_mask()) {
            self.forget(end.model);
            return Ok(Flow::Continue);
        }
        let score = self.monitor.of(end.epoch);
        if self.monitor.better(score, self.best, self.min_delta) {
            (self.best, self.since) = (Some(score), 0);
            if self.restore {
                self.weights.clear();
                self.weights.extend_from_slice(end.model.params().as_slice());
            }
            return Ok(Flow::Continue);
        }
        self.since += 1;
        Ok(if self.since >= self.patience { Flow::Stop } else { Flow::Continue })
    }

    fn on_end(&mut self, model: &mut Model<R>) -> Result<()> {
        if !self.weights.is_empty() {
            model.params_mut().as_mut_slice().copy_from_slice(&self.weights);
        }
        Ok(())
    }
}
