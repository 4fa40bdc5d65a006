//! Layers and models.

mod activation;
mod dropout;
mod embedding;
mod layer;
mod layer_norm;
mod linear;
mod log_softmax;
mod model;
mod pool;
mod registry;
pub mod rnn;

pub use activation::Activation;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use layer::{Context, Declare, Description, Layer, Mode, Sizes, Unfit};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use log_softmax::LogSoftmax;
#[cfg(feature = "onnx")]
pub(crate) use model::Place;
pub use model::{Builder, Evaluation, Model, ParamsMut, Session, Workspace};
pub(crate) use model::{MAX_LANES, same_mask, tile_lanes};
pub use pool::Pool;
pub use rnn::{Gru, Lstm, Rnn};
