//! Splitting, selecting from and measuring any dataset.

use std::sync::Arc;

use ndarray::Array3;

use crate::data::batches::check_count;
use crate::data::moments::Moments;
use crate::data::split::{self, Parts};
use crate::data::{Candidates, Dataset, Normalize, Sample, SelectionRule, Subset, TargetShape};
use crate::{Error, Result, Scalar, Shape};

/// Training and validation samples.
type Split<'a, D> = (Subset<'a, D>, Subset<'a, D>);

/// Splits, selects from and measures any [`Dataset`]. Nothing is copied: each [`Subset`] refers to the dataset.
///
/// Splits depend on the seed alone. Training comes first, then validation; both keep the dataset's order.
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
/// for (_, valid) in images.k_fold_stratified(4, 1)? {
///     assert_eq!(valid.indices().iter().filter(|&&i| i >= 6).count(), 1);
/// }
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
    /// [`Error::Config`] if `n_valid` is 0 or not less than the number of samples; [`Error::Mismatch`] if there are fewer
    /// than two samples.
    fn hold_out(&self, n_valid: usize, seed: u64) -> Result<Split<'_, Self>> {
        subsets(self, split::hold_out(self.len(), n_valid, seed)?)
    }

    /// Holds out `n_valid` samples at random for validation, the same share of each class to within one sample.
    ///
    /// # Errors
    /// As for [`hold_out`](Self::hold_out); [`Error::Mismatch`] if samples do not have one class each.
    fn hold_out_stratified(&self, n_valid: usize, seed: u64) -> Result<Split<'_, Self>> {
        subsets(self, split::hold_out_stratified(&classes_to_stratify_by(self)?, n_valid, seed)?)
    }

    /// Splits the samples into `k` folds at random; each is the validation part once. Their sizes differ by at most one.
    ///
    /// # Errors
    /// [`Error::Config`] if `k` is less than 2 or more than the number of samples; [`Error::Mismatch`] if there are fewer
    /// than two samples.
    fn k_fold(&self, k: usize, seed: u64) -> Result<Vec<Split<'_, Self>>> {
        split::k_fold(self.len(), k, seed)?.into_iter().map(|parts| subsets(self, parts)).collect()
    }

    /// Splits the samples into `k` folds at random, with each class spread over all of them: the numbers of samples of a
    /// class, and of all samples, differ by at most one between folds. Each fold is the validation part once.
    ///
    /// # Errors
    /// As for [`k_fold`](Self::k_fold); [`Error::Config`] naming the class if one has fewer than `k` samples, so that a
    /// fold would be without it; [`Error::Mismatch`] if samples do not have one class each.
    #[doc(alias = "StratifiedKFold")]
    fn k_fold_stratified(&self, k: usize, seed: u64) -> Result<Vec<Split<'_, Self>>> {
        let folds = split::k_fold_stratified(&classes_to_stratify_by(self)?, k, seed)?;
        folds.into_iter().map(|parts| subsets(self, parts)).collect()
    }

    /// Holds out whole groups at random for validation, as many as fit into `n_valid` samples: `groups` has a number for each
    /// sample, that of a patient or a machine for example, and samples of one are never on both sides.
    ///
    /// # Errors
    /// As for [`hold_out`](Self::hold_out); [`Error::Mismatch`] if there is not one group for each sample, or every group has
    /// more than `n_valid` samples.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::{Arrays, DatasetExt};
    /// use ndarray::Array3;
    ///
    /// let data = Arrays::classes(Array3::<f32>::zeros((6, 1, 1)), &[0; 6], ["a"])?;
    /// let patients = [7, 7, 7, 8, 9, 9];
    /// let (train, valid) = data.hold_out_groups(&patients, 2, 1)?;
    /// let of = |i: &u32| patients[*i as usize];
    /// assert!(valid.indices().iter().all(|i| !train.indices().iter().map(of).any(|group| group == of(i))));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    #[doc(alias = "GroupShuffleSplit")]
    fn hold_out_groups(&self, groups: &[u64], n_valid: usize, seed: u64) -> Result<Split<'_, Self>> {
        check_groups(self, groups)?;
        subsets(self, split::hold_out_groups(groups, n_valid, seed)?)
    }

    /// Splits the samples into `k` folds of whole groups, of about the same size: `groups` has a number for each sample.
    /// Each fold is the validation part once.
    ///
    /// # Errors
    /// As for [`k_fold`](Self::k_fold); [`Error::Config`] if there are fewer than `k` groups; [`Error::Mismatch`] if there is
    /// not one group for each sample.
    #[doc(alias = "GroupKFold")]
    fn k_fold_groups(&self, groups: &[u64], k: usize, seed: u64) -> Result<Vec<Split<'_, Self>>> {
        check_groups(self, groups)?;
        split::k_fold_groups(groups, k, seed)?.into_iter().map(|parts| subsets(self, parts)).collect()
    }

    /// Splits the samples into `k` folds of whole groups, with the classes spread over the folds as evenly as the groups allow:
    /// `groups` has a number for each sample. Each fold is the validation part once. The number of samples of a fold matters
    /// less: it decides between folds that are equal otherwise.
    ///
    /// # Errors
    /// As for [`k_fold_groups`](Self::k_fold_groups); [`Error::Mismatch`] if samples do not have one class each.
    #[doc(alias = "StratifiedGroupKFold")]
    fn k_fold_stratified_groups(&self, groups: &[u64], k: usize, seed: u64) -> Result<Vec<Split<'_, Self>>> {
        check_groups(self, groups)?;
        let folds = split::k_fold_stratified_groups(&classes_to_stratify_by(self)?, groups, k, seed)?;
        folds.into_iter().map(|parts| subsets(self, parts)).collect()
    }

    /// The samples that `rule` chooses: [`RandomSubset`](crate::data::RandomSubset) or a custom [`SelectionRule`].
    ///
    /// # Errors
    /// Errors of the rule; [`Error::Mismatch`] if there are no samples, or the rule chooses none or one that does not
    /// exist.
    ///
    /// # Source
    /// Gedeon & Bowden 1992, "Heuristic pattern reduction": some of the samples are enough, and training is faster in
    /// proportion.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::{Arrays, ByLoss, Dataset, DatasetExt, RandomSubset};
    /// use bptt::loss::CrossEntropy;
    /// use bptt::{Model, nn::Linear};
    /// use ndarray::{Array1, Array3};
    ///
    /// let x = Array3::from_shape_fn((10, 1, 2), |(i, _, f)| (i + f) as f32);
    /// let data = Arrays::classes(x, &Array1::from_shape_fn(10, |i| i % 2), ["even", "odd"])?;
    ///
    /// let some = data.select(&RandomSubset::share(0.6).seed(1).balanced())?;
    /// assert_eq!(some.len(), 6);
    ///
    /// let model = Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1)?;
    /// let losses = model.sample_losses(&data, &CrossEntropy::default())?;
    /// let hardest = data.select_by(&ByLoss::hardest(0.3), &losses)?;
    /// assert_eq!(hardest.len(), 3);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    fn select(&self, rule: &dyn SelectionRule) -> Result<Subset<'_, Self>> {
        select(self, rule, None)
    }

    /// The samples that `rule` chooses by their scores, one for each sample, such as
    /// [`Model::sample_losses`](crate::Model::sample_losses): [`ByLoss`](crate::data::ByLoss) or a custom
    /// [`SelectionRule`].
    ///
    /// # Errors
    /// As for [`select`](Self::select); [`Error::Mismatch`] if there is not one score for each sample.
    fn select_by(&self, rule: &dyn SelectionRule, scores: &[f64]) -> Result<Subset<'_, Self>> {
        if scores.len() != self.len() {
            let expected = format!("one for each of {} samples", self.len());
            return Err(Error::mismatch("scores", scores.len(), expected));
        }
        select(self, rule, Some(scores))
    }

    /// The mean and sd of all values of all samples; padding does not count.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no values or all are the same, [`Error::Config`] if one is not finite.
    fn mean_sd(&self) -> Result<Normalize> {
        Moments::of(self)?.scalar()
    }

    /// The mean and sd of each feature over all steps of all samples; padding does not count.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no values or those of a feature are all the same, [`Error::Config`] if one
    /// is not finite.
    fn mean_sd_per_feature(&self) -> Result<Normalize> {
        Moments::of(self)?.per_feature()
    }

    /// The mean and sd of all target values, for [`ModelBuilder::normalize_targets`](crate::nn::ModelBuilder::normalize_targets);
    /// padding and NaN, which is no target, do not count.
    ///
    /// # Errors
    /// As for [`mean_sd`](Self::mean_sd), or [`Error::Mismatch`] if the targets are not values.
    fn target_mean_sd(&self) -> Result<Normalize> {
        Moments::of_targets(self, true)?.scalar()
    }

    /// As [`target_mean_sd`](Self::target_mean_sd), of each feature of the targets.
    ///
    /// # Errors
    /// As for [`mean_sd_per_feature`](Self::mean_sd_per_feature), or [`Error::Mismatch`] if the targets are not values.
    fn target_mean_sd_per_feature(&self) -> Result<Normalize> {
        Moments::of_targets(self, false)?.per_feature()
    }

    /// The classes of all samples, step by step: `[n · T']`. Steps beyond a sample's length have the class −100, which does
    /// not count.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the targets are not classes.
    fn target_classes(&self) -> Result<Vec<i64>> {
        let TargetShape::Classes { t } = self.target_shape() else {
            return Err(Error::mismatch("targets", format!("{:?}", self.target_shape()), "classes"));
        };
        let mut classes = vec![0; self.len() * t];
        for (index, classes) in classes.chunks_exact_mut(t.max(1)).enumerate() {
            let sample = Sample::plain(index);
            self.classes(sample, classes);
            if let Some(length) = self.length(sample).filter(|_| t == self.shape().t) {
                classes.iter_mut().skip(length).for_each(|class| *class = -100);
            }
        }
        Ok(classes)
    }

    /// A weight for each class, in inverse proportion to how often it occurs: n / (k · n_c) for k classes, so that the mean
    /// weight of all targets is 1. It is for [`CrossEntropy::weight`](crate::loss::CrossEntropy::weight).
    ///
    /// Steps without a class, which is negative, do not count. There are as many classes as names or, without names, as the
    /// greatest class says.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the targets are not classes, or one never occurs.
    ///
    /// # Source
    /// scikit-learn's `compute_class_weight("balanced")`; King & Zeng 2001, "Logistic regression in rare events data".
    ///
    /// # Examples
    /// ```
    /// use bptt::data::{Arrays, DatasetExt};
    /// use bptt::loss::CrossEntropy;
    /// use ndarray::Array3;
    ///
    /// let x = Array3::<f32>::zeros((4, 2, 1));
    /// let data = Arrays::classes(x, &[0, 0, 0, 1], ["common", "rare"])?;
    /// assert_eq!(data.class_weights()?, [4.0 / 6.0, 2.0]);
    /// let loss = CrossEntropy::default().weight(data.class_weights()?);
    ///
    /// // Or weights of samples, by which losses are not divided:
    /// assert_eq!(data.balanced_weights()?, [4.0 / 6.0, 4.0 / 6.0, 4.0 / 6.0, 2.0]);
    /// let weights = data.balanced_weights()?;
    /// let data = data.weights(weights)?;
    /// # let _ = (loss, data);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    fn class_weights(&self) -> Result<Vec<f64>> {
        let classes = self.target_classes()?;
        let known = || classes.iter().filter_map(|&class| usize::try_from(class).ok());
        let names = self.class_names();
        let count = if names.is_empty() { known().max().map_or(0, |class| class + 1) } else { names.len() };
        let mut counts = vec![0_u32; count];
        for class in known() {
            let expected = || format!("less than {count}, the number of class names");
            *counts.get_mut(class).ok_or_else(|| Error::mismatch("class", class, expected()))? += 1;
        }
        if let Some(class) = counts.iter().position(|&n| n == 0) {
            let what =
                names.get(class).map_or_else(|| format!("class {class}"), |name| format!("class `{name}`"));
            return Err(Error::mismatch(what, "no target", "at least one, to weight it by"));
        }
        let n: f64 = counts.iter().map(|&n| f64::from(n)).sum();
        Ok(counts.iter().map(|&of_class| n / (count as f64 * f64::from(of_class))).collect())
    }

    /// A weight for each sample, that of its class in [`class_weights`](Self::class_weights), for
    /// [`Arrays::weights`](crate::data::Arrays::weights) or [`WeightedRandom`](crate::data::WeightedRandom): all classes weigh
    /// the same in total.
    ///
    /// # Errors
    /// As for `class_weights`; [`Error::Mismatch`] if samples do not have one class each.
    fn balanced_weights(&self) -> Result<Vec<f64>> {
        let weights = self.class_weights()?;
        let classes = classes_to_stratify_by(self)?.into_iter();
        let weight = |class: i64| usize::try_from(class).ok().and_then(|class| weights.get(class)).copied();
        // A sample without a class has no loss to weight.
        Ok(classes.map(|class| weight(class).unwrap_or(1.0)).collect())
    }

    /// The values of all samples' targets, `[n, T', F']`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the targets are not values.
    fn target_values(&self) -> Result<Array3<Self::Elem>> {
        let TargetShape::Values(Shape { t, f }) = self.target_shape() else {
            return Err(Error::mismatch("targets", format!("{:?}", self.target_shape()), "values"));
        };
        let mut values = Array3::from_elem((self.len(), t, f), Self::Elem::ZERO);
        for (index, mut values) in values.outer_iter_mut().enumerate() {
            let values = values.as_slice_mut().expect("arrays are made in this order");
            self.values(Sample::plain(index), values);
        }
        Ok(values)
    }
}

