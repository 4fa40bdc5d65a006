//! Selecting samples of all degrees of difficulty.

use serde::{Deserialize, Serialize};

use super::random::level;
use super::{Amount, Candidates, SelectionRule, check_scores, groups};
use crate::data::batches::shuffle_slice;
use crate::data::split::shares;
use crate::{Error, Result, rng};

const COVERAGE: u64 = u64::from_be_bytes(*b"coverage");

/// Chooses samples of all degrees of difficulty, in the order of the dataset: coverage-centric coreset selection, CCS.
///
/// 1. The β · n samples with the smallest margins are cut, which are the hardest and those of wrong classes; none by
///    default.
/// 2. The range of the scores of the others is divided into strata of equal width, 50 by default.
/// 3. The samples to choose are distributed among the strata as evenly as their sizes allow: from the smallest stratum to
///    the largest, each gives min(its size, those left to choose / strata left).
/// 4. Within a stratum, samples are chosen at random.
///
/// Any score will do that differs between easy and hard samples: [`Dynamics`](crate::train::Dynamics) has several, and
/// [`aum`](crate::train::Dynamics::aum) for the cut. Of equal margins, the earlier sample is cut first.
///
/// How many to cut depends on the data and the share: the authors cut 0 to 30 %, more for smaller shares. Choose β on
/// validation samples.
///
/// # Source
/// Zheng, Liu, Lai & Prakash 2023, "Coverage-centric coreset selection for high pruning rates", algorithm 1.
/// # Examples
/// ```
/// use bptt::data::{Candidates, Coverage, SelectionRule};
///
/// let scores = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.9, 1.0, 1.0];
/// let margins = scores.map(|score| -score);
/// let samples = Candidates::new(10, None, Some(&scores));
/// let chosen = Coverage::share(0.4).cut(0.2, margins).choose(&samples)?;
/// // Neither of the two hardest, but all other hard ones.
/// assert_eq!(&chosen[2..], [6, 7]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "CCS")]
pub struct Coverage {
    amount: Amount,
    strata: usize,
    cut: f64,
    /// What is cut by.
    margins: Vec<f64>,
    seed: u64,
    by_class: bool,
}

impl Coverage {
    /// This share of the samples, above 0 and at most 1, rounded to a whole number of samples; the seed is 1.
    pub fn share(share: f64) -> Self {
        let amount = Amount::Share(share);
        Self { amount, strata: 50, cut: 0.0, margins: Vec::new(), seed: 1, by_class: false }
    }

    /// This number of samples; the seed is 1.
    pub fn count(count: usize) -> Self {
        Self { amount: Amount::Count(count), ..Self::share(1.0) }
    }

    /// Cuts the share β of the samples with the smallest of these margins, one for each sample, beforehand.
    pub fn cut(mut self, share: f64, margins: impl Into<Vec<f64>>) -> Self {
        (self.cut, self.margins) = (share, margins.into());
        self
    }

    /// How many strata there are; 50 by default.
    pub fn strata(mut self, strata: usize) -> Self {
        self.strata = strata;
        self
    }

    /// The seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Cuts and chooses within each class separately, so that each class keeps its share.
    pub fn stratified(mut self) -> Self {
        self.by_class = true;
        self
    }

    /// Checks the settings for `n` samples.
    fn check(&self, n: usize) -> Result<()> {
        if self.strata == 0 {
            return Err(Error::config("strata", "found 0, expected at least 1"));
        }
        if !(0.0..1.0).contains(&self.cut) {
            let fault = format!("found {}, expected a share of at least 0 and less than 1", self.cut);
            return Err(Error::config("cut", fault));
        }
        if self.cut > 0.0 && self.margins.len() != n {
            let expected = format!("one for each of {n} samples");
            return Err(Error::mismatch("margins", self.margins.len(), expected));
        }
        check_scores("margins", &self.margins)
    }

    /// Removes the samples with the smallest margins.
    fn cut_hardest(&self, members: &mut Vec<u32>) {
        let cut = (self.cut * members.len() as f64).round() as usize;
        if cut > 0 {
            let margin = |i: u32| self.margins[i as usize];
            members.sort_by(|&a, &b| margin(a).total_cmp(&margin(b)));
            members.drain(..cut);
            members.sort_unstable();
        }
    }

