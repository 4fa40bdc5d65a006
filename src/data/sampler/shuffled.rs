//! Every sample once, shuffled.

use super::{Draw, Population, Sampler};
use crate::data::batches::{SHUFFLE, shuffle_into};
use crate::{Description, Result, rng};

/// Every sample once, in an order that is a function of seed and epoch: the default of a trainer.
///
/// # Examples
/// ```
/// use bptt::data::{Population, Sampler, Shuffled};
///
/// let (mut sampler, mut draws) = (Shuffled::new(), Vec::new());
/// sampler.start(&Population::new(10, 4).seed(1))?;
/// sampler.draw(0, &mut draws)?;
/// assert!(draws.iter().map(|draw| draw.index).eq([9, 0, 1, 5, 3, 8, 7, 6, 4, 2]));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Shuffled {
    order: Vec<u32>,
    seed: u64,
}

impl Shuffled {
    /// A sampler of all samples.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Sampler for Shuffled {
    fn describe(&self) -> Description {
        Description::new("Shuffled", ())
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        (self.order, self.seed) = (vec![0; population.len], population.seed);
        Ok(())
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        shuffle_into(&mut self.order, rng::key(&[self.seed, epoch as u64, SHUFFLE]));
        draws.extend(self.order.iter().map(|&index| Draw::new(index)));
        Ok(())
    }

    fn draws(&self) -> Option<usize> {
        Some(self.order.len())
    }
}
