//! A learning rate that falls by a factor at regular intervals.

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, check, check_count};
use crate::math::power;
use crate::{Description, Result};

/// Multiplies the rate by gamma every `step_size` epochs.
///
/// lr = base · gamma^⌊t / step_size⌋
///
/// # Source
/// PyTorch's `StepLR`.
/// # Examples
/// ```
/// use bptt::train::schedule::{Clock, Schedule, StepDecay};
///
/// let schedule = StepDecay::new(30).gamma(0.5);
/// assert_eq!(schedule.lr(0.8, Clock::new(29, 90)), 0.8);
/// assert_eq!(schedule.lr(0.8, Clock::new(60, 90)), 0.2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "StepLR")]
pub struct StepDecay {
    step_size: usize,
    gamma: f64,
}

impl StepDecay {
    /// Divides the rate by 10 every `step_size` epochs.
    pub fn new(step_size: usize) -> Self {
        Self { step_size, gamma: 0.1 }
    }

    /// The factor; 0.1 by default.
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }
}

impl Schedule for StepDecay {
    fn describe(&self) -> Description {
        Description::new("StepDecay", self)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        base * power(self.gamma, (clock.done / self.step_size.max(1)) as u64)
    }

    fn check(&self) -> Result<()> {
        check_count("step_size", self.step_size)?;
        check("gamma", self.gamma)
    }
}
