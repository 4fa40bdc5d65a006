//! Hooks that observe and control training.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::{Drawn, Epoch, Monitor, Score};
use crate::{Error, Model, Real, Result};

/// Whether training continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Continue.
    Continue,
    /// End after this epoch.
    Stop,
}

/// The position of a run, after a step.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The epoch, from 1.
    pub epoch: usize,
    /// How many epochs the run has.
    pub epochs: usize,
    /// The step within the epoch, from 1.
    pub step: usize,
    /// How many steps the epoch has.
    pub steps: usize,
    /// Mean loss and accuracy of the epoch so far.
    pub score: Score,
    /// The learning rate of the step.
    pub lr: f64,
}

/// The end of an epoch: its result, and the model, which a callback may change.
#[derive(Debug)]
#[non_exhaustive]
pub struct EpochEnd<'a, R: Real> {
    /// The result of the epoch.
    pub epoch: &'a Epoch,
    /// The model after the epoch.
    pub model: &'a mut Model<R>,
}

/// What a callback needs when a run is resumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallbackState<R = f32> {
    /// Counters, scores, and settings that must be the same when the run is resumed.
    pub json: serde_json::Value,
    /// Weights and other values, kept to the bit.
    pub values: Vec<R>,
}

impl<R> CallbackState<R> {
    /// The JSON as the state of the callback called `callback`.
    pub(super) fn parse<T: DeserializeOwned>(&self, callback: &str) -> Result<T> {
        T::deserialize(&self.json)
            .map_err(|e| Error::config(callback, format!("found a state of something else: {e}")))
    }
}

/// Checks that a callback's settings are those of the file.
pub(super) fn same_settings<T: PartialEq + Debug>(callback: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::config(callback, format!("found settings {found:?}, expected {expected:?}")))
}

/// Hooks that [`Trainer::fit`](super::Trainer::fit) calls. By default every method does nothing.
///
/// A closure `FnMut(&Epoch) -> Flow` is a callback too: it is called at the end of each epoch.
///
/// # Examples
/// ```
/// use bptt::train::{Epoch, Flow};
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(|epoch: &Epoch| {
///     println!("{}: {:?}", epoch.epoch, epoch.train.loss);
///     if epoch.train.loss.is_some_and(|loss| loss < 0.1) { Flow::Stop } else { Flow::Continue }
/// });
/// # let _ = trainer;
/// ```
pub trait Callback<R: Real>: Send {
    /// The score that the callback watches, if any: a run checks beforehand that it exists.
    fn monitor(&self) -> Option<Monitor> {
        None
    }

    /// Called before [`on_start`](Self::on_start) with the number of this rank, which is 0 unless the run has
    /// [several](super::Trainer::all_reduce). A callback that writes files should write them only at rank 0.
    fn on_rank(&mut self, rank: usize) {
        let _ = rank;
    }

    /// Called before the first epoch.
    ///
    /// # Errors
    /// Any error; it ends the run.
    fn on_start(&mut self, model: &mut Model<R>) -> Result<()> {
        let _ = model;
        Ok(())
    }

    /// Called after each step, some milliseconds later and while training continues, but before any other method of this
    /// callback and before the run's file is written.
    fn on_step(&mut self, progress: &Progress) {
        let _ = progress;
    }

    /// Whether [`on_draws`](Self::on_draws) is called, which needs samples with one class each. It costs an
    /// exponential for each output of each draw.
    fn observes(&self) -> bool {
        false
    }

    /// Called with the draws that were trained on and what the model made of each, after their [`on_step`](Self::on_step):
    /// once with all draws of an epoch, before [`on_epoch`](Self::on_epoch); or, where the run's file is written within an
    /// epoch, each time before it is written, with the draws since the last time.
    ///
    /// What it is called with does not depend on the number of threads or ranks.
    fn on_draws(&mut self, drawn: Drawn<'_>) {
        let _ = drawn;
    }

    /// Called after each epoch and its validation.
    ///
    /// # Errors
    /// Any error; it ends the run.
    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        let _ = end;
        Ok(Flow::Continue)
    }

    /// What the callback carries from one step or epoch to the next, for the file of
    /// [`Trainer::run_file`](super::Trainer::run_file); `None` if it carries nothing. A callback must have a state either
    /// always or never.
    fn save_state(&self) -> Option<CallbackState<R>> {
        None
    }

    /// Restores what [`save_state`](Self::save_state) returned, after [`on_start`](Self::on_start). Changes to the model's
    /// parameters are overwritten by those of the file.
    ///
    /// # Errors
    /// If this callback cannot continue from the state; it ends the run.
    fn load_state(&mut self, state: CallbackState<R>, model: &mut Model<R>) -> Result<()> {
        let _ = (state, model);
        Ok(())
    }

    /// Called when a run is resumed from a file, with the epochs that were done before, after all states are restored.
    ///
    /// # Errors
    /// Any error; it ends the run.
    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        let _ = done;
        Ok(())
    }

    /// Called at the end of the run: after the last epoch that was run, and after an error, with the parameters of the
    /// last step that succeeded.
    ///
    /// # Errors
    /// Any error.
    fn on_end(&mut self, model: &mut Model<R>) -> Result<()> {
        let _ = model;
        Ok(())
    }
}

impl<R: Real, F: FnMut(&Epoch) -> Flow + Send> Callback<R> for F {
    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        Ok(self(end.epoch))
    }
}
