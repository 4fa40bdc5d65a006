//! What the model made of each draw, for callbacks.

use crate::data::Batch;
use crate::math;

/// What the model made of one draw, just before the step that learned from it.
///
/// p = softmax(y) over the outputs, whatever the loss; y is the sample's class.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The loss, without the weight of the draw or the sample.
    pub loss: f64,
    /// The probability of the class, p_y.
    pub probability: f64,
    /// The margin, p_y − max p_j over the other classes: positive where the prediction is right, −1 to 1.
    pub margin: f64,
    /// The length of the error vector, ‖p − onehot(y)‖₂, 0 to √2.
    pub error: f64,
}

impl Outcome {
    /// The outcome of a draw with these outputs.
    ///
    /// All of it is computed here, in `f64` and in one order: only what asks for outcomes pays for them, and they are the
    /// same bits on every instruction set.
    pub(super) fn of(outputs: impl Iterator<Item = f64> + Clone, class: usize, loss: f64) -> Self {
        let max = outputs.clone().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut squares, mut own, mut other) = (0.0, 0.0, 0.0, 0.0_f64);
        for (j, y) in outputs.enumerate() {
            let e = math::exp(y - max);
            sum += e;
            if j == class {
                own = e;
            } else {
                squares += e * e;
                other = other.max(e);
            }
        }
        // 1 − p_y = Σ p_j over the others, which loses no digits where p_y is close to 1.
        let wrong = (sum - own) / sum;
        let error = (squares / (sum * sum) + wrong * wrong).sqrt();
        Self { loss, probability: own / sum, margin: (own - other) / sum, error }
    }

    /// All but the loss as numbers, for other ranks; of no outcome, NaN.
    pub(super) fn numbers(outcome: Option<Self>) -> [f64; 3] {
        outcome.map_or([f64::NAN; 3], |o| [o.probability, o.margin, o.error])
    }

    /// The outcome of these numbers and this loss.
    pub(super) fn from_numbers([probability, margin, error]: [f64; 3], loss: Option<f64>) -> Option<Self> {
        loss.filter(|_| !probability.is_nan()).map(|loss| Self { loss, probability, margin, error })
    }
}

/// Consecutive draws of an epoch that were trained on, for [`Callback::on_draws`](super::Callback::on_draws).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Drawn<'a> {
    /// The draws; not only those of one step.
    pub batch: Batch<'a>,
    /// What the model made of each; `None` where a sample has no class that counts.
    pub outcomes: &'a [Option<Outcome>],
    /// How many samples the dataset has.
    pub samples: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(outputs: &[f64], class: usize) -> Outcome {
        Outcome::of(outputs.iter().copied(), class, 0.5)
    }

    #[test]
    fn by_hand() {
        // p = 1/7, 2/7, 4/7.
        let outputs = [1.0, 2.0, 4.0].map(f64::ln);
        for (class, p, margin) in [(0, 1.0, -3.0), (1, 2.0, -2.0), (2, 4.0, 2.0)] {
            let found = of(&outputs, class);
            let squares: f64 = [1.0_f64, 2.0, 4.0]
                .iter()
                .enumerate()
                .map(|(j, q)| {
                    let e = q / 7.0 - if j == class { 1.0 } else { 0.0 };
                    e * e
                })
                .sum();
            for (found, expected) in
                [(found.probability, p / 7.0), (found.margin, margin / 7.0), (found.error, squares.sqrt())]
            {
                assert!((found - expected).abs() < 1e-15, "class {class}: {found}, expected {expected}");
            }
            assert_eq!(found.loss, 0.5);
        }
        // Neither overflow nor a loss of all digits.
        let sure = of(&[1000.0, 960.0], 0);
        assert_eq!((sure.probability, sure.margin), (1.0, 1.0));
        assert!(sure.error > 1e-18 && sure.error < 1e-16, "{}", sure.error);
        let single = of(&[3.0], 0);
        assert_eq!((single.probability, single.margin, single.error), (1.0, 1.0, 0.0));
    }

    #[test]
    fn numbers_and_back() {
        let outcome = of(&[0.3, -0.2], 1);
        let back = |outcome| Outcome::from_numbers(Outcome::numbers(outcome), Some(0.5));
        assert_eq!(back(Some(outcome)), Some(outcome));
        assert_eq!(back(None), None);
    }
}
