//! A run: epochs of steps, validation, callbacks.
//!
//! All of it happens on the thread that called `fit`, except for the steps and the validation, which run in the stepper's
//! pool, from one file or epoch to the next. So a callback may be slow, hold a lock or call `predict` without a worker
//! waiting for it.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::agreement::{Vote, agree, hash_of, hash_of_settings};
use super::fingerprint::Described;
use super::resume::{Position, RunFile, Standing};
use super::schedule::{Clock, Unit};
use super::settings::Settings;
use super::{Callback, Drawn, Epoch, EpochEnd, Flow, History, Hits, Outcome, Progress, Score, Stepper};
use crate::data::{Batches, Dataset, Population, Sampler};
use crate::loss::Tally;
use crate::nn::SHARES;
use crate::{Error, Model, Real, Result, rng};

/// The data for training and validation.
#[derive(Clone, Copy)]
pub(super) struct Sets<'a, R> {
    pub(super) train: &'a dyn Dataset<Elem = R>,
    pub(super) valid: Option<&'a dyn Dataset<Elem = R>>,
}

/// The parts of a trainer that change in a run.
pub(super) struct Parts<'a, R: Real> {
    pub(super) sampler: &'a mut dyn Sampler,
    pub(super) callbacks: &'a mut [Box<dyn Callback<R>>],
}

/// A run: everything that changes in it, except the model.
struct TrainingRun<'a, R: Real> {
    settings: &'a Settings<R>,
    sets: Sets<'a, R>,
    stepper: Stepper<'a, R>,
    batches: Batches<&'a mut dyn Sampler>,
    standing: Standing,
    callbacks: &'a mut [Box<dyn Callback<R>>],
    /// The outcomes of the present segment's draws, if a callback observes.
    outcomes: Option<Vec<Option<Outcome>>>,
    file: Option<RunFile>,
}

/// Trains the model, or resumes its training.
pub(super) fn run<'a, R: Real>(
    settings: &'a Settings<R>,
    parts: Parts<'a, R>,
    model: &mut Model<R>,
    sets: Sets<'a, R>,
) -> Result<History> {
    settings.check_ranks()?;
    let mut hash = 0;
    let made = TrainingRun::new(settings, parts, model, sets).and_then(|mut run| {
        run.start(model)?;
        if settings.ranks().is_some() {
            hash = run.hash(model)?;
        }
        Ok(run)
    });
    let what = "parameters, data, settings or files of a run that is resumed";
    let (mut run, _) = agree(settings.ranks(), what, made, Vote { hash, ..Vote::default() })?;
    let result = run.epochs(model);
    run.end(model, result)
}

/// Puts the content of a run's file into the model, without training on from there.
pub(super) fn restore_bytes<'a, R: Real>(
    settings: &'a Settings<R>,
    parts: Parts<'a, R>,
    model: &mut Model<R>,
    train: &'a dyn Dataset<Elem = R>,
    bytes: &[u8],
) -> Result<()> {
    let mut run = TrainingRun::new(settings, parts, model, Sets { train, valid: None })?;
    let all = (settings.epochs, run.batches.steps());
    let none = || Error::config("run_file", "found no file, expected one");
    let saved = run.file.as_ref().ok_or_else(none)?.parse(bytes, model, &run.stepper, all)?;
    saved.restore(model, &mut run.stepper, run.callbacks, *run.batches.sampler_mut()).map(drop)
}

impl<'a, R: Real> TrainingRun<'a, R> {
    /// Checks everything, and makes the buffers.
    fn new(
        settings: &'a Settings<R>,
        parts: Parts<'a, R>,
        model: &Model<R>,
        sets: Sets<'a, R>,
    ) -> Result<Self> {
        let Parts { sampler, callbacks } = parts;
        settings.check()?;
        model.check_same_steps("training", sets.train)?;
        settings.check_run(sets.train, callbacks, sampler)?;
        if let Some(valid) = sets.valid {
            let output = model.check_data("validation", valid)?;
            settings.loss.check(output, valid.target_shape())?;
        }
        let population = Population::of(sets.train, settings.batch_size, settings.seed, sampler)?;
        let population = population.epochs(settings.epochs);
        let batches = Batches::of(sampler, &population)?;
        let mut stepper = Stepper::new(settings, model, sets.train, batches.largest())?;
        if batches.sampler().observes() {
            stepper.keep_losses();
        }
        let observed = callbacks.iter().any(|callback| callback.observes());
        if observed {
            stepper.keep_outcomes();
        }
        let file = RunFile::new(settings, model, sets, *batches.sampler())?;
        let (standing, outcomes) = (Standing::default(), observed.then(Vec::new));
        Ok(Self { settings, sets, stepper, batches, standing, callbacks, outcomes, file })
    }

