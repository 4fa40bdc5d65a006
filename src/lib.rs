//! LSTMs from scratch.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod data;
mod error;
mod files;
pub mod gradcheck;
mod kernels;
pub mod loss;
pub mod metrics;
pub mod nn;
pub mod optim;
mod par;
pub mod params;
mod real;
pub mod rng;
mod shape;
pub mod train;

pub use error::{Error, Result};
pub use kernels::simd::SimdLevel;
pub use nn::Model;
pub use params::{Arena, Init};
pub use real::Real;
pub use shape::{Seq, SeqMut, Shape};
pub use train::Trainer;
