//! The callback that records dynamics.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Dynamics, ERROR, LOSS, MARGIN, PROBABILITY};
use crate::train::{Callback, CallbackState, Drawn};
use crate::{Error, Model, Real, Result};

/// Records the [`Dynamics`] of a run as it goes by, with no pass of its own.
///
/// Clones share what is recorded: give one to the trainer, and ask another for the [`dynamics`](Self::dynamics) when
/// training is done. The values are those just before the step that learns from a sample, so within an epoch they are of
/// ever later parameters, never of averages. They are the same bits at any number of threads, and are kept in the run's
/// file. Samples must have one class each.
///
/// A run takes about as much memory as 16 bytes for each sample and epoch.
///
/// # Examples
/// ```
/// use bptt::train::RecordDynamics;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let recorder = RecordDynamics::new().file("dynamics.safetensors");
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(recorder.clone());
/// # let _ = trainer;
/// assert_eq!(recorder.dynamics().epochs(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RecordDynamics {
    shared: Arc<Mutex<Dynamics>>,
    file: Option<PathBuf>,
    rank: usize,
}

impl RecordDynamics {
    /// A recorder without a record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also [saves](Dynamics::save) the dynamics to this file at the end of the run. Of several ranks, only the first does.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// What was recorded so far of the present run or the last one.
    pub fn dynamics(&self) -> Dynamics {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Dynamics> {
        // A panic elsewhere leaves whole values behind.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dynamics {
    fn record(&mut self, Drawn { batch, outcomes, samples, .. }: Drawn<'_>) {
        self.samples = samples;
        let first = batch.epoch.saturating_sub(1) * samples;
        for values in &mut self.values {
            values.resize(first + samples, f32::NAN);
        }
        for (index, outcome) in batch.indices().zip(outcomes) {
            let Some(outcome) = outcome else { continue };
            let place = first + index as usize;
            self.values[ERROR][place] = outcome.error as f32;
            self.values[LOSS][place] = outcome.loss as f32;
            self.values[MARGIN][place] = outcome.margin as f32;
            self.values[PROBABILITY][place] = outcome.probability as f32;
        }
    }
}

/// The part of it that goes into a run's file as JSON.
#[derive(Serialize, Deserialize)]
struct RecorderState {
    epochs: usize,
    samples: usize,
}

impl<R: Real> Callback<R> for RecordDynamics {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        *self.lock() = Dynamics::default();
        Ok(())
    }

    fn observes(&self) -> bool {
        true
    }

    fn on_draws(&mut self, drawn: Drawn<'_>) {
        self.lock().record(drawn);
    }

    fn save_state(&self) -> Option<CallbackState<R>> {
        let dynamics = self.lock();
        let state = RecorderState { epochs: dynamics.epochs(), samples: dynamics.samples };
        // Every f32 is a value of R.
        let values = dynamics.values.iter().flatten().map(|&value| R::from_f64(value.into()));
        Some(CallbackState { json: serde_json::to_value(state).ok()?, values: values.collect() })
    }

    fn load_state(&mut self, state: CallbackState<R>, _: &mut Model<R>) -> Result<()> {
        let RecorderState { epochs, samples } = state.parse("dynamics")?;
        let each = epochs.checked_mul(samples).filter(|each| each.checked_mul(4) == Some(state.values.len()));
        let Some(each) = each else {
            let expected = format!("4 for each of {samples} samples in {epochs} epochs");
            return Err(Error::mismatch("dynamics: values", state.values.len(), expected));
        };
        let values = |i: usize| {
            state.values[i * each..(i + 1) * each].iter().map(|value| value.to_f64() as f32).collect()
        };
        *self.lock() = Dynamics { samples, values: std::array::from_fn(values) };
        Ok(())
    }

    fn on_end(&mut self, _: &mut Model<R>) -> Result<()> {
        let file = self.file.as_ref().filter(|_| self.rank == 0);
        file.map_or(Ok(()), |path| self.lock().save(path))
    }
}
