//! Log-probabilities from logits.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Description, Forward, Layer, Wiring};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::shape::MAX_LANES;
use crate::{Real, Result};

/// The logarithm of softmax, over the features of each time step; PyTorch's `LogSoftmax(-1)`.
///
/// y = x − max x − ln Σ e^(x − max x); dx = dy − e^y Σ dy
///
/// Followed by [`Nll`](crate::loss::Nll) it is the same as [`CrossEntropy`](crate::loss::CrossEntropy) alone.
///
/// # Shapes
/// x `[T, C, B]` → y `[T, C, B]`
/// # Saved
/// Nothing: backward reads y.
/// # Source
/// Bridle 1990, for softmax.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::LogSoftmax};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(1, 2)).layer("log_softmax", LogSoftmax).build(1)?;
/// let y = model.predict(&ndarray::array![[[1000.0, 1000.0]]])?;
/// assert_eq!(y, ndarray::array![[[0.5f32.ln(), 0.5f32.ln()]]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSoftmax;

impl<R: Real> Layer<R> for LogSoftmax {
    fn describe(&self) -> Description {
        Description::new("log_softmax", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let input = build.input();
        build.fix(&input.units);
        Ok(Built::new(input.clone()))
    }

    fn forward(&self, Forward { x, mut y, .. }: Forward<'_, R>) {
        let lanes = x.lanes;
        let mut sum_max = [R::ZERO; 2 * MAX_LANES];
        let sum_max = &mut sum_max[..2 * lanes];
        for t in 0..x.shape.t {
            let (x, y) = (x.step(t), y.step(t));
            R::softmax(x, y, sum_max, lanes);
            let (log_sum, max) = sum_max.split_at_mut(lanes);
            log_sum.iter_mut().for_each(|sum| *sum = sum.ln());
            for (x, y) in x.chunks_exact(lanes).zip(y.chunks_exact_mut(lanes)) {
                for (((y, &x), &max), &log_sum) in y.iter_mut().zip(x).zip(&*max).zip(&*log_sum) {
                    *y = (x - max) - log_sum;
                }
            }
        }
    }

    fn backward(&self, Backward { y, dy, dx, .. }: Backward<'_, R>) {
        let Some(mut dx) = dx else { return };
        let lanes = y.lanes;
        let mut sum_max = [R::ZERO; 2 * MAX_LANES];
        for t in 0..y.shape.t {
            let (y, dy, dx) = (y.step(t), dy.step(t), dx.step(t));
            // e^y is softmax(x).
            R::softmax(y, dx, &mut sum_max[..2 * lanes], lanes);
            let sums = &mut sum_max[..lanes];
            sums.fill(R::ZERO);
            for dy in dy.chunks_exact(lanes) {
                R::accumulate(sums, dy);
            }
            for (dy, p) in dy.chunks_exact(lanes).zip(dx.chunks_exact_mut(lanes)) {
                for ((p, &dy), &sum) in p.iter_mut().zip(dy).zip(&*sums) {
                    *p = dy - *p * sum;
                }
            }
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, *self))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        Ok(graph.node("LogSoftmax", &[&x], &[("axis", Attribute::Int(-1))]))
    }
}
