//! Training dynamics: what the model made of each sample in each epoch, and scores of samples computed from it.

mod file;
mod recorder;
mod report;

pub use recorder::RecordDynamics;
pub use report::DynamicsReport;

use super::Outcome;
use crate::{Error, Result};

/// The numbers of an [`Outcome`], in the order in which they are kept.
const NAMES: [&str; 4] = ["error", "loss", "margin", "probability"];
const ERROR: usize = 0;
const LOSS: usize = 1;
const MARGIN: usize = 2;
const PROBABILITY: usize = 3;

/// What a model made of each sample in each epoch of its training, in single precision, as [`RecordDynamics`] records it;
/// and scores of the samples, one number each, by which [`select_by`](crate::data::DatasetExt::select_by) chooses.
///
/// A sample that was drawn several times in an epoch has the last outcome, one that was not drawn has none, and if samples
/// are augmented, the outcomes are those of the augmented ones. With p_y the probability of a sample's class, T the epochs
/// in which it was drawn, and J a window of consecutive ones of these:
///
/// | score | large for | is |
/// |---|---|---|
/// | [`el2n`](Self::el2n) | hard samples | 1/T Σ ‖p − onehot(y)‖₂ |
/// | [`aum`](Self::aum) | easy samples | 1/T Σ (p_y − max p_j over the other classes) |
/// | [`forgetting`](Self::forgetting) | hard samples | how often a right prediction was followed by a wrong one |
/// | [`uncertainty`](Self::uncertainty) | uncertain samples | mean over the windows of sd(p_y) |
/// | [`dual`](Self::dual) | uncertain and hard samples | mean over the windows of sd(p_y) · (1 − mean(p_y)) |
///
/// Samples of wrong classes are among the hardest by each of these. The area under the margin tells them best: its
/// smallest values, below 0, belong to samples that the model took for another class in most epochs.
///
/// # Examples
/// ```
/// use bptt::data::{ByLoss, Coverage};
/// use bptt::prelude::*;
/// use bptt::train::RecordDynamics;
/// use bptt::ndarray::{Array1, Array3};
///
/// let x = Array3::from_shape_fn((60, 4, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 3.0 - t as f32 });
/// // Sample 8 has the wrong class.
/// let y = Array1::from_shape_fn(60, |i| if i == 8 { 1 } else { i % 2 });
/// let data = Arrays::classes(x, &y, ["up", "down"])?;
/// let mut model = Model::builder(data.shape())
///     .layer("lstm", Lstm::new(4).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let recorder = RecordDynamics::new();
/// Trainer::new(CrossEntropy::default(), Adam::new(0.02))
///     .epochs(20)
///     .batch_size(10)
///     .callback(recorder.clone())
///     .fit(&mut model, &data, None)?;
///
/// let dynamics = recorder.dynamics();
/// assert_eq!((dynamics.samples(), dynamics.epochs()), (60, 20));
/// println!("{}", dynamics.report(3)?);
/// assert_eq!(dynamics.report(3)?.mislabelled[0].0, 8);
///
/// let hardest = data.select_by(&ByLoss::hardest(0.5), &dynamics.el2n()?)?;
/// assert!(hardest.indices().contains(&8));
/// let covering = Coverage::share(0.5).cut(0.02, dynamics.aum()?);
/// assert!(!data.select_by(&covering, &dynamics.el2n()?)?.indices().contains(&8));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dynamics {
    samples: usize,
    /// For each of [`NAMES`], epoch after epoch, a value for each sample: NaN where it was not drawn.
    values: [Vec<f32>; 4],
}

impl Dynamics {
    /// How many samples the dataset has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// How many epochs were recorded.
    pub fn epochs(&self) -> usize {
        self.values[ERROR].len().checked_div(self.samples).unwrap_or(0)
    }

    /// What the model made of `sample` in `epoch`, counted from 1; `None` if it was not drawn or does not exist.
    pub fn outcome(&self, sample: usize, epoch: usize) -> Option<Outcome> {
        if sample >= self.samples || epoch == 0 {
            return None;
        }
        let value = |i: usize| Some(f64::from(*self.values[i].get((epoch - 1) * self.samples + sample)?));
        let numbers = [value(PROBABILITY)?, value(MARGIN)?, value(ERROR)?];
        Outcome::from_numbers(numbers, value(LOSS))
    }

    /// The first epochs alone: the scores of these are cheaper to come by, and some are better early.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are fewer.
    pub fn first(&self, epochs: usize) -> Result<Self> {
        if epochs > self.epochs() {
            let found = format!("{} epochs", self.epochs());
            return Err(Error::mismatch("dynamics", found, format!("at least {epochs}")));
        }
        let values = self.values.each_ref().map(|values| values[..epochs * self.samples].to_vec());
        Ok(Self { samples: self.samples, values })
    }

