//! Softmax cross-entropy.

use serde::{Deserialize, Serialize};

use super::classes::ClassSettings;
use super::{Loss, Tile};
use crate::data::TargetShape;
use crate::shape::MAX_LANES;
use crate::{Description, Error, Real, Result, Shape};

/// Cross-entropy between softmax(y) and classes, by log-sum-exp; PyTorch's `CrossEntropyLoss`.
///
/// loss = −(1 − ε) w_c ln p_c − ε / C · Σⱼ wⱼ ln pⱼ with p = softmax(y), summed over samples and steps and divided by
/// Σ w_c; dy = ((1 − ε) w_c + ε / C · Σ w) p − (1 − ε) w_c onehot(c) − ε / C · w.
///
/// # Shapes
/// y `[T, C, B]`, a class for each of the `T` steps of each sample.
/// # Source
/// Szegedy et al. 2016, section 7, for label smoothing.
/// # Examples
/// ```
/// use bptt::loss::CrossEntropy;
///
/// let loss = CrossEntropy::default().label_smoothing(0.1).weight([1.0, 2.0, 1.0]);
/// assert_eq!(CrossEntropy::default().ignored(), -100);
/// # let _ = loss;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {
    #[serde(flatten)]
    classes: ClassSettings,
    label_smoothing: f64,
}

impl CrossEntropy {
    /// A weight for each class; 1 by default.
    pub fn weight(mut self, weight: impl Into<Vec<f64>>) -> Self {
        self.classes.weight = weight.into();
        self
    }

    /// ε: the share of the target that is spread over all classes; 0 by default.
    pub fn label_smoothing(mut self, label_smoothing: f64) -> Self {
        self.label_smoothing = label_smoothing;
        self
    }

    /// The class that means "no target here", which adds neither loss nor gradient; −100 by default.
    pub fn ignore_index(mut self, ignore_index: i64) -> Self {
        self.classes.ignore_index = ignore_index;
        self
    }

    /// The class that is ignored.
    pub fn ignored(&self) -> i64 {
        self.classes.ignore_index
    }
}

impl<R: Real> Loss<R> for CrossEntropy {
    fn describe(&self) -> Description {
        Description::new("CrossEntropy", self)
    }

    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        self.classes.check("cross-entropy", output, targets)?;
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let fault = format!("found {}, expected a number from 0 to 1", self.label_smoothing);
            return Err(Error::config("label_smoothing", fault));
        }
        Ok(())
    }

    fn counts(&self, class: i64) -> bool {
        class != self.classes.ignore_index
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let counts = tile.counted();
        let Tile { y, targets, mut dy, tallies, .. } = tile;
        let classes = targets.classes();
        let (c, lanes, smoothing) = (y.shape.f, y.lanes, self.label_smoothing);
        let weight_of = |class: usize| self.classes.weight_of(class);
        let weight_sum: f64 = (0..c).map(weight_of).sum();
        let mut sum_max = [R::ZERO; 2 * MAX_LANES];
        for t in 0..y.shape.t {
            let (y, dy) = (y.step(t), dy.step(t));
            R::softmax(y, dy, &mut sum_max[..2 * lanes], lanes);
            for (lane, class) in self.classes.each(&classes[t * lanes..][..lanes], |lane| counts(t, lane), c)
            {
                let Some(class) = class else {
                    (0..c).for_each(|j| dy[j * lanes + lane] = R::ZERO);
                    continue;
                };
                // −ln pⱼ = ln Σ e^(y − max) + (max − yⱼ): large logits cancel before they meet the logarithm.
                let (log_sum, max) = (sum_max[lane].ln(), sum_max[lanes + lane]);
                let minus_log_p = |j: usize| (log_sum + (max - y[j * lanes + lane])).to_f64();
                let own = (1.0 - smoothing) * weight_of(class);
                let tally = &mut tallies[lane];
                tally.loss += own * minus_log_p(class);
                tally.weight += weight_of(class);
                if smoothing > 0.0 {
                    let all: f64 = (0..c).map(|j| weight_of(j) * minus_log_p(j)).sum();
                    tally.loss += smoothing / c as f64 * all;
                }
                if smoothing > 0.0 || own != 1.0 {
                    let scale = own + smoothing / c as f64 * weight_sum;
                    for j in 0..c {
                        let even = smoothing / c as f64 * weight_of(j);
                        let p = &mut dy[j * lanes + lane];
                        *p = *p * R::from_f64(scale) - R::from_f64(even);
                    }
                }
                dy[class * lanes + lane] -= R::from_f64(own);
            }
        }
    }
}
