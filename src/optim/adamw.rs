//! Adam with decoupled weight decay.

use serde::{Deserialize, Serialize};

use super::{Adam, Update, optimizer};
use crate::{Real, Result};

/// Adam with weight decay applied to the parameter, not to the gradient; PyTorch's `AdamW`, with its defaults.
///
/// p ← p − lr · weight_decay · p, then [`Adam`]'s step with the plain gradient.
///
/// # Source
/// Loshchilov & Hutter 2019, algorithm 2, in PyTorch's form.
/// # Examples
/// ```
/// use bptt::optim::{AdamW, Optimizer, Update};
///
/// let (rule, mut p) = (AdamW::new(0.1).weight_decay(0.5), [2.0f32]);
/// rule.update(Update::new(0.1, &mut p, &[3.0]).moments([&mut [0.0], &mut [0.0], &mut []]));
/// // A twentieth of 2 less, then a first step as long as the learning rate.
/// assert!((p[0] - (1.9 - 0.1)).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW(Adam);

impl AdamW {
    /// β = (0.9, 0.999), ε = 1e-8, weight decay 0.01, no AMSGrad.
    pub fn new(lr: f64) -> Self {
        Self(Adam::new(lr).weight_decay(0.01))
    }

    /// The decay of the two moments.
    pub fn betas(self, beta1: f64, beta2: f64) -> Self {
        Self(self.0.betas(beta1, beta2))
    }

    /// ε, which keeps the denominator away from 0.
    pub fn eps(self, eps: f64) -> Self {
        Self(self.0.eps(eps))
    }

    /// The share of a parameter that a step with a learning rate of 1 would remove.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self(self.0.weight_decay(weight_decay))
    }

    /// AMSGrad: divides by the largest second moment so far, so that it never shrinks.
    pub fn amsgrad(self) -> Self {
        Self(self.0.amsgrad())
    }

    pub(super) fn lr(&self) -> f64 {
        self.0.lr()
    }

    pub(super) fn decay(&self) -> f64 {
        self.0.weight_decay
    }

    pub(super) fn moments(&self) -> usize {
        self.0.moments()
    }

    pub(super) fn check(&self) -> Result<()> {
        self.0.check()
    }

    #[inline(always)]
    pub(super) fn rule<R: Real>(&self, update: Update<'_, R>) {
        let keep = R::from_f64(1.0 - update.lr * self.0.weight_decay);
        update.params.iter_mut().for_each(|p| *p *= keep);
        self.0.step(0.0, update);
    }
}

optimizer!(AdamW, f32, f64);
