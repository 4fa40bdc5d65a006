//! Measures of a trained model.
//!
//! - Classes predicted: [`ConfusionMatrix`] with accuracy, precision, recall, F1, Matthews' coefficient, Cohen's κ, and a
//!   report.
//! - Scores of classes: [`log_loss`], [`top_k_accuracy`], [`roc_auc`], [`roc_auc_macro`], [`average_precision`].
//! - Whether probabilities are what they say: [`Calibration`], with the expected calibration error, and [`Temperature`], which
//!   mends it.
//! - Sequences of labels: [`edit_distance`].
//! - Real values: [`mean_absolute_error`], [`root_mean_squared_error`], [`r2`].
//!
//! # Examples
//! ```
//! use bptt::data::{Arrays, DatasetExt};
//! use bptt::metrics::{Calibration, log_loss, top_k_accuracy};
//! use bptt::{Model, Shape, nn::{Linear, Lstm}};
//! use ndarray::Array3;
//!
//! let x = Array3::from_shape_fn((20, 5, 2), |(i, t, f)| ((i % 3) + t + f) as f32 / 20.0);
//! let classes: Vec<_> = (0..20).map(|i| i % 3).collect();
//! let test = Arrays::classes(x, &classes, ["a", "b", "c"])?;
//! let model: Model = Model::builder(Shape::new(5, 2))
//!     .layer("lstm", Lstm::new(4).last())
//!     .layer("linear", Linear::new(3))
//!     .build(1)?;
//!
//! let (truth, probabilities) = (test.target_classes()?, model.predict_proba(&test)?);
//! assert!(log_loss(truth.iter().copied(), &probabilities)? > 0.0);
//! assert_eq!(top_k_accuracy(truth.iter().copied(), &probabilities, 3)?, 1.0);
//! println!("{}", Calibration::of_classes(truth, &probabilities, 10)?.expected_error());
//! # Ok::<(), bptt::Error>(())
//! ```

mod agreement;
mod calibration;
mod confusion;
mod edit_distance;
mod ranking;
mod regression;
#[cfg(test)]
mod scikit_learn;
mod scores;

pub use calibration::{Calibration, CalibrationBin, Temperature};
pub use confusion::ConfusionMatrix;
pub use edit_distance::edit_distance;
pub use ranking::{average_precision, roc_auc, roc_auc_macro};
pub use regression::{mean_absolute_error, r2, root_mean_squared_error};
pub use scores::{log_loss, top_k_accuracy};
