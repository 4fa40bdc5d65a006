//! Selecting samples at random, by score and by how easy they are.

use serde::{Deserialize, Serialize};

use super::{Amount, Candidates, SelectionRule, check_scores, groups};
use crate::data::split::shares;
use crate::{Error, Result, math, rng};

const BETA: u64 = u64::from_be_bytes(*b"beta\0\0\0\0");
/// a + b of the distribution.
const SUM: f64 = 16.0;
/// The samples with the largest scores, by which the distribution is placed.
const ANCHORS: usize = 10;

/// Chooses samples at random, in the order of the dataset, by their scores and by the Beta distribution of DUAL: the fewer
/// are chosen, the easier they are.
///
/// Samples are drawn without replacement, each with a probability in proportion to f(p; a, b) · score, where p is the
/// mean probability of its class and f the density of the Beta distribution:
///
/// b = 15 (1 − μ) (1 − r^c), a = 16 − b
///
/// r is the share that is not chosen, μ the mean of p over the ten samples with the largest scores, and c is 4 by default,
/// for easy datasets; the authors have 11 for ImageNet. The scores, of at least 0, are those of
/// [`Dynamics::dual`](crate::train::Dynamics::dual). Samples without weight are chosen last.
///
/// # Source
/// Cho, Shin, Kang & Yun 2025, "Lightweight dataset pruning without full training via example difficulty and prediction
/// uncertainty", section 3.
/// # Examples
/// ```
/// use bptt::data::{BetaSampling, Candidates, SelectionRule};
///
/// // A thousand samples from hard to easy; the score is largest in the middle.
/// let p: Vec<f64> = (0..1000).map(|i| (i as f64 + 0.5) / 1000.0).collect();
/// let scores: Vec<f64> = p.iter().map(|p| p * (1.0 - p)).collect();
/// let mean = |share| {
///     let chosen = BetaSampling::share(share, &p[..]).choose(&Candidates::new(1000, None, Some(&scores)))?;
///     bptt::Result::Ok(chosen.iter().map(|&i| p[i as usize]).sum::<f64>() / chosen.len() as f64)
/// };
/// assert!(mean(0.1)? > mean(0.5)? + 0.05);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "DUAL")]
pub struct BetaSampling {
    amount: Amount,
    /// The mean probability of each sample's class.
    probabilities: Vec<f64>,
    exponent: f64,
    seed: u64,
    by_class: bool,
}

impl BetaSampling {
    /// This share of the samples, above 0 and at most 1, rounded to a whole number of samples, where `probabilities` are
    /// the mean probabilities of their classes ([`Dynamics::mean_probability`](crate::train::Dynamics::mean_probability));
    /// the seed is 1.
    pub fn share(share: f64, probabilities: impl Into<Vec<f64>>) -> Self {
        let (amount, probabilities) = (Amount::Share(share), probabilities.into());
        Self { amount, probabilities, exponent: 4.0, seed: 1, by_class: false }
    }

    /// This number of samples; the seed is 1.
    pub fn count(count: usize, probabilities: impl Into<Vec<f64>>) -> Self {
        Self { amount: Amount::Count(count), ..Self::share(1.0, probabilities) }
    }

    /// c, how late the distribution moves to easy samples as fewer are chosen; 4 by default.
    pub fn exponent(mut self, exponent: f64) -> Self {
        self.exponent = exponent;
        self
    }

    /// The seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Chooses within each class separately, so that each class keeps its share.
    pub fn stratified(mut self) -> Self {
        self.by_class = true;
        self
    }

    fn check(&self, scores: &[f64]) -> Result<()> {
        if !(self.exponent > 0.0 && self.exponent.is_finite()) {
            let fault = format!("found {}, expected a positive number", self.exponent);
            return Err(Error::config("exponent", fault));
        }
        let (found, expected) = (self.probabilities.len(), scores.len());
        if found != expected {
            let expected = format!("one for each of {expected} samples");
            return Err(Error::mismatch("probabilities", found, expected));
        }
        if let Some((i, p)) = self.probabilities.iter().enumerate().find(|(_, p)| !(0.0..=1.0).contains(*p)) {
            return Err(Error::mismatch("probabilities", format!("{p} for sample {i}"), "0 to 1"));
        }
        check_scores("scores", scores)?;
        match scores.iter().position(|&score| score < 0.0) {
            None => Ok(()),
            Some(i) => Err(Error::mismatch("scores", format!("{} for sample {i}", scores[i]), "at least 0")),
        }
    }

    /// a and b, where `chosen` of these samples are chosen.
    fn shape(&self, members: &[u32], scores: &[f64], chosen: usize) -> (f64, f64) {
        let mut ranked = members.to_vec();
        ranked.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        ranked.truncate(ANCHORS);
        let sum: f64 = ranked.iter().map(|&i| self.probabilities[i as usize]).sum();
        let anchor = sum / ranked.len().max(1) as f64;
        let pruned = 1.0 - chosen as f64 / members.len().max(1) as f64;
        // r^c, of which the logarithm of 0 is −∞.
        let power = math::exp(self.exponent * math::ln(pruned));
        let b = (SUM - 1.0) * (1.0 - anchor) * (1.0 - power);
        (SUM - b, b)
    }
}

