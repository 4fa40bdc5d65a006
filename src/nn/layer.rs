//! The trait that every layer implements, and what its methods work on.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use crate::onnx::{Graph, Value};
use crate::params::{Axis, Layout};
use crate::{Init, Real, Result, Seq, SeqMut, Shape};

/// What a layer is called and how it is configured: all that is needed to build it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The kind of layer, `lstm` or `linear` for example.
    pub kind: String,
    /// Its settings.
    pub config: serde_json::Value,
}

impl Description {
    /// A kind and its settings.
    ///
    /// # Panics
    /// If `config` does not serialise to JSON, as a map with keys that are no strings.
    #[track_caller]
    pub fn new(kind: &str, config: impl Serialize) -> Self {
        let config = serde_json::to_value(config).expect("a layer's settings serialise to JSON");
        Self { kind: kind.to_owned(), config }
    }
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward with everything kept that backward needs, and with dropout.
    Train,
    /// Forward as in inference, but with everything kept that backward needs: for gradient checks.
    Eval,
    /// Forward only, nothing kept.
    Infer,
}

impl Mode {
    /// Whether a backward pass may follow.
    pub fn keeps_history(self) -> bool {
        self != Mode::Infer
    }
}

/// What a layer is given besides its input, in the forward and in the backward pass.
///
/// It is `#[non_exhaustive]`: outside this crate, begin with [`new`](Context::new) and set the fields that differ.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Context<'a, R> {
    /// The layer's own parameters, tensor after tensor in the order declared.
    pub params: &'a [R],
    /// What [`Layer::pack`] made of them.
    pub packed: &'a [R],
    /// What this pass is for.
    pub mode: Mode,
    /// Lanes that hold samples; the rest are pads.
    pub valid: usize,
    /// The length of each sample's sequence as this layer reads it, where one is shorter than the input's T.
    pub lens: Option<&'a [u32]>,
    /// One key for each lane's own randomness in this layer and step.
    pub keys: &'a [u64],
}

impl<'a, R> Context<'a, R> {
    /// The context of a layer with these parameters and `valid` samples, all of full length, with nothing packed and
    /// no keys.
    pub fn new(params: &'a [R], mode: Mode, valid: usize) -> Self {
        Self { params, packed: &[], mode, valid, lens: None, keys: &[] }
    }
}

/// What a forward pass works on.
///
/// A layer that wraps another one calls it with a pass of its own, made by [`new`](Forward::new); fields that the
/// inner layer does not need, such as a state that it does not have, stay empty.
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
    /// The output, to be overwritten.
    pub y: SeqMut<'a, R>,
    /// `[state, lanes]`: the initial state coming in, the final state going out.
    pub state: &'a mut [R],
    /// `[cache, lanes]`, or `[infer_cache, lanes]` in [`Mode::Infer`]: what is kept for backward, and scratch. Its
    /// content before the pass is arbitrary.
    pub cache: &'a mut [R],
}

impl<'a, R> Forward<'a, R> {
    /// A pass from `x` to `y` by a layer without state or cache.
    pub fn new(cx: Context<'a, R>, x: Seq<'a, R>, y: SeqMut<'a, R>) -> Self {
        Self { cx, x, y, state: &mut [], cache: &mut [] }
    }

    /// The state, initial in and final out.
    pub fn state(self, state: &'a mut [R]) -> Self {
        Self { state, ..self }
    }

    /// The cache that the layer's [`Sizes`] ask for.
    pub fn cache(self, cache: &'a mut [R]) -> Self {
        Self { cache, ..self }
    }
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
    /// The gradient with respect to the input, to be *overwritten*; `None` if nobody needs it.
    pub dx: Option<SeqMut<'a, R>>,
    /// The gradient with respect to the final state coming in, with respect to the initial state going out.
    pub dstate: &'a mut [R],
    /// The cache as the forward pass left it; it may be overwritten.
    pub cache: &'a mut [R],
    /// The gradients with respect to the parameters, to be *added* to.
    pub grads: &'a mut [R],
}

impl<'a, R> Backward<'a, R> {
    /// A pass from `dy` by a layer without parameters, state or cache, of whose input no gradient is wanted.
    pub fn new(cx: Context<'a, R>, x: Seq<'a, R>, y: Seq<'a, R>, dy: Seq<'a, R>) -> Self {
        Self { cx, x, y, dy, dx: None, dstate: &mut [], cache: &mut [], grads: &mut [] }
    }

    /// Where the gradient with respect to the input goes.
    pub fn dx(self, dx: SeqMut<'a, R>) -> Self {
        Self { dx: Some(dx), ..self }
    }

    /// The gradient with respect to the state, of the final one in and of the initial one out.
    pub fn dstate(self, dstate: &'a mut [R]) -> Self {
        Self { dstate, ..self }
    }

    /// The cache of the forward pass.
    pub fn cache(self, cache: &'a mut [R]) -> Self {
        Self { cache, ..self }
    }

    /// Where the gradients with respect to the parameters are added.
    pub fn grads(self, grads: &'a mut [R]) -> Self {
        Self { grads, ..self }
    }
}

/// A value that a layer cannot take.
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

/// What goes into a layer, or comes out of it: the shape of a sample, and which units its features are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// T and F.
    pub shape: Shape,
    /// The F features of a step, as an axis of units.
    pub units: Axis,
}

