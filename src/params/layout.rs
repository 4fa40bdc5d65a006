//! Names, shapes and offsets of all tensors of a model.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::{Error, Init, Result};

/// One axis of a tensor: runs of units, one after another.
///
/// The `4H` rows of an LSTM's weight are one run: `4` blocks of the `H` units of one group. The columns of a layer above a
/// bidirectional one are two runs, the units of each direction. To remove a unit is to remove it from every block of
/// every run of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    runs: Vec<Run>,
}

/// Consecutive positions on an axis: `blocks` times the same `units` units.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The group that the units belong to; `None` for positions that are not units of a layer.
    pub group: Option<Arc<str>>,
    /// Units per block.
    pub units: usize,
    /// How many blocks there are.
    pub blocks: usize,
}

impl Axis {
    /// `blocks` blocks of the `units` units of `group`.
    pub fn units(group: impl Into<Arc<str>>, units: usize, blocks: usize) -> Self {
        Self { runs: vec![Run { group: Some(group.into()), units, blocks }] }
    }

    /// This axis, followed by `other`.
    pub fn then(mut self, other: Axis) -> Self {
        self.runs.extend(other.runs);
        self
    }

    /// This axis, `times` times; of one run, that is one run of as many times the blocks.
    pub fn repeat(&self, times: usize) -> Self {
        match &self.runs[..] {
            [run] => Self { runs: vec![Run { blocks: run.blocks.saturating_mul(times), ..run.clone() }] },
            runs => Self { runs: (0..times).flat_map(|_| runs.iter().cloned()).collect() },
        }
    }

    /// The length of the axis.
    ///
    /// It saturates, so that the check of a tensor's size finds absurd ones.
    pub fn size(&self) -> usize {
        let sizes = self.runs.iter().map(|run| run.units.saturating_mul(run.blocks));
        sizes.fold(0, usize::saturating_add)
    }

    /// The runs, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The number of blocks that the axis is made of.
    pub fn blocks(&self) -> usize {
        self.runs.iter().map(|run| run.blocks).sum()
    }
}

impl From<usize> for Axis {
    fn from(size: usize) -> Self {
        Self { runs: vec![Run { group: None, units: size, blocks: 1 }] }
    }
}

/// What a tensor is to training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Optimizers update it.
    Weight,
    /// The layer computes it from the batches, as a running mean: it is saved and loaded as a weight is, but has no gradient,
    /// and is neither decayed, pruned nor averaged, nor initialised by a pattern.
    Statistic,
}

/// One tensor of a layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The full name, as in PyTorch's state dict: `lstm.weight_ih_l0`.
    pub name: String,
    /// The axes, the slowest first (row-major).
    pub axes: Vec<Axis>,
    /// Where the tensor begins in the arena.
    pub offset: usize,
    /// How it is initialised.
    pub init: Init,
    /// What it is to training.
    pub role: Role,
}

impl Tensor {
    /// The lengths of the axes.
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.size()).collect()
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.size()).product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its range in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// All tensors of a model, stored one after another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    /// The index in `tensors` of each name.
    indices: HashMap<String, usize>,
    /// The groups that keep all their units.
    fixed: BTreeSet<Arc<str>>,
    len: usize,
}

impl Layout {
    /// Appends a tensor.
    ///
    /// # Errors
    /// [`Error::Config`] if the name is taken, the tensor is too large to address, or `init` does not fit it.
    pub(crate) fn push(&mut self, name: String, axes: Vec<Axis>, init: Init) -> Result<()> {
        if self.get(&name).is_some() {
            return Err(Error::config(name, "found two tensors with this name, expected one"));
        }
        init.check(&name, &axes)?;
        let len = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.size()));
        let end = len.and_then(|n| n.checked_add(self.len)).filter(|&n| n <= isize::MAX as usize / 8);
        let Some(end) = end else {
            let shape: Vec<_> = axes.iter().map(|axis| axis.size()).collect();
            return Err(Error::config(
                name,
                format!("found shape {shape:?}, expected one that fits in memory"),
            ));
        };
        self.indices.insert(name.clone(), self.tensors.len());
        self.tensors.push(Tensor { name, axes, offset: self.len, init, role: Role::Weight });
        self.len = end;
        Ok(())
    }

    /// Appends a statistic.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub(crate) fn push_statistic(&mut self, name: String, axes: Vec<Axis>, init: Init) -> Result<()> {
        self.push(name, axes, init)?;
        self.tensors.iter_mut().next_back().into_iter().for_each(|tensor| tensor.role = Role::Statistic);
        Ok(())
    }

    /// The ranges of the statistics.
    pub(crate) fn statistics(&self) -> impl Iterator<Item = Range<usize>> {
        self.tensors.iter().filter(|tensor| tensor.role == Role::Statistic).map(Tensor::range)
    }

    /// The ranges of the statistics that lie within these.
    pub(crate) fn statistics_in(&self, ranges: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
        self.statistics().filter(|own| ranges.iter().any(|range| range.contains(&own.start)))
    }

    /// Says that the groups of these units keep all of them.
    pub(crate) fn fix(&mut self, units: &Axis) {
        self.fixed.extend(units.runs().iter().filter_map(|run| run.group.clone()));
    }

    /// Whether a group keeps all its units.
    pub(super) fn is_fixed(&self, group: &str) -> bool {
        self.fixed.contains(group)
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.indices.get(name).map(|&index| &self.tensors[index])
    }

    /// The number of values of all tensors together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
