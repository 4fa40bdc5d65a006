//! Losses. Each returns *unscaled* sums and their weight; the division is done once per step, over all tiles.
//!
//! So a mean does not depend on how a batch is cut into tiles, and a smaller last batch needs no special treatment. The
//! weight is what PyTorch's `reduction='mean'` divides by: the number of samples, steps or values that count, each with
//! the weight of its class if classes have weights. Weights of samples
//! ([`Dataset::weight`](crate::data::Dataset::weight)) are applied afterwards, in the same way for every loss.
//!
//! # How to write a loss
//!
//! Implement [`Loss`]: [`check`](Loss::check), which says which outputs and targets fit, and [`tile`](Loss::tile), which
//! works on a [`Tile`]: outputs `y`, `[T, F, lanes]`, their targets, and the buffers for the results.
//!
//! ```
//! use bptt::data::TargetShape;
//! use bptt::gradcheck::GradCheck;
//! use bptt::loss::{Loss, Tile};
//! use bptt::{Error, Real, Result, Shape};
//!
//! /// The negative log-likelihood of counts t under a Poisson distribution with mean e^y, without the term ln t!.
//! ///
//! /// loss = e^y − t y; dy = e^y − t
//! #[derive(Debug)]
//! struct Poisson;
//!
//! impl<R: Real> Loss<R> for Poisson {
//!     fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
//!         if targets == TargetShape::Values(output) {
//!             return Ok(());
//!         }
//!         Err(Error::mismatch("Poisson loss: targets", format!("{targets:?}"), format!("values {output}")))
//!     }
//!
//!     fn tile(&self, mut tile: Tile<'_, R>) {
//!         let (y, targets, counts) = (tile.y, tile.targets.values(), tile.counted());
//!         for t in 0..y.shape.t {
//!             let (y_t, target_t, dy_t) = (y.step(t), targets.step(t), tile.dy.step(t));
//!             for i in 0..y_t.len() {
//!                 let lane = i % y.lanes;
//!                 let (y, target) = (y_t[i].to_f64(), target_t[i].to_f64());
//!                 if !counts(t, lane) || target.is_nan() {
//!                     dy_t[i] = R::ZERO; // overwritten, everywhere
//!                     continue;
//!                 }
//!                 tile.tallies[lane].loss += y.exp() - target * y;
//!                 tile.tallies[lane].weight += 1.0;
//!                 dy_t[i] = R::from_f64(y.exp() - target);
//!             }
//!         }
//!     }
//! }
//!
//! let shape = Shape::new(2, 3);
//! GradCheck::default().loss(&Poisson, shape, TargetShape::Values(shape))?.assert_below(1e-6);
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! What a loss must keep:
//!
//! - All of `dy` is overwritten, with the gradient of the *sum* of losses, and with 0 where nothing counts. What counts is
//!   said by [`Tile::counted`] (pads, and steps after a sample's length, do not), by [`Loss::counts`] for classes, and by
//!   NaN for missing values.
//! - Each lane has its own [`Tally`], summed in an order that does not depend on other lanes, so that a sample's loss is the
//!   same in any batch.
//! - Sums are in f64. Large outputs must stay finite: ±1000 should not overflow.
//! - A loss of classes whose ignored class is not negative overrides [`Loss::counts`]; accuracies follow it.
//! - A loss of targets that are 0 and 1 has a [`Loss::threshold`], by which there is an accuracy.
//! - [`Loss::weighted_mean`] decides whether weights of samples enter the denominator; [`WeightedMean`] wraps any loss so
//!   that they do.
//!
//! [`Conform::loss`](crate::gradcheck::Conform::loss) checks all of it in one call.

mod bce_with_logits;
mod classes;
mod cross_entropy;
mod ctc;
mod ctc_decode;
mod elementwise;
mod huber;
mod l1;
mod mse;
mod multi_margin;
mod nll;
mod smooth_l1;
mod weighted_mean;

use std::fmt::Debug;

pub use bce_with_logits::BceWithLogits;
pub use cross_entropy::CrossEntropy;
pub use ctc::Ctc;
pub use huber::Huber;
pub use l1::L1;
pub use mse::Mse;
pub use multi_margin::MultiMargin;
pub use nll::Nll;
pub use smooth_l1::SmoothL1;
pub use weighted_mean::WeightedMean;

use crate::data::TargetShape;
use crate::{Description, Real, Result, Seq, SeqMut, Shape};

