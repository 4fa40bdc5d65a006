//! A fresh share of the samples in each epoch.

use super::{Draw, Population, Sampler};
use crate::data::Amount;
use crate::data::batches::{SHUFFLE, shuffle_into};
use crate::{Description, Result, rng};

/// A fresh share of the samples in each epoch, at random, and every sample equally often, to within one.
///
/// The epochs go through all samples in random order, then again in another order, and so on, and each continues where the
/// one before it ended. So a run of E epochs draws what share · E epochs of all samples draw: it is a shorter training on
/// all samples with the learning rate's schedule laid over it, the baseline that every choice of samples must beat. A share
/// of 1 is [`Shuffled`](super::Shuffled). Where one order ends within an epoch, a sample may be drawn twice in it.
///
/// # Source
/// Okanovic et al. 2024, "Repeated random sampling for minimizing the time-to-accuracy of learning", RS2 without
/// replacement.
/// # Examples
/// ```
/// use bptt::data::{Population, RandomShare, Sampler};
///
/// let (mut sampler, mut draws) = (RandomShare::new(0.5), Vec::new());
/// sampler.start(&Population::new(10, 5))?;
/// let mut draw = |epoch| {
///     draws.clear();
///     sampler.draw(epoch, &mut draws)?;
///     bptt::Result::Ok(draws.iter().map(|draw| draw.index).collect::<Vec<_>>())
/// };
/// let mut all = [draw(1)?, draw(2)?].concat();
/// all.sort_unstable();
/// assert!(all.into_iter().eq(0..10));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "RS2")]
pub struct RandomShare {
    share: f64,
    count: usize,
    order: Vec<u32>,
    seed: u64,
}

impl RandomShare {
    /// A sampler of this share, above 0 and at most 1, rounded to a whole number of samples.
    pub fn new(share: f64) -> Self {
        Self { share, count: 0, order: Vec::new(), seed: 0 }
    }
}

impl Sampler for RandomShare {
    fn describe(&self) -> Description {
        Description::new("RandomShare", self.share)
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        self.count = Amount::Share(self.share).of(population.len)?;
        (self.order, self.seed) = (vec![0; population.len], population.seed);
        Ok(())
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let n = self.order.len() as u64;
        let mut next = epoch.saturating_sub(1) as u64 * self.count as u64;
        let end = next + self.count as u64;
        while next < end {
            let (pass, from) = (next / n, next % n);
            let to = n.min(from + (end - next));
            // Passes are counted from 1, as the epochs of all samples are.
            shuffle_into(&mut self.order, rng::key(&[self.seed, pass + 1, SHUFFLE]));
            draws.extend(self.order[from as usize..to as usize].iter().map(|&index| Draw::new(index)));
            next += to - from;
        }
        Ok(())
    }

    fn draws(&self) -> Option<usize> {
        Some(self.count)
    }
}
