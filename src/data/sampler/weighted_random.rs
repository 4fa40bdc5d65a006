//! Samples at random, by weight.

use super::{Draw, Population, Sampler, check_draws};
use crate::{Description, Error, Result, rng};

/// Sets the key to an epoch's draws apart from others.
const WEIGHTED: u64 = u64::from_be_bytes(*b"weighted");

/// Samples at random with replacement, each with a probability in proportion to its weight.
///
/// # Source
/// PyTorch's `WeightedRandomSampler` with `replacement=True`.
/// # Examples
/// ```
/// use bptt::data::{Population, Sampler, WeightedRandom};
///
/// let (mut sampler, mut draws) = (WeightedRandom::new([0.0, 1.0, 3.0]).draws(4000), Vec::new());
/// sampler.start(&Population::new(3, 100))?;
/// sampler.draw(1, &mut draws)?;
/// let count = |index| draws.iter().filter(|draw| draw.index == index).count();
/// assert_eq!((draws.len(), count(0)), (4000, 0));
/// assert!((2850..3150).contains(&count(2)));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "WeightedRandomSampler")]
pub struct WeightedRandom {
    weights: Vec<f64>,
    draws: Option<usize>,
    seed: u64,
}

impl WeightedRandom {
    /// A sampler with one weight for each sample; their sum need not be 1. An epoch has as many draws as there are samples.
    pub fn new(weights: impl Into<Vec<f64>>) -> Self {
        Self { weights: weights.into(), draws: None, seed: 0 }
    }

    /// How many draws an epoch has.
    pub fn draws(mut self, draws: usize) -> Self {
        self.draws = Some(draws);
        self
    }
}

impl Sampler for WeightedRandom {
    fn describe(&self) -> Description {
        Description::new("WeightedRandom", (&self.weights, self.draws))
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        let (found, expected) = (self.weights.len(), population.len);
        if found != expected {
            let expected = format!("one for each of {expected} samples");
            return Err(Error::mismatch("weighted sampler", format!("{found} weights"), expected));
        }
        if let Some(bad) = self.weights.iter().find(|weight| !(0.0..f64::INFINITY).contains(*weight)) {
            return Err(Error::config(
                "weights",
                format!("found {bad}, expected finite numbers of at least 0"),
            ));
        }
        let sum: f64 = self.weights.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(Error::config(
                "weights",
                format!("found a sum of {sum}, expected a positive number"),
            ));
        }
        check_draws(self.draws)?;
        self.seed = population.seed;
        Ok(())
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let sums: Vec<f64> = self.weights.iter().scan(0.0, |sum, &weight| Some(add(sum, weight))).collect();
        let total = sums.last().copied().unwrap_or(0.0);
        let mut rng = rng::rng(rng::key(&[self.seed, epoch as u64, WEIGHTED]));
        let last = self.weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
        for _ in 0..self.draws.unwrap_or(sums.len()) {
            let point = rng::unit(&mut rng) * total;
            // The first whose sum exceeds the point, so never one of weight 0. Rounding may put the point on the total.
            let index = sums.partition_point(|&sum| sum <= point).min(last);
            draws.push(Draw::new(index as u32));
        }
        Ok(())
    }

    fn draws(&self) -> Option<usize> {
        Some(self.draws.unwrap_or(self.weights.len()))
    }
}

/// Adds to a running sum and returns it.
fn add(sum: &mut f64, value: f64) -> f64 {
    *sum += value;
    *sum
}
