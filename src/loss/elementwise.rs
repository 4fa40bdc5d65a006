//! What the losses share that compare an output with its target value by value.

use super::{Tally, Targets};
use crate::data::TargetShape;
use crate::nn::MAX_LANES;
use crate::{Error, Real, Result, Seq, SeqMut, Shape};

/// A loss of one output and one target: all that such losses differ in. [`elementwise`] makes it a
/// [`Loss`](super::Loss) over tiles.
pub(super) trait Elementwise {
    /// What errors call the loss.
    const NAME: &'static str;

    /// Checks the settings.
    fn check(&self, output: Shape) -> Result<()> {
        let _ = output;
        Ok(())
    }

    /// The loss and its slope by `y`.
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

/// Losses, how many there are, and slopes. A target that is NaN is none. Each lane has its own sum, so that the order
/// of summation is the same however wide the vectors are.
#[inline(always)]
pub(super) fn tile<R: Real>(
    loss: &impl Elementwise,
    y: Seq<'_, R>,
    targets: Targets<'_, R>,
    valid: usize,
    dy: SeqMut<'_, R>,
) -> Tally {
    let (target, shape, lanes) = (targets.values(), y.shape, y.lanes);
    assert_eq!((target.shape, target.lanes), (shape, lanes), "targets have the shape of the output");
    let (mut losses, mut counts) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    let (losses, counts) = (&mut losses[..lanes], &mut counts[..lanes]);
    let rows = y.data.chunks_exact(lanes).zip(target.data.chunks_exact(lanes));
    for (row, ((y, target), dy)) in rows.zip(dy.data.chunks_exact_mut(lanes)).enumerate() {
        let feature = row % shape.f;
        let sums = losses.iter_mut().zip(&mut *counts);
        for (((y, target), dy), (sum, count)) in y.iter().zip(target).zip(&mut *dy).zip(sums) {
            let (y, target) = (y.to_f64(), target.to_f64());
            let (value, slope) = loss.at(feature, y, target);
            let none = target.is_nan();
            *dy = R::from_f64(if none { 0.0 } else { slope });
            *sum += if none { 0.0 } else { value };
            *count += if none { 0.0 } else { 1.0 };
        }
        dy[valid..].fill(R::ZERO);
    }
    Tally { loss: losses[..valid].iter().sum(), weight: counts[..valid].iter().sum() }
}

/// Implements [`Loss`](super::Loss) for an [`Elementwise`] loss, once for each scalar, so that it is compiled and
/// vectorised here.
macro_rules! elementwise {
    ($loss:ident, $($t:ident),*) => {$(
        impl super::Loss<$t> for $loss {
            fn check(&self, output: crate::Shape, targets: crate::data::TargetShape) -> crate::Result<()> {
                super::elementwise::check(self, output, targets)
            }
            fn tile(
                &self,
                y: crate::Seq<'_, $t>,
                targets: super::Targets<'_, $t>,
                valid: usize,
                dy: crate::SeqMut<'_, $t>,
            ) -> super::Tally {
                crate::kernels::simd::vectorized(
#[inline(always)]
|| super::elementwise::tile(self, y, targets, valid, dy),
)
            }
        }
    )*};
}
pub(super) use elementwise;