impl SelectionRule for BetaSampling {
    fn choose(&self, samples: &Candidates<'_>) -> Result<Vec<u32>> {
        let count = self.amount.of(samples.len)?;
        let scores = samples.scores()?;
        self.check(scores)?;
        let groups = groups(samples, self.by_class)?;
        let sizes: Vec<usize> = groups.iter().map(|(_, members)| members.len()).collect();
        let mut chosen = Vec::with_capacity(count);
        for ((class, members), wanted) in groups.into_iter().zip(shares(&sizes, count)) {
            let (a, b) = self.shape(&members, scores, wanted);
            let mut rng = rng::rng(rng::key(&[self.seed, BETA, class as u64]));
            // Drawing without replacement is taking the smallest of independent exponential numbers of these rates: the
            // logarithm of each is ln(−ln u) − ln(rate). The density's constant factor makes no difference.
            let mut keys: Vec<(f64, f64, u32)> = Vec::with_capacity(members.len());
            for i in members {
                let (p, score) = (self.probabilities[i as usize], scores[i as usize]);
                let rate = log_power(p, a - 1.0) + log_power(1.0 - p, b - 1.0) + math::ln(score);
                let time = math::ln(-math::ln(rng::unit(&mut rng)));
                keys.push((time - rate, time, i));
            }
            keys.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.total_cmp(&y.1)));
            chosen.extend(keys[..wanted].iter().map(|key| key.2));
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}

/// ln(x^n), of x from 0 to 1, where 0⁰ = 1. A density without bound, at p = 1 where b < 1, is taken as that of the largest
/// number below 1.
fn log_power(x: f64, n: f64) -> f64 {
    if n == 0.0 { 0.0 } else { n * math::ln(if n < 0.0 { x.max(f64::EPSILON) } else { x }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(scores: &[f64]) -> Candidates<'_> {
        Candidates::new(scores.len(), None, Some(scores))
    }

    /// How often each of four samples is among two, by the definition: one after another, by the weights that are left.
    #[test]
    fn drawn_by_weight() {
        let (p, scores) = ([0.2, 0.5, 0.7, 0.9], [0.3, 1.0, 0.5, 0.2]);
        let anchor = p.iter().sum::<f64>() / 4.0;
        let b = 15.0 * (1.0 - anchor) * (1.0 - 0.5_f64.powi(4));
        let a = 16.0 - b;
        let weights: Vec<f64> =
            (0..4).map(|i| p[i].powf(a - 1.0) * (1.0 - p[i]).powf(b - 1.0) * scores[i]).collect();
        let all: f64 = weights.iter().sum();
        let expected: Vec<f64> = (0..4)
            .map(|i| {
                let second = |j: usize| weights[j] / all * weights[i] / (all - weights[j]);
                weights[i] / all + (0..4).filter(|&j| j != i).map(second).sum::<f64>()
            })
            .collect();
        let mut counts = [0.0; 4];
        let n = 20_000;
        for seed in 0..n {
            let rule = BetaSampling::share(0.5, p).seed(seed);
            let chosen = rule.choose(&candidates(&scores)).unwrap();
            assert_eq!(chosen.len(), 2);
            chosen.iter().for_each(|&i| counts[i as usize] += 1.0 / n as f64);
        }
        for (found, expected) in counts.iter().zip(&expected) {
            let sd = (expected * (1.0 - expected) / n as f64).sqrt();
            assert!((found - expected).abs() <= 5.0 * sd, "{counts:?}, expected {expected:?}");
        }
        assert!(expected[1] > expected[3] + 0.1, "the weights differ");
    }

    #[test]
    fn edges() {
        let choose = |rule: BetaSampling, scores: &[f64]| rule.choose(&candidates(scores)).unwrap();
        let p = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
        let all = choose(BetaSampling::share(1.0, p), &[0.5; 6]);
        assert!(all.into_iter().eq(0..6));
        // Samples without weight come last, and all are chosen if all are asked for.
        let scores = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0];
        assert_eq!(choose(BetaSampling::count(2, p), &scores), [2, 3]);
        assert_eq!(choose(BetaSampling::count(4, p), &scores).len(), 4);
        assert!(choose(BetaSampling::count(6, p), &[0.0; 6]).into_iter().eq(0..6));
        let one = |seed| choose(BetaSampling::count(1, p).seed(seed), &[0.0; 6]);
        assert!((1..20).any(|seed| one(seed) != one(0)));
        // Equal everything: as at random.
        let half = choose(BetaSampling::share(0.5, [0.5; 6]), &[1.0; 6]);
        assert_eq!(half.len(), 3);
        // Each class keeps its share.
        let classes = [0, 0, 0, 0, 1, 1];
        let rule = BetaSampling::share(0.5, p).stratified();
        let chosen = rule.choose(&Candidates::new(6, Some(&classes), Some(&[1.0; 6]))).unwrap();
        assert_eq!(chosen.iter().filter(|&&i| i > 3).count(), 1);
    }

    #[test]
    fn invalid_settings() {
        let fault =
            |rule: BetaSampling, scores: &[f64]| rule.choose(&candidates(scores)).unwrap_err().to_string();
        let rule = BetaSampling::share(0.5, [0.5, 0.5]);
        assert!(
            fault(BetaSampling::count(3, [0.5, 0.5]), &[1.0, 1.0])
                .starts_with("`count`: found 3, expected 1 to 2")
        );
        assert_eq!(
            fault(rule.clone(), &[1.0; 3]),
            "probabilities: found 2, expected one for each of 3 samples"
        );
        assert_eq!(fault(rule.clone(), &[1.0, -1.0]), "scores: found -1 for sample 1, expected at least 0");
        assert_eq!(
            fault(rule.clone(), &[1.0, f64::NAN]),
            "scores: found NaN for sample 1, expected a finite number"
        );
        let bad = BetaSampling::share(0.5, [0.5, 1.5]);
        assert_eq!(fault(bad, &[1.0; 2]), "probabilities: found 1.5 for sample 1, expected 0 to 1");
        assert!(fault(rule.exponent(0.0), &[1.0; 2]).starts_with("`exponent`: found 0"));
    }
}
