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
//! - A [`Transpose`](crate::nn::Transpose) needs the number of steps, so an export with `states` fails.
//! - A GRU of one feature fails with four or more steps, "xw not contiguous", unless the number of steps is left open, as
//!   by `states`.
//!
//! # Custom layers
//!
//! A layer is exported by [`Layer::export_onnx`](crate::nn::Layer::export_onnx), which writes operators into a [`Graph`].
//! A layer without it makes the export an error that names the layer.

mod import;

pub use crate::onnx_graph::{Attribute, Export, Graph, OPSET, Value};
pub use import::{Import, Imported};
