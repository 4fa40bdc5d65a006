//! Losses. Each hands out *unscaled* sums and their weight; the division happens once a step, over all tiles.

mod cross_entropy;

use std::fmt::Debug;

pub use cross_entropy::CrossEntropy;

use crate::data::TargetShape;
use crate::{Real, Result, Seq, SeqMut, Shape};

/// The targets of a tile.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a, R> {
    /// Classes, `[T, lanes]`.
    Classes(&'a [i64]),
    /// Values, `[T', F', lanes]`.
    Values(Seq<'a, R>),
}

/// A sum of losses and the weight to divide it by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Σ loss
    pub loss: f64,
    /// The denominator: samples, steps or values counted, each with its weight.
    pub weight: f64,
}

impl Tally {
    /// Σ loss / Σ weight: the mean that PyTorch's `reduction='mean'` gives; 0 where nothing was counted.
    pub fn mean(self) -> f64 {
        if self.weight == 0.0 { 0.0 } else { self.loss / self.weight }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.weight += other.weight;
    }
}

/// A loss over tiles of outputs and targets.
pub trait Loss<R: Real>: Debug + Send + Sync {
    /// Checks that outputs and targets of these shapes go together.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if they do not.
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()>;

    /// The sum of the losses of the first `valid` lanes, and its gradient by `y`, both unscaled.
    ///
    /// All of `dy` is overwritten; lanes from `valid` on become 0.
    fn tile(&self, y: Seq<'_, R>, targets: Targets<'_, R>, valid: usize, dy: SeqMut<'_, R>) -> Tally;
}
