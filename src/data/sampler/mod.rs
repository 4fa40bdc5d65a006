//! Samplers: which samples an epoch draws, in which order, and with which weights.

mod balanced;
mod hardest_share;
mod info_batch;
mod last_losses;
mod random_share;
mod shuffled;
mod streams;
mod weighted_random;

use std::fmt::Debug;

pub use balanced::Balanced;
pub use hardest_share::HardestShare;
pub use info_batch::InfoBatch;
pub use random_share::RandomShare;
pub use shuffled::Shuffled;
pub use streams::SequentialStreams;
pub use weighted_random::WeightedRandom;

use super::batches::check_count;
use super::{Batch, Dataset, Sample, TargetShape};
use crate::{Description, Error, Real, Result};

/// One draw of an epoch: a sample, and the factor for its loss.
///
/// # Examples
/// ```
/// use bptt::data::Draw;
///
/// assert_eq!(Draw::new(7), Draw::new(7).weight(1.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Draw {
    /// The index of the sample in the dataset.
    pub index: u32,
    /// The factor by which the sample's loss and gradient are multiplied before they are summed. The mean is still over the
    /// targets, each counted once.
    pub weight: f64,
}

impl Draw {
    /// Sample `index` with weight 1.
    pub const fn new(index: u32) -> Self {
        Self { index, weight: 1.0 }
    }

    /// These samples, each with weight 1.
    pub fn all(indices: impl IntoIterator<Item = u32>) -> Vec<Self> {
        indices.into_iter().map(Self::new).collect()
    }

    /// The factor for its loss.
    pub const fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }
}

/// What a [`Sampler`] draws from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Population {
    /// How many samples the dataset has.
    pub len: usize,
    /// Draws per batch.
    pub batch_size: usize,
    /// The seed of the run.
    pub seed: u64,
    /// How many epochs the run has; `None` if that is not known, as in custom loops.
    pub epochs: Option<usize>,
    /// The class of each sample, negative where it has none; only for samplers that [need
    /// them](Sampler::needs_classes).
    pub classes: Option<Vec<i64>>,
}

impl Population {
    /// `len` samples, without classes, and seed 0.
    pub fn new(len: usize, batch_size: usize) -> Self {
        Self { len, batch_size, ..Self::default() }
    }

    /// The seed of the run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many epochs the run has.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = Some(epochs);
        self
    }

    /// The class of each sample.
    pub fn classes(mut self, classes: impl Into<Vec<i64>>) -> Self {
        self.classes = Some(classes.into());
        self
    }

    /// The samples of `data`, with their classes if `sampler` needs them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if they are needed and there is not one class for each sample.
    pub(crate) fn of<R: Real>(
        data: &dyn Dataset<Elem = R>,
        batch_size: usize,
        seed: u64,
        sampler: &dyn Sampler,
    ) -> Result<Self> {
        let population = Self::new(data.len(), batch_size).seed(seed);
        if !sampler.needs_classes() {
            return Ok(population);
        }
        if data.target_shape() != (TargetShape::Classes { t: 1 }) {
            let found = format!("targets {:?}", data.target_shape());
            return Err(Error::mismatch("sampler", found, "one class for each sample"));
        }
        let class = |i| {
            let mut class = [0];
            data.classes(Sample::plain(i), &mut class);
            class[0]
        };
        Ok(population.classes((0..data.len()).map(class).collect::<Vec<_>>()))
    }
}

