//! What a trained classifier is worth: accuracy, confusion matrix, precision, recall and F1.

mod confusion;

pub use confusion::ConfusionMatrix;
