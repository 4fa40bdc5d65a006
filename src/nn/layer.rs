//! The trait that every layer implements, and what its methods work on.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use super::Wiring;
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::params::{Axis, Layout};
use crate::shape::MAX_LANES;
use crate::{Description, Error, Init, Real, Result, Seq, SeqMut, Shape};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A forward pass with dropout that keeps what the backward pass needs.
    Train,
    /// A forward pass as in inference that keeps what the backward pass needs: for gradient checks.
    Eval,
    /// A forward pass that keeps nothing.
    Infer,
}

impl Mode {
    /// Whether a backward pass may follow.
    pub fn keeps_history(self) -> bool {
        self != Mode::Infer
    }
}

/// What a layer is given in addition to its input, in the forward and in the backward pass.
///
/// It is `#[non_exhaustive]`: outside this crate, begin with [`new`](Context::new) and set the fields that differ.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Context<'a, R> {
    /// The layer's parameters, tensor after tensor in the order declared.
    pub params: &'a [R],
    /// What [`Layer::pack`] wrote.
    pub packed: &'a [R],
    /// What this pass is for.
    pub mode: Mode,
    /// How many lanes hold samples; the others are pads.
    pub valid: usize,
    /// The length of each sample's sequence as this layer reads it, where any is shorter than the input's T.
    pub lens: Option<&'a [u32]>,
    /// One key for each lane, from which it draws random numbers in this layer and training step.
    pub keys: &'a [u64],
    /// In training, the totals over all tiles of the batch of what [`Layer::forward_sums`] has added so far: all that
    /// [`Built::sums`] said, from the last part of the forward pass on. Empty elsewhere.
    pub sums: &'a [f64],
    /// The totals of what [`Layer::backward_sums`] has added so far, the last ones first known: all of them in the last part of
    /// the backward pass.
    pub backward_sums: &'a [f64],
}

impl<'a, R> Context<'a, R> {
    /// The context of a layer with these parameters and `valid` samples, all of full length, without packed weights or
    /// keys.
    pub fn new(params: &'a [R], mode: Mode, valid: usize) -> Self {
        Self { params, packed: &[], mode, valid, lens: None, keys: &[], sums: &[], backward_sums: &[] }
    }
}

/// What a forward pass works on.
///
/// A layer that wraps another one makes a pass for it by [`new`](Forward::new); fields that the inner layer does not
/// need, such as a state that it does not have, are left empty.
///
/// # Examples
/// ```
/// use bptt::nn::{Activation, Context, Forward, Layer, Mode};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // Two features of one sample, in one lane.
/// let (shape, mut y) = (Shape::new(1, 2), [0.0f32; 2]);
/// let pass = Forward::new(
///     Context::new(&[], Mode::Infer, 1),
///     Seq::new(&[-1.0, 3.0], shape, 1),
///     SeqMut::new(&mut y, shape, 1),
/// );
/// Activation::relu().forward(pass);
/// assert_eq!(y, [0.0, 3.0]);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Forward<'a, R> {
    /// Parameters, mode, lengths and keys.
    pub cx: Context<'a, R>,
    /// The input, `[T, F, lanes]`.
    pub x: Seq<'a, R>,
    /// The output, which the pass overwrites.
    pub y: SeqMut<'a, R>,
    /// `[state, lanes]`: the initial state on entry, the final state on return.
    pub state: &'a mut [R],
    /// `[cache, lanes]`, or `[infer_cache, lanes]` in [`Mode::Infer`]: what is kept for the backward pass, and scratch
    /// space. Its content before the pass is arbitrary.
    pub cache: &'a mut [R],
}

impl<'a, R> Forward<'a, R> {
    /// A pass from `x` to `y` by a layer without state or cache.
    pub fn new(cx: Context<'a, R>, x: Seq<'a, R>, y: SeqMut<'a, R>) -> Self {
        Self { cx, x, y, state: &mut [], cache: &mut [] }
    }

    /// Sets the state: initial on entry, final on return.
    pub fn state(self, state: &'a mut [R]) -> Self {
        Self { state, ..self }
    }

