//! Negative log-likelihood.

use serde::{Deserialize, Serialize};

use super::classes::Classes;
use super::{Loss, Tally, Targets};
use crate::data::TargetShape;
use crate::{Real, Result, Seq, SeqMut, Shape};

/// Negative log-likelihood of classes under log-probabilities; PyTorch's `NLLLoss`, with its defaults.
///
/// loss = −w_c y_c, summed over samples and steps and divided by Σ w_c; dy = −w_c onehot(c).
///
/// y is to be log-probabilities, as a [`LogSoftmax`](crate::nn::LogSoftmax) hands them out; for plain outputs there
/// is [`CrossEntropy`](crate::loss::CrossEntropy).
///
/// # Shapes
/// y `[T, C, B]`, a class for each of the `T` steps of each sample.
/// # Source
/// Bridle 1990.
/// # Examples
/// ```
/// use bptt::loss::{Loss, Nll, Targets};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // Two classes of one sample, in one lane.
/// let (shape, mut dy) = (Shape::new(1, 2), [0.0; 2]);
/// let y = [0.25f64.ln(), 0.75f64.ln()];
/// let tally = Nll::default().tile(Seq::new(&y, shape, 1), Targets::Classes(&[1]), 1, SeqMut::new(&mut dy, shape, 1));
/// assert_eq!(tally.mean(), -0.75f64.ln());
/// assert_eq!(dy, [0.0, -1.0]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nll {
    #[serde(flatten)]
    classes: Classes,
}

impl Nll {
    /// A weight for each class; 1 by default.
    pub fn weight(mut self, weight: impl Into<Vec<f64>>) -> Self {
        self.classes.weight = weight.into();
        self
    }

    /// The class that stands for "no target here": neither loss nor gradient; −100 by default.
    pub fn ignore_index(mut self, ignore_index: i64) -> Self {
        self.classes.ignore_index = ignore_index;
        self
    }
}

impl<R: Real> Loss<R> for Nll {
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        self.classes.check("negative log-likelihood", output, targets)
    }

    fn tile(&self, y: Seq<'_, R>, targets: Targets<'_, R>, valid: usize, mut dy: SeqMut<'_, R>) -> Tally {
        let (classes, lanes) = (targets.classes(), y.lanes);
        let mut tally = Tally::default();
        dy.data.fill(R::ZERO);
        for t in 0..y.shape.t {
            let (y, dy) = (y.step(t), dy.step(t));
            for (lane, class) in self.classes.each(&classes[t * lanes..][..lanes], valid, dy.len() / lanes) {
                let Some(class) = class else { continue };
                let weight = self.classes.weight_of(class);
                tally.loss -= weight * y[class * lanes + lane].to_f64();
                tally.weight += weight;
                dy[class * lanes + lane] = R::from_f64(-weight);
            }
        }
        tally
    }
}
