//! Mean and standard deviation of a dataset's values.

use crate::data::{Dataset, Normalize, Sample};
use crate::{Error, Real, Result, Scalar};

/// Mean and sum of squared deviations of each feature, over all steps of all samples.
#[derive(Debug)]
pub(super) struct Moments {
    /// The number of values of each feature.
    count: f64,
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
        let mut moments = Self { count: 0.0, mean: vec![0.0; shape.f], squares: vec![0.0; shape.f] };
        let mut x = vec![D::Elem::ZERO; shape.size()];
        for index in 0..data.len() {
            let sample = Sample::plain(index);
            data.read(sample, &mut x);
            // Padding is no part of the data: its content, often 0, would shift the mean.
            let steps = data.length(sample).unwrap_or(shape.t);
            x.chunks_exact(shape.f).take(steps).for_each(|step| moments.add(step));
        }
        Ok(moments)
    }

    /// Adds one value of each feature.
    fn add<R: Real>(&mut self, step: &[R]) {
        self.count += 1.0;
        let share = 1.0 / self.count;
        for ((&x, mean), squares) in step.iter().zip(&mut self.mean).zip(&mut self.squares) {
            let x = x.to_f64();
            let deviation = x - *mean;
            *mean += deviation * share;
            *squares += deviation * (x - *mean);
        }
    }

    /// A mean and sd for each feature.
    ///
    /// # Errors
    /// [`Error::Config`] if a value is not finite, [`Error::Mismatch`] if a feature does not vary.
    pub(super) fn per_feature(&self) -> Result<Normalize> {
        if let Some(feature) = self.squares.iter().position(|&squares| squares == 0.0) {
            return Err(constant(&format!("feature {feature}"), self.mean[feature]));
        }
        let sd = self.squares.iter().map(|squares| (squares / self.count).sqrt()).collect();
        Normalize::per_feature(self.mean.clone(), sd)
    }

    /// One mean and sd for all features, from the variation within and between features.
    ///
    /// # Errors
    /// [`Error::Config`] if a value is not finite, [`Error::Mismatch`] if all are the same.
    pub(super) fn scalar(&self) -> Result<Normalize> {
        let features = self.mean.len() as f64;
        // Deviations from the first mean, so that equal means have exactly that mean and no deviation.
        let first = self.mean[0];
        let mean = first + self.mean.iter().map(|m| m - first).sum::<f64>() / features;
        let within = self.squares.iter().sum::<f64>() / self.count;
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