/// The targets of a tile.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Targets<'a, R> {
    /// Classes, `[T, lanes]`.
    Classes(&'a [i64]),
    /// Values, `[T', F', lanes]`.
    Values(Seq<'a, R>),
    /// Sequences of labels, `[most, lanes]`; what is negative comes after the last label.
    Labels(&'a [i64]),
}

impl<'a, R> Targets<'a, R> {
    /// The classes, `[T, lanes]`.
    ///
    /// # Panics
    /// If the targets are not classes.
    #[track_caller]
    pub fn classes(self) -> &'a [i64] {
        match self {
            Self::Classes(classes) => classes,
            other => panic!("found targets that are {}, expected classes", other.kind()),
        }
    }

    /// The values, `[T', F', lanes]`.
    ///
    /// # Panics
    /// If the targets are not values.
    #[track_caller]
    pub fn values(self) -> Seq<'a, R> {
        match self {
            Self::Values(values) => values,
            other => panic!("found targets that are {}, expected values", other.kind()),
        }
    }

    /// The sequences of labels, `[most, lanes]`.
    ///
    /// # Panics
    /// If the targets are not labels.
    #[track_caller]
    pub fn labels(self) -> &'a [i64] {
        match self {
            Self::Labels(labels) => labels,
            other => panic!("found targets that are {}, expected labels", other.kind()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Classes(_) => "classes",
            Self::Values(_) => "values",
            Self::Labels(_) => "labels",
        }
    }
}

/// A sum of losses and the weight to divide it by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Σ loss
    pub loss: f64,
    /// The denominator: samples, steps or values counted, each with its weight.
    pub weight: f64,
}

impl Tally {
    /// A sum of losses and its weight.
    pub const fn new(loss: f64, weight: f64) -> Self {
        Self { loss, weight }
    }

    /// Σ loss / Σ weight: the mean that PyTorch's `reduction='mean'` gives; `None` where nothing was counted.
    pub fn mean(self) -> Option<f64> {
        (self.weight != 0.0).then(|| self.loss / self.weight)
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        let mut sum = Self::default();
        tallies.for_each(|tally| sum += tally);
        sum
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.weight += other.weight;
    }
}

/// What a loss works on: the outputs and targets of a tile, and the buffers for its results.
///
/// Outside this crate, make one with [`new`](Tile::new).
#[derive(Debug)]
#[non_exhaustive]
pub struct Tile<'a, R> {
    /// The outputs, `[T, F, lanes]`.
    pub y: Seq<'a, R>,
    /// The targets.
    pub targets: Targets<'a, R>,
    /// How many lanes hold samples; the others are pads.
    pub valid: usize,
    /// The length of each sample's output, where any is shorter than T: steps beyond it do not count.
    pub lens: Option<&'a [u32]>,
    /// The buffer for the unscaled gradient with respect to `y`. All of it is overwritten.
    pub dy: SeqMut<'a, R>,
    /// One tally for each lane, 0 at first: the sample's sum of losses, and the weight to divide it by.
    pub tallies: &'a mut [Tally],
    /// Room for intermediate results, as much as [`Loss::scratch`] asks for, of arbitrary content at first.
    pub scratch: &'a mut [f64],
}

impl<'a, R> Tile<'a, R> {
    /// A tile whose first `valid` lanes hold samples of full length, without scratch.
    ///
    /// # Panics
    /// If there is not one tally for each lane.
    #[track_caller]
    pub fn new(
        y: Seq<'a, R>,
        targets: Targets<'a, R>,
        valid: usize,
        dy: SeqMut<'a, R>,
        tallies: &'a mut [Tally],
    ) -> Self {
        assert_eq!(tallies.len(), y.lanes, "one tally for each lane");
        Self { y, targets, valid, lens: None, dy, tallies, scratch: &mut [] }
    }

    /// Whether step `t` of a lane counts, as a function of step and lane: the lane holds a sample, and the step is within
    /// its length.
    pub fn counted(&self) -> impl Fn(usize, usize) -> bool + Copy + use<'a, R> {
        let (valid, lens) = (self.valid, self.lens);
        move |t, lane| lane < valid && lens.is_none_or(|lens| t < lens[lane] as usize)
    }
}

