//! What may look on, and step in, while a model is trained.

use super::{Epoch, Monitor, Score};
use crate::{Model, Real, Result};

/// Whether training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End after this epoch.
    Stop,
}

/// Where a run stands, after a step.
#[derive(Clone, Copy, Debug)]
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
pub struct EpochEnd<'a, R: Real> {
    /// What the epoch brought.
    pub epoch: &'a Epoch,
    /// The model as it is now.
    pub model: &'a mut Model<R>,
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
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).with(|epoch: &Epoch| {
///     println!("{}: {:.4}", epoch.epoch, epoch.train.loss);
///     if epoch.train.loss < 0.1 { Flow::Stop } else { Flow::Continue }
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

    /// After each step. It is called within the training loop, so it should be quick.
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

    /// After the last epoch, whichever that was.
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
