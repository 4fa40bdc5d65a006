//! The trainer: settings, callbacks, a sampler.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::run::{Parts, Sets, restore_bytes, run};
use super::schedule::Schedule;
use super::settings::Settings;
use super::{AllReduce, Callback, Clip, Group, GroupLasso, History, Stepper};
use crate::data::{Dataset, Sampler, SequentialStreams, Shuffled};
use crate::loss::Loss;
use crate::optim::Optimizer;
use crate::{Model, Real, Result, unoptimised};

/// Trains any model with any loss.
///
/// A run is a function of the model, the data and the settings: its result is the same, to the bit, at any number of threads.
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
    pub(super) settings: Settings<R>,
    sampler: Option<Box<dyn Sampler>>,
    callbacks: Vec<Box<dyn Callback<R>>>,
}

impl<R: Real> std::fmt::Debug for Trainer<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("settings", &self.settings)
            .field("sampler", &self.sampler)
            .field("callbacks", &self.callbacks.len())
            .finish()
    }
}

impl<R: Real> Trainer<R> {
    /// A trainer with the defaults: 20 [epochs](Self::epochs) of batches of 64, as in the paper, seed 1, every sample once per
    /// epoch, the optimizer's learning rate throughout, no clipping and no averages.
    pub fn new(loss: impl Loss<R> + 'static, optimizer: impl Optimizer<R> + 'static) -> Self {
        let settings = Settings::new(Box::new(loss), Box::new(optimizer));
        Self { settings, sampler: None, callbacks: Vec::new() }
    }

