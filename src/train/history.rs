//! What happened in a run, epoch by epoch.

use serde::{Deserialize, Serialize};

/// Mean loss, and accuracy where the targets are classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean loss.
    pub loss: f64,
    /// The share of right classes, from 0 to 1.
    pub accuracy: Option<f64>,
}

/// One epoch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// On the training samples, measured while learning.
    pub train: Score,
    /// On the validation samples, measured after the epoch.
    pub valid: Option<Score>,
    /// The learning rate of the last step.
    pub lr: f64,
    /// Seconds of training, validation not counted.
    pub seconds: f64,
}

/// All epochs of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// In their order.
    pub epochs: Vec<Epoch>,
}

impl History {
    /// The epoch with the lowest validation loss; with the lowest training loss where there was no validation.
    pub fn best(&self) -> Option<&Epoch> {
        let loss = |epoch: &Epoch| epoch.valid.unwrap_or(epoch.train).loss;
        self.epochs.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)))
    }
}
