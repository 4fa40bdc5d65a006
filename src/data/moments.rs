//! Mean and standard deviation of a dataset's values.

use crate::data::{Dataset, Normalize, Sample, TargetShape};
use crate::{Error, Result, Scalar};

/// Mean and sum of squared deviations of each feature, over all steps of all samples.
#[derive(Debug)]
pub(super) struct Moments {
    /// The number of values of each feature.
    count: Vec<f64>,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Reads all of `data` once, in order, without padding, and accumulates in `f64`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no samples.
    ///
    /// # Source
    /// Welford 1962, "Note on a method for calculating corrected sums of squares and products".
    pub(super) fn of<D: Dataset + ?Sized>(data: &D) -> Result<Self> {
        let shape = data.shape();
        if data.is_empty() || shape.size() == 0 {
            let found = format!("{} samples of {shape}", data.len());
            return Err(Error::mismatch("mean and sd", found, "at least one value"));
        }
        let mut moments = Self::none(shape.f);
        let mut x = vec![D::Elem::ZERO; shape.size()];
        for index in 0..data.len() {
            let sample = Sample::plain(index);
            data.read(sample, &mut x);
            // Padding is no part of the data: its content, often 0, would shift the mean.
            let steps = data.length(sample).unwrap_or(shape.t);
            for step in x.chunks_exact(shape.f).take(steps) {
                step.iter().enumerate().for_each(|(feature, x)| moments.add(feature, x.to_f64()));
            }
        }
        Ok(moments)
    }

    /// As [`of`](Self::of), of targets that are values, where NaN is none: of each feature, or of all `together`, as if
    /// they were one.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the targets are not values, or a feature has none.
    pub(super) fn of_targets<D: Dataset + ?Sized>(data: &D, together: bool) -> Result<Self> {
        let TargetShape::Values(shape) = data.target_shape() else {
            return Err(Error::mismatch("targets", format!("{:?}", data.target_shape()), "values"));
        };
        let mut moments = Self::none(if together { 1 } else { shape.f });
        let mut y = vec![D::Elem::ZERO; shape.size()];
        for index in 0..data.len() {
            let sample = Sample::plain(index);
            data.values(sample, &mut y);
            // Where there is a target for each step, those of the padding do not count.
            let steps = data.length(sample).filter(|_| shape.t == data.shape().t).unwrap_or(shape.t);
            let values = y[..steps.min(shape.t) * shape.f].iter().map(|y| y.to_f64()).enumerate();
            for (i, y) in values.filter(|(_, y)| !y.is_nan()) {
                moments.add(if together { 0 } else { i % shape.f }, y);
            }
        }
        match moments.count.iter().position(|&count| count == 0.0) {
            None => Ok(moments),
            Some(feature) => {
                Err(Error::mismatch(format!("targets, feature {feature}"), "none", "at least one value"))
            }
        }
    }

    fn none(features: usize) -> Self {
        Self { count: vec![0.0; features], mean: vec![0.0; features], squares: vec![0.0; features] }
    }

    /// Adds one value of a feature.
    fn add(&mut self, feature: usize, x: f64) {
        let (mean, squares) = (&mut self.mean[feature], &mut self.squares[feature]);
        self.count[feature] += 1.0;
        let deviation = x - *mean;
        *mean += deviation * (1.0 / self.count[feature]);
        *squares += deviation * (x - *mean);
    }

    /// A mean and sd for each feature.
    ///
    /// # Errors
    /// [`Error::Config`] if a value is not finite, [`Error::Mismatch`] if a feature does not vary.
    pub(super) fn per_feature(&self) -> Result<Normalize> {
        if let Some(feature) = self.squares.iter().position(|&squares| squares == 0.0) {
            return Err(constant(&format!("feature {feature}"), self.mean[feature]));
        }
        let sd =
            self.squares.iter().zip(&self.count).map(|(squares, count)| (squares / count).sqrt()).collect();
        Normalize::per_feature(self.mean.clone(), sd)
    }

    /// One mean and sd for all features, of which there are as many values each, from the variation within and between them.
    ///
    /// # Errors
    /// [`Error::Config`] if a value is not finite, [`Error::Mismatch`] if all are the same.
    pub(super) fn scalar(&self) -> Result<Normalize> {
        let features = self.mean.len() as f64;
        // Deviations from the first mean, so that equal means have exactly that mean and no deviation.
        let first = self.mean[0];
        let mean = first + self.mean.iter().map(|m| m - first).sum::<f64>() / features;
        let within = self.squares.iter().sum::<f64>() / self.count[0];
        let between = self.mean.iter().map(|m| (m - mean).powi(2)).sum::<f64>();
        let variance = (within + between) / features;
        if variance == 0.0 {
            return Err(constant("values", mean));
        }
        Normalize::scalar(mean, variance.sqrt())
    }
}

