//! The hardest share of the samples.

use super::last_losses::LastLosses;
use super::{Batch, Draw, Population, Sampler};
use crate::data::Amount;
use crate::data::batches::shuffle_slice;
use crate::{Description, Result, rng};

/// Sets the keys to an epoch's draws apart from others.
const HARDEST: u64 = u64::from_be_bytes(*b"hardest\0");

/// The samples with the largest losses, by the loss that each had when it was last drawn, shuffled.
///
/// The first epoch draws all samples, and so do the last ones, those beyond δ · epochs, so that the model ends on what it
/// is for: δ is 0.875 by default. Each of the others draws the share of the samples with the largest losses; of equal
/// losses, the later sample counts as harder. A sample that is left out keeps its loss while those of the others fall, and
/// so comes back.
///
/// Epochs differ in length; a schedule by step follows the share of the run that is done. The number of epochs is the
/// trainer's, so a run that is resumed with more of them is another run.
///
/// # Source
/// Jiang et al. 2019, "Accelerating deep learning by focusing on the biggest losers", by whole epochs and without a
/// probability; the epochs at the end are InfoBatch's annealing.
/// # Examples
/// ```
/// use bptt::data::{Batch, Draw, HardestShare, Population, Sampler};
///
/// let (mut sampler, mut draws) = (HardestShare::new(0.5), Vec::new());
/// sampler.start(&Population::new(4, 2).epochs(8))?;
/// sampler.observe(Batch::new(&[0, 1, 2, 3].map(Draw::new), 1, 0), &[0.5, 2.0, 0.1, 1.0].map(Some));
/// sampler.draw(2, &mut draws)?;
/// draws.sort_by_key(|draw| draw.index);
/// assert_eq!(draws, [Draw::new(1), Draw::new(3)]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HardestShare {
    share: f64,
    delta: f64,
    losses: LastLosses,
}

impl HardestShare {
    /// A sampler of this share, above 0 and at most 1, rounded to a whole number of samples.
    pub fn new(share: f64) -> Self {
        Self { share, delta: 0.875, losses: LastLosses::default() }
    }

    /// δ, the share of the epochs after which all samples are drawn, from 0 to 1; 0.875 by default.
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }
}

impl Sampler for HardestShare {
    fn describe(&self) -> Description {
        Description::new("HardestShare", (self.share, self.delta))
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        Amount::Share(self.share).of(population.len)?;
        self.losses.start(population, self.delta)
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let losses = self.losses.as_slice();
        let mut order: Vec<u32> = (0..losses.len() as u32).collect();
        if epoch > 1 && !self.losses.is_full(epoch) {
            order.sort_by(|&a, &b| losses[a as usize].total_cmp(&losses[b as usize]));
            order.drain(..losses.len() - Amount::Share(self.share).of(losses.len())?);
            // The shuffle begins from the order of the samples, not that of their losses.
            order.sort_unstable();
        }
        shuffle_slice(&mut order, rng::key(&[self.losses.seed, epoch as u64, HARDEST]));
        draws.extend(order.into_iter().map(Draw::new));
        Ok(())
    }

    fn observes(&self) -> bool {
        true
    }

    fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        self.losses.observe(batch, losses);
    }

    fn save_state(&self) -> Option<serde_json::Value> {
        Some(self.losses.save())
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
        self.losses.load(state)
    }
}
