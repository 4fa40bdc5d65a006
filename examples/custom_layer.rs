//! A custom layer: a moving average that learns, for each feature, how fast to forget.
//!
//! `cargo run --example custom_layer` checks its hand-written backward pass against differences, shows that the check
//! finds a wrong sign, trains the layer below an LSTM on noisy sequences, and saves and loads the model.

#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::process::ExitCode;

use bptt::data::Arrays;
use bptt::gradcheck::GradCheck;
use bptt::loss::CrossEntropy;
use bptt::nn::{Backward, Build, Built, Description, Forward, Layer, Linear, Lstm};
use bptt::optim::Adam;
use bptt::{Init, Model, Real, Result, Shape, Trainer, rng};
use ndarray::{Array1, Array3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;
use program::{End, say};

/// h' = a ⊙ h + (1 − a) ⊙ x, where a = σ(w)
///
/// # Shapes     x `[T, F, B]` → y = h, `[T, F, B]`; the state is h, `[F, B]`
/// # Parameters `w [F]`
/// # Saved      the initial state; the others are y
#[derive(Debug)]
struct Average {
    /// A factor for the gradient of a: −1 is a deliberate mistake for the check to find.
    sign: f64,
}

impl<R: Real> Layer<R> for Average {
    fn describe(&self) -> Description {
        Description::new("average", ())
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let input = build.input();
        build.tensor("w", [input.units.clone()], Init::Uniform(1.0))?;
        let features = input.shape.f;
        Ok(Built::new(input.clone()).cache(features).state(features).packed(features))
    }

    /// Stores a, so that it is computed once per update and not once per value.
    fn pack(&self, _: Shape, params: &[R], packed: &mut [R]) {
        packed.iter_mut().zip(params).for_each(|(a, &w)| *a = R::ONE / (R::ONE + (-w).exp()));
    }

    fn forward(&self, Forward { cx, x, mut y, state, cache, .. }: Forward<'_, R>) {
        if cx.mode.keeps_history() {
            cache.copy_from_slice(state);
        }
        for t in 0..x.shape.t {
            for (i, (h, &x)) in state.iter_mut().zip(x.step(t)).enumerate() {
                let a = cx.packed[i / y.lanes];
                *h = a * *h + (R::ONE - a) * x;
            }
            y.step(t).copy_from_slice(state);
        }
    }

    /// dh' = dy + the gradient from the step after; da = Σ dh' ⊙ (h − x); dx = (1 − a) ⊙ dh'; dh = a ⊙ dh'
    fn backward(&self, pass: Backward<'_, R>) {
        let Backward { cx, x, y, dy, mut dx, dstate, cache, grads, .. } = pass;
        for t in (0..x.shape.t).rev() {
            let before = if t > 0 { y.step(t - 1) } else { &*cache };
            for (i, dh) in dstate.iter_mut().enumerate() {
                let a = cx.packed[i / x.lanes];
                *dh += dy.step(t)[i];
                let da = *dh * (before[i] - x.step(t)[i]);
                grads[i / x.lanes] += R::from_f64(self.sign) * da * a * (R::ONE - a);
                if let Some(dx) = &mut dx {
                    dx.step(t)[i] = (R::ONE - a) * *dh;
                }
                *dh = a * *dh;
            }
        }
    }
}

/// Noise about a mean that is a little above or a little below 0.
fn above_or_below(n: usize, seed: u64) -> Result<Arrays> {
    let noise = Uniform::new(-1.0, 1.0).expect("a range");
    let mut x: Array3<f32> = Array3::random_using((n, 40, 2), noise, &mut rng::rng(seed));
    for (i, mut x) in x.outer_iter_mut().enumerate() {
        x += if i.is_multiple_of(2) { 0.2 } else { -0.2 };
    }
    Arrays::classes(x, &Array1::from_shape_fn(n, |i| i % 2), ["above", "below"])
}

fn main() -> ExitCode {
    program::main(run)
}

fn run() -> program::Result<End> {
    let report = GradCheck::default().layer(Average { sign: 1.0 }, Shape::new(6, 3))?;
    say(format!("the correct layer\n{report}"));
    report.assert_below(1e-6);
    let report = GradCheck::default().layer(Average { sign: -1.0 }, Shape::new(6, 3))?;
    say(format!("with one sign reversed: w is 200 % off, everything else is correct\n{report}"));
    assert!(report.max_error() > 1.0);

    let (train, test) = (above_or_below(600, 1)?, above_or_below(300, 2)?);
    let mut model: Model = Model::builder(Shape::new(40, 2))
        .layer("average", Average { sign: 1.0 })
        .layer("lstm", Lstm::new(8).last())
        .layer("linear", Linear::new(2))
        .classes(["above", "below"])
        .build(1)?;
    say(format!("{model}\n"));
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(5);
    for epoch in trainer.fit(&mut model, &train, None)?.epochs {
        say(epoch);
    }
    say(model.evaluate(&test)?.confusion().expect("the targets are classes"));

    // The file has the kind of each layer; this closure makes the layers that it knows.
    let path = std::env::temp_dir().join("bptt-custom-layer.safetensors");
    model.save(&path)?;
    let known = |d: &Description| (d.kind == "average").then(|| Box::new(Average { sign: 1.0 }) as _);
    let loaded = Model::<f32>::load_with(&path, known)?;
    assert_eq!(loaded.evaluate(&test)?.accuracy(), model.evaluate(&test)?.accuracy());
    say(format!("saved to {}, and loaded", path.display()));
    Ok(End::Finished)
}
