//! Hooks that observe and control training.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::{Epoch, Monitor, Score};
use crate::{Error, Model, Real, Result};

/// Whether training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Go on.
    Continue,
    /// End after this epoch.
    Stop,
}

/// Where a run stands, after a step.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// The step within the epoch, from 1.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean loss and accuracy of the epoch so far.
    pub score: Score,
    /// The learning rate of the step.
    pub lr: f64,
}

/// The end of an epoch: what it brought, and the model, which a callback may change.
#[derive(Debug)]
#[non_exhaustive]
pub struct EpochEnd<'a, R: Real> {
    /// What the epoch brought.
    pub epoch: &'a Epoch,
    /// The model as it is now.
    pub model: &'a mut Model<R>,
}

/// What a callback wants to find again when a run is resumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallbackState<R = f32> {
    /// Counters, scores, and settings that must be the same when the run goes on.
    pub json: serde_json::Value,
    /// Weights and the like: kept to the bit.
    pub values: Vec<R>,
}

impl<R> CallbackState<R> {
    /// The JSON as the state of the callback called `callback`.
    pub(super) fn parse<T: DeserializeOwned>(&self, callback: &str) -> Result<T> {
        T::deserialize(&self.json)
            .map_err(|e| Error::config(callback, format!("found a state that is not one of it: {e}")))
    }
}

/// Checks that a callback's settings are those of the file.
pub(super) fn same_settings<T: PartialEq + Debug>(callback: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::config(callback, format!("found settings {found:?}, expected {expected:?}")))
}

/// Called in the course of [`Trainer::fit`](super::Trainer::fit). Every method does nothing unless written.
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
    /// The score that the callback watches, if it does: a run checks beforehand that there is one.
    fn monitor(&self) -> Option<Monitor> {
        None
    }

    /// Before the first epoch.
    ///
    /// # Errors
    /// Whatever went wrong; it ends the run.
    fn on_start(&mut self, model: &mut Model<R>) -> Result<()> {
        let _ = model;
        Ok(())
    }

    /// After each step. It is called some milliseconds later, while training goes on, but before anything else of this
    /// callback, and before the run's file is written.
    fn on_step(&mut self, progress: &Progress) {
        let _ = progress;
    }

    /// After each epoch and its validation.
    ///
    /// # Errors
    /// Whatever went wrong; it ends the run.
    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        let _ = end;
        Ok(Flow::Continue)
    }

    /// What the callback carries from one step or epoch to the next, for the file of
    /// [`Trainer::run_file`](super::Trainer::run_file); `None` if it carries nothing. A callback has a state
    /// always or never.
    fn save_state(&self) -> Option<CallbackState<R>> {
        None
    }

    /// Takes back what [`save_state`](Self::save_state) gave, after [`on_start`](Self::on_start). Whatever it changes
    /// in the model's parameters is overwritten by those of the file.
    ///
    /// # Errors
    /// If the state is none that this callback can go on from; it ends the run.
    fn load_state(&mut self, state: CallbackState<R>, model: &mut Model<R>) -> Result<()> {
        let _ = (state, model);
        Ok(())
    }

    /// When a run goes on from a file: the epochs that were done before. All states are in place by then.
    ///
    /// # Errors
    /// Whatever went wrong; it ends the run.
    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        let _ = done;
        Ok(())
    }

    /// At the end of the run: after the last epoch, whichever that was, and after an error, with the parameters that
    /// the last good step left.
    ///
    /// # Errors
    /// Whatever went wrong.
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
