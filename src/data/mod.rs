//! Data: the [`Dataset`] trait, IDX files, Fashion-MNIST, arrays, hold-out and k-fold splits, minibatches.

mod batches;
mod dataset;
mod idx;

pub use batches::{Batches, samples, shuffle};
pub use dataset::{Dataset, Normalize, Sample, TargetShape};
pub use idx::{IdxElem, read_idx};