impl Features {
    /// Features that are no units of any layer, as those of a model's input.
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
    /// Values to be kept between forward and backward.
    pub cache: usize,
    /// Values of scratch that a forward pass needs where no backward follows.
    pub infer_cache: usize,
    /// Values of recurrent state.
    pub state: usize,
    /// Values of packed weights, once for all lanes.
    pub packed: usize,
}

/// What [`Layer::build`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// What the layer returns for a sample.
    pub output: Features,
    /// The buffers that it needs.
    pub sizes: Sizes,
}

impl Built {
    /// A layer with this output that needs no buffers.
    pub fn new(output: Features) -> Self {
        Self { output, sizes: Sizes::default() }
    }

    /// Values per lane to be kept between forward and backward.
    pub fn cache(mut self, values: usize) -> Self {
        self.sizes.cache = values;
        self
    }

    /// Values per lane of scratch in a forward pass that no backward pass follows.
    pub fn infer_cache(mut self, values: usize) -> Self {
        self.sizes.infer_cache = values;
        self
    }

    /// Values per lane of recurrent state.
    pub fn state(mut self, values: usize) -> Self {
        self.sizes.state = values;
        self
    }

    /// Values of packed weights, once for all lanes.
    pub fn packed(mut self, values: usize) -> Self {
        self.sizes.packed = values;
        self
    }
}

/// A layer under construction: its input, and the record of the tensors that it declares.
#[derive(Debug)]
pub struct Build<'a> {
    input: &'a Features,
    layout: &'a mut Layout,
    prefix: &'a str,
}

impl<'a> Build<'a> {
    /// A layer whose tensors are recorded in `layout` under `prefix`, or without one if that is empty.
    pub(crate) fn new(input: &'a Features, layout: &'a mut Layout, prefix: &'a str) -> Self {
        Self { input, layout, prefix }
    }

    /// What the layer reads.
    pub fn input(&self) -> &'a Features {
        self.input
    }

    /// Declares a tensor of the layer.
    ///
    /// # Errors
    /// If the name is taken, the tensor too large to address, or `init` does not fit it.
    pub fn tensor(&mut self, name: &str, axes: impl IntoIterator<Item = Axis>, init: Init) -> Result<()> {
        let name = if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) };
        self.layout.push(name, axes.into_iter().collect(), init)
    }

    /// The layer's own name, which begins the names of its groups of units.
    pub fn prefix(&self) -> &'a str {
        self.prefix
    }
}

/// A layer: a description that owns sizes, but no weights and no state.
///
/// Everything it works on is given to it as flat slices that were sized once, from what [`build`](Layer::build)
/// returned. Samples lie in the lanes, the last axis: `x` is `[T, F, lanes]`, states are `[state, lanes]`.
///
/// To write one, fill in `describe`, `build`, `forward` and `backward`; `examples/custom_layer.rs` shows it, and
/// [`gradcheck`](crate::gradcheck) proves it.
pub trait Layer<R: Real>: Debug + Send + Sync {
    /// The kind and settings, for saving and printing.
    fn describe(&self) -> Description;

    /// Declares the tensors, and returns the output's shape and units and the sizes of the buffers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for invalid settings, or settings that do not fit the input.
    fn build(&self, build: &mut Build<'_>) -> Result<Built>;

    /// The length of a sequence after this layer, for one of `len` of the steps that the layer reads: `len` itself
    /// unless the layer changes T.
    ///
    /// `input` is the shape that the layer was built for.
    fn length(&self, _input: Shape, len: usize) -> usize {
        len
    }

    /// Whether the layer can process a sequence step by step, carrying its state along, and produce the same output.
    fn streams(&self) -> bool {
        true
    }

    /// Whether the layer also works on tiles of one lane, as one sample alone makes them in inference. Otherwise lanes
    /// come in whole vectors, as everywhere else.
    fn takes_one_lane(&self) -> bool {
        false
    }

    /// Checks input that comes from outside the model, before the forward pass, for values that the layer cannot
    /// take.
    ///
    /// # Errors
    /// The first value that does not fit.
    fn check(&self, _cx: &Context<'_, R>, _x: Seq<'_, R>) -> Result<(), InvalidInput> {
        Ok(())
    }

    /// Lays the parameters out for the kernels; called whenever they have changed.
    fn pack(&self, _input: Shape, _params: &[R], _packed: &mut [R]) {}

    /// y = f(x), and the final state from the initial one.
    fn forward(&self, pass: Forward<'_, R>);

    /// The gradients of Σ dy ⊙ y + Σ dstate ⊙ final state: `grads` is added to, `dx` overwritten, `dstate` turned
    /// from that of the final into that of the initial state.
    fn backward(&self, pass: Backward<'_, R>);

    /// Writes what the layer does in inference into an ONNX graph, from `x`, `[T, batch, F]`, to its output.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if it cannot be done, as for a custom layer without an `export_onnx`.
    #[cfg(feature = "onnx")]
    fn export_onnx(&self, _graph: &mut Graph<'_, R>, _x: Value) -> Result<Value> {
        let kind = self.describe().kind;
        let fault = format!("found a layer of kind `{kind}`, expected one that has `Layer::export_onnx`");
        Err(crate::Error::config("onnx", fault))
    }
}
