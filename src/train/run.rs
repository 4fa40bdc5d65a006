//! A run: epochs of steps, validation, callbacks.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::resume::{Position, RunFile, Standing, describe};
use super::schedule::{Clock, Unit};
use super::step::has_classes;
use super::trainer::Settings;
use super::{Callback, Epoch, EpochEnd, Flow, History, Progress, Score, Stepper};
use crate::data::{Batches, Dataset};
use crate::{Error, Model, Real, Result};

/// A run: all that changes while it goes on, but the model.
struct Run<'s, 'c, R: Real> {
    stepper: Stepper<'s, R>,
    batches: Batches,
    standing: Standing,
    callbacks: &'c mut [Box<dyn Callback<R>>],
    file: Option<RunFile>,
}

impl<R: Real> Run<'_, '_, R> {
    fn write(&self, model: &Model<R>) -> Result<()> {
        let write = |file: &RunFile| file.write(model, &self.stepper, self.callbacks, &self.standing);
        self.file.as_ref().map_or(Ok(()), write)
    }
}

impl<R: Real> Settings<R> {
    /// The file of the run and what is in it, if the trainer has one.
    fn run_file(
        &self,
        model: &Model<R>,
        train: &dyn Dataset<Elem = R>,
        valid: Option<&dyn Dataset<Elem = R>>,
    ) -> Result<Option<RunFile>> {
        let Some(path) = &self.checkpoint else {
            let fault = "found no file, expected one by `checkpoint`";
            return match (self.every, self.resume) {
                (Some(_), _) => Err(Error::config("checkpoint_every", fault)),
                (_, true) => Err(Error::config("resume", fault)),
                _ => Ok(None),
            };
        };
        if self.every == Some(0) {
            return Err(Error::config("checkpoint_every", "found 0, expected at least 1"));
        }
        let mut settings = describe(model);
        settings.extend(
            [
                ("batch_size", self.batch_size.to_string()),
                ("clip", format!("{:?}", self.clip)),
                ("ema", format!("{:?}", self.ema)),
                ("freeze", format!("{:?}", self.patterns.frozen)),
                ("group", format!("{:?}", self.patterns.groups)),
                ("loss", format!("{:?}", self.loss)),
                ("optimizer", format!("{:?}", self.optimizer)),
                ("schedule", format!("{:?}", self.schedule)),
                ("seed", self.seed.to_string()),
                ("tile", format!("{:?}", self.tile)),
                ("training samples", train.len().to_string()),
                ("validation samples", valid.map_or(0, |valid| valid.len()).to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if self.stateful {
            settings.insert("stateful".into(), "true".into());
        }
        Ok(Some(RunFile { path: path.clone(), every: self.every, settings }))
    }

    /// Puts what is in a run's file into the model, without training on from there.
    pub(super) fn restore_bytes(
        &self,
        bytes: &[u8],
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        callbacks: &mut [Box<dyn Callback<R>>],
    ) -> Result<()> {
        let (mut stepper, batches) = (self.stepper(model, train)?, self.batches(train.len())?);
        let none = || Error::config("checkpoint", "found no file, expected one");
        let file = self.run_file(model, train, None)?.ok_or_else(none)?;
        let saved = file.parse(bytes, model, &stepper, (self.epochs, batches.steps()))?;
        saved.restore(model, &mut stepper, callbacks).map(drop)
    }

    pub(super) fn run(
        &self,
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        valid: Option<&dyn Dataset<Elem = R>>,
        callbacks: &mut [Box<dyn Callback<R>>],
    ) -> Result<History> {
        let stepper = self.stepper(model, train)?;
        self.check(train, callbacks)?;
        if let Some(valid) = valid {
            model.check_data("validation", valid)?;
            self.loss.check(model.output_shape(), valid.target_shape())?;
        }
        let batches = self.batches(train.len())?;
        let file = self.run_file(model, train, valid)?;
        let all = (self.epochs, batches.steps());
        let saved = match &file {
            Some(file) if self.resume => file.read(model, &stepper, all)?,
            _ => None,
        };
        let mut run = Run { stepper, batches, standing: Standing::default(), callbacks, file };
        for callback in &mut *run.callbacks {
            callback.on_start(model)?;
        }
        if let Some(saved) = saved {
            run.standing = saved.restore(model, &mut run.stepper, run.callbacks)?;
        }
        while run.standing.history.epochs.len() < self.epochs && !run.standing.stopped {
            self.epoch(&mut run, model, train, valid)?;
            run.write(model)?;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        run.stepper.swap_average(model);
        for callback in run.callbacks {
            callback.on_end(model)?;
        }
        Ok(run.standing.history)
    }

    /// The epoch that comes after those in the history, or what is left of it: steps, validation, callbacks.
    fn epoch(
        &self,
        run: &mut Run<'_, '_, R>,
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        valid: Option<&dyn Dataset<Elem = R>>,
    ) -> Result<()> {
        let start = Instant::now();
        let train = self.steps(run, model, train, start)?;
        run.stepper.check_parameters(model)?;
        let seconds = run.standing.position.seconds + start.elapsed().as_secs_f64();
        run.stepper.swap_average(model);
        let valid = valid.map(|valid| self.validate(model, valid)).transpose()?;
        let epoch = run.standing.history.epochs.len() + 1;
        let record = Epoch { epoch, train, valid, lr: run.stepper.lr(), seconds };
        run.standing.history.epochs.push(record);
        run.standing.position = Position::default();
        for callback in &mut *run.callbacks {
            let flow = callback.on_epoch(EpochEnd { epoch: &record, model })?;
            run.standing.stopped |= flow == Flow::Stop;
        }
        run.stepper.swap_average(model);
        Ok(())
    }

    /// The steps of an epoch, from where the run stands.
    fn steps(
        &self,
        run: &mut Run<'_, '_, R>,
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        start: Instant,
    ) -> Result<Score> {
        let Run { stepper, batches, standing, callbacks, file } = run;
        let (before, steps, earlier) =
            (standing.history.epochs.len(), batches.steps(), standing.position.seconds);
        let resumed = standing.position.step;
        let score = |at: Position| {
            let (all, right) = at.classes;
            let accuracy = has_classes(train).then(|| if all == 0 { 0.0 } else { right as f64 / all as f64 });
            Score { loss: at.tally.mean().unwrap_or(f64::NAN), accuracy }
        };
        for (step, batch) in batches.epoch(before as u64 + 1).enumerate().skip(resumed) {
            if let Some(schedule) = self.schedule.as_deref() {
                let (done, total) = match schedule.unit() {
                    Unit::Epoch => (before, self.epochs),
                    Unit::Step => (before * steps + step, self.epochs * steps),
                };
                if step == resumed || schedule.unit() == Unit::Step {
                    stepper.follow(schedule, Clock { done, total, history: &standing.history.epochs });
                }
            }
            let report = stepper.step(model, train, batch, before + 1, step * self.batch_size)?;
            let at = &mut standing.position;
            at.step = step + 1;
            at.tally += report.tally;
            at.classes = (at.classes.0 + report.classes.0, at.classes.1 + report.classes.1);
            let progress = Progress {
                epoch: before + 1,
                epochs: self.epochs,
                step: step + 1,
                steps,
                score: score(*at),
                lr: stepper.lr(),
            };
            callbacks.iter_mut().for_each(|callback| callback.on_step(&progress));
            if let Some(file) = file.as_ref().filter(|file| file.due(step + 1, steps)) {
                standing.position.seconds = earlier + start.elapsed().as_secs_f64();
                file.write(model, stepper, callbacks, standing)?;
            }
        }
        standing.position.seconds = earlier;
        Ok(score(standing.position))
    }

    fn validate(&self, model: &Model<R>, valid: &dyn Dataset<Elem = R>) -> Result<Score> {
        let evaluation = model.evaluate_with(valid, &*self.loss)?;
        Ok(Score { loss: evaluation.loss().unwrap_or(f64::NAN), accuracy: evaluation.accuracy() })
    }
}
