//! Layers and models.
//!
//! A [`Model`] is a named chain of [layers](Layer) with their parameters. A layer has settings and sizes, but neither
//! weights nor state: it works on slices that are passed to it, so that a model can be shared by any number of threads.
//!
//! # How to read an LSTM here
//!
//! [`Lstm`] is a [`Recurrent`](rnn::Recurrent) stack of a [cell](rnn::Cell). The stack computes the pre-activations
//! a = b + W x + U h of a step, and the cell its new state from them. Parameters have PyTorch's names and shapes:
//! `weight_ih_l0` is W `[4H, F]`, `weight_hh_l0` is U `[4H, H]`, there are two biases `[4H]`, and the 4H rows are the
//! gates i, f, g, o. So this is an LSTM, step by step, as it could be written in a page of any language:
//!
//! ```
//! use bptt::{Model, Shape, nn::Lstm};
//!
//! let model: Model<f64> = Model::builder(Shape::new(2, 2)).layer("lstm", Lstm::new(3)).build(1)?;
//! let names = ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0"];
//! let [w, u, b, d] = names.map(|name| model.params().get(name).unwrap().iter().copied().collect::<Vec<_>>());
//! let sigmoid = |a: f64| 1.0 / (1.0 + (-a).exp());
//!
//! let mut session = model.session()?;
//! let (mut h, mut c) = ([0.0; 3], [0.0; 3]);
//! for x in [[0.5, -1.0], [2.0, 0.25]] {
//!     let wx = |r: usize| w[2 * r] * x[0] + w[2 * r + 1] * x[1];
//!     let uh = |r: usize| (0..3).map(|k| u[3 * r + k] * h[k]).sum::<f64>();
//!     let a: Vec<f64> = (0..12).map(|r| b[r] + d[r] + wx(r) + uh(r)).collect();
//!     for j in 0..3 {
//!         let [i, f, g, o] = [sigmoid(a[j]), sigmoid(a[3 + j]), a[6 + j].tanh(), sigmoid(a[9 + j])];
//!         c[j] = f * c[j] + i * g;
//!         h[j] = o * c[j].tanh();
//!     }
//!     let y = session.push(&x);
//!     assert!(y.iter().zip(h).all(|(y, h)| (y - h).abs() < 1e-12));
//! }
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! In the source, `nn/rnn/recurrent.rs` begins with pseudo code of the whole stack, forward and backward; `passes.rs` has
//! these loops, and `kernels/lstm.rs` the pointwise part above with its derivative. `docs/lstm-backward.md` in the
//! repository derives the gradients in the same names.
//!
//! # How to write a layer
//!
//! Implement [`Layer`]: [`describe`](Layer::describe), [`build`](Layer::build), [`forward`](Layer::forward) and
//! [`backward`](Layer::backward). Samples lie in the last axis: `x` is `[T, F, lanes]`, so value i is of feature
//! i / lanes mod F.
//!
//! ```
//! use bptt::gradcheck::GradCheck;
//! use bptt::nn::{Backward, Build, Built, Description, Forward, Layer};
//! use bptt::{Init, Model, Real, Result, Shape};
//!
//! /// y = w ⊙ x, with a weight for each feature.
//! #[derive(Debug)]
//! struct Scale;
//!
//! impl<R: Real> Layer<R> for Scale {
//!     fn describe(&self) -> Description {
//!         Description::new("scale", ())
//!     }
//!
//!     fn build(&self, build: &mut Build<'_>) -> Result<Built> {
//!         let input = build.input();
//!         build.tensor("weight", [input.units.clone()], Init::Constant(1.0))?;
//!         Ok(Built::new(input.clone()))
//!     }
//!
//!     fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
//!         let weight = |i: usize| cx.params[i / x.lanes % x.shape.f];
//!         y.data.iter_mut().zip(x.data).enumerate().for_each(|(i, (y, &x))| *y = weight(i) * x);
//!     }
//!
//!     fn backward(&self, Backward { cx, x, dy, dx, grads, .. }: Backward<'_, R>) {
//!         let feature = |i: usize| i / x.lanes % x.shape.f;
//!         for (i, (&x, &dy)) in x.data.iter().zip(dy.data).enumerate() {
//!             grads[feature(i)] += x * dy; // added
//!         }
//!         let Some(dx) = dx else { return };
//!         for (i, (dx, &dy)) in dx.data.iter_mut().zip(dy.data).enumerate() {
//!             *dx = cx.params[feature(i)] * dy; // overwritten
//!         }
//!     }
//! }
//!
//! GradCheck::default().layer(Scale, Shape::new(4, 3))?.assert_below(1e-6);
//! let model: Model = Model::builder(Shape::new(4, 3)).layer("scale", Scale).build(1)?;
//! assert_eq!(model.params().get("scale.weight").unwrap().shape(), [3]);
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! What a layer must keep:
//!
//! - A forward pass overwrites `y`. A backward pass *adds* to `grads`, *overwrites* `dx`, and may use up `cache`. Pads, the
//!   lanes from [`valid`](Context::valid) to the last, hold finite numbers in the forward pass and a gradient of 0 in the
//!   backward pass; a layer that treats all lanes alike keeps this by itself.
//! - What backward needs in addition to x and y goes into `cache`, whose size [`Built::cache`] declares, and only if
//!   [`Mode::keeps_history`]. A recurrent state goes into `state` ([`Built::state`]): initial on entry, final on return, and
//!   its gradient in `dstate` the other way.
//! - Where [`lens`](Context::lens) is given, a sample's steps after its length change neither its state nor its gradients.
//!   A layer that changes T says how lengths follow, by [`Layer::length`].
//! - Random numbers come from [`keys`](Context::keys) alone, one per lane, and sums run in an order that does not depend on
//!   other lanes. So results are the same for any cut into tiles and any number of threads.
//! - No pass allocates, and no pass looks anything up by name: `params` are the tensors in the order declared.
//! - Optional methods: [`pack`](Layer::pack) prepares weights when they change; [`streams`](Layer::streams) allows a
//!   [`Session`]; [`takes_one_lane`](Layer::takes_one_lane) allows the fast path for a single sample;
//!   [`check`](Layer::check) refuses invalid input; `export_onnx` makes the layer part of an ONNX graph;
//!   [`wiring`](Layer::wiring) says what the layer is with fewer units, for [`Model::compact`].
//!
//! [`gradcheck::conform`](crate::gradcheck::conform) checks all of it in one call. A model with custom layers is loaded by
//! [`Model::load_with`]. `examples/custom_layer.rs` has a layer with a state.
//!
//! # How to write a cell
//!
//! A custom recurrent layer needs only a [cell](rnn::cell), its pointwise part: stacking, both directions, lengths and
//! weight gradients are those of the stack. This one is h' = tanh(W x + U h + b) + s ⊙ h, with a scale s for each unit:
//!
//! ```
//! use bptt::gradcheck::Conform;
//! use bptt::nn::rnn::cell::{self, Cell, CellStep, CellStepBack, CellTensor};
//! use bptt::nn::rnn::Recurrent;
//! use bptt::{Init, Real, Shape};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! struct Skip;
//!
//! impl Cell for Skip {
//!     const KIND: &'static str = "skip";
//!     const GATES: usize = 1;
//!     const HAS_CELL: bool = false;
//!     const TENSORS: &'static [CellTensor] =
//!         &[CellTensor { name: "weight_skip", blocks: 1, init: |_| Init::Constant(0.5) }];
//!
//!     fn forward<R: Real>(&self, step: CellStep<'_, R>) {
//!         cell::tanh(step.gates); // of a = W x + U h + b; left there for backward
//!         for (i, h) in step.h.iter_mut().enumerate() {
//!             *h = step.gates[i] + step.params[i / step.lanes] * step.h_prev[i];
//!         }
//!     }
//!
//!     fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
//!         for (i, &dh) in step.dh.iter().enumerate() {
//!             step.gates[i] = dh * (R::ONE - step.gates[i] * step.gates[i]); // da
//!             step.dh_prev[i] += dh * step.params[i / step.lanes];
//!             step.grads[i] += dh * step.h_prev[i]; // lane by lane
//!         }
//!     }
//! }
//!
//! let conform = Conform::default().load(Recurrent::<Skip>::from_description);
//! conform.layer(|| Recurrent::with_cell(Skip, 3).layers(2), Shape::new(5, 2))?;
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! [`rnn::cell`] has the rules; `examples/custom_cell.rs` trains one.

