//! Rules that say which parameters are pruned.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use rand::RngCore;

use super::Mask;
use crate::params::{Layout, Role, Tensor, matches};
use crate::{Arena, Error, Real, Result, rng};

const RANDOM: u64 = u64::from_be_bytes(*b"prune\0\0\0");

/// A rule that says which parameters to prune.
///
/// # Examples
/// A custom rule: every other weight of the first tensor.
/// ```
/// use bptt::prune::{Mask, Rule};
/// use bptt::{Arena, Model, Result, Shape, nn::Linear};
///
/// struct EveryOther;
///
/// impl Rule<f32> for EveryOther {
///     fn mark(&self, params: &Arena<f32>, mask: &mut Mask) -> Result<()> {
///         let first = params.layout().tensors()[0].range();
///         mask.as_mut_slice()[first].iter_mut().step_by(2).for_each(|pruned| *pruned = true);
///         Ok(())
///     }
/// }
///
/// let mut model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1)?;
/// assert_eq!(model.prune(EveryOther)?.pruned(), 2);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Rule<R: Real> {
    /// Marks in `mask` which of `params` to prune. The mask already marks what was pruned before; that stays pruned even
    /// if the rule removes its mark.
    ///
    /// # Errors
    /// If the rule's settings are invalid or do not fit the parameters; nothing is pruned then.
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()>;
}

impl<R: Real, T: Rule<R> + ?Sized> Rule<R> for &T {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        (**self).mark(params, mask)
    }
}

impl<R: Real, T: Rule<R> + ?Sized> Rule<R> for Box<T> {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        (**self).mark(params, mask)
    }
}

/// Prunes what another mask prunes, for example that of another model.
impl<R: Real> Rule<R> for Mask {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        let places = |layout: &Layout| -> Vec<_> {
            layout.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.shape())).collect()
        };
        let (found, expected) = (places(self.layout()), places(params.layout()));
        if found != expected {
            return Err(Error::mismatch("mask", format!("{found:?}"), format!("{expected:?}")));
        }
        mask.join(self);
        Ok(())
    }
}

/// Which tensors a rule may prune: by default those with two axes or more, so neither biases nor gains.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scope {
    pub(super) patterns: Vec<String>,
    pub(super) biases: bool,
}

/// The setters of a rule's `scope`.
macro_rules! scope_setters {
    () => {
        /// Restricts the rule to tensors whose names match `pattern`, in which `*` matches any run of characters. A second
        /// call adds others.
        pub fn only(mut self, pattern: impl Into<String>) -> Self {
            self.scope.patterns.push(pattern.into());
            self
        }

        /// Includes biases and other tensors with one axis, which are left out by default.
        pub fn with_biases(mut self) -> Self {
            self.scope.biases = true;
            self
        }
    };
}
pub(super) use scope_setters;

impl Scope {
    /// The tensors that the rule may prune.
    ///
    /// # Errors
    /// [`Error::Config`] if a pattern matches none.
    pub(super) fn tensors<'a>(&self, layout: &'a Layout) -> Result<Vec<(usize, &'a Tensor)>> {
        let may = |tensor: &&Tensor| tensor.role == Role::Weight && (self.biases || tensor.axes.len() > 1);
        let like = |pattern: &String, tensor: &&Tensor| matches(pattern, &tensor.name);
        for pattern in &self.patterns {
            if !layout.tensors().iter().filter(may).any(|tensor| like(pattern, &tensor)) {
                let names: Vec<_> = layout.tensors().iter().filter(may).map(|t| t.name.as_str()).collect();
                let biases = if self.biases { "" } else { " (biases only by `with_biases`)" };
                let fault =
                    format!("found no tensor for `{pattern}`, expected one of {}{biases}", names.join(", "));
                return Err(Error::config("only", fault));
            }
        }
        let chosen = |tensor: &&Tensor| {
            self.patterns.is_empty() || self.patterns.iter().any(|pattern| like(pattern, tensor))
        };
        let all = layout.tensors().iter().enumerate();
        Ok(all.filter(|(_, tensor)| may(tensor) && chosen(tensor)).collect())
    }
}

/// Checks a share.
///
/// # Errors
/// [`Error::Config`] if it is not from 0 to 1.
pub(super) fn check_share(share: f64) -> Result<()> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::config("share", format!("found {share}, expected a number from 0 to 1")))
}

