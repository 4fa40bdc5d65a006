//! A learning rate that rises from a small one to the full one.

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, check, check_count};
use crate::{Description, Result};

/// Raises the rate linearly from a share of it to the full rate in `total` epochs, where it stays.
///
/// lr = base · (start + (end − start) · min(t, total) / total)
///
/// # Source
/// Goyal et al. 2017, section 2.2; PyTorch's `LinearLR`.
/// # Examples
/// The first 500 steps:
/// ```
/// use bptt::train::schedule::{Clock, LinearWarmUp, Schedule};
///
/// let schedule = LinearWarmUp::new(500).start_factor(0.5).per_step();
/// assert_eq!(schedule.lr(0.8, Clock::new(0, 9000)), 0.4);
/// assert!((schedule.lr(0.8, Clock::new(250, 9000)) - 0.6).abs() < 1e-15);
/// assert_eq!(schedule.lr(0.8, Clock::new(500, 9000)), 0.8);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "LinearLR")]
pub struct LinearWarmUp {
    total: usize,
    start: f64,
    end: f64,
}

impl LinearWarmUp {
    /// Raises the rate from a third to the full rate in `total` epochs.
    pub fn new(total: usize) -> Self {
        Self { total, start: 1.0 / 3.0, end: 1.0 }
    }

    /// The share of the rate at the start; 1/3 by default.
    pub fn start_factor(mut self, start: f64) -> Self {
        self.start = start;
        self
    }

    /// The share of the rate at the end; 1 by default. If it is below that at the start, this is a linear decay.
    pub fn end_factor(mut self, end: f64) -> Self {
        self.end = end;
        self
    }
}

impl Schedule for LinearWarmUp {
    fn describe(&self) -> Description {
        Description::new("LinearWarmUp", self)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        let share = clock.done.min(self.total) as f64 / self.total.max(1) as f64;
        base * (self.start + (self.end - self.start) * share)
    }

    fn check(&self) -> Result<()> {
        check_count("total", self.total)?;
        check("start_factor", self.start)?;
        check("end_factor", self.end)
    }
}