mod activation;
mod attention_pool;
mod batch_norm;
mod conv;
mod dropout;
mod embed_columns;
mod embedding;
mod join;
mod layer;
mod layer_norm;
mod linear;
mod log_softmax;
mod model;
mod pool;
mod pool2d;
mod registry;
pub mod rnn;
mod transpose;
mod wiring;

pub use crate::description::Description;
pub use activation::Activation;
pub use attention_pool::AttentionPool;
pub use batch_norm::BatchNorm;
pub use conv::{Conv1d, Conv2d};
pub use dropout::Dropout;
pub use embed_columns::EmbedColumns;
pub use embedding::Embedding;
pub use join::{Branches, Chain};
pub use layer::{
    Backward, Build, Built, Context, Features, Forward, InvalidInput, Layer, Mode, Plan, Sizes, Step,
};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use log_softmax::LogSoftmax;
pub(crate) use model::{Compacted, SHARES, Wait, same_mask};
pub use model::{Evaluation, Model, ModelBuilder, ParamsMut, Predictor, Session, Streams, Workspace};
pub use pool::Pool;
pub use pool2d::Pool2d;
pub use rnn::{Gru, LayerNormLstm, Lstm, PeepholeLstm, Rnn};
pub use transpose::Transpose;
pub use wiring::{Kept, Wiring};
