//! Adam.

use super::{At, MAX_MOMENTS, check, optimizer};
use crate::{Real, Result};

/// Adam; PyTorch's `Adam`, with its defaults.
///
/// m ← m + (1 − β₁)(g − m); v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε), with g + weight_decay · p in place of g.
///
/// # Source
/// Kingma & Ba 2015, algorithm 1, in PyTorch's order of operations.
/// # Examples
/// ```
/// use bptt::optim::Adam;
///
/// let adam = Adam::new(1e-3).betas(0.9, 0.98).weight_decay(1e-4);
/// # let _ = adam;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    pub(super) lr: f64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
}

impl Adam {
    /// β = (0.9, 0.999), ε = 1e-8, no weight decay.
    pub fn new(lr: f64) -> Self {
        Self { lr, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }

    /// The decay of the two moments.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.betas = (beta1, beta2);
        self
    }

    /// What keeps the denominator from 0.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// L2 penalty, added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    fn moments(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        check("lr", self.lr, 0.0..f64::INFINITY)?;
        check("beta1", self.betas.0, 0.0..1.0)?;
        check("beta2", self.betas.1, 0.0..1.0)?;
        check("eps", self.eps, 0.0..f64::INFINITY)?;
        check("weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    #[inline(always)]
    fn rule<R: Real>(&self, at: At, p: &mut [R], g: &[R], [m, v, _]: [&mut [R]; MAX_MOMENTS]) {
        let (beta1, beta2) = self.betas;
        let t = at.step as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        let step_size = R::from_f64(at.lr / correction1);
        let root2 = R::from_f64(correction2.sqrt());
        let (rest1, rest2) = (R::from_f64(1.0 - beta1), R::from_f64(1.0 - beta2));
        let (beta2, eps, decay) = (R::from_f64(beta2), R::from_f64(self.eps), R::from_f64(self.weight_decay));
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g + decay * *p;
            *m += rest1 * (g - *m);
            *v = beta2 * *v + rest2 * g * g;
            *p -= step_size * *m / (v.sqrt() / root2 + eps);
        }
    }
}

optimizer!(Adam, f32, f64);
