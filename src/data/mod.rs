//! Data: the [`Dataset`] trait, IDX files, Fashion-MNIST, arrays, hold-out and k-fold splits, minibatches.

mod dataset;

pub use dataset::{Dataset, Normalize, Sample, TargetShape};
