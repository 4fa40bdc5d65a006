//! Stopping when a score no longer improves.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::callback::same_settings;
use super::json_float::JsonFloat;
use super::{Callback, CallbackState, EpochEnd, Flow, Monitor};
use crate::nn::same_mask;
use crate::prune::Mask;
use crate::{Error, Model, Real, Result};

/// Ends a run when a score has not improved for some epochs, and restores the best epoch's parameters at the end of the
/// run, even if an error ended it.
///
/// Epochs before and after pruning are not compared: when the model's mask has changed, the search for the best epoch
/// begins again with the next one. An epoch without the score is skipped.
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
///     .callback(EarlyStopping::new(5).monitor(Monitor::ValidAccuracy).min_delta(0.001));
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
    pub fn new(patience: usize) -> Self {
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

    /// The score must improve by more than this to count; 0 by default.
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta;
        self
    }

    /// Whether the parameters of the best epoch are restored at the end; true by default.
    pub fn restore_best_weights(mut self, restore: bool) -> Self {
        self.restore = restore;
        self
    }

    /// Begins the search for the best epoch of this model with its present mask.
    fn forget(&mut self, model: &Model<R>) {
        (self.best, self.since) = (None, 0);
        self.weights.clear();
        self.mask = model.shared_mask().cloned();
    }
}

/// The part of it that goes into a run's file, in addition to the weights.
#[derive(Serialize, Deserialize)]
struct EarlyStoppingState {
    best: Option<JsonFloat>,
    /// How many parameters were pruned when the search for the best epoch began, which identifies the mask of that time;
    /// `None` in files that were written before this field existed.
    #[serde(default)]
    pruned: Option<usize>,
    settings: (Monitor, JsonFloat, bool),
    since: usize,
}

impl<R> EarlyStopping<R> {
    /// What must not change when a run is resumed. Patience may.
    fn settings(&self) -> (Monitor, JsonFloat, bool) {
        (self.monitor, JsonFloat(self.min_delta), self.restore)
    }
}

impl<R: Real> Callback<R> for EarlyStopping<R> {
    fn monitor(&self) -> Option<Monitor> {
        Some(self.monitor)
    }

    fn on_start(&mut self, model: &mut Model<R>) -> Result<()> {
        if !(0.0..f64::INFINITY).contains(&self.min_delta) {
            let fault = format!("found {}, expected a number of at least 0", self.min_delta);
            return Err(Error::config("min_delta", fault));
        }
        self.forget(model);
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        if !same_mask(self.mask.as_ref(), end.model.shared_mask()) {
            self.forget(end.model);
            return Ok(Flow::Continue);
        }
        let Some(score) = self.monitor.of(end.epoch) else { return Ok(Flow::Continue) };
        if self.monitor.better(score, self.best, self.min_delta) {
            (self.best, self.since) = (Some(score), 0);
            if self.restore {
                self.weights.clear();
                self.weights.extend_from_slice(end.model.params().as_slice());
            }
            return Ok(Flow::Continue);
        }
        self.since = self.since.saturating_add(1);
        Ok(if self.since >= self.patience { Flow::Stop } else { Flow::Continue })
    }

    fn save_state(&self) -> Option<CallbackState<R>> {
        let state = EarlyStoppingState {
            best: self.best.map(JsonFloat),
            pruned: Some(self.mask.as_ref().map_or(0, |mask| mask.count())),
            settings: self.settings(),
            since: self.since,
        };
        Some(CallbackState { json: serde_json::to_value(state).ok()?, values: self.weights.clone() })
    }

    fn load_state(&mut self, state: CallbackState<R>, model: &mut Model<R>) -> Result<()> {
        let EarlyStoppingState { best, pruned, settings, since } = state.parse("early stopping")?;
        same_settings("early stopping", &settings, &self.settings())?;
        let best_kept = self.restore && best.is_some();
        let (found, expected) = (state.values.len(), if best_kept { model.parameter_count() } else { 0 });
        if found != expected {
            return Err(Error::mismatch("the best weights", found, expected));
        }
        (self.best, self.since, self.weights) = (best.map(|best| best.0), since, state.values);
        // Masks only grow, so a mask with the same number of pruned parameters is the same mask. With any other, the next
        // epoch begins the search again.
        let now = model.shared_mask().filter(|mask| mask.count() > 0);
        if let Some(pruned) = pruned {
            let same = pruned == now.map_or(0, |mask| mask.count());
            let other = || Arc::new(Mask::new(Arc::clone(model.params().layout())));
            self.mask = if same { model.shared_mask().cloned() } else { Some(other()) };
        }
        Ok(())
    }

    fn on_end(&mut self, model: &mut Model<R>) -> Result<()> {
        if !self.weights.is_empty() {
            model.params_mut().as_mut_slice().copy_from_slice(&self.weights);
        }
        Ok(())
    }
}
