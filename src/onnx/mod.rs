//! Models as ONNX files, for inference elsewhere: in ONNX Runtime, tract, or anything else that reads the format.
//!
//! Most programs need only [`Model::export_onnx`]; [`Export`] adds inputs and outputs. The graph does what
//! [`predict`](Model::predict) does, including the normalisation, so its input is raw samples. Dropout is left out.
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
mod proto;

use std::path::Path;

use prost::Message;
use serde::{Deserialize, Serialize};

pub use graph::{Attribute, Graph, Value};

use crate::nn::{Build, Features};
use crate::params::Layout;
use crate::{Error, Model, Real, Result, Shape, atomic_write};
use graph::Dimension;
use proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// The version of ONNX's operators.
pub const OPSET: i64 = 17;
/// The version of the file format.
const IR_VERSION: i64 = 8;
/// The input with the length of each sequence.
const LENGTHS: &str = "lengths";
/// The most bytes that protocol buffers can hold.
const MAX_BYTES: usize = i32::MAX as usize;

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
    lengths: bool,
    states: bool,
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

    /// The content of an ONNX file. The same model gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer and its kind if one cannot be exported, and if the model is larger than the
    /// 2 GB that such a file holds.
    pub fn to_bytes<R: Real>(&self, model: &Model<R>) -> Result<Vec<u8>> {
        let mut metadata_props = Vec::new();
        if !model.classes().is_empty() {
            let value = serde_json::to_string(model.classes()).map_err(|e| {
                Error::config("classes", format!("found names that cannot be written as JSON: {e}"))
            })?;
            metadata_props.push(StringStringEntryProto { key: "classes".into(), value });
        }
        let file = ModelProto {
            ir_version: IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: self.graph(model)?,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props,
        };
        let size = file.encoded_len();
        if size > MAX_BYTES {
            let fault = format!("found a model of {size} bytes, expected at most {MAX_BYTES}");
            return Err(Error::config("onnx", fault));
        }
        Ok(file.encode_to_vec())
    }

    /// Writes an ONNX file, by [`atomic_write`].
    ///
    /// # Errors
    /// As for [`to_bytes`](Self::to_bytes), and [`Error::Io`] naming the file.
    pub fn write<R: Real>(&self, model: &Model<R>, path: impl AsRef<Path>) -> Result<()> {
        atomic_write(path, self.to_bytes(model)?)
    }

    fn graph<R: Real>(&self, model: &Model<R>) -> Result<GraphProto> {
        // Batch first outside; time first inside, as in ONNX's recurrent operators.
        let swap = [("perm", Attribute::Ints(&[1, 0, 2]))];
        let batch = Dimension::Named("batch");
        let shape = |t: Dimension, f: usize| [batch, t, Dimension::Fixed(f)];
        let mut graph = Graph::new(model, self);
        let (input, output) = (model.input_shape(), model.output_shape());
        let time = if self.states { Dimension::Named("time") } else { Dimension::Fixed(input.t) };
        let mut x = graph.add_input("input".into(), shape(time, input.f));
        if self.lengths {
            graph.add_lengths();
        }
        if !model.normalization().is_identity() {
            for (op, name, values) in
                [("Sub", "mean", model.normalization().mean()), ("Div", "sd", model.normalization().sd())]
            {
                let values: Vec<R> = values.iter().map(|&value| R::from_f64(value)).collect();
                let values = graph.constant(format!("normalize.{name}"), &[values.len()], &values);
                x = graph.node(op, &[&x, &values], &[]);
            }
        }
        x = graph.node("Transpose", &[&x], &swap);
        for slot in model.places() {
            graph.enter(slot);
            x = slot.layer.export_onnx(&mut graph, x).map_err(|e| e.within(&slot.name))?;
        }
        let time = if self.states { steps_out(model)? } else { Dimension::Fixed(output.t) };
        // The output of the model comes before the states.
        let states = std::mem::take(&mut graph.proto.output);
        graph.add_output("output".into(), ("Transpose", &swap), &x, shape(time, output.f));
        graph.proto.output.extend(states);
        Ok(graph.proto)
    }
}

/// The number of output steps where the number of input steps is open.
fn steps_out<R: Real>(model: &Model<R>) -> Result<Dimension> {
    let of = |t: usize| {
        let input = Shape::new(t, model.input_shape().f);
        let (mut features, mut layout) = (Features::new(input), Layout::default());
        for slot in model.places() {
            let mut build = Build::new(&features, &mut layout, &slot.name);
            features = slot.layer.build(&mut build).map_err(|e| e.within(&slot.name))?.output;
        }
        Ok(features.shape.t)
    };
    let t = model.input_shape().t;
    Ok(match [of(t)?, of(t + 1)?] {
        [now, more] if now == more => Dimension::Fixed(now),
        [now, more] if now == t && more == t + 1 => Dimension::Named("time"),
        _ => Dimension::Unknown,
    })
}

impl<R: Real> Model<R> {
    /// Writes the model as an ONNX file, from `input` `[batch, T, F]` to `output` `[batch, T', F']`; see
    /// [`onnx`](crate::onnx).
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer and its kind if one cannot be exported; [`Error::Io`] naming the file.
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        Export::new().write(self, path)
    }
}
