//! Pruning by magnitude.

use serde::{Deserialize, Serialize};

use super::rule::{Scope, check_share, prune_lowest, scope_setters};
use super::{Mask, Rule};
use crate::{Arena, Error, Real, Result};

/// Prunes the weights that are closest to 0.
///
/// Below a threshold θ: w ← 0 where |w| < θ. By share s: w ← 0 for the round(s · n) smallest |w| of the n of each
/// tensor, or of all tensors together. Biases and other tensors with one axis are left out unless
/// [`with_biases`](Self::with_biases) includes them.
///
/// # Source
/// Han et al. 2015, "Learning both weights and connections for efficient neural networks".
/// # Examples
/// ```
/// use bptt::prune::Magnitude;
/// use bptt::{Model, Shape, nn::Linear};
///
/// let mut model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1)?;
/// model.params_mut().as_mut_slice()[..4].copy_from_slice(&[0.02, -0.04, -0.01, 0.03]);
/// model.prune(Magnitude::below(0.03))?;
/// assert_eq!(model.params().as_slice()[..4], [0.0, -0.04, 0.0, 0.03]);
/// model.prune(Magnitude::share(0.75))?;
/// assert_eq!(model.params().as_slice()[..4], [0.0, -0.04, 0.0, 0.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Magnitude {
    limit: Limit,
    global: bool,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Limit {
    Below(f64),
    Share(f64),
}

impl Magnitude {
    /// Prunes weights whose magnitude is below `threshold`, which is rounded to the model's precision.
    pub fn below(threshold: f64) -> Self {
        Self { limit: Limit::Below(threshold), global: false, scope: Scope::default() }
    }

    /// Prunes the smallest weights until this share of each tensor is pruned, including what was pruned before.
    pub fn share(share: f64) -> Self {
        Self { limit: Limit::Share(share), ..Self::below(0.0) }
    }

