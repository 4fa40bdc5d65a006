//! Studies: many configurations run side by side, and their results in one table.
//!
//! - A [`Space`] makes configurations, all of a grid or some at random, as values of any type that serde supports.
//! - A [`Study`] runs a closure on each, one thread per run, and can keep the results in a file, from which a study that
//!   was interrupted resumes.
//! - A [`Table`] holds configurations and results; it can be printed, sorted, and written as CSV and JSON.
//! - [`Study::shard`] runs one part of a study, so that several machines can share it; [`merge`](fn@merge) makes one file of theirs.
//! - [`cross_validate`] makes one result from k runs; [`Summary`] is the mean and the spread of any repeats.
//!
//! # Examples
//! ```
//! use bptt::data::{Arrays, Dataset, DatasetExt};
//! use bptt::loss::CrossEntropy;
//! use bptt::nn::{Linear, Lstm};
//! use bptt::optim::Adam;
//! use bptt::tune::{Order, Space, Study};
//! use bptt::{Model, Trainer};
//! use ndarray::{Array1, Array3};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Config {
//!     hidden: usize,
//!     lr: f64,
//! }
//!
//! # fn main() -> bptt::Result<()> {
//! let x = Array3::from_shape_fn((90, 5, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { -(t as f32) });
//! let data = Arrays::classes(x, &Array1::from_shape_fn(90, |i| i % 2), ["up", "down"])?;
//! let (train, valid) = data.hold_out(30, 1)?;
//!
//! let configs: Vec<Config> = Space::new().choice("hidden", [2, 4]).choice("lr", [0.001, 0.03]).grid()?;
//! let mut table = Study::new().run(configs, |config| {
//!     let mut model = Model::builder(train.shape())
//!         .layer("lstm", Lstm::new(config.hidden).last())
//!         .layer("linear", Linear::new(2))
//!         .build(1)?;
//!     Trainer::new(CrossEntropy::default(), Adam::new(config.lr)).epochs(3).fit(&mut model, &train, None)?;
//!     Ok::<_, bptt::Error>(model.evaluate_with(&valid, &CrossEntropy::default())?.loss().unwrap())
//! })?;
//! table.sort_by("score", Order::Ascending)?;
//! println!("{table}");
//! assert_eq!(table.rows()[0].config.lr, 0.03);
//! # Ok(())
//! # }
//! ```

mod folds;
mod journal;
mod merge;
mod shard;
mod space;
mod study;
mod table;

pub use folds::{Summary, cross_validate};
pub use merge::{Merged, merge};
pub use shard::Shard;
pub use space::Space;
pub use study::{Finished, Study};
pub use table::{Order, Row, Table};

/// The runs in the bytes of a study's file, and the lines that are not runs: for tests of malformed files, which then need
/// no real files.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if it is not a study's.
#[doc(hidden)]
pub fn count_runs(bytes: &[u8]) -> crate::Result<(usize, usize)> {
    let (kept, _) = journal::parse(std::path::Path::new(crate::error::BYTES), bytes)?;
    Ok((kept.entries().len(), kept.unreadable.len()))
}
