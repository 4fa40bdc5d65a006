//! The score that decides which epoch was better.

use serde::{Deserialize, Serialize};

use super::Epoch;
use crate::{Error, Result};

/// The score that a callback or a schedule watches; Keras's `monitor` and `mode` in one: lower losses are better, and higher
/// accuracies.
///
/// # Examples
/// ```
/// use bptt::train::{Epoch, Monitor, Score};
///
/// let train = Score { loss: Some(0.3), accuracy: Some(0.90) };
/// let valid = Score { loss: Some(0.4), accuracy: Some(0.85) };
/// let epoch = Epoch { epoch: 1, train, valid: Some(valid), lr: 0.1, seconds: 1.0 };
/// assert_eq!(Monitor::ValidAccuracy.of(&epoch), Some(0.85));
/// assert_eq!(Monitor::ValidAccuracy.of(&Epoch { valid: None, ..epoch }), Some(0.90));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The validation loss; the training loss of a run without validation.
    #[default]
    ValidLoss,
    /// The validation accuracy; the training accuracy of a run without validation.
    ValidAccuracy,
    /// The training loss.
    TrainLoss,
    /// The training accuracy.
    TrainAccuracy,
}

impl Monitor {
    /// The score of an epoch, if it has one. NaN is never better than another score.
    pub fn of(self, epoch: &Epoch) -> Option<f64> {
        let score = match self {
            Self::ValidLoss | Self::ValidAccuracy => epoch.valid.unwrap_or(epoch.train),
            Self::TrainLoss | Self::TrainAccuracy => epoch.train,
        };
        if self.rises() { score.accuracy } else { score.loss }
    }

    /// Whether more is better.
    pub fn rises(self) -> bool {
        matches!(self, Self::ValidAccuracy | Self::TrainAccuracy)
    }

    /// Whether `value` is better than `best` by more than `delta`; anything but NaN is better than nothing.
    pub(super) fn better(self, value: f64, best: Option<f64>, delta: f64) -> bool {
        match best {
            None => !value.is_nan(),
            Some(best) if self.rises() => value > best + delta,
            Some(best) => value < best - delta,
        }
    }

    /// Checks that there is such a score: an accuracy needs targets that are classes, or a loss with a
    /// [threshold](crate::loss::Loss::threshold).
    pub(super) fn check(self, accuracy: bool) -> Result<()> {
        if self.rises() && !accuracy {
            let fault = format!("found {self:?} of targets that are not classes, expected a loss");
            return Err(Error::config("monitor", fault));
        }
        Ok(())
    }
}
