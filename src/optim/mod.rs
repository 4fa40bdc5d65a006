//! Optimizers, one rule a file. A rule is a description; its moments are held by whoever trains.

mod adam;
mod adamax;
mod adamw;
mod rms_prop;
mod sgd;

use std::fmt::Debug;

pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub use rms_prop::RmsProp;
pub use sgd::Sgd;

use crate::{Real, Result};

/// Moments that a rule may keep for each parameter, at the most.
pub const MAX_MOMENTS: usize = 3;

/// Where in a run an update stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// The step, from 1.
    pub step: u64,
    /// The learning rate of this step.
    pub lr: f64,
}

/// A rule by which parameters follow their gradients.
///
/// # Examples
/// One of one's own, which goes by the sign of the gradient alone:
/// ```
/// use bptt::optim::{At, MAX_MOMENTS, Optimizer};
///
/// #[derive(Debug)]
/// struct SignSgd(f64);
///
/// impl Optimizer<f32> for SignSgd {
///     fn lr(&self) -> f64 {
///         self.0
///     }
///     fn moments(&self) -> usize {
///         0
///     }
///     fn check(&self) -> bptt::Result<()> {
///         Ok(())
///     }
///     fn update(&self, at: At, p: &mut [f32], g: &[f32], _: [&mut [f32]; MAX_MOMENTS]) {
///         p.iter_mut().zip(g).filter(|(_, g)| **g != 0.0).for_each(|(p, g)| *p -= at.lr as f32 * g.signum());
///     }
/// }
/// let mut p = [1.0, 1.0, 1.0];
/// SignSgd(0.5).update(At { step: 1, lr: 0.5 }, &mut p, &[3.0, -0.1, 0.0], Default::default());
/// assert_eq!(p, [0.5, 1.5, 1.0]);
/// ```
pub trait Optimizer<R: Real>: Debug + Send + Sync {
    /// The learning rate that the rule was given.
    fn lr(&self) -> f64;

    /// Moments that the rule keeps for each parameter, [`MAX_MOMENTS`] at the most.
    fn moments(&self) -> usize;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the setting.
    fn check(&self) -> Result<()>;

    /// One update of the parameters `p` by the gradients `g`. The moments, 0 before the first step, are as long as
    /// `p`; those that the rule does not keep are empty.
    fn update(&self, at: At, p: &mut [R], g: &[R], moments: [&mut [R]; MAX_MOMENTS]);
}

/// Implements [`Optimizer`] for a rule with inherent `lr`, `moments`, `check` and `rule::<R>`, once for each scalar, so
/// that it is compiled and vectorised here.
macro_rules! optimizer {
    ($rule:ident, $($t:ident),*) => {$(
        impl super::Optimizer<$t> for $rule {
            fn lr(&self) -> f64 {
                self.lr()
            }
            fn moments(&self) -> usize {
                self.moments()
            }
            fn check(&self) -> crate::Result<()> {
                self.check()
            }
            fn update(&self, at: super::At, p: &mut [$t], g: &[$t], moments: [&mut [$t]; super::MAX_MOMENTS]) {
                crate::kernels::simd::vectorized(
#[inline(always)]
|| self.rule(at, p, g, moments),
);
            }
        }
    )*};
}
use optimizer;

/// Checks that a setting lies in `range`, which neither NaN nor ∞ does.
fn check(field: &str, value: f64, range: std::ops::Range<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = if range.end == f64::INFINITY {
        format!("a number from {} on", range.start)
    } else {
        format!("a number from {} to below {}", range.start, range.end)
    };
    Err(crate::Error::config(field, format!("found {value}, expected {expected}")))
}
