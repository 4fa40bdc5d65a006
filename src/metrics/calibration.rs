//! Whether probabilities are what they say.

use ndarray::{Array, ArrayBase, ArrayView1, Axis, Data, Dimension};

use super::scores::Rows;
use crate::math::{exp, ln};
use crate::{Error, Real, Result};

/// The reliability curve: samples in bins of equal width by their predicted probability, with the share that was right in
/// each; scikit-learn's `calibration_curve`.
///
/// A probability on the border of two bins is in the lower one.
///
/// # Examples
/// ```
/// use bptt::metrics::Calibration;
///
/// let calibration = Calibration::new([false, true, true, true], &[0.2, 0.4, 0.9, 0.7], 2)?;
/// let [low, high] = calibration.bins() else { panic!("two bins") };
/// assert_eq!((low.count, low.share), (2, Some(0.5)));
/// assert_eq!((high.count, high.probability), (2, Some(0.8)));
/// // 2/4 · |0.5 − 0.3| + 2/4 · |1 − 0.8|
/// assert!((calibration.expected_error() - 0.2).abs() < 1e-12);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    bins: Vec<CalibrationBin>,
}

/// The samples whose predicted probability is in one bin of a [`Calibration`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CalibrationBin {
    /// How many samples there are.
    pub count: u64,
    /// The mean of their predicted probabilities; `None` if there are none.
    pub probability: Option<f64>,
    /// The share that is positive, or was predicted correctly; `None` if there are none.
    pub share: Option<f64>,
}

impl Calibration {
    /// The calibration of the probabilities of one class: `truth` says which samples are positive.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no bins; [`Error::Mismatch`] if the numbers of truths and probabilities differ or are
    /// 0, or a probability is not from 0 to 1.
    pub fn new<'a, R: Real>(
        truth: impl IntoIterator<Item = bool>,
        probabilities: impl IntoIterator<Item = &'a R>,
        bins: usize,
    ) -> Result<Self> {
        let truth: Vec<bool> = truth.into_iter().collect();
        let probabilities: Vec<f64> = probabilities.into_iter().map(|p| p.to_f64()).collect();
        if truth.len() != probabilities.len() || truth.is_empty() {
            let found = format!("{} probabilities of {} samples", probabilities.len(), truth.len());
            return Err(Error::mismatch("calibration", found, "one for each, and at least one"));
        }
        if let Some(p) = probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(Error::mismatch("calibration", p, "a probability, from 0 to 1"));
        }
        Self::of_samples(probabilities.into_iter().zip(truth), bins)
    }

    /// The calibration of a classifier: the largest probability of each row, and whether its class is the true one.
    ///
    /// Classes and probabilities are as in [`log_loss`](super::log_loss).
    ///
    /// # Errors
    /// [`Error::Config`] if there are no bins; [`Error::Mismatch`] as for [`log_loss`](super::log_loss).
    pub fn of_classes<R: Real, D: Dimension>(
        truth: impl IntoIterator<Item = impl TryInto<usize>>,
        probabilities: &ArrayBase<impl Data<Elem = R>, D>,
        bins: usize,
    ) -> Result<Self> {
        let rows = Rows::new("calibration", truth, probabilities)?;
        rows.check_probabilities()?;
        let sample = |(class, row): (usize, ArrayView1<'_, R>)| {
            let (best, p) = row.iter().enumerate().fold((0, 0.0), |(best, largest), (i, p)| {
                if p.to_f64() > largest { (i, p.to_f64()) } else { (best, largest) }
            });
            (p, best == class)
        };
        Self::of_samples(rows.iter().map(sample), bins)
    }

    fn of_samples(samples: impl Iterator<Item = (f64, bool)>, bins: usize) -> Result<Self> {
        if bins == 0 {
            return Err(Error::config("bins", "found 0, expected at least 1"));
        }
        // Samples, positives, and the sum of probabilities of each bin.
        let mut sums = vec![(0_u64, 0_u64, 0.0); bins];
        for (p, positive) in samples {
            let bin = ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            let (count, positives, sum) = &mut sums[bin];
            (*count, *positives, *sum) = (*count + 1, *positives + u64::from(positive), *sum + p);
        }
        let bin = |(count, positives, sum): (u64, u64, f64)| {
            let mean = |sum: f64| (count > 0).then(|| sum / count as f64);
            CalibrationBin { count, probability: mean(sum), share: mean(positives as f64) }
        };
        Ok(Self { bins: sums.into_iter().map(bin).collect() })
    }

    /// The bins, from 0 to 1, including the empty ones.
    pub fn bins(&self) -> &[CalibrationBin] {
        &self.bins
    }

    /// The expected calibration error: the mean over the samples of |share − probability| of their bins.
    ///
    /// # Source
    /// Naeini, Cooper & Hauskrecht 2015.
    pub fn expected_error(&self) -> f64 {
        let total: u64 = self.bins.iter().map(|bin| bin.count).sum();
        self.errors().map(|(count, error)| count as f64 / total as f64 * error).sum()
    }

    /// The largest |share − probability| of any bin.
    pub fn largest_error(&self) -> f64 {
        self.errors().fold(0.0, |largest, (_, error)| error.max(largest))
    }

    /// Of each bin that is not empty, how many samples it has and |share − probability|.
    fn errors(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let error = |bin: &CalibrationBin| Some((bin.count, (bin.share? - bin.probability?).abs()));
        self.bins.iter().filter_map(error)
    }
}