    /// Applies the share to all tensors together, so that they have one threshold. It has no effect on
    /// [`below`](Self::below).
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }

    scope_setters!();

    /// The same rule with another share.
    pub(crate) fn with_share(&self, share: f64) -> Self {
        Self { limit: Limit::Share(share), ..self.clone() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub(crate) fn check(&self) -> Result<()> {
        match self.limit {
            Limit::Below(threshold) if !(0.0..f64::INFINITY).contains(&threshold) => {
                let fault = format!("found {threshold}, expected a number of at least 0");
                Err(Error::config("threshold", fault))
            }
            Limit::Below(_) => Ok(()),
            Limit::Share(share) => check_share(share),
        }
    }
}

impl<R: Real> Rule<R> for Magnitude {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        self.check()?;
        let tensors = self.scope.tensors(params.layout())?;
        let ranges: Vec<_> = tensors.iter().map(|(_, tensor)| tensor.range()).collect();
        let values = params.as_slice();
        match self.limit {
            Limit::Below(threshold) => {
                let threshold = R::from_f64(threshold);
                for i in ranges.into_iter().flatten() {
                    mask.as_mut_slice()[i] |= values[i].abs() < threshold;
                }
            }
            Limit::Share(share) => {
                let parts = if self.global { 1.max(ranges.len()) } else { 1 };
                let score = |i: usize| values[i].abs().to_f64();
                ranges.chunks(parts).for_each(|ranges| prune_lowest(mask, ranges, share, score));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Init;
    use crate::params::Layout;
    use crate::prune::{Custom, Random};

    /// a.weight [2, 3], a.bias [2], b.weight [1, 2]
    fn params(values: [f32; 10]) -> Arena<f32> {
        let mut layout = Layout::default();
        for (name, axes) in [("a.weight", vec![2, 3]), ("a.bias", vec![2]), ("b.weight", vec![1, 2])] {
            let axes = axes.into_iter().map(Into::into).collect();
            layout.push(name.into(), axes, Init::Constant(0.0)).unwrap();
        }
        let mut arena = Arena::zeros(Arc::new(layout));
        arena.as_mut_slice().copy_from_slice(&values);
        arena
    }

    const VALUES: [f32; 10] = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.01, 0.02, 0.25, 2.0];

    fn after(rule: impl Rule<f32>, before: &[usize]) -> Vec<usize> {
        let params = params(VALUES);
        let mut mask = Mask::new(params.layout().clone());
        before.iter().for_each(|&i| mask.as_mut_slice()[i] = true);
        rule.mark(&params, &mut mask).unwrap();
        (0..10).filter(|&i| mask.as_slice()[i]).collect()
    }

    fn fault(rule: impl Rule<f32>) -> String {
        let params = params(VALUES);
        rule.mark(&params, &mut Mask::new(params.layout().clone())).unwrap_err().to_string()
    }

    #[test]
    fn below_a_threshold() {
        // 0.3 in f32 is above 0.3, but not below itself.
        assert_eq!(after(Magnitude::below(0.3), &[]), [0, 1, 8]);
        assert_eq!(after(Magnitude::below(0.3), &[5]), [0, 1, 5, 8]);
        assert_eq!(after(Magnitude::below(0.3).with_biases(), &[]), [0, 1, 6, 7, 8]);
        assert_eq!(after(Magnitude::below(0.3).only("a.*"), &[]), [0, 1]);
        assert_eq!(after(Magnitude::below(0.3).only("b.*").only("a.bias").with_biases(), &[]), [6, 7, 8]);
        assert!(after(Magnitude::below(0.0), &[]).is_empty());
    }

    #[test]
    fn by_share() {
        assert_eq!(after(Magnitude::share(0.5), &[]), [0, 1, 2, 8]);
        assert_eq!(after(Magnitude::share(0.5).global(), &[]), [0, 1, 2, 8]);
        assert_eq!(after(Magnitude::share(0.75).global(), &[]), [0, 1, 2, 3, 4, 8]);
        assert_eq!(after(Magnitude::share(1.0), &[]), [0, 1, 2, 3, 4, 5, 8, 9]);
        // What was pruned before counts, and stays pruned.
        assert_eq!(after(Magnitude::share(0.5), &[5]), [0, 1, 5, 8]);
        assert_eq!(after(Magnitude::share(0.0), &[3, 4]), [3, 4]);
    }

    #[test]
    fn nan_goes_last_and_zeros_go_in_order() {
        let params = params([f32::NAN, 0.0, -0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        let mut mask = Mask::new(params.layout().clone());
        Magnitude::share(0.35).only("a.*").mark(&params, &mut mask).unwrap();
        assert_eq!(mask.as_slice()[..6], [false, true, true, false, false, false]);
        Magnitude::share(0.84).only("a.*").mark(&params, &mut mask).unwrap();
        assert_eq!(mask.as_slice()[..6], [false, true, true, true, true, true]);
    }

    #[test]
    fn at_random() {
        let some = after(Random::share(0.5).seed(3), &[]);
        assert_eq!(some.iter().filter(|&&i| i < 6).count(), 3);
        assert_eq!(some.iter().filter(|&&i| i > 7).count(), 1);
        let more = after(Random::share(0.8).seed(3), &[]);
        assert!(some.iter().all(|i| more.contains(i)), "{some:?} in {more:?}");
        assert!((4..20).any(|seed| after(Random::share(0.5).seed(seed), &[]) != some));
    }

    #[test]
    fn by_closure_and_by_mask() {
        let large = || Custom::new(|name, w| name.starts_with('a') && w.abs() > 0.45 || w == 2.0);
        assert_eq!(after(large(), &[]), [4, 5, 9]);
        assert_eq!(after(large().only("a.*"), &[]), [4, 5]);
        assert_eq!(after(Custom::new(|_, w| w < 0.05).only("a.bias").with_biases(), &[]), [6, 7]);
        let mut mask = Mask::new(params(VALUES).layout().clone());
        mask.as_mut_slice()[7] = true;
        assert_eq!(after(&mask, &[1]), [1, 7]);
    }

    #[test]
    fn invalid_settings() {
        assert_eq!(fault(Magnitude::below(-0.1)), "`threshold`: found -0.1, expected a number of at least 0");
        assert!(fault(Magnitude::below(f64::NAN)).contains("found NaN"));
        assert_eq!(fault(Magnitude::share(1.5)), "`share`: found 1.5, expected a number from 0 to 1");
        assert!(fault(Random::share(f64::NAN)).contains("found NaN"));
        let names = "expected one of a.weight, b.weight (biases only by `with_biases`)";
        assert_eq!(
            fault(Magnitude::below(0.1).only("*.bias")),
            format!("`only`: found no tensor for `*.bias`, {names}")
        );
        assert!(fault(Mask::new(Arc::default())).starts_with("mask: found []"));
    }
}
