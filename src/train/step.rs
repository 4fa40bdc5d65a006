//! One training step: tiles → slots → tree → 1 / weight → freeze → mask → clip → optimizers → repack.

use std::sync::Arc;

use super::Clip;
use super::average::Average;
use super::group::{Plan, Update};
use super::schedule::{Clock, Schedule};
use super::trainer::Settings;
use crate::data::{Dataset, TargetShape, samples};
use crate::loss::{Loss, Tally};
use crate::nn::{Mode, Workspace, same_mask};
use crate::optim::{self, MAX_MOMENTS, Optimizer};
use crate::prune::Mask;
use crate::shape::tile_lanes;
use crate::{Arena, Error, Model, Real, Result, par};

/// Gradient slots, at the most: the tiles of a batch are summed into these, and these by a fixed tree.
const SLOTS: usize = 16;

/// What a step brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The sum of losses, and the weight to divide it by.
    pub tally: Tally,
    /// Targets that are classes, and of these the ones predicted right, before the update.
    pub classes: (u64, u64),
    /// ‖g‖₂ before clipping, of the parameters that are neither frozen nor pruned.
    pub grad_norm: f64,
}

/// A slot: a workspace, and the sum of the gradients of the tiles that pass through it.
struct Slot<R> {
    ws: Workspace<R>,
    grads: Vec<R>,
    tally: Tally,
    /// Targets that are classes, and those of them predicted right.
    classes: (u64, u64),
    /// The states that each of its tiles hands on to the next step, one tile after another; empty where none does.
    states: Vec<R>,
}

/// What one step hands to the next, besides the parameters.
pub(super) struct Carried<V> {
    /// Steps taken.
    pub(super) steps: u64,
    /// All first moments, then all second ones, and so on.
    pub(super) moments: V,
    /// The averages, if the trainer keeps any, and whether there was a step to average.
    pub(super) average: Option<V>,
    pub(super) averaged: bool,
    /// For each slot, the states of its streams.
    pub(super) states: Vec<V>,
}

/// A training loop's state: buffers, moments, and how many steps were taken.
///
/// [`Trainer::fit`](super::Trainer::fit) runs one; [`Trainer::stepper`](super::Trainer::stepper) hands one out for loops of one's own.
///
/// # Examples
/// ```
/// use bptt::prelude::*;
/// use ndarray::{Array1, Array3};
///
/// let x = Array3::from_shape_fn((20, 5, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 4.0 - t as f32 });
/// let data = Arrays::classes(x, &Array1::from_shape_fn(20, |i| i % 2), ["up", "down"])?;
/// let mut model = Model::builder(data.shape())
///     .layer("lstm", Lstm::new(4).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.05)).batch_size(20);
/// let mut stepper = trainer.stepper(&model, &data)?;
/// let batch: Vec<u32> = (0..20).collect();
/// let first = stepper.step(&mut model, &data, &batch, 1, 0)?;
/// for epoch in 2..20 {
///     stepper.step(&mut model, &data, &batch, epoch, 0)?;
/// }
/// let last = stepper.gradients(&model, &data, &batch, 20, 0)?;
/// assert!(last.tally.mean().unwrap() < 0.5 * first.tally.mean().unwrap());
/// # Ok::<(), bptt::Error>(())
/// ```
pub struct Stepper<'a, R: Real> {
    loss: &'a dyn Loss<R>,
    optimizer: &'a dyn Optimizer<R>,
    plan: Plan<'a, R>,
    clip: Clip,
    seed: u64,
    tile: usize,
    /// Samples of each batch, where their states are handed on.
    streams: Option<usize>,
    slots: Vec<Slot<R>>,
    moments: Vec<R>,
    total: Arena<R>,
    average: Option<Average<R>>,
    /// The model's mask, as of the last step.
    mask: Option<Arc<Mask>>,
    steps: u64,
    /// The epoch in hand, and how many steps were taken before it.
    epoch: (usize, u64),
    lr: f64,
}