    /// EL2N, the mean length of the error vector: 1/T Σ ‖p − onehot(y)‖₂. Large for hard samples.
    ///
    /// The original is the mean over ten networks after a few epochs each; CCS sums the first ten epochs of one, as
    /// [`first`](Self::first) does here.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming a sample that was never drawn.
    ///
    /// # Source
    /// Paul, Ganguli & Dziugaite 2021, "Deep learning on a data diet", definition 2.2.
    pub fn el2n(&self) -> Result<Vec<f64>> {
        self.score(1, |sample| mean(self.series(ERROR, sample)))
    }

    /// The area under the margin: 1/T Σ (p_y − max p_j over the other classes). Small for hard samples and, below 0, for
    /// mislabelled ones.
    ///
    /// The original has logits; of probabilities, as in CCS, it is from −1 to 1.
    ///
    /// # Errors
    /// As for [`el2n`](Self::el2n).
    ///
    /// # Source
    /// Pleiss, Zhang, Elenberg & Weinberger 2020, "Identifying mislabeled data using the area under the margin ranking",
    /// section 3.
    pub fn aum(&self) -> Result<Vec<f64>> {
        self.score(1, |sample| mean(self.series(MARGIN, sample)))
    }

    /// Forgetting events: how often a right prediction was followed by a wrong one the next time that the sample was drawn.
    ///
    /// A sample that was never right counts as many as there are epochs, which is more than any other can have.
    ///
    /// # Errors
    /// As for [`el2n`](Self::el2n).
    ///
    /// # Source
    /// Toneva et al. 2019, "An empirical study of example forgetting during deep neural network learning", definition 2.1.
    pub fn forgetting(&self) -> Result<Vec<f64>> {
        self.score(1, |sample| {
            let (mut right, mut learned, mut events) = (false, false, 0);
            for margin in self.series(MARGIN, sample) {
                events += usize::from(right && margin <= 0.0);
                right = margin > 0.0;
                learned |= right;
            }
            (if learned { events } else { self.epochs() }) as f64
        })
    }

    /// The dynamic uncertainty, Dyn-Unc: the mean over all windows of `window` consecutive epochs of sd(p_y), with
    /// denominator `window` − 1. Large for samples that are neither easy nor mislabelled; 10 is usual.
    ///
    /// # Errors
    /// [`Error::Config`] if the window is less than 2; [`Error::Mismatch`] naming a sample that was drawn in fewer epochs.
    ///
    /// # Source
    /// He, Yang, Huang & Zhao 2024, "Large-scale dataset pruning with dynamic uncertainty", section 3.
    pub fn uncertainty(&self, window: usize) -> Result<Vec<f64>> {
        self.over_windows(window, |_, sd| sd)
    }

    /// The score of DUAL, uncertainty times difficulty: the mean over all windows of sd(p_y) · (1 − mean(p_y)).
    ///
    /// Uncertain samples show early that they are, so the [`first`](Self::first) epochs are enough: its authors use 30 of
    /// 200, with a window of 10. [`BetaSampling`](crate::data::BetaSampling) chooses by it.
    ///
    /// # Errors
    /// As for [`uncertainty`](Self::uncertainty).
    ///
    /// # Source
    /// Cho, Shin, Kang & Yun 2025, "Lightweight dataset pruning without full training via example difficulty and prediction
    /// uncertainty", section 3.
    pub fn dual(&self, window: usize) -> Result<Vec<f64>> {
        self.over_windows(window, |mean, sd| sd * (1.0 - mean))
    }

    /// The mean of p_y over the epochs.
    ///
    /// # Errors
    /// As for [`el2n`](Self::el2n).
    pub fn mean_probability(&self) -> Result<Vec<f64>> {
        self.score(1, |sample| mean(self.series(PROBABILITY, sample)))
    }

    /// The mean loss.
    ///
    /// # Errors
    /// As for [`el2n`](Self::el2n).
    pub fn mean_loss(&self) -> Result<Vec<f64>> {
        self.score(1, |sample| mean(self.series(LOSS, sample)))
    }

    /// The values of a sample in the epochs in which it was drawn.
    fn series(&self, name: usize, sample: usize) -> impl Iterator<Item = f64> + Clone {
        let values = self.values[name].iter().skip(sample).step_by(self.samples.max(1));
        values.filter(|value| !value.is_nan()).map(|&value| f64::from(value))
    }

