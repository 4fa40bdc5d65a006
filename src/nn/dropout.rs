//! Dropout.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Description, Forward, Layer, Mode, Wiring};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::{Error, Real, Result, Shape};

/// Sets values to 0 at random in training; otherwise it does nothing.
///
/// y = m ⊙ x; dx = m ⊙ dy; m is 0 with probability p, else 1 / (1 − p), so that the mean of y is x
///
/// The mask is drawn only in [`Mode::Train`], for each sample from a key of its own, (seed, epoch, draw, layer, time
/// step, feature), so it depends neither on how a batch is cut into tiles nor on the number of threads. With
/// [`locked`](Dropout::locked) a sample has one mask for all of its time steps, which suits recurrent networks.
///
/// # Shapes
/// x `[T, F, B]` → y `[T, F, B]`
/// # Parameters
/// None.
/// # Saved
/// The mask: `[T, F, B]`, or `[1, F, B]` if locked.
/// # Source
/// Srivastava et al. 2014; locked: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in
/// recurrent neural networks".
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::{Dropout, Mode, Workspace}};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(1, 6)).layer("dropout", Dropout::new(0.5)).build(1)?;
/// let x = ndarray::Array3::ones((1, 1, 6));
/// assert_eq!(model.predict(&x)?, x);
///
/// let mut ws = Workspace::new(&model, 1, Mode::Train);
/// ws.set_input(x.view());
/// model.forward(&mut ws);
/// assert_eq!(ws.output(), ndarray::array![[[0.0, 2.0, 2.0, 0.0, 0.0, 0.0]]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    locked: bool,
    p: f64,
}

impl Default for Dropout {
    /// p = 0.5, as in PyTorch.
    fn default() -> Self {
        Self::new(0.5)
    }
}

impl Dropout {
    /// Drops each value with probability `p`, 0 to 1.
    pub fn new(p: f64) -> Self {
        Self { locked: false, p }
    }

    /// Drops the same features in all time steps of a sample.
    pub fn locked(mut self) -> Self {
        self.locked = true;
        self
    }

    /// How many masks a sample has: one per step, or one if locked.
    fn masks(&self, shape: Shape) -> usize {
        if self.locked { 1 } else { shape.t }
    }
}

impl<R: Real> Layer<R> for Dropout {
    fn describe(&self) -> Description {
        Description::new("dropout", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::config("p", format!("found {}, expected a probability, 0 to 1", self.p)));
        }
        let input = build.input();
        Ok(Built::new(input.clone()).cache(self.masks(input.shape) * input.shape.f))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, mut y, cache: masks, .. }: Forward<'_, R>) {
        if cx.mode != Mode::Train {
            y.data.copy_from_slice(x.data);
            return;
        }
        let (n, kept) = (x.shape.f * x.lanes, self.masks(x.shape));
        for (t, mask) in masks.chunks_exact_mut(n).enumerate() {
            R::dropout_mask(&cx.keys[..x.lanes], t as u64, self.p, mask);
        }
        for t in 0..x.shape.t {
            R::multiply(x.step(t), &masks[t % kept * n..][..n], y.step(t));
        }
    }

    fn backward(&self, Backward { cx, x, dy, dx, cache: masks, .. }: Backward<'_, R>) {
        let Some(mut dx) = dx else { return };
        if cx.mode != Mode::Train {
            dx.data.copy_from_slice(dy.data);
            return;
        }
        let (n, kept) = (x.shape.f * x.lanes, self.masks(x.shape));
        for t in 0..x.shape.t {
            R::multiply(dy.step(t), &masks[t % kept * n..][..n], dx.step(t));
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, self.clone()).ignores_zeros())
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, _graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn probabilities_beyond_0_and_1_are_errors() {
        let build = |p| Model::<f32>::builder(Shape::new(1, 2)).layer("drop", Dropout::new(p)).build(1);
        assert!(build(0.0).is_ok() && build(1.0).is_ok());
        let message = build(1.5).unwrap_err().to_string();
        assert_eq!(message, "`drop: p`: found 1.5, expected a probability, 0 to 1");
        assert!(build(-0.1).is_err() && build(f64::NAN).is_err());
    }
}
