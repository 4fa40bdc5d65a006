//! One training step: tiles → slots → tree (→ ranks) → 1 / weight → freeze → mask → clip → optimizers → repack.
//!
//! What always holds here:
//! - How a batch is cut into tiles and slots, and in which order these are summed, depends only on the size of the batch and
//!   the settings. So the bits are the same at any number of threads and ranks.
//! - A step allocates nothing: all buffers are made by [`Stepper::new`].
//! - A step that fails leaves the parameters unchanged.

use std::sync::Arc;

use super::average::Average;
use super::group::{UpdatePlan, UpdateRange};
use super::group_lasso::LassoGroups;
use super::ranks::Ranks;
use super::schedule::{Clock, Schedule};
use super::settings::Settings;
use super::slot::{Cut, Slot, Sums, Work, add};
use super::staged::Stages;
use super::{Clip, Hits, Outcome};
use crate::data::{Batch, Dataset, TargetShape};
use crate::loss::{Loss, Tally};
use crate::nn::{Compacted, same_mask};
use crate::optim::{self, MAX_MOMENTS, Optimizer};
use crate::par::{self, Pool};
use crate::prune::Mask;
use crate::shape::tile_lanes;
use crate::{Arena, Error, Model, Real, Result, Shape};

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// The sum of losses, and the weight to divide it by.
    pub tally: Tally,
    /// Targets that have an accuracy, and those predicted correctly before the update.
    pub hits: Hits,
    /// ‖g‖₂ before clipping, of the parameters that are neither frozen nor pruned.
    pub grad_norm: f64,
}

/// What one step carries to the next, in addition to the parameters.
pub(super) struct CarriedState<V> {
    /// How many steps were taken.
    pub(super) steps: u64,
    /// All first moments, then all second ones, and so on.
    pub(super) moments: V,
    /// The averages, if the trainer keeps any, and whether there was a step to average yet.
    pub(super) average: Option<V>,
    pub(super) averaged: bool,
    /// For each slot, the states of its streams.
    pub(super) states: Vec<V>,
}

/// What a stepper's buffers are for.
#[derive(Clone, Copy, Debug)]
struct Fits {
    shape: Shape,
    targets: TargetShape,
    /// The size of a batch of streams, or the largest size of any other batch.
    batch: usize,
    /// Whether batches are those of streams.
    streams: bool,
}

/// A training loop's state: buffers, moments, and how many steps were taken.
///
/// [`Trainer::fit`](super::Trainer::fit) runs one; [`Trainer::stepper`](super::Trainer::stepper) returns one for custom
/// training loops.
///
/// A stepper has its own threads. A loop with short steps should run inside a rayon pool as a whole, for example within
/// `rayon::scope`: it then forks there, and does not have to wake a thread for each step.
///
/// # Examples
/// ```
/// use bptt::data::Batches;
/// use bptt::prelude::*;
/// use ndarray::{Array1, Array3};
///
/// let x = Array3::from_shape_fn((20, 5, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 4.0 - t as f32 });
/// let data = Arrays::classes(x, &Array1::from_shape_fn(20, |i| i % 2), ["up", "down"])?;
/// let mut model = Model::builder(data.shape())
///     .layer("lstm", Lstm::new(4).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.05)).batch_size(10);
/// let mut stepper = trainer.stepper(&model, &data)?;
/// let mut batches = Batches::new(data.len(), 10, 1)?;
/// let mut losses = Vec::new();
/// for epoch in 1..=10 {
///     for batch in batches.epoch(epoch)? {
///         losses.push(stepper.step(&mut model, &data, batch)?.tally.mean().unwrap_or(0.0));
///     }
/// }
/// assert!(losses[19] < 0.5 * losses[0]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub struct Stepper<'a, R: Real> {
    loss: &'a dyn Loss<R>,
    optimizer: &'a dyn Optimizer<R>,
    plan: UpdatePlan<'a, R>,
    pool: Arc<Pool>,
    clip: Clip,
    seed: u64,
    cut: Cut,
    /// What the buffers are for.
    fits: Fits,
    /// The slots of this rank.
    slots: Vec<Slot<R>>,
    moments: Vec<R>,
    /// What an optimizer may overwrite; before that, frozen statistics are kept in it.
    scratch: Vec<R>,
    total: Arena<R>,
    /// The other ranks, if there are any.
    ranks: Option<Ranks<'a, R>>,
    average: Option<Average<R>>,
    stages: Stages,
    lasso: Option<LassoGroups>,
    /// The loss of each draw of the last batch, if losses are kept.
    losses: Vec<Option<f64>>,
    /// The outcome of each draw of the last batch, if outcomes are kept.
    outcomes: Vec<Option<Outcome>>,
    /// The model's mask at the last step.
    mask: Option<Arc<Mask>>,
    steps: u64,
    /// The present epoch, and how many steps were taken before it.
    epoch: (usize, u64),
    lr: f64,
}

