//! A model to save and to load.

use std::path::PathBuf;

use bptt::data::Normalize;
use bptt::nn::{Activation, Linear, Lstm, Rnn};
use bptt::{Model, Real, Shape};

/// A model with something of everything.
pub fn everything<R: Real>() -> Model<R> {
    Model::builder(Shape::new(4, 3))
        .normalize(Normalize::per_feature(vec![0.1, -0.2, 0.3], vec![0.5, 1.0, 1.0 / 3.0]).unwrap())
        .layer("rnn", Rnn::new(4).relu())
        .layer("lstm", Lstm::new(5).layers(2).last())
        .layer("tanh", Activation::tanh())
        .layer("linear", Linear::new(2))
        .classes(["no", "yes"])
        .build(7)
        .unwrap()
}

/// A folder that is gone at the end, and the path of a file in it.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}
