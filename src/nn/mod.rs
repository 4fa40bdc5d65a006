//! Layers and models.

mod activation;
mod layer;
mod linear;
mod model;
mod registry;
pub mod rnn;

pub use activation::Activation;
pub use layer::{Context, Declare, Description, Layer, Mode, Sizes};
pub use linear::Linear;
pub use model::{Builder, Model, ParamsMut, Workspace};
pub use rnn::{Lstm, Rnn};
