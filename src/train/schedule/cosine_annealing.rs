//! A learning rate that falls along half a cosine.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, check, check_count};
use crate::{Description, Result, math};

/// Lowers the rate along half a cosine to `eta_min` in `t_max` epochs; if the run is longer, raises it again in as many.
///
/// lr = eta_min + (base − eta_min) (1 + cos(π t / t_max)) / 2
///
/// # Source
/// Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts; PyTorch's `CosineAnnealingLR`.
/// # Examples
/// ```
/// use bptt::train::schedule::{Clock, CosineAnnealing, Schedule};
///
/// let schedule = CosineAnnealing::new(20).eta_min(0.1);
/// assert_eq!(schedule.lr(0.3, Clock::new(0, 20)), 0.3);
/// assert!((schedule.lr(0.3, Clock::new(10, 20)) - 0.2).abs() < 1e-15);
/// assert_eq!(schedule.lr(0.3, Clock::new(20, 20)), 0.1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "CosineAnnealingLR")]
pub struct CosineAnnealing {
    t_max: usize,
    eta_min: f64,
}

impl CosineAnnealing {
    /// Lowers the rate to 0 in `t_max` epochs.
    pub fn new(t_max: usize) -> Self {
        Self { t_max, eta_min: 0.0 }
    }

    /// The lowest rate; 0 by default.
    pub fn eta_min(mut self, eta_min: f64) -> Self {
        self.eta_min = eta_min;
        self
    }
}

impl Schedule for CosineAnnealing {
    fn describe(&self) -> Description {
        Description::new("CosineAnnealing", self)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        let t_max = self.t_max.max(1);
        let angle = PI * (clock.done % t_max.saturating_mul(2)) as f64 / t_max as f64;
        self.eta_min + (base - self.eta_min) * (1.0 + math::cos(angle)) / 2.0
    }

    fn check(&self) -> Result<()> {
        check_count("t_max", self.t_max)?;
        check("eta_min", self.eta_min)
    }
}