    /// The members of each stratum.
    fn divide(&self, members: Vec<u32>, scores: &[f64]) -> Vec<Vec<u32>> {
        let score = |i: u32| scores[i as usize];
        let [min, max] =
            [f64::min, f64::max].map(|pick| members.iter().map(|&i| score(i)).reduce(pick).unwrap_or(0.0));
        let mut strata = vec![Vec::new(); self.strata];
        for i in members {
            let place = (score(i) - min) / (max - min) * self.strata as f64;
            // The largest score belongs to the last stratum. If all are equal, the place is NaN, which becomes 0.
            strata[(place as usize).min(self.strata - 1)].push(i);
        }
        strata
    }
}

impl SelectionRule for Coverage {
    fn choose(&self, samples: &Candidates<'_>) -> Result<Vec<u32>> {
        let count = self.amount.of(samples.len)?;
        self.check(samples.len)?;
        let scores = samples.scores()?;
        check_scores("scores", scores)?;
        let groups = groups(samples, self.by_class)?;
        let sizes: Vec<usize> = groups.iter().map(|(_, members)| members.len()).collect();
        let mut chosen = Vec::with_capacity(count);
        for ((class, mut members), wanted) in groups.into_iter().zip(shares(&sizes, count)) {
            let all = members.len();
            self.cut_hardest(&mut members);
            if wanted > members.len() {
                let left = members.len();
                let fault = format!(
                    "found {wanted} of {all} samples, of which {left} are left after the cut of {}",
                    self.cut
                );
                let of = if self.by_class { format!(" (class {class})") } else { String::new() };
                return Err(Error::config(
                    self.amount.name(),
                    format!("{fault}{of}, expected at most these"),
                ));
            }
            let strata = self.divide(members, scores);
            let sizes: Vec<usize> = strata.iter().map(Vec::len).collect();
            for ((number, mut stratum), wanted) in (0..).zip(strata).zip(level(&sizes, wanted)) {
                shuffle_slice(&mut stratum, rng::key(&[self.seed, COVERAGE, class as u64, number]));
                chosen.extend_from_slice(&stratum[..wanted]);
            }
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 that are denser near 0.
    fn scores(n: usize) -> Vec<f64> {
        let mut rng = rng::rng(n as u64);
        (0..n).map(|_| rng::unit(&mut rng).powi(3)).collect()
    }

    /// How many of each stratum the published algorithm takes, step by step.
    fn budgets(scores: &[f64], strata: usize, mut total: usize) -> Vec<usize> {
        let (lo, hi) = scores.iter().fold((f64::MAX, f64::MIN), |(lo, hi), &s| (lo.min(s), hi.max(s)));
        let mut sizes = vec![0; strata];
        for score in scores {
            let mut stratum = 0;
            while stratum + 1 < strata && *score >= lo + (hi - lo) * (stratum + 1) as f64 / strata as f64 {
                stratum += 1;
            }
            sizes[stratum] += 1;
        }
        let mut left: Vec<usize> = (0..strata).collect();
        let mut budgets = vec![0; strata];
        while let Some(at) = (0..left.len()).min_by_key(|&i| sizes[left[i]]) {
            let budget = sizes[left[at]].min(total / left.len());
            budgets[left.remove(at)] = budget;
            total -= budget;
        }
        assert_eq!(total, 0);
        budgets
    }

    #[test]
    fn strata_are_levelled_as_published() {
        for (n, strata, share, cut) in
            [(500, 50, 0.3, 0.0), (500, 50, 0.3, 0.2), (200, 7, 0.5, 0.4), (90, 50, 0.1, 0.1)]
        {
            let scores = scores(n);
            // Hard samples have small margins here.
            let margins: Vec<f64> = scores.iter().map(|s| 1.0 - 2.0 * s).collect();
            let rule = Coverage::share(share).strata(strata).cut(cut, margins);
            let chosen = rule.choose(&Candidates::new(n, None, Some(&scores))).unwrap();
            assert!(chosen.is_sorted_by(|a, b| a < b));
            assert_eq!(chosen.len(), (share * n as f64).round() as usize);

            let mut ranked = scores.clone();
            ranked.sort_by(f64::total_cmp);
            let kept = &ranked[..n - (cut * n as f64).round() as usize];
            let of_stratum = |score: f64| {
                let (lo, hi) = (kept[0], kept[kept.len() - 1]);
                (((score - lo) / (hi - lo) * strata as f64) as usize).min(strata - 1)
            };
            let mut counts = vec![0; strata];
            for &i in &chosen {
                assert!(scores[i as usize] <= kept[kept.len() - 1], "sample {i} was cut");
                counts[of_stratum(scores[i as usize])] += 1;
            }
            assert_eq!(counts, budgets(kept, strata, chosen.len()));
            // Another seed chooses others of the strata that are not exhausted.
            let other = rule.seed(2).choose(&Candidates::new(n, None, Some(&scores))).unwrap();
            assert_ne!(other, chosen);
        }
    }

    #[test]
    fn edges() {
        let scores = scores(40);
        let classes: Vec<i64> = (0..40).map(|i| i64::from(i % 4 == 0)).collect();
        let choose =
            |rule: Coverage, scores: &[f64]| rule.choose(&Candidates::new(40, Some(&classes), Some(scores)));
        assert!(choose(Coverage::share(1.0), &scores).unwrap().into_iter().eq(0..40));
        assert!(choose(Coverage::share(1.0).stratified(), &scores).unwrap().into_iter().eq(0..40));
        // Equal scores are one stratum: samples at random.
        let equal = choose(Coverage::count(10), &[2.5; 40]).unwrap();
        assert_eq!(
            (equal.len(), equal == choose(Coverage::count(10).seed(2), &[2.5; 40]).unwrap()),
            (10, false)
        );
        // Each class keeps its share, and loses its own hardest samples.
        let chosen = choose(Coverage::share(0.5).cut(0.5, scores.clone()).stratified(), &scores).unwrap();
        let few: Vec<u32> = chosen.iter().copied().filter(|i| i % 4 == 0).collect();
        assert_eq!((chosen.len(), few.len()), (20, 5));
        let worst = few.iter().map(|&i| scores[i as usize]).fold(f64::MAX, f64::min);
        let all = (0..40).step_by(4).map(|i| scores[i]);
        assert_eq!(all.filter(|&score| score >= worst).count(), 5);
        // What is cut, of equal margins, is the earliest.
        let rest = choose(Coverage::share(0.75).cut(0.25, [1.0; 40]), &scores).unwrap();
        assert!(rest.into_iter().eq(10..40));
    }

    #[test]
    fn invalid_settings() {
        let scores = scores(10);
        let classes = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        let fault = |rule: Coverage, scores: &[f64]| {
            rule.choose(&Candidates::new(10, Some(&classes), Some(scores))).unwrap_err().to_string()
        };
        let cut = |cut: f64, share: f64| Coverage::share(share).cut(cut, scores.clone());
        assert_eq!(
            fault(cut(0.3, 0.8), &scores),
            "`share`: found 8 of 10 samples, of which 7 are left after the cut of 0.3, expected at most these"
        );
        assert_eq!(
            fault(Coverage::count(9).cut(0.5, scores.clone()).stratified(), &scores),
            "`count`: found 7 of 8 samples, of which 4 are left after the cut of 0.5 (class 0), expected at most these"
        );
        for share in [-0.1, 1.0, f64::NAN] {
            assert!(fault(cut(share, 0.5), &scores).starts_with(&format!("`cut`: found {share}, expected")));
        }
        assert!(fault(Coverage::share(0.5).strata(0), &scores).starts_with("`strata`: found 0"));
        assert!(fault(Coverage::share(0.0), &scores).starts_with("`share`: found 0"));
        assert_eq!(
            fault(Coverage::share(0.5).cut(0.1, [0.0]), &scores),
            "margins: found 1, expected one for each of 10 samples"
        );
        let mut bad = scores.clone();
        bad[4] = f64::INFINITY;
        assert_eq!(
            fault(Coverage::share(0.5), &bad),
            "scores: found inf for sample 4, expected a finite number"
        );
        let rule = Coverage::share(0.5).cut(0.1, bad);
        assert_eq!(fault(rule, &scores), "margins: found inf for sample 4, expected a finite number");
    }
}
