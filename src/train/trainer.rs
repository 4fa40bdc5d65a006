//! Epochs of steps, validation, callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::step::has_classes;
use super::{Callback, Clip, Epoch, EpochEnd, Flow, History, Progress, Score, Stepper};
use crate::data::{Batches, Dataset};
use crate::loss::{Loss, Tally};
use crate::nn::MAX_LANES;
use crate::optim::Optimizer;
use crate::{Error, Model, Real, Result, par};

/// Trains any model with any loss.
///
/// A run is a function of the model, the data and the settings: the same bits come out at any number of threads.
///
/// # Examples
/// ```
/// use bptt::{Model, Shape, Trainer, data::Arrays, loss::CrossEntropy, nn::Linear, optim::Sgd};
/// use ndarray::{Array1, Array3};
/// # fn main() -> bptt::Result<()> {
/// let x = Array3::from_shape_fn((100, 1, 2), |(i, _, f)| if i % 2 == f { 1.0f32 } else { 0.0 });
/// let y = Array1::from_shape_fn(100, |i| i % 2);
/// let data = Arrays::classes(x, &y, ["even", "odd"])?;
///
/// let mut model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1)?;
/// let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.5)).epochs(3).batch_size(10);
/// let history = trainer.fit(&mut model, &data, None)?;
/// assert_eq!(history.epochs.len(), 3);
/// assert_eq!(model.evaluate(&data)?.accuracy(), 1.0);
/// # Ok(())
/// # }
/// ```
pub struct Trainer<R: Real = f32> {
    settings: Settings<R>,
    callbacks: Vec<Box<dyn Callback<R>>>,
}

/// All of a trainer but its callbacks: what the threads may share.
#[derive(Debug)]
pub(super) struct Settings<R: Real> {
    pub(super) loss: Box<dyn Loss<R>>,
    pub(super) optimizer: Box<dyn Optimizer<R>>,
    epochs: usize,
    pub(super) batch_size: usize,
    pub(super) seed: u64,
    pub(super) clip: Clip,
    pub(super) tile: Option<usize>,
    threads: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl<R: Real> std::fmt::Debug for Trainer<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("settings", &self.settings)
            .field("callbacks", &self.callbacks.len())
            .finish()
    }
}

impl<R: Real> Trainer<R> {
    /// 20 epochs of batches of 64, seed 1, nothing clipped.
    pub fn new(loss: impl Loss<R> + 'static, optimizer: impl Optimizer<R> + 'static) -> Self {
        let settings = Settings {
            loss: Box::new(loss),
            optimizer: Box::new(optimizer),
            epochs: 20,
            batch_size: 64,
            seed: 1,
            clip: Clip::None,
            tile: None,
            threads: None,
            stop: Arc::default(),
        };
        Self { settings, callbacks: Vec::new() }
    }

    /// How often each sample is seen.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// Samples of a step.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.settings.batch_size = batch_size;
        self
    }

    /// The seed of the shuffle and of all else that is random in training.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Clips gradients.
    pub fn clip(mut self, clip: Clip) -> Self {
        self.settings.clip = clip;
        self
    }

    /// How many threads work; by default as many as rayon's global pool has. It changes no result.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = Some(threads);
        self
    }

    /// Samples of a tile, 1 to 64. It is told from the batch size by default; it changes the order of sums, and
    /// with it the last bits of a result.
    pub fn tile(mut self, samples: usize) -> Self {
        self.settings.tile = Some(samples);
        self
    }

    /// Adds a callback; they are called in the order added.
    pub fn with(mut self, callback: impl Callback<R> + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Ends a run after its current epoch once this flag is set, as by a handler of Ctrl-C.
    pub fn stop_on(mut self, flag: Arc<AtomicBool>) -> Self {
        self.settings.stop = flag;
        self
    }

    /// The buffers and moments of a training loop, for loops of one's own.
    ///
    /// # Errors
    /// If the model, the data, the loss and the settings do not go together.
    pub fn stepper<'a>(&'a self, model: &Model<R>, data: &dyn Dataset<Elem = R>) -> Result<Stepper<'a, R>> {
        self.settings.stepper(model, data)
    }

    /// Trains `model` on `train`, and measures it on `valid`, if given, after every epoch. The optimizer starts
    /// afresh each time.
    ///
    /// # Errors
    /// If model, data, loss and settings do not go together; [`Error::NonFinite`] if the loss or a gradient stops
    /// being a number, with the model as it was before that step, or if a parameter has by the end of an epoch; or
    /// what a callback returns.
    pub fn fit(
        &mut self,
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        valid: Option<&dyn Dataset<Elem = R>>,
    ) -> Result<History> {
        let Self { settings, callbacks } = self;
        par::within(settings.threads, || settings.run(model, train, valid, callbacks))?
    }
}

