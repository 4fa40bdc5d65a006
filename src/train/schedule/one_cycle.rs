//! A learning rate that rises once, then falls to almost 0.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{Clock, Schedule, Unit, check};
use crate::{Description, Error, Result, math};

/// Raises the rate from `max_lr / div_factor` to `max_lr`, and lowers it to `max_lr / div_factor / final_div_factor`
/// by the last step. It counts steps, and ignores the optimizer's rate.
///
/// From a to b at share s of a phase: b + (a − b) (1 + cos(π s)) / 2, or a + (b − a) s if linear. The first phase
/// ends with step pct_start · total − 1; with three phases, the second is as long as the first and leads back to
/// where that began.
///
/// The total is the number of steps of the run, unless one is given; after it the last rate stays. PyTorch also cycles the
/// momentum, unless `cycle_momentum=False`; this schedule does not.
///
/// # Source
/// Smith & Topin 2018, "Super-convergence"; PyTorch's `OneCycleLR`.
/// # Examples
/// ```
/// use bptt::train::schedule::{Clock, OneCycle, Schedule};
///
/// let schedule = OneCycle::new(0.5).div_factor(10.0);
/// assert!((schedule.lr(0.1, Clock::new(0, 100)) - 0.05).abs() < 1e-15);
/// assert_eq!(schedule.lr(0.1, Clock::new(29, 100)), 0.5);
/// assert!(schedule.lr(0.1, Clock::new(99, 100)) < 1e-5);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "OneCycleLR")]
pub struct OneCycle {
    max_lr: f64,
    total_steps: Option<usize>,
    pct_start: f64,
    linear: bool,
    div_factor: f64,
    final_div_factor: f64,
    three_phase: bool,
}

impl OneCycle {
    /// Raises the rate from a 25th of `max_lr` to `max_lr` in the first 30 % of the run, then lowers it to a 250,000th, along
    /// cosines.
    pub fn new(max_lr: f64) -> Self {
        Self {
            max_lr,
            total_steps: None,
            pct_start: 0.3,
            linear: false,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }

    /// The steps of the cycle; by default those of the run.
    pub fn total_steps(mut self, total_steps: usize) -> Self {
        self.total_steps = Some(total_steps);
        self
    }

    /// The share of the cycle in which the rate rises; 0.3 by default.
    pub fn pct_start(mut self, pct_start: f64) -> Self {
        self.pct_start = pct_start;
        self
    }

    /// Changes the rate along straight lines instead of cosines.
    pub fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// The ratio of the highest rate to the first; 25 by default.
    pub fn div_factor(mut self, div_factor: f64) -> Self {
        self.div_factor = div_factor;
        self
    }

    /// The ratio of the first rate to the last; 10,000 by default.
    pub fn final_div_factor(mut self, final_div_factor: f64) -> Self {
        self.final_div_factor = final_div_factor;
        self
    }

    /// Lowers the rate to the first one as fast as it rose, and only then to the last.
    pub fn three_phase(mut self) -> Self {
        self.three_phase = true;
        self
    }
}

impl Schedule for OneCycle {
    fn describe(&self) -> Description {
        Description::new("OneCycle", self)
    }

    fn lr(&self, _: f64, clock: Clock<'_>) -> f64 {
        let total = self.total_steps.unwrap_or(clock.total).max(1) as f64;
        // Epochs may have different numbers of steps, so the step is the one at this fraction of the run, which is the real
        // step if all epochs have the same number.
        let step =
            if self.total_steps.is_some() { clock.done as f64 } else { (clock.fraction * total).round() };
        let step = step.min(total - 1.0);
        let first = self.max_lr / self.div_factor;
        let last = first / self.final_div_factor;
        let rise = self.pct_start * total - 1.0;
        let fall = if self.three_phase { 2.0 * self.pct_start * total - 2.0 } else { rise };
        let (begin, end, from, to) = if step <= rise {
            (0.0, rise, first, self.max_lr)
        } else if step <= fall {
            (rise, fall, self.max_lr, first)
        } else {
            (fall, total - 1.0, if self.three_phase { first } else { self.max_lr }, last)
        };
        let share = if end > begin { (step - begin) / (end - begin) } else { 1.0 };
        if self.linear {
            from + (to - from) * share
        } else {
            to + (from - to) / 2.0 * (1.0 + math::cos(PI * share))
        }
    }

    fn unit(&self) -> Unit {
        Unit::Step
    }

    fn check(&self) -> Result<()> {
        check("max_lr", self.max_lr)?;
        let most = if self.three_phase { 0.5 } else { 1.0 };
        if !(0.0..=most).contains(&self.pct_start) {
            let fault = format!("found {}, expected a number from 0 to {most}", self.pct_start);
            return Err(Error::config("pct_start", fault));
        }
        for (field, value) in [("div_factor", self.div_factor), ("final_div_factor", self.final_div_factor)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::config(field, format!("found {value}, expected a positive number")));
            }
        }
        self.total_steps.map_or(Ok(()), |total| super::check_count("total_steps", total))
    }
}
