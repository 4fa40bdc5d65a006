//! Reducing the patterns: fewer to learn from, chosen at random or by how well they are learnt.
//!
//! - [`RandomSubset`]: any of them, or as many of each class.
//! - [`ByLoss`]: the hardest, the easiest, or those between, by [`Model::pattern_losses`](crate::Model::pattern_losses)
//!   or any other score.
//! - [`Select`] is open to ways of one's own; [`Reduce`] applies them to any dataset, of which nothing is copied.
//!
//! # Source
//! Gedeon & Bowden 1992, "Heuristic pattern reduction": some patterns are enough, and training is faster by as much.
//! # Examples
//! ```
//! use bptt::data::{Arrays, Dataset};
//! use bptt::loss::CrossEntropy;
//! use bptt::reduce::{ByLoss, RandomSubset, Reduce};
//! use bptt::{Model, nn::Linear};
//! use ndarray::{Array1, Array3};
//!
//! let x = Array3::from_shape_fn((10, 1, 2), |(i, _, f)| (i + f) as f32);
//! let data = Arrays::classes(x, &Array1::from_shape_fn(10, |i| i % 2), ["even", "odd"])?;
//!
//! let some = data.reduce(&RandomSubset::share(0.6).seed(1).balanced())?;
//! assert_eq!(some.len(), 6);
//!
//! let model = Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1)?;
//! let losses = model.pattern_losses(&data, &CrossEntropy::default())?;
//! let hardest = data.reduce_by(&ByLoss::hardest(0.3), &losses)?;
//! assert_eq!(hardest.len(), 3);
//! # Ok::<(), bptt::Error>(())
//! ```

mod by_loss;
mod random;

pub use by_loss::ByLoss;
pub use random::RandomSubset;

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Sample, Subset, TargetShape, check_count};
use crate::{Error, Result};

/// What is known of the patterns to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Patterns<'a> {
    /// How many there are.
    pub len: usize,
    /// The class of each, where each has one.
    pub classes: Option<&'a [i64]>,
    /// A score of each, such as its loss, where they were given.
    pub scores: Option<&'a [f64]>,
}

impl<'a> Patterns<'a> {
    /// The classes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none.
    pub fn classes(&self) -> Result<&'a [i64]> {
        let none = || Error::mismatch("patterns", "no class for each", "one class for each sample");
        self.classes.ok_or_else(none)
    }

    /// The scores.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none.
    pub fn scores(&self) -> Result<&'a [f64]> {
        self.scores.ok_or_else(|| Error::mismatch("patterns", "no scores", "one for each sample"))
    }
}

/// Chooses patterns.
///
/// # Examples
/// ```
/// use bptt::Result;
/// use bptt::reduce::{Patterns, Select};
///
/// /// Every other pattern.
/// struct EveryOther;
///
/// impl Select for EveryOther {
///     fn select(&self, patterns: &Patterns<'_>) -> Result<Vec<u32>> {
///         Ok((0..patterns.len as u32).step_by(2).collect())
///     }
/// }
///
/// let patterns = Patterns { len: 5, classes: None, scores: None };
/// assert_eq!(EveryOther.select(&patterns)?, [0, 2, 4]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Select {
    /// The patterns chosen, by their places.
    ///
    /// # Errors
    /// If the settings are wrong, or what is known of the patterns is not enough.
    fn select(&self, patterns: &Patterns<'_>) -> Result<Vec<u32>>;
}

/// Reduces any [`Dataset`]. Nothing is copied: what comes out refers to the dataset.
pub trait Reduce: Dataset {
    /// The samples that `select` chooses.
    ///
    /// # Errors
    /// What `select` says, or [`Error::Mismatch`] if it chooses none or one that there is not.
    fn reduce(&self, select: &dyn Select) -> Result<Subset<'_, Self>> {
        reduce(self, select, None)
    }

    /// The samples that `select` chooses by their scores, one for each sample, such as
    /// [`Model::pattern_losses`](crate::Model::pattern_losses).
    ///
    /// # Errors
    /// As [`reduce`](Reduce::reduce); [`Error::Mismatch`] if there is not one score for each sample.
    fn reduce_by(&self, select: &dyn Select, scores: &[f64]) -> Result<Subset<'_, Self>> {
        if scores.len() != self.len() {
            let expected = format!("one for each of {} samples", self.len());
            return Err(Error::mismatch("scores", scores.len(), expected));
        }
        reduce(self, select, Some(scores))
    }
}

impl<D: Dataset + ?Sized> Reduce for D {}

fn reduce<'a, D: Dataset + ?Sized>(
    data: &'a D,
    select: &dyn Select,
    scores: Option<&[f64]>,
) -> Result<Subset<'a, D>> {
    check_count(data.len())?;
    let classes = (data.target_shape() == TargetShape::Classes { t: 1 }).then(|| {
        let mut classes = vec![0; data.len()];
        for (i, class) in classes.chunks_exact_mut(1).enumerate() {
            data.classes(Sample::plain(i), class);
        }
        classes
    });
    let indices = select.select(&Patterns { len: data.len(), classes: classes.as_deref(), scores })?;
    if indices.is_empty() {
        return Err(Error::mismatch("reduced patterns", "none", "at least one"));
    }
    Subset::new(data, indices)
}

/// How many patterns are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Amount {
    Share(f64),
    Count(usize),
}

impl Amount {
    /// Of `n` patterns: round(share · n), or the count.
    fn of(self, n: usize) -> Result<usize> {
        match self {
            Self::Share(share) if share > 0.0 && share <= 1.0 => Ok((share * n as f64).round() as usize),
            Self::Share(share) => Err(Error::config(
                "share",
                format!("found {share}, expected a number above 0, 1 at the most"),
            )),
            Self::Count(count) if (1..=n).contains(&count) => Ok(count),
            Self::Count(count) => Err(Error::config(
                "count",
                format!("found {count}, expected 1 to {n}, the number of samples"),
            )),
        }
    }
}

/// The places of each class's patterns, in the order of the classes.
fn members(classes: &[i64]) -> Vec<(i64, Vec<u32>)> {
    let mut members = std::collections::BTreeMap::<i64, Vec<u32>>::new();
    for (i, &class) in (0..).zip(classes) {
        members.entry(class).or_default().push(i);
    }
    members.into_iter().collect()
}