    /// A score for each sample, all of which were drawn in at least so many epochs.
    fn score(&self, least: usize, score: impl Fn(usize) -> f64) -> Result<Vec<f64>> {
        let drawn = |sample: usize| self.series(ERROR, sample).count();
        if let Some((sample, drawn)) =
            (0..self.samples).map(|sample| (sample, drawn(sample))).find(|&(_, drawn)| drawn < least)
        {
            let found = format!("outcomes of sample {sample} in {drawn} epochs");
            return Err(Error::mismatch("dynamics", found, format!("in at least {least}")));
        }
        Ok((0..self.samples).map(score).collect())
    }

    /// The mean over all windows of a function of the mean and the sd of p_y in each.
    fn over_windows(&self, window: usize, of: impl Fn(f64, f64) -> f64) -> Result<Vec<f64>> {
        if window < 2 {
            return Err(Error::config("window", format!("found {window}, expected at least 2 epochs")));
        }
        self.score(window, |sample| {
            let p: Vec<f64> = self.series(PROBABILITY, sample).collect();
            mean(p.windows(window).map(|p| {
                let mean = mean(p.iter().copied());
                let squares: f64 = p.iter().map(|p| (p - mean) * (p - mean)).sum();
                of(mean, (squares / (window - 1) as f64).sqrt())
            }))
        })
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each sample, p_y in each epoch, of two classes; NaN where it was not drawn.
    pub(super) fn dynamics(samples: &[&[f32]]) -> Dynamics {
        let epochs = samples[0].len();
        let of = |value: fn(f32) -> f32| {
            (0..epochs).flat_map(|epoch| samples.iter().map(move |p| value(p[epoch]))).collect()
        };
        let values = [of(|p| (1.0 - p) * 2f32.sqrt()), of(|p| -p.ln()), of(|p| 2.0 * p - 1.0), of(|p| p)];
        Dynamics { samples: samples.len(), values }
    }

    const NAN: f32 = f32::NAN;

    #[test]
    fn scores_by_hand() {
        let dynamics = dynamics(&[
            &[0.75, 0.25, 0.75, 0.25],
            &[0.25, 0.25, 0.25, 0.25],
            &[0.25, 0.75, NAN, 0.25],
            &[0.75, 0.75, 1.0, 1.0],
        ]);
        assert_eq!((dynamics.samples(), dynamics.epochs()), (4, 4));
        assert_eq!(dynamics.forgetting().unwrap(), [2.0, 4.0, 1.0, 0.0]);
        assert_eq!(dynamics.aum().unwrap(), [0.0, -0.5, -0.5 / 3.0, 0.75]);
        assert_eq!(dynamics.mean_probability().unwrap(), [0.5, 0.25, 1.25 / 3.0, 0.875]);
        let el2n = dynamics.el2n().unwrap();
        let expected = [0.5, 0.75, 1.75 / 3.0, 0.125].map(|e: f64| e * 2f64.sqrt());
        assert!(el2n.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{el2n:?}");
        // Windows of two: sd = |a − b| / √2.
        let half = 0.5_f64 / 2f64.sqrt();
        let near = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?} {expected:?}");
        };
        near(dynamics.uncertainty(2).unwrap(), [half, 0.0, half, half / 2.0 / 3.0]);
        near(dynamics.dual(2).unwrap(), [half / 2.0, 0.0, half / 2.0, half / 2.0 * 0.125 / 3.0]);
        // One window of four epochs, of which a sample was drawn in three.
        assert_eq!(
            dynamics.dual(4).unwrap_err().to_string(),
            "dynamics: found outcomes of sample 2 in 3 epochs, expected in at least 4"
        );
        assert_eq!(
            dynamics.dual(1).unwrap_err().to_string(),
            "`window`: found 1, expected at least 2 epochs"
        );
    }

    #[test]
    fn parts_of_a_run() {
        let dynamics = dynamics(&[&[0.75, NAN], &[0.5, 0.25]]);
        let outcome = dynamics.outcome(1, 2).unwrap();
        assert_eq!((outcome.probability, outcome.margin), (0.25, -0.5));
        assert_eq!(
            [dynamics.outcome(0, 2), dynamics.outcome(0, 0), dynamics.outcome(2, 1), dynamics.outcome(0, 3)],
            [None; 4]
        );
        let first = dynamics.first(1).unwrap();
        assert_eq!((first.epochs(), first.mean_probability().unwrap()), (1, vec![0.75, 0.5]));
        assert_eq!(
            dynamics.first(3).unwrap_err().to_string(),
            "dynamics: found 2 epochs, expected at least 3"
        );
        let none = Dynamics::default();
        assert_eq!((none.epochs(), none.el2n().unwrap()), (0, vec![]));
    }
}
