//! A custom sampler.

use bptt::data::{Batch, Draw, Population, Sampler, Shuffled};
use bptt::{Description, Error, Result};

/// The harder half of the samples, by the loss that each had when it was last drawn.
///
/// The first epoch, and every `every`-th after it, draws all samples, shuffled. The others draw the half of them, rounded up,
/// with the largest losses, the largest first, and equal ones in the order of the data. The weights of a half are in
/// proportion to the losses, and their mean is 1.
#[derive(Debug)]
pub struct HardestHalf {
    every: usize,
    all: Shuffled,
    /// The last loss of each sample; `None` where it was not drawn yet, or has no target that counts.
    losses: Vec<Option<f64>>,
}

impl HardestHalf {
    /// Draws all samples in every `every`-th epoch.
    pub fn new(every: usize) -> Self {
        Self { every, all: Shuffled::new(), losses: Vec::new() }
    }
}

impl Sampler for HardestHalf {
    fn describe(&self) -> Description {
        Description::new("downstream.hardest_half", self.every)
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        if self.every == 0 {
            return Err(Error::config("every", "found 0, expected at least 1"));
        }
        self.losses = vec![None; population.len];
        self.all.start(population)
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        if (epoch - 1).is_multiple_of(self.every) {
            return self.all.draw(epoch, draws);
        }
        let loss = |index: &u32| self.losses[*index as usize].unwrap_or(0.0);
        let mut half: Vec<u32> = (0..self.losses.len() as u32).collect();
        half.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
        half.truncate(half.len().div_ceil(2));
        let mean = half.iter().map(loss).sum::<f64>() / half.len() as f64;
        // Where nothing is left to learn, all weigh the same.
        let weight = |index| if mean > 0.0 { loss(index) / mean } else { 1.0 };
        draws.extend(half.iter().map(|index| Draw::new(*index).weight(weight(index))));
        Ok(())
    }

    fn observes(&self) -> bool {
        true
    }

    fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        batch.indices().zip(losses).for_each(|(index, loss)| self.losses[index as usize] = *loss);
    }

    fn save_state(&self) -> Option<serde_json::Value> {
        Some(self.losses.clone().into())
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
        let bad = |fault: String| Error::config("hardest half", fault);
        let losses: Vec<_> = serde_json::from_value(state).map_err(|e| bad(e.to_string()))?;
        if losses.len() != self.losses.len() {
            return Err(bad(format!("found {} losses, expected {}", losses.len(), self.losses.len())));
        }
        self.losses = losses;
        Ok(())
    }
}
