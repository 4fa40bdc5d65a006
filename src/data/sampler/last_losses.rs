//! The losses that samplers remember.

use serde_json::Value;

use super::{Batch, Error, Population, Result};

/// The loss of each sample when it was last drawn, in single precision, which is the state of a sampler; and the number of
/// epochs after which there is nothing to choose any more.
#[derive(Clone, Debug, Default)]
pub(super) struct LastLosses {
    /// Infinity where the sample was not drawn yet.
    losses: Vec<f32>,
    /// Epochs beyond this draw all samples.
    until: f64,
    pub(super) seed: u64,
}

impl LastLosses {
    /// Forgets all, for a run in which the share `delta` of the epochs chooses.
    ///
    /// # Errors
    /// [`Error::Config`] if `delta` is not a share, or the number of epochs is not known but needed.
    pub(super) fn start(&mut self, population: &Population, delta: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&delta) {
            return Err(Error::config("delta", format!("found {delta}, expected a number from 0 to 1")));
        }
        let epochs = match population.epochs {
            Some(epochs) => epochs as f64,
            None if delta == 1.0 => f64::INFINITY,
            None => {
                let fault = "found no number of epochs, expected one, of which the last draw all samples";
                return Err(Error::config("population", fault));
            }
        };
        let losses = vec![f32::INFINITY; population.len];
        *self = Self { losses, until: delta * epochs, seed: population.seed };
        Ok(())
    }

    /// Whether an epoch draws all samples.
    pub(super) fn is_full(&self, epoch: usize) -> bool {
        epoch.saturating_sub(1) as f64 >= self.until
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        &self.losses
    }

    /// Takes the losses of a batch; a sample without a target has nothing to learn.
    pub(super) fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        for (index, loss) in batch.indices().zip(losses) {
            self.losses[index as usize] = loss.unwrap_or(0.0) as f32;
        }
    }

    /// The bits of all losses: whole numbers, because JSON has no infinity.
    pub(super) fn save(&self) -> Value {
        self.losses.iter().map(|loss| loss.to_bits()).collect()
    }

    /// Restores what [`save`](Self::save) returned.
    pub(super) fn load(&mut self, state: Value) -> Result<()> {
        let bad = |fault: String| Error::config("sampler", fault);
        let bits: Vec<u32> = serde_json::from_value(state)
            .map_err(|e| bad(format!("found a state of something else: {e}")))?;
        let (found, expected) = (bits.len(), self.losses.len());
        if found != expected {
            return Err(bad(format!("found losses of {found} samples, expected {expected}")));
        }
        let losses: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        if let Some(sample) = losses.iter().position(|loss| loss.is_nan()) {
            return Err(bad(format!("found NaN as the loss of sample {sample}, expected a number")));
        }
        self.losses = losses;
        Ok(())
    }
}
