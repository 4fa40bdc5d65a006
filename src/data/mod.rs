//! Data: what a model learns from, where it is read from, and how it is split and cut into minibatches.
//!
//! - [`Dataset`]: samples of one shape with their targets. A trainer asks nothing else, so implement it for your own.
//! - [`FashionMnist`] is read from its official files, any other IDX file by [`read_idx`]; [`Images`] holds grey
//!   images, [`Arrays`] sequences of numbers.
//! - [`DatasetExt`] holds out samples, cuts folds, selects samples by a rule and measures mean and sd. A part of a
//!   dataset is a [`Subset`].
//! - [`RandomSubset`] selects at random, or equally many of each class; [`ByLoss`] the hardest, the easiest, or those
//!   between, by [`Model::sample_losses`](crate::Model::sample_losses) or any other score. [`SelectionRule`] is open to
//!   custom rules.
//! - [`Augment`] shifts, mirrors, erases and adds noise whenever a sample is drawn for training.
//! - [`Batches`] shuffles by seed and epoch and cuts minibatches.
//!
//! ```
//! use bptt::data::{Batches, Dataset, DatasetExt, FashionMnist};
//!
//! let data = FashionMnist::open("data/fashion-mnist")?;
//! let (train, valid) = data.train().hold_out(12_000, 1)?;
//! let normalize = train.mean_sd()?;
//! assert!((normalize.mean()[0] - 0.286).abs() < 0.001);
//!
//! let mut batches = Batches::new(train.len(), 100, 1)?;
//! assert_eq!(batches.epoch(0).len(), 480);
//! assert_eq!(valid.len(), 12_000);
//! # Ok::<(), bptt::Error>(())
//! ```

mod arrays;
mod augment;
mod batches;
mod dataset;
mod ext;
mod fashion_mnist;
mod forward;
mod idx;
mod images;
mod moments;
mod row_major;
mod select;
mod split;
mod subset;

pub use arrays::Arrays;
pub use augment::{Augment, Augmented};
pub use batches::{Batches, samples, shuffle};
pub use dataset::{Dataset, Normalize, Sample, TargetShape};
pub use ext::DatasetExt;
pub use fashion_mnist::FashionMnist;
pub use idx::{IdxElem, read_idx};
pub use images::Images;
pub use select::{ByLoss, Candidates, RandomSubset, SelectionRule};
pub use subset::Subset;
