//! Which steps of a heartbeat-like signal are beats? One step in fifteen is, so the loss is a custom one, focal loss.

use bptt::data::TargetShape;
use bptt::gradcheck::Conform;
use bptt::loss::{Loss, Tile};
use bptt::metrics::{average_precision, roc_auc};
use bptt::ndarray::Array3;
use bptt::prelude::*;
use bptt::{Error, Real, Result, rng};

/// −(1 − p)² ln p, where p is the probability of the right answer: a step that is easy hardly counts. Targets are 0 or 1.
///
/// With z the output where the target is 1, and minus the output where it is 0, p = σ(z), and
/// dz = (1 − p)² (2 p ln p + p − 1).
#[derive(Clone, Copy, Debug)]
struct Focal;

impl<R: Real> Loss<R> for Focal {
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        if targets == TargetShape::Values(output) {
            return Ok(());
        }
        Err(Error::mismatch("focal loss: targets", format!("{targets:?}"), format!("values {output}")))
    }

    // So that a run shows an accuracy, and the check below draws targets that are 0 and 1.
    fn threshold(&self) -> Option<f64> {
        Some(0.0)
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let (y, target, counts) = (tile.y, tile.targets.values(), tile.counted());
        for (i, dy) in tile.dy.data.iter_mut().enumerate() {
            let (t, lane, target) = (i / (y.shape.f * y.lanes), i % y.lanes, target.data[i].to_f64());
            *dy = R::ZERO;
            // Beyond a sequence's end, and where the target is NaN, there is nothing to learn.
            if counts(t, lane) && !target.is_nan() {
                let sign = if target > 0.5 { 1.0 } else { -1.0 };
                let z = sign * y.data[i].to_f64();
                let ln_p = -((-z).max(0.0) + (-z.abs()).exp().ln_1p());
                let p = ln_p.exp();
                tile.tallies[lane].loss -= (1.0 - p).powi(2) * ln_p;
                tile.tallies[lane].weight += 1.0;
                *dy = R::from_f64(sign * (1.0 - p).powi(2) * (2.0 * p * ln_p + p - 1.0));
            }
        }
    }
}

/// `n` signals of 60 steps and, for each step, whether a beat is there: a short rise and fall. Noise has peaks, too.
fn signals(n: usize, seed: u64) -> Result<Arrays> {
    let (mut rng, mut x, mut y) = (rng::rng(seed), Array3::zeros((n, 60, 1)), Array3::zeros((n, 60, 1)));
    for i in 0..n {
        let mut next = 1 + rng::below(&mut rng, 12) as usize;
        for t in 0..60 {
            x[[i, t, 0]] += 0.6 * rng::normals(&mut rng)[0] as f32;
            if t == next && t + 1 < 60 {
                [1.0, 2.5, 1.0].iter().zip(t - 1..).for_each(|(rise, t)| x[[i, t, 0]] += rise);
                y[[i, t, 0]] = 1.0;
                next += 10 + rng::below(&mut rng, 10) as usize;
            }
        }
    }
    Arrays::values(x, y)
}

pub fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // Gradients, padding, missing targets and extreme outputs, in one call.
    let steps = Shape::new(3, 2);
    Conform::default().loss(&Focal, steps, TargetShape::Values(steps))?;

    let (train, test) = (signals(400, 1)?, signals(200, 2)?);
    let mut model = Model::builder(train.shape())
        .normalize(train.mean_sd()?)
        .layer("gru", Gru::new(16).bidirectional())
        .layer("linear", Linear::new(1)) // at each step
        .build(1)?;
    Trainer::new(Focal, Adam::new(1e-2)).epochs(8).batch_size(32).seed(1).fit(&mut model, &train, None)?;

    let truth: Vec<bool> = test.target_values()?.iter().map(|&y| y > 0.5).collect();
    let scores = model.predict(&test)?;
    let precision = average_precision(truth.iter().copied(), &scores)?;
    println!("average precision {precision:.3}, ROC-AUC {:.3}", roc_auc(truth.iter().copied(), &scores)?);
    assert!(precision > 0.9);
    Ok(())
}
