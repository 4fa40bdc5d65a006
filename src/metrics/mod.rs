//! What a trained classifier is worth: accuracy, confusion matrix, precision, recall and F1.
