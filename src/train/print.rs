//! Epochs on standard output.

use std::io::{self, Write};

use super::{Callback, Epoch, EpochEnd, Flow};
use crate::{Real, Result};

/// Prints a line for each epoch to standard output. A resumed run prints its earlier epochs first. Of several ranks, only the
/// first prints.
///
/// Where nothing can be printed, as when the output was piped to a program that has ended, training continues.
///
/// # Examples
/// ```
/// use bptt::train::Print;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// // epoch   1   train loss 0.8277  accuracy 70.71 %   valid loss 0.5489  accuracy 81.03 %   0.51 s
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(Print::new());
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Print {
    rank: usize,
}

impl Print {
    /// Prints each epoch.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<R: Real> Callback<R> for Print {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        done.iter().for_each(|epoch| print(epoch, self.rank));
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        print(end.epoch, self.rank);
        Ok(Flow::Continue)
    }
}

/// Prints an epoch, unless another rank does.
pub(super) fn print(epoch: &Epoch, rank: usize) {
    if rank > 0 {
        return;
    }
    // What is learnt is worth more than what is said about it.
    let _ = writeln!(io::stdout(), "{epoch:3}");
}
