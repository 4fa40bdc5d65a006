//! A custom loss.

use std::f64::consts::LN_2;

use bptt::data::TargetShape;
use bptt::loss::{Loss, Tile};
use bptt::{Error, Real, Result, Shape};

/// The mean of ln cosh d with d = y − target: about d² / 2 near 0 and |d| far away; dy = tanh d.
#[derive(Clone, Copy, Debug)]
pub struct LogCosh;

impl<R: Real> Loss<R> for LogCosh {
    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        if targets == TargetShape::Values(output) {
            return Ok(());
        }
        let expected = format!("values of the output's shape, {output}");
        Err(Error::mismatch("log-cosh: targets", format!("{targets:?}"), expected))
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let (y, target, counts) = (tile.y, tile.targets.values(), tile.counted());
        for (i, dy) in tile.dy.data.iter_mut().enumerate() {
            let (t, lane) = (i / (y.shape.f * y.lanes), i % y.lanes);
            let d = (y.data[i] - target.data[i]).to_f64();
            // A target that is NaN is none.
            if !counts(t, lane) || target.data[i].to_f64().is_nan() {
                *dy = R::ZERO;
                continue;
            }
            tile.tallies[lane].loss += d.abs() + (-2.0 * d.abs()).exp().ln_1p() - LN_2;
            tile.tallies[lane].weight += 1.0;
            *dy = R::from_f64(d.tanh());
        }
    }
}
