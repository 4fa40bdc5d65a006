//! Layers and models.

mod activation;
mod layer;
mod linear;
mod log_softmax;
mod model;
mod registry;
pub mod rnn;

pub use activation::Activation;
pub use layer::{Context, Declare, Description, Layer, Mode, Sizes};
pub use linear::Linear;
pub use model::{Builder, Evaluation, Model, ParamsMut, Session, Workspace};
pub use log_softmax::LogSoftmax;
pub(crate) use model::{MAX_LANES, tile_lanes};
pub use rnn::{Gru, Lstm, Rnn};