    /// Sets the cache, as long as the layer's [`Sizes`] say.
    pub fn cache(self, cache: &'a mut [R]) -> Self {
        Self { cache, ..self }
    }
}

/// What a layer computed once for all of its [steps](Layer::step).
#[derive(Clone, Debug, Default)]
pub struct Plan(Option<Arc<dyn Any + Send + Sync>>);

impl Plan {
    /// This plan.
    pub fn new(plan: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(plan)))
    }

    /// The plan, if it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }
}

/// What one step of streams works on: those of a [`Session`](super::Session) or [`Streams`](super::Streams), in inference.
#[derive(Debug)]
#[non_exhaustive]
pub struct Step<'a, R> {
    /// The layer's parameters, tensor after tensor in the order declared.
    pub params: &'a [R],
    /// What [`Layer::pack`] wrote.
    pub packed: &'a [R],
    /// What [`Layer::plan`] returned for these weights and an input of as many features.
    pub plan: &'a Plan,
    /// Streams side by side, pads included.
    pub lanes: usize,
    /// How many lanes hold streams; the others are pads.
    pub valid: usize,
    /// `[F, lanes]`: the input.
    pub x: &'a [R],
    /// `[F', lanes]`: the output, which the step overwrites.
    pub y: &'a mut [R],
    /// `[state, lanes]`: the state before on entry, after on return.
    pub state: &'a mut [R],
    /// `[infer_cache, lanes]`: scratch space, of arbitrary content.
    pub cache: &'a mut [R],
}

/// What a backward pass works on.
///
/// It computes the gradients of Σ dy ⊙ y + Σ dstate ⊙ final state with respect to parameters, input and initial
/// state.
///
/// # Examples
/// ```
/// use bptt::nn::{Activation, Backward, Context, Layer, Mode};
/// use bptt::{Seq, SeqMut, Shape};
///
/// let (shape, mut dx) = (Shape::new(1, 2), [0.0f32; 2]);
/// let seq = |data| Seq::new(data, shape, 1);
/// let (x, y, dy) = ([-1.0, 3.0], [0.0, 3.0], [5.0, 7.0]);
/// let pass = Backward::new(Context::new(&[], Mode::Train, 1), seq(&x), seq(&y), seq(&dy));
/// Activation::relu().backward(pass.dx(SeqMut::new(&mut dx, shape, 1)));
/// assert_eq!(dx, [0.0, 7.0]);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Backward<'a, R> {
    /// Parameters, mode, lengths and keys, as in the forward pass.
    pub cx: Context<'a, R>,
    /// The input of the forward pass.
    pub x: Seq<'a, R>,
    /// The output of the forward pass.
    pub y: Seq<'a, R>,
    /// The gradient with respect to the output.
    pub dy: Seq<'a, R>,
    /// The gradient with respect to the input, which the pass *overwrites*; `None` if it is not needed.
    pub dx: Option<SeqMut<'a, R>>,
    /// The gradient with respect to the final state on entry, to the initial state on return.
    pub dstate: &'a mut [R],
    /// The cache as the forward pass left it; it may be overwritten.
    pub cache: &'a mut [R],
    /// The gradients with respect to the parameters, to which the pass *adds*.
    pub grads: &'a mut [R],
}

impl<'a, R> Backward<'a, R> {
    /// A pass from `dy` through a layer without parameters, state or cache, which leaves out the gradient with respect
    /// to the input.
    pub fn new(cx: Context<'a, R>, x: Seq<'a, R>, y: Seq<'a, R>, dy: Seq<'a, R>) -> Self {
        Self { cx, x, y, dy, dx: None, dstate: &mut [], cache: &mut [], grads: &mut [] }
    }

    /// Sets the buffer for the gradient with respect to the input.
    pub fn dx(self, dx: SeqMut<'a, R>) -> Self {
        Self { dx: Some(dx), ..self }
    }

    /// Sets the gradient with respect to the state: to the final one on entry, to the initial one on return.
    pub fn dstate(self, dstate: &'a mut [R]) -> Self {
        Self { dstate, ..self }
    }

