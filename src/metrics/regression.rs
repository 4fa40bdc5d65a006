//! Errors of predicted real values, summed in f64. Slices and arrays of any shape are taken alike, by reference.

use crate::Real;

/// The mean absolute error, Σ |y − ŷ| / n.
///
/// `None` where there are no values: no error was made, but none was avoided either.
///
/// # Panics
/// If the numbers of values differ.
///
/// # Examples
/// ```
/// let error = bptt::metrics::mean_absolute_error(&[3.0, -0.5, 2.0, 7.0], &[2.5, 0.0, 2.0, 8.0]);
/// assert_eq!(error, Some(0.5));
/// ```
#[track_caller]
pub fn mean_absolute_error<'a, R: Real>(
    truth: impl IntoIterator<Item = &'a R>,
    predicted: impl IntoIterator<Item = &'a R>,
) -> Option<f64> {
    mean(residuals(&values(truth), &values(predicted)).map(f64::abs))
}

/// The root mean squared error, √(Σ (y − ŷ)² / n).
///
/// `None` where there are no values.
///
/// # Panics
/// If the numbers of values differ.
///
/// # Examples
/// ```
/// let error = bptt::metrics::root_mean_squared_error(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 8.0]);
/// assert_eq!(error, Some(2.0));
/// ```
#[track_caller]
pub fn root_mean_squared_error<'a, R: Real>(
    truth: impl IntoIterator<Item = &'a R>,
    predicted: impl IntoIterator<Item = &'a R>,
) -> Option<f64> {
    mean(residuals(&values(truth), &values(predicted)).map(|e| e * e)).map(f64::sqrt)
}

/// The coefficient of determination, R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)².
///
/// 1 is perfect, 0 is no better than the mean of the true values, and there is no lower bound. Where all true
/// values are the same it is 1 if every prediction is exact and 0 otherwise; for fewer than two values there is none. Both
/// are as in scikit-learn. Values of several outputs are treated as one list with one mean.
///
/// # Panics
/// If the numbers of values differ.
///
/// # Examples
/// ```
/// assert_eq!(bptt::metrics::r2(&[1.0, 2.0, 3.0], &[1.0, 2.0, 2.0]), Some(0.5));
/// ```
#[track_caller]
pub fn r2<'a, R: Real>(
    truth: impl IntoIterator<Item = &'a R>,
    predicted: impl IntoIterator<Item = &'a R>,
) -> Option<f64> {
    let (truth, predicted) = (values(truth), values(predicted));
    let residual: f64 = residuals(&truth, &predicted).map(|e| e * e).sum();
    let [first, rest @ ..] = &truth[..] else { return None };
    if rest.is_empty() {
        return None;
    }
    // A test of the values, not of their deviations: the rounded mean of equal values may differ from them.
    if rest.iter().all(|y| y == first) {
        return Some(match residual {
            0.0 => 1.0,
            r if r.is_nan() => r,
            _ => 0.0,
        });
    }
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let deviation: f64 = truth.iter().map(|y| (y - mean).powi(2)).sum();
    Some(1.0 - residual / deviation)
}

/// y − ŷ
#[track_caller]
fn residuals<'a>(truth: &'a [f64], predicted: &'a [f64]) -> impl ExactSizeIterator<Item = f64> + 'a {
    assert!(
        truth.len() == predicted.len(),
        "{} true values, but {} predictions",
        truth.len(),
        predicted.len()
    );
    truth.iter().zip(predicted).map(|(y, p)| y - p)
}

fn values<'a, R: Real>(values: impl IntoIterator<Item = &'a R>) -> Vec<f64> {
    values.into_iter().map(|value| value.to_f64()).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| values.sum::<f64>() / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Residuals 0.5, −0.5, 0, −1; mean 2.875; squared deviations 0.015625, 11.390625, 0.765625, 17.015625.
    const TRUTH: [f32; 4] = [3.0, -0.5, 2.0, 7.0];
    const PREDICTED: [f32; 4] = [2.5, 0.0, 2.0, 8.0];

    #[test]
    fn by_hand() {
        assert_eq!(mean_absolute_error(&TRUTH, &PREDICTED), Some(0.5));
        assert_eq!(root_mean_squared_error(&TRUTH, &PREDICTED), Some(0.375_f64.sqrt()));
        approx::assert_abs_diff_eq!(r2(&TRUTH, &PREDICTED).unwrap(), 1.0 - 1.5 / 29.1875, epsilon = 1e-15);
    }

    #[test]
    fn worse_than_the_mean_is_negative() {
        assert_eq!(r2(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-3.0));
        assert_eq!(r2(&[1.0, 2.0, 3.0], &[2.0, 2.0, 2.0]), Some(0.0));
    }

    #[test]
    fn equal_true_values() {
        // 0.1 + 0.1 + 0.1 is not 0.3, so the deviations from the mean are not 0.
        assert_eq!(r2(&[0.1; 3], &[0.1; 3]), Some(1.0));
        assert_eq!(r2(&[0.1; 3], &[0.1, 0.1, 0.2]), Some(0.0));
        assert!(r2(&[0.1; 3], &[0.1, 0.1, f64::NAN]).unwrap().is_nan());
    }

    #[test]
    fn too_few_values() {
        assert_eq!(mean_absolute_error(&[0.0; 0], &[0.0; 0]), None);
        assert_eq!(root_mean_squared_error(&[0.0; 0], &[0.0; 0]), None);
        assert_eq!(r2(&[0.0; 0], &[0.0; 0]), None);
        assert_eq!(r2(&[1.0], &[1.0]), None);
    }

    #[test]
    fn differences_are_not_rounded_to_f32() {
        assert_eq!(mean_absolute_error(&[16_777_216.0_f32], &[0.5]), Some(16_777_215.5));
    }

    #[test]
    fn sums_do_not_lose_small_errors_in_f32() {
        let truth = vec![1.0_f32; 1 << 20];
        let predicted = vec![1.1_f32; 1 << 20];
        let each = f64::from(1.1_f32) - 1.0;
        approx::assert_relative_eq!(
            mean_absolute_error(&truth, &predicted).unwrap(),
            each,
            max_relative = 1e-10
        );
    }

    #[test]
    #[should_panic(expected = "2 true values, but 1 predictions")]
    fn lengths_that_differ() {
        r2(&[1.0, 2.0], &[1.0]);
    }
}