impl<R: Real> std::fmt::Debug for Stepper<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepper")
            .field("steps", &self.steps)
            .field("tile", &self.tile)
            .finish_non_exhaustive()
    }
}

impl<'a, R: Real> Stepper<'a, R> {
    pub(super) fn new(
        settings: &'a Settings<R>,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
    ) -> Result<Self> {
        let (loss, optimizer) = (&*settings.loss, &*settings.optimizer);
        model.check_data("training", data)?;
        loss.check(model.output_shape(), data.target_shape())?;
        optimizer.check()?;
        let plan = settings.patterns.plan(optimizer, model.params().layout())?;
        let moments = plan.updates.iter().map(|update| update.optimizer.moments()).max().unwrap_or(0);
        let batch = settings.batch_size.min(data.len());
        let tile = settings.tile.unwrap_or_else(|| tile_lanes::<R>(batch));
        if settings.stateful {
            model.check_streams()?;
        }
        let params = model.parameter_count();
        let tiles = batch.div_ceil(tile);
        let used = tiles.min(SLOTS);
        let slots = (0..used).map(|i| {
            let mut ws = Workspace::try_new(model, tile, Mode::Train)?;
            ws.expect_targets(data.target_shape());
            let streams = if settings.stateful { share(i, tiles, used).len() } else { 0 };
            let states = vec![R::ZERO; streams * ws.state_len()];
            Ok(Slot { ws, grads: vec![R::ZERO; params], tally: Tally::default(), classes: (0, 0), states })
        });
        Ok(Self {
            loss,
            optimizer,
            plan,
            clip: settings.clip,
            seed: settings.seed,
            tile,
            streams: settings.stateful.then_some(batch),
            slots: slots.collect::<Result<_>>()?,
            moments: vec![R::ZERO; params * moments],
            total: Arena::zeros(model.params().layout().clone()),
            average: settings.ema.map(|decay| Average::new(decay, params)),
            mask: None,
            steps: 0,
            epoch: (0, 0),
            lr: optimizer.lr(),
        })
    }

