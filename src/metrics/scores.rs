//! Measures of the scores or probabilities of all classes.

use ndarray::{ArrayBase, ArrayView1, Axis, Data, Dimension};

use crate::math::ln;
use crate::{Error, Real, Result};

/// The log loss: the mean of −ln p of the true classes; scikit-learn's `log_loss`.
///
/// The last axis of `probabilities` holds the classes, so that both `[n, C]` and what
/// [`predict_proba`](crate::Model::predict_proba) returns, `[n, T', C]`, fit; `truth` has one class for each row, in the same
/// order, as a whole number of any type. Rows whose class is negative do not count. Probabilities below the scalar type's
/// ε are taken as ε, and those above 1 − ε as 1 − ε.
///
/// # Errors
/// [`Error::Mismatch`] if there is not one class for each row, none counts, one is not among the columns, or a row's
/// probabilities are not from 0 to 1 or do not sum up to 1 within √ε.
///
/// # Examples
/// ```
/// use bptt::metrics::log_loss;
/// use ndarray::array;
///
/// let probabilities = array![[0.5, 0.5], [0.25, 0.75]];
/// let loss: f64 = log_loss([0, 1], &probabilities)?;
/// assert!((loss + (0.5_f64.ln() + 0.75_f64.ln()) / 2.0).abs() < 1e-15);
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn log_loss<R: Real, D: Dimension>(
    truth: impl IntoIterator<Item = impl TryInto<usize>>,
    probabilities: &ArrayBase<impl Data<Elem = R>, D>,
) -> Result<f64> {
    let rows = Rows::new("log loss", truth, probabilities)?;
    rows.check_probabilities()?;
    let epsilon = epsilon::<R>();
    let losses = rows.iter().map(|(class, row)| -ln(row[class].to_f64().clamp(epsilon, 1.0 - epsilon)));
    Ok(losses.sum::<f64>() / rows.len() as f64)
}

/// The share of samples whose class is among the `k` with the largest scores; scikit-learn's `top_k_accuracy_score`.
///
/// Classes and scores are as in [`log_loss`], except that the scores need not be probabilities. Of equal scores the first
/// is the larger, as in [`predict_classes`](crate::Model::predict_classes), so that `k` = 1 gives the accuracy.
///
/// # Errors
/// [`Error::Mismatch`] if there is not one class for each row, none counts, one is not among the columns, or a score is NaN.
///
/// # Examples
/// ```
/// use bptt::metrics::top_k_accuracy;
/// use ndarray::array;
///
/// let scores = array![[0.5, 0.2, 0.3], [0.1, 0.7, 0.2], [0.4, 0.3, 0.3]];
/// assert_eq!(top_k_accuracy([0, 2, 2], &scores, 2)?, 2.0 / 3.0);
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn top_k_accuracy<R: Real, D: Dimension>(
    truth: impl IntoIterator<Item = impl TryInto<usize>>,
    scores: &ArrayBase<impl Data<Elem = R>, D>,
    k: usize,
) -> Result<f64> {
    let rows = Rows::new("top-k accuracy", truth, scores)?;
    rows.check("a number", |score| !score.is_nan())?;
    let hit = |(class, row): &(usize, ArrayView1<'_, R>)| {
        let better =
            |(i, score): &(usize, &R)| **score > row[*class] || (**score == row[*class] && i < class);
        row.iter().enumerate().filter(better).count() < k
    };
    Ok(rows.iter().filter(hit).count() as f64 / rows.len() as f64)
}

/// Rows of scores, one score for each class, with the true class of each row; those without a class are left out.
#[derive(Debug)]
pub(super) struct Rows<'a, R> {
    what: &'a str,
    rows: Vec<(usize, ArrayView1<'a, R>)>,
}

impl<'a, R: Real> Rows<'a, R> {
    /// Checks that classes and scores fit each other, and that at least one counts. `what` is for errors.
    pub(super) fn new<D: Dimension>(
        what: &'a str,
        truth: impl IntoIterator<Item = impl TryInto<usize>>,
        scores: &'a ArrayBase<impl Data<Elem = R>, D>,
    ) -> Result<Self> {
        let truth: Vec<_> = truth.into_iter().map(|class| class.try_into().ok()).collect();
        let classes = scores.shape().last().copied().unwrap_or(0);
        let count = scores.len().checked_div(classes).unwrap_or(0);
        if truth.len() != count {
            return Err(Error::mismatch(
                what,
                format!("{} classes", truth.len()),
                format!("{count} rows of scores"),
            ));
        }
        if count == 0 {
            return Err(Error::mismatch(what, "no scores", "at least one row"));
        }
        let scores = scores.lanes(Axis(scores.ndim() - 1));
        let rows: Vec<_> =
            truth.into_iter().zip(scores).filter_map(|(class, row)| Some((class?, row))).collect();
        if let Some((class, _)) = rows.iter().find(|(class, _)| *class >= classes) {
            return Err(Error::mismatch(what, format!("class {class}"), format!("one of 0..{classes}")));
        }
        if rows.is_empty() {
            return Err(Error::mismatch(what, "no class that counts", "at least one"));
        }
        Ok(Self { what, rows })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The class and the scores of each row.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, ArrayView1<'a, R>)> + '_ {
        self.rows.iter().cloned()
    }

    /// Checks that every score of the rows that count is what is expected.
    pub(super) fn check(&self, expected: &str, fits: impl Fn(f64) -> bool) -> Result<()> {
        let all = || self.rows.iter().flat_map(|(_, row)| row);
        match all().find(|score| !fits(score.to_f64())) {
            Some(score) => Err(Error::mismatch(self.what, score, expected)),
            None => Ok(()),
        }
    }

    /// Checks that each row is a distribution.
    pub(super) fn check_probabilities(&self) -> Result<()> {
        self.check("a probability, from 0 to 1", |p| (0.0..=1.0).contains(&p))?;
        let sums = self.rows.iter().map(|(_, row)| row.iter().map(|p| p.to_f64()).sum::<f64>());
        match sums.into_iter().find(|sum| (sum - 1.0).abs() > epsilon::<R>().sqrt()) {
            Some(sum) => Err(Error::mismatch(
                self.what,
                format!("a row with the sum {sum}"),
                "probabilities, with the sum 1",
            )),
            None => Ok(()),
        }
    }
}

/// The distance from 1 to the next larger number.
fn epsilon<R: Real>() -> f64 {
    if R::DTYPE == safetensors::Dtype::F32 { f32::EPSILON.into() } else { f64::EPSILON }
}