fn constant(what: &str, value: f64) -> Error {
    Error::mismatch(what, format!("{value} everywhere"), "values that vary, to divide by their sd")
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::{Array3, array};

    use crate::data::{Arrays, DatasetExt, Images, fashion_mnist::tests::real};

    fn sequences(x: Array3<f64>) -> Arrays<f64> {
        let y = Array3::zeros((x.dim().0, 1, 1));
        Arrays::values(x, y).unwrap()
    }

    #[test]
    fn small_numbers_by_hand() {
        // Feature 0: 1, 3, 5, 7; feature 1: 0, 0, 0, 8.
        let data = sequences(array![[[1.0, 0.0], [3.0, 0.0]], [[5.0, 0.0], [7.0, 8.0]]]);
        let each = data.mean_sd_per_feature().unwrap();
        assert_abs_diff_eq!(each.mean(), &[4.0, 2.0][..], epsilon = 1e-14);
        assert_abs_diff_eq!(each.sd(), &[5.0_f64.sqrt(), 12.0_f64.sqrt()][..], epsilon = 1e-14);
        // All eight: mean 3, squared deviations 4 + 0 + 4 + 16 + 9 + 9 + 9 + 25.
        let one = data.mean_sd().unwrap();
        assert_abs_diff_eq!(one.mean(), &[3.0][..], epsilon = 1e-14);
        assert_abs_diff_eq!(one.sd(), &[9.5_f64.sqrt()][..], epsilon = 1e-14);
    }

    #[test]
    fn padding_does_not_count() {
        let x = array![[[1.0, 0.0], [3.0, 0.0]], [[5.0, 8.0], [-99.0, 99.0]]];
        let data = sequences(x).lengths([2, 1]).unwrap();
        let each = data.mean_sd_per_feature().unwrap();
        assert_abs_diff_eq!(each.mean(), &[3.0, 8.0 / 3.0][..], epsilon = 1e-14);
        assert_abs_diff_eq!(data.mean_sd().unwrap().mean(), &[17.0 / 6.0][..], epsilon = 1e-14);
    }

    /// Targets of two features, 1, 3, none and 5, 5, 8; the padding's is far off.
    #[test]
    fn targets_that_count() {
        let y = array![[[1.0, 5.0], [3.0, 5.0]], [[f64::NAN, 8.0], [-99.0, 99.0]]];
        let data = Arrays::values(Array3::zeros((2, 2, 1)), y).unwrap().lengths([2, 1]).unwrap();
        let each = data.target_mean_sd_per_feature().unwrap();
        assert_abs_diff_eq!(each.mean(), &[2.0, 6.0][..], epsilon = 1e-14);
        assert_abs_diff_eq!(each.sd(), &[1.0, 2f64.sqrt()][..], epsilon = 1e-14);
        // All five: mean 4.4, squared deviations 11.56 + 1.96 + 0.36 + 0.36 + 12.96.
        let one = data.target_mean_sd().unwrap();
        assert_abs_diff_eq!(one.mean(), &[4.4][..], epsilon = 1e-14);
        assert_abs_diff_eq!(one.sd(), &[(27.2_f64 / 5.0).sqrt()][..], epsilon = 1e-14);

        let none = Arrays::vectors(Array3::zeros((2, 2, 1)), array![[f64::NAN], [f64::NAN]]).unwrap();
        let fault = none.target_mean_sd().unwrap_err().to_string();
        assert_eq!(fault, "targets, feature 0: found none, expected at least one value");
        let classes = Arrays::classes(Array3::<f64>::zeros((1, 1, 1)), &[0], ["a"]).unwrap();
        assert!(classes.target_mean_sd().unwrap_err().to_string().ends_with("expected values"));
    }

    #[test]
    fn a_large_mean_does_not_drown_the_sd() {
        let data = sequences(array![[[1e9, 1e9 + 2.0]], [[1e9 + 2.0, 1e9]]]);
        assert_abs_diff_eq!(data.mean_sd().unwrap().sd(), &[1.0][..], epsilon = 1e-9);
        assert_abs_diff_eq!(data.mean_sd_per_feature().unwrap().sd(), &[1.0, 1.0][..], epsilon = 1e-9);
    }

    /// The expected numbers are from exact sums of the bytes, computed by a few lines of Python.
    #[test]
    fn fashion_mnist() {
        let one = real().train().mean_sd().unwrap();
        assert_abs_diff_eq!(one.mean(), &[0.286_040_596_988_795_5][..], epsilon = 1e-8);
        assert_abs_diff_eq!(one.sd(), &[0.353_024_244_514_922_6][..], epsilon = 1e-8);
        let each = real().train().mean_sd_per_feature().unwrap();
        assert_abs_diff_eq!(each.mean()[0], 0.011_099_845_938_375_35, epsilon = 1e-8);
        assert_abs_diff_eq!(each.sd()[0], 0.066_265_883_145_328_19, epsilon = 1e-8);
        assert_abs_diff_eq!(each.mean()[14], 0.452_088_190_943_072_9, epsilon = 1e-8);
        assert_abs_diff_eq!(each.sd()[14], 0.353_471_783_572_160_9, epsilon = 1e-8);
    }

    #[test]
    fn nothing_to_measure_is_an_error() {
        let none = Images::new(Array3::zeros((0, 2, 2)), vec![], ["a"]).unwrap();
        let message = none.mean_sd().unwrap_err().to_string();
        assert_eq!(message, "mean and sd: found 0 samples of [2, 2], expected at least one value");

        let same = sequences(Array3::from_elem((3, 2, 2), 0.1));
        assert!(same.mean_sd().unwrap_err().to_string().starts_with("values: found 0.1 everywhere"));
        let data = sequences(array![[[1.0, 5.0], [2.0, 5.0]]]);
        assert!(data.mean_sd().is_ok());
        let message = data.mean_sd_per_feature().unwrap_err().to_string();
        assert!(message.starts_with("feature 1: found 5 everywhere"), "{message}");
    }
}
