//! Pooling over time.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Context, Description, Features, Forward, Layer, Wiring};
use crate::kernels::pool::{self, Keep, Lane};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Real, Result, Seq, Shape};

/// Reduces all time steps to one: the last, their mean, or the largest value of each feature.
///
/// last: y = x_T; mean: y = Σₜ xₜ / T; max: y = maxₜ xₜ
///
/// The gradient goes to the last step, to all steps equally, or to the first of those that are largest. Of a sequence
/// shorter than T, only its own steps count; for an empty sequence, y is 0.
///
/// # Shapes
/// x `[T, F, B]` → y `[1, F, B]`
/// # Parameters
/// None.
/// # Saved
/// Nothing: backward reads x and y again.
/// # Source
/// Collobert et al. 2011, "Natural language processing (almost) from scratch" (max over time).
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Pool};
/// # fn main() -> bptt::Result<()> {
/// let x = ndarray::array![[[1.0, 5.0], [4.0, 3.0]]];
/// for (pool, y) in [(Pool::last(), [4.0, 3.0]), (Pool::mean(), [2.5, 4.0]), (Pool::max(), [4.0, 5.0])] {
///     let model: Model = Model::builder(Shape::new(2, 2)).layer("pool", pool).build(1)?;
///     assert_eq!(model.predict(&x)?, ndarray::arr3(&[[y]]));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool(Over);

/// What is made of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Over {
    /// The last alone.
    Last,
    /// Their mean.
    Mean,
    /// The largest value of each feature.
    Max,
}

impl Pool {
    /// The last step. After a recurrent layer, use the layer's `last` instead, which does less work.
    pub fn last() -> Self {
        Self(Over::Last)
    }

    /// The mean of all steps.
    pub fn mean() -> Self {
        Self(Over::Mean)
    }

    /// The largest value of each feature; NaN if any value is.
    pub fn max() -> Self {
        Self(Over::Max)
    }
}

impl<R: Real> Layer<R> for Pool {
    fn describe(&self) -> Description {
        Description::new("pool", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        Ok(Built::new(Features::of(1, build.input().units.clone())))
    }

    fn length(&self, _input: Shape, _len: usize) -> usize {
        1
    }

    /// The last step is known as it arrives; mean and maximum need all steps.
    fn streams(&self) -> bool {
        self.0 == Over::Last
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
        self.0.forward(&cx, x, y.data, 1);
    }

    fn backward(&self, pass: Backward<'_, R>) {
        self.0.backward(pass, 1);
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, *self).ignores_zeros())
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        Ok(self.0.export(graph, x))
    }
}

/// The steps of a sequence, each of which may be several positions that follow one another: pixels of a row.
impl Over {
    pub(super) fn keep(self) -> Keep {
        match self {
            Over::Last => Keep::Last,
            Over::Mean => Keep::Mean,
            Over::Max => Keep::Max,
        }
    }

    /// Reduces all positions, `per_step` of them in a step, to one.
    pub(super) fn forward<R: Real>(self, cx: &Context<'_, R>, x: Seq<'_, R>, y: &mut [R], per_step: usize) {
        R::pool(self.keep(), x.data, y);
        for lane in shorter(cx, x, per_step) {
            R::pool_lane(self.keep(), x.data, y, lane);
        }
    }

    pub(super) fn backward<R: Real>(
        self,
        Backward { cx, x, y, dy, dx, .. }: Backward<'_, R>,
        per_step: usize,
    ) {
        let Some(dx) = dx else { return };
        let mut pass = pool::Backward { x: x.data, y: y.data, dy: dy.data, dx: dx.data };
        R::pool_backward(self.keep(), pass.reborrow());
        for lane in shorter(&cx, x, per_step) {
            R::pool_lane_backward(self.keep(), pass.reborrow(), lane);
        }
    }

