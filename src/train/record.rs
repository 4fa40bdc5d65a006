//! The JSON in a run's file, in every form that a release has written.
//!
//! Form 1 has no mask and no sampler, and its settings are the output of `Debug`. Form 2 has the settings as JSON values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json_float::JsonFloat;
use super::resume::{Position, SamplerStates, Standing};
use super::{Epoch, History, Hits, Score};
use crate::loss::Tally;

/// The only key of the metadata.
pub(super) const KEY: &str = "bptt-run";
/// The form that is written.
pub(super) const VERSION: u32 = 2;

/// The content of the metadata. Keys are in alphabetical order, so that the JSON does not depend on whether it is sorted.
#[derive(Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) averaged: bool,
    pub(super) callbacks: Vec<Value>,
    pub(super) history: Vec<EpochRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mask: Option<BTreeMap<String, Vec<usize>>>,
    pub(super) position: PositionRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sampler: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sampler_before: Option<Value>,
    pub(super) settings: BTreeMap<String, Value>,
    pub(super) steps: u64,
    pub(super) stopped: bool,
    pub(super) version: u32,
}

#[derive(Deserialize)]
struct RunVersion {
    version: u32,
}

/// An [`Epoch`], to the bit.
#[derive(Serialize, Deserialize)]
pub(super) struct EpochRecord {
    epoch: usize,
    lr: JsonFloat,
    seconds: JsonFloat,
    train: ScoreRecord,
    valid: Option<ScoreRecord>,
}

/// A loss and an accuracy.
type ScoreRecord = (Option<JsonFloat>, Option<JsonFloat>);

/// A [`Position`], to the bit.
#[derive(Serialize, Deserialize)]
pub(super) struct PositionRecord {
    /// The number of targets, and of those predicted correctly.
    classes: (u64, u64),
    loss: JsonFloat,
    seconds: JsonFloat,
    step: usize,
    weight: JsonFloat,
}

impl Content {
    /// Reads the JSON, or says why it cannot be read.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let bad = |e| format!("found a state of a training run that cannot be read: {e}");
        let RunVersion { version } = serde_json::from_str(json).map_err(bad)?;
        if !(1..=VERSION).contains(&version) {
            return Err(format!("found version {version}, expected at most {VERSION}"));
        }
        serde_json::from_str(json).map_err(bad)
    }

    /// The position of the run in the file, if it is one in a run of `epochs` epochs of `steps` steps; `steps` is `None` if
    /// their number is not known.
    pub(super) fn standing(&self, epochs: usize, steps: Option<usize>) -> Result<Standing, String> {
        let (done, step) = (self.history.len(), self.position.step);
        if done > epochs || (done == epochs && step > 0) {
            let begun = done + usize::from(step > 0);
            return Err(format!("found a run in epoch {begun}, expected at most {epochs} epochs"));
        }
        let found = || format!("found step {step} after {done} epochs and {} steps in all", self.steps);
        let taken = |steps| done.checked_mul(steps).and_then(|taken: usize| taken.checked_add(step));
        match steps {
            Some(steps) if step >= steps || taken(steps).map(|taken| taken as u64) != Some(self.steps) => {
                return Err(format!("{}, expected {steps} steps per epoch", found()));
            }
            None if (step as u64) > self.steps => return Err(format!("{}, expected more", found())),
            _ => {}
        }
        let (all, right) = self.position.classes;
        let numbered = self.history.iter().zip(1..).all(|(row, number)| row.epoch == number);
        if !numbered || right > all || all > u64::MAX / 2 {
            return Err("found epochs or counts that are not those of a run".into());
        }
        let history = History { epochs: self.history.iter().map(Epoch::from).collect() };
        let sampler = SamplerStates { before: self.sampler_before.clone(), after: self.sampler.clone() };
        Ok(Standing { history, position: (&self.position).into(), stopped: self.stopped, sampler })
    }
}

impl From<&Epoch> for EpochRecord {
    fn from(epoch: &Epoch) -> Self {
        let score = |score: Score| (score.loss.map(JsonFloat), score.accuracy.map(JsonFloat));
        Self {
            epoch: epoch.epoch,
            lr: JsonFloat(epoch.lr),
            seconds: JsonFloat(epoch.seconds),
            train: score(epoch.train),
            valid: epoch.valid.map(score),
        }
    }
}

impl From<&EpochRecord> for Epoch {
    fn from(record: &EpochRecord) -> Self {
        let value = |value: Option<JsonFloat>| value.map(|value| value.0);
        let score = |(loss, accuracy): ScoreRecord| Score { loss: value(loss), accuracy: value(accuracy) };
        Self {
            epoch: record.epoch,
            train: score(record.train),
            valid: record.valid.map(score),
            lr: record.lr.0,
            seconds: record.seconds.0,
        }
    }
}

impl From<Position> for PositionRecord {
    fn from(at: Position) -> Self {
        let Position { step, tally, hits, seconds } = at;
        Self {
            classes: (hits.all, hits.right),
            loss: JsonFloat(tally.loss),
            seconds: JsonFloat(seconds),
            step,
            weight: JsonFloat(tally.weight),
        }
    }
}

impl From<&PositionRecord> for Position {
    fn from(record: &PositionRecord) -> Self {
        let (all, right) = record.classes;
        Self {
            step: record.step,
            tally: Tally::new(record.loss.0, record.weight.0),
            hits: Hits { right, all },
            seconds: record.seconds.0,
        }
    }
}