    /// Starts the callbacks, and restores what is in the file if the run is resumed.
    fn start(&mut self, model: &mut Model<R>) -> Result<()> {
        let all = (self.settings.epochs, self.batches.steps());
        let saved = match &self.file {
            Some(file) if self.settings.resume => file.read(model, &self.stepper, all)?,
            _ => None,
        };
        let rank = self.settings.all_reduce.as_ref().map_or(0, |ranks| ranks.rank());
        for callback in &mut *self.callbacks {
            callback.on_rank(rank);
            callback.on_start(model)?;
        }
        if let Some(saved) = saved {
            self.standing =
                saved.restore(model, &mut self.stepper, self.callbacks, *self.batches.sampler_mut())?;
        }
        Ok(())
    }

    /// A hash of everything that must be the same at all ranks before the first step.
    fn hash(&self, model: &Model<R>) -> Result<u64> {
        let described = Described::new(self.settings, model, self.sets, *self.batches.sampler())?;
        let Standing { history, position, stopped, .. } = &self.standing;
        let at = [self.settings.epochs, history.epochs.len(), position.step, usize::from(*stopped)];
        let hash = at.iter().fold(hash_of(model, &self.stepper), |hash, &at| rng::extend(hash, at as u64));
        Ok(hash_of_settings(hash, &described.settings))
    }

    /// Comes to an agreement with the other ranks, if there are any, where this one has `done` its part.
    fn agree<T>(&self, done: Result<T>) -> Result<T> {
        agree(self.settings.ranks(), "", done, Vote::default()).map(|(done, _)| done)
    }

    fn epochs(&mut self, model: &mut Model<R>) -> Result<()> {
        while self.standing.history.epochs.len() < self.settings.epochs && !self.standing.stopped {
            if self.epoch(model)? {
                break;
            }
        }
        Ok(())
    }

    /// Ends the run, which may have failed: the model gets the averages if it has not failed, and `on_end` of each callback
    /// is called in either case.
    fn end(mut self, model: &mut Model<R>, mut result: Result<()>) -> Result<History> {
        if result.is_ok() {
            self.stepper.swap_average(model);
        }
        for callback in self.callbacks {
            // The caller should see the first error.
            result = result.and(callback.on_end(model));
        }
        result.map(|()| self.standing.history)
    }

    /// The epoch after those in the history, or the rest of it: steps, validation, callbacks, file. Returns whether the run
    /// was asked to stop.
    fn epoch(&mut self, model: &mut Model<R>) -> Result<bool> {
        let start = Instant::now();
        let number = self.standing.history.epochs.len() + 1;
        let drawn = self.draw(number);
        let steps = self.agree(drawn)?;
        let train = self.steps(model, steps, start)?;
        let ended = self.end_epoch(model, train, start);
        let ranks = self.settings.ranks();
        let vote = Vote {
            hash: ranks.map_or(0, |_| hash_of(model, &self.stepper)),
            stop: self.settings.stop.load(Ordering::Relaxed),
            over: self.standing.stopped,
        };
        let ((), vote) =
            agree(ranks, &format!("parameters, moments or averages after epoch {number}"), ended, vote)?;
        self.standing.stopped = vote.over;
        let written = self.write(model);
        self.agree(written)?;
        Ok(vote.stop)
    }

    /// Draws the epoch, and returns its remaining steps.
    fn draw(&mut self, epoch: usize) -> Result<Range<usize>> {
        let resumed = self.standing.position.step;
        let sampler = &mut self.standing.sampler;
        if resumed == 0 {
            sampler.before = self.batches.sampler().save_state();
        }
        self.batches.draw(epoch)?;
        if let Some(state) = sampler.after.take().filter(|_| resumed > 0) {
            self.batches.sampler_mut().load_state(state)?;
        }
        let steps = self.batches.drawn();
        if resumed > steps {
            let found = format!("a run after step {resumed} of epoch {epoch}");
            return Err(Error::mismatch("the run's file", found, format!("at most {steps} steps")));
        }
        Ok(resumed..steps)
    }

