//! Gradual pruning.

use serde::{Deserialize, Serialize};

use super::{Callback, CallbackState, EpochEnd, Flow};
use crate::prune::{Magnitude, Mask, Units};
use crate::{Error, Model, Real, Result};

/// Prunes by magnitude after epochs, weights or whole [units](Self::units), aggressively at first, then more slowly, so that the network can recover from each
/// pruning before the next.
///
/// After epoch e from a to b: share s = s_b · (1 − (1 − (e − a + 1) / (b − a + 1))³)
///
/// The other weights adapt in the epochs in between; leave a few epochs after b, so that the model can recover from the last
/// pruning. What was pruned before counts, and stays pruned.
///
/// # Source
/// Zhu & Gupta 2017, "To prune, or not to prune", equation 1, with s_i = 0 and t₀ = a − 1.
/// # Examples
/// ```
/// use bptt::train::GradualPruning;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let gradual = GradualPruning::new(0.8).from_epoch(3).until_epoch(6).only("lstm.*");
/// assert_eq!([2, 3, 6, 7].map(|epoch| gradual.share(epoch)), [0.0, 0.4625, 0.8, 0.8]);
/// assert!((gradual.share(4) - 0.7).abs() < 1e-12);
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).epochs(10).callback(gradual);
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradualPruning {
    to: f64,
    from: usize,
    until: usize,
    rule: GradualRule,
}

/// What is pruned.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum GradualRule {
    Weights(Magnitude),
    Units(Units),
}

impl GradualPruning {
    /// Prunes until this share of each weight tensor is pruned; after epochs 1 to 10.
    pub fn new(share: f64) -> Self {
        Self { to: share, from: 1, until: 10, rule: GradualRule::Weights(Magnitude::share(share)) }
    }

    /// Prunes until this share of the units of each group is pruned, by [`Units`]; after epochs 1 to 10.
    /// [`Model::compact`] makes a smaller model of it in the end.
    pub fn units(share: f64) -> Self {
        Self { rule: GradualRule::Units(Units::share(share)), ..Self::new(share) }
    }

    /// Sets the epoch, from 1, after which it first prunes.
    pub fn from_epoch(mut self, epoch: usize) -> Self {
        self.from = epoch;
        self
    }

    /// Sets the epoch after which it prunes for the last time.
    pub fn until_epoch(mut self, epoch: usize) -> Self {
        self.until = epoch;
        self
    }

    /// See [`Magnitude::global`] and [`Units::global`].
    pub fn global(mut self) -> Self {
        self.rule = match self.rule {
            GradualRule::Weights(rule) => GradualRule::Weights(rule.global()),
            GradualRule::Units(rule) => GradualRule::Units(rule.global()),
        };
        self
    }

    /// See [`Magnitude::only`] and [`Units::only`].
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.rule = match self.rule {
            GradualRule::Weights(rule) => GradualRule::Weights(rule.only(pattern)),
            GradualRule::Units(rule) => GradualRule::Units(rule.only(pattern)),
        };
        self
    }

    /// See [`Magnitude::with_biases`]. It has no effect on units, whose biases are always included.
    pub fn with_biases(mut self) -> Self {
        if let GradualRule::Weights(rule) = self.rule {
            self.rule = GradualRule::Weights(rule.with_biases());
        }
        self
    }

    /// The share that is pruned after `epoch`, counted from 1.
    pub fn share(&self, epoch: usize) -> f64 {
        if epoch < self.from {
            return 0.0;
        }
        if epoch >= self.until {
            return self.to;
        }
        let left = (self.until - epoch) as f64 / ((self.until - self.from) as f64 + 1.0);
        self.to * (1.0 - left * left * left)
    }
}

impl<R: Real> Callback<R> for GradualPruning {
    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        if self.from == 0 || self.until < self.from {
            let (from, until) = (self.from, self.until);
            let fault =
                format!("found {from} to {until}, expected at least 1, and the last at least the first");
            return Err(Error::config("epochs of gradual pruning", fault));
        }
        match &self.rule {
            GradualRule::Weights(rule) => rule.with_share(self.to).check(),
            GradualRule::Units(rule) => rule.with_share(self.to).check(),
        }
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        let epoch = end.epoch.epoch;
        if (self.from..=self.until).contains(&epoch) {
            let share = self.share(epoch);
            match &self.rule {
                GradualRule::Weights(rule) => end.model.prune(rule.with_share(share))?,
                GradualRule::Units(rule) => end.model.prune(rule.with_share(share))?,
            };
        }
        Ok(Flow::Continue)
    }

    /// An empty state: the mask is in the run's file. But a file of the first form has the mask here, and there must be
    /// as many states as callbacks.
    fn save_state(&self) -> Option<CallbackState<R>> {
        Some(CallbackState { json: serde_json::Value::Null, values: Vec::new() })
    }

    fn load_state(&mut self, state: CallbackState<R>, model: &mut Model<R>) -> Result<()> {
        if state.values.is_empty() {
            return Ok(());
        }
        let mut mask = Mask::new(model.params().layout().clone());
        let pruned = mask.as_mut_slice();
        if pruned.len() != state.values.len() {
            return Err(Error::mismatch("gradual pruning: the mask", state.values.len(), pruned.len()));
        }
        pruned.iter_mut().zip(state.values).for_each(|(pruned, value)| *pruned = value != R::ZERO);
        model.prune(&mask).map(drop)
    }
}