impl<D: Dataset + ?Sized> DatasetExt for D {}

fn check_groups<D: Dataset + ?Sized>(data: &D, groups: &[u64]) -> Result<()> {
    if groups.len() != data.len() {
        let expected = format!("one for each of {} samples", data.len());
        return Err(Error::mismatch("groups", groups.len(), expected));
    }
    Ok(())
}

fn subsets<D: Dataset + ?Sized>(data: &D, (train, valid): Parts) -> Result<Split<'_, D>> {
    Ok((Subset::new(data, train)?, Subset::new(data, valid)?))
}

/// The class of each sample, where each has one.
fn classes<D: Dataset + ?Sized>(data: &D) -> Option<Vec<i64>> {
    (data.target_shape() == TargetShape::Classes { t: 1 }).then(|| {
        let mut classes = vec![0; data.len()];
        for (index, class) in classes.chunks_exact_mut(1).enumerate() {
            data.classes(Sample::plain(index), class);
        }
        classes
    })
}

fn classes_to_stratify_by<D: Dataset + ?Sized>(data: &D) -> Result<Vec<i64>> {
    classes(data).ok_or_else(|| {
        let found = format!("{:?}", data.target_shape());
        Error::mismatch("targets to stratify by", found, "one class for each sample")
    })
}

fn select<'a, D: Dataset + ?Sized>(
    data: &'a D,
    rule: &dyn SelectionRule,
    scores: Option<&[f64]>,
) -> Result<Subset<'a, D>> {
    check_count(data.len())?;
    if data.is_empty() {
        return Err(Error::mismatch("samples to select from", "none", "at least one"));
    }
    let classes = classes(data);
    let indices = rule.choose(&Candidates::new(data.len(), classes.as_deref(), scores))?;
    if indices.is_empty() {
        let found = format!("none of {}", data.len());
        return Err(Error::mismatch("selected samples", found, "at least one"));
    }
    Subset::new(data, indices)
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::data::{Arrays, ByLoss, Images, RandomSubset, fashion_mnist::tests::real};

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
    fn hold_out_returns_both_parts() {
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
    fn classes_weigh_the_same() {
        let x = || Array3::<f32>::zeros((3, 4, 1));
        let none = Arrays::<f32>::NO_CLASS;
        // Of the second class there are 2 of 8: what is padded, and what has no class, does not count.
        let y = ndarray::array![[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, none, 0]];
        let steps = Arrays::step_classes(x(), y, ["a", "b"]).unwrap().lengths([4, 1, 4]).unwrap();
        assert_eq!(steps.class_weights().unwrap(), [8.0 / (2.0 * 6.0), 8.0 / (2.0 * 2.0)]);
        assert!(steps.balanced_weights().unwrap_err().to_string().contains("one class for each sample"));
        let missing = Arrays::classes(x(), &[0, 2, 2], ["a", "b", "c"]).unwrap();
        let fault = missing.class_weights().unwrap_err().to_string();
        assert_eq!(fault, "class `b`: found no target, expected at least one, to weight it by");
        let all = Arrays::classes(x(), &[1, 0, 1], ["a", "b"]).unwrap();
        assert_eq!(all.balanced_weights().unwrap(), [0.75, 1.5, 0.75]);
        let values = Arrays::vectors(x(), ndarray::Array2::zeros((3, 1))).unwrap();
        assert!(values.class_weights().is_err());
    }

    #[test]
    fn every_sample_has_a_group() {
        let images = Images::new(Array3::zeros((4, 1, 1)), vec![0; 4], ["a"]).unwrap();
        for fault in
            [images.hold_out_groups(&[1; 3], 1, 1).map(drop), images.k_fold_groups(&[1; 5], 2, 1).map(drop)]
        {
            let fault = fault.unwrap_err().to_string();
            assert!(fault.ends_with("expected one for each of 4 samples"), "{fault}");
        }
        assert_eq!(images.k_fold_groups(&[1, 2, 2, 1], 2, 1).unwrap().len(), 2);
    }

    #[test]
    fn only_classes_can_be_stratified() {
        let data = Arrays::values(Array3::<f32>::zeros((4, 1, 1)), Array3::zeros((4, 1, 1))).unwrap();
        let message = data.hold_out_stratified(2, 0).unwrap_err().to_string();
        assert!(message.contains("expected one class for each sample"), "{message}");
        assert!(data.hold_out(2, 0).is_ok());
    }

    /// Nothing can be selected or split off from an empty dataset.
    #[test]
    fn an_empty_dataset_is_an_error() {
        let none = Images::new(Array3::zeros((0, 1, 1)), vec![], ["a"]).unwrap();
        let rules: [&dyn SelectionRule; 4] = [
            &RandomSubset::share(0.5),
            &RandomSubset::share(0.5).stratified(),
            &RandomSubset::share(0.5).balanced(),
            &RandomSubset::count(1),
        ];
        for rule in rules {
            let fault = none.select(rule).unwrap_err().to_string();
            assert_eq!(fault, "samples to select from: found none, expected at least one");
        }
        assert!(none.select_by(&ByLoss::hardest(0.5), &[]).is_err());
        let faults = [
            none.hold_out(1, 0).map(drop),
            none.hold_out_stratified(1, 0).map(drop),
            none.k_fold(2, 0).map(drop),
            none.k_fold_stratified(2, 0).map(drop),
        ];
        for fault in faults {
            let fault = fault.unwrap_err().to_string();
            assert!(fault.ends_with("found 0 samples, expected at least 2"), "{fault}");
        }
    }

    #[test]
    fn what_a_rule_chooses_is_checked() {
        struct Choose(Vec<u32>);
        impl SelectionRule for Choose {
            fn choose(&self, _: &Candidates<'_>) -> Result<Vec<u32>> {
                Ok(self.0.clone())
            }
        }
        let images = Images::new(Array3::zeros((3, 1, 1)), vec![0; 3], ["a"]).unwrap();
        let fault = |rule| images.select(&Choose(rule)).unwrap_err().to_string();
        assert_eq!(fault(vec![]), "selected samples: found none of 3, expected at least one");
        assert_eq!(fault(vec![3]), "subset: found sample 3, expected less than 3");
        let few = images.select_by(&ByLoss::hardest(0.5), &[0.0]).unwrap_err().to_string();
        assert_eq!(few, "scores: found 1, expected one for each of 3 samples");
        assert_eq!(images.select(&Choose(vec![2, 0, 2])).unwrap().indices(), [2, 0, 2]);
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