impl<R: Real> Settings<R> {
    fn stepper<'a>(&'a self, model: &Model<R>, data: &dyn Dataset<Elem = R>) -> Result<Stepper<'a, R>> {
        if self.batch_size == 0 {
            return Err(Error::config("batch_size", "found 0, expected at least 1"));
        }
        if let Some(tile) = self.tile.filter(|tile| !(1..=MAX_LANES).contains(tile)) {
            return Err(Error::config("tile", format!("found {tile}, expected 1 to {MAX_LANES}")));
        }
        if self.threads == Some(0) {
            return Err(Error::config("threads", "found 0, expected at least 1"));
        }
        if let Clip::Norm(max) | Clip::Value(max) = self.clip
            && !(max > 0.0)
        {
            return Err(Error::config("clip", format!("found {max}, expected a positive number")));
        }
        Stepper::new(self, model, data)
    }

    fn run(
        &self,
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        valid: Option<&dyn Dataset<Elem = R>>,
        callbacks: &mut [Box<dyn Callback<R>>],
    ) -> Result<History> {
        let mut stepper = self.stepper(model, train)?;
        if let Some(valid) = valid {
            model.check_data("validation", valid)?;
            self.loss.check(model.output(), valid.target_shape())?;
        }
        let mut batches = Batches::new(train.len(), self.batch_size, self.seed)?;
        let steps = batches.steps();
        let mut history = History::default();
        for callback in &mut *callbacks {
            callback.on_start(model)?;
        }
        for epoch in 1..=self.epochs {
            let start = Instant::now();
            let (mut tally, mut all, mut right) = (Tally::default(), 0, 0);
            let score = |tally: Tally, all: u64, right: u64| Score {
                loss: tally.mean(),
                accuracy: has_classes(train).then(|| if all == 0 { 0.0 } else { right as f64 / all as f64 }),
            };
            let mut first = 0;
            for (step, batch) in batches.epoch(epoch as u64).enumerate() {
                let report = stepper.step(model, train, batch, epoch, first)?;
                first += batch.len();
                tally += report.tally;
                (all, right) = (all + report.classes.0, right + report.classes.1);
                let progress = Progress {
                    epoch,
                    epochs: self.epochs,
                    step: step + 1,
                    steps,
                    score: score(tally, all, right),
                };
                callbacks.iter_mut().for_each(|callback| callback.on_step(&progress));
            }
            stepper.check_parameters(model)?;
            let seconds = start.elapsed().as_secs_f64();
            let valid = match valid {
                None => None,
                Some(valid) => {
                    let evaluation = model.evaluate_with(valid, &*self.loss)?;
                    let accuracy = evaluation.has_classes().then(|| evaluation.accuracy());
                    Some(Score { loss: evaluation.loss(), accuracy })
                }
            };
            let record = Epoch { epoch, train: score(tally, all, right), valid, lr: stepper.lr(), seconds };
            history.epochs.push(record);
            let mut flow = Flow::Continue;
            for callback in &mut *callbacks {
                if callback.on_epoch(EpochEnd { epoch: &record, model })? == Flow::Stop {
                    flow = Flow::Stop;
                }
            }
            if flow == Flow::Stop || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        for callback in callbacks {
            callback.on_end(model)?;
        }
        Ok(history)
    }
}
