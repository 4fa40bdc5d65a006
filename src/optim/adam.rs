//! Adam.

use serde::{Deserialize, Serialize};

use super::{Update, check, check_eps, optimizer};
use crate::math::power;
use crate::{Real, Result};

/// Adam; PyTorch's `Adam`, with its defaults.
///
/// m ← m + (1 − β₁)(g − m); v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε), with g + weight_decay · p in place of g.
/// AMSGrad uses the largest v so far in place of v.
///
/// # Source
/// Kingma & Ba 2015, algorithm 1, in PyTorch's order of operations; Reddi, Kale & Kumar 2018 for AMSGrad.
/// # Examples
/// ```
/// use bptt::optim::{Adam, Optimizer, Update};
///
/// let (rule, mut p) = (Adam::new(0.1).betas(0.8, 0.9).amsgrad(), [2.0f32]);
/// rule.update(Update::new(0.1, &mut p, &[3.0]).moments([&mut [0.0], &mut [0.0], &mut [0.0]]));
/// // The first step is as long as the learning rate.
/// assert!((p[0] - 1.9).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    amsgrad: bool,
    betas: (f64, f64),
    eps: f64,
    lr: f64,
    pub(super) weight_decay: f64,
}

impl Adam {
    /// β = (0.9, 0.999), ε = 1e-8, no weight decay, no AMSGrad.
    pub fn new(lr: f64) -> Self {
        Self { amsgrad: false, betas: (0.9, 0.999), eps: 1e-8, lr, weight_decay: 0.0 }
    }

    /// The decay of the two moments.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.betas = (beta1, beta2);
        self
    }

    /// ε, which keeps the denominator away from 0.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The L2 penalty, added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// AMSGrad: divides by the largest second moment so far, so that it never shrinks.
    pub fn amsgrad(mut self) -> Self {
        self.amsgrad = true;
        self
    }

    pub(super) fn lr(&self) -> f64 {
        self.lr
    }

    pub(super) fn moments(&self) -> usize {
        2 + usize::from(self.amsgrad)
    }

    pub(super) fn check(&self) -> Result<()> {
        check("lr", self.lr, 0.0..f64::INFINITY)?;
        check("beta1", self.betas.0, 0.0..1.0)?;
        check("beta2", self.betas.1, 0.0..1.0)?;
        check_eps(self.eps)?;
        check("weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    #[inline(always)]
    fn rule<R: Real>(&self, update: Update<'_, R>) {
        self.step(self.weight_decay, update);
    }

    /// The rule, with an L2 penalty of `decay`.
    #[inline(always)]
    pub(super) fn step<R: Real>(&self, decay: f64, update: Update<'_, R>) {
        let Update { step, lr, params: p, grads: g, moments: [m, v, max], .. } = update;
        let (beta1, beta2) = self.betas;
        let (correction1, correction2) = (1.0 - power(beta1, step), 1.0 - power(beta2, step));
        let step_size = R::from_f64(lr / correction1);
        let root2 = R::from_f64(correction2.sqrt());
        let (rest1, rest2) = (R::from_f64(1.0 - beta1), R::from_f64(1.0 - beta2));
        let (beta2, eps, decay) = (R::from_f64(beta2), R::from_f64(self.eps), R::from_f64(decay));
        for (((p, &g), m), v) in p.iter().zip(g).zip(&mut *m).zip(&mut *v) {
            let g = g + decay * *p;
            *m += rest1 * (g - *m);
            *v = beta2 * *v + rest2 * g * g;
        }
        let v = if self.amsgrad {
            max.iter_mut().zip(v).for_each(|(max, v)| *max = if *v > *max { *v } else { *max });
            max
        } else {
            v
        };
        for ((p, m), v) in p.iter_mut().zip(m).zip(v) {
            *p -= step_size * *m / (v.sqrt() / root2 + eps);
        }
    }
}

optimizer!(Adam, f32, f64);
