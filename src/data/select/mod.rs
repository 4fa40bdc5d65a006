//! Selecting training samples: fewer of them, at random or by their losses and other scores.

mod beta_sampling;
mod by_loss;
mod coverage;
mod random;

pub use beta_sampling::BetaSampling;
pub use by_loss::ByLoss;
pub use coverage::Coverage;
pub use random::RandomSubset;

use serde::{Deserialize, Serialize};

use super::split::members;
use crate::{Error, Result};

/// What is known about the samples to choose from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidates<'a> {
    /// How many there are.
    pub len: usize,
    /// The class of each, where each has one.
    pub classes: Option<&'a [i64]>,
    /// The score of each, such as its loss, if scores were given.
    pub scores: Option<&'a [f64]>,
}

impl<'a> Candidates<'a> {
    /// `len` samples, with their classes and scores if they have any.
    pub fn new(len: usize, classes: Option<&'a [i64]>, scores: Option<&'a [f64]>) -> Self {
        Self { len, classes, scores }
    }

    /// The classes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none.
    pub fn classes(&self) -> Result<&'a [i64]> {
        let none =
            || Error::mismatch("samples to select from", "no class for each", "one class for each sample");
        self.classes.ok_or_else(none)
    }

    /// The scores.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none.
    pub fn scores(&self) -> Result<&'a [f64]> {
        self.scores
            .ok_or_else(|| Error::mismatch("samples to select from", "no scores", "one for each sample"))
    }
}

/// Chooses samples; [`DatasetExt::select`](crate::data::DatasetExt::select) applies it to a dataset.
///
/// # Examples
/// ```
/// use bptt::Result;
/// use bptt::data::{Candidates, SelectionRule};
///
/// /// Every other sample.
/// struct EveryOther;
///
/// impl SelectionRule for EveryOther {
///     fn choose(&self, samples: &Candidates<'_>) -> Result<Vec<u32>> {
///         Ok((0..samples.len as u32).step_by(2).collect())
///     }
/// }
///
/// assert_eq!(EveryOther.choose(&Candidates::new(5, None, None))?, [0, 2, 4]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait SelectionRule {
    /// The indices of the chosen samples.
    ///
    /// # Errors
    /// If the settings are invalid, or classes or scores are needed that the samples do not have.
    fn choose(&self, samples: &Candidates<'_>) -> Result<Vec<u32>>;
}

/// How many samples to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Amount {
    Share(f64),
    Count(usize),
}

/// The samples of each class; or, of one class 0, all samples.
fn groups(samples: &Candidates<'_>, by_class: bool) -> Result<Vec<(i64, Vec<u32>)>> {
    if by_class {
        return Ok(members(samples.classes()?));
    }
    Ok(vec![(0, (0..samples.len as u32).collect())])
}

/// Checks that every score is finite.
fn check_scores(what: &str, scores: &[f64]) -> Result<()> {
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::mismatch(what, format!("{} for sample {i}", scores[i]), "a finite number")),
    }
}

impl Amount {
    /// The setting's name in errors.
    fn name(self) -> &'static str {
        match self {
            Self::Share(_) => "share",
            Self::Count(_) => "count",
        }
    }

    /// Of `n` samples: round(share · n), or the count.
    pub(super) fn of(self, n: usize) -> Result<usize> {
        match self {
            Self::Share(share) if share > 0.0 && share <= 1.0 => match (share * n as f64).round() as usize {
                0 => Err(Error::config(
                    "share",
                    format!("found {share} of {n} samples, expected enough for at least one of them"),
                )),
                count => Ok(count),
            },
            Self::Share(share) => {
                Err(Error::config("share", format!("found {share}, expected a number above 0 and at most 1")))
            }
            Self::Count(count) if (1..=n).contains(&count) => Ok(count),
            Self::Count(count) => Err(Error::config(
                "count",
                format!("found {count}, expected 1 to {n}, the number of samples"),
            )),
        }
    }
}
