//! Group lasso: units that little is read of die during training.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::unit_weights::UnitWeights;
use crate::params::Layout;
use crate::{Error, Real, Result};

/// A penalty λ Σ √n ‖w‖₂, summed over units, where w are the n weights by which a unit is read: by units of the layer above,
/// and by those of its own layer at the next step. It drives all weights of a unit to 0 together, and a unit that nothing
/// reads is cut by [`Model::compact`](crate::Model::compact).
///
/// It is applied by its proximal step, after the step of the optimizer with learning rate η:
///
/// w ← w · max(0, 1 − η λ √n / ‖w‖₂)
///
/// So weights become exactly 0, and an optimizer such as Adam, which would rescale the gradient of the penalty, does not see
/// it. A unit at 0 may still come to life again while it is trained; see [`Units`](crate::prune::Units) for
/// units that stay 0.
///
/// Each weight is in one group, so the step is exact. (The groups of Wen et al. also have the rows of a unit, and overlap.)
/// Frozen and pruned parameters stay as they are.
///
/// # Source
/// Yuan & Lin 2006, "Model selection and estimation in regression with grouped variables", for the penalty; Parikh & Boyd
/// 2014, "Proximal algorithms", section 6.5, for the step; Wen et al. 2018, "Learning intrinsic sparse structures within
/// long short-term memory", for units of LSTMs.
/// # Examples
/// ```
/// use bptt::train::GroupLasso;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let lasso = GroupLasso::new(0.02).only("lstm.*");
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).group_lasso(lasso);
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupLasso {
    lambda: f64,
    patterns: Vec<String>,
}

impl GroupLasso {
    /// A penalty of this weight λ.
    pub fn new(lambda: f64) -> Self {
        Self { lambda, patterns: Vec::new() }
    }

    /// Restricts the penalty to groups of units whose names match `pattern`, in which `*` matches any run of characters:
    /// `lstm.l0`, `lstm.*`. A second call adds others.
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// The weights of each unit, without those that are frozen.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is invalid, or a pattern fits no units.
    pub(super) fn groups(&self, layout: &Layout, frozen: &[Range<usize>]) -> Result<LassoGroups> {
        if !(0.0..f64::INFINITY).contains(&self.lambda) {
            let fault = format!("found {}, expected a number of at least 0", self.lambda);
            return Err(Error::config("lambda", fault));
        }
        let units = UnitWeights::of(layout, &self.patterns, frozen, "group_lasso")?;
        Ok(LassoGroups { lambda: self.lambda, units })
    }
}

/// The units that are penalised.
pub(super) struct LassoGroups {
    lambda: f64,
    units: UnitWeights,
}

impl LassoGroups {
    /// The proximal step, at learning rate `lr`.
    pub(super) fn shrink<R: Real>(&self, lr: f64, params: &mut [R]) {
        for weights in self.units.units() {
            let square = |&i: &usize| params[i].to_f64() * params[i].to_f64();
            let norm = weights.iter().map(square).sum::<f64>().sqrt();
            let threshold = lr * self.lambda * (weights.len() as f64).sqrt();
            if norm <= threshold {
                weights.iter().for_each(|&i| params[i] = R::ZERO);
            } else {
                let factor = R::from_f64(1.0 - threshold / norm);
                weights.iter().for_each(|&i| params[i] *= factor);
            }
        }
    }

    /// The groups of a smaller model: for each of its parameters, `from` has the index in the larger one.
    pub(super) fn take(&mut self, from: &[usize]) {
        self.units.take(from);
    }
}