/// Decides which samples an epoch draws, in which order, and with which weights; see
/// [`Trainer::sampler`](crate::Trainer::sampler).
///
/// A draw must be a function of the run's seed, the epoch and what the sampler has seen, so that a run can be resumed: what
/// it has seen goes into the run's file by [`save_state`](Self::save_state), and random numbers come from a key, made by
/// [`rng::key`](crate::rng::key).
///
/// # Examples
/// The harder half of the samples, and in every fifth epoch all of them:
/// ```
/// use bptt::data::{Batch, Draw, Population, Sampler};
/// use bptt::Result;
///
/// #[derive(Debug, Default)]
/// struct Hardest {
///     losses: Vec<f64>,
/// }
///
/// impl Sampler for Hardest {
///     fn start(&mut self, population: &Population) -> Result<()> {
///         self.losses = vec![f64::INFINITY; population.len];
///         Ok(())
///     }
///     fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
///         let mut order: Vec<u32> = (0..self.losses.len() as u32).collect();
///         order.sort_by(|&a, &b| self.losses[b as usize].total_cmp(&self.losses[a as usize]));
///         let kept = if epoch % 5 == 1 { order.len() } else { order.len() / 2 };
///         draws.extend(order[..kept].iter().map(|&index| Draw::new(index)));
///         Ok(())
///     }
///     fn observes(&self) -> bool {
///         true
///     }
///     fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
///         for (draw, loss) in batch.draws.iter().zip(losses) {
///             self.losses[draw.index as usize] = loss.unwrap_or(0.0);
///         }
///     }
///     fn save_state(&self) -> Option<serde_json::Value> {
///         // JSON has no infinity.
///         let finite = self.losses.iter().map(|loss| loss.is_finite().then_some(*loss));
///         Some(finite.collect())
///     }
///     fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
///         let losses: Vec<Option<f64>> =
///             serde_json::from_value(state).map_err(|e| bptt::Error::config("sampler", e.to_string()))?;
///         self.losses = losses.into_iter().map(|loss| loss.unwrap_or(f64::INFINITY)).collect();
///         Ok(())
///     }
/// }
///
/// let mut sampler = Hardest::default();
/// sampler.start(&Population::new(4, 2))?;
/// let draws = [0, 1, 2, 3].map(Draw::new);
/// sampler.observe(Batch::new(&draws, 1, 0), &[0.5, 2.0, 0.1, 1.0].map(Some));
/// let mut next = Vec::new();
/// sampler.draw(2, &mut next)?;
/// assert_eq!(next, [Draw::new(1), Draw::new(3)]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Sampler: Debug + Send {
    /// The kind and settings, by which a [resumed](crate::Trainer::resume) run is compared with its file; by default the
    /// output of `Debug`.
    fn describe(&self) -> Description {
        Description::debug(self)
    }

    /// Whether [`start`](Self::start) needs the class of each sample.
    fn needs_classes(&self) -> bool {
        false
    }

    /// Called before the first epoch of a run, and before [`load_state`](Self::load_state): it must forget any earlier run.
    ///
    /// # Errors
    /// If the settings do not fit the samples.
    fn start(&mut self, population: &Population) -> Result<()>;

    /// Adds the draws of `epoch`, counted from 1, to `draws`, which is empty. They are cut into batches in order.
    ///
    /// # Errors
    /// Any error; it ends the run. So does an epoch without draws, or a draw of a sample that does not exist.
    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()>;

    /// How many draws every epoch has, if that is known beforehand; `None` if it can change from epoch to epoch.
    fn draws(&self) -> Option<usize> {
        None
    }

    /// Whether each batch has the next sample of each of its streams, as with [`SequentialStreams`];
    /// [`Trainer::stateful`](crate::Trainer::stateful) needs this.
    fn keeps_streams(&self) -> bool {
        false
    }

    /// Whether [`observe`](Self::observe) is called.
    fn observes(&self) -> bool {
        false
    }

    /// Called after each step with the loss of each draw of the batch, in order, before any weight; `None` where a sample has
    /// no target that counts. The losses do not depend on the number of threads.
    fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        let _ = (batch, losses);
    }

    /// What the sampler carries from step to step, for the run's file; `None` if it carries nothing. A sampler must have a
    /// state either always or never.
    fn save_state(&self) -> Option<serde_json::Value> {
        None
    }

    /// Restores what [`save_state`](Self::save_state) returned, after [`start`](Self::start).
    ///
    /// # Errors
    /// If the state does not belong to this sampler.
    fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

impl<S: Sampler + ?Sized> Sampler for &mut S {
    fn describe(&self) -> Description {
        (**self).describe()
    }

    fn needs_classes(&self) -> bool {
        (**self).needs_classes()
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        (**self).start(population)
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        (**self).draw(epoch, draws)
    }

    fn draws(&self) -> Option<usize> {
        (**self).draws()
    }

    fn keeps_streams(&self) -> bool {
        (**self).keeps_streams()
    }

    fn observes(&self) -> bool {
        (**self).observes()
    }

    fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        (**self).observe(batch, losses);
    }

    fn save_state(&self) -> Option<serde_json::Value> {
        (**self).save_state()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
        (**self).load_state(state)
    }
}

/// Checks the number of draws that was asked for.
fn check_draws(draws: Option<usize>) -> Result<()> {
    match draws {
        Some(0) => Err(Error::config("draws", "found 0, expected at least 1")),
        draws => check_count(draws.unwrap_or(0)),
    }
}
