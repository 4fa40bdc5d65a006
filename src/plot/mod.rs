//! Charts as SVG, and reports of trainings as HTML, with the feature `plot`.
//!
//! - [`Report`]: one page about a training, with its learning curves, confusion matrix and model.
//! - [`Chart`] of [`Line`]s and [`Bars`]: a picture of anything else.
//! - [`html`]: pieces for pages of your own.
//!
//! # Examples
//! ```
//! use bptt::metrics::ConfusionMatrix;
//! use bptt::plot::Report;
//! use bptt::train::{Epoch, History, Score};
//!
//! let score = |loss, accuracy| Score { loss: Some(loss), accuracy: Some(accuracy) };
//! let epoch = |epoch, loss| {
//!     let valid = Some(score(loss + 0.1, 0.8));
//!     Epoch { epoch, train: score(loss, 0.9), valid, lr: 0.001, seconds: 1.5 }
//! };
//! let history = History { epochs: vec![epoch(1, 0.5), epoch(2, 0.25)] }; // of `Trainer::fit`
//! let confusion = ConfusionMatrix::from_rows(&[[9, 1], [3, 7]])?.with_names(["cat", "dog"])?;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("report.html");
//! Report::new(&history).confusion(&confusion).save(&path)?;
//! # Ok::<(), bptt::Error>(())
//! ```

mod axis;
mod chart;
pub mod html;
mod report;
mod series;

pub use chart::Chart;
pub use report::Report;
pub use series::{Bars, Line};
