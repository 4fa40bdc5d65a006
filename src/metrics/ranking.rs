//! How well scores put one class before another, at every threshold at once.

use ndarray::{ArrayBase, Axis, Data, Dimension};

use super::scores::Rows;
use crate::{Error, Real, Result};

/// The area under the receiver operating characteristic: the probability that a random positive has a larger score than
/// a random negative, with equal scores counted half; scikit-learn's `roc_auc_score`.
///
/// `truth` says which samples are positive; the scores may be probabilities, logits, or anything else that grows with the
/// belief that a sample is positive.
///
/// # Errors
/// [`Error::Mismatch`] if the numbers of truths and scores differ, there is not at least one positive and one negative, or
/// a score is NaN.
///
/// # Examples
/// ```
/// use bptt::metrics::roc_auc;
///
/// assert_eq!(roc_auc([false, false, true, true], &[0.1, 0.4, 0.35, 0.8])?, 0.75);
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn roc_auc<'a, R: Real>(
    truth: impl IntoIterator<Item = bool>,
    scores: impl IntoIterator<Item = &'a R>,
) -> Result<f64> {
    let (steps, total) = steps("ROC-AUC", truth, scores)?;
    let [p, n] = total.map(|count| count as f64);
    if p == 0.0 || n == 0.0 {
        let found = format!("{p} positives and {n} negatives");
        return Err(Error::mismatch("ROC-AUC", found, "at least one of each"));
    }
    // Trapezoids: at each threshold, the new negatives times the mean of the positives before and after.
    let (mut area, mut before) = (0.0, 0.0);
    for [positives, negatives] in steps {
        area += negatives as f64 * (before + 0.5 * positives as f64);
        before += positives as f64;
    }
    Ok(area / (p * n))
}

/// The mean over all classes of [`roc_auc`] of the class against all others; scikit-learn's `roc_auc_score` with
/// `multi_class="ovr"`, `average="macro"`.
///
/// Classes and scores are as in [`log_loss`](super::log_loss), except that the scores need not be probabilities.
///
/// # Errors
/// As for [`roc_auc`], for each class; [`Error::Mismatch`] if a class is not one of the scores'.
///
/// # Examples
/// ```
/// use bptt::metrics::roc_auc_macro;
/// use ndarray::array;
///
/// let scores = array![[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]];
/// assert_eq!(roc_auc_macro([0, 1, 2], &scores)?, 1.0);
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn roc_auc_macro<R: Real, D: Dimension>(
    truth: impl IntoIterator<Item = impl TryInto<usize>>,
    scores: &ArrayBase<impl Data<Elem = R>, D>,
) -> Result<f64> {
    let rows = Rows::new("ROC-AUC", truth, scores)?;
    let classes = scores.len_of(Axis(scores.ndim() - 1));
    let mut sum = 0.0;
    for class in 0..classes {
        let of_class: Vec<R> = rows.iter().map(|(_, row)| row[class]).collect();
        sum += roc_auc(rows.iter().map(|(truth, _)| truth == class), &of_class)?;
    }
    Ok(sum / classes as f64)
}

/// The average precision: over falling thresholds, Σ (Rₖ − Rₖ₋₁) Pₖ with precision P and recall R; scikit-learn's
/// `average_precision_score`.
///
/// # Errors
/// [`Error::Mismatch`] if the numbers of truths and scores differ, there are no positives, or a score is NaN.
///
/// # Examples
/// ```
/// use bptt::metrics::average_precision;
///
/// let precision = average_precision([false, false, true, true], &[0.1, 0.4, 0.35, 0.8])?;
/// assert_eq!(precision, 0.5 * 1.0 + 0.5 * (2.0 / 3.0));
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn average_precision<'a, R: Real>(
    truth: impl IntoIterator<Item = bool>,
    scores: impl IntoIterator<Item = &'a R>,
) -> Result<f64> {
    let (steps, [total, _]) = steps("average precision", truth, scores)?;
    if total == 0 {
        return Err(Error::mismatch("average precision", "no positives", "at least one"));
    }
    let (mut sum, mut right, mut taken) = (0.0, 0, 0);
    for [positives, negatives] in steps {
        (right, taken) = (right + positives, taken + positives + negatives);
        sum += positives as f64 / total as f64 * (right as f64 / taken as f64);
    }
    Ok(sum)
}

/// How many positives and negatives have each score, from the largest score down, and how many there are in all.
fn steps<'a, R: Real>(
    what: &str,
    truth: impl IntoIterator<Item = bool>,
    scores: impl IntoIterator<Item = &'a R>,
) -> Result<(Vec<[u64; 2]>, [u64; 2])> {
    let truth: Vec<bool> = truth.into_iter().collect();
    let scores: Vec<f64> = scores.into_iter().map(|score| score.to_f64()).collect();
    if truth.len() != scores.len() {
        return Err(Error::mismatch(what, format!("{} scores", scores.len()), format!("{}", truth.len())));
    }
    if let Some(sample) = scores.iter().position(|score| score.is_nan()) {
        return Err(Error::mismatch(format!("{what}: score {sample}"), "NaN", "a number"));
    }
    let mut samples: Vec<_> = scores.into_iter().zip(truth).collect();
    samples.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    // As numbers, not as bits: 0 and −0 are equal.
    let counts = samples.chunk_by(|(a, _), (b, _)| a == b).map(|equal| {
        let positives = equal.iter().filter(|(_, positive)| *positive).count() as u64;
        [positives, equal.len() as u64 - positives]
    });
    let steps: Vec<_> = counts.collect();
    let total = steps.iter().fold([0; 2], |[p, n], [positives, negatives]| [p + positives, n + negatives]);
    Ok((steps, total))
}
