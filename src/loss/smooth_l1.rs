//! Smooth absolute error.

use serde::{Deserialize, Serialize};

use super::elementwise::{Elementwise, elementwise};
use super::l1::sign;
use crate::{Error, Result, Shape};

/// Absolute error, rounded off near the target; PyTorch's `SmoothL1Loss`, with its default.
///
/// With d = y − t: loss = d² / 2β, dy = d / β where |d| < β; elsewhere loss = |d| − β / 2, dy = sgn(d).
/// It is [`Huber`](super::Huber) with δ = β, divided by β; with β = 0 it is [`L1`](super::L1).
///
/// Summed over all values that have a target and divided by their number. A target that is NaN counts as missing:
/// it adds neither loss nor gradient.
///
/// # Shapes
/// y `[T, F, B]`, targets `[T, F, B]`
/// # Source
/// Girshick 2015 (Fast R-CNN), section 2.3.
/// # Examples
/// ```
/// use bptt::loss::{Loss, SmoothL1, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // One value of two samples, in two lanes.
/// let (shape, mut dy) = (Shape::new(1, 1), [0.0; 2]);
/// let (y, target) = ([1.0, 2.0f32], [1.25, 4.0]);
/// let targets = Targets::Values(Seq::new(&target, shape, 2));
/// let (y, dy_out, mut tallies) = (Seq::new(&y, shape, 2), SeqMut::new(&mut dy, shape, 2), [Tally::default(); 2]);
/// SmoothL1::default().beta(0.5).tile(Tile::new(y, targets, 2, dy_out, &mut tallies));
/// let tally: Tally = tallies.into_iter().sum();
/// assert_eq!(tally.mean(), Some((0.0625 + 1.75) / 2.0));
/// assert_eq!(dy, [-0.5, -1.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmoothL1 {
    beta: f64,
}

impl Default for SmoothL1 {
    fn default() -> Self {
        Self { beta: 1.0 }
    }
}

impl SmoothL1 {
    /// β: the distance beyond which the loss grows linearly; 1 by default.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }
}

impl Elementwise for SmoothL1 {
    const NAME: &'static str = "smooth absolute error";

    fn check(&self, _: Shape) -> Result<()> {
        if self.beta.is_finite() && self.beta >= 0.0 {
            return Ok(());
        }
        Err(Error::config("beta", format!("found {}, expected a number of at least 0", self.beta)))
    }

    #[inline(always)]
    fn at(&self, _: usize, y: f64, target: f64) -> (f64, f64) {
        let (d, beta) = (y - target, self.beta);
        if d.abs() < beta { (0.5 * d * d / beta, d / beta) } else { (d.abs() - 0.5 * beta, sign(d)) }
    }
}

elementwise!(SmoothL1, f32, f64);