/// A temperature: one number by which all outputs are divided, so that the probabilities of a classifier become better
/// calibrated, and no prediction changes.
///
/// Fit it on samples that the model was not trained on.
///
/// # Source
/// Guo et al. 2017, section 4.2.
/// # Examples
/// ```
/// use bptt::metrics::Temperature;
/// use ndarray::array;
///
/// // Right three times of four, but always certain.
/// let logits = array![[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 0.0]];
/// let temperature = Temperature::fit([0, 0, 1, 1], &logits)?;
/// // e^(9 / T) / (e^(9 / T) + 1) = 3/4
/// assert!((temperature.value() - 9.0 / 3_f64.ln()).abs() < 1e-9);
/// assert!((temperature.probabilities(&logits)[[0, 0]] - 0.75_f64).abs() < 1e-9);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature(f64);

impl Temperature {
    /// The temperature with the least log loss. `logits` are the outputs of a model,
    /// [`predict`](crate::Model::predict); classes and logits are as in [`log_loss`](super::log_loss).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if classes and logits do not fit each other, a logit is not finite, or no temperature is the
    /// best: the true class always has the largest logit, or the logits say nothing about the classes.
    pub fn fit<R: Real, D: Dimension>(
        truth: impl IntoIterator<Item = impl TryInto<usize>>,
        logits: &ArrayBase<impl Data<Elem = R>, D>,
    ) -> Result<Self> {
        let rows = Rows::new("temperature", truth, logits)?;
        rows.check("a finite number", f64::is_finite)?;
        let none = |found| Error::mismatch("temperature", found, "some that are, and some that are not");
        // The log loss is convex in β = 1 / T: look for the zero of its slope between `low` and `high`.
        let (mut low, mut high) = (0.0, 1.0);
        if slope(&rows, 0.0).0 >= 0.0 {
            return Err(none("logits that are no larger for the true classes than for others"));
        }
        if rows.iter().all(|(class, row)| row.iter().all(|&other| other <= row[class])) {
            return Err(none("logits that are always largest for the true class"));
        }
        while slope(&rows, high).0 < 0.0 {
            (low, high) = (high, 2.0 * high);
        }
        let mut beta = 0.5 * (low + high);
        for _ in 0..100 {
            let (first, second) = slope(&rows, beta);
            if first < 0.0 {
                low = beta
            } else {
                high = beta
            }
            // Newton's step, or a bisection where it leaves the interval.
            let newton = beta - first / second;
            let next = if low < newton && newton < high { newton } else { 0.5 * (low + high) };
            let done = (next - beta).abs() <= 1e-14 * beta;
            beta = next;
            if done {
                break;
            }
        }
        Ok(Self(1.0 / beta))
    }

    /// T.
    pub fn value(self) -> f64 {
        self.0
    }

    /// softmax(y / T) over the last axis.
    pub fn probabilities<R: Real, D: Dimension>(
        self,
        logits: &ArrayBase<impl Data<Elem = R>, D>,
    ) -> Array<R, D> {
        let mut y = logits.mapv(|y| R::from_f64(y.to_f64() / self.0));
        let classes = Axis(y.ndim() - 1);
        for mut row in y.lanes_mut(classes) {
            let weights = log_sum_exp(row.iter().map(|y| y.to_f64()));
            row.mapv_inplace(|y| R::from_f64(exp(y.to_f64() - weights)));
        }
        y
    }
}

/// The first and second derivative of Σ (ln Σᵢ e^(β zᵢ) − β z_c) with respect to β.
fn slope<R: Real>(rows: &Rows<'_, R>, beta: f64) -> (f64, f64) {
    let (mut first, mut second) = (0.0, 0.0);
    for (class, row) in rows.iter() {
        let z = || row.iter().map(|z| z.to_f64());
        let total = log_sum_exp(z().map(|z| beta * z));
        let weighted = |power: i32| z().map(|z| exp(beta * z - total) * z.powi(power)).sum::<f64>();
        let mean = weighted(1);
        first += mean - row[class].to_f64();
        second += weighted(2) - mean * mean;
    }
    (first, second)
}

/// ln Σ e^y
fn log_sum_exp(y: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = y.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + ln(y.map(|y| exp(y - largest)).sum())
}
