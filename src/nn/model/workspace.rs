//! A tile on its way through a model: all buffers, sized once.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3};

use super::Model;
use crate::data::{Dataset, Normalize, Sample, TargetShape};
use crate::kernels::Aligned;
use crate::loss::Targets;
use crate::nn::{Context, Declare, Mode, Sizes};
use crate::params::Layout;
use crate::{Error, Real, Result, Seq, SeqMut, Shape, rng};

/// The most lanes a tile may have.
pub(crate) const MAX_LANES: usize = 64;

/// Lanes of a tile in a batch of `batch` samples, where nothing else was asked for: enough to fill two vectors, but
/// one where a batch is so small that two threads would not both get a tile.
///
/// It depends on the batch alone, never on the number of threads: this keeps results the same at any.
pub(crate) fn tile_lanes<R: Real>(batch: usize) -> usize {
    if batch > 2 * R::QUANTUM { 2 * R::QUANTUM } else { R::QUANTUM }
}

/// The buffers through which one tile of samples passes a model, forward and back.
///
/// [`Trainer`](crate::Trainer) and [`Model::evaluate`] keep one for each slot; gradient checks and loops of one's own
/// may use it directly: fill in with [`set_input`](Workspace::set_input), call [`Model::forward`], read
/// [`output`](Workspace::output), hand in its gradient, call [`Model::backward`].
///
/// # Examples
/// The gradient of the sum of all outputs:
/// ```
/// use bptt::nn::{Linear, Mode, Workspace};
/// use bptt::{Model, Shape};
/// use ndarray::Array3;
///
/// let model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(3)).build(1)?;
/// let mut ws = Workspace::new(&model, 5, Mode::Train);
/// ws.set_input(Array3::from_elem((5, 1, 2), 2.0).view());
/// model.forward(&mut ws);
/// assert_eq!(ws.output().dim(), (5, 1, 3));
///
/// ws.set_output_gradient(Array3::ones((5, 1, 3)).view());
/// let mut grads = vec![0.0; model.parameter_count()];
/// model.backward(&mut ws, &mut grads, false);
/// // Of six weights, each times 2 in five samples; and of three biases.
/// assert_eq!(grads, [[10.0; 6].as_slice(), &[5.0; 3]].concat());
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Workspace<R> {
    mode: Mode,
    capacity: usize,
    lanes: usize,
    valid: usize,
    /// What goes into the first layer, and what each layer hands out.
    values: Vec<Buffer<R>>,
    /// The gradients by those.
    grads: Vec<Buffer<R>>,
    states: Vec<Aligned<R>>,
    dstates: Vec<Aligned<R>>,
    caches: Vec<Aligned<R>>,
    samples: Vec<Sample>,
    lens: Vec<u32>,
    /// Whether a sequence of the tile is shorter than T.
    ragged: bool,
    keys: Vec<u64>,
    scratch: Vec<R>,
    target_shape: TargetShape,
    classes: Vec<i64>,
    /// One sample's classes, before they are spread over the lanes.
    sample_classes: Vec<i64>,
    targets: Vec<R>,
}

#[derive(Clone, Debug)]
struct Buffer<R> {
    data: Aligned<R>,
    shape: Shape,
}

impl<R: Real> Buffer<R> {
    fn seq(&self, lanes: usize) -> Seq<'_, R> {
        Seq::new(&self.data[..self.shape.size() * lanes], self.shape, lanes)
    }

    fn seq_mut(&mut self, lanes: usize) -> SeqMut<'_, R> {
        SeqMut::new(&mut self.data[..self.shape.size() * lanes], self.shape, lanes)
    }
}

impl<R: Real> Workspace<R> {
    /// Buffers for at most `samples` samples at a time (64 at the most, rounded up to whole vectors). In inference,
    /// those for one sample have the units in the lanes: the fastest way for one alone.
    ///
    /// # Panics
    /// If `samples` is 0 or more than 64.
    #[track_caller]
    pub fn new(model: &Model<R>, samples: usize, mode: Mode) -> Self {
        let layers = model.places().iter().map(|place| (place.output, place.sizes)).collect::<Vec<_>>();
        Self::sized(model, model.input(), &layers, samples, mode)
    }

