//! Negative log-likelihood.

use serde::{Deserialize, Serialize};

use super::classes::ClassSettings;
use super::{Loss, Tile};
use crate::data::TargetShape;
use crate::{Description, Real, Result, Shape};

/// Negative log-likelihood of classes under log-probabilities; PyTorch's `NLLLoss`, with its defaults.
///
/// loss = −w_c y_c, summed over samples and steps and divided by Σ w_c; dy = −w_c onehot(c).
///
/// y must be log-probabilities, as [`LogSoftmax`](crate::nn::LogSoftmax) returns them; for unnormalised outputs use
/// [`CrossEntropy`](crate::loss::CrossEntropy).
///
/// # Shapes
/// y `[T, C, B]`, a class for each of the `T` steps of each sample.
/// # Source
/// Bridle 1990.
/// # Examples
/// ```
/// use bptt::loss::{Loss, Nll, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // Two classes of one sample, in one lane.
/// let (shape, mut dy) = (Shape::new(1, 2), [0.0; 2]);
/// let y = [0.25f64.ln(), 0.75f64.ln()];
/// let (y, mut tallies) = (Seq::new(&y, shape, 1), [Tally::default()]);
/// Nll::default().tile(Tile::new(y, Targets::Classes(&[1]), 1, SeqMut::new(&mut dy, shape, 1), &mut tallies));
/// assert_eq!(tallies[0].mean(), Some(-0.75f64.ln()));
/// assert_eq!(dy, [0.0, -1.0]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nll {
    #[serde(flatten)]
    classes: ClassSettings,
}

impl Nll {
    /// A weight for each class; 1 by default.
    pub fn weight(mut self, weight: impl Into<Vec<f64>>) -> Self {
        self.classes.weight = weight.into();
        self
    }

    /// The class that means "no target here", which adds neither loss nor gradient; −100 by default.
    pub fn ignore_index(mut self, ignore_index: i64) -> Self {
        self.classes.ignore_index = ignore_index;
        self
    }
}

impl<R: Real> Loss<R> for Nll {
    fn describe(&self) -> Description {
        Description::new("Nll", self)
    }

    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        self.classes.check("negative log-likelihood", output, targets)
    }

    fn counts(&self, class: i64) -> bool {
        class != self.classes.ignore_index
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let counts = tile.counted();
        let Tile { y, targets, mut dy, tallies, .. } = tile;
        let (classes, lanes) = (targets.classes(), y.lanes);
        dy.data.fill(R::ZERO);
        for t in 0..y.shape.t {
            let (y, dy) = (y.step(t), dy.step(t));
            let classes = &classes[t * lanes..][..lanes];
            for (lane, class) in self.classes.each(classes, |lane| counts(t, lane), dy.len() / lanes) {
                let Some(class) = class else { continue };
                let weight = self.classes.weight_of(class);
                tallies[lane].loss -= weight * y[class * lanes + lane].to_f64();
                tallies[lane].weight += weight;
                dy[class * lanes + lane] = R::from_f64(-weight);
            }
        }
    }
}
