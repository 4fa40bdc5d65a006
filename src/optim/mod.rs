//! Optimizers. A rule holds settings only; its moments are held by the code that trains.

mod adam;
mod adamax;
mod adamw;
mod muon;
mod rms_prop;
mod sgd;

use std::fmt::Debug;

pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub use muon::Muon;
pub use rms_prop::RmsProp;
pub use sgd::Sgd;

use crate::{Description, Real, Result, par};

/// The most moments that a rule may keep for each parameter.
pub const MAX_MOMENTS: usize = 3;

/// What an update works on: parameters, their gradients and moments, and the position in the run.
///
/// Outside this crate, make one with [`new`](Update::new).
#[derive(Debug)]
#[non_exhaustive]
pub struct Update<'a, R> {
    /// The step, from 1.
    pub step: u64,
    /// The learning rate of this step.
    pub lr: f64,
    /// The parameters, which the update changes.
    pub params: &'a mut [R],
    /// Their gradients, one for each.
    pub grads: &'a [R],
    /// Their moments, 0 before the first step. They are as long as the parameters; those that the rule does not keep
    /// are empty.
    pub moments: [&'a mut [R]; MAX_MOMENTS],
    /// The shape of the tensor that the parameters are, if the rule asks for [whole tensors](Optimizer::scratch); else empty.
    pub shape: &'a [usize],
    /// As many values as the rule asks for, with any content.
    pub scratch: &'a mut [R],
}

impl<'a, R> Update<'a, R> {
    /// The first step, at a learning rate, of a rule that keeps no moments.
    ///
    /// # Panics
    /// If there is not one gradient for each parameter.
    #[track_caller]
    pub fn new(lr: f64, params: &'a mut [R], grads: &'a [R]) -> Self {
        assert_eq!(grads.len(), params.len(), "one gradient for each parameter");
        Self { step: 1, lr, params, grads, moments: Default::default(), shape: &[], scratch: &mut [] }
    }

