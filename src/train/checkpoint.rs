//! Saving the model during training.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::callback::same_settings;
use super::json_float::JsonFloat;
use super::{Callback, CallbackState, EpochEnd, Flow, Monitor};
use crate::{Model, Real, Result};

/// Saves the model after epochs, by [`atomic_write`](crate::atomic_write), so that an interrupted run leaves a whole model.
/// Of several ranks, only the first does.
///
/// The file has only the model. What a run needs to be resumed is in its
/// [`Trainer::run_file`](super::Trainer::run_file).
///
/// # Source
/// Keras's `ModelCheckpoint`; [`best_only`](Self::best_only) is its `save_best_only=True`.
/// # Examples
/// ```
/// use bptt::train::{Checkpoint, Monitor};
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3))
///     .callback(Checkpoint::new("last.safetensors"))
///     .callback(Checkpoint::new("best.safetensors").best_only().monitor(Monitor::ValidAccuracy));
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "ModelCheckpoint")]
pub struct Checkpoint {
    path: PathBuf,
    best_only: bool,
    monitor: Monitor,
    best: Option<f64>,
    rank: usize,
}

impl Checkpoint {
    /// Saves after every epoch.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), best_only: false, monitor: Monitor::default(), best: None, rank: 0 }
    }

    /// Saves only after an epoch that was the best so far, by the validation loss.
    pub fn best_only(mut self) -> Self {
        self.best_only = true;
        self
    }

    /// The score that makes an epoch the best; the validation loss by default.
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }
}

/// The part of it that goes into a run's file.
#[derive(Serialize, Deserialize)]
struct CheckpointState {
    best: Option<JsonFloat>,
    settings: (Monitor, bool),
}

impl<R: Real> Callback<R> for Checkpoint {
    fn monitor(&self) -> Option<Monitor> {
        self.best_only.then_some(self.monitor)
    }

    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        self.best = None;
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        let score = self.monitor.of(end.epoch);
        let better = score.is_some_and(|score| self.monitor.better(score, self.best, 0.0));
        if better {
            self.best = score;
        }
        if self.rank == 0 && (better || !self.best_only) {
            end.model.save(&self.path)?;
        }
        Ok(Flow::Continue)
    }

    fn save_state(&self) -> Option<CallbackState<R>> {
        let state =
            CheckpointState { best: self.best.map(JsonFloat), settings: (self.monitor, self.best_only) };
        Some(CallbackState { json: serde_json::to_value(state).ok()?, values: Vec::new() })
    }

    fn load_state(&mut self, state: CallbackState<R>, _: &mut Model<R>) -> Result<()> {
        let CheckpointState { best, settings } = state.parse("checkpoint")?;
        same_settings("checkpoint", &settings, &(self.monitor, self.best_only))?;
        self.best = best.map(|best| best.0);
        Ok(())
    }
}
