//! Data: what a model learns from, where it is read from, and how it is split and cut into minibatches.
//!
//! - [`Dataset`]: samples of one shape with their targets. A trainer asks nothing else, so implement it for your own.
//! - [`FashionMnist`] is read from its official files, any other IDX file by [`read_idx`]; [`Images`] holds grey
//!   images, [`Arrays`] sequences of numbers, which [`pad`] brings to one length; [`Windows`] cuts one long series.
//! - [`DatasetExt`] holds out samples, cuts folds, by class or by group, selects samples by a rule, weights classes and measures
//!   mean and sd. A part of a dataset is a [`Subset`].
//! - [`RandomSubset`] selects at random, or equally many of each class; [`ByLoss`] the hardest, the easiest, or those
//!   between, by [`Model::sample_losses`](crate::Model::sample_losses) or any other score; [`Coverage`] those of all
//!   degrees of difficulty, and [`BetaSampling`] the uncertain ones, by [`Dynamics`](crate::train::Dynamics) of a training.
//!   [`SelectionRule`] is open to custom rules.
//! - [`Augment`] shifts, mirrors, erases and adds noise whenever a sample is drawn for training.
//! - A [`Sampler`] decides what an epoch draws; [`Batches`] cuts the draws into minibatches. [`RandomShare`],
//!   [`HardestShare`] and [`InfoBatch`] choose anew in each epoch.
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
//! assert_eq!(batches.epoch(0)?.len(), 480);
//! assert_eq!(valid.len(), 12_000);
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! # How to bring data
//!
//! **Arrays.** [`Arrays`] takes sequences `[n, T, F]` with a class each ([`Arrays::classes`]), a class for each step
//! ([`Arrays::step_classes`]), values for each step ([`Arrays::values`]) or a vector each ([`Arrays::vectors`]). Sequences
//! that end before T have [`lengths`](Arrays::lengths): the steps after are padding, whose content does not matter; [`pad`] makes
//! both of arrays `[T, F]` of different lengths, and [`Arrays::unlabelled`] takes what is only to be predicted from. A step
//! without a target has the class [`Arrays::NO_CLASS`] or the value NaN. [`weights`](Arrays::weights) multiply the losses
//! of samples.
//!
//! ```
//! use bptt::ndarray::{Array1, Array3};
//! use bptt::prelude::*;
//!
//! // 60 sequences of at most 8 steps with 2 features. Every third one has only 5 steps.
//! let length = |i: usize| if i % 3 == 0 { 5 } else { 8 };
//! let x = Array3::from_shape_fn((60, 8, 2), |(i, t, f)| {
//!     let slope = if i % 2 == 0 { -0.5 } else { 0.5 };
//!     if t < length(i) { slope * t as f32 + f as f32 + i as f32 / 60.0 } else { 0.0 }
//! });
//! let y = Array1::from_shape_fn(60, |i| i % 2);
//! let weights: Vec<f64> = y.iter().map(|&class| if class == 0 { 1.0 } else { 2.0 }).collect();
//! let lengths: Vec<usize> = (0..60).map(length).collect();
//! let data = Arrays::classes(x, &y, ["falling", "rising"])?.lengths(lengths)?.weights(weights)?;
//!
//! let (train, valid) = data.hold_out_stratified(20, 1)?;
//! let mut model = Model::builder(data.shape())
//!     .normalize(train.mean_sd_per_feature()?) // of the training samples only
//!     .layer("lstm", Lstm::new(4).last())
//!     .layer("linear", Linear::new(2))
//!     .build(1)?;
//! let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(20).batch_size(10);
//! trainer.fit(&mut model, &train, Some(&valid))?;
//! assert!(model.evaluate(&valid)?.accuracy() > Some(0.9));
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! **One long series.** [`Windows`] takes it as `[time, columns]`: windows with a horizon, columns to read and columns to
//! forecast, and a split in time.
//!
//! **Other sources.** Implement [`Dataset`] for data that are computed, read from a file on demand, or stored in another
//! form. It is read from several threads at once and in any order, so what [`read`](Dataset::read) writes must depend on
//! the [`Sample`] alone: its index, and its key where something is random.
//!
//! **What is drawn.** By default every sample is drawn once per epoch, in an order that depends on seed and epoch. To train
//! on fewer, select a [`Subset`]; to change samples as they are drawn, use [`Augment`].

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
mod pad;
mod row_major;
mod sampler;
mod select;
mod split;
mod subset;
mod windows;

pub use arrays::Arrays;
pub use augment::{Augment, Augmented};
pub use batches::{Batch, Batches, shuffle};
pub use dataset::{Dataset, Normalize, Sample, TargetShape};
pub use ext::DatasetExt;
pub use fashion_mnist::FashionMnist;
pub use idx::{IdxElem, read_idx, read_idx_bytes};
pub use images::Images;
pub use pad::{drop_masked, pad, pad_classes};
pub use sampler::{
    Balanced, Draw, HardestShare, InfoBatch, Population, RandomShare, Sampler, SequentialStreams, Shuffled,
    WeightedRandom,
};
use select::Amount;
pub use select::{BetaSampling, ByLoss, Candidates, Coverage, RandomSubset, SelectionRule};
pub use subset::Subset;
pub use windows::Windows;