    /// As [`new`](Self::new), but for sequences of `t` steps, whatever the model was built for.
    ///
    /// # Errors
    /// What a layer says of that length.
    ///
    /// # Panics
    /// If `samples` is 0 or more than 64.
    #[track_caller]
    pub fn for_steps(model: &Model<R>, t: usize, samples: usize, mode: Mode) -> Result<Self> {
        let input = Shape::new(t, model.input().f);
        let (mut shape, mut layout) = (input, Layout::default());
        let mut layers = Vec::with_capacity(model.places().len());
        for place in model.places() {
            let mut declare = Declare { layout: &mut layout, prefix: &place.name };
            let (output, sizes) = place.layer.build(shape, &mut declare)?;
            layers.push((output, sizes));
            shape = output;
        }
        Ok(Self::sized(model, input, &layers, samples, mode))
    }

    #[track_caller]
    fn sized(model: &Model<R>, input: Shape, layers: &[(Shape, Sizes)], samples: usize, mode: Mode) -> Self {
        assert!((1..=MAX_LANES).contains(&samples), "found {samples} samples, expected 1 to {MAX_LANES}");
        let alone =
            mode == Mode::Infer && samples == 1 && model.places().iter().all(|p| p.layer.takes_one_lane());
        let lanes = if alone { 1 } else { samples.next_multiple_of(R::QUANTUM) };
        let buffer = |shape: Shape| Buffer { data: Aligned::zeros(shape.size() * lanes), shape };
        let shapes = || std::iter::once(input).chain(layers.iter().map(|&(output, _)| output));
        let room = |size: fn(&Sizes) -> usize| -> Vec<Aligned<R>> {
            layers.iter().map(|(_, sizes)| Aligned::zeros(size(sizes) * lanes)).collect()
        };
        let back = mode.keeps_history();
        // In inference the output's gradient alone has a place: losses write there, wanted or not.
        let mut grads: Vec<_> =
            shapes().map(|shape| if back { buffer(shape) } else { buffer(Shape::new(0, shape.f)) }).collect();
        if let (Some(last), Some(output)) = (grads.last_mut(), shapes().last()) {
            *last = buffer(output);
        }
        Self {
            mode,
            capacity: lanes,
            lanes,
            valid: samples,
            values: shapes().map(buffer).collect(),
            grads,
            states: room(|s| s.state),
            dstates: room(|s| s.state),
            caches: if back { room(|s| s.cache) } else { room(|s| s.infer_cache) },
            samples: vec![Sample::plain(0); lanes],
            lens: vec![0; lanes],
            ragged: false,
            keys: vec![0; lanes],
            scratch: vec![R::ZERO; input.size()],
            target_shape: TargetShape::None,
            classes: Vec::new(),
            sample_classes: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Hands in one step of one sample, normalised on the way, and leaves the states as they are.
    #[track_caller]
    pub(super) fn set_step(&mut self, step: &[R], normalize: &Normalize) {
        let x = self.values[0].seq_mut(self.lanes);
        assert_eq!(step.len(), x.shape.f, "features of a step");
        let places = x.data.iter_mut().step_by(x.lanes);
        step.iter().enumerate().zip(places).for_each(|((f, &value), x)| *x = normalize.apply(value, f));
    }

    pub(super) fn reset_states(&mut self) {
        self.states.iter_mut().for_each(|state| state.fill(R::ZERO));
    }

    /// Values of all states of a tile.
    pub(crate) fn state_len(&self) -> usize {
        self.states.iter().map(|state| state.len()).sum()
    }

    /// Begins where [`save_states`](Self::save_states) left off: with the same number of samples.
    pub(crate) fn load_states(&mut self, mut from: &[R]) {
        for state in &mut self.states {
            let (own, rest) = from.split_at(state.len());
            state.copy_from_slice(own);
            from = rest;
        }
    }

    /// Hands out all states, as they lie in the lanes.
    pub(crate) fn save_states(&self, mut to: &mut [R]) {
        for state in &self.states {
            let (own, rest) = to.split_at_mut(state.len());
            own.copy_from_slice(state);
            to = rest;
        }
    }

    /// Makes room for the targets of `data`, so that [`gather`](Self::gather) allocates nothing.
    pub(crate) fn expect_targets(&mut self, target_shape: TargetShape) {
        self.target_shape = target_shape;
        match target_shape {
            TargetShape::None => {}
            TargetShape::Classes { t } => {
                self.classes = vec![0; t * self.capacity];
                self.sample_classes = vec![0; t];
            }
            TargetShape::Values(shape) => {
                self.targets = vec![R::ZERO; shape.size() * self.capacity];
                self.scratch.resize(self.scratch.len().max(shape.size()), R::ZERO);
            }
        }
    }

    fn resize(&mut self, valid: usize) {
        self.valid = valid;
        self.lanes = if self.capacity == 1 { 1 } else { valid.next_multiple_of(R::QUANTUM) };
        assert!(self.lanes <= self.capacity, "found {valid} samples, expected at most {}", self.capacity);
    }

    /// Fetches samples and targets of a dataset, normalised, with zero states.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the sample if the first layer cannot take it.
    pub(crate) fn gather(
        &mut self,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        samples: impl ExactSizeIterator<Item = Sample>,
    ) -> Result<()> {
        self.resize(samples.len());
        for (place, sample) in self.samples.iter_mut().zip(samples) {
            *place = sample;
        }
        let (samples, lanes) = (&self.samples[..self.valid], self.lanes);
        let size = self.values[0].shape.size();
        let x = self.values[0].seq_mut(lanes);
        data.gather(samples, model.normalize(), &mut self.scratch[..size], x.data, lanes);
        match self.target_shape {
            TargetShape::None => {}
            TargetShape::Classes { .. } => {
                for (lane, &sample) in samples.iter().enumerate() {
                    data.classes(sample, &mut self.sample_classes);
                    let steps = self.sample_classes.iter().enumerate();
                    steps.for_each(|(t, &class)| self.classes[t * lanes + lane] = class);
                }
            }
            TargetShape::Values(shape) => {
                let scratch = &mut self.scratch[..shape.size()];
                for (lane, &sample) in samples.iter().enumerate() {
                    data.values(sample, scratch);
                    scratch.iter().enumerate().for_each(|(i, &v)| self.targets[i * lanes + lane] = v);
                }
            }
        }
        self.ragged = false;
        let t = self.values[0].shape.t;
        for (place, &sample) in self.lens.iter_mut().zip(samples) {
            let len = data.length(sample).map_or(t, |len| len.min(t));
            *place = len as u32;
            self.ragged |= len < t;
        }
        self.reset_states();
        let Some(first) = model.places().first() else { return Ok(()) };
        let lens = self.ragged.then_some(&self.lens[..self.valid]);
        let cx = model.context(0, self.mode, self.valid, lens, &[]);
        first.layer.check(&cx, self.values[0].seq(lanes)).map_err(|unfit| {
            let sample = self.samples[unfit.lane].index;
            let what = format!("layer `{}`: sample {sample}, step {}", first.name, unfit.step);
            Error::mismatch(what, unfit.found, unfit.expected)
        })
    }

    /// Tells how long each sample's sequence is, after [`set_input`](Self::set_input).
    ///
    /// # Panics
    /// If there is not one length for each sample, or one is larger than T.
    #[track_caller]
    pub fn set_lengths(&mut self, lens: &[usize]) {
        let t = self.values[0].shape.t;
        assert_eq!(lens.len(), self.valid, "one length for each sample");
        for (place, &len) in self.lens.iter_mut().zip(lens) {
            assert!(len <= t, "found a length of {len}, expected at most {t}");
            *place = len as u32;
        }
        self.ragged = lens.iter().any(|&len| len < t);
    }

    /// Hands in a batch, `[batch, T, F]`, as it is, with zero states.
    ///
    /// # Panics
    /// If the shape is not the model's input, or the batch is larger than there is room for.
    #[track_caller]
    pub fn set_input(&mut self, x: ArrayView3<'_, R>) {
        self.resize(x.dim().0);
        let lanes = self.lanes;
        self.values[0].seq_mut(lanes).scatter(x);
        self.ragged = false;
        self.reset_states();
    }

    /// What the model handed out, `[batch, T, F]`.
    pub fn output(&self) -> Array3<R> {
        self.output_seq().collect(self.valid)
    }

    /// Hands in the gradient by the output, `[batch, T, F]`, with a zero gradient by the final states.
    ///
    /// # Panics
    /// If the shape is not that of the output.
    #[track_caller]
    pub fn set_output_gradient(&mut self, dy: ArrayView3<'_, R>) {
        assert_eq!(dy.dim().0, self.valid, "the gradient's batch");
        self.output_gradient().scatter(dy);
        self.dstates.iter_mut().for_each(|state| state.fill(R::ZERO));
    }

    /// The gradient by the input, `[batch, T, F]`, once [`Model::backward`] was asked for it.
    pub fn input_gradient(&self) -> Array3<R> {
        self.grads[0].seq(self.lanes).collect(self.valid)
    }

    /// The state of layer `layer`, `[batch, state]`: initial before a forward pass, final after it.
    pub fn state(&self, layer: usize) -> Array2<R> {
        unlane(&self.states[layer], self.lanes, self.capacity, self.valid)
    }

    /// Hands in the initial state of layer `layer`, `[batch, state]`.
    ///
    /// # Panics
    /// If the shape does not fit.
    #[track_caller]
    pub fn set_state(&mut self, layer: usize, state: ArrayView2<'_, R>) {
        enlane(&mut self.states[layer], self.lanes, self.capacity, state);
    }

    /// The gradient by the state of layer `layer`: by the final one before a backward pass, by the initial one after.
    pub fn state_gradient(&self, layer: usize) -> Array2<R> {
        unlane(&self.dstates[layer], self.lanes, self.capacity, self.valid)
    }

    /// Hands in the gradient by the final state of layer `layer`, `[batch, state]`.
    ///
    /// # Panics
    /// If the shape does not fit.
    #[track_caller]
    pub fn set_state_gradient(&mut self, layer: usize, state: ArrayView2<'_, R>) {
        enlane(&mut self.dstates[layer], self.lanes, self.capacity, state);
    }

    /// Calls `f(true class, predicted class)` for each target that is a class; negative ones are no targets.
    pub(crate) fn each_class(&self, mut f: impl FnMut(usize, usize)) {
        let TargetShape::Classes { t } = self.target_shape else { return };
        let y = self.output_seq();
        for t in 0..t {
            let row = y.step(t);
            for lane in 0..self.valid {
                if let Ok(truth) = usize::try_from(self.classes[t * self.lanes + lane]) {
                    f(truth, super::evaluate::argmax((0..y.shape.f).map(|j| row[j * y.lanes + lane])));
                }
            }
        }
    }

    /// Samples in the tile.
    pub fn valid(&self) -> usize {
        self.valid
    }

    pub(crate) fn output_seq(&self) -> Seq<'_, R> {
        self.values[self.values.len() - 1].seq(self.lanes)
    }

    fn output_gradient(&mut self) -> SeqMut<'_, R> {
        let last = self.grads.len() - 1;
        self.grads[last].seq_mut(self.lanes)
    }

