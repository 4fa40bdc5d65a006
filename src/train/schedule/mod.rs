//! Schedules: learning rates that change during a run.
//!
//! A schedule has settings only. Its rate is a function of the optimizer's rate and of the position of the run, including
//! the epochs so far, so that no hidden state has to be saved for a run to be resumed.

mod constant;
mod cosine_annealing;
mod exponential;
mod linear_warm_up;
mod multi_step;
mod one_cycle;
mod reduce_on_plateau;
mod sequential;
mod step_decay;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

pub use constant::Constant;
pub use cosine_annealing::CosineAnnealing;
pub use exponential::Exponential;
pub use linear_warm_up::LinearWarmUp;
pub use multi_step::MultiStep;
pub use one_cycle::OneCycle;
pub use reduce_on_plateau::{Plateau, ReduceOnPlateau, Threshold};
pub use sequential::Sequential;
pub use step_decay::StepDecay;

use super::{Epoch, Monitor};
use crate::{Description, Error, Result};

/// What a schedule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Epochs: the rate does not change within an epoch.
    Epoch,
    /// Steps.
    Step,
}

/// The position of a run, in the unit of the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Clock<'a> {
    /// Epochs or steps done: 0 in the first.
    pub done: usize,
    /// Epochs or steps of the whole run. The number of steps assumes that all epochs are as long as the present one; with a
    /// [`Sampler`](crate::data::Sampler) they may differ.
    pub total: usize,
    /// The fraction of the run that is done, from 0 to 1, from the epochs done and the fraction of steps in the present one.
    /// Schedules that end with the run use this.
    pub fraction: f64,
    /// The epochs done, from the first of the run.
    pub history: &'a [Epoch],
}

impl<'a> Clock<'a> {
    /// The position after `done` of `total` epochs or steps, without a history.
    pub fn new(done: usize, total: usize) -> Self {
        Self { done, total, fraction: done as f64 / total.max(1) as f64, history: &[] }
    }

    /// Sets the epochs done.
    pub fn history(mut self, history: &'a [Epoch]) -> Self {
        self.history = history;
        self
    }

    /// Sets the fraction of the run that is done, where it is not `done / total`.
    pub fn fraction(mut self, fraction: f64) -> Self {
        self.fraction = fraction;
        self
    }
}

/// How the learning rate changes during a run; see [`Trainer::schedule`](super::Trainer::schedule).
///
/// # Examples
/// A custom schedule, 1 / t:
/// ```
/// use bptt::train::schedule::{Clock, Schedule};
///
/// #[derive(Debug)]
/// struct Inverse;
///
/// impl Schedule for Inverse {
///     fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
///         base / (clock.done + 1) as f64
///     }
/// }
/// assert_eq!(Inverse.lr(0.75, Clock::new(2, 10)), 0.25);
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// The rate of the next epoch or step; `base` is the optimizer's rate.
    fn lr(&self, base: f64, clock: Clock<'_>) -> f64;

    /// The kind and settings, by which a [resumed](crate::Trainer::resume) run is compared with its file; by default the
    /// output of `Debug`.
    fn describe(&self) -> Description {
        Description::debug(self)
    }

    /// What the schedule counts; epochs by default.
    fn unit(&self) -> Unit {
        Unit::Epoch
    }

    /// The score that the schedule reads from the history, if any.
    fn monitor(&self) -> Option<Monitor> {
        None
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The same schedule, counting steps instead of epochs.
    fn per_step(self) -> PerStep<Self>
    where
        Self: Sized,
    {
        PerStep(self)
    }
}

/// A schedule that counts steps; see [`Schedule::per_step`].
///
/// # Examples
/// ```
/// use bptt::train::schedule::{LinearWarmUp, Schedule, Unit};
///
/// assert_eq!(LinearWarmUp::new(500).per_step().unit(), Unit::Step);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerStep<S>(S);

impl<S: Schedule> Schedule for PerStep<S> {
    fn describe(&self) -> Description {
        Description::new("PerStep", self.0.describe())
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        self.0.lr(base, clock)
    }

    fn unit(&self) -> Unit {
        Unit::Step
    }

    fn monitor(&self) -> Option<Monitor> {
        self.0.monitor()
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// Checks that a setting is finite and at least 0.
fn check(field: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::config(field, format!("found {value}, expected a number of at least 0")))
}

/// Checks that a setting is at least 1.
fn check_count(field: &str, value: usize) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(Error::config(field, "found 0, expected at least 1")) }
}
