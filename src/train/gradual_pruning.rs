//! Pruning little by little.

use serde::{Deserialize, Serialize};

use super::{Callback, CallbackState, EpochEnd, Flow};
use crate::prune::{Magnitude, Mask};
use crate::{Error, Model, Real, Result};

/// Prunes by magnitude at the ends of epochs, much at first and ever less towards the end, so that the network can make
/// up for each loss before the next.
///
/// After epoch e from a to b: share s = s_b · (1 − (1 − (e − a + 1) / (b − a + 1))³)
///
/// Weights that go between two epochs keep the others training in between; leave a few epochs after b, since what the
/// last pruning took away can only be made up for then. What is pruned already counts, and stays.
///
/// # Source
/// Zhu & Gupta 2017, "To prune, or not to prune", equation 1, with s_i = 0 and t₀ = a − 1.
/// # Examples
/// ```
/// use bptt::train::GradualPruning;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let gradual = GradualPruning::to(0.8).from_epoch(3).until_epoch(6).only("lstm.*");
/// assert_eq!([2, 3, 6, 7].map(|epoch| gradual.share(epoch)), [0.0, 0.4625, 0.8, 0.8]);
/// assert!((gradual.share(4) - 0.7).abs() < 1e-12);
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).epochs(10).with(gradual);
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradualPruning {
    to: f64,
    from: usize,
    until: usize,
    rule: Magnitude,
    /// What is pruned so far, for a run that is resumed.
    #[serde(skip)]
    mask: Option<Mask>,
}

impl GradualPruning {
    /// Until this share of each weight is pruned; after epochs 1 to 10.
    pub fn to(share: f64) -> Self {
        Self { to: share, from: 1, until: 10, rule: Magnitude::share(share), mask: None }
    }

    /// The epoch, from 1, after which it prunes first.
    pub fn from_epoch(mut self, epoch: usize) -> Self {
        self.from = epoch;
        self
    }

    /// The epoch after which it prunes last.
    pub fn until_epoch(mut self, epoch: usize) -> Self {
        self.until = epoch;
        self
    }

    /// See [`Magnitude::global`].
    pub fn global(mut self) -> Self {
        self.rule = self.rule.global();
        self
    }

    /// See [`Magnitude::only`].
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.rule = self.rule.only(pattern);
        self
    }

    /// See [`Magnitude::with_biases`].
    pub fn with_biases(mut self) -> Self {
        self.rule = self.rule.with_biases();
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
            let fault = format!("found {} to {}, expected the first to be 1 or more", self.from, self.until);
            return Err(Error::config("epochs of gradual pruning", fault + ", the last no less"));
        }
        self.rule.with_share(self.to).check()
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        let epoch = end.epoch.epoch;
        if (self.from..=self.until).contains(&epoch) {
            end.model.prune(self.rule.with_share(self.share(epoch)))?;
            self.mask = end.model.mask().cloned();
        }
        Ok(Flow::Continue)
    }

    fn save_state(&self) -> Option<CallbackState<R>> {
        let pruned = self.mask.iter().flat_map(|mask| mask.as_slice());
        let values = pruned.map(|&pruned| if pruned { R::ONE } else { R::ZERO }).collect();
        Some(CallbackState { json: serde_json::Value::Null, values })
    }

    fn load_state(&mut self, state: CallbackState<R>, model: &mut Model<R>) -> Result<()> {
        if state.values.is_empty() {
            return Ok(());
        }
        let mut mask = Mask::new(model.params().layout().clone());
        let places = mask.as_mut_slice();
        if places.len() != state.values.len() {
            return Err(Error::mismatch("gradual pruning: the mask", state.values.len(), places.len()));
        }
        places.iter_mut().zip(state.values).for_each(|(place, value)| *place = value != R::ZERO);
        model.prune(&mask)?;
        self.mask = Some(mask);
        Ok(())
    }
}
