//! Writes the history to a file during training.

use std::path::PathBuf;

use super::{Callback, Epoch, EpochEnd, Flow, History};
use crate::{Model, Real, Result, atomic_write};

/// Writes the history so far to a CSV file after every epoch; [`History::to_csv`] has the columns.
///
/// A run begins a new file; a resumed run also has its earlier epochs in it. The file is written by
/// [`atomic_write`](crate::atomic_write) each time, so that it is whole even if the run is interrupted. Of several ranks, only
/// the first writes it.
///
/// # Source
/// Keras's `CSVLogger`.
/// # Examples
/// ```
/// use bptt::train::CsvLog;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(CsvLog::new("history.csv"));
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "CSVLogger")]
pub struct CsvLog {
    path: PathBuf,
    history: History,
    rank: usize,
}

impl CsvLog {
    /// Writes to this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), history: History::default(), rank: 0 }
    }

    fn write(&self) -> Result<()> {
        if self.rank == 0 { atomic_write(&self.path, self.history.to_csv()) } else { Ok(()) }
    }
}

impl<R: Real> Callback<R> for CsvLog {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        self.history.epochs.clear();
        self.write()
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        self.history.epochs.extend_from_slice(done);
        self.write()
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        self.history.epochs.push(*end.epoch);
        self.write()?;
        Ok(Flow::Continue)
    }
}

/// Writes the history so far to a JSON file after every epoch; [`History::load`] reads it.
///
/// A run begins a new file; a resumed run also has its earlier epochs in it. The file is written by
/// [`atomic_write`](crate::atomic_write) each time, so that it is whole even if the run is interrupted. Of several ranks, only
/// the first writes it.
///
/// # Examples
/// ```
/// use bptt::train::JsonLog;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(JsonLog::new("history.json"));
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug)]
pub struct JsonLog {
    path: PathBuf,
    history: History,
    rank: usize,
}

impl JsonLog {
    /// Writes to this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), history: History::default(), rank: 0 }
    }

    fn write(&self) -> Result<()> {
        if self.rank == 0 { self.history.save(&self.path) } else { Ok(()) }
    }
}

impl<R: Real> Callback<R> for JsonLog {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        self.history.epochs.clear();
        self.write()
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        self.history.epochs.extend_from_slice(done);
        self.write()
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        self.history.epochs.push(*end.epoch);
        self.write()?;
        Ok(Flow::Continue)
    }
}
