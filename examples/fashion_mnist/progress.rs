//! Progress in the terminal: a bar within the epoch, and a plain line at the end of each.

use std::io::IsTerminal;
use std::time::Duration;

use bptt::Result;
use bptt::train::{Callback, Epoch, EpochEnd, Flow, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::program::say;

/// A progress bar over all epochs, with loss, accuracy and time left; hidden where the output is no terminal.
pub struct Bars {
    bar: ProgressBar,
}

impl Bars {
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/blue} {msg}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }
}

impl Callback<f32> for Bars {
    fn on_step(&mut self, p: &Progress) {
        if self.bar.length().is_none() {
            self.bar.set_length((p.epochs * p.steps) as u64);
            self.bar.enable_steady_tick(Duration::from_millis(250));
        }
        self.bar.set_position(((p.epoch - 1) * p.steps + p.step) as u64);
        // A terminal shows no more than this anyway.
        if p.step.is_multiple_of(16) {
            self.bar.set_prefix(format!("epoch {}/{}", p.epoch, p.epochs));
            let accuracy = 100.0 * p.score.accuracy.unwrap_or(0.0);
            self.bar
                .set_message(format!("loss {:.4}  accuracy {accuracy:.2} %", p.score.loss.unwrap_or(0.0)));
        }
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        done.iter().for_each(|epoch| say(format!("{epoch:3}")));
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        self.bar.suspend(|| say(format!("{:3}", end.epoch)));
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut bptt::Model) -> Result<()> {
        self.bar.finish_and_clear();
        Ok(())
    }
}
