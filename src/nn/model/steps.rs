//! The buffers of streams side by side, through which one step of each passes a model.

use std::sync::Arc;

use super::{LayerSlot, Model};
use crate::data::Normalize;
use crate::kernels::Aligned;
use crate::nn::{Build, Context, Features, Mode, Plan, Step};
use crate::params::Layout;
use crate::{Error, Real, Result, Seq, Shape, memory};

/// The buffers of a step of at most so many streams.
#[derive(Clone, Debug)]
pub(super) struct Steps<R> {
    /// The layers that they were made for.
    layers: Arc<[LayerSlot<R>]>,
    tracks: Vec<Track<R>>,
    /// Whether the first layer does.
    accepts_everything: bool,
    /// Streams side by side at most, in whole vectors; or 1.
    pub(super) capacity: usize,
}

/// What one layer has.
#[derive(Clone, Debug)]
struct Track<R> {
    /// `[F', lanes]`
    y: Aligned<R>,
    /// `[state, lanes]`
    state: Aligned<R>,
    /// `[infer_cache, lanes]`
    cache: Aligned<R>,
}

impl<R: Real> Model<R> {
    /// The plans of steps through each layer.
    fn plans(&self) -> &[Plan] {
        self.plans.get_or_init(|| {
            let slots = self.slots().iter();
            slots.map(|slot| slot.layer.plan(slot.input.f, &self.packed[slot.packed.clone()])).collect()
        })
    }
}

impl<R: Real> Steps<R> {
    /// Buffers for `streams` streams, 1 to 64, rounded up to whole vectors; or a single lane for one stream, if all
    /// layers take one lane.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer if one needs the whole sequence at once, as a bidirectional layer does, or if
    /// there is not enough memory.
    pub(super) fn new(model: &Model<R>, streams: usize) -> Result<Self> {
        model.check_streams()?;
        let alone = streams == 1 && model.slots().iter().all(|slot| slot.layer.takes_one_lane());
        let capacity = if alone { 1 } else { streams.next_multiple_of(R::QUANTUM) };
        let mut features = Features::new(Shape::new(1, model.input_shape().f));
        let (mut layout, mut tracks) = (Layout::default(), Vec::with_capacity(model.slots().len()));
        // The step itself, and the buffers of all layers so far.
        let mut values = Some(features.shape.f);
        for slot in model.slots() {
            let built = slot.layer.build(&mut Build::new(&features, &mut layout, &slot.name))?;
            let sizes = [built.output.shape.f, built.sizes.state, built.sizes.infer_cache];
            values =
                values.and_then(|values| sizes.iter().try_fold(values, |sum, &size| sum.checked_add(size)));
            let bytes = values.and_then(|values| memory::bytes::<R>(&[values, capacity]));
            memory::check(&format!("buffers for {}", memory::count(streams, "stream")), bytes)?;
            let [y, state, cache] = sizes.map(|size| Aligned::zeros(size * capacity));
            tracks.push(Track { y, state, cache });
            features = built.output;
        }
        // Computed here rather than by the first push, which allocates nothing.
        model.plans();
        let accepts_everything = model.slots()[0].layer.accepts_everything();
        Ok(Self { layers: Arc::clone(&model.layers), tracks, accepts_everything, capacity })
    }

    /// Lets the first layer check a step of `valid` streams, `[F, lanes]`, before it passes. `what` names the stream in a
    /// lane.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the layer, the stream and the value.
    #[inline]
    pub(super) fn check(
        &self,
        model: &Model<R>,
        x: &[R],
        (valid, lanes): (usize, usize),
        what: impl Fn(usize) -> String,
    ) -> Result<()> {
        if self.accepts_everything {
            return Ok(());
        }
        let (first, cx) = (&self.layers[0], model.context(0, Context::new(&[], Mode::Infer, valid)));
        first.layer.check(&cx, Seq::new(x, Shape::new(1, x.len() / lanes), lanes)).map_err(|invalid| {
            let what = format!("layer `{}`: {}", first.name, what(invalid.lane));
            Error::mismatch(what, invalid.found, invalid.expected)
        })
    }

    /// Passes a step of `valid` streams, `[F, lanes]`, through all layers, and returns the output, `[F', lanes]`. There are
    /// as many lanes as there is capacity, or fewer whole vectors.
    ///
    /// # Panics
    /// If the buffers belong to another model.
    #[track_caller]
    pub(super) fn pass(&mut self, model: &Model<R>, x: &[R], (valid, lanes): (usize, usize)) -> &[R] {
        let own = Arc::ptr_eq(&self.layers, &model.layers);
        assert!(own, "found a stream of another model, expected one made for this model or a clone of it");
        let (params, packed) = (model.params.as_slice(), &model.packed[..]);
        let (mut x, capacity) = (x, self.capacity);
        let planned = self.layers.iter().zip(model.plans());
        for ((slot, plan), Track { y, state, cache }) in planned.zip(&mut self.tracks) {
            let y = size_to(y, lanes, capacity);
            slot.layer.step(Step {
                params: &params[slot.params.clone()],
                packed: &packed[slot.packed.clone()],
                plan,
                lanes,
                valid,
                x,
                y: &mut *y,
                state: size_to(state, lanes, capacity),
                cache: size_to(cache, lanes, capacity),
            });
            x = y;
        }
        let output = self.tracks.last_mut().expect("a model has layers");
        size_to(&mut output.y, lanes, capacity)
    }

    /// The states of the layers, `[state, capacity]` each.
    pub(super) fn states(&mut self) -> impl Iterator<Item = &mut Aligned<R>> {
        self.tracks.iter_mut().map(|track| &mut track.state)
    }

    /// The state of a layer, `[state, capacity]`.
    pub(super) fn state(&self, layer: usize) -> &[R] {
        &self.tracks[layer].state
    }

    /// The state of a layer, `[state, capacity]`.
    pub(super) fn state_mut(&mut self, layer: usize) -> &mut [R] {
        &mut self.tracks[layer].state
    }
}

/// Normalises a step of one stream into its lane of `x`, `[F, lanes]`.
pub(super) fn put_step<'a, R: Real>(
    normalize: &Normalize,
    step: impl Iterator<Item = &'a R>,
    x: &mut [R],
    (lane, lanes): (usize, usize),
) {
    if normalize.is_identity() {
        step.enumerate().for_each(|(f, &v)| x[f * lanes + lane] = v);
    } else {
        step.enumerate().for_each(|(f, &v)| x[f * lanes + lane] = normalize.apply(v, f));
    }
}

/// The part of a buffer for `capacity` lanes that `lanes` of them use.
#[inline]
fn size_to<R>(buffer: &mut [R], lanes: usize, capacity: usize) -> &mut [R] {
    if lanes == capacity {
        return buffer;
    }
    let size = buffer.len() / capacity;
    &mut buffer[..size * lanes]
}