    /// Some steps of an epoch, from one file to the next.
    fn steps(&mut self, model: &mut Model<R>, steps: Range<usize>, start: Instant) -> Result<Score> {
        let earlier = self.standing.position.seconds;
        let mut next = steps.start;
        while next < steps.end {
            let due = |step: &usize| self.file.as_ref().is_some_and(|file| file.due(*step, steps.end));
            let until = (next + 1..steps.end).find(due).unwrap_or(steps.end);
            self.segment(model, next..until)?;
            if until < steps.end {
                self.standing.position.seconds = earlier + start.elapsed().as_secs_f64();
                let written = self.write(model);
                self.agree(written)?;
            }
            next = until;
        }
        self.agree(self.stepper.check_parameters(model))?;
        self.standing.position.seconds = earlier;
        Ok(self.standing.position.score())
    }

    /// Some consecutive steps, in the pool, while callbacks are called for them here.
    fn segment(&mut self, model: &mut Model<R>, steps: Range<usize>) -> Result<()> {
        let drawn = self.batches.batches(self.standing.history.epochs.len() + 1, steps.clone()).len();
        let Self { settings, sets, stepper, batches, standing, callbacks, outcomes, .. } = self;
        if let Some(outcomes) = outcomes {
            // Steps allocate nothing.
            outcomes.clear();
            outcomes.reserve(drawn);
        }
        let (pool, first) = (stepper.pool(), steps.start);
        let mut segment =
            Segment { settings, train: sets.train, stepper, batches, standing, outcomes: outcomes.as_mut() };
        let all = steps.clone();
        let run = move |tell: &mut dyn FnMut(Progress) -> bool| {
            for step in all {
                segment.follow_schedule(step, step == first);
                if !tell(segment.step(model, step)?) {
                    break;
                }
            }
            Ok(())
        };
        pool.run_watched(run, |progress| callbacks.iter_mut().for_each(|call| call.on_step(&progress)))?;
        self.tell_draws(steps);
        Ok(())
    }

    /// Calls the callbacks that observe with the draws of these steps.
    fn tell_draws(&mut self, steps: Range<usize>) {
        let Some(outcomes) = &self.outcomes else { return };
        let batch = self.batches.batches(self.standing.history.epochs.len() + 1, steps);
        let drawn = Drawn { batch, outcomes, samples: self.sets.train.len() };
        let observing = self.callbacks.iter_mut().filter(|callback| callback.observes());
        observing.for_each(|callback| callback.on_draws(drawn));
    }

    /// Validation and callbacks, with the averages in the model if the trainer keeps any.
    fn end_epoch(&mut self, model: &mut Model<R>, train: Score, start: Instant) -> Result<()> {
        let Self { settings, sets, stepper, standing, callbacks, .. } = self;
        let seconds = standing.position.seconds + start.elapsed().as_secs_f64();
        let (lr, pool) = (stepper.lr(), stepper.pool());
        let averaged = Averaged::new(stepper, model);
        let validate = |valid| pool.run(|| validate(settings, averaged.model, valid));
        let valid = sets.valid.map(validate).transpose()?;
        let epoch = Epoch { epoch: standing.history.epochs.len() + 1, train, valid, lr, seconds };
        standing.history.epochs.push(epoch);
        (standing.position, standing.sampler.before) = (Position::default(), None);
        for callback in &mut **callbacks {
            let flow = callback.on_epoch(EpochEnd { epoch: &epoch, model: averaged.model })?;
            standing.stopped |= flow == Flow::Stop;
        }
        Ok(())
    }

    fn write(&mut self, model: &Model<R>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.standing.sampler.after = self.batches.sampler().save_state();
        file.write(model, &self.stepper, self.callbacks, &self.standing)
    }
}

