//! Data: the [`Dataset`] trait, IDX files, Fashion-MNIST, arrays, hold-out and k-fold splits, minibatches.

mod arrays;
mod batches;
mod dataset;
mod fashion_mnist;
mod idx;
mod images;

pub use arrays::Arrays;
pub use batches::{Batches, samples, shuffle};
pub use dataset::{Dataset, Normalize, Sample, TargetShape};
pub use fashion_mnist::FashionMnist;
pub use idx::{IdxElem, read_idx};
pub use images::Images;