    /// Sets the cache of the forward pass.
    pub fn cache(self, cache: &'a mut [R]) -> Self {
        Self { cache, ..self }
    }

    /// Sets the buffer to which the gradients with respect to the parameters are added.
    pub fn grads(self, grads: &'a mut [R]) -> Self {
        Self { grads, ..self }
    }
}

/// A value that a layer does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidInput {
    /// The sample, by its lane.
    pub lane: usize,
    /// The time step.
    pub step: usize,
    /// The value.
    pub found: String,
    /// What it should have been.
    pub expected: String,
}

/// A layer's input or output: the shape of a sample, and which units its features are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// T and F.
    pub shape: Shape,
    /// The F features of a step, as an axis of units.
    pub units: Axis,
}

impl Features {
    /// Features that are not units of a layer, such as those of a model's input.
    pub fn new(shape: Shape) -> Self {
        Self { shape, units: Axis::from(shape.f) }
    }

    /// `t` steps of these units.
    pub fn of(t: usize, units: Axis) -> Self {
        Self { shape: Shape::new(t, units.size()), units }
    }
}

/// The buffers that a layer needs. `cache`, `infer_cache` and `state` are counted per lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Values kept from the forward pass for the backward pass.
    pub cache: usize,
    /// Values of scratch space in a forward pass that no backward pass follows.
    pub infer_cache: usize,
    /// Values of recurrent state.
    pub state: usize,
    /// Values of packed weights, which all lanes share.
    pub packed: usize,
    /// Sums over the whole batch that each pass waits for in training.
    pub sums: usize,
}

/// What [`Layer::build`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// What the layer returns for a sample.
    pub output: Features,
    /// The buffers that it needs.
    pub sizes: Sizes,
    /// For each point at which the forward pass waits for sums over the whole batch in training, how many.
    pub waits: Vec<usize>,
}

impl Built {
    /// A layer with this output that needs no buffers.
    pub fn new(output: Features) -> Self {
        Self { output, sizes: Sizes::default(), waits: Vec::new() }
    }

    /// Sets the values per lane that are kept from the forward pass for the backward pass.
    pub fn cache(mut self, values: usize) -> Self {
        self.sizes.cache = values;
        self
    }

    /// Sets the values per lane of scratch space in a forward pass that no backward pass follows.
    pub fn infer_cache(mut self, values: usize) -> Self {
        self.sizes.infer_cache = values;
        self
    }

    /// Sets the values per lane of recurrent state.
    pub fn state(mut self, values: usize) -> Self {
        self.sizes.state = values;
        self
    }

    /// Sets the values of packed weights, which all lanes share.
    pub fn packed(mut self, values: usize) -> Self {
        self.sizes.packed = values;
        self
    }

    /// Adds a point at which the forward pass waits for so many sums over the whole batch in training, and the backward pass for
    /// as many; see [`Layer::forward_sums`].
    pub fn sums(mut self, sums: usize) -> Self {
        self.sizes.sums = self.sizes.sums.saturating_add(sums);
        self.waits.extend(Some(sums).filter(|&sums| sums > 0));
        self
    }
}

/// A layer under construction: its input, and the record of the tensors that it declares.
#[derive(Debug)]
pub struct Build<'a> {
    input: &'a Features,
    layout: &'a mut Layout,
    prefix: Cow<'a, str>,
    /// Whether the layer is within one that does not pass on sums over a batch.
    alone: bool,
}

impl<'a> Build<'a> {
    /// A layer whose tensors are recorded in `layout` under `prefix`, or without a prefix if it is empty.
    pub(crate) fn new(input: &'a Features, layout: &'a mut Layout, prefix: &'a str) -> Self {
        Self { input, layout, prefix: prefix.into(), alone: false }
    }

