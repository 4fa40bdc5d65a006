//! Learning rates that change in the course of a run.
//!
//! A schedule is a description. Its rate is a function of the optimizer's rate and of where the run stands, the
//! epochs so far included, so that nothing hidden has to be saved for a run to be resumed.

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
    /// Epochs: the rate stays the same within one.
    Epoch,
    /// Steps.
    Step,
}

/// Where a run stands, in the unit of the schedule that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Clock<'a> {
    /// Epochs or steps done: 0 in the first.
    pub done: usize,
    /// Epochs or steps of the whole run. Steps are those that it would have if all epochs were as long as the one in
    /// hand; a [`Sampler`](crate::data::Sampler) may make them differ.
    pub total: usize,
    /// The share of the run that is done, from 0 to 1: epochs, and of the one in hand its share of steps. Schedules
    /// that end with the run go by this.
    pub fraction: f64,
    /// The epochs done, from the first of the run.
    pub history: &'a [Epoch],
}

impl<'a> Clock<'a> {
    /// After `done` of `total` epochs or steps, with no history.
    pub fn new(done: usize, total: usize) -> Self {
        Self { done, total, fraction: done as f64 / total.max(1) as f64, history: &[] }
    }

    /// The epochs done.
    pub fn history(mut self, history: &'a [Epoch]) -> Self {
        self.history = history;
        self
    }

    /// The share of the run that is done, where that is not `done / total`.
    pub fn fraction(mut self, fraction: f64) -> Self {
        self.fraction = fraction;
        self
    }
}

/// How the learning rate changes in the course of a run; see [`Trainer::schedule`](super::Trainer::schedule).
///
/// # Examples
/// A custom one, 1 / t:
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
    /// The rate of the epoch or step that is about to begin; `base` is the optimizer's own rate.
    fn lr(&self, base: f64, clock: Clock<'_>) -> f64;

    /// The kind and settings, by which a run that is [resumed](crate::Trainer::resume) is known to be the same; by
    /// default what `Debug` prints.
    fn describe(&self) -> Description {
        Description::debug(self)
    }

    /// What the schedule counts: epochs, unless it says otherwise.
    fn unit(&self) -> Unit {
        Unit::Epoch
    }

    /// The score that the schedule looks up in the history, if it does.
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

    /// The same schedule, counting steps where it counted epochs.
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

/// Checks that a setting is finite and not below 0.
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

/// gammaⁿ
fn power(gamma: f64, n: usize) -> f64 {
    gamma.powi(i32::try_from(n).unwrap_or(i32::MAX))
}
