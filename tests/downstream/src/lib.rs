//! What a stranger builds on bptt: a model of their own arrays, with a custom layer, cell, loss, sampler and all-reduce.

mod hardest_half;
mod janet;
mod log_cosh;
mod residual;
mod softsign;
mod team;

pub use hardest_half::HardestHalf;
pub use janet::Janet;
pub use log_cosh::LogCosh;
pub use residual::Residual;
pub use softsign::Softsign;
pub use team::{Rank, team};

use bptt::ndarray::{Array2, Array3};
use bptt::nn::rnn::Recurrent;
use bptt::nn::{Description, Layer};
use bptt::prelude::*;
use bptt::{Real, Result};

/// Sine waves of random phase and pace, 20 values each, and the value that comes next.
pub fn waves(n: usize) -> (Array3<f32>, Array2<f32>) {
    let wave = |i: usize, t: usize| {
        let (phase, pace) = (i as f32 * 2.399, 0.2 + 0.3 * (i % 17) as f32 / 17.0);
        (phase + pace * t as f32).sin()
    };
    (
        Array3::from_shape_fn((n, 20, 1), |(i, t, _)| wave(i, t)),
        Array2::from_shape_fn((n, 1), |(i, _)| wave(i, 20)),
    )
}

/// Learns to continue the waves.
pub fn learn(epochs: usize) -> Result<Model> {
    let (x, y) = waves(400);
    let data = Arrays::vectors(x, y)?;
    let mut model = Model::builder(Shape::new(20, 1))
        .layer("lstm", Lstm::new(16).last())
        .layer("softsign", Softsign)
        .layer("linear", Linear::new(1))
        .build(1)?;
    let mut trainer = Trainer::new(LogCosh, Adam::new(0.01)).epochs(epochs).batch_size(32);
    trainer.fit(&mut model, &data, None)?;
    Ok(model)
}

/// Builds the layers of this crate when a model is loaded.
pub fn layers<R: Real>(description: &Description) -> Option<Box<dyn Layer<R>>> {
    let softsign = (description.kind == Softsign::KIND).then(|| Box::new(Softsign) as _);
    softsign.or_else(|| Recurrent::<Janet>::from_description(description))
}