    /// Output, targets and the place for the output's gradient: what a loss works on.
    pub(crate) fn for_loss(&mut self) -> (Seq<'_, R>, Targets<'_, R>, SeqMut<'_, R>) {
        let lanes = self.lanes;
        let last = self.grads.len() - 1;
        let targets = match self.target_shape {
            TargetShape::Values(shape) => {
                Targets::Values(Seq::new(&self.targets[..shape.size() * lanes], shape, lanes))
            }
            TargetShape::Classes { t } => Targets::Classes(&self.classes[..t * lanes]),
            TargetShape::None => Targets::Classes(&[]),
        };
        self.dstates.iter_mut().for_each(|state| state.fill(R::ZERO));
        (self.values[last].seq(lanes), targets, self.grads[last].seq_mut(lanes))
    }
}

fn unlane<R: Real>(data: &[R], lanes: usize, capacity: usize, valid: usize) -> Array2<R> {
    let size = data.len() / capacity;
    Array2::from_shape_fn((valid, size), |(lane, i)| data[i * lanes + lane])
}

#[track_caller]
fn enlane<R: Real>(data: &mut [R], lanes: usize, capacity: usize, from: ArrayView2<'_, R>) {
    let size = data.len() / capacity;
    assert_eq!(from.dim().1, size, "values of a state");
    data.fill(R::ZERO);
    for ((lane, i), &value) in from.indexed_iter() {
        data[i * lanes + lane] = value;
    }
}

