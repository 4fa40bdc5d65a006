//! The history of a run: its epochs.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, atomic_write};

/// Mean loss, and accuracy where the targets are classes, or the loss has a [threshold](crate::loss::Loss::threshold); `None`
/// where nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean loss; `None` where no target counts. In JSON, a loss that is not finite is `null` too.
    pub loss: Option<f64>,
    /// The share of targets predicted correctly, from 0 to 1; `None` where no target counts, or there is no accuracy.
    pub accuracy: Option<f64>,
}

/// One epoch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// The score on the training samples, measured during training.
    pub train: Score,
    /// The score on the validation samples, measured after the epoch.
    pub valid: Option<Score>,
    /// The learning rate of the last step.
    pub lr: f64,
    /// Seconds of training, without validation.
    pub seconds: f64,
}

/// All epochs of a run.
///
/// # Examples
/// ```
/// use bptt::train::{Epoch, History, Score};
///
/// let epoch = |epoch, loss| {
///     let train = Score { loss: Some(loss), accuracy: Some(0.75) };
///     Epoch { epoch, train, valid: None, lr: 0.001, seconds: 1.5 }
/// };
/// let history = History { epochs: vec![epoch(1, 0.5), epoch(2, 0.25), epoch(3, 0.375)] };
/// assert_eq!(history.best().map(|epoch| epoch.epoch), Some(2));
/// assert!(history.to_csv().ends_with("\n3,0.375,0.75,,,0.001,1.5\n"));
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("history.json");
/// history.save(&path)?;
/// assert_eq!(History::load(&path)?, history);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The epochs, in order.
    pub epochs: Vec<Epoch>,
}

impl History {
    /// The epoch with the lowest validation loss, or training loss where there was no validation. Epochs without a loss
    /// are skipped.
    pub fn best(&self) -> Option<&Epoch> {
        let loss = |epoch: &Epoch| epoch.valid.unwrap_or(epoch.train).loss.filter(|loss| !loss.is_nan());
        let epochs = self.epochs.iter().filter_map(|epoch| Some((epoch, loss(epoch)?)));
        epochs.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(epoch, _)| epoch)
    }

    /// The history as CSV: a line of names and a line for each epoch. What an epoch does not have is empty.
    pub fn to_csv(&self) -> String {
        let mut csv = "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds\n".to_owned();
        for Epoch { epoch, train, valid, lr, seconds } in &self.epochs {
            let or_empty = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
            let (train_loss, train_accuracy) = (or_empty(train.loss), or_empty(train.accuracy));
            let valid_loss = or_empty(valid.and_then(|valid| valid.loss));
            let valid_accuracy = or_empty(valid.and_then(|valid| valid.accuracy));
            // Writing to a string does not fail.
            let _ = writeln!(
                csv,
                "{epoch},{train_loss},{train_accuracy},{valid_loss},{valid_accuracy},{lr},{seconds}"
            );
        }
        csv
    }

    /// Writes the history as JSON, by [`atomic_write`](crate::atomic_write).
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::file(path, e.to_string()))?;
        atomic_write(path, json + "\n")
    }

    /// Reads a history that [`save`](Self::save) or a [`JsonLog`](super::JsonLog) wrote, to the bit.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let bad = |e| Error::file(path, format!("found a history that cannot be read: {e}"));
        serde_json::from_slice(&bytes).map_err(bad)
    }
}