    /// Sets the learning rate of the steps to come. A group with an optimizer of its own keeps its own.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
        self.plan
            .updates
            .iter_mut()
            .filter(|update| !update.own)
            .for_each(|update| update.lr = update.lr_scale * lr);
    }

    /// Sets the learning rate of the steps to come to what `schedule` makes of each optimizer's.
    pub fn follow(&mut self, schedule: &dyn Schedule, clock: Clock<'_>) {
        self.lr = schedule.lr(self.optimizer.lr(), clock);
        for update in &mut self.plan.updates {
            update.lr = update.lr_scale * schedule.lr(update.optimizer.lr(), clock);
        }
    }

    /// The learning rate of the steps to come, without the factors of groups.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// One step on the samples `batch` of `data`: gradients, clipping, update.
    ///
    /// `epoch` and `first`, the place of the batch in the epoch, key the randomness of this step's draws. The batch
    /// may be smaller than the trainer's batch size, as the last of an epoch is, but not larger. Where the trainer is
    /// [stateful](super::Trainer::stateful) all batches are of one size, and states begin at 0 where `first` is 0.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if the loss or the gradient is no finite number; the parameters stay as they were.
    /// [`Error::Mismatch`] if the batch is empty or too large.
    pub fn step(
        &mut self,
        model: &mut Model<R>,
        data: &dyn Dataset<Elem = R>,
        batch: &[u32],
        epoch: usize,
        first: usize,
    ) -> Result<StepReport> {
        let report = self.gradients(model, data, batch, epoch, first)?;
        par::awake(|| self.update(model));
        Ok(report)
    }

    /// The gradient of the mean loss of a batch, clipped, left in [`grads`](Self::grads); see [`step`](Self::step).
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(
        &mut self,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        batch: &[u32],
        epoch: usize,
        first: usize,
    ) -> Result<StepReport> {
        self.bind(model);
        let (tile, seed, loss) = (self.tile, self.seed, self.loss);
        let tiles = batch.len().div_ceil(tile);
        let used = tiles.min(SLOTS);
        if used == 0 || used > self.slots.len() {
            let expected = format!("1 to {}", self.slots.len() * tile);
            return Err(Error::mismatch("a batch", format!("{} samples", batch.len()), expected));
        }
        if let Some(streams) = self.streams.filter(|&streams| streams != batch.len()) {
            let expected = format!("{streams}, one for each stream");
            return Err(Error::mismatch("a batch", format!("{} samples", batch.len()), expected));
        }
        if self.epoch.0 != epoch {
            self.epoch = (epoch, self.steps);
        }
        let slots = &mut self.slots[..used];
        par::for_each(slots, |i, slot| {
            slot.grads.fill(R::ZERO);
            (slot.tally, slot.classes) = (Tally::default(), (0, 0));
            if first == 0 {
                slot.states.fill(R::ZERO);
            }
            for (k, t) in share(i, tiles, used).enumerate() {
                let start = t * tile;
                let indices = &batch[start..batch.len().min(start + tile)];
                slot.tile(k, model, data, loss, samples(indices, seed, epoch as u64, first + start))?;
            }
            Ok(())
        })?;
        let (tally, classes) = mean(slots, self.total.as_mut_slice());
        for range in &self.plan.frozen {
            self.total.as_mut_slice()[range.clone()].fill(R::ZERO);
        }
        if let Some(mask) = &self.mask {
            mask.apply(self.total.as_mut_slice());
        }
        let grad_norm = R::sum_of_squares(self.total.as_slice()).sqrt();
        if !(tally.loss.is_finite() && grad_norm.is_finite()) {
            let what = if tally.loss.is_finite() {
                "the gradient".to_owned()
            } else {
                format!("the loss ({})", tally.loss)
            };
            return Err(self.not_finite(model, what, self.steps + 1));
        }
        self.clip.apply(self.total.as_mut_slice(), grad_norm);
        Ok(StepReport { tally, classes, grad_norm })
    }

    /// The gradient of the last step, clipped; 0 for parameters that are frozen or pruned.
    pub fn grads(&self) -> &Arena<R> {
        &self.total
    }

    /// The gradient of the last step, to be changed before [`update`](Self::update).
    pub fn grads_mut(&mut self) -> &mut Arena<R> {
        &mut self.total
    }

    /// Lets the optimizers move the parameters by the gradients at hand.
    pub fn update(&mut self, model: &mut Model<R>) {
        self.bind(model);
        if let Some(mask) = &self.mask {
            // Once more: they may have been changed.
            mask.apply(self.total.as_mut_slice());
        }
        self.steps += 1;
        let n = self.total.as_slice().len();
        let mut params = model.params_mut();
        for Update { range, optimizer, lr, .. } in &self.plan.updates {
            let mut places = self.moments.chunks_exact_mut(n.max(1)).take(optimizer.moments());
            let place = |_| places.next().map_or(&mut [][..], |moment| &mut moment[range.clone()]);
            let moments: [&mut [R]; MAX_MOMENTS] = std::array::from_fn(place);
            let (p, g) = (&mut params.as_mut_slice()[range.clone()], &self.total.as_slice()[range.clone()]);
            optimizer.update(optim::Update::new(*lr, p, g).step(self.steps).moments(moments));
        }
        if let Some(mask) = &self.mask {
            mask.apply(params.as_mut_slice());
        }
        if let Some(average) = &mut self.average {
            average.update(params.as_slice());
        }
    }

    /// Zeroes moments and averages wherever the model is pruned, if its mask is another than it was.
    fn bind(&mut self, model: &Model<R>) {
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

    /// Exchanges the model's parameters and their averages, if the trainer keeps any; a second time, back again.
    /// Steps go on from the former.
    pub fn swap_average(&mut self, model: &mut Model<R>) {
        if let Some(average) = &mut self.average {
            average.swap(model);
        }
    }

    /// What has to be kept for the steps to come.
    pub(super) fn carried(&self) -> Carried<&[R]> {
        let average = self.average.as_ref().map(Average::state);
        let (average, averaged) = (average.map(|a| a.0), average.is_some_and(|a| a.1));
        let states = self.slots.iter().map(|slot| &slot.states[..]).collect();
        Carried { steps: self.steps, moments: &self.moments, average, averaged, states }
    }

    /// Goes on from what [`carried`](Self::carried) gave, `done` steps into `epoch`.
    pub(super) fn restore(&mut self, carried: Carried<Vec<R>>, epoch: usize, done: usize) {
        let Carried { steps, moments, average, averaged, states } = carried;
        (self.steps, self.moments) = (steps, moments);
        self.slots.iter_mut().zip(states).for_each(|(slot, states)| slot.states = states);
        self.epoch = (epoch, steps - done as u64);
        if let (Some(own), Some(average)) = (&mut self.average, average) {
            own.restore(average, averaged);
        }
    }

    /// Checks that the last step, which no loss has seen yet, left the parameters numbers.
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

impl<R: Real> Slot<R> {
    /// Passes the slot's `k`-th tile of the batch forward and back.
    fn tile(
        &mut self,
        k: usize,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        loss: &dyn Loss<R>,
        samples: impl ExactSizeIterator<Item = crate::data::Sample>,
    ) -> Result<()> {
        let ws = &mut self.ws;
        ws.gather(model, data, Some(loss), samples)?;
        match self.states.chunks_exact_mut(ws.state_len().max(1)).nth(k) {
            None => model.forward(ws),
            Some(states) => {
                ws.load_states(states);
                model.forward(ws);
                ws.save_states(states);
            }
        }
        let (mut all, mut right) = (0, 0);
        ws.each_class(Some(loss), |_, truth, predicted| {
            all += 1;
            right += u64::from(Some(truth) == predicted);
        });
        self.classes = (self.classes.0 + all, self.classes.1 + right);
        self.tally += ws.measure(loss);
        model.backward(ws, &mut self.grads, false);
        Ok(())
    }
}

/// The tiles of slot `i`, of `tiles` that go to `slots`.
fn share(i: usize, tiles: usize, slots: usize) -> std::ops::Range<usize> {
    i * tiles / slots..(i + 1) * tiles / slots
}

/// Adds all slots, by a tree that depends on their number alone, and leaves the mean gradient in `total`.
fn mean<R: Real>(slots: &mut [Slot<R>], total: &mut [R]) -> (Tally, (u64, u64)) {
    let (count, mut stride) = (slots.len(), 1);
    while stride < count {
        for i in (0..count - stride).step_by(2 * stride) {
            let (left, right) = slots.split_at_mut(i + stride);
            let (into, from) = (&mut left[i], &right[0]);
            into.tally += from.tally;
            into.classes = (into.classes.0 + from.classes.0, into.classes.1 + from.classes.1);
            // The gradients of the last two are added on their way to the total.
            if 2 * stride < count {
                R::accumulate(&mut into.grads, &from.grads);
            }
        }
        stride *= 2;
    }
    let (first, rest) = slots.split_first().expect("a batch has a sample");
    let second = if rest.is_empty() { &[] } else { &rest[stride / 2 - 1].grads[..] };
    let weight = if first.tally.weight > 0.0 { first.tally.weight } else { 1.0 };
    R::scaled_sum(total, &first.grads, second, R::from_f64(1.0 / weight));
    (first.tally, first.classes)
}

/// Whether a dataset's targets are classes.
pub(super) fn has_classes<R: Real>(data: &dyn Dataset<Elem = R>) -> bool {
    matches!(data.target_shape(), TargetShape::Classes { .. })
}
