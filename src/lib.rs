//! LSTMs from scratch.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod data;
mod error;
mod kernels;
pub mod metrics;
mod real;
pub mod rng;
mod shape;

pub use error::{Error, Result};
pub use real::Real;
pub use shape::{Seq, SeqMut, Shape};
