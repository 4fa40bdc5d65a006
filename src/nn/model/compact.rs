//! A model without the units that do not matter.

use std::sync::Arc;

use super::{LayerSlot, Model, ModelBuilder};
use crate::nn::{Kept, Wiring};
use crate::params::{Layout, Tensor, UnitGroups};
use crate::prune::Mask;
use crate::{Error, Real, Result};

/// A smaller model, and where its parameters come from.
pub(crate) struct Compacted<R> {
    pub(crate) model: Model<R>,
    /// For each parameter, its index in the larger model.
    pub(crate) from: Vec<usize>,
}

impl<R: Real> Model<R> {
    /// Returns the model without its dead units: a smaller model with the same output.
    ///
    /// A unit of a layer is live if it belongs to the output, or if a live unit reads it, by a weight that is not 0; all others
    /// are dead. Also dead is a unit that is always 0, because nothing but 0 enters its sums. A dead unit's
    /// rows, columns and biases are cut from all tensors, and the rest of them keeps its values, its order and its
    /// [mask](Self::mask). Sums are the same sums without zeros, so outputs are the same to the bit, but for the sign of a 0,
    /// wherever a recurrent layer starts with states of 0.
    ///
    /// - [`prune::Units`](crate::prune::Units) makes units die; pruning single weights seldom does.
    /// - A stack whose layers keep different numbers of units becomes one layer after another, `lstm.0`, `lstm.1` and so on,
    ///   as PyTorch's `ModuleList` names them. Both directions of a layer keep as many units as the larger one needs, a
    ///   projection stays smaller than what it projects, and each layer keeps at least one unit.
    /// - Units of [`LayerNormLstm`](crate::nn::LayerNormLstm), and those that a [`LayerNorm`](crate::nn::LayerNorm) or a
    ///   [`LogSoftmax`](crate::nn::LogSoftmax) reads, stay: their statistics are over all units.
    /// - Channels of convolutions stay, and so do units that a convolution, a [`Pool2d`](crate::nn::Pool2d) or a
    ///   [`Transpose`](crate::nn::Transpose) reads. [`Branches`](crate::nn::Branches) cannot be made smaller.
    /// - Features of the input stay.
    ///
    /// It is as with garbage: what cannot be reached from the output goes. To train on with the moments of the optimizer, see
    /// [`Stepper::compact`](crate::train::Stepper::compact).
    ///
    /// # Errors
    /// [`Error::Config`] naming a layer that cannot be made smaller: a custom layer without a
    /// [`wiring`](crate::nn::Layer::wiring).
    /// # Source
    /// Wen et al. 2018, "Learning intrinsic sparse structures within long short-term memory": which rows and columns
    /// belong to a unit of an LSTM.
    /// # Examples
    /// ```
    /// use bptt::prune::Units;
    /// use bptt::{Model, Shape, nn::{Linear, Lstm}};
    ///
    /// let mut model: Model = Model::builder(Shape::new(5, 3))
    ///     .layer("lstm", Lstm::new(8).last())
    ///     .layer("linear", Linear::new(2))
    ///     .build(1)?;
    /// model.prune(Units::share(0.5))?;
    /// let small = model.compact()?;
    /// assert_eq!(small.params().get("lstm.weight_hh_l0").unwrap().shape(), [4 * 4, 4]);
    /// let x = ndarray::Array3::ones((1, 5, 3));
    /// assert_eq!(small.predict(&x)?, model.predict(&x)?);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn compact(&self) -> Result<Self> {
        let values = self.params.as_slice();
        Ok(self.compacted(|i| values[i] == R::ZERO)?.model)
    }

    /// [`compact`](Self::compact), where `zero` says which parameters are 0.
    pub(crate) fn compacted(&self, zero: impl Fn(usize) -> bool) -> Result<Compacted<R>> {
        let layout = self.params.layout();
        let (wirings, units) = (self.wirings()?, layout.units());
        let graph = Graph { layout, units: &units, zero: &zero };
        let resting = graph.resting(&wirings, &self.read_as_they_are(&wirings, &units));
        let mut kept = Kept::new(units.clone(), graph.live(&resting));
        let mut model = self.with_kept(&wirings, &mut kept)?;
        let from = positions(layout, &units, &kept, model.params.layout())?;
        let old = self.params.as_slice();
        model.params.as_mut_slice().iter_mut().zip(&from).for_each(|(new, &i)| *new = old[i]);
        model.mask = self.mask.as_ref().and_then(|mask| {
            let mut smaller = Mask::new(model.params.layout().clone());
            smaller.as_mut_slice().iter_mut().zip(&from).for_each(|(new, &i)| *new = mask.as_slice()[i]);
            (smaller.count() > 0).then(|| Arc::new(smaller))
        });
        model.pack();
        Ok(Compacted { model, from })
    }

    /// The model with all units, but with each layer of a stack as a layer of its own.
    pub(super) fn apart(&self) -> Result<Self> {
        let mut model = self.with_kept(&self.wirings()?, &mut Kept::apart(self.params.layout().units()))?;
        model.params.as_mut_slice().copy_from_slice(self.params.as_slice());
        model.pack();
        Ok(model)
    }

    fn wirings(&self) -> Result<Vec<Wiring<R>>> {
        let wiring = |slot: &LayerSlot<R>| slot.layer.wiring(&slot.name).map_err(|e| e.within(&slot.name));
        self.layers.iter().map(wiring).collect()
    }

    /// A model of these layers with the units that are kept; its parameters are 0.
    fn with_kept(&self, wirings: &[Wiring<R>], kept: &mut Kept) -> Result<Self> {
        let mut builder = ModelBuilder::new(self.input_shape())
            .normalize(self.normalize.clone())
            .classes(self.classes.clone());
        builder.normalize_targets = self.normalize_targets.clone();
        for wiring in wirings {
            builder.layers.extend((wiring.smaller)(kept));
        }
        builder.build_checked(|_| Ok(()))
    }

    /// For each unit, whether a layer reads it that does not ignore zeros.
    fn read_as_they_are(&self, wirings: &[Wiring<R>], units: &UnitGroups) -> Vec<bool> {
        let mut read = vec![false; units.len()];
        for (wiring, below) in wirings[1..].iter().zip(self.layers.iter()) {
            if !wiring.ignores_zeros {
                units.on(&below.output.units).iter().flatten().for_each(|&(unit, _)| read[unit] = true);
            }
        }
        read
    }
}

