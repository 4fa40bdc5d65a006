//! Binary cross-entropy.

use serde::{Deserialize, Serialize};

use super::classes::check_weights;
use super::elementwise::{Elementwise, elementwise};
use crate::{Error, Result, Shape, math};

/// Cross-entropy between σ(y) and probabilities; PyTorch's `BCEWithLogitsLoss`, with its defaults.
///
/// loss = −w t ln σ(y) − (1 − t) ln σ(−y); dy = (1 − t) σ(y) − w t σ(−y), with a weight w for positive targets.
/// −ln σ(±y) = max(∓y, 0) + ln(1 + e^−|y|), in which nothing overflows and nothing cancels.
///
/// Targets are probabilities from 0 to 1, one per feature: classes that do not exclude each other. Runs and evaluations have
/// an accuracy: the share of values for which σ(y) is above the [threshold](Self::threshold) exactly where the target is above
/// 1/2.
///
/// Summed over all values that have a target and divided by their number. A target that is NaN counts as missing:
/// it adds neither loss nor gradient.
///
/// # Shapes
/// y `[T, F, B]`, targets `[T, F, B]`
/// # Source
/// Cox 1958.
/// # Examples
/// ```
/// use bptt::loss::{Loss, BceWithLogits, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // One value of two samples, in two lanes; a positive target counts three times.
/// let (shape, mut dy) = (Shape::new(1, 1), [0.0; 2]);
/// let (y, target) = ([0.0, 0.0f32], [0.0, 1.0]);
/// let targets = Targets::Values(Seq::new(&target, shape, 2));
/// let (y, dy_out, mut tallies) = (Seq::new(&y, shape, 2), SeqMut::new(&mut dy, shape, 2), [Tally::default(); 2]);
/// BceWithLogits::default().pos_weight([3.0]).tile(Tile::new(y, targets, 2, dy_out, &mut tallies));
/// let tally: Tally = tallies.into_iter().sum();
/// assert_eq!(tally.mean(), Some((1.0 + 3.0) * 2.0f64.ln() / 2.0));
/// assert_eq!(dy, [0.5, -1.5]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BceWithLogits {
    pos_weight: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
}

impl BceWithLogits {
    /// w: the weight of positive targets, one for each feature or one for all; 1 by default.
    pub fn pos_weight(mut self, pos_weight: impl Into<Vec<f64>>) -> Self {
        self.pos_weight = pos_weight.into();
        self
    }

    /// The probability, between 0 and 1, above which a value is predicted to be positive; 1/2 by default. Only the accuracy
    /// depends on it.
    pub fn threshold(mut self, probability: f64) -> Self {
        self.threshold = Some(probability);
        self
    }
}

impl Elementwise for BceWithLogits {
    const NAME: &'static str = "binary cross-entropy";

    fn check(&self, output: Shape) -> Result<()> {
        let count = self.pos_weight.len();
        if count > 1 && count != output.f {
            let expected = format!("1 or {}, as the output {output} has features", output.f);
            return Err(Error::mismatch(format!("{}: pos_weight", Self::NAME), count, expected));
        }
        if let Some(p) = self.threshold.filter(|p| !(*p > 0.0 && *p < 1.0)) {
            let fault = format!("found {p}, expected a probability between 0 and 1");
            return Err(Error::config("threshold", fault));
        }
        check_weights("pos_weight", &self.pos_weight)
    }

    fn threshold(&self) -> Option<f64> {
        Some(self.threshold.map_or(0.0, |p| math::ln(p / (1.0 - p))))
    }

    #[inline(always)]
    fn at(&self, feature: usize, y: f64, target: f64) -> (f64, f64) {
        let pos_weight = match self.pos_weight[..] {
            [] => 1.0,
            [all] => all,
            ref each => each[feature],
        };
        let (there, not) = (pos_weight * target, 1.0 - target);
        // σ(±y), and the part of −ln σ(±y) beyond max(∓y, 0), all computed from one exponential.
        let e = math::exp(-y.abs());
        let (near, far, rest) = (1.0 / (1.0 + e), e / (1.0 + e), math::ln_1p(e));
        let (p, q) = if y >= 0.0 { (near, far) } else { (far, near) };
        let value = there * ((-y).max(0.0) + rest) + not * (y.max(0.0) + rest);
        (value, not * p - there * q)
    }
}

elementwise!(BceWithLogits, f32, f64);
