//! Losses. Each hands out *unscaled* sums and their weight; the division happens once a step, over all tiles.

mod bce_with_logits;
mod classes;
mod cross_entropy;
mod elementwise;
mod huber;
mod l1;
mod mse;
mod multi_margin;
mod nll;
mod smooth_l1;

use std::fmt::Debug;

pub use bce_with_logits::BceWithLogits;
pub use cross_entropy::CrossEntropy;
pub use huber::Huber;
pub use l1::L1;
pub use mse::Mse;
pub use multi_margin::MultiMargin;
pub use nll::Nll;
pub use smooth_l1::SmoothL1;

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

impl<'a, R> Targets<'a, R> {
    /// The classes, `[T, lanes]`.
    ///
    /// # Panics
    /// If the targets are values.
    #[track_caller]
    pub fn classes(self) -> &'a [i64] {
        match self {
            Self::Classes(classes) => classes,
            Self::Values(_) => panic!("found targets that are values, expected classes"),
        }
    }

    /// The values, `[T', F', lanes]`.
    ///
    /// # Panics
    /// If the targets are classes.
    #[track_caller]
    pub fn values(self) -> Seq<'a, R> {
        match self {
            Self::Values(values) => values,
            Self::Classes(_) => panic!("found targets that are classes, expected values"),
        }
    }
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
///
/// # Examples
/// One of one's own, half the squared error, and the proof of its gradient:
/// ```
/// use bptt::data::TargetShape;
/// use bptt::gradcheck::GradCheck;
/// use bptt::loss::{Loss, Tally, Targets};
/// use bptt::{Real, Result, Seq, SeqMut, Shape};
///
/// #[derive(Debug)]
/// struct HalfSquare;
///
/// impl<R: Real> Loss<R> for HalfSquare {
///     fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
///         if targets == TargetShape::Values(output) {
///             return Ok(());
///         }
///         Err(bptt::Error::mismatch("targets", format!("{targets:?}"), format!("values {output}")))
///     }
///     fn tile(&self, y: Seq<'_, R>, targets: Targets<'_, R>, valid: usize, dy: SeqMut<'_, R>) -> Tally {
///         let Targets::Values(target) = targets else { panic!("values") };
///         let mut tally = Tally::default();
///         for (i, dy) in dy.data.iter_mut().enumerate() {
///             // The last axis holds the samples; those from `valid` on are pads.
///             *dy = if i % y.lanes < valid { y.data[i] - target.data[i] } else { R::ZERO };
///             tally.loss += 0.5 * dy.to_f64().powi(2);
///         }
///         tally.weight = (valid * y.shape.size()) as f64;
///         tally
///     }
/// }
/// let shape = Shape::new(2, 3);
/// GradCheck::default().loss(&HalfSquare, shape, TargetShape::Values(shape))?.assert_below(1e-6);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Loss<R: Real>: Debug + Send + Sync {
    /// Checks that outputs and targets of these shapes go together.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if they do not.
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()>;

    /// The sum of the losses of the first `valid` lanes, and its gradient by `y`, both unscaled.
    ///
    /// All of `dy` is overwritten; lanes from `valid` on become 0, and so does every place that has no target: a
    /// class that is ignored, or a value that is NaN.
    ///
    /// # Panics
    /// If the targets are none that [`check`](Self::check) lets pass, or a class is none of the output's.
    fn tile(&self, y: Seq<'_, R>, targets: Targets<'_, R>, valid: usize, dy: SeqMut<'_, R>) -> Tally;
}
