//! Data: the [`Dataset`] trait, IDX files, Fashion-MNIST, arrays, hold-out and k-fold splits, minibatches.

mod batches;
mod dataset;

pub use batches::{Batches, samples, shuffle};
pub use dataset::{Dataset, Normalize, Sample, TargetShape};
