//! A learning rate that falls by a factor every epoch.

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, check};
use crate::math::power;
use crate::{Description, Result};

/// Multiplies the rate by gamma after every epoch.
///
/// lr = base · gammaᵗ
///
/// # Source
/// PyTorch's `ExponentialLR`.
/// # Examples
/// ```
/// use bptt::train::schedule::{Clock, Exponential, Schedule};
///
/// assert_eq!(Exponential::new(0.5).lr(0.8, Clock::new(2, 10)), 0.2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "ExponentialLR")]
pub struct Exponential {
    gamma: f64,
}

impl Exponential {
    /// Multiplies the rate by `gamma` after every epoch.
    pub fn new(gamma: f64) -> Self {
        Self { gamma }
    }
}

impl Schedule for Exponential {
    fn describe(&self) -> Description {
        Description::new("Exponential", self)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        base * power(self.gamma, clock.done as u64)
    }

    fn check(&self) -> Result<()> {
        check("gamma", self.gamma)
    }
}