    /// What the layer reads.
    pub fn input(&self) -> &'a Features {
        self.input
    }

    /// Declares a tensor of the layer.
    ///
    /// # Errors
    /// If the name is taken, the tensor is too large to address, or `init` does not fit it.
    pub fn tensor(&mut self, name: &str, axes: impl IntoIterator<Item = Axis>, init: Init) -> Result<()> {
        let name = self.full_name(name);
        self.layout.push(name, axes.into_iter().collect(), init)
    }

    /// Declares a statistic of the layer: a tensor that [`Layer::track`] computes from the batches, rather than an optimizer.
    ///
    /// # Errors
    /// As for [`tensor`](Self::tensor), or if the layer is within one that does not pass on the sums over a batch; see
    /// [`waiting_child`](Self::waiting_child).
    pub fn statistic(&mut self, name: &str, axes: impl IntoIterator<Item = Axis>, init: Init) -> Result<()> {
        let name = self.full_name(name);
        if self.alone {
            let fault =
                "found statistics within a layer that does not pass on sums over a batch, expected none";
            return Err(Error::config(name, fault));
        }
        self.layout.push_statistic(name, axes.into_iter().collect(), init)
    }

    /// Says that none of these units can be cut, because the layer depends on all of them together, as a normalisation
    /// does: [`Model::compact`](super::Model::compact) keeps them, and [`prune::Units`](crate::prune::Units) leaves them
    /// out.
    pub fn fix(&mut self, units: &Axis) {
        self.layout.fix(units);
    }

    /// The layer's name, with which the names of its groups of units begin.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A layer within this one, which reads `input` and is called `prefix.name`: what a layer that holds others gives to
    /// their [`build`](Layer::build).
    pub fn child<'b>(&'b mut self, input: &'b Features, name: &str) -> Build<'b> {
        Build { alone: true, ..self.waiting_child(input, name) }
    }

    /// A [`child`](Self::child) that may wait for sums over the batch: this layer has a call of [`Built::sums`] for each point
    /// at which the child waits, and passes on what [`Layer::forward_sums`], [`Layer::backward_sums`] and [`Layer::track`] are
    /// given.
    pub fn waiting_child<'b>(&'b mut self, input: &'b Features, name: &str) -> Build<'b> {
        let prefix = self.full_name(name).into();
        Build { input, layout: self.layout, prefix, alone: self.alone }
    }

    /// The number of parameters declared so far, of this layer and of those before it.
    pub(crate) fn declared(&self) -> usize {
        self.layout.len()
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

/// A layer: settings and sizes, but no weights and no state.
///
/// Everything it works on is passed to it as flat slices whose sizes [`build`](Layer::build) returned. Samples lie in
/// the lanes, the last axis: `x` is `[T, F, lanes]`, states are `[state, lanes]`.
///
/// A custom layer implements `describe`, `build`, `forward` and `backward`; the [module](crate::nn) shows how, and
/// [`gradcheck::conform`](crate::gradcheck::conform) checks it.
pub trait Layer<R: Real>: Debug + Send + Sync {
    /// The kind and settings, for saving and printing.
    fn describe(&self) -> Description;

    /// Declares the tensors, and returns the output's shape and units and the sizes of the buffers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for invalid settings, or settings that do not fit the input.
    fn build(&self, build: &mut Build<'_>) -> Result<Built>;

    /// The length of a sequence after this layer, given its length `len` before it: the same, unless the layer changes
    /// T.
    ///
    /// `input` is the shape that the layer was built for.
    fn length(&self, _input: Shape, len: usize) -> usize {
        len
    }

    /// Whether the layer can process a sequence step by step, carrying its state along, and produce the same output.
    fn streams(&self) -> bool {
        true
    }

    /// Whether the layer also works on tiles of one lane, in which inference passes a single sample. All other tiles
    /// have whole vectors of lanes.
    fn takes_one_lane(&self) -> bool {
        false
    }

    /// Checks input that comes from outside the model, before the forward pass, for values that the layer does not
    /// accept.
    ///
    /// # Errors
    /// The first value that does not fit.
    fn check(&self, _cx: &Context<'_, R>, _x: Seq<'_, R>) -> Result<(), InvalidInput> {
        Ok(())
    }

    /// Packs the parameters for the kernels; called whenever they have changed.
    fn pack(&self, _input: Shape, _params: &[R], _packed: &mut [R]) {}

    /// Computes y = f(x), and the final state from the initial one.
    fn forward(&self, pass: Forward<'_, R>);

    /// Passes the tile forward up to the next point at which the layer waits for sums over the whole batch, in training, and adds
    /// the tile's share of them to `sums`.
    ///
    /// It is called once for each call of [`Built::sums`], in the same order. [`Context::sums`] has the totals of those before,
    /// so their number says where the pass goes on; [`forward`](Layer::forward) does the rest, given all of them. A layer with
    /// sums waits until all tiles of the batch have come as far. Its statistics then are those of the batch, however it is cut
    /// into tiles.
    fn forward_sums(&self, _pass: Forward<'_, R>, _sums: &mut [f64]) {}

    /// Passes the gradient back to the next point at which the layer waits, from the last to the first, and adds the tile's
    /// share of the sums that the backward pass needs there, as many as the forward pass did.
    ///
    /// [`Context::backward_sums`] has the totals of those so far; [`backward`](Layer::backward) does the rest. What the same
    /// sums are of the parameters' gradients may be added to those here.
    fn backward_sums(&self, _pass: Backward<'_, R>, _sums: &mut [f64]) {}

    /// Moves the layer's [statistics](Build::statistic), which are among its parameters, towards those of the batch whose
    /// forward sums these are: once for each update. `input` is the shape that the layer was built for.
    fn track(&self, _input: Shape, _sums: &[f64], _params: &mut [R]) {}

    /// Computes once what each [`step`](Layer::step) needs and only the layer, the number of its features and its weights
    /// decide, which [`pack`](Layer::pack) wrote; nothing by default. Other weights have another plan.
    fn plan(&self, _features: usize, _packed: &[R]) -> Plan {
        Plan::default()
    }

    /// One step of streams: [`forward`](Layer::forward) in [`Mode::Infer`] on a sequence of one step, which it calls by
    /// default.
    fn step(&self, step: Step<'_, R>) {
        let Step { params, packed, lanes, valid, x, y, state, cache, .. } = step;
        let shape = |len: usize| Shape::new(1, len / lanes);
        let (x, y) = (Seq::new(x, shape(x.len()), lanes), SeqMut { shape: shape(y.len()), data: y, lanes });
        let cx = Context {
            params,
            packed,
            keys: &[0; MAX_LANES][..lanes],
            ..Context::new(&[], Mode::Infer, valid)
        };
        self.forward(Forward { cx, x, y, state, cache });
    }

    /// Whether [`check`](Layer::check) accepts everything, so that a stream need not call it at each step; false by
    /// default.
    fn accepts_everything(&self) -> bool {
        false
    }

    /// Computes the gradients of Σ dy ⊙ y + Σ dstate ⊙ final state: adds to `grads`, overwrites `dx`, and replaces
    /// `dstate`, the gradient with respect to the final state, by that with respect to the initial state.
    fn backward(&self, pass: Backward<'_, R>);

    /// How the layer's units depend on one another, and what it is with fewer of them: for
    /// [`Model::compact`](super::Model::compact). `name` is the layer's name in the model.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the layer cannot be made smaller, such as a custom layer without a
    /// `wiring`.
    fn wiring(&self, _name: &str) -> Result<Wiring<R>> {
        let kind = self.describe().kind;
        let fault = format!("found a layer of kind `{kind}`, expected one that has `Layer::wiring`");
        Err(Error::config("compact", fault))
    }

    /// Writes what the layer does in inference into an ONNX graph: from `x`, `[T, batch, F]`, to the output, which it
    /// returns.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the layer cannot be exported, such as a custom layer without an
    /// `export_onnx`.
    #[cfg(feature = "onnx")]
    fn export_onnx(&self, _graph: &mut Graph<'_, R>, _x: Value) -> Result<Value> {
        let kind = self.describe().kind;
        let fault = format!("found a layer of kind `{kind}`, expected one that has `Layer::export_onnx`");
        Err(Error::config("onnx", fault))
    }
}
