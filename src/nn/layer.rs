//! The one trait behind which every layer stands.

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

/// What a layer is given besides its input.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a, R> {
    /// The layer's own parameters, tensor after tensor in the order declared.
    pub params: &'a [R],
    /// What [`Layer::pack`] made of them.
    pub packed: &'a [R],
    /// What this pass is for.
    pub mode: Mode,
    /// Lanes that hold samples; the rest are pads.
    pub valid: usize,
    /// How long each sample's sequence is, where one is shorter than the shape's T.
    pub lens: Option<&'a [u32]>,
    /// One key for each lane's own randomness in this layer and step.
    pub keys: &'a [u64],
}

/// A value that a layer cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The sample, by its lane.
    pub lane: usize,
    /// The time step.
    pub step: usize,
    /// The value.
    pub found: String,
    /// What it should have been.
    pub expected: String,
}

/// What a layer makes of an input shape. `cache`, `infer_cache` and `state` are counted per lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Takes down a layer's tensors as it declares them.
#[derive(Debug)]
pub struct Declare<'a> {
    pub(crate) layout: &'a mut Layout,
    pub(crate) prefix: &'a str,
}

impl Declare<'_> {
    /// Declares a tensor of the layer.
    ///
    /// # Errors
    /// If the name is taken, the tensor too large to address, or `init` does not fit it.
    pub fn tensor(&mut self, name: &str, axes: impl IntoIterator<Item = Axis>, init: Init) -> Result<()> {
        let name = if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) };
        self.layout.push(name, axes.into_iter().collect(), init)
    }

    /// The layer's own name, under which its groups of units go.
    pub fn prefix(&self) -> &str {
        self.prefix
    }
}

/// A layer: a description that owns sizes, but no weights and no state.
///
/// Everything it works on is handed in as flat slices that were sized once, from what [`build`](Layer::build)
/// returned. Samples lie in the lanes, the last axis: `x` is `[T, F, lanes]`, states are `[state, lanes]`.
///
/// To write one, fill in `describe`, `build`, `forward` and `backward`; `examples/custom_layer.rs` shows it, and
/// [`gradcheck`](crate::gradcheck) proves it.
pub trait Layer<R: Real>: Debug + Send + Sync {
    /// The kind and settings, for saving and printing.
    fn describe(&self) -> Description;

    /// Declares the tensors, and tells the output's shape and what sizes are needed.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that cannot be, or do not fit the input shape.
    fn build(&self, input: Shape, declare: &mut Declare<'_>) -> Result<(Shape, Sizes)>;

    /// Whether the layer can take a sequence step by step, its state carried along, and hand out the same.
    fn streams(&self) -> bool {
        true
    }

    /// Whether the layer also works on tiles of one lane, as one sample alone makes them in inference. Otherwise lanes
    /// come in whole vectors, as everywhere else.
    fn takes_one_lane(&self) -> bool {
        false
    }

    /// Looks through input that comes from outside the model for what the layer cannot take, before it passes forward.
    ///
    /// # Errors
    /// The first value that does not fit.
    fn check(&self, cx: &Context<'_, R>, x: Seq<'_, R>) -> Result<(), Unfit> {
        let _ = (cx, x);
        Ok(())
    }

    /// Lays the parameters out for the kernels; called whenever they have changed.
    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        let _ = (input, params, packed);
    }

    /// y = f(x); `state` is the initial state coming in and the final state going out.
    fn forward(&self, cx: &Context<'_, R>, x: Seq<'_, R>, state: &mut [R], y: SeqMut<'_, R>, cache: &mut [R]);

    /// The gradients of Σ dy ⊙ y + Σ dstate ⊙ final state.
    ///
    /// `grads` is *added* to, `dx` is *overwritten*, and `dstate` is the gradient by the final state coming in and
    /// by the initial state going out. `cache` is as forward left it, and may be overwritten.
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        cx: &Context<'_, R>,
        x: Seq<'_, R>,
        y: Seq<'_, R>,
        dy: Seq<'_, R>,
        dstate: &mut [R],
        cache: &mut [R],
        grads: &mut [R],
        dx: Option<SeqMut<'_, R>>,
    );

    /// Writes what the layer does in inference into an ONNX graph, from `x`, `[T, batch, F]`, to what it hands out.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if it cannot be done, as without an `export_onnx` of the layer's own.
    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let _ = (graph, x);
        let kind = self.describe().kind;
        let fault = format!("found a layer of kind `{kind}`, expected one that has `Layer::export_onnx`");
        Err(crate::Error::config("onnx", fault))
    }
}