impl<R: Real> std::fmt::Debug for Stepper<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepper")
            .field("steps", &self.steps)
            .field("tile", &self.cut.tile)
            .finish_non_exhaustive()
    }
}

impl<'a, R: Real> Stepper<'a, R> {
    /// A stepper for batches of at most `batch` draws.
    pub(super) fn new(
        settings: &'a Settings<R>,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        batch: usize,
    ) -> Result<Self> {
        settings.check()?;
        let (loss, optimizer) = (&*settings.loss, &*settings.optimizer);
        model.check_same_steps("training", data)?;
        loss.check(model.output_shape(), data.target_shape())?;
        optimizer.check()?;
        if settings.stateful {
            model.check_streams()?;
        }
        let plan = settings.groups.plan(optimizer, model.params().layout())?;
        let lasso = settings.group_lasso.as_ref();
        let lasso = lasso.map(|lasso| lasso.groups(model.params().layout(), &plan.frozen)).transpose()?;
        let moments = plan.updates.iter().map(|update| update.optimizer.moments()).max().unwrap_or(0);
        let scratch = plan.updates.iter().filter_map(|update| update.optimizer.scratch(&update.shape)).max();
        let held = model.params().layout().statistics_in(&plan.frozen).map(|own| own.len()).sum();
        let ranks = settings.ranks();
        let stages = Stages::new(model);
        let tile = settings.tile.unwrap_or_else(|| tile_lanes::<R>(batch));
        let cut = Cut { tile, rank: ranks.map_or(0, |r| r.rank()), ranks: ranks.map_or(1, |r| r.size()) };
        let workspaces = if stages.is_one() { 1 } else { cut.most_tiles(batch) };
        let slots = (0..cut.most(batch)).map(|i| {
            let streams = if settings.stateful { cut.of_slot(i, batch).len() } else { 0 };
            Slot::new(model, data.target_shape(), loss, (tile, workspaces), streams)
        });
        let params = model.parameter_count();
        Ok(Self {
            loss,
            optimizer,
            plan,
            pool: Arc::new(Pool::new(settings.threads)?),
            clip: settings.clip,
            seed: settings.seed,
            cut,
            fits: Fits {
                shape: data.shape(),
                targets: data.target_shape(),
                batch,
                streams: settings.stateful,
            },
            slots: slots.collect::<Result<_>>()?,
            moments: vec![R::ZERO; params * moments],
            scratch: vec![R::ZERO; scratch.unwrap_or(0).max(held)],
            total: Arena::zeros(model.params().layout().clone()),
            ranks: ranks.map(|ranks| Ranks::new(ranks, params, stages.most())),
            average: settings.ema.map(|decay| Average::new(decay, params)),
            stages,
            lasso,
            losses: Vec::new(),
            outcomes: Vec::new(),
            mask: None,
            steps: 0,
            epoch: (0, 0),
            lr: optimizer.lr(),
        })
    }

