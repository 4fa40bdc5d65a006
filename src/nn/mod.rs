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
pub use layer::{
    Backward, Build, Built, Context, Description, Features, Forward, InvalidInput, Layer, Mode, Sizes,
};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use log_softmax::LogSoftmax;
#[cfg(feature = "onnx")]
pub(crate) use model::Place;
pub(crate) use model::same_mask;
pub use model::{Evaluation, Model, ModelBuilder, ParamsMut, Predictor, Session, Workspace};
pub use pool::Pool;
pub use rnn::{Gru, Lstm, Rnn};
