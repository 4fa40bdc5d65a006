//! Which parameters are pruned.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayViewD;

use super::{Sparsity, TensorSparsity};
use crate::Real;
use crate::params::Layout;

/// For each parameter of a layout, whether it is pruned.
///
/// # Examples
/// ```
/// use bptt::prune::Magnitude;
/// use bptt::{Model, Shape, nn::Linear};
///
/// let mut model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1)?;
/// assert!(model.mask().is_none());
/// model.prune(Magnitude::share(0.25))?;
/// let mask = model.mask().unwrap();
/// let pruned = mask.get("linear.weight").unwrap();
/// assert_eq!((pruned.shape(), mask.count()), (&[2, 2][..], 1));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    layout: Arc<Layout>,
    pruned: Vec<bool>,
}

impl Mask {
    /// A mask under which nothing is pruned.
    pub fn new(layout: Arc<Layout>) -> Self {
        let pruned = vec![false; layout.len()];
        Self { layout, pruned }
    }

    /// Names, shapes and offsets of the parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// For each parameter, whether it is pruned.
    pub fn as_slice(&self) -> &[bool] {
        &self.pruned
    }

    /// For each parameter, whether it is pruned; mutable.
    pub fn as_mut_slice(&mut self) -> &mut [bool] {
        &mut self.pruned
    }

