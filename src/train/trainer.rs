//! What is trained with what: the settings of a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::group::{Group, Patterns};
use super::schedule::Schedule;
use super::step::has_classes;
use super::{Callback, Clip, History, Stepper};
use crate::data::{Batches, Dataset};
use crate::loss::Loss;
use crate::optim::Optimizer;
use crate::shape::MAX_LANES;
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
/// assert_eq!(model.evaluate(&data)?.accuracy(), Some(1.0));
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
    pub(super) patterns: Patterns<R>,
    pub(super) schedule: Option<Box<dyn Schedule>>,
    pub(super) epochs: usize,
    pub(super) batch_size: usize,
    pub(super) seed: u64,
    pub(super) clip: Clip,
    pub(super) ema: Option<f64>,
    pub(super) tile: Option<usize>,
    pub(super) stateful: bool,
    threads: Option<usize>,
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) every: Option<usize>,
    pub(super) resume: bool,
    pub(super) stop: Arc<AtomicBool>,
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
            patterns: Patterns { groups: Vec::new(), frozen: Vec::new() },
            schedule: None,
            epochs: 20,
            batch_size: 64,
            seed: 1,
            clip: Clip::None,
            ema: None,
            tile: None,
            stateful: false,
            threads: None,
            checkpoint: None,
            every: None,
            resume: false,
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

    /// Changes the learning rate in the course of the run; without, it is the optimizer's throughout.
    ///
    /// # Examples
    /// ```
    /// use bptt::train::schedule::{CosineAnnealing, LinearWarmUp, Sequential};
    /// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
    ///
    /// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3))
    ///     .epochs(20)
    ///     .schedule(Sequential::new(LinearWarmUp::new(2)).at(2, CosineAnnealing::new(18)));
    /// # let _ = trainer;
    /// ```
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.settings.schedule = Some(Box::new(schedule));
        self
    }

    /// Lets the parameters whose names are like `pattern` learn in their own way. `*` stands for any
    /// characters or none; a parameter may be in one group only.
    ///
    /// # Examples
    /// ```
    /// use bptt::train::Group;
    /// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
    ///
    /// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3).weight_decay(1e-4))
    ///     .group("linear.*", Group::new().lr_scale(0.1))
    ///     .group("lstm.bias*", Group::new().optimizer(Adam::new(1e-3)))
    ///     .freeze("lstm.weight_ih_l0");
    /// # let _ = trainer;
    /// ```
    pub fn group(mut self, pattern: impl Into<String>, group: Group<R>) -> Self {
        self.settings.patterns.groups.push((pattern.into(), group));
        self
    }

    /// Keeps the parameters whose names are like `pattern` as they are, to the bit: no optimizer sees them, and
    /// their gradients do not count in the norm that is clipped.
    pub fn freeze(mut self, pattern: impl Into<String>) -> Self {
        self.settings.patterns.frozen.push(pattern.into());
        self
    }

    /// Clips gradients, after they were averaged over the batch.
    ///
    /// ```
    /// use bptt::train::Clip;
    /// # use bptt::{Trainer, loss::Mse, optim::Adam};
    /// let trainer: Trainer = Trainer::new(Mse, Adam::new(1e-3)).clip(Clip::Norm(1.0));
    /// ```
    pub fn clip(mut self, clip: Clip) -> Self {
        self.settings.clip = clip;
        self
    }

    /// Averages the parameters over the steps, and puts the averages to use:
    ///
    /// a ← p after the first step, then a ← decay · a + (1 − decay) · p
    ///
    /// Validation, callbacks and, at the end, the model get the averages; each step goes on from the parameters as
    /// the optimizer left them.
    ///
    /// # Source
    /// Polyak & Juditsky 1992; PyTorch's `AveragedModel` with `get_ema_multi_avg_fn(decay)`.
    /// # Examples
    /// ```
    /// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
    ///
    /// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).ema(0.999);
    /// # let _ = trainer;
    /// ```
    #[doc(alias = "AveragedModel")]
    pub fn ema(mut self, decay: f64) -> Self {
        self.settings.ema = Some(decay);
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

    /// Hands the states of recurrent layers on from each step to the next, for sequences too long to go back through at
    /// once: truncated backpropagation through time.
    ///
    /// The samples must follow one another, as windows of a long sequence do. They are cut into as many contiguous
    /// streams as a batch has samples, and each step has the next sample of each stream, as [`Batches::streams`] says;
    /// nothing is shuffled, and the last samples, which fill no batch, are left out. States begin at 0 with each epoch. They
    /// are values: no gradient goes back beyond a sample's own steps.
    ///
    /// Validation begins each sample at 0, as everywhere else; [`Model::session`] measures a stream as one.
    ///
    /// # Source
    /// Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    /// trajectories"; Keras's `stateful=True` with `shuffle=False`.
    /// # Examples
    /// A bit that comes back eight steps later, and samples of four:
    /// ```
    /// use bptt::prelude::*;
    /// use bptt::ndarray::{Array1, Array2, Array3};
    /// use ndarray_rand::RandomExt;
    /// use ndarray_rand::rand_distr::Bernoulli;
    ///
    /// let coin = Bernoulli::new(0.5).unwrap();
    /// let bits = Array1::random_using(1600, coin, &mut bptt::rng::rng(1));
    /// let x = Array3::from_shape_fn((400, 4, 1), |(i, t, _)| f32::from(bits[4 * i + t]));
    /// let y = Array2::from_shape_fn((400, 4), |(i, t)| i64::from(bits[(4 * i + t).saturating_sub(8)]));
    /// let data = Arrays::step_classes(x, y, ["0", "1"])?;
    /// let trained = |stateful| {
    ///     let mut model = Model::builder(data.shape())
    ///         .layer("lstm", Lstm::new(24))
    ///         .layer("linear", Linear::new(2))
    ///         .build(1)?;
    ///     let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(15).batch_size(10);
    ///     trainer = trainer.stateful(stateful);
    ///     Ok::<_, bptt::Error>(trainer.fit(&mut model, &data, None)?.epochs[14].train.loss)
    /// };
    /// assert!(trained(true)? < trained(false)?);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    #[doc(alias = "tbptt")]
    pub fn stateful(mut self, stateful: bool) -> Self {
        self.settings.stateful = stateful;
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

    /// Writes all that the run needs to go on to this file, after every epoch: parameters, moments, averages, the
    /// states of callbacks, the history. It is written beside its place and renamed, and stays there at the end.
    ///
    /// A run's file is not a model's: [`Model::save`] or [`Checkpoint`](super::Checkpoint) write that.
    ///
    /// # Examples
    /// A run that is cut short, and one that goes on from there as if nothing had been:
    /// ```
    /// use bptt::{Model, Trainer, data::Arrays, loss::CrossEntropy, nn::Linear, optim::Adam};
    /// # use bptt::{Shape, data::Dataset};
    /// # use ndarray::{Array1, Array3};
    /// # fn main() -> bptt::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("run.ckpt");
    /// # let x = Array3::from_shape_fn((100, 1, 2), |(i, _, f)| if i % 2 == f { 1.0f32 } else { 0.0 });
    /// # let data = Arrays::classes(x, &Array1::from_shape_fn(100, |i| i % 2), ["even", "odd"])?;
    /// let trainer = |epochs| {
    ///     Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(epochs).checkpoint(&path).resume(true)
    /// };
    /// let model = || Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1);
    ///
    /// trainer(2).fit(&mut model()?, &data, None)?;
    /// let mut resumed = model()?;
    /// let history = trainer(5).fit(&mut resumed, &data, None)?;
    /// assert_eq!(history.epochs.len(), 5, "the first two are not done again");
    ///
    /// std::fs::remove_file(&path).unwrap();
    /// let mut at_once = model()?;
    /// trainer(5).fit(&mut at_once, &data, None)?;
    /// assert_eq!(resumed.params().as_slice(), at_once.params().as_slice());
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.checkpoint = Some(path.into());
        self
    }

    /// Writes the file of [`checkpoint`](Self::checkpoint) within an epoch too, after each of its steps whose number
    /// is a multiple of this.
    pub fn checkpoint_every(mut self, steps: usize) -> Self {
        self.settings.every = Some(steps);
        self
    }

    /// Whether [`fit`](Self::fit) goes on from the file of [`checkpoint`](Self::checkpoint), if there is one; false
    /// by default: the file is then written anew.
    ///
    /// The model, whatever its parameters, becomes that of the file, and in the end has the very bits of a run never
    /// stopped, on a machine with the same instruction set. So all must be as it was: data, model, settings and
    /// callbacks. What differs and can be told is an error; of the data only the numbers of samples are compared.
    /// Threads, and callbacks without a state, may be others, and there may be more epochs, which a schedule that
    /// looks at their number will notice. A run that a callback ended is over; one that
    /// [`stop_on`](Self::stop_on) ended goes on.
    ///
    /// A file is one run's. To fit in several phases, give each its own trainer and file.
    pub fn resume(mut self, resume: bool) -> Self {
        self.settings.resume = resume;
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
    /// afresh each time, unless the run is [resumed](Self::resume).
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Io`] naming the file of [`checkpoint`](Self::checkpoint) if it is damaged or of a
    /// run with other settings, with the model as it was.
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

/// For tests with malformed files, which need no file for each.
#[doc(hidden)]
impl<R: Real> Trainer<R> {
    /// Restores a run from the bytes of its file, without training on from there.
    pub fn restore_bytes(
        &mut self,
        bytes: &[u8],
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
    ) -> Result<()> {
        self.settings.restore_bytes(bytes, model, train, &mut self.callbacks)
    }
}

impl<R: Real> Settings<R> {
    pub(super) fn stepper<'a>(
        &'a self,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
    ) -> Result<Stepper<'a, R>> {
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
            && (max.is_nan() || max <= 0.0)
        {
            return Err(Error::config("clip", format!("found {max}, expected a positive number")));
        }
        if let Some(decay) = self.ema.filter(|decay| !(0.0..=1.0).contains(decay)) {
            return Err(Error::config("ema", format!("found {decay}, expected a number from 0 to 1")));
        }
        Stepper::new(self, model, data)
    }

    /// The batches of each epoch, of `n` samples.
    pub(super) fn batches(&self, n: usize) -> Result<Batches> {
        if self.stateful {
            Batches::streams(n, self.batch_size)
        } else {
            Batches::new(n, self.batch_size, self.seed)
        }
    }

    /// Checks what the trainer alone can tell: that schedule and callbacks find the scores that they watch.
    pub(super) fn check(
        &self,
        train: &dyn Dataset<Elem = R>,
        callbacks: &[Box<dyn Callback<R>>],
    ) -> Result<()> {
        if let Some(schedule) = &self.schedule {
            schedule.check()?;
        }
        let scheduled = self.schedule.iter().filter_map(|schedule| schedule.monitor());
        let called = callbacks.iter().filter_map(|callback| callback.monitor());
        scheduled.chain(called).try_for_each(|monitor| monitor.check(has_classes(train)))
    }
}
