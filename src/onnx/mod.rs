//! Models as ONNX files, for inference elsewhere: in ONNX Runtime, tract, or anything else that reads the format; and models from
//! the ONNX files of others, by [`Import`].
//!
//! Most programs need only [`Model::export_onnx`](crate::Model::export_onnx); [`Export`] adds inputs and outputs. The graph does what
//! [`predict`](crate::Model::predict) does, including the normalisation, so its input is raw samples. Dropout is left out.
//!
//! # The graph
//!
//! | name | type | shape | |
//! |---|---|---|---|
//! | `input` | the model's scalar | `[batch, T, F]` | |
//! | `output` | the model's scalar | `[batch, T', F']` | what `predict` returns: logits after a linear layer |
//! | `lengths` | int32 | `[batch]` | an input, with [`Export::lengths`] |
//! | `lstm.h0`, `lstm.c0` | the model's scalar | `[layers · directions, batch, H]` | inputs, with [`Export::states`] |
//! | `lstm.hn`, `lstm.cn` | the model's scalar | as `h0` and `c0` | outputs, with [`Export::states`] |
//!
//! The axis `batch` is symbolic. T is that of the model, but symbolic (`time`) with [`Export::states`], so that a stream
//! can be passed in piece by piece. States are PyTorch's, in its order, under the name of each recurrent layer. Without
//! `states` they start at 0 and are not exposed: an input with a default value would have to know the batch.
//!
//! Initializers have the names of the model's parameters, and their shapes except in recurrent layers: there
//! `weight_ih_lk`, `weight_hh_lk`, `bias_lk` and `peephole_lk` hold both directions, with the gates in ONNX's order, and both biases.
//! Pruned weights are 0. The names of the classes are a JSON list under the key `classes` of the metadata.
//!
//! The opset is 17, the first with `LayerNormalization`, and the IR version 8; all operators are of ONNX's default domain.
//! A model in `f64` is exported in double precision, in which ONNX Runtime has no recurrent operators: save it, load it
//! as a `Model<f32>`, and export that.
//!
//! # Runtimes
//!
//! `scripts/onnx_check.py` compares every kind of layer with ONNX Runtime (1.32), `tests/tract` with tract (0.23.9), both at
//! batches of 1 and 64. ONNX Runtime runs all of them in `f32`. Notes on tract:
//!
//! - It must be given the batch of a recurrent layer's input (`set_input_fact`), unless the export has `states`.
//! - It does not support `lengths` in a recurrent layer: "Non constant seq_len is not supported".
//! - It does not read the activation of an RNN. One with ReLU is *silently* run with tanh: do not use
//!   [`Rnn::relu`](crate::nn::Rnn::relu) there.
//! - A GRU of one feature fails with four or more steps, "xw not contiguous", unless the number of steps is left open, as
//!   by `states`.
//!
//! # Custom layers
//!
//! A layer is exported by [`Layer::export_onnx`](crate::nn::Layer::export_onnx), which writes operators into a [`Graph`].
//! A layer without it makes the export an error that names the layer.

mod graph;
mod import;
pub(crate) mod proto;

use serde::{Deserialize, Serialize};

pub(crate) use graph::Dimension;
pub use graph::{Attribute, Graph, Value};
pub use import::{Import, Imported};

/// The version of ONNX's operators.
pub const OPSET: i64 = 17;
/// The input with the length of each sequence.
const LENGTHS: &str = "lengths";

/// What an exported graph has in addition to input and output.
///
/// # Source
/// ONNX 1.12 (opset 17), `docs/Operators.md` and `docs/IR.md` of the standard.
/// # Examples
/// ```
/// use bptt::onnx::Export;
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
///
/// let model: Model = Model::builder(Shape::new(28, 28))
///     .layer("lstm", Lstm::new(5).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let folder = std::env::temp_dir().join(format!("bptt-onnx-{}", std::process::id()));
/// std::fs::create_dir_all(&folder).unwrap();
/// model.export_onnx(folder.join("model.onnx"))?;
/// Export::new().states().write(&model, folder.join("stream.onnx"))?;
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    pub(crate) lengths: bool,
    pub(crate) states: bool,
}

impl Export {
    /// Only input and output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the input `lengths`: how many steps of each sequence count, 1 to T, as for a
    /// [dataset](crate::data::Dataset::length) with sequences of different lengths. Without it, all steps count.
    pub fn lengths(mut self) -> Self {
        self.lengths = true;
        self
    }

    /// Adds the initial states of recurrent layers as inputs and their final states as outputs, and leaves T open.
    pub fn states(mut self) -> Self {
        self.states = true;
        self
    }
}