    /// The number of epochs; 20 by default. In each, every sample is drawn once, unless the [sampler](Self::sampler) draws
    /// otherwise.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// The number of samples per step; 64 by default. The last step of an epoch has the remaining ones.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.settings.batch_size = batch_size;
        self
    }

    /// The seed of the shuffle and of everything else that is random in training; 1 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Changes the learning rate during the run; by default it is the optimizer's throughout.
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

    /// Gives the parameters whose names match `pattern` settings of their own. `*` matches any run of characters; a parameter
    /// can be in only one group.
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
        self.settings.groups.groups.push((pattern.into(), group));
        self
    }

    /// Keeps the parameters whose names match `pattern` unchanged, to the bit: no optimizer sees them, and their gradients do
    /// not count in the norm that is clipped.
    pub fn freeze(mut self, pattern: impl Into<String>) -> Self {
        self.settings.groups.frozen.push(pattern.into());
        self
    }

    /// Clips gradients, after they are averaged over the batch.
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

    /// Averages the parameters over the steps, and uses the averages:
    ///
    /// a ← p after the first step, then a ← decay · a + (1 − decay) · p
    ///
    /// Validation, callbacks and, at the end, the model get the averages; each step continues from the parameters that the
    /// optimizer left.
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

    /// Penalises units as [`GroupLasso`] says, after each step of the optimizer; off by default.
    pub fn group_lasso(mut self, lasso: GroupLasso) -> Self {
        self.settings.group_lasso = Some(lasso);
        self
    }

    /// The number of threads of [`fit`](Self::fit) and of a [`stepper`](Self::stepper); by default that of rayon's global
    /// pool. It does not change results.
    ///
    /// A run has its own threads, so that no run waits for another. Only if `fit` is called within a rayon pool, for example
    /// by `pool.install`, and no number is given here, the run stays in that pool.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = Some(threads);
        self
    }

    /// The most samples of a tile, 1 to 64. By default it follows from the batch size. It changes the order of sums, and
    /// with it the last bits of a result.
    pub fn tile(mut self, samples: usize) -> Self {
        self.settings.tile = Some(samples);
        self
    }

    /// Decides which samples an epoch draws, in which order, and with which weights; [`Shuffled`] by default.
    ///
    /// # Examples
    /// One sample in a hundred is of the second class, but every other draw is:
    /// ```
    /// use bptt::data::Balanced;
    /// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
    ///
    /// let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).sampler(Balanced::new());
    /// # let _ = trainer;
    /// ```
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.sampler = Some(Box::new(sampler));
        self
    }

    /// Makes the run one of several ranks, which divide every batch among them; see [`AllReduce`].
    ///
    /// Every rank calls [`fit`](Self::fit) with the same model, data, settings and callbacks, draws the same epochs, computes its
    /// share of each batch and of the validation, and has the same model after each step: that of one process, to the bit, as
    /// [`AllReduce`] says. Ranks may have different processors and numbers of threads.
    ///
    /// Every rank calls its callbacks, but only rank 0 writes files: the [run's file](Self::run_file), which all must be able to
    /// read to resume, at any number of ranks; and those of [`Checkpoint`](super::Checkpoint) and the logs. Custom callbacks
    /// learn their rank from [`Callback::on_rank`].
    ///
    /// The ranks agree between steps: before the first step that their models, data and settings are the same, and at the end of
    /// each epoch that their parameters, moments and averages are, by a hash. An error at one rank ends the run at all, in the
    /// next step at the latest; the errors of the others name that rank. A callback that ends the run, or
    /// [`stop_on`](Self::stop_on), does so at all ranks after the same epoch.
    ///
    /// A [stateful](Self::stateful) run cannot have ranks.
    pub fn all_reduce(mut self, ranks: impl AllReduce<R> + 'static) -> Self {
        self.settings.all_reduce = Some(Box::new(ranks));
        self
    }

    /// Carries the states of recurrent layers from each step to the next, for sequences that are too long for one backward
    /// pass: truncated backpropagation through time. Off by default.
    ///
    /// The samples must follow one another, as windows of a long sequence do. They are cut into as many contiguous
    /// streams as a batch has samples, and each step has the next sample of each stream, as [`SequentialStreams`] says;
    /// nothing is shuffled, and the last samples, which do not fill a batch, are left out. States begin at 0 with each epoch.
    /// They are values: no gradient goes back beyond the first step of a sample.
    ///
    /// In validation each sample begins at 0, as everywhere else; use [`Model::session`] for a whole stream.
    ///
    /// # Source
    /// Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    /// trajectories"; Keras's `stateful=True` with `shuffle=False`.
    /// # Examples
    /// A bit that is repeated eight steps later, and samples of four steps:
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
    ///     if stateful {
    ///         trainer = trainer.stateful();
    ///     }
    ///     Ok::<_, bptt::Error>(trainer.fit(&mut model, &data, None)?.epochs[14].train.loss)
    /// };
    /// assert!(trained(true)? < trained(false)?);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    #[doc(alias = "tbptt")]
    pub fn stateful(mut self) -> Self {
        self.settings.stateful = true;
        self
    }

    /// Adds a callback. Callbacks are called in the order added, on the thread that calls [`fit`](Self::fit).
    pub fn callback(mut self, callback: impl Callback<R> + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Ends a run after its current epoch once this flag is set, for example by a handler of Ctrl-C.
    pub fn stop_on(mut self, flag: Arc<AtomicBool>) -> Self {
        self.settings.stop = flag;
        self
    }

    /// Writes all that is needed to resume the run to this file, after every epoch: parameters, moments, averages, the states
    /// of callbacks, the history. It is written by [`atomic_write`](crate::atomic_write), and kept at the end.
    ///
    /// It is not a model file, which [`Model::save`] and [`Checkpoint`](super::Checkpoint) write.
    ///
    /// # Examples
    /// A run that is interrupted, and one that resumes it as if it had never stopped:
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
    ///     Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(epochs).run_file(&path).resume(true)
    /// };
    /// let model = || Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1);
    ///
    /// trainer(2).fit(&mut model()?, &data, None)?;
    /// let mut resumed = model()?;
    /// let history = trainer(5).fit(&mut resumed, &data, None)?;
    /// assert_eq!(history.epochs.len(), 5, "the first two are not repeated");
    ///
    /// std::fs::remove_file(&path).unwrap();
    /// let mut at_once = model()?;
    /// trainer(5).fit(&mut at_once, &data, None)?;
    /// assert_eq!(resumed.params().as_slice(), at_once.params().as_slice());
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.run_file = Some(path.into());
        self
    }

    /// Also writes the [run's file](Self::run_file) within an epoch, after each step whose number in the epoch is a multiple
    /// of this.
    pub fn run_file_every(mut self, steps: usize) -> Self {
        self.settings.every = Some(steps);
        self
    }

    /// Whether [`fit`](Self::fit) resumes from the [run's file](Self::run_file), if there is one; false by default, which
    /// begins a new file.
    ///
    /// The model's parameters and mask are replaced by those of the file, and in the end it has the same bits as after a run
    /// that never stopped, on a machine with the same instruction set. So everything must be the same: data, model, settings
    /// and callbacks. A difference is an error; of the data these are compared: numbers and shapes of samples, class names,
    /// lengths, all targets, and the inputs of 64 samples. [`changed`](Self::changed) allows a difference. The number of
    /// threads, and callbacks without a state, may differ, and there may be more epochs, which affects a schedule that depends
    /// on their number. A run that a callback ended is over; one that [`stop_on`](Self::stop_on) ended can be resumed.
    ///
    /// Losses, optimizers, schedules and samplers are compared by what their `describe` returns. For a file of the first form,
    /// which has them only as text, these and the layers' settings are not compared, except for the names and shapes of
    /// parameters.
    ///
    /// A file belongs to one run. To train in several phases, give each its own trainer and file.
    pub fn resume(mut self, resume: bool) -> Self {
        self.settings.resume = resume;
        self
    }

    /// Lets a resumed run differ from the one in the file in these settings, by the names that errors give them:
    /// `"optimizer"`, `"schedule"`, `"batch_size"`, `"training data"` and so on.
    ///
    /// The content of the file must still fit: another optimizer must have as many moments. If the steps of an epoch change,
    /// as with the batch size, the run must have been stopped between epochs.
    ///
    /// # Examples
    /// Three more epochs, at a tenth of the rate:
    /// ```
    /// # use bptt::{Model, Shape, Trainer, data::{Arrays, Dataset}, loss::CrossEntropy, nn::Linear, optim::Adam};
    /// # use ndarray::{Array1, Array3};
    /// # fn main() -> bptt::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("run.safetensors");
    /// # let x = Array3::from_shape_fn((100, 1, 2), |(i, _, f)| if i % 2 == f { 1.0f32 } else { 0.0 });
    /// # let data = Arrays::classes(x, &Array1::from_shape_fn(100, |i| i % 2), ["even", "odd"])?;
    /// # let mut model = Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1)?;
    /// let trainer = |lr, epochs| {
    ///     Trainer::new(CrossEntropy::default(), Adam::new(lr)).epochs(epochs).run_file(&path).resume(true)
    /// };
    /// trainer(0.01, 2).fit(&mut model, &data, None)?;
    /// assert!(trainer(0.001, 5).fit(&mut model, &data, None).is_err());
    /// let history = trainer(0.001, 5).changed(["optimizer"]).fit(&mut model, &data, None)?;
    /// assert_eq!(history.epochs.len(), 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn changed(mut self, settings: impl IntoIterator<Item: Into<String>>) -> Self {
        self.settings.changed.extend(settings.into_iter().map(Into::into));
        self
    }

    /// A stepper, for custom training loops.
    ///
    /// # Errors
    /// If the model, the data, the loss and the settings do not fit each other.
    pub fn stepper<'a>(&'a self, model: &Model<R>, data: &dyn Dataset<Elem = R>) -> Result<Stepper<'a, R>> {
        let most = if self.sampler.is_some() { usize::MAX } else { data.len() };
        Stepper::new(&self.settings, model, data, self.settings.batch_size.min(most))
    }

    /// Trains `model` on `train`, and evaluates it on `valid`, if given, after every epoch. The optimizer starts without
    /// moments each time, unless the run is [resumed](Self::resume).
    ///
    /// Callbacks are called on this thread. Only steps and validation run on other [threads](Self::threads), so only datasets,
    /// the loss, the optimizer, the schedule and the sampler are called there.
    ///
    /// # What it leaves behind
    /// The model has the parameters of the last step, or their [averages](Self::ema), unless a callback changed them:
    /// [`EarlyStopping`](super::EarlyStopping) restores those of the best epoch. After an error it has the parameters of the
    /// last step that succeeded, never averages; if the error is that a parameter is not finite, it has that parameter.
    /// Callbacks are still told of the end, so that `EarlyStopping` restores the best epoch.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) or [`Error::Io`](crate::Error::Io) naming the [run's file](Self::run_file)
    /// if it is damaged or belongs to a run with other settings; the model is unchanged then. An error if model, data, loss and
    /// settings do not fit each other; [`Error::NonFinite`](crate::Error::NonFinite) if the loss or a gradient is not finite,
    /// or a parameter at the end of an epoch; or the error of a callback.
    pub fn fit(
        &mut self,
        model: &mut Model<R>,
        train: &dyn Dataset<Elem = R>,
        valid: Option<&dyn Dataset<Elem = R>>,
    ) -> Result<History> {
        unoptimised::advise();
        let mut default: Box<dyn Sampler> = match self.settings.stateful {
            true => Box::new(SequentialStreams::new()),
            false => Box::new(Shuffled::new()),
        };
        let sampler = self.sampler.as_deref_mut().unwrap_or(&mut *default);
        let parts = Parts { sampler, callbacks: &mut self.callbacks };
        run(&self.settings, parts, model, Sets { train, valid })
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
        let sampler = self.sampler.get_or_insert_with(|| Box::new(Shuffled::new()));
        let parts = Parts { sampler: &mut **sampler, callbacks: &mut self.callbacks };
        restore_bytes(&self.settings, parts, model, train, bytes)
    }
}
