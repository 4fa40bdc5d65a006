//! A learning rate that falls by a factor at given epochs.

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, check};
use crate::math::power;
use crate::{Description, Result};

/// Multiplies the rate by gamma at each milestone.
///
/// lr = base · gamma^(milestones ≤ t)
///
/// # Source
/// PyTorch's `MultiStepLR`.
/// # Examples
/// ```
/// use bptt::train::schedule::{Clock, MultiStep, Schedule};
///
/// let schedule = MultiStep::new([30, 80]).gamma(0.5);
/// assert_eq!(schedule.lr(0.8, Clock::new(30, 90)), 0.4);
/// assert_eq!(schedule.lr(0.8, Clock::new(80, 90)), 0.2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "MultiStepLR")]
pub struct MultiStep {
    milestones: Vec<usize>,
    gamma: f64,
}

impl MultiStep {
    /// Divides the rate by 10 at each of these, in any order; one that is given twice counts twice.
    pub fn new(milestones: impl Into<Vec<usize>>) -> Self {
        Self { milestones: milestones.into(), gamma: 0.1 }
    }

    /// The factor; 0.1 by default.
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }
}

impl Schedule for MultiStep {
    fn describe(&self) -> Description {
        Description::new("MultiStep", self)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        let passed = self.milestones.iter().filter(|&&milestone| milestone <= clock.done).count();
        base * power(self.gamma, passed as u64)
    }

    fn check(&self) -> Result<()> {
        check("gamma", self.gamma)
    }
}
