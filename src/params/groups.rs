//! The units of a layout, numbered.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Axis, Layout, Tensor};

/// A group of units: those of a layer, or of one direction of one layer of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitGroup {
    /// Its name, as in [`Run::group`](super::Run::group): `lstm.l0`, `lstm.l0_reverse`, `linear`.
    pub name: Arc<str>,
    /// The numbers of its units among those of all groups.
    pub units: Range<usize>,
    /// Whether it has to keep all its units, because something depends on all of them together: the model's output, or a
    /// normalisation.
    pub fixed: bool,
}

/// All groups of a layout, and the numbers of their units.
///
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
///
/// let model: Model = Model::builder(Shape::new(5, 3))
///     .layer("lstm", Lstm::new(4).layers(2).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let units = model.params().layout().units();
/// let groups: Vec<_> = units.groups().iter().map(|group| (&*group.name, group.units.len(), group.fixed)).collect();
/// assert_eq!(groups, [("lstm.l0", 4, false), ("lstm.l1", 4, false), ("linear", 2, true)]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct UnitGroups {
    groups: Vec<UnitGroup>,
    indices: HashMap<Arc<str>, usize>,
}

impl Layout {
    /// The groups of units, in the order in which tensors have them on their axes.
    pub fn units(&self) -> UnitGroups {
        let mut all = UnitGroups::default();
        for run in self.tensors().iter().flat_map(|tensor| &tensor.axes).flat_map(Axis::runs) {
            let Some(name) = run.group.as_ref().filter(|name| !all.indices.contains_key(*name)) else {
                continue;
            };
            let first = all.len();
            all.indices.insert(name.clone(), all.groups.len());
            all.groups.push(UnitGroup {
                name: name.clone(),
                units: first..first + run.units,
                fixed: self.is_fixed(name),
            });
        }
        all
    }
}

impl UnitGroups {
    /// The groups.
    pub fn groups(&self) -> &[UnitGroup] {
        &self.groups
    }

    /// The group with this name.
    pub fn get(&self, name: &str) -> Option<&UnitGroup> {
        self.indices.get(name).map(|&index| &self.groups[index])
    }

    /// The number of units of all groups.
    pub fn len(&self) -> usize {
        self.groups.last().map_or(0, |group| group.units.end)
    }

    /// Whether there are no units.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For each position on an axis, the number of its unit, and the block of its run; `None` where it is no unit.
    pub fn on(&self, axis: &Axis) -> Vec<Option<(usize, usize)>> {
        let mut places = Vec::with_capacity(axis.size());
        for run in axis.runs() {
            let group = run.group.as_deref().and_then(|name| self.get(name));
            for block in 0..run.blocks {
                places.extend((0..run.units).map(|i| group.map(|group| (group.units.start + i, block))));
            }
        }
        places
    }

    /// Calls `visit` for each parameter of a tensor and each of its axes on which it belongs to a unit: with the
    /// parameter's index in the arena, the axis, and the unit.
    pub fn visit(&self, tensor: &Tensor, mut visit: impl FnMut(usize, usize, usize)) {
        let len = tensor.len();
        let mut stride = len;
        for (a, axis) in tensor.axes.iter().enumerate() {
            let places = self.on(axis);
            stride /= places.len().max(1);
            for i in 0..len {
                if let Some((unit, _)) = places[i / stride % places.len()] {
                    visit(tensor.offset + i, a, unit);
                }
            }
        }
    }

    /// Calls `visit` for each weight by which one unit may read another: with its index in the arena, the reading unit, which
    /// is that of the first axis, and the unit that it reads.
    ///
    /// A tensor whose first axis has no units, such as an embedding's, has no such weights.
    pub fn visit_weights(&self, tensor: &Tensor, mut visit: impl FnMut(usize, usize, usize)) {
        let [first, others @ ..] = &tensor.axes[..] else { return };
        if others.is_empty() || first.runs().iter().all(|run| run.group.is_none()) {
            return;
        }
        let (readers, row) = (self.on(first), tensor.len() / first.size().max(1));
        self.visit(tensor, |i, axis, read| {
            if axis > 0
                && let Some((reader, _)) = readers[(i - tensor.offset) / row]
            {
                visit(i, reader, read);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;

    /// a.weight [2 · 2, 3], b.weight [1, 2 + 2] of two groups, embedding [5, 2]
    fn layout() -> Layout {
        let mut layout = Layout::default();
        let mut push = |name: &str, axes| layout.push(name.into(), axes, Init::Constant(0.0)).unwrap();
        push("a.weight", vec![Axis::units("a", 2, 2), 3.into()]);
        push("b.weight", vec![Axis::units("b", 1, 1), Axis::units("a", 2, 1).then(Axis::units("c", 2, 1))]);
        push("c.weight", vec![5.into(), Axis::units("c", 2, 1)]);
        layout.fix(&Axis::units("b", 1, 1));
        layout
    }

    #[test]
    fn each_group_once() {
        let units = layout().units();
        let found: Vec<_> = units.groups().iter().map(|g| (&*g.name, g.units.clone(), g.fixed)).collect();
        assert_eq!(found, [("a", 0..2, false), ("b", 2..3, true), ("c", 3..5, false)]);
        assert_eq!((units.len(), units.get("d")), (5, None));
    }

    #[test]
    fn who_reads_whom() {
        let (layout, mut weights, mut touched) = (layout(), Vec::new(), vec![0; 5]);
        let units = layout.units();
        for tensor in layout.tensors() {
            units.visit_weights(tensor, |i, reader, read| weights.push((i, reader, read)));
            units.visit(tensor, |_, _, unit| touched[unit] += 1);
        }
        assert_eq!(weights, [(12, 2, 0), (13, 2, 1), (14, 2, 3), (15, 2, 4)]);
        assert_eq!(touched, [6 + 1, 6 + 1, 4, 1 + 5, 1 + 5]);
        assert_eq!(units.on(&layout.tensors()[0].axes[0])[2], Some((0, 1)));
    }
}
