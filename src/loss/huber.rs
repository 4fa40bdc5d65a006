//! Huber loss.

use serde::{Deserialize, Serialize};

use super::elementwise::{Elementwise, elementwise};
use crate::{Error, Result, Shape};

/// Squared error near the target and absolute error far from it; PyTorch's `HuberLoss`, with its default.
///
/// With d = y − t: loss = d² / 2, dy = d where |d| ≤ δ; elsewhere loss = δ (|d| − δ / 2), dy = δ sgn(d).
///
/// Summed over all values that have a target and divided by their number. A target that is NaN counts as missing:
/// it adds neither loss nor gradient.
///
/// # Shapes
/// y `[T, F, B]`, targets `[T, F, B]`
/// # Source
/// Huber 1964.
/// # Examples
/// ```
/// use bptt::loss::{Loss, Huber, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // One value of two samples, in two lanes.
/// let (shape, mut dy) = (Shape::new(1, 1), [0.0; 2]);
/// let (y, target) = ([1.0, 2.0f32], [1.5, 4.0]);
/// let targets = Targets::Values(Seq::new(&target, shape, 2));
/// let (y, dy_out, mut tallies) = (Seq::new(&y, shape, 2), SeqMut::new(&mut dy, shape, 2), [Tally::default(); 2]);
/// Huber::default().tile(Tile::new(y, targets, 2, dy_out, &mut tallies));
/// let tally: Tally = tallies.into_iter().sum();
/// assert_eq!(tally.mean(), Some((0.125 + 1.5) / 2.0));
/// assert_eq!(dy, [-0.5, -1.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Huber {
    delta: f64,
}

impl Default for Huber {
    fn default() -> Self {
        Self { delta: 1.0 }
    }
}

impl Huber {
    /// δ: the distance beyond which the loss grows linearly; 1 by default.
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }
}

impl Elementwise for Huber {
    const NAME: &'static str = "Huber loss";

    fn check(&self, _: Shape) -> Result<()> {
        if self.delta.is_finite() && self.delta > 0.0 {
            return Ok(());
        }
        Err(Error::config("delta", format!("found {}, expected a number above 0", self.delta)))
    }

    #[inline(always)]
    fn at(&self, _: usize, y: f64, target: f64) -> (f64, f64) {
        let (d, delta) = (y - target, self.delta);
        if d.abs() <= delta {
            (0.5 * d * d, d)
        } else {
            (delta * (d.abs() - 0.5 * delta), delta * d.signum())
        }
    }
}

elementwise!(Huber, f32, f64);
