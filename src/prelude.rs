//! What most programs need, for `use bptt::prelude::*`: a model with its common layers, data, training.
//!
//! It has neither [`Error`](crate::Error) nor [`Result`](crate::Result), which would hide those of the program, and no
//! type that only some programs need.

pub use crate::data::{Arrays, Dataset, DatasetExt};
pub use crate::loss::{CrossEntropy, Mse};
pub use crate::nn::{Dropout, Embedding, Gru, Linear, Lstm};
pub use crate::optim::Adam;
pub use crate::train::EarlyStopping;
pub use crate::{Model, Shape, Trainer};