/// The units of a model, and what they read.
struct Graph<'a, F> {
    layout: &'a Layout,
    units: &'a UnitGroups,
    /// Whether a parameter is 0.
    zero: &'a F,
}

impl<F: Fn(usize) -> bool> Graph<'_, F> {
    /// For each unit, whether it is always 0. Those that may be are assumed to be, until something else than 0 is found to
    /// enter them: states begin at 0, so by induction over the steps, what is left is right.
    fn resting<R: Real>(&self, wirings: &[Wiring<R>], never: &[bool]) -> Vec<bool> {
        let rests = || wirings.iter().flat_map(|wiring| &wiring.rests);
        let mut resting = vec![false; self.units.len()];
        for group in rests().filter_map(|rest| self.units.get(&rest.group)) {
            resting[group.units.clone()].fill(true);
        }
        resting.iter_mut().zip(never).for_each(|(resting, never)| *resting &= !never);
        loop {
            let before = resting.clone();
            for (name, block) in rests().flat_map(|rest| &rest.rows) {
                if let Some(tensor) = self.layout.get(name) {
                    self.wake(tensor, *block, &mut resting);
                }
            }
            if resting == before {
                return resting;
            }
        }
    }

    /// Ends the rest of units into whose row in a block of `tensor` something else than 0 enters.
    fn wake(&self, tensor: &Tensor, block: usize, resting: &mut [bool]) {
        let rows = self.units.on(&tensor.axes[0]);
        let columns = tensor.axes.get(1).map_or(vec![None], |axis| self.units.on(axis));
        for (r, &row) in rows.iter().enumerate() {
            let Some((unit, _)) = row.filter(|&(_, own)| own == block) else { continue };
            let enters = |(c, column): (usize, &Option<(usize, usize)>)| {
                let rests = column.is_some_and(|(read, _)| resting[read]);
                !rests && !(self.zero)(tensor.offset + r * columns.len() + c)
            };
            if columns.iter().enumerate().any(enters) {
                resting[unit] = false;
            }
        }
    }

    /// For each unit, whether it is live, given which ones are always 0.
    fn live(&self, resting: &[bool]) -> Vec<bool> {
        let mut live = vec![false; self.units.len()];
        for group in self.units.groups().iter().filter(|group| group.fixed) {
            live[group.units.clone()].fill(true);
        }
        loop {
            let before = live.clone();
            // Against the order of the layers, so that one pass usually is enough.
            for tensor in self.layout.tensors().iter().rev() {
                self.units.visit_weights(tensor, |i, reader, read| {
                    live[read] |= live[reader] && !resting[read] && !(self.zero)(i);
                });
            }
            if live == before {
                return live;
            }
        }
    }
}

/// For each parameter of the smaller layout, its index in the larger one: tensors correspond in their order.
fn positions(old: &Layout, units: &UnitGroups, kept: &Kept, new: &Layout) -> Result<Vec<usize>> {
    let mut from = Vec::with_capacity(new.len());
    let mismatch = |found: String, expected: String| Error::mismatch("compact", found, expected);
    if new.tensors().len() != old.tensors().len() {
        let [found, expected] = [new, old].map(|layout| format!("{} tensors", layout.tensors().len()));
        return Err(mismatch(found, expected));
    }
    for (tensor, smaller) in old.tensors().iter().zip(new.tensors()) {
        let mut stays = vec![true; tensor.len()];
        units.visit(tensor, |i, _, unit| stays[i - tensor.offset] &= kept.as_slice()[unit]);
        let shape = tensor.axes.iter().map(|axis| {
            let stays = |place: &Option<(usize, usize)>| place.is_none_or(|(unit, _)| kept.as_slice()[unit]);
            units.on(axis).iter().filter(|&place| stays(place)).count()
        });
        let shape: Vec<_> = shape.collect();
        if smaller.shape() != shape {
            let found = format!("`{}` {:?}", smaller.name, smaller.shape());
            return Err(mismatch(found, format!("{shape:?}, of `{}`", tensor.name)));
        }
        from.extend(tensor.range().filter(|i| stays[i - tensor.offset]));
    }
    Ok(from)
}
