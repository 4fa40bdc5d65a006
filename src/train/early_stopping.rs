//! Stopping when validation no longer gets better.

use super::{Callback, EpochEnd, Flow};
use crate::{Model, Real, Result};

/// Ends a run when the validation loss (the training loss, where there is no validation) has not fallen for some
/// epochs, and gives the model the parameters of its best epoch back at the end of any run.
///
/// # Source
/// Prechelt 1998, "Early stopping — but when?"; the options are Keras's, with `restore_best_weights` always on.
#[derive(Clone, Debug)]
pub struct EarlyStopping<R = f32> {
    patience: usize,
    min_delta: f64,
    best: f64,
    since: usize,
    weights: Vec<R>,
}

impl<R: Real> EarlyStopping<R> {
    /// Stops after this many epochs without improvement.
    pub fn patience(patience: usize) -> Self {
        Self { patience, min_delta: 0.0, best: f64::INFINITY, since: 0, weights: Vec::new() }
    }

    /// By how much the loss must fall to count; 0 by default.
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta;
        self
    }
}

impl<R: Real> Callback<R> for EarlyStopping<R> {
    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        (self.best, self.since) = (f64::INFINITY, 0);
        self.weights.clear();
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        let loss = end.epoch.valid.unwrap_or(end.epoch.train).loss;
        if loss < self.best - self.min_delta {
            (self.best, self.since) = (loss, 0);
            self.weights.clear();
            self.weights.extend_from_slice(end.model.params().as_slice());
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