    /// Sets the learning rate of the following steps. A group with its own optimizer keeps that one's rate.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
        self.plan
            .updates
            .iter_mut()
            .filter(|update| !update.own)
            .for_each(|update| update.lr = update.lr_scale * lr);
    }

    /// Sets the learning rate of the following steps to what `schedule` makes of the rate of each optimizer.
    pub fn follow(&mut self, schedule: &dyn Schedule, clock: Clock<'_>) {
        self.lr = schedule.lr(self.optimizer.lr(), clock);
        for update in &mut self.plan.updates {
            update.lr = update.lr_scale * schedule.lr(update.optimizer.lr(), clock);
        }
    }

    /// The learning rate of the following steps, without the factors of groups.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// One step on the draws `batch` from `data`: gradients, clipping, update.
    ///
    /// The batch may be smaller than the trainer's batch size, as the last of an epoch often is, but not larger. If the
    /// trainer is [stateful](super::Trainer::stateful), all batches have the same size, and states begin at 0 with the first
    /// batch of an epoch.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if the loss or the gradient is not finite; the parameters are unchanged then.
    /// [`Error::Mismatch`] if the batch is empty, too large, or has a sample that does not exist, or if the stepper was made
    /// for other shapes of model or data.
    pub fn step(
        &mut self,
        model: &mut Model<R>,
        data: &dyn Dataset<Elem = R>,
        batch: Batch<'_>,
    ) -> Result<StepReport> {
        let pool = Arc::clone(&self.pool);
        pool.run(|| {
            let report = self.gradients(model, data, batch)?;
            if model.parameter_count() > par::PART {
                // Other threads take parts of it.
                self.update(model);
            } else {
                par::awake(|| self.update(model));
            }
            Ok(report)
        })
    }

    /// Computes the gradient of the mean loss of a batch, clipped, into [`grads`](Self::grads); see [`step`](Self::step).
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn gradients(
        &mut self,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        batch: Batch<'_>,
    ) -> Result<StepReport> {
        let fits = self.check(model, data, batch);
        if fits.is_ok() {
            self.sync_mask(model);
        }
        if self.epoch.0 != batch.epoch {
            self.epoch = (batch.epoch, self.steps);
        }
        let work = Work { model, data, loss: self.loss, batch, seed: self.seed, cut: self.cut };
        let pool = Arc::clone(&self.pool);
        let sums = pool.run(|| self.sum(fits, work))?;
        // Frozen and pruned parameters must not count in the norm by which the others are clipped.
        for range in &self.plan.frozen {
            self.total.as_mut_slice()[range.clone()].fill(R::ZERO);
        }
        if let Some(mask) = &self.mask {
            mask.apply(self.total.as_mut_slice());
        }
        let grad_norm = R::sum_of_squares(self.total.as_slice()).sqrt();
        let Sums { tally, hits } = sums;
        if !tally.loss.is_finite() {
            return Err(self.not_finite(model, format!("the loss ({})", tally.loss), self.steps + 1));
        }
        if !grad_norm.is_finite() {
            return Err(self.not_finite(model, "the gradient".to_owned(), self.steps + 1));
        }
        self.clip.apply(self.total.as_mut_slice(), grad_norm);
        Ok(StepReport { tally, hits, grad_norm })
    }

    /// Checks that the buffers fit this model, data and batch.
    fn check(&self, model: &Model<R>, data: &dyn Dataset<Elem = R>, batch: Batch<'_>) -> Result<()> {
        let Fits { shape, targets, batch: most, streams } = self.fits;
        self.check_model(model)?;
        if (data.shape(), data.target_shape()) != (shape, targets) {
            let found = format!("samples {} with targets {:?}", data.shape(), data.target_shape());
            return Err(Error::mismatch(
                "a step",
                found,
                format!("samples {shape} with targets {targets:?}"),
            ));
        }
        let n = batch.len();
        if streams && n != most {
            let expected = format!("{most}, one for each stream");
            return Err(Error::mismatch("a batch", format!("{n} samples"), expected));
        }
        if !(1..=most).contains(&n) {
            return Err(Error::mismatch("a batch", format!("{n} samples"), format!("1 to {most}")));
        }
        match batch.indices().find(|&index| index as usize >= data.len()) {
            None => Ok(()),
            Some(index) => {
                let expected = format!("less than {}", data.len());
                Err(Error::mismatch("a batch", format!("sample {index}"), expected))
            }
        }
    }

    /// Checks that the buffers fit this model.
    fn check_model(&self, model: &Model<R>) -> Result<()> {
        let (found, expected, shape) =
            (model.parameter_count(), self.total.as_slice().len(), self.fits.shape);
        if found == expected && model.input_shape() == shape {
            return Ok(());
        }
        let found = format!("a model of {found} parameters for samples {}", model.input_shape());
        let expected = format!("that of the stepper, of {expected} for samples {shape}");
        Err(Error::mismatch("a step", found, expected))
    }

    /// The fork: computes the mean gradient of the batch into `total`.
    ///
    /// Sum and division are separate, so that the sum can continue over ranks; a single rank does the last addition and the
    /// division in one pass.
    fn sum(&mut self, fits: Result<()>, work: Work<'_, R>) -> Result<Sums> {
        let own = self.cut.own(work.batch.len());
        let slots = self.slots.get_mut(..own.len()).unwrap_or(&mut []);
        let done = if self.stages.is_one() {
            fits.and_then(|()| par::for_each(slots, |i, slot| slot.run(own.start + i, work)))
        } else {
            self.stages.run((slots, own.start), work, self.ranks.as_mut(), fits)
        };
        self.losses.clear();
        self.outcomes.clear();
        let (observed, all) = (self.losses.capacity() > 0, self.outcomes.capacity() > 0);
        if observed {
            let draws = slots.iter().flat_map(|slot| &slot.draws).copied();
            let outcomes = slots.iter().flat_map(|slot| &slot.outcomes).copied();
            match &mut self.ranks {
                None => {
                    self.losses.extend(draws.map(Tally::mean));
                    self.outcomes.extend(outcomes);
                }
                Some(ranks) => {
                    let outcomes = outcomes.chain(std::iter::repeat(None));
                    ranks.set_draws(self.cut.first(work.batch.len()), draws.zip(outcomes));
                }
            }
        }
        let total = self.total.as_mut_slice();
        let Some(ranks) = &mut self.ranks else {
            done?;
            let (sums, both) = add(slots);
            let factor = R::from_f64(1.0 / divisor(sums));
            par::in_parts(total, both, &|total, [a, b]| R::scaled_sum(total, a, b, factor));
            return Ok(sums);
        };
        let sums = ranks.sum(slots, own.start, (total, self.cut.width(work.batch.len())), done)?;
        if observed {
            for (loss, outcome) in ranks.draws().take(work.batch.len()) {
                self.losses.push(loss);
                if all {
                    self.outcomes.push(outcome);
                }
            }
        }
        R::scale(total, R::from_f64(1.0 / divisor(sums)));
        Ok(sums)
    }

    /// Keeps the loss of each draw of the following batches, for [`losses`](Self::losses).
    pub fn keep_losses(&mut self) {
        let batch = self.fits.batch;
        self.losses.reserve_exact(batch);
        let most = self.cut.of_slot(0, batch).len() + 1;
        self.slots.iter_mut().for_each(|slot| slot.draws.reserve_exact(most * self.cut.tile));
        if let Some(ranks) = &mut self.ranks {
            ranks.expect_draws(batch);
        }
    }

    /// Keeps the outcome of each draw of the following batches, for [`outcomes`](Self::outcomes), and their losses.
    pub fn keep_outcomes(&mut self) {
        self.keep_losses();
        let batch = self.fits.batch;
        self.outcomes.reserve_exact(batch);
        let most = self.cut.of_slot(0, batch).len() + 1;
        self.slots.iter_mut().for_each(|slot| slot.outcomes.reserve_exact(most * self.cut.tile));
    }

    /// The outcome of each draw of the last batch, in order, after [`keep_outcomes`](Self::keep_outcomes); `None` where
    /// samples do not have one class each, or this one's does not count.
    pub fn outcomes(&self) -> &[Option<Outcome>] {
        &self.outcomes
    }

    /// The loss of each draw of the last batch, in order and without weights, after
    /// [`keep_losses`](Self::keep_losses); `None` where a sample has no target that counts.
    pub fn losses(&self) -> &[Option<f64>] {
        &self.losses
    }

    /// The gradient of the last step, clipped; 0 for parameters that are frozen or pruned.
    pub fn grads(&self) -> &Arena<R> {
        &self.total
    }

    /// The gradient of the last step, mutable, for changes before [`update`](Self::update).
    pub fn grads_mut(&mut self) -> &mut Arena<R> {
        &mut self.total
    }

    /// Computes gradients as they are from now on, neither clipped nor 0 for what is frozen: to measure, not to train.
    pub(super) fn measure(&mut self) {
        self.clip = Clip::None;
        self.plan.frozen.clear();
    }

    /// Lets the optimizers update the parameters from the gradient of the last step.
    pub fn update(&mut self, model: &mut Model<R>) {
        self.sync_mask(model);
        if let Some(mask) = &self.mask {
            // Again, because `grads_mut` may have changed them since `gradients`.
            mask.apply(self.total.as_mut_slice());
        }
        self.steps += 1;
        let n = self.total.as_slice().len();
        model.track(&self.stages.sums, &self.plan.frozen, &mut self.scratch);
        let mut params = model.params_mut();
        for UpdateRange { range, shape, optimizer, lr, .. } in &self.plan.updates {
            let mut own = self.moments.chunks_exact_mut(n.max(1)).take(optimizer.moments());
            let moment = |_| own.next().map_or(&mut [][..], |moment| &mut moment[range.clone()]);
            let moments: [&mut [R]; MAX_MOMENTS] = std::array::from_fn(moment);
            let (p, g) = (&mut params.as_mut_slice()[range.clone()], &self.total.as_slice()[range.clone()]);
            let update = optim::Update::new(*lr, p, g).step(self.steps).moments(moments);
            optim::update(&**optimizer, update.tensor(shape, &mut self.scratch));
        }
        if let Some(lasso) = &self.lasso {
            lasso.shrink(self.lr, params.as_mut_slice());
        }
        if let Some(mask) = &self.mask {
            // The guard does this too when it is dropped, but the average must see zeros before that.
            mask.apply(params.as_mut_slice());
        }
        if let Some(average) = &mut self.average {
            average.update(&params);
        }
    }

    /// Zeroes the moments and averages of pruned parameters, if the mask is not the one of the last step: a moment that
    /// outlived its weight would move it again once it is unmasked.
    fn sync_mask(&mut self, model: &Model<R>) {
        if same_mask(self.mask.as_ref(), model.shared_mask()) {
            return;
        }
        self.mask = model.shared_mask().cloned();
        if let Some(mask) = &self.mask {
            let n = mask.as_slice().len().max(1);
            self.moments.chunks_exact_mut(n).for_each(|moment| mask.apply(moment));
            if let Some(average) = &mut self.average {
                average.mask(mask);
            }
        }
    }

    /// Cuts the dead units of the model, as [`Model::compact`] does, and continues with what is left: the moments of the
    /// optimizer, the averages, the mask, and which parameters are frozen or belong to a group.
    ///
    /// Pruned units are 0 in training, so the smaller model trains as the larger one would have, with fewer operations: to the
    /// bit, if gradients are not clipped by their norm, which is summed in another order, and nothing is dropped
    /// out. A unit that is dead without being pruned, such as one that
    /// [`GroupLasso`](super::GroupLasso) has emptied, might have come to life again; it is cut, if it is dead in the averages
    /// too. In a [stateful](super::Trainer::stateful) run, states begin at 0 again. In a run of several ranks, every rank calls this
    /// after the same step.
    ///
    /// # Errors
    /// Those of [`Model::compact`], and [`Error::Mismatch`] if the model is not the stepper's; nothing is changed then.
    /// # Examples
    /// Every other epoch an eighth of the units goes:
    /// ```
    /// use bptt::data::Batches;
    /// use bptt::prelude::*;
    /// use bptt::prune::Units;
    /// # use bptt::ndarray::{Array1, Array3};
    /// # let x = Array3::from_shape_fn((60, 6, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 5.0 - t as f32 });
    /// # let data = Arrays::classes(x, &Array1::from_shape_fn(60, |i| i % 2), ["up", "down"])?;
    ///
    /// let linear = Linear::new(2);
    /// let mut model =
    ///     Model::builder(data.shape()).layer("lstm", Lstm::new(16).last()).layer("linear", linear).build(1)?;
    /// let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).batch_size(20).ema(0.9);
    /// let mut stepper = trainer.stepper(&model, &data)?;
    /// let mut batches = Batches::new(data.len(), 20, 1)?;
    /// for epoch in 1..=8 {
    ///     for batch in batches.epoch(epoch)? {
    ///         stepper.step(&mut model, &data, batch)?;
    ///     }
    ///     if epoch % 2 == 0 {
    ///         model.prune(Units::share(0.125))?;
    ///         stepper.compact(&mut model)?;
    ///     }
    /// }
    /// assert_eq!(model.params().get("lstm.weight_hh_l0").unwrap().shape(), [4 * 9, 9]); // 16, 14, 12, 10, 9
    /// assert!(model.evaluate(&data)?.accuracy() > Some(0.9));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn compact(&mut self, model: &mut Model<R>) -> Result<()> {
        self.check_model(model)?;
        self.sync_mask(model);
        let values = model.params().as_slice();
        let averages = self.average.as_ref().map(Average::state).filter(|(_, started)| *started);
        let zero =
            |i: usize| values[i] == R::ZERO && averages.is_none_or(|(average, _)| average[i] == R::ZERO);
        let Compacted { model: smaller, from } = model.compacted(zero)?;
        let (targets, loss, tile) = (self.fits.targets, self.loss, self.cut.tile);
        let slots = self.slots.iter().map(|slot| slot.smaller(&smaller, targets, loss, tile));
        self.slots = slots.collect::<Result<_>>()?;
        let n = values.len().max(1);
        let moments = self.moments.chunks_exact(n).flat_map(|moment| from.iter().map(|&i| moment[i]));
        self.moments = moments.collect();
        if let Some(average) = &mut self.average {
            average.take(&from);
        }
        if let Some(lasso) = &mut self.lasso {
            lasso.take(&from);
        }
        self.plan.follow(model.params().layout(), smaller.params().layout());
        self.total = Arena::zeros(smaller.params().layout().clone());
        self.stages = Stages::new(&smaller);
        self.mask = smaller.shared_mask().cloned();
        *model = smaller;
        Ok(())
    }

    /// Swaps the model's parameters and their averages, if the trainer keeps any; a second call swaps them back. Steps
    /// must continue from the parameters.
    pub fn swap_average(&mut self, model: &mut Model<R>) {
        if let Some(average) = &mut self.average {
            average.swap(model);
        }
    }

    /// What the following steps depend on.
    pub(super) fn carried(&self) -> CarriedState<&[R]> {
        let average = self.average.as_ref().map(Average::state);
        let (average, averaged) = (average.map(|a| a.0), average.is_some_and(|a| a.1));
        let states = self.slots.iter().map(|slot| &slot.states[..]).collect();
        CarriedState { steps: self.steps, moments: &self.moments, average, averaged, states }
    }

    /// Continues from what [`carried`](Self::carried) returned, `done` steps into `epoch`.
    pub(super) fn restore(&mut self, carried: CarriedState<Vec<R>>, epoch: usize, done: usize) {
        let CarriedState { steps, moments, average, averaged, states } = carried;
        (self.steps, self.moments) = (steps, moments);
        self.slots.iter_mut().zip(states).for_each(|(slot, states)| slot.states = states);
        self.epoch = (epoch, steps - done as u64);
        if let (Some(own), Some(average)) = (&mut self.average, average) {
            own.restore(average, averaged);
        }
    }

    /// The threads on which the steps run.
    pub(super) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// How many steps were taken, including those before the run was resumed.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Checks that the last step, after which no loss was computed yet, left the parameters finite.
    pub(super) fn check_parameters(&self, model: &Model<R>) -> Result<()> {
        match model.params().first_not_finite() {
            None => Ok(()),
            Some(_) => Err(self.not_finite(model, "a parameter".to_owned(), self.steps)),
        }
    }

    fn not_finite(&self, model: &Model<R>, what: String, step: u64) -> Error {
        let params = model.params().first_not_finite().map(|name| format!("parameter `{name}`"));
        let grads = || self.total.first_not_finite().map(|name| format!("gradient of `{name}`"));
        Error::NonFinite {
            epoch: self.epoch.0,
            step: (step - self.epoch.1) as usize,
            what,
            tensor: params.or_else(grads).unwrap_or_else(|| "none: look for it in the data".into()),
            advice: format!("Try a learning rate below {}, gradient clipping, or normalised inputs", self.lr),
        }
    }
}

/// What a sum is divided by; 1 where nothing was counted, since the sum is 0 then.
fn divisor(sums: Sums) -> f64 {
    if sums.tally.weight > 0.0 { sums.tally.weight } else { 1.0 }
}
