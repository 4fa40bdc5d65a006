//! A loss of one's own.

use std::f64::consts::LN_2;

use bptt::data::TargetShape;
use bptt::loss::{Loss, Tally, Targets};
use bptt::{Error, Real, Result, Seq, SeqMut, Shape};

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

    fn tile(&self, y: Seq<R>, targets: Targets<R>, valid: usize, dy: SeqMut<R>) -> Tally {
        let Targets::Values(target) = targets else { panic!("log-cosh takes values, not classes") };
        let mut tally = Tally::default();
        for (i, dy) in dy.data.iter_mut().enumerate() {
            if i % y.lanes >= valid {
                *dy = R::ZERO;
                continue;
            }
            let d = (y.data[i] - target.data[i]).to_f64();
            tally.loss += d.abs() + (-2.0 * d.abs()).exp().ln_1p() - LN_2;
            tally.weight += 1.0;
            *dy = R::from_f64(d.tanh());
        }
        tally
    }
}