/// A loss over tiles of outputs and targets.
///
/// A loss need not know the weights of samples: they scale its tallies and gradients afterwards, in the same way for
/// every loss; see [`Dataset::weight`](crate::data::Dataset::weight).
///
/// # Examples
/// A custom loss, half the squared error, and the check of its gradient:
/// ```
/// use bptt::data::TargetShape;
/// use bptt::gradcheck::GradCheck;
/// use bptt::loss::{Loss, Tile};
/// use bptt::{Real, Result, Shape};
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
///     fn tile(&self, mut tile: Tile<'_, R>) {
///         let (y, target, counts) = (tile.y, tile.targets.values(), tile.counted());
///         // `[T, F, lanes]`: the last axis holds the samples.
///         for (i, dy) in tile.dy.data.iter_mut().enumerate() {
///             let (t, lane) = (i / (y.shape.f * y.lanes), i % y.lanes);
///             // A target that is NaN counts as missing.
///             if !counts(t, lane) || target.data[i] != target.data[i] {
///                 *dy = R::ZERO;
///                 continue;
///             }
///             *dy = y.data[i] - target.data[i];
///             tile.tallies[lane].loss += 0.5 * dy.to_f64().powi(2);
///             tile.tallies[lane].weight += 1.0;
///         }
///     }
/// }
/// let shape = Shape::new(2, 3);
/// GradCheck::default().loss(&HalfSquare, shape, TargetShape::Values(shape))?.assert_below(1e-6);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Loss<R: Real>: Debug + Send + Sync {
    /// Checks that outputs and targets of these shapes fit each other.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if they do not.
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()>;

    /// The kind and settings, by which a run that is [resumed](crate::Trainer::resume) is known to be the same; by default
    /// what `Debug` prints.
    fn describe(&self) -> Description {
        Description::debug(self)
    }

    /// Whether a target of this class counts, in the loss and in the accuracy: by default every class that is not
    /// negative.
    fn counts(&self, class: i64) -> bool {
        class >= 0
    }

    /// The output above which a value counts as positive, for losses whose targets are 0 and 1: then runs and evaluations have
    /// an accuracy, over all values that have a target (positive above 1/2). By default there is none.
    fn threshold(&self) -> Option<f64> {
        None
    }

    /// Whether the mean is weighted, Σ wᵢ lossᵢ / Σ wᵢ, where samples have weights; by default it is
    /// Σ wᵢ lossᵢ / Σ 1, as for PyTorch's losses with `reduction='none'`, weighted and averaged by hand. See
    /// [`WeightedMean`].
    fn weighted_mean(&self) -> bool {
        false
    }

    /// How many values of [`Tile::scratch`] a tile of these shapes needs, at any number of lanes; none by default.
    fn scratch(&self, output: Shape, targets: TargetShape) -> usize {
        let _ = (output, targets);
        0
    }

    /// The sum of the losses of each lane, and the gradient with respect to `y`, both unscaled.
    ///
    /// All of `dy` is overwritten. It is 0 wherever there is no target: in lane `valid` and above, beyond a sample's
    /// length, for a class that does not [count](Self::counts), and for a value that is NaN.
    ///
    /// # Panics
    /// If the targets are not accepted by [`check`](Self::check), or a class that counts is not one of the output's.
    fn tile(&self, tile: Tile<'_, R>);
}

/// Whether there is an accuracy of targets of this shape.
pub(crate) fn has_accuracy<R: Real>(loss: Option<&dyn Loss<R>>, targets: TargetShape) -> bool {
    match targets {
        TargetShape::Classes { .. } => true,
        TargetShape::Values(_) => loss.is_some_and(|loss| loss.threshold().is_some()),
        TargetShape::Labels { .. } | TargetShape::None => false,
    }
}

/// Computes a loss over a tile and its gradient, and applies the samples' weights to both; `tile.tallies` keep the loss of
/// each sample, unweighted.
pub(crate) fn measure<R: Real>(loss: &dyn Loss<R>, tile: Tile<'_, R>, weights: Option<&[f64]>) -> Tally {
    let Tile { y, targets, valid, lens, dy, tallies, scratch } = tile;
    tallies.fill(Tally::default());
    let (shape, lanes) = (dy.shape, dy.lanes);
    let place = SeqMut { data: &mut *dy.data, shape, lanes };
    loss.tile(Tile { y, targets, valid, lens, dy: place, tallies: &mut *tallies, scratch });
    let Some(weights) = weights else { return tallies[..valid].iter().copied().sum() };
    for row in dy.data.chunks_exact_mut(lanes) {
        row.iter_mut().zip(weights).for_each(|(dy, &weight)| *dy *= R::from_f64(weight));
    }
    let counted = |weight: f64| if loss.weighted_mean() { weight } else { 1.0 };
    let weighted = tallies[..valid]
        .iter()
        .zip(weights)
        .map(|(tally, &weight)| Tally { loss: weight * tally.loss, weight: counted(weight) * tally.weight });
    weighted.sum()
}
