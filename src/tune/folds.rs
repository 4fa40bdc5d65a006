//! One score from several runs.

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Subset};
use crate::{Error, Result};

/// Mean and standard deviation of some values.
///
/// # Examples
/// ```
/// use bptt::tune::Summary;
///
/// let summary = Summary::of([1.0, 2.0, 6.0]);
/// assert_eq!((summary.mean, summary.sd), (3.0, 7f64.sqrt()));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Σ x / n; 0 if there are no values.
    pub mean: f64,
    /// √(Σ (x − mean)² / (n − 1)); 0 if there is only one value, or none.
    pub sd: f64,
    /// The values, in the order of the runs.
    pub values: Vec<f64>,
}

impl Summary {
    /// The summary of these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        Self { mean, sd: (squares / (n - 1.0).max(1.0)).sqrt(), values }
    }
}

/// k-fold cross-validation: calls `score` for each fold with its number, from 0, the samples to train on and those to
/// validate on. The folds come from [`k_fold`](crate::data::DatasetExt::k_fold),
/// [`k_fold_stratified`](crate::data::DatasetExt::k_fold_stratified), or any other split.
///
/// # Errors
/// Those of `score`; [`Error::Config`] if there are no folds.
///
/// # Source
/// Stone 1974, "Cross-validatory choice and assessment of statistical predictions".
/// # Examples
/// ```
/// use bptt::data::{Arrays, Dataset, DatasetExt};
/// use bptt::tune::cross_validate;
/// use bptt::{Model, Trainer, loss::CrossEntropy, nn::Linear, optim::Sgd};
/// use ndarray::{Array1, Array3};
/// # fn main() -> bptt::Result<()> {
/// let x = Array3::from_shape_fn((100, 1, 2), |(i, _, f)| if i % 2 == f { 1.0f32 } else { 0.0 });
/// let data = Arrays::classes(x, &Array1::from_shape_fn(100, |i| i % 2), ["even", "odd"])?;
///
/// let accuracy = cross_validate(&data.k_fold_stratified(5, 1)?, |_, train, valid| {
///     let mut model = Model::builder(train.shape()).layer("linear", Linear::new(2)).build(1)?;
///     Trainer::new(CrossEntropy::default(), Sgd::new(0.5)).epochs(3).fit(&mut model, train, None)?;
///     Ok(model.evaluate(valid)?.accuracy().unwrap_or_default())
/// })?;
/// assert_eq!((accuracy.mean, accuracy.values.len()), (1.0, 5));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "cross_val_score")]
pub fn cross_validate<D: Dataset + ?Sized>(
    folds: &[(Subset<'_, D>, Subset<'_, D>)],
    mut score: impl FnMut(usize, &Subset<'_, D>, &Subset<'_, D>) -> Result<f64>,
) -> Result<Summary> {
    if folds.is_empty() {
        return Err(Error::config("folds", "found none, expected at least one"));
    }
    let scores = folds.iter().enumerate().map(|(fold, (train, valid))| score(fold, train, valid));
    Ok(Summary::of(scores.collect::<Result<Vec<_>>>()?))
}
