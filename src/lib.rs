//! LSTMs from scratch: hand-written backpropagation through time, for small recurrent models on CPUs.
//!
//! - [`data`]: datasets, and how they are split, selected from, normalised and cut into minibatches.
//! - [`nn`]: [layers](nn::Layer) and the [`Model`], a named chain of them.
//! - [`loss`], [`optim`]: what is minimised, and the rules that do it.
//! - [`train`]: the [`Trainer`], schedules, callbacks, early stopping, clipping.
//! - [`prune`]: masks that keep pruned weights at zero.
//! - [`tune`]: grids, random search, k folds; studies that resume after an interruption.
//! - [`metrics`]: confusion matrix, precision, recall, F1, errors of values.
//! - [`gradcheck`]: checks that a backward pass is the derivative of its forward pass.
//! - [`prelude`]: what most programs import.
//! - [`params`], [`rng`]: parameters under PyTorch's names, and randomness without hidden state.
//!
//! [`guide`] has four tasks from beginning to end, beside PyTorch's lines. Four modules begin with a guide of their own: [`data`] on bringing data, [`train`] on running, stopping and resuming, [`nn`] on
//! writing a layer or a cell, [`loss`] on writing a loss.
//!
//! # Examples
//!
//! An LSTM learns to distinguish rising sequences from falling ones.
//!
//! ```
//! use bptt::ndarray::{Array1, Array3};
//! use bptt::prelude::*;
//! use ndarray_rand::RandomExt;
//! use ndarray_rand::rand_distr::Uniform;
//!
//! // 200 samples of 10 steps with one feature each, `[batch, time, features]`.
//! let y = Array1::from_shape_fn(200, |i| i % 2);
//! let start = Array1::random_using(200, Uniform::new(-1.0, 1.0).unwrap(), &mut bptt::rng::rng(1));
//! let x = Array3::from_shape_fn((200, 10, 1), |(i, t, _)| {
//!     let slope = if y[i] == 0 { 0.1 } else { -0.1 };
//!     start[i] + slope * t as f32
//! });
//! let data = Arrays::classes(x, &y, ["rising", "falling"])?;
//!
//! let mut model = Model::builder(data.shape())
//!     .layer("lstm", Lstm::new(8).last())
//!     .layer("linear", Linear::new(2))
//!     .build(1)?;
//! let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(20).batch_size(20);
//! let history = trainer.fit(&mut model, &data, None)?;
//!
//! assert_eq!(history.epochs.len(), 20);
//! assert_eq!(model.evaluate(&data)?.accuracy(), Some(1.0));
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! The README's quick start does the same with images, and also saves, loads and predicts.
//!
//! # Shapes
//!
//! Arrays passed in and returned are batch first, `[batch, time, features]`. Inside, in [`Seq`] and in a [`nn::Layer`],
//! the batch is the last axis, `[time, features, lanes]`, so that samples lie side by side in the SIMD lanes.
//!
//! # The same bits
//!
//! A run is a function of model, data, settings and seeds: the number of threads and the [instruction set](SimdLevel)
//! change only the time it takes.
//!
//! # Features
//!
//! - `rayon` (default) spreads minibatches over all cores. Without it there is one thread, and the results are the same.
//! - `onnx` adds the module `onnx` and `Model::export_onnx`: models as ONNX files, for inference elsewhere, and models from
//!   the ONNX files of others. It adds six crates, prost among them.
//! - `plot` adds the module `plot`: charts as SVG, and reports of trainings as HTML.
//! - `progress` adds `train::ProgressBar`, a bar on the terminal.
//! - `tensorboard` adds `train::TensorBoard`, a callback that writes event files.
//!
//! # Debug builds
//!
//! A debug build of a crate that depends on this one compiles it unoptimised, which makes training more than a hundred
//! times slower, unless its `Cargo.toml` says
//!
//! ```toml
//! [profile.dev.package.bptt]
//! opt-level = 3
//! [profile.dev.package.zlib-rs]
//! opt-level = 3
//! ```
//!
//! The second unpacks gzipped data. A build without this says so once, on standard error, unless the variable `BPTT_QUIET` is
//! set, or it runs tests.
//!
//! # What always holds
//!
#![doc = include_str!("../docs/what-always-holds.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::too_many_lines)]

mod atomic_write;
pub mod data;
mod description;
mod error;
pub mod gradcheck;
pub mod guide;
mod kernels;
pub mod loss;
mod math;
mod memory;
pub mod metrics;
mod names;
pub mod nn;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "onnx")]
mod onnx_graph;
pub mod optim;
mod par;
pub mod params;
#[cfg(feature = "plot")]
pub mod plot;
pub mod prelude;
pub mod prune;
mod real;
pub mod rng;
mod scalar;
mod shape;
pub mod train;
pub mod tune;
mod unoptimised;

pub use atomic_write::atomic_write;
pub use description::Description;
pub use error::{Error, Result};
pub use kernels::simd::SimdLevel;
/// The crate whose arrays the public API uses, in the version that it uses.
pub use ndarray;
pub use nn::Model;
pub use params::{Arena, Init};
pub use real::Real;
pub use scalar::Scalar;
pub use shape::{Seq, SeqMut, Shape};
pub use train::Trainer;

/// The README's quick start is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
