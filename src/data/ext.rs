//! What every dataset can do: be split, cut and measured.

use std::sync::Arc;

use crate::data::batches::check_count;
use crate::data::moments::Moments;
use crate::data::split::{self, Parts};
use crate::data::{Dataset, Normalize, Sample, Subset, TargetShape};
use crate::{Error, Result};

/// Training and validation samples.
type Split<'a, D> = (Subset<'a, D>, Subset<'a, D>);

/// Splits and measures any [`Dataset`].
///
/// Splits are functions of the seed alone. Training comes first, then validation; both keep the dataset's order.
///
/// # Examples
/// ```
/// use bptt::data::{Dataset, DatasetExt, Images};
/// use ndarray::Array3;
///
/// let pixels = Array3::from_shape_fn((10, 2, 2), |(i, t, f)| (20 * i + t + f) as u8);
/// let images = Images::new(pixels, vec![0, 0, 0, 0, 0, 0, 1, 1, 1, 1], ["a", "b"])?;
///
/// let (train, valid) = images.hold_out_stratified(5, 1)?;
/// assert_eq!((train.len(), valid.len()), (5, 5));
/// assert_eq!(valid.indices().iter().filter(|&&i| i < 6).count(), 3);
///
/// let normalize = train.mean_sd()?;
/// assert_eq!(normalize.mean().len(), 1);
/// assert_eq!(images.k_fold(3, 1)?.len(), 3);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait DatasetExt: Dataset {
    /// The samples `indices`, in this order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is no such sample.
    fn subset(&self, indices: impl Into<Arc<[u32]>>) -> Result<Subset<'_, Self>> {
        Subset::new(self, indices)
    }

    /// The first `n` samples.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are fewer.
    fn first(&self, n: usize) -> Result<Subset<'_, Self>> {
        if n > self.len() {
            return Err(Error::mismatch(
                "dataset",
                format!("{} samples", self.len()),
                format!("at least {n}"),
            ));
        }
        check_count(n)?;
        Subset::new(self, (0..n as u32).collect::<Vec<_>>())
    }

    /// Holds out `n_valid` samples at random for validation.
    ///
    /// # Errors
    /// [`Error::Config`] if `n_valid` is 0 or not less than the number of samples.
    fn hold_out(&self, n_valid: usize, seed: u64) -> Result<Split<'_, Self>> {
        subsets(self, split::hold_out(self.len(), n_valid, seed)?)
    }

    /// Holds out `n_valid` samples at random for validation, of each class its share to within one sample.
    ///
    /// # Errors
    /// [`Error::Config`] if `n_valid` is 0 or not less than the number of samples; [`Error::Mismatch`] if samples
    /// do not have one class each.
    fn hold_out_stratified(&self, n_valid: usize, seed: u64) -> Result<Split<'_, Self>> {
        if self.target_shape() != (TargetShape::Classes { t: 1 }) {
            let found = format!("{:?}", self.target_shape());
            return Err(Error::mismatch("targets to stratify by", found, "one class for each sample"));
        }
        let mut classes = vec![0; self.len()];
        for (index, class) in classes.chunks_exact_mut(1).enumerate() {
            self.classes(Sample::plain(index), class);
        }
        subsets(self, split::hold_out_stratified(&classes, n_valid, seed)?)
    }

    /// Cuts the samples into `k` folds at random; each is the validation part once. Their sizes differ by at most
    /// one.
    ///
    /// # Errors
    /// [`Error::Config`] if `k` is less than 2 or more than the number of samples.
    fn k_fold(&self, k: usize, seed: u64) -> Result<Vec<Split<'_, Self>>> {
        split::k_fold(self.len(), k, seed)?.into_iter().map(|parts| subsets(self, parts)).collect()
    }

    /// The mean and sd of all values of all samples.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no values or all are the same, [`Error::Config`] if one is not finite.
    fn mean_sd(&self) -> Result<Normalize> {
        Moments::of(self)?.scalar()
    }

    /// The mean and sd of each feature over all steps of all samples.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no values or those of a feature are all the same, [`Error::Config`] if one
    /// is not finite.
    fn mean_sd_per_feature(&self) -> Result<Normalize> {
        Moments::of(self)?.per_feature()
    }
}

impl<D: Dataset + ?Sized> DatasetExt for D {}

fn subsets<D: Dataset + ?Sized>(data: &D, (train, valid): Parts) -> Result<Split<'_, D>> {
    Ok((Subset::new(data, train)?, Subset::new(data, valid)?))
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::data::{Arrays, Images, fashion_mnist::tests::real};

    #[test]
    fn real_data_are_stratified_exactly() {
        let (train, valid) = real().train().hold_out_stratified(12_000, 1).unwrap();
        for (part, each) in [(&train, 4800), (&valid, 1200)] {
            let mut histogram = [0; 10];
            for &index in part.indices() {
                histogram[usize::from(real().train().labels()[index as usize])] += 1;
            }
            assert_eq!(histogram, [each; 10]);
        }
    }

    #[test]
    fn hold_out_hands_out_both_parts() {
        let (train, valid) = real().test().hold_out(1000, 3).unwrap();
        assert_eq!((train.len(), valid.len()), (9000, 1000));
        assert!(valid.indices().iter().all(|index| train.indices().binary_search(index).is_err()));
        let nested = train.k_fold(9, 1).unwrap();
        assert!(nested.iter().all(|(train, valid)| (train.len(), valid.len()) == (8000, 1000)));
    }

    #[test]
    fn first_is_the_first() {
        let images = Images::new(Array3::zeros((3, 1, 1)), vec![0; 3], ["a"]).unwrap();
        assert_eq!(images.first(2).unwrap().indices(), [0, 1]);
        assert!(images.first(4).unwrap_err().to_string().contains("found 3 samples, expected at least 4"));
    }

    #[test]
    fn only_classes_can_be_stratified() {
        let data = Arrays::values(Array3::<f32>::zeros((4, 1, 1)), Array3::zeros((4, 1, 1))).unwrap();
        let message = data.hold_out_stratified(2, 0).unwrap_err().to_string();
        assert!(message.contains("expected one class for each sample"), "{message}");
        assert!(data.hold_out(2, 0).is_ok());
    }

    #[test]
    fn bad_sizes_are_errors() {
        let images = Images::new(Array3::zeros((3, 1, 1)), vec![0; 3], ["a"]).unwrap();
        assert!(images.hold_out(0, 0).is_err());
        assert!(images.hold_out(3, 0).is_err());
        assert!(images.hold_out_stratified(3, 0).is_err());
        assert!(images.k_fold(4, 0).is_err());
    }
}