impl<R: Real> Seq<'_, R> {
    /// The first `valid` lanes, batch first: `[batch, T, F]`.
    pub fn collect(&self, valid: usize) -> Array3<R> {
        let Shape { t, f } = self.shape;
        Array3::from_shape_fn((valid, t, f), |(lane, t, i)| self.data[(t * f + i) * self.lanes + lane])
    }
}

impl<R: Real> SeqMut<'_, R> {
    /// Puts a batch, `[batch, T, F]`, into the lanes and 0 into those left.
    ///
    /// # Panics
    /// If the shapes differ.
    #[track_caller]
    pub fn scatter(&mut self, x: ArrayView3<'_, R>) {
        let Shape { t, f } = self.shape;
        assert_eq!((x.dim().1, x.dim().2), (t, f), "a batch of samples [T, F]");
        self.data.fill(R::ZERO);
        for ((lane, t, i), &value) in x.indexed_iter() {
            self.data[(t * f + i) * self.lanes + lane] = value;
        }
    }
}

impl<R: Real> Model<R> {
    /// Passes the tile forward through every layer.
    pub fn forward(&self, ws: &mut Workspace<R>) {
        let lanes = ws.lanes;
        for (i, place) in self.places().iter().enumerate() {
            let (below, above) = ws.values.split_at_mut(i + 1);
            layer_keys(&mut ws.keys, &ws.samples, i);
            let lens = ws.ragged.then_some(&ws.lens[..ws.valid]);
            let cx = self.context(i, ws.mode, ws.valid, lens, &ws.keys[..lanes]);
            let state = &mut ws.states[i][..place.sizes.state * lanes];
            let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
            place.layer.forward(&cx, below[i].seq(lanes), state, above[0].seq_mut(lanes), cache);
        }
    }

