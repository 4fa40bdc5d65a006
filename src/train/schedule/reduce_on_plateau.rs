//! A learning rate that falls when a score no longer improves.

use serde::{Deserialize, Serialize};

use super::{Clock, Monitor, Schedule, check};
use crate::{Description, Error, Result};

/// By how much a score must improve to count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Threshold {
    /// By this fraction of the best score so far.
    Rel(f64),
    /// By this difference.
    Abs(f64),
}

/// Multiplies the rate by a factor once a score has not improved for more than `patience` epochs.
///
/// lr ← max(lr · factor, min_lr), unless that changes it by at most eps
///
/// The rate is a function of all epochs of the run so far that have the score; [`Plateau`] is the intermediate result.
///
/// # Source
/// PyTorch's `ReduceLROnPlateau`, with its defaults.
/// # Examples
/// ```
/// use bptt::train::schedule::{Plateau, ReduceOnPlateau};
///
/// let schedule = ReduceOnPlateau::new().patience(1).factor(0.5);
/// let mut plateau = Plateau::default();
/// for loss in [1.0, 0.9, 0.9, 0.9] {
///     schedule.observe(&mut plateau, loss);
/// }
/// assert_eq!(plateau.reductions, 1);
/// assert_eq!(schedule.reduced(0.1, &plateau), 0.05);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "ReduceLROnPlateau")]
pub struct ReduceOnPlateau {
    monitor: Monitor,
    factor: f64,
    patience: usize,
    threshold: Threshold,
    cooldown: usize,
    min_lr: f64,
    eps: f64,
}

/// What [`ReduceOnPlateau`] has seen so far; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// The best score.
    pub best: Option<f64>,
    /// Epochs since the best score, the end of the cooldown or the last reduction.
    pub bad_epochs: usize,
    /// Epochs of cooldown that are left.
    pub cooldown: usize,
    /// How often the rate was reduced.
    pub reductions: usize,
}

impl Default for ReduceOnPlateau {
    fn default() -> Self {
        Self::new()
    }
}

impl ReduceOnPlateau {
    /// Divides the rate by 10 after more than 10 epochs in which the validation loss has not fallen by a fraction of 1e-4;
    /// no cooldown, no lowest rate.
    pub fn new() -> Self {
        Self {
            monitor: Monitor::ValidLoss,
            factor: 0.1,
            patience: 10,
            threshold: Threshold::Rel(1e-4),
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }

    /// The score to watch; the validation loss by default.
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// The factor for the rate; 0.1 by default.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// How many epochs without improvement are tolerated; 10 by default.
    pub fn patience(mut self, patience: usize) -> Self {
        self.patience = patience;
        self
    }

    /// By how much the score must improve to count; [`Threshold::Rel(1e-4)`](Threshold::Rel) by default.
    pub fn threshold(mut self, threshold: Threshold) -> Self {
        self.threshold = threshold;
        self
    }

    /// How many epochs after a reduction do not count; 0 by default.
    pub fn cooldown(mut self, cooldown: usize) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// The lowest rate; 0 by default.
    pub fn min_lr(mut self, min_lr: f64) -> Self {
        self.min_lr = min_lr;
        self
    }

    /// A reduction by at most this is left out; 1e-8 by default.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Adds the score of an epoch.
    pub fn observe(&self, plateau: &mut Plateau, score: f64) {
        let delta = match self.threshold {
            // As in PyTorch: best · (1 ± threshold).
            Threshold::Rel(share) => plateau.best.unwrap_or(0.0) * share,
            Threshold::Abs(delta) => delta,
        };
        if self.monitor.better(score, plateau.best, delta) {
            (plateau.best, plateau.bad_epochs) = (Some(score), 0);
        } else {
            plateau.bad_epochs = plateau.bad_epochs.saturating_add(1);
        }
        if plateau.cooldown > 0 {
            plateau.cooldown -= 1;
            plateau.bad_epochs = 0;
        }
        if plateau.bad_epochs > self.patience {
            plateau.reductions = plateau.reductions.saturating_add(1);
            (plateau.cooldown, plateau.bad_epochs) = (self.cooldown, 0);
        }
    }

    /// The rate after the reductions so far.
    pub fn reduced(&self, base: f64, plateau: &Plateau) -> f64 {
        let mut lr = base;
        for _ in 0..plateau.reductions {
            let lower = (lr * self.factor).max(self.min_lr);
            // This also ends the loop for unchecked settings, which could make it endless or yield NaN.
            let reduction = lr - lower;
            if reduction.is_nan() || reduction <= self.eps.max(0.0) {
                break;
            }
            lr = lower;
        }
        lr
    }
}

impl Schedule for ReduceOnPlateau {
    fn describe(&self) -> Description {
        Description::new("ReduceOnPlateau", self)
    }

    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        let mut plateau = Plateau::default();
        let scores = clock.history.iter().filter_map(|epoch| self.monitor.of(epoch));
        scores.for_each(|score| self.observe(&mut plateau, score));
        self.reduced(base, &plateau)
    }

    fn monitor(&self) -> Option<Monitor> {
        Some(self.monitor)
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.factor) {
            let fault = format!("found {}, expected a number of at least 0 and below 1", self.factor);
            return Err(Error::config("factor", fault));
        }
        let (Threshold::Rel(threshold) | Threshold::Abs(threshold)) = self.threshold;
        check("threshold", threshold)?;
        check("min_lr", self.min_lr)?;
        check("eps", self.eps)
    }
}
