//! Absolute error.

use serde::{Deserialize, Serialize};

use super::elementwise::{Elementwise, elementwise};

/// Absolute error; PyTorch's `L1Loss`.
///
/// loss = |y − t|; dy = sgn(y − t), 0 where they are equal
///
/// Summed over all values that have a target and divided by their number. A target that is NaN counts as missing:
/// it adds neither loss nor gradient.
///
/// # Shapes
/// y `[T, F, B]`, targets `[T, F, B]`
/// # Source
/// Laplace 1774.
/// # Examples
/// ```
/// use bptt::loss::{Loss, L1, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // One value of two samples, in two lanes.
/// let (shape, mut dy) = (Shape::new(1, 1), [0.0; 2]);
/// let (y, target) = ([1.0, 2.0f32], [1.0, 4.0]);
/// let targets = Targets::Values(Seq::new(&target, shape, 2));
/// let (y, dy_out, mut tallies) = (Seq::new(&y, shape, 2), SeqMut::new(&mut dy, shape, 2), [Tally::default(); 2]);
/// L1.tile(Tile::new(y, targets, 2, dy_out, &mut tallies));
/// let tally: Tally = tallies.into_iter().sum();
/// assert_eq!(tally.mean(), Some(1.0));
/// assert_eq!(dy, [0.0, -1.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct L1;

impl Elementwise for L1 {
    const NAME: &'static str = "absolute error";

    #[inline(always)]
    fn at(&self, _: usize, y: f64, target: f64) -> (f64, f64) {
        let d = y - target;
        (d.abs(), sign(d))
    }
}

/// The slope of |d|, with 0 at 0.
#[inline(always)]
pub(super) fn sign(d: f64) -> f64 {
    if d == 0.0 { 0.0 } else { d.signum() }
}

elementwise!(L1, f32, f64);
