//! What the losses over classes share.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::TargetShape;
use crate::{Error, Result, Shape};

/// A weight for each class, and the class that means "no target here".
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ClassSettings {
    /// One for each class, or none: then each counts 1.
    pub weight: Vec<f64>,
    pub ignore_index: i64,
}

/// Prints the name that the type had in earlier versions, because files of runs contain and compare this text.
impl fmt::Debug for ClassSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weight, ignore_index } = self;
        f.debug_struct("Classes").field("weight", weight).field("ignore_index", ignore_index).finish()
    }
}

impl Default for ClassSettings {
    fn default() -> Self {
        Self { weight: Vec::new(), ignore_index: -100 }
    }
}

impl ClassSettings {
    pub fn weight_of(&self, class: usize) -> f64 {
        self.weight.get(class).copied().unwrap_or(1.0)
    }

    /// Checks that each step of the output has a class as its target, and each class a weight.
    pub fn check(&self, loss: &str, output: Shape, targets: TargetShape) -> Result<()> {
        if targets != (TargetShape::Classes { t: output.t }) {
            let expected = format!("a class for each of the {} steps of an output {output}", output.t);
            return Err(Error::mismatch(format!("{loss}: targets"), format!("{targets:?}"), expected));
        }
        if !self.weight.is_empty() && self.weight.len() != output.f {
            let found = format!("{} weights", self.weight.len());
            return Err(Error::mismatch(format!("{loss}: weight"), found, format!("{} classes", output.f)));
        }
        check_weights("weight", &self.weight)
    }

    /// Each lane of a step whose targets are `classes`, with its class, which is below `c`; with `None` where the lane
    /// does not count or its class is the ignored one.
    ///
    /// # Panics
    /// If a class that counts is neither below `c` nor the ignored one.
    pub fn each<'a, F: Fn(usize) -> bool + 'a>(
        &self,
        classes: &'a [i64],
        counts: F,
        c: usize,
    ) -> impl Iterator<Item = (usize, Option<usize>)> + use<'a, F> {
        let ignored = self.ignore_index;
        classes.iter().enumerate().map(move |(lane, &class)| {
            if class == ignored || !counts(lane) {
                return (lane, None);
            }
            let index = usize::try_from(class).ok().filter(|&index| index < c);
            (lane, Some(index.unwrap_or_else(|| panic!("found class {class}, expected one of {c}"))))
        })
    }
}

/// Checks that weights are finite and not negative.
pub(super) fn check_weights(field: &str, weights: &[f64]) -> Result<()> {
    match weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        Some(w) => Err(Error::config(field, format!("found {w}, expected numbers of at least 0"))),
        None => Ok(()),
    }
}
