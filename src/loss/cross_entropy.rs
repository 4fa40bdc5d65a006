//! Softmax cross-entropy.

use super::{Loss, Tally, Targets};
use crate::data::TargetShape;
use crate::nn::MAX_LANES;
use crate::{Error, Real, Result, Seq, SeqMut, Shape};

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
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    weight: Vec<f64>,
    label_smoothing: f64,
    ignore_index: i64,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { weight: Vec::new(), label_smoothing: 0.0, ignore_index: -100 }
    }
}

impl CrossEntropy {
    /// A weight for each class; 1 by default.
    pub fn weight(mut self, weight: impl Into<Vec<f64>>) -> Self {
        self.weight = weight.into();
        self
    }

    /// ε: the share of the target that is spread over all classes; 0 by default.
    pub fn label_smoothing(mut self, label_smoothing: f64) -> Self {
        self.label_smoothing = label_smoothing;
        self
    }

    /// The class that stands for "no target here": neither loss nor gradient; −100 by default.
    pub fn ignore_index(mut self, ignore_index: i64) -> Self {
        self.ignore_index = ignore_index;
        self
    }

    /// The class that is ignored.
    pub fn ignored(&self) -> i64 {
        self.ignore_index
    }

    fn weight_of(&self, class: usize) -> f64 {
        self.weight.get(class).copied().unwrap_or(1.0)
    }
}

impl<R: Real> Loss<R> for CrossEntropy {
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        if targets != (TargetShape::Classes { t: output.t }) {
            let expected = format!("a class for each of the {} steps of an output {output}", output.t);
            return Err(Error::mismatch("cross-entropy: targets", format!("{targets:?}"), expected));
        }
        if !self.weight.is_empty() && self.weight.len() != output.f {
            let found = format!("{} weights", self.weight.len());
            return Err(Error::mismatch("cross-entropy: weight", found, format!("{} classes", output.f)));
        }
        if let Some(w) = self.weight.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
            return Err(Error::config("weight", format!("found {w}, expected numbers from 0 on")));
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let fault = format!("found {}, expected a number from 0 to 1", self.label_smoothing);
            return Err(Error::config("label_smoothing", fault));
        }
        Ok(())
    }

    fn tile(&self, y: Seq<'_, R>, targets: Targets<'_, R>, valid: usize, mut dy: SeqMut<'_, R>) -> Tally {
        let Targets::Classes(classes) = targets else { panic!("cross-entropy takes classes, not values") };
        let (c, lanes, smoothing) = (y.shape.f, y.lanes, self.label_smoothing);
        let weight_sum: f64 = (0..c).map(|j| self.weight_of(j)).sum();
        let mut sum_max = [R::ZERO; 2 * MAX_LANES];
        let mut tally = Tally::default();
        for t in 0..y.shape.t {
            let (y, dy) = (y.step(t), dy.step(t));
            R::softmax(y, dy, &mut sum_max[..2 * lanes], lanes);
            for lane in 0..lanes {
                let class = if lane < valid { classes[t * lanes + lane] } else { self.ignore_index };
                if class == self.ignore_index {
                    (0..c).for_each(|j| dy[j * lanes + lane] = R::ZERO);
                    continue;
                }
                let class = class as usize;
                assert!(class < c, "found class {class}, expected one of {c}");
                let log_sum = sum_max[lane].ln() + sum_max[lanes + lane];
                let minus_log_p = |j: usize| (log_sum - y[j * lanes + lane]).to_f64();
                let own = (1.0 - smoothing) * self.weight_of(class);
                tally.loss += own * minus_log_p(class);
                tally.weight += self.weight_of(class);
                if smoothing > 0.0 {
                    let all: f64 = (0..c).map(|j| self.weight_of(j) * minus_log_p(j)).sum();
                    tally.loss += smoothing / c as f64 * all;
                }
                if smoothing > 0.0 || own != 1.0 {
                    let scale = own + smoothing / c as f64 * weight_sum;
                    for j in 0..c {
                        let even = smoothing / c as f64 * self.weight_of(j);
                        let p = &mut dy[j * lanes + lane];
                        *p = *p * R::from_f64(scale) - R::from_f64(even);
                    }
                }
                dy[class * lanes + lane] -= R::from_f64(own);
            }
        }
        tally
    }
}