    /// The mask of one tensor, by name and in its shape: true where it is pruned.
    pub fn get(&self, name: &str) -> Option<ArrayViewD<'_, bool>> {
        let tensor = self.layout.get(name)?;
        ArrayViewD::from_shape(tensor.shape(), &self.pruned[tensor.range()]).ok()
    }

    /// How many parameters are pruned.
    pub fn count(&self) -> usize {
        self.pruned.iter().filter(|&&pruned| pruned).count()
    }

    /// How many parameters are pruned, tensor by tensor.
    pub fn sparsity(&self) -> Sparsity {
        let count = |pruned: &[bool]| pruned.iter().filter(|&&pruned| pruned).count();
        let tensors = self.layout.tensors().iter().map(|tensor| TensorSparsity {
            name: tensor.name.clone(),
            len: tensor.len(),
            pruned: count(&self.pruned[tensor.range()]),
        });
        Sparsity::new(tensors.collect())
    }

    /// Also prunes what `other`, of the same layout, prunes.
    pub(crate) fn join(&mut self, other: &Self) {
        self.pruned.iter_mut().zip(&other.pruned).for_each(|(a, b)| *a |= b);
    }

    /// Sets the values of pruned parameters to 0, by selection: −0, NaN and ∞ become 0 too.
    ///
    /// # Panics
    /// If there are more or fewer values than parameters.
    #[track_caller]
    pub fn apply<R: Real>(&self, values: &mut [R]) {
        assert_eq!(values.len(), self.pruned.len(), "values under a mask");
        R::zero_where(values, &self.pruned);
    }

    /// The lengths of alternating runs of kept and pruned values, for each tensor with any pruned value. Only the first
    /// run, of kept values, may be empty. So each mask has exactly one such form.
    pub(crate) fn runs(&self) -> BTreeMap<String, Vec<usize>> {
        let mut all = BTreeMap::new();
        for tensor in self.layout.tensors() {
            let (mut runs, mut state) = (vec![0], false);
            for &pruned in &self.pruned[tensor.range()] {
                if pruned != state {
                    runs.push(0);
                    state = pruned;
                }
                *runs.last_mut().expect("never empty") += 1;
            }
            if runs.len() > 1 {
                all.insert(tensor.name.clone(), runs);
            }
        }
        all
    }

    /// The mask that these [`runs`](Self::runs) describe, or what is wrong with them.
    pub(crate) fn from_runs(layout: Arc<Layout>, all: &BTreeMap<String, Vec<usize>>) -> Result<Self, String> {
        let mut mask = Self::new(layout);
        if all.is_empty() {
            return Err("mask: found no tensors, expected at least one or no mask".into());
        }
        for (name, runs) in all {
            let Some(tensor) = mask.layout.get(name) else {
                return Err(format!("mask: found `{name}`, expected a tensor of the model"));
            };
            let place = &mut mask.pruned[tensor.range()];
            let sum = runs.iter().try_fold(0usize, |sum, &run| sum.checked_add(run));
            if sum != Some(place.len()) {
                let found = sum.map_or("far too many".into(), |sum| sum.to_string());
                let expected = place.len();
                return Err(format!("mask of `{name}`: found {found} values, expected {expected}"));
            }
            if runs.len() < 2 || runs[1..].contains(&0) {
                return Err(format!("mask of `{name}`: found an empty run, expected none but the first"));
            }
            let mut start = 0;
            for (i, &run) in runs.iter().enumerate() {
                place[start..start + run].fill(i % 2 == 1);
                start += run;
            }
        }
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;

    fn layout() -> Arc<Layout> {
        let mut layout = Layout::default();
        layout.push("a".into(), vec![2.into(), 3.into()], Init::Constant(0.0)).unwrap();
        layout.push("b".into(), vec![2.into()], Init::Constant(0.0)).unwrap();
        Arc::new(layout)
    }

    fn mask(pruned: [u8; 8]) -> Mask {
        Mask { layout: layout(), pruned: pruned.iter().map(|&p| p == 1).collect() }
    }

    #[test]
    fn applying_selects() {
        let mut x = [f32::NAN, -0.0, f32::INFINITY, 1.0, f32::NAN, 2.0, -1.0, 3.0];
        mask([1, 1, 1, 1, 0, 0, 1, 0]).apply(&mut x);
        let bits = x.map(f32::to_bits);
        assert_eq!(bits[..4], [0; 4]);
        assert!(x[4].is_nan());
        assert_eq!((x[5], bits[6], x[7]), (2.0, 0, 3.0));
    }

    #[test]
    #[should_panic(expected = "values under a mask")]
    fn values_must_fit() {
        mask([0; 8]).apply(&mut [0.0f32; 7]);
    }

    #[test]
    fn runs_are_as_counted_by_hand() {
        let runs = |pruned| mask(pruned).runs().into_iter().collect::<Vec<_>>();
        assert_eq!(runs([0; 8]), []);
        assert_eq!(runs([0, 0, 1, 1, 1, 0, 0, 0]), [("a".into(), vec![2, 3, 1])]);
        assert_eq!(
            runs([1, 0, 0, 0, 0, 1, 1, 1]),
            [("a".into(), vec![0, 1, 4, 1]), ("b".into(), vec![0, 2])]
        );
    }

    #[test]
    fn every_mask_comes_back_from_its_runs() {
        for bits in 1..256u32 {
            let mask = mask(std::array::from_fn(|i| (bits >> i & 1) as u8));
            assert_eq!(Mask::from_runs(layout(), &mask.runs()).unwrap(), mask);
        }
    }

    #[test]
    fn runs_that_do_not_fit() {
        let fault = |name: &str, runs: &[usize]| {
            Mask::from_runs(layout(), &[(name.to_owned(), runs.to_vec())].into()).unwrap_err()
        };
        assert_eq!(fault("c", &[1, 1]), "mask: found `c`, expected a tensor of the model");
        assert_eq!(fault("b", &[0, 1]), "mask of `b`: found 1 values, expected 2");
        assert_eq!(fault("b", &[0, 3]), "mask of `b`: found 3 values, expected 2");
        assert_eq!(fault("b", &[3, usize::MAX]), "mask of `b`: found far too many values, expected 2");
        for runs in [&[2][..], &[1, 0, 1], &[0, 2, 0]] {
            assert!(fault("b", runs).contains("found an empty run"), "{runs:?}");
        }
        assert!(fault("b", &[]).contains("found 0 values"));
        assert!(Mask::from_runs(layout(), &BTreeMap::new()).unwrap_err().contains("no tensors"));
    }
}
