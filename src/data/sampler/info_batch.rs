//! Fewer of the samples that are learned already, with weights for it.

use super::last_losses::LastLosses;
use super::{Batch, Draw, Population, Sampler};
use crate::data::batches::shuffle_slice;
use crate::{Description, Error, Result, rng};

/// Sets the keys to an epoch's draws apart from others.
const INFO_BATCH: u64 = u64::from_be_bytes(*b"infobtch");

/// InfoBatch: leaves out some of the samples that are learned already, and gives the others of these larger weights.
///
/// Each epoch, of the m samples whose loss when they were last drawn is less than the mean of all losses, ⌊(1 − r) m⌋ are
/// drawn at random, each with weight 1 / (1 − r); the other samples are all drawn, with weight 1. So the expected sum of
/// the gradients is that of all samples. The first epoch draws all, as do the last ones, those beyond δ · epochs. r is 0.5
/// and δ 0.875 by default. The losses that count are those before any weight.
///
/// **What an optimizer makes of the weights.** The mean of a batch divides by its draws, not by their weights, so a batch's
/// gradient is about as much larger than that of all samples as there are fewer batches: SGD goes as far in an epoch.
/// [`Adam`](crate::optim::Adam) and its relatives divide by the gradient's size, which cancels a common factor: to them
/// fewer steps are fewer steps, and only the weight of learned samples relative to the others remains. What is saved in
/// time is then also saved in steps, and a rate that was chosen for all samples may be too low.
///
/// Epochs differ in length; a schedule by step follows the share of the run that is done. The number of epochs is the
/// trainer's, so a run that is resumed with more of them is another run.
///
/// # Source
/// Qin et al. 2024, "InfoBatch: lossless training speed up by unbiased dynamic data pruning", section 2.
/// # Examples
/// ```
/// use bptt::data::InfoBatch;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).sampler(InfoBatch::new());
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug)]
pub struct InfoBatch {
    ratio: f64,
    delta: f64,
    losses: LastLosses,
}

impl Default for InfoBatch {
    fn default() -> Self {
        Self { ratio: 0.5, delta: 0.875, losses: LastLosses::default() }
    }
}

impl InfoBatch {
    /// A sampler with r = 0.5 and δ = 0.875.
    pub fn new() -> Self {
        Self::default()
    }

    /// r, the share that is left out of the samples that are learned already, at least 0 and less than 1.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// δ, the share of the epochs after which all samples are drawn, from 0 to 1.
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }
}

impl Sampler for InfoBatch {
    fn describe(&self) -> Description {
        Description::new("InfoBatch", (self.ratio, self.delta))
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        if !(0.0..1.0).contains(&self.ratio) {
            let fault = format!("found {}, expected a number of at least 0 and less than 1", self.ratio);
            return Err(Error::config("ratio", fault));
        }
        self.losses.start(population, self.delta)
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let losses = self.losses.as_slice();
        let key = |part: u64| rng::key(&[self.losses.seed, epoch as u64, INFO_BATCH, part]);
        let all = 0..losses.len() as u32;
        let (mut learned, mut order) = (Vec::new(), Vec::new());
        if self.losses.is_full(epoch) {
            order.extend(all);
        } else {
            let sum: f64 = losses.iter().copied().map(f64::from).sum();
            let mean = sum / losses.len() as f64;
            (learned, order) = all.partition(|&i| f64::from(losses[i as usize]) < mean);
        }
        shuffle_slice(&mut learned, key(0));
        learned.truncate(((1.0 - self.ratio) * learned.len() as f64) as usize);
        let mut weights = vec![1.0; losses.len()];
        learned.iter().for_each(|&i| weights[i as usize] = 1.0 / (1.0 - self.ratio));
        order.append(&mut learned);
        order.sort_unstable();
        shuffle_slice(&mut order, key(1));
        draws.extend(order.into_iter().map(|i| Draw::new(i).weight(weights[i as usize])));
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
