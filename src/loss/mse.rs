//! Squared error.

use serde::{Deserialize, Serialize};

use super::elementwise::{Elementwise, elementwise};

/// Squared error; PyTorch's `MSELoss`.
///
/// loss = (y − t)²; dy = 2 (y − t)
///
/// Summed over all values that have a target and divided by their number. A target that is NaN counts as missing:
/// it adds neither loss nor gradient.
///
/// # Shapes
/// y `[T, F, B]`, targets `[T, F, B]`
/// # Source
/// Legendre 1805.
/// # Examples
/// ```
/// use bptt::loss::{Loss, Mse, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // One value of two samples, in two lanes.
/// let (shape, mut dy) = (Shape::new(1, 1), [0.0; 2]);
/// let (y, target) = ([1.0, 2.0f32], [1.0, 4.0]);
/// let targets = Targets::Values(Seq::new(&target, shape, 2));
/// let (y, dy_out, mut tallies) = (Seq::new(&y, shape, 2), SeqMut::new(&mut dy, shape, 2), [Tally::default(); 2]);
/// Mse.tile(Tile::new(y, targets, 2, dy_out, &mut tallies));
/// let tally: Tally = tallies.into_iter().sum();
/// assert_eq!(tally.mean(), Some(2.0));
/// assert_eq!(dy, [0.0, -4.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mse;

impl Elementwise for Mse {
    const NAME: &'static str = "squared error";

    #[inline(always)]
    fn at(&self, _: usize, y: f64, target: f64) -> (f64, f64) {
        let d = y - target;
        (d * d, 2.0 * d)
    }
}

elementwise!(Mse, f32, f64);
