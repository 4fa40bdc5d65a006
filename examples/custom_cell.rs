//! A custom recurrent cell with a parameter of its own: leaky units, each of which learns how slow it is.
//!
//! `cargo run --example custom_cell` holds it to everything that a layer must keep, its hand-written backward pass
//! included, trains it to tell slow waves from fast ones, shows how slow its units have become, and saves and loads the
//! model.

#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::process::ExitCode;

use bptt::data::Arrays;
use bptt::gradcheck::Conform;
use bptt::loss::CrossEntropy;
use bptt::nn::Linear;
use bptt::nn::rnn::cell::tanh;
use bptt::nn::rnn::{Cell, CellStep, CellStepBack, CellTensor, Recurrent};
use bptt::optim::Adam;
use bptt::{Init, Model, Real, Result, Shape, Trainer};
use ndarray::{Array1, Array3};
use program::{End, say};
use serde::{Deserialize, Serialize};

/// h' = (1 − α) ⊙ h + α ⊙ g, where g = tanh(W x + U h + b) and α = σ(w): small where a unit is slow.
///
/// # Shapes
/// x `[T, I, B]` → y `[T, H, B]`; the state is `[layers, H, B]`.
/// # Parameters
/// Those of `nn::Rnn`, and `weight_leak_lk [H]`, the w above, 0 at first: half of h is kept.
/// # Saved
/// g `[T, H, B]` and h `[T + 1, H, B]`
/// # Source
/// Jaeger et al. 2007, "Optimization and applications of echo state networks with leaky-integrator neurons".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Leaky;

/// α of the unit that value `i` of `[H, lanes]` belongs to.
fn alpha<R: Real>(params: &[R], i: usize, lanes: usize) -> R {
    R::ONE / (R::ONE + (-params[i / lanes]).exp())
}

impl Cell for Leaky {
    const KIND: &'static str = "leaky";
    const GATES: usize = 1;
    const HAS_CELL: bool = false;
    const TENSORS: &'static [CellTensor] =
        &[CellTensor { name: "weight_leak", blocks: 1, init: |_| Init::Constant(0.0) }];

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        // Backward needs g: it stays in place of the pre-activations.
        tanh(step.gates);
        for (i, h) in step.h.iter_mut().enumerate() {
            let before = step.h_prev[i];
            *h = before + alpha(step.params, i, step.lanes) * (step.gates[i] - before);
        }
    }

    /// da = dh' ⊙ α ⊙ (1 − g²); dh += dh' ⊙ (1 − α); dw += dh' ⊙ (g − h) ⊙ α ⊙ (1 − α)
    fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
        for (i, &dh) in step.dh.iter().enumerate() {
            let (alpha, g) = (alpha(step.params, i, step.lanes), step.gates[i]);
            step.gates[i] = dh * alpha * (R::ONE - g * g);
            step.dh_prev[i] += dh * (R::ONE - alpha);
            // For each lane by itself; the stack adds the lanes up.
            step.grads[i] += dh * (g - step.h_prev[i]) * alpha * (R::ONE - alpha);
        }
    }
}

/// Sums of a slow and a fast wave, one of which is louder.
fn waves(n: usize, first: usize) -> Result<Arrays> {
    let (slow, fast) = (0.05f32, 1.9f32);
    let x = Array3::from_shape_fn((n, 60, 1), |(i, t, _)| {
        let (phase, t) = ((first + i) as f32 * 2.399, t as f32);
        let loud = if i.is_multiple_of(2) { 0.6 } else { 0.4 };
        loud * (slow * t + phase).sin() + (1.0 - loud) * (fast * t + 3.0 * phase).sin()
    });
    Arrays::classes(x, &Array1::from_shape_fn(n, |i| i % 2), ["slow", "fast"])
}

fn main() -> ExitCode {
    program::main(run)
}

fn run() -> program::Result<End> {
    let leaky = |units| Recurrent::with_cell(Leaky, units);
    // Gradients, and everything else that a layer must keep: lengths, padding, streams, files and so on.
    let conform = Conform::default().load(Recurrent::<Leaky>::from_description);
    say(format!("{}\n", conform.layer(|| leaky(3).layers(2), Shape::new(6, 2))?));
    conform.layer(|| leaky(3).layers(2).bidirectional(), Shape::new(6, 2))?;

    let (train, test) = (waves(400, 0)?, waves(200, 1000)?);
    let mut model: Model = Model::builder(Shape::new(60, 1))
        .layer("leaky", leaky(12))
        .layer("pool", bptt::nn::Pool::max())
        .layer("linear", Linear::new(2))
        .classes(["slow", "fast"])
        .build(1)?;
    say(format!("{model}\n"));
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(30);
    let history = trainer.fit(&mut model, &train, None)?;
    for epoch in history.epochs.iter().step_by(5) {
        say(epoch);
    }
    say(model.evaluate(&test)?.confusion().expect("the targets are classes"));
    let leaks = model.params().get("leaky.weight_leak_l0").expect("a tensor of the cell");
    let mut alphas: Vec<f32> = leaks.iter().map(|w| 1.0 / (1.0 + (-w).exp())).collect();
    alphas.sort_by(f32::total_cmp);
    say(format!("α of the units, 0.5 before training: {alphas:.2?}"));

    // The file names the kind of each layer; the cell says what is built of it.
    let path = std::env::temp_dir().join("bptt-custom-cell.safetensors");
    model.save(&path)?;
    let loaded = Model::<f32>::load_with(&path, Recurrent::<Leaky>::from_description)?;
    assert_eq!(loaded.evaluate(&test)?.accuracy(), model.evaluate(&test)?.accuracy());
    say(format!("saved to {}, and loaded", path.display()));
    Ok(End::Finished)
}
