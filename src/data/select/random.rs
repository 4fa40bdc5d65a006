//! Selecting samples at random.

use serde::{Deserialize, Serialize};

use super::{Amount, Candidates, SelectionRule, groups};
use crate::data::batches::shuffle_slice;
use crate::data::split::shares;
use crate::{Result, rng};

const RANDOM: u64 = u64::from_be_bytes(*b"reduce\0\0");

/// Chooses samples at random, in the order of the dataset.
///
/// With the same seed, a larger share contains all samples of a smaller one; with classes, up to rounding.
///
/// # Source
/// Gedeon & Bowden 1992, "Heuristic pattern reduction", of which this is the simplest form.
/// # Examples
/// ```
/// use bptt::data::{Candidates, RandomSubset, SelectionRule};
///
/// let classes = [0, 0, 0, 0, 0, 0, 1, 1, 1];
/// let samples = Candidates::new(9, Some(&classes), None);
/// let of_class_1 = |rule: RandomSubset| -> bptt::Result<usize> {
///     Ok(rule.choose(&samples)?.iter().filter(|&&i| i >= 6).count())
/// };
/// assert_eq!(of_class_1(RandomSubset::count(6).stratified())?, 2);
/// assert_eq!(of_class_1(RandomSubset::count(6).balanced())?, 3);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSubset {
    amount: Amount,
    seed: u64,
    classes: ClassBalance,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClassBalance {
    Ignored,
    Stratified,
    Balanced,
}

impl RandomSubset {
    /// This share of the samples, above 0 and at most 1, rounded to a whole number of samples; the seed is 1.
    pub fn share(share: f64) -> Self {
        Self { amount: Amount::Share(share), seed: 1, classes: ClassBalance::Ignored }
    }

    /// This number of samples; the seed is 1.
    pub fn count(count: usize) -> Self {
        Self { amount: Amount::Count(count), ..Self::share(1.0) }
    }

    /// The seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Takes the same share of every class, to within one sample.
    pub fn stratified(mut self) -> Self {
        self.classes = ClassBalance::Stratified;
        self
    }

    /// Takes equally many samples of every class, to within one; a class with too few contributes all it has, and the
    /// others make up the difference.
    pub fn balanced(mut self) -> Self {
        self.classes = ClassBalance::Balanced;
        self
    }
}

impl SelectionRule for RandomSubset {
    fn choose(&self, samples: &Candidates<'_>) -> Result<Vec<u32>> {
        let count = self.amount.of(samples.len)?;
        let groups = groups(samples, self.classes != ClassBalance::Ignored)?;
        let sizes: Vec<usize> = groups.iter().map(|(_, members)| members.len()).collect();
        let wanted =
            if self.classes == ClassBalance::Balanced { level(&sizes, count) } else { shares(&sizes, count) };
        let mut chosen = Vec::with_capacity(count);
        for ((class, mut members), wanted) in groups.into_iter().zip(wanted) {
            shuffle_slice(&mut members, rng::key(&[self.seed, RANDOM, class as u64]));
            chosen.extend_from_slice(&members[..wanted]);
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}

/// Distributes `total`, at most as many as there are, among classes of these sizes as evenly as possible; a remainder goes
/// to the larger classes, and of equal ones to the later.
pub(super) fn level(sizes: &[usize], total: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&class| sizes[class]);
    let (mut wanted, mut left) = (vec![0; sizes.len()], total);
    for (before, &class) in order.iter().enumerate() {
        wanted[class] = sizes[class].min(left / (sizes.len() - before));
        left -= wanted[class];
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(classes: &[i64]) -> Candidates<'_> {
        Candidates::new(classes.len(), Some(classes), None)
    }

    #[test]
    fn levels_are_even() {
        assert_eq!(level(&[10, 10, 10], 9), [3, 3, 3]);
        assert_eq!(level(&[10, 10, 10], 11), [3, 4, 4]);
        assert_eq!(level(&[10, 1, 10], 9), [4, 1, 4]);
        assert_eq!(level(&[2, 9, 5], 16), [2, 9, 5]);
        assert_eq!(level(&[2, 9, 5], 15), [2, 8, 5]);
    }

    #[test]
    fn shares_nest_and_seeds_decide() {
        let classes: Vec<i64> = (0..1000).map(|i| i % 7).collect();
        let choose = |share, seed| RandomSubset::share(share).seed(seed).choose(&samples(&classes)).unwrap();
        let (small, large) = (choose(0.2, 1), choose(0.6, 1));
        assert_eq!((small.len(), large.len(), choose(1.0, 1).len()), (200, 600, 1000));
        assert!(large.is_sorted_by(|a, b| a < b));
        assert!(small.iter().all(|i| large.binary_search(i).is_ok()));
        assert_ne!(small, choose(0.2, 2));
        // Each hundred has about its share, 20 ± 4.
        assert!((0..10).all(|h| (5..40).contains(&small.iter().filter(|&&i| i / 100 == h).count())));
    }

    #[test]
    fn classes_are_counted() {
        let classes: Vec<i64> = (0..100).map(|i| i64::from(i >= 70) + i64::from(i >= 90)).collect();
        let counts = |rule: RandomSubset| {
            let chosen = rule.choose(&samples(&classes)).unwrap();
            [0, 1, 2].map(|class| chosen.iter().filter(|&&i| classes[i as usize] == class).count())
        };
        assert_eq!(counts(RandomSubset::share(0.3).stratified()), [21, 6, 3]);
        assert_eq!(counts(RandomSubset::share(0.3).balanced()), [10, 10, 10]);
        assert_eq!(counts(RandomSubset::count(60).balanced()), [30, 20, 10]);
    }

    #[test]
    fn invalid_settings() {
        let fault = |rule: RandomSubset| rule.choose(&samples(&[0; 4])).unwrap_err().to_string();
        for share in [0.0, 1.5, f64::NAN] {
            assert!(
                fault(RandomSubset::share(share)).contains(&format!("found {share}, expected")),
                "{share}"
            );
        }
        assert_eq!(
            fault(RandomSubset::share(0.1)),
            "`share`: found 0.1 of 4 samples, expected enough for at least one of them"
        );
        assert_eq!(fault(RandomSubset::count(5)), "`count`: found 5, expected 1 to 4, the number of samples");
        assert!(fault(RandomSubset::count(0)).contains("found 0"));
        let none = Candidates::new(4, None, None);
        assert!(RandomSubset::share(0.5).choose(&none).is_ok());
        let error = RandomSubset::share(0.5).balanced().choose(&none).unwrap_err().to_string();
        assert_eq!(
            error,
            "samples to select from: found no class for each, expected one class for each sample"
        );
    }
}