/// What the pool works on.
struct Segment<'r, 'a, R: Real> {
    settings: &'a Settings<R>,
    train: &'a dyn Dataset<Elem = R>,
    stepper: &'r mut Stepper<'a, R>,
    batches: &'r mut Batches<&'a mut dyn Sampler>,
    standing: &'r mut Standing,
    outcomes: Option<&'r mut Vec<Option<Outcome>>>,
}

impl<R: Real> Segment<'_, '_, R> {
    fn follow_schedule(&mut self, step: usize, first: bool) {
        let Some(schedule) = self.settings.schedule.as_deref() else { return };
        if !first && schedule.unit() == Unit::Epoch {
            return;
        }
        let history = &self.standing.history.epochs;
        let (before, steps) = (history.len(), self.batches.drawn());
        let all = self.settings.epochs * steps;
        let clock = match schedule.unit() {
            Unit::Epoch => Clock::new(before, self.settings.epochs),
            // If a sampler makes epochs of different lengths, the fraction of steps is not that of the run.
            Unit::Step => Clock::new(self.stepper.steps() as usize, all)
                .fraction((before * steps + step) as f64 / all as f64),
        };
        self.stepper.follow(schedule, clock.history(history));
    }

    fn step(&mut self, model: &mut Model<R>, step: usize) -> Result<Progress> {
        let epoch = self.standing.history.epochs.len() + 1;
        let report = self.stepper.step(model, self.train, self.batches.batch(epoch, step))?;
        if self.batches.sampler().observes() {
            self.batches.observe(epoch, step, self.stepper.losses());
        }
        if let Some(outcomes) = &mut self.outcomes {
            outcomes.extend_from_slice(self.stepper.outcomes());
        }
        let at = &mut self.standing.position;
        at.step = step + 1;
        at.tally += report.tally;
        at.hits += report.hits;
        Ok(Progress {
            epoch,
            epochs: self.settings.epochs,
            step: step + 1,
            steps: self.batches.drawn(),
            score: at.score(),
            lr: self.stepper.lr(),
        })
    }
}

/// A model with the averages of its parameters. When this is dropped, also after an error or a panic, the model has the
/// parameters of the last step again.
struct Averaged<'a, 's, R: Real> {
    stepper: &'a mut Stepper<'s, R>,
    model: &'a mut Model<R>,
}

impl<'a, 's, R: Real> Averaged<'a, 's, R> {
    fn new(stepper: &'a mut Stepper<'s, R>, model: &'a mut Model<R>) -> Self {
        stepper.swap_average(model);
        Self { stepper, model }
    }
}

impl<R: Real> Drop for Averaged<'_, '_, R> {
    fn drop(&mut self) {
        self.stepper.swap_average(self.model);
    }
}

/// Loss and accuracy on the validation data. Ranks divide them, and the sum is that of one process.
fn validate<R: Real>(
    settings: &Settings<R>,
    model: &Model<R>,
    valid: &dyn Dataset<Elem = R>,
) -> Result<Score> {
    let Some(ranks) = settings.ranks() else {
        let evaluation = model.evaluate_with(valid, &*settings.loss)?;
        return Ok(Score { loss: evaluation.loss(), accuracy: evaluation.accuracy() });
    };
    let share = (ranks.rank(), ranks.size());
    let part = model.evaluate_share(valid, &*settings.loss, share);
    let (mut tallies, mut hits) = ([[-0.0; 2]; SHARES], [0.0; 2]);
    if let Ok(part) = &part {
        let own = tallies[part.first..].iter_mut();
        own.zip(&part.tallies).for_each(|(own, tally)| *own = [tally.loss, tally.weight]);
        hits = part.confusion.as_ref().map_or(hits, |all| [all.correct() as f64, all.total() as f64]);
    }
    let mut values = [tallies.as_flattened(), &hits].concat();
    let reached = ranks.sum(&mut [], &mut values);
    let part = part?;
    reached?;
    let (tallies, hits) = values.split_at(2 * SHARES);
    let tally: Tally = tallies.as_chunks().0.iter().map(|&[loss, weight]| Tally::new(loss, weight)).sum();
    let hits = Hits { right: hits[0] as u64, all: hits[1] as u64 };
    Ok(Score { loss: tally.mean(), accuracy: part.confusion.and(hits.accuracy()) })
}
