//! Adamax.

use serde::{Deserialize, Serialize};

use super::{Update, check, check_eps, optimizer};
use crate::math::power;
use crate::{Real, Result};

/// Adam with the largest gradient in place of the mean square; PyTorch's `Adamax`, with its defaults.
///
/// m ← m + (1 − β₁)(g − m); u ← max(β₂ u, |g| + ε); p ← p − lr / (1 − β₁ᵗ) · m / u,
/// with g + weight_decay · p in place of g.
///
/// # Source
/// Kingma & Ba 2015, algorithm 2, with PyTorch's ε.
/// # Examples
/// ```
/// use bptt::optim::{Adamax, Optimizer, Update};
///
/// let (rule, mut p) = (Adamax::new(0.1).betas(0.9, 0.99), [2.0f32]);
/// rule.update(Update::new(0.1, &mut p, &[3.0]).moments([&mut [0.0], &mut [0.0], &mut []]));
/// // The first step is as long as the learning rate.
/// assert!((p[0] - 1.9).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adamax {
    betas: (f64, f64),
    eps: f64,
    lr: f64,
    weight_decay: f64,
}

impl Adamax {
    /// β = (0.9, 0.999), ε = 1e-8, no weight decay.
    pub fn new(lr: f64) -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, lr, weight_decay: 0.0 }
    }

    /// The decay of the mean and of the maximum.
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

    fn lr(&self) -> f64 {
        self.lr
    }

    fn moments(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        check("lr", self.lr, 0.0..f64::INFINITY)?;
        check("beta1", self.betas.0, 0.0..1.0)?;
        check("beta2", self.betas.1, 0.0..1.0)?;
        check_eps(self.eps)?;
        check("weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    #[inline(always)]
    fn rule<R: Real>(&self, update: Update<'_, R>) {
        let Update { step, lr, params: p, grads: g, moments: [m, u, _], .. } = update;
        let (beta1, beta2) = self.betas;
        let step_size = R::from_f64(lr / (1.0 - power(beta1, step)));
        let rest1 = R::from_f64(1.0 - beta1);
        let (beta2, eps, decay) = (R::from_f64(beta2), R::from_f64(self.eps), R::from_f64(self.weight_decay));
        for (((p, &g), m), u) in p.iter_mut().zip(g).zip(m).zip(u) {
            let g = g + decay * *p;
            *m += rest1 * (g - *m);
            let (faded, fresh) = (beta2 * *u, g.abs() + eps);
            *u = if faded > fresh { faded } else { fresh };
            *p -= step_size * *m / *u;
        }
    }
}

optimizer!(Adamax, f32, f64);
