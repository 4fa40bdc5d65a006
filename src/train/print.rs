//! Progress on the terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::{Callback, Epoch, EpochEnd, Flow, Progress};
use crate::{Model, Real, Result};

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

/// Prints a line for each epoch, as [`Print`] does, and shows a bar over the whole run below them while it trains, with the
/// loss, the accuracy and an estimate of the time that is left.
///
/// The bar is drawn on standard error, at most ten times a second, and only if that is a terminal.
///
/// # Examples
/// ```
/// use bptt::train::ProgressBar;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// // epoch 3/20 [====>               ] loss 0.4312  accuracy 84.52 %   9 s left
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(ProgressBar::new());
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProgressBar {
    rank: usize,
    terminal: bool,
    /// When the run began, and its share that was done then.
    begun: Option<(Instant, f64)>,
    drawn: Option<Instant>,
}

/// The time between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

impl ProgressBar {
    /// A bar for one run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes the bar, so that something else can be printed.
    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            draw("");
        }
    }
}

impl<R: Real> Callback<R> for ProgressBar {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        let terminal = self.rank == 0 && io::stderr().is_terminal();
        *self = Self { rank: self.rank, terminal, begun: None, drawn: None };
        Ok(())
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        done.iter().for_each(|epoch| print(epoch, self.rank));
        Ok(())
    }

    fn on_step(&mut self, progress: &Progress) {
        if !self.terminal {
            return;
        }
        let (now, done) = (Instant::now(), share(progress));
        let (begun, first) = *self.begun.get_or_insert((now, done));
        if self.drawn.is_none_or(|drawn| now - drawn >= INTERVAL) {
            self.drawn = Some(now);
            draw(&bar(progress, seconds_left(now - begun, done - first, 1.0 - done)));
        }
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        self.clear();
        print(end.epoch, self.rank);
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model<R>) -> Result<()> {
        self.clear();
        Ok(())
    }
}

fn print(epoch: &Epoch, rank: usize) {
    if rank > 0 {
        return;
    }
    // What is learnt is worth more than what is said about it.
    let _ = writeln!(io::stdout(), "{epoch:3}");
}

/// Replaces the line on standard error.
fn draw(line: &str) {
    // To the beginning of the line, and erase from there to its end.
    let mut error = io::stderr();
    let _ = write!(error, "\r\x1b[K{line}").and_then(|()| error.flush());
}

/// The share of the run that is done.
fn share(progress: &Progress) -> f64 {
    let epochs = (progress.epoch - 1) as f64 + progress.step as f64 / progress.steps.max(1) as f64;
    epochs / progress.epochs.max(1) as f64
}

/// How long the rest takes if it goes on as since the beginning; `None` as long as nothing is known.
fn seconds_left(elapsed: Duration, done: f64, rest: f64) -> Option<f64> {
    (done > 0.0).then(|| elapsed.as_secs_f64() * rest / done)
}

/// The bar, in at most 80 columns.
fn bar(progress: &Progress, left: Option<f64>) -> String {
    const WIDTH: usize = 20;
    let done = (share(progress) * WIDTH as f64) as usize;
    let bar: String = (0..WIDTH)
        .map(|i| match i.cmp(&done) {
            std::cmp::Ordering::Less => '=',
            std::cmp::Ordering::Equal => '>',
            std::cmp::Ordering::Greater => ' ',
        })
        .collect();
    let Progress { epoch, epochs, score, .. } = progress;
    let left = left.map(|seconds| format!("   {} left", duration(seconds))).unwrap_or_default();
    format!("epoch {epoch}/{epochs} [{bar}] {score}{left}")
}

/// `9 s`, `4 min` or `2.5 h`
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Score;

    fn progress(epoch: usize, step: usize) -> Progress {
        let score = Score { loss: Some(0.43121), accuracy: Some(0.84523) };
        Progress { epoch, epochs: 20, step, steps: 10, score, lr: 0.1 }
    }

    #[test]
    fn bars() {
        let left = seconds_left(Duration::from_secs(2), share(&progress(3, 5)), 1.0 - share(&progress(3, 5)));
        assert_eq!(
            bar(&progress(3, 5), left),
            "epoch 3/20 [==>                 ] loss 0.4312  accuracy 84.52 %   14 s left"
        );
        assert_eq!(
            bar(&progress(20, 10), seconds_left(Duration::ZERO, 0.0, 0.0)),
            "epoch 20/20 [====================] loss 0.4312  accuracy 84.52 %"
        );
    }

    #[test]
    fn durations() {
        assert_eq!(
            [0.4, 99.4, 100.0, 5999.0, 9000.0].map(duration),
            ["0 s", "99 s", "2 min", "100 min", "2.5 h"]
        );
    }

    /// A resumed run begins in the middle: what was done before took no time now.
    #[test]
    fn time_left_counts_from_where_the_run_began() {
        let (first, now) = (share(&progress(11, 1)), share(&progress(12, 1)));
        let left = seconds_left(Duration::from_secs(1), now - first, 1.0 - now);
        approx::assert_abs_diff_eq!(left.unwrap(), 8.9, epsilon = 1e-9);
    }
}
