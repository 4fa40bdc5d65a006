//! Selecting samples by how hard they are.

use serde::{Deserialize, Serialize};

use super::{Candidates, SelectionRule, groups};
use crate::{Error, Result};

/// Chooses samples by their losses, or by any other score that is larger for harder samples, in the order of the dataset.
///
/// Ranked from the easiest to the hardest, sample r of n is chosen where round(lo · n) ≤ r < round(hi · n); of samples
/// with equal losses the earlier one counts as easier.
///
/// # Source
/// After Gedeon & Bowden 1992, "Heuristic pattern reduction", who choose by the errors of a trained network.
/// # Examples
/// ```
/// use bptt::data::{ByLoss, Candidates, SelectionRule};
///
/// let losses = [0.1, 3.0, 0.2, 0.0, 1.0];
/// let samples = Candidates::new(5, None, Some(&losses));
/// assert_eq!(ByLoss::hardest(0.4).choose(&samples)?, [1, 4]);
/// assert_eq!(ByLoss::easiest(0.4).choose(&samples)?, [0, 3]);
/// assert_eq!(ByLoss::band(0.2, 0.8).choose(&samples)?, [0, 2, 4]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByLoss {
    band: LossRange,
    by_class: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LossRange {
    Hardest(f64),
    Between(f64, f64),
}

impl ByLoss {
    /// The share of the samples with the largest losses.
    pub fn hardest(share: f64) -> Self {
        Self { band: LossRange::Hardest(share), by_class: false }
    }

    /// The share of the samples with the smallest losses.
    pub fn easiest(share: f64) -> Self {
        Self::band(0.0, share)
    }

    /// The samples between these shares, from the smallest loss at 0 to the largest at 1.
    pub fn band(lo: f64, hi: f64) -> Self {
        Self { band: LossRange::Between(lo, hi), by_class: false }
    }

    /// Ranks and chooses within each class separately, so that each class keeps its share.
    pub fn stratified(mut self) -> Self {
        self.by_class = true;
        self
    }
}

impl SelectionRule for ByLoss {
    fn choose(&self, samples: &Candidates<'_>) -> Result<Vec<u32>> {
        let (lo, hi) = match self.band {
            LossRange::Hardest(share) => (0.0, share),
            LossRange::Between(lo, hi) => (lo, hi),
        };
        if !(0.0 <= lo && lo < hi && hi <= 1.0) {
            let fault = format!(
                "found {lo} to {hi}, expected the first to be at least 0, the last to be more and at most 1"
            );
            return Err(Error::config("share", fault));
        }
        let scores = samples.scores()?;
        if let Some(i) = scores.iter().position(|score| score.is_nan()) {
            return Err(Error::mismatch("scores", format!("NaN for sample {i}"), "a number"));
        }
        let mut chosen = Vec::new();
        for (_, mut members) in groups(samples, self.by_class)? {
            members.sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
            let n = members.len();
            let place = |share: f64| (share * n as f64).round() as usize;
            chosen.extend_from_slice(match self.band {
                LossRange::Hardest(share) => &members[n - place(share)..],
                LossRange::Between(lo, hi) => &members[place(lo)..place(hi)],
            });
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 6] = [5.0, 1.0, 4.0, 1.0, 0.5, f64::INFINITY];

    fn choose(rule: ByLoss) -> Vec<u32> {
        let classes = [0, 0, 0, 1, 1, 1];
        rule.choose(&Candidates::new(6, Some(&classes), Some(&SCORES))).unwrap()
    }

    #[test]
    fn by_rank() {
        assert_eq!(choose(ByLoss::hardest(0.5)), [0, 2, 5]);
        assert_eq!(choose(ByLoss::easiest(0.5)), [1, 3, 4]);
        // Equal losses: the earlier one is easier.
        assert_eq!(choose(ByLoss::easiest(0.34)), [1, 4]);
        assert_eq!(choose(ByLoss::band(0.34, 0.67)), [2, 3]);
        assert_eq!(choose(ByLoss::hardest(1.0)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(choose(ByLoss::hardest(0.34).stratified()), [0, 5]);
        assert_eq!(choose(ByLoss::easiest(0.34).stratified()), [1, 4]);
    }

    #[test]
    fn invalid_settings() {
        let fault = |rule: ByLoss, scores: Option<&[f64]>| {
            rule.choose(&Candidates::new(2, None, scores)).unwrap_err().to_string()
        };
        let scores = Some(&[0.0, 1.0][..]);
        assert!(fault(ByLoss::hardest(0.0), scores).starts_with("`share`: found 0 to 0, expected"));
        assert!(fault(ByLoss::band(0.5, 0.5), scores).contains("found 0.5 to 0.5"));
        assert!(fault(ByLoss::band(-0.5, 0.5), scores).contains("found -0.5 to 0.5"));
        assert!(fault(ByLoss::easiest(f64::NAN), scores).contains("found 0 to NaN"));
        assert_eq!(
            fault(ByLoss::hardest(0.5), None),
            "samples to select from: found no scores, expected one for each sample"
        );
        let nan = fault(ByLoss::hardest(0.5), Some(&[0.0, f64::NAN]));
        assert_eq!(nan, "scores: found NaN for sample 1, expected a number");
        assert!(fault(ByLoss::hardest(0.5).stratified(), scores).contains("no class for each"));
    }
}
