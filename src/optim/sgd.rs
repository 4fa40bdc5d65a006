//! Stochastic gradient descent.

use serde::{Deserialize, Serialize};

use super::{Update, check, optimizer};
use crate::{Error, Real, Result};

/// Gradient descent with momentum; PyTorch's `SGD`, with its defaults.
///
/// g ← g + weight_decay · p; b ← g at the first step, then momentum · b + (1 − dampening) g;
/// p ← p − lr · b, or p − lr (g + momentum · b) with Nesterov's momentum.
///
/// # Source
/// Sutskever et al. 2013, in PyTorch's form.
/// # Examples
/// ```
/// use bptt::optim::{Optimizer, Sgd, Update};
///
/// let (rule, mut p) = (Sgd::new(0.5).momentum(0.75).nesterov(), [2.0f32]);
/// rule.update(Update::new(0.5, &mut p, &[1.0]).moments([&mut [0.0], &mut [], &mut []]));
/// // A step, and three quarters of it again, ahead of time.
/// assert_eq!(p, [2.0 - 0.5 * 1.75]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    dampening: f64,
    lr: f64,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Sgd {
    /// No momentum, no weight decay.
    pub fn new(lr: f64) -> Self {
        Self { dampening: 0.0, lr, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// The share of the last step that is repeated.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// The share of the gradient that does not enter the momentum.
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// The L2 penalty, added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Nesterov's momentum: looks ahead by the momentum.
    pub fn nesterov(mut self) -> Self {
        self.nesterov = true;
        self
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn moments(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    fn check(&self) -> Result<()> {
        check("lr", self.lr, 0.0..f64::INFINITY)?;
        check("momentum", self.momentum, 0.0..f64::INFINITY)?;
        check("dampening", self.dampening, 0.0..f64::INFINITY)?;
        check("weight_decay", self.weight_decay, 0.0..f64::INFINITY)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let fault = format!("found momentum {} and dampening {}", self.momentum, self.dampening);
            return Err(Error::config("nesterov", fault + ", expected a momentum and no dampening"));
        }
        Ok(())
    }

    #[inline(always)]
    fn rule<R: Real>(&self, update: Update<'_, R>) {
        let Update { step, lr, params: p, grads: g, moments: [b, ..], .. } = update;
        let (lr, decay) = (R::from_f64(lr), R::from_f64(self.weight_decay));
        if self.momentum == 0.0 {
            p.iter_mut().zip(g).for_each(|(p, &g)| *p -= lr * (g + decay * *p));
            return;
        }
        let momentum = R::from_f64(self.momentum);
        // The first step takes the whole gradient.
        let share = R::from_f64(if step == 1 { 1.0 } else { 1.0 - self.dampening });
        for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
            let g = g + decay * *p;
            *b = momentum * *b + share * g;
            *p -= lr * if self.nesterov { g + momentum * *b } else { *b };
        }
    }
}

optimizer!(Sgd, f32, f64);