    /// The number of the step, from 1.
    pub fn step(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// The moments.
    pub fn moments(self, moments: [&'a mut [R]; MAX_MOMENTS]) -> Self {
        Self { moments, ..self }
    }

    /// The first half of the parameters, and the second: two updates of a rule that treats each parameter by itself.
    fn halves(self) -> [Self; 2] {
        let Self { step, lr, params, grads, moments, .. } = self;
        let half = params.len() / 2;
        let (params, grads) = (params.split_at_mut(half), grads.split_at(half));
        let [mut first, mut second] =
            [(params.0, grads.0), (params.1, grads.1)].map(|(p, g)| Self::new(lr, p, g).step(step));
        for (i, moment) in moments.into_iter().enumerate().filter(|(_, moment)| !moment.is_empty()) {
            (first.moments[i], second.moments[i]) = moment.split_at_mut(half);
        }
        [first, second]
    }

    /// The shape of the tensor that the parameters are, and the values that the rule may overwrite.
    pub fn tensor(self, shape: &'a [usize], scratch: &'a mut [R]) -> Self {
        Self { shape, scratch, ..self }
    }
}

/// A rule that updates parameters from their gradients.
///
/// # Examples
/// A custom rule, which uses only the sign of the gradient:
/// ```
/// use bptt::optim::{Optimizer, Update};
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
///     fn update(&self, Update { lr, params, grads, .. }: Update<'_, f32>) {
///         let moved = params.iter_mut().zip(grads).filter(|(_, g)| **g != 0.0);
///         moved.for_each(|(p, g)| *p -= lr as f32 * g.signum());
///     }
/// }
/// let mut p = [1.0, 1.0, 1.0];
/// SignSgd(0.5).update(Update::new(0.5, &mut p, &[3.0, -0.1, 0.0]));
/// assert_eq!(p, [0.5, 1.5, 1.0]);
/// ```
pub trait Optimizer<R: Real>: Debug + Send + Sync {
    /// The kind and settings, by which a run that is [resumed](crate::Trainer::resume) is known to be the same; by default
    /// what `Debug` prints.
    fn describe(&self) -> Description {
        Description::debug(self)
    }

    /// The learning rate in the rule's settings.
    fn lr(&self) -> f64;

    /// Moments that the rule keeps for each parameter, at most [`MAX_MOMENTS`].
    fn moments(&self) -> usize;

    /// How many values of [scratch](Update::scratch) an update of a tensor with this shape needs. `None`, the default, is for
    /// rules that treat each parameter by itself: they are given any runs of parameters, several at once if there are many, and
    /// no shape.
    fn scratch(&self, _shape: &[usize]) -> Option<usize> {
        None
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the setting.
    fn check(&self) -> Result<()>;

    /// Updates the parameters once, from their gradients.
    fn update(&self, update: Update<'_, R>);
}

/// Updates many parameters in parts, at once, unless they are a tensor that the rule needs whole.
pub(crate) fn update<R: Real>(rule: &dyn Optimizer<R>, whole: Update<'_, R>) {
    if whole.params.len() <= par::PART || !whole.shape.is_empty() {
        return rule.update(whole);
    }
    let [first, second] = whole.halves();
    par::join(|| update(rule, first), || update(rule, second));
}

/// Implements [`Optimizer`] for a rule with inherent `lr`, `moments`, `check` and `rule::<R>`, once for each scalar, so
/// that it is compiled and vectorised here. Other methods of the trait follow in braces.
macro_rules! optimizer {
    ($rule:ident, $($t:ident),*) => { optimizer!($rule, $($t),*; {}); };
    ($rule:ident, $($t:ident),*; $others:tt) => { $(optimizer!(@ $rule, $t, $others);)* };
    (@ $rule:ident, $t:ident, { $($other:tt)* }) => {
        impl super::Optimizer<$t> for $rule {
            $($other)*
            fn describe(&self) -> crate::Description {
                crate::Description::new(stringify!($rule), self)
            }
            fn lr(&self) -> f64 {
                self.lr()
            }
            fn moments(&self) -> usize {
                self.moments()
            }
            fn check(&self) -> crate::Result<()> {
                self.check()
            }
            fn update(&self, update: super::Update<'_, $t>) {
                crate::kernels::simd::vectorized(
                    #[inline(always)]
                    || self.rule(update),
                );
            }
        }
    };
}
use optimizer;

/// Checks ε, which keeps a denominator from 0. PyTorch takes 0 too, but a parameter that has never had a gradient then
/// becomes 0 / 0; and what is smaller than this becomes 0 in f32.
fn check_eps(eps: f64) -> Result<()> {
    let smallest = f64::from(f32::MIN_POSITIVE);
    if (smallest..f64::INFINITY).contains(&eps) {
        return Ok(());
    }
    Err(crate::Error::config("eps", format!("found {eps}, expected a number of at least {smallest:e}")))
}

/// Checks that a setting is in `range`; NaN and ∞ never are.
fn check(field: &str, value: f64, range: std::ops::Range<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = if range.end == f64::INFINITY {
        format!("a number of at least {}", range.start)
    } else {
        format!("a number of at least {} and below {}", range.start, range.end)
    };
    Err(crate::Error::config(field, format!("found {value}, expected {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_updated_as_the_whole_is() -> Result<()> {
        let n = 3 * par::PART + 7;
        let values =
            |salt: usize| (0..n).map(|i| ((i * salt) % 1013) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
        let grads = values(7);
        let after = |in_parts: bool| {
            let (mut p, mut first, mut second) = (values(3), values(5), values(11));
            second.iter_mut().for_each(|x| *x = x.abs());
            let moments = [&mut first[..], &mut second[..], &mut []];
            let all = Update::new(0.1, &mut p, &grads).step(3).moments(moments);
            if in_parts {
                update(&Adam::new(0.1), all)
            } else {
                Adam::new(0.1).update(all)
            }
            [p, first, second]
        };
        let whole = after(false);
        for threads in [1, 2, 3] {
            assert_eq!(par::Pool::new(Some(threads))?.run(|| after(true)), whole, "{threads} threads");
        }
        Ok(())
    }
}
