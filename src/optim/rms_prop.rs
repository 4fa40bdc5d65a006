//! RMSProp.

use serde::{Deserialize, Serialize};

use super::{Update, check, check_eps, optimizer};
use crate::{Real, Result};

/// Gradients divided by the root of their mean square; PyTorch's `RMSprop`, with its defaults.
///
/// v ← α v + (1 − α) g²; p ← p − lr · g / (√v + ε), with g + weight_decay · p in place of g.
///
/// Centered: m ← m + (1 − α)(g − m), and max(v − m², 0) in place of v, since rounding could make it negative.
/// With momentum: b ← momentum · b + g / (√v + ε); p ← p − lr · b.
///
/// # Source
/// Tieleman & Hinton 2012, lecture 6.5; Graves 2013 (Generating sequences), section 4.2, for the centered form.
/// # Examples
/// ```
/// use bptt::optim::{Optimizer, RmsProp, Update};
///
/// let (rule, mut p) = (RmsProp::new(0.1).alpha(0.75).momentum(0.9), [2.0f32]);
/// rule.update(Update::new(0.1, &mut p, &[3.0]).moments([&mut [0.0], &mut [0.0], &mut []]));
/// // The mean square starts at 0, so that the first step is 1 / √(1 − α) learning rates long.
/// assert!((p[0] - 1.8).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsProp {
    alpha: f64,
    centered: bool,
    eps: f64,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
}

impl RmsProp {
    /// α = 0.99, ε = 1e-8, no momentum, no weight decay, not centered.
    pub fn new(lr: f64) -> Self {
        Self { alpha: 0.99, centered: false, eps: 1e-8, lr, momentum: 0.0, weight_decay: 0.0 }
    }

    /// The decay of the mean square.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Divides by the standard deviation of the gradients instead of the root of their mean square.
    pub fn centered(mut self) -> Self {
        self.centered = true;
        self
    }

    /// ε, which keeps the denominator away from 0.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The share of the last step that is repeated.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
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
        1 + usize::from(self.centered) + usize::from(self.momentum > 0.0)
    }

    fn check(&self) -> Result<()> {
        check("lr", self.lr, 0.0..f64::INFINITY)?;
        check("alpha", self.alpha, 0.0..1.0)?;
        check_eps(self.eps)?;
        check("momentum", self.momentum, 0.0..f64::INFINITY)?;
        check("weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    #[inline(always)]
    fn rule<R: Real>(&self, update: Update<'_, R>) {
        let Update { lr, params: p, grads: g, moments: [v, second, third], .. } = update;
        let step = RmsPropStep {
            lr: R::from_f64(lr),
            alpha: R::from_f64(self.alpha),
            rest: R::from_f64(1.0 - self.alpha),
            eps: R::from_f64(self.eps),
            momentum: R::from_f64(self.momentum),
            decay: R::from_f64(self.weight_decay),
        };
        let all = p.iter_mut().zip(g).zip(v);
        match (self.centered, self.momentum > 0.0) {
            (false, false) => all.for_each(|((p, &g), v)| step.take(p, g, v, [None, None])),
            (true, false) => {
                all.zip(second).for_each(|(((p, &g), v), m)| step.take(p, g, v, [Some(m), None]))
            }
            (false, true) => {
                all.zip(second).for_each(|(((p, &g), v), b)| step.take(p, g, v, [None, Some(b)]))
            }
            (true, true) => {
                let all = all.zip(second).zip(third);
                all.for_each(|((((p, &g), v), m), b)| step.take(p, g, v, [Some(m), Some(b)]));
            }
        }
    }
}

/// The settings in the type of the parameters; `rest` is 1 − α.
struct RmsPropStep<R> {
    lr: R,
    alpha: R,
    rest: R,
    eps: R,
    momentum: R,
    decay: R,
}

impl<R: Real> RmsPropStep<R> {
    /// The step of one parameter, with a mean `m` if centered and a buffer `b` if there is momentum.
    #[inline(always)]
    fn take(&self, p: &mut R, g: R, v: &mut R, [m, b]: [Option<&mut R>; 2]) {
        let g = g + self.decay * *p;
        *v = self.alpha * *v + self.rest * g * g;
        let mut square = *v;
        if let Some(m) = m {
            *m += self.rest * (g - *m);
            square -= *m * *m;
            square = if square < R::ZERO { R::ZERO } else { square };
        }
        let mut step = g / (square.sqrt() + self.eps);
        if let Some(b) = b {
            *b = self.momentum * *b + step;
            step = *b;
        }
        *p -= self.lr * step;
    }
}

optimizer!(RmsProp, f32, f64);