/// Prunes the parameters with the lowest scores until `share` of all in `ranges` are pruned: round(share · n), including
/// those pruned before. Of equal scores, the first is pruned first.
pub(super) fn prune_lowest(
    mask: &mut Mask,
    ranges: &[Range<usize>],
    share: f64,
    score: impl Fn(usize) -> f64,
) {
    let pruned = mask.as_mut_slice();
    let total: usize = ranges.iter().map(Range::len).sum();
    let all = ranges.iter().cloned().flatten();
    let kept = all.filter(|&i| !pruned[i]).map(|i| (score(i), i)).collect();
    lowest(kept, share, total).for_each(|i| pruned[i] = true);
}

/// Those of the `kept`, each with its score, that are pruned next for `share` of `total` to be pruned: the lowest. Of equal
/// scores, the first is pruned first.
pub(super) fn lowest(mut kept: Vec<(f64, usize)>, share: f64, total: usize) -> impl Iterator<Item = usize> {
    let wanted = (share * total as f64).round() as usize;
    let more = wanted.saturating_sub(total - kept.len());
    if more > 0 && more < kept.len() {
        kept.select_nth_unstable_by(more - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }
    kept.into_iter().take(more).map(|(_, i)| i)
}

/// Prunes at random: the baseline that any other rule should beat.
///
/// With the same seed, a larger share prunes what a smaller one prunes, and more.
///
/// # Examples
/// ```
/// use bptt::prune::Random;
/// use bptt::{Model, Shape, nn::Linear};
///
/// let mut model: Model = Model::builder(Shape::new(1, 5)).layer("linear", Linear::new(2)).build(1)?;
/// assert_eq!(model.prune(Random::share(0.3).seed(7))?.pruned(), 3);
/// assert_eq!(model.prune(Random::share(0.3).seed(7))?.pruned(), 3);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    share: f64,
    seed: u64,
    scope: Scope,
}

impl Random {
    /// Prunes until this share of each tensor is pruned, including what was pruned before; the seed is 1.
    pub fn share(share: f64) -> Self {
        Self { share, seed: 1, scope: Scope::default() }
    }

    /// The seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    scope_setters!();
}

impl<R: Real> Rule<R> for Random {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        check_share(self.share)?;
        for (t, tensor) in self.scope.tensors(params.layout())? {
            let mut rng = rng::rng(rng::key(&[self.seed, RANDOM, t as u64]));
            // 53 bits: exact in f64.
            let scores: Vec<f64> = (0..tensor.len()).map(|_| (rng.next_u64() >> 11) as f64).collect();
            prune_lowest(mask, &[tensor.range()], self.share, |i| scores[i - tensor.offset]);
        }
        Ok(())
    }
}

/// Prunes what a closure chooses, given the tensor's name and the value.
///
/// # Examples
/// ```
/// use bptt::prune::Custom;
/// use bptt::{Model, Shape, nn::Linear};
///
/// let mut model: Model = Model::builder(Shape::new(1, 5)).layer("linear", Linear::new(2)).build(1)?;
/// let negative = model.params().get("linear.weight").unwrap().iter().filter(|&&w| w < 0.0).count();
/// let sparsity = model.prune(Custom::new(|name, w| name.starts_with("linear") && w < 0.0))?;
/// assert_eq!(sparsity.pruned(), negative);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone)]
pub struct Custom<F> {
    choose: F,
    scope: Scope,
}

impl<F: Fn(&str, f64) -> bool> Custom<F> {
    /// Prunes the parameters for which `choose` returns true.
    pub fn new(choose: F) -> Self {
        Self { choose, scope: Scope::default() }
    }

    scope_setters!();
}

impl<F> fmt::Debug for Custom<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<R: Real, F: Fn(&str, f64) -> bool> Rule<R> for Custom<F> {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        for (_, tensor) in self.scope.tensors(params.layout())? {
            let values = params.as_slice()[tensor.range()].iter();
            for (pruned, w) in mask.as_mut_slice()[tensor.range()].iter_mut().zip(values) {
                *pruned |= (self.choose)(&tensor.name, w.to_f64());
            }
        }
        Ok(())
    }
}
