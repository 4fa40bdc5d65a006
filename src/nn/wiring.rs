//! What a layer is with fewer units, and when its units are at rest.

use std::fmt;
use std::ops::Range;

use super::Layer;
use crate::Real;
use crate::params::{UnitGroup, UnitGroups};

/// What a layer becomes: named layers, one after another.
type Smaller<R> = Box<dyn Fn(&mut Kept) -> Vec<(String, Box<dyn Layer<R>>)>>;

/// How a layer's units depend on one another, and what the layer is with fewer of them; returned by
/// [`Layer::wiring`].
///
/// Which units there are, and where, is known from the [axes](crate::params::Axis) of the tensors that the layer
/// [declares](super::Build::tensor). In a tensor of several axes, the units of the first read those of the others: a weight
/// of 0 reads nothing. What depends on units in any other way [fixes](super::Build::fix) them.
///
/// # Examples
/// An affine layer of so many outputs:
/// ```
/// use bptt::nn::{Kept, Layer, Linear, Wiring};
///
/// fn wiring(name: &str) -> Wiring<f32> {
///     let name = name.to_owned();
///     let smaller = move |kept: &mut Kept| {
///         kept.at_least(&name, 1);
///         vec![(name.clone(), Box::new(Linear::new(kept.count(&name))) as Box<dyn Layer<f32>>)]
///     };
///     Wiring::new(smaller).ignores_zeros()
/// }
/// # let _ = wiring("linear");
/// ```
pub struct Wiring<R> {
    pub(super) smaller: Smaller<R>,
    pub(super) ignores_zeros: bool,
    pub(super) rests: Vec<Rest>,
}

/// When the units of a group are 0.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) group: String,
    /// Tensors and the block of their first axis.
    pub(super) rows: Vec<(String, usize)>,
}

impl<R> fmt::Debug for Wiring<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ignores_zeros, rests, .. } = self;
        f.debug_struct("Wiring")
            .field("ignores_zeros", ignores_zeros)
            .field("rests", rests)
            .finish_non_exhaustive()
    }
}

impl<R: Real> Wiring<R> {
    /// A layer that is `smaller` with the units that it is given. These layers, which have names of their own, must declare
    /// the same tensors in the same order, with fewer units; only names may differ. `smaller` may [keep](Kept::at_least)
    /// more of the layer's units.
    pub fn new(smaller: impl Fn(&mut Kept) -> Vec<(String, Box<dyn Layer<R>>)> + 'static) -> Self {
        Self { smaller: Box::new(smaller), ignores_zeros: false, rests: Vec::new() }
    }

    /// A layer without units of its own, which stays as it is.
    pub fn unchanged(name: &str, layer: impl Layer<R> + Clone + 'static) -> Self {
        let name = name.to_owned();
        Self::new(move |_| vec![(name.clone(), Box::new(layer.clone()))])
    }

    /// Says that a unit of the input that is always 0 is the same as no unit: it is only multiplied with weights, or stays 0
    /// in the output.
    pub fn ignores_zeros(mut self) -> Self {
        self.ignores_zeros = true;
        self
    }

    /// Says that a unit of `group` is always 0 if these are: for each of the `rows`, a tensor by its full name and a block of
    /// its first axis, the unit's row of weights, or its bias. Weights with which zeros are multiplied need not be 0.
    pub fn rests(
        mut self,
        group: impl Into<String>,
        rows: impl IntoIterator<Item = (String, usize)>,
    ) -> Self {
        self.rests.push(Rest { group: group.into(), rows: rows.into_iter().collect() });
        self
    }
}

/// Which units of a model are kept.
#[derive(Clone, Debug)]
pub struct Kept {
    units: UnitGroups,
    kept: Vec<bool>,
    /// Whether the layers of a stack should be layers of the model.
    apart: bool,
}

impl Kept {
    pub(super) fn new(units: UnitGroups, kept: Vec<bool>) -> Self {
        Self { units, kept, apart: false }
    }

    /// All units, with each layer of a stack by itself, and its outputs at all steps as far as that is possible.
    pub(super) fn apart(units: UnitGroups) -> Self {
        Self { kept: vec![true; units.len()], units, apart: true }
    }

    pub(super) fn is_apart(&self) -> bool {
        self.apart
    }

    /// How many units of a group are kept.
    pub fn count(&self, group: &str) -> usize {
        self.kept[self.range(group)].iter().filter(|&&kept| kept).count()
    }

    /// Keeps at least `count` units of a group, or all, if it has fewer.
    pub fn at_least(&mut self, group: &str, count: usize) {
        let missing = count.saturating_sub(self.count(group));
        let range = self.range(group);
        self.kept[range].iter_mut().filter(|kept| !**kept).take(missing).for_each(|kept| *kept = true);
    }

    /// For each unit of the model, whether it is kept.
    pub(super) fn as_slice(&self) -> &[bool] {
        &self.kept
    }

    fn range(&self, group: &str) -> Range<usize> {
        self.units.get(group).map_or(0..0, |UnitGroup { units, .. }| units.clone())
    }
}
