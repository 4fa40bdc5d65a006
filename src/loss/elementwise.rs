//! What the losses that compare outputs and targets value by value have in common.

use super::{Tally, Tile};
use crate::data::TargetShape;
use crate::shape::MAX_LANES;
use crate::{Error, Real, Result, Shape};

/// The loss of one output and one target, which is all that such losses differ in. [`elementwise`] makes it a
/// [`Loss`](super::Loss) over tiles.
pub(super) trait Elementwise {
    /// The loss's name in errors.
    const NAME: &'static str;

    /// Checks the settings.
    fn check(&self, _output: Shape) -> Result<()> {
        Ok(())
    }

    /// See [`Loss::threshold`](super::Loss::threshold).
    fn threshold(&self) -> Option<f64> {
        None
    }

    /// The loss and its slope with respect to `y`.
    fn at(&self, feature: usize, y: f64, target: f64) -> (f64, f64);
}

/// Checks that each output has a target, and the settings.
pub(super) fn check<L: Elementwise>(loss: &L, output: Shape, targets: TargetShape) -> Result<()> {
    if targets != TargetShape::Values(output) {
        let expected = format!("a value for each of an output {output}");
        return Err(Error::mismatch(format!("{}: targets", L::NAME), format!("{targets:?}"), expected));
    }
    loss.check(output)
}

/// Sums and counts losses, and writes slopes. A target that is NaN counts as missing. Each lane has its own sum, so that
/// the order of summation does not depend on the width of the vectors.
#[inline(always)]
pub(super) fn tile<R: Real>(loss: &impl Elementwise, tile: Tile<'_, R>) {
    let Tile { y, targets, valid, lens, dy, tallies, .. } = tile;
    let (target, shape, lanes) = (targets.values(), y.shape, y.lanes);
    assert_eq!((target.shape, target.lanes), (shape, lanes), "targets have the shape of the output");
    // Pad lanes have no steps.
    let mut steps = [0; MAX_LANES];
    for (lane, steps) in steps[..valid].iter_mut().enumerate() {
        *steps = lens.map_or(shape.t, |lens| lens[lane] as usize);
    }
    let (mut losses, mut counts) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    let (losses, counts, steps) = (&mut losses[..lanes], &mut counts[..lanes], &steps[..lanes]);
    let rows = y.data.chunks_exact(lanes).zip(target.data.chunks_exact(lanes));
    for (row, ((y, target), dy)) in rows.zip(dy.data.chunks_exact_mut(lanes)).enumerate() {
        let (t, feature) = (row / shape.f, row % shape.f);
        let sums = losses.iter_mut().zip(&mut *counts).zip(steps);
        for (((y, target), dy), ((sum, count), &steps)) in y.iter().zip(target).zip(&mut *dy).zip(sums) {
            let (y, target) = (y.to_f64(), target.to_f64());
            let (value, slope) = loss.at(feature, y, target);
            let none = target.is_nan() | (t >= steps);
            *dy = R::from_f64(if none { 0.0 } else { slope });
            *sum += if none { 0.0 } else { value };
            *count += if none { 0.0 } else { 1.0 };
        }
    }
    for (tally, (&loss, &weight)) in tallies.iter_mut().zip(losses.iter().zip(&*counts)) {
        *tally += Tally { loss, weight };
    }
}

/// Implements [`Loss`](super::Loss) for an [`Elementwise`] loss, once for each scalar, so that it is compiled and
/// vectorised here.
macro_rules! elementwise {
    ($loss:ident, $($t:ident),*) => {$(
        impl super::Loss<$t> for $loss {
            fn check(&self, output: crate::Shape, targets: crate::data::TargetShape) -> crate::Result<()> {
                super::elementwise::check(self, output, targets)
            }
            fn describe(&self) -> crate::Description {
                crate::Description::new(stringify!($loss), self)
            }
            fn threshold(&self) -> Option<f64> {
                super::elementwise::Elementwise::threshold(self)
            }
            fn tile(&self, tile: super::Tile<'_, $t>) {
                crate::kernels::simd::vectorized(
                    #[inline(always)]
                    || super::elementwise::tile(self, tile),
                )
            }
        }
    )*};
}
pub(super) use elementwise;
