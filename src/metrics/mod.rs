//! Measures of a trained model: [`ConfusionMatrix`] with accuracy, precision, recall and F1 for classes; mean absolute
//! error, root mean squared error and R² for real values.

mod confusion;
mod regression;

pub use confusion::ConfusionMatrix;
pub use regression::{mean_absolute_error, r2, root_mean_squared_error};
