//! The weighted mean instead of the mean.

use super::{Loss, Tile};
use crate::data::TargetShape;
use crate::{Description, Real, Result, Shape};

/// A loss whose mean counts each sample by its weight: Σ wᵢ lossᵢ / Σ wᵢ.
///
/// Without it, the weights of samples scale their losses and gradients, and the mean is over the number of samples:
/// Σ wᵢ lossᵢ / n. Where weights do not average 1, the weighted mean keeps the size of a step.
///
/// # Source
/// PyTorch divides by the sum of class weights in the same way; Keras's `sum_over_batch_size` is the mean without this.
/// # Examples
/// ```
/// use bptt::loss::{Mse, WeightedMean};
/// use bptt::{Trainer, optim::Adam};
///
/// let trainer: Trainer = Trainer::new(WeightedMean::new(Mse), Adam::new(1e-3));
/// # let _ = trainer;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct WeightedMean<L> {
    loss: L,
}

impl<L> WeightedMean<L> {
    /// The weighted mean of `loss`.
    pub fn new(loss: L) -> Self {
        Self { loss }
    }
}

impl<R: Real, L: Loss<R>> Loss<R> for WeightedMean<L> {
    fn describe(&self) -> Description {
        Description::new("WeightedMean", self.loss.describe())
    }

    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        self.loss.check(output, targets)
    }

    fn counts(&self, class: i64) -> bool {
        self.loss.counts(class)
    }

    fn threshold(&self) -> Option<f64> {
        self.loss.threshold()
    }

    fn weighted_mean(&self) -> bool {
        true
    }

    fn scratch(&self, output: Shape, targets: TargetShape) -> usize {
        self.loss.scratch(output, targets)
    }

    fn tile(&self, tile: Tile<'_, R>) {
        self.loss.tile(tile);
    }
}
