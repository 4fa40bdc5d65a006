//! The weights by which units are read.

use std::ops::Range;

use crate::params::{Layout, matches};
use crate::{Error, Result};

/// The weights by which each of some units is read: by units of the layer above, and by those of its own layer at the next
/// step. Each weight belongs to one unit.
pub(super) struct UnitWeights {
    /// Indices of parameters, unit after unit, ascending within a unit.
    indices: Vec<usize>,
    /// Where the weights of each unit end.
    ends: Vec<usize>,
}

impl UnitWeights {
    /// Those of the units whose groups' names match one of `patterns`, or of all if there is none, without those that are
    /// frozen. Units that cannot be cut are left out.
    ///
    /// # Errors
    /// [`Error::Config`] of the setting `what` if a pattern fits no units.
    pub(super) fn of(
        layout: &Layout,
        patterns: &[String],
        frozen: &[Range<usize>],
        what: &str,
    ) -> Result<Self> {
        let units = layout.units();
        let may = || units.groups().iter().filter(|group| !group.fixed);
        for pattern in patterns {
            if !may().any(|group| matches(pattern, &group.name)) {
                let names: Vec<_> = may().map(|group| &*group.name).collect();
                let fault = format!("found no units for `{pattern}`, expected one of {}", names.join(", "));
                return Err(Error::config(what, fault));
            }
        }
        let chosen = |name: &str| patterns.is_empty() || patterns.iter().any(|p| matches(p, name));
        let mut weights = vec![Vec::new(); units.len()];
        for tensor in layout.tensors() {
            units.visit_weights(tensor, |i, _, read| {
                if !frozen.iter().any(|range| range.contains(&i)) {
                    weights[read].push(i);
                }
            });
        }
        let mut all = Self { indices: Vec::new(), ends: Vec::new() };
        for unit in may().filter(|group| chosen(&group.name)).flat_map(|group| group.units.clone()) {
            all.indices.append(&mut weights[unit]);
            all.ends.push(all.indices.len());
        }
        Ok(all)
    }

    /// How many units there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many weights they have together.
    pub(super) fn weights(&self) -> usize {
        self.indices.len()
    }

    /// The weights of each unit.
    pub(super) fn units(&self) -> impl Iterator<Item = &[usize]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.indices[start..end])
    }

    /// Those of a smaller model: for each of its parameters, `from` has the index in the larger one.
    pub(super) fn take(&mut self, from: &[usize]) {
        let mut smaller = Self { indices: Vec::new(), ends: Vec::new() };
        for unit in self.units() {
            // Both are ascending.
            smaller.indices.extend(unit.iter().filter_map(|i| from.binary_search(i).ok()));
            if smaller.indices.len() > smaller.ends.last().copied().unwrap_or(0) {
                smaller.ends.push(smaller.indices.len());
            }
        }
        *self = smaller;
    }
}
