//! A bar on the terminal, drawn by indicatif.

use indicatif::{ProgressDrawTarget, ProgressStyle};

use super::print::print;
use super::{Callback, Epoch, EpochEnd, Flow, Progress};
use crate::{Model, Real, Result};

/// Prints a line for each epoch, as [`Print`](super::Print) does, and shows a bar over the whole run below them while it
/// trains, with the loss, the accuracy and an estimate of the time that is left.
///
/// The bar is drawn on standard error, and only if that is a terminal: elsewhere only the lines are printed. Of several ranks,
/// only the first prints and draws.
///
/// # Examples
/// ```
/// use bptt::train::ProgressBar;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// // epoch 3/20 ━━━━━━━━╸━━━━━━━━━━━━━━━ loss 0.4312  accuracy 84.52 %   9s left
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(ProgressBar::new());
/// # let _ = trainer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProgressBar {
    rank: usize,
    /// From the first step to the end of the run.
    bar: Option<indicatif::ProgressBar>,
}

impl ProgressBar {
    /// A bar for one run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the position of the run, on `target` from the first time on.
    fn show(&mut self, progress: &Progress, target: impl FnOnce() -> ProgressDrawTarget) {
        let begins = self.bar.is_none();
        let bar = self.bar.get_or_insert_with(|| {
            indicatif::ProgressBar::with_draw_target(Some(length(progress)), target()).with_style(style())
        });
        // Nobody sees what is not drawn.
        if bar.is_hidden() {
            return;
        }
        // Samplers may draw more in one epoch than in another.
        bar.set_length(length(progress));
        bar.set_prefix(format!("epoch {}/{}", progress.epoch, progress.epochs));
        bar.set_message(progress.score.to_string());
        bar.set_position(position(progress));
        if begins {
            // A resumed run begins in the middle: what was done before took no time now.
            bar.reset_eta();
        }
    }

    fn print(&self, epoch: &Epoch) {
        match &self.bar {
            // Clears the bar, and draws it again below the line.
            Some(bar) => bar.suspend(|| print(epoch, self.rank)),
            None => print(epoch, self.rank),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl<R: Real> Callback<R> for ProgressBar {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        self.clear();
        Ok(())
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        done.iter().for_each(|epoch| self.print(epoch));
        Ok(())
    }

    fn on_step(&mut self, progress: &Progress) {
        let first = self.rank == 0;
        // A target that is no terminal is hidden.
        self.show(
            progress,
            || if first { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        self.print(end.epoch);
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model<R>) -> Result<()> {
        self.clear();
        Ok(())
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix} {bar:24.cyan/dim} {msg}   {eta} left")
        .expect("the template is a constant");
    style.progress_chars("━╸─")
}

/// The steps of a run whose epochs all are like this one.
fn length(progress: &Progress) -> u64 {
    (progress.epochs * progress.steps) as u64
}

/// How many of them are done.
fn position(progress: &Progress) -> u64 {
    ((progress.epoch - 1) * progress.steps + progress.step) as u64
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;
    use crate::train::Score;

    /// A terminal of 80 columns that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn take(&self) -> String {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.write_str("<cleared>")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn progress(epoch: usize, step: usize) -> Progress {
        let score = Score { loss: Some(0.43121), accuracy: Some(0.84523) };
        Progress { epoch, epochs: 20, step, steps: 10, score, lr: 0.1 }
    }

    /// Shows a step, and returns the bar as it is then.
    fn shown(bar: &mut ProgressBar, screen: &Screen, epoch: usize, step: usize) -> indicatif::ProgressBar {
        bar.show(&progress(epoch, step), || {
            ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255)
        });
        bar.bar.clone().unwrap()
    }

    #[test]
    fn the_bar_shows_epoch_score_and_time_left() {
        let (mut bar, screen) = (ProgressBar::new(), Screen::default());
        shown(&mut bar, &screen, 3, 5).force_draw();
        let drawn = screen.take();
        for part in ["epoch 3/20 ━━━", "── ", "loss 0.4312  accuracy 84.52 %   ", "s left"] {
            assert!(drawn.contains(part), "{part} in {drawn}");
        }
        let inner = shown(&mut bar, &screen, 20, 10);
        assert_eq!((inner.position(), inner.length()), (200, Some(200)));
        screen.take();
        bar.clear();
        assert!(screen.take().contains("<cleared>") && bar.bar.is_none());
    }

    /// A resumed run begins in the middle: what was done before took no time now.
    #[test]
    fn time_left_counts_from_where_the_run_began() {
        let inner = shown(&mut ProgressBar::new(), &Screen::default(), 11, 1);
        assert_eq!((inner.position(), inner.per_sec()), (101, 0.0));
    }

    #[test]
    fn nothing_is_drawn_where_no_terminal_is() {
        let mut bar = ProgressBar::new();
        bar.show(&progress(1, 1), ProgressDrawTarget::hidden);
        assert!(bar.bar.unwrap().is_hidden());
    }
}