    /// `[T, batch, F]` → `[1, batch, F]`
    #[cfg(feature = "onnx")]
    pub(super) fn export<R: Real>(self, graph: &mut Graph<'_, R>, x: Value) -> Value {
        let over_time = [("axes", Attribute::Ints(&[0]))];
        let Some(mask) = graph.mask(&x) else {
            return match self {
                Over::Last => {
                    let [from, to, axis] = [-1, i64::MAX, 0].map(|number| graph.ints(&[number]));
                    graph.node("Slice", &[&x, &from, &to, &axis], &[])
                }
                Over::Mean => graph.node("ReduceMean", &[&x], &over_time),
                Over::Max => graph.node("ReduceMax", &[&x], &over_time),
            };
        };
        if self == Over::Max {
            let lowest = graph.scalar(R::NEG_INFINITY);
            let y = graph.node("Where", &[&mask, &x, &lowest], &[]);
            return graph.node("ReduceMax", &[&y], &over_time);
        }
        let counts = graph.cast_real(&mask);
        let (zero, time) = (graph.scalar(R::ZERO), graph.ints(&[0]));
        if self == Over::Mean {
            let y = graph.node("Where", &[&mask, &x, &zero], &[]);
            let sum = graph.node("ReduceSum", &[&y, &time], &[]);
            let count = graph.node("ReduceSum", &[&counts, &time], &[]);
            return graph.node("Div", &[&sum, &count], &[]);
        }
        // The last step is the one at which exactly one step that counts is left.
        let (axis, one) = (graph.int(0), graph.scalar(R::ONE));
        let left = graph.node("CumSum", &[&counts, &axis], &[("reverse", Attribute::Int(1))]);
        let last = graph.node("Equal", &[&left, &one], &[]);
        let y = graph.node("Where", &[&last, &x, &zero], &[]);
        graph.node("ReduceSum", &[&y, &time], &[])
    }
}

/// The lanes whose sequences are shorter than x, and how many of their positions count.
fn shorter<'a, R>(cx: &Context<'a, R>, x: Seq<'_, R>, per_step: usize) -> impl Iterator<Item = Lane> + 'a {
    let (t, lanes) = (x.shape.t, x.lanes);
    let lens = cx.lens.unwrap_or_default().iter().enumerate().filter(move |&(_, &len)| (len as usize) < t);
    lens.map(move |(lane, &len)| Lane { lane, lanes, len: len as usize * per_step })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;
    use crate::Model;
    use crate::nn::{Mode, Workspace};

    /// The output, and the gradient with respect to the input for a dy of 1 and 2.
    fn there_and_back(pool: Pool, x: &Array3<f64>) -> Result<(Array3<f64>, Array3<f64>)> {
        let model = Model::builder(Shape::new(3, 2)).layer("pool", pool).build(1)?;
        let mut ws = Workspace::new(&model, 1, Mode::Train);
        ws.set_input(x.view());
        model.forward(&mut ws);
        ws.set_output_gradient(array![[[1.0, 2.0]]].view());
        model.backward(&mut ws, &mut [], true);
        Ok((ws.output(), ws.input_gradient()))
    }

    #[test]
    fn gradients_go_where_values_came_from() -> Result<()> {
        let x = array![[[3.0, -1.0], [7.0, -9.0], [7.0, -1.0]]];
        let third = 1.0 / 3.0;
        let (y, dx) = there_and_back(Pool::last(), &x)?;
        assert_eq!((y, dx), (array![[[7.0, -1.0]]], array![[[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]]]));
        let (y, dx) = there_and_back(Pool::mean(), &x)?;
        assert_eq!((y, dx), (array![[[17.0 / 3.0, -11.0 / 3.0]]], array![[[third, 2.0 * third]; 3]]));
        // The first of equals gets all of it.
        let (y, dx) = there_and_back(Pool::max(), &x)?;
        assert_eq!((y, dx), (array![[[7.0, -1.0]]], array![[[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]]));
        Ok(())
    }

    #[test]
    fn nan_is_not_hidden() -> Result<()> {
        for at in 0..3 {
            let mut x = array![[[3.0, -1.0], [7.0, -9.0], [7.0, -1.0]]];
            x[[0, at, 0]] = f64::NAN;
            let (y, _) = there_and_back(Pool::max(), &x)?;
            assert!(y[[0, 0, 0]].is_nan() && y[[0, 0, 1]] == -1.0, "{y}");
        }
        Ok(())
    }
}
