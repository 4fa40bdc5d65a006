//! A constant learning rate.

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, check};
use crate::{Description, Result};

/// The optimizer's rate, times a factor: a part of a [`Sequential`](super::Sequential).
///
/// lr = base · factor
///
/// # Source
/// PyTorch's `ConstantLR` up to its `total_iters`.
/// # Examples
/// Half the rate for five epochs, then the full rate:
/// ```
/// use bptt::train::schedule::{Clock, Constant, Schedule, Sequential};
///
/// let schedule = Sequential::new(Constant::new(0.5)).at(5, Constant::new(1.0));
/// assert_eq!(schedule.lr(0.1, Clock::new(4, 10)), 0.05);
/// assert_eq!(schedule.lr(0.1, Clock::new(5, 10)), 0.1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "ConstantLR")]
pub struct Constant {
    factor: f64,
}

impl Constant {
    /// The optimizer's rate times `factor`.
    pub fn new(factor: f64) -> Self {
        Self { factor }
    }
}

impl Schedule for Constant {
    fn describe(&self) -> Description {
        Description::new("Constant", self)
    }

    fn lr(&self, base: f64, _: Clock<'_>) -> f64 {
        base * self.factor
    }

    fn check(&self) -> Result<()> {
        check("factor", self.factor)
    }
}
