//! Several schedules in sequence.

use super::{Clock, Monitor, Schedule, Unit};
use crate::{Description, Error, Result};

/// Several schedules in sequence, each beginning at its milestone, where its count is 0.
///
/// Either all of them count epochs, or all count steps. [`ReduceOnPlateau`](super::ReduceOnPlateau) always looks at all
/// epochs of the run.
///
/// # Source
/// PyTorch's `SequentialLR`.
/// # Examples
/// ```
/// use bptt::train::schedule::{Clock, CosineAnnealing, LinearWarmUp, Schedule, Sequential};
///
/// let schedule = Sequential::new(LinearWarmUp::new(5).start_factor(0.1)).at(5, CosineAnnealing::new(15));
/// assert_eq!(schedule.lr(0.5, Clock::new(0, 20)), 0.05);
/// assert_eq!(schedule.lr(0.5, Clock::new(5, 20)), 0.5);
/// assert_eq!(schedule.lr(0.5, Clock::new(20, 20)), 0.0);
/// ```
#[derive(Debug)]
#[doc(alias = "SequentialLR")]
pub struct Sequential {
    /// The milestones, and the schedules that begin there.
    parts: Vec<(usize, Box<dyn Schedule>)>,
}

impl Sequential {
    /// Begins with this schedule.
    pub fn new(first: impl Schedule + 'static) -> Self {
        Self { parts: vec![(0, Box::new(first))] }
    }

    /// Changes to `next` at `milestone`.
    pub fn at(mut self, milestone: usize, next: impl Schedule + 'static) -> Self {
        self.parts.push((milestone, Box::new(next)));
        self
    }
}

impl Schedule for Sequential {
    fn describe(&self) -> Description {
        let parts: Vec<_> = self.parts.iter().map(|(milestone, part)| (milestone, part.describe())).collect();
        Description::new("Sequential", parts)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        let passed = self.parts.iter().take_while(|(milestone, _)| *milestone <= clock.done).count();
        let (milestone, part) = &self.parts[passed.max(1) - 1];
        let (done, total) = (clock.done.saturating_sub(*milestone), clock.total.saturating_sub(*milestone));
        // The fraction done of what follows the milestone, if the run is as long as it seems from here.
        let whole = clock.total as f64;
        let fraction = ((clock.fraction * whole - *milestone as f64) / total.max(1) as f64).clamp(0.0, 1.0);
        part.lr(base, Clock { done, total, fraction, ..clock })
    }

    fn unit(&self) -> Unit {
        self.parts[0].1.unit()
    }

    fn monitor(&self) -> Option<Monitor> {
        self.parts.iter().find_map(|(_, part)| part.monitor())
    }

    fn check(&self) -> Result<()> {
        let milestones: Vec<_> = self.parts.iter().map(|(milestone, _)| milestone).collect();
        if !milestones.is_sorted_by(|a, b| a < b) {
            let fault = format!("found {milestones:?}, expected each later than the one before");
            return Err(Error::config("milestones", fault));
        }
        if self.parts.iter().any(|(_, part)| part.unit() != self.unit()) {
            let fault = "found parts that count epochs and parts that count steps, expected `.per_step()` on the former";
            return Err(Error::config("sequential", fault));
        }
        self.parts.iter().try_for_each(|(_, part)| part.check())
    }
}