    /// Passes the gradient back through every layer, adding to `grads`; the gradient by the input is computed only
    /// if `input_gradient` asks for it.
    ///
    /// # Panics
    /// If the workspace keeps no history, or `grads` has not one value for each parameter.
    #[track_caller]
    pub fn backward(&self, ws: &mut Workspace<R>, grads: &mut [R], input_gradient: bool) {
        assert!(ws.mode.keeps_history(), "a workspace of Mode::Infer keeps no history to go back through");
        assert_eq!(grads.len(), self.parameter_count(), "one gradient for each parameter");
        let lanes = ws.lanes;
        for (i, place) in self.places().iter().enumerate().rev() {
            let (below, above) = ws.grads.split_at_mut(i + 1);
            layer_keys(&mut ws.keys, &ws.samples, i);
            let lens = ws.ragged.then_some(&ws.lens[..ws.valid]);
            let cx = self.context(i, ws.mode, ws.valid, lens, &ws.keys[..lanes]);
            let dstate = &mut ws.dstates[i][..place.sizes.state * lanes];
            let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
            let (x, y, dy) = (ws.values[i].seq(lanes), ws.values[i + 1].seq(lanes), above[0].seq(lanes));
            let dx = (i > 0 || input_gradient).then(|| below[i].seq_mut(lanes));
            place.layer.backward(&cx, x, y, dy, dstate, cache, &mut grads[place.params.clone()], dx);
        }
    }

    fn context<'a>(
        &'a self,
        i: usize,
        mode: Mode,
        valid: usize,
        lens: Option<&'a [u32]>,
        keys: &'a [u64],
    ) -> Context<'a, R> {
        let place = &self.places()[i];
        let params = &self.params.as_slice()[place.params.clone()];
        Context { params, packed: &self.packed[place.packed.clone()], mode, valid, lens, keys }
    }
}

fn layer_keys(keys: &mut [u64], samples: &[Sample], layer: usize) {
    for (key, sample) in keys.iter_mut().zip(samples) {
        *key = rng::key(&[sample.key, layer as u64]);
    }
}

/// The part of a cache that a tile of `lanes` lanes uses.
fn size_cache<R>(cache: &mut [R], lanes: usize, capacity: usize) -> &mut [R] {
    let size = cache.len() / capacity;
    &mut cache[..size * lanes]
}
