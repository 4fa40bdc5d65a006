//! Multi-class hinge loss.

use serde::{Deserialize, Serialize};

use super::classes::ClassSettings;
use super::{Loss, Tile};
use crate::data::TargetShape;
use crate::{Description, Error, Real, Result, Shape};

/// Hinge loss between the output of a class and those of all others; PyTorch's `MultiMarginLoss`, with its defaults.
///
/// zⱼ = max(0, margin − y_c + yⱼ) for j ≠ c; loss = w_c / C · Σⱼ zⱼᵖ, summed over samples and steps and divided by
/// their number, *not* by Σ w_c; dyⱼ = p w_c / C · zⱼᵖ⁻¹ where zⱼ > 0, dy_c = −Σⱼ dyⱼ.
///
/// [`ignore_index`](Self::ignore_index), which PyTorch lacks, is as in [`CrossEntropy`](super::CrossEntropy).
///
/// # Shapes
/// y `[T, C, B]`, a class for each of the `T` steps of each sample.
/// # Source
/// Weston & Watkins 1999.
/// # Examples
/// ```
/// use bptt::loss::{Loss, MultiMargin, Tally, Targets, Tile};
/// use bptt::{Seq, SeqMut, Shape};
///
/// // Two classes of one sample, in one lane: the correct one leads by a quarter of the margin.
/// let (shape, mut dy) = (Shape::new(1, 2), [0.0; 2]);
/// let (y, mut tallies) = (Seq::new(&[0.5, 0.75], shape, 1), [Tally::default()]);
/// let tile = Tile::new(y, Targets::Classes(&[1]), 1, SeqMut::new(&mut dy, shape, 1), &mut tallies);
/// MultiMargin::default().tile(tile);
/// assert_eq!(tallies[0].mean(), Some(0.75 / 2.0));
/// assert_eq!(dy, [0.5, -0.5]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiMargin {
    #[serde(flatten)]
    classes: ClassSettings,
    p: u32,
    margin: f64,
}

impl Default for MultiMargin {
    fn default() -> Self {
        Self { classes: ClassSettings::default(), p: 1, margin: 1.0 }
    }
}

impl MultiMargin {
    /// The power that a violation is raised to: 1, the default, or 2.
    pub fn p(mut self, p: u32) -> Self {
        self.p = p;
        self
    }

    /// By how much the output of the correct class should exceed the others; 1 by default.
    pub fn margin(mut self, margin: f64) -> Self {
        self.margin = margin;
        self
    }

    /// A weight for each class; 1 by default.
    pub fn weight(mut self, weight: impl Into<Vec<f64>>) -> Self {
        self.classes.weight = weight.into();
        self
    }

    /// The class that means "no target here", which adds neither loss nor gradient; −100 by default.
    pub fn ignore_index(mut self, ignore_index: i64) -> Self {
        self.classes.ignore_index = ignore_index;
        self
    }

    /// zᵖ and its slope, for z > 0.
    fn power(&self, z: f64) -> (f64, f64) {
        if self.p == 1 { (z, 1.0) } else { (z * z, 2.0 * z) }
    }
}

impl<R: Real> Loss<R> for MultiMargin {
    fn describe(&self) -> Description {
        Description::new("MultiMargin", self)
    }

    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        self.classes.check("multi-class hinge loss", output, targets)?;
        if !matches!(self.p, 1 | 2) {
            return Err(Error::config("p", format!("found {}, expected 1 or 2", self.p)));
        }
        if !self.margin.is_finite() {
            return Err(Error::config("margin", format!("found {}, expected a finite number", self.margin)));
        }
        Ok(())
    }

    fn counts(&self, class: i64) -> bool {
        class != self.classes.ignore_index
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let counts = tile.counted();
        let Tile { y, targets, mut dy, tallies, .. } = tile;
        let (classes, c, lanes) = (targets.classes(), y.shape.f, y.lanes);
        dy.data.fill(R::ZERO);
        for t in 0..y.shape.t {
            let (y, dy) = (y.step(t), dy.step(t));
            for (lane, class) in self.classes.each(&classes[t * lanes..][..lanes], |lane| counts(t, lane), c)
            {
                let Some(class) = class else { continue };
                let share = self.classes.weight_of(class) / c as f64;
                let y_at = |j: usize| y[j * lanes + lane].to_f64();
                let start = self.margin - y_at(class);
                let mut own = 0.0;
                for j in (0..c).filter(|&j| j != class) {
                    let z = start + y_at(j);
                    // A NaN, for which `z > 0.0` is false, must show in the loss.
                    if z > 0.0 || z.is_nan() {
                        let (value, slope) = self.power(z);
                        tallies[lane].loss += share * value;
                        own -= share * slope;
                        dy[j * lanes + lane] = R::from_f64(share * slope);
                    }
                }
                dy[class * lanes + lane] = R::from_f64(own);
                tallies[lane].weight += 1.0;
            }
        }
    }
}
