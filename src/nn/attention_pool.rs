//! Attention over time.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Context, Description, Features, Forward, Layer, Wiring};
use crate::kernels::{Band, Columns, Matrix, Start, packed_len};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Init, Real, Result, Seq, Shape};

/// Reduces all time steps to their mean, weighted by how well each fits one learned query.
///
/// s_t = q · x_t; a = softmax(s) over the steps; y = Σₜ a_t x_t
///
/// Of a sequence shorter than T, only its own steps count; for an empty sequence, y is 0. Where the scores should depend on a
/// hidden layer, put a [`Linear`](super::Linear) and a tanh before it.
///
/// # Shapes
/// x `[T, F, B]` → y `[1, F, B]`
/// # Parameters
/// `query [F]`, U(±1/√F)
/// # Saved
/// The weights of the steps, a.
/// # Source
/// Yang et al. 2016, "Hierarchical attention networks for document classification".
/// # Examples
/// ```
/// use bptt::nn::{AttentionPool, Lstm};
/// use bptt::{Model, Shape};
///
/// let model: Model = Model::builder(Shape::new(9, 4))
///     .layer("lstm", Lstm::new(6).bidirectional())
///     .layer("attention", AttentionPool::new())
///     .build(1)?;
/// assert_eq!(model.params().get("attention.query").unwrap().shape(), [12]);
/// assert_eq!(model.output_shape(), Shape::new(1, 12));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionPool {}

/// A score so low that its weight does not change a sum, in f32 too, but that is finite: ∞ − ∞ would not be a number.
const LOWEST: f64 = -1e30;

impl AttentionPool {
    /// A layer with one query, as long as the preceding layer has features.
    pub fn new() -> Self {
        Self {}
    }

    /// a of each step, `[T, lanes]`, by way of `scores`, `[T, lanes]`; `sums` is `[2, lanes]`.
    fn weights<R: Real>(cx: &Context<'_, R>, x: Seq<'_, R>, [a, scores, sums]: [&mut [R]; 3]) {
        let (Shape { t, .. }, lanes) = (x.shape, x.lanes);
        for (t, score) in scores.chunks_exact_mut(lanes).enumerate() {
            R::product(cx.packed, [x.step(t), &[], &[]], Start::Bias, score, lanes);
        }
        let lens = cx.lens.unwrap_or_default().iter().enumerate().map(|(lane, &len)| (lane, len as usize));
        for (lane, len) in lens.clone().filter(|&(_, len)| len < t) {
            scores[len * lanes..].iter_mut().skip(lane).step_by(lanes).for_each(|s| *s = R::from_f64(LOWEST));
        }
        R::softmax(scores, a, sums, lanes);
        // The weight of so low a score is only nearly 0.
        for (lane, len) in lens.filter(|&(_, len)| len < t) {
            a[len * lanes..].iter_mut().skip(lane).step_by(lanes).for_each(|a| *a = R::ZERO);
        }
    }
}

impl<R: Real> Layer<R> for AttentionPool {
    fn describe(&self) -> Description {
        Description::new("attention_pool", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let Features { shape, units } = build.input();
        build.tensor("query", [units.clone()], Init::pytorch(shape.f))?;
        // a, the scores or their gradients, and the sums of the softmax or of the gradients.
        let kept = shape.t.saturating_mul(2).saturating_add(2);
        let built = Built::new(Features::of(1, units.clone())).cache(kept).infer_cache(kept);
        Ok(built.packed(packed_len(1, shape.f)))
    }

    fn length(&self, _input: Shape, _len: usize) -> usize {
        1
    }

    /// Every weight depends on every step.
    fn streams(&self) -> bool {
        false
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        R::pack(&[Matrix::new(params, 1, input.f)], &[], packed);
    }

    fn forward(&self, Forward { cx, x, y, cache, .. }: Forward<'_, R>) {
        let lanes = x.lanes;
        let (a, rest) = cache.split_at_mut(x.shape.t * lanes);
        let (scores, sums) = rest.split_at_mut(x.shape.t * lanes);
        Self::weights(&cx, x, [a, scores, sums]);
        y.data.fill(R::ZERO);
        for (t, a) in a.chunks_exact(lanes).enumerate() {
            R::add_scaled_rows(x.step(t), a, y.data);
        }
    }

    fn backward(&self, Backward { cx, x, dy, mut dx, cache, grads, .. }: Backward<'_, R>) {
        // ds_t = a_t (dy · x_t − Σ a (dy · x)); dq = Σ ds_t x_t; dx_t = a_t dy + ds_t q
        let lanes = x.lanes;
        let (a, rest) = cache.split_at_mut(x.shape.t * lanes);
        let (ds, sums) = rest.split_at_mut(x.shape.t * lanes);
        let sum = &mut sums[..lanes];
        sum.fill(R::ZERO);
        for (t, (ds, a)) in ds.chunks_exact_mut(lanes).zip(a.chunks_exact(lanes)).enumerate() {
            R::row_dots(x.step(t), dy.data, ds);
            R::add_scaled_rows(ds, a, sum);
        }
        for (ds, a) in ds.chunks_exact_mut(lanes).zip(a.chunks_exact(lanes)) {
            ds.iter_mut().zip(a).zip(&*sum).for_each(|((ds, a), sum)| *ds = *a * (*ds - *sum));
        }
        let columns = Columns::new([Band::new(x.data, x.shape.f), Band::NONE], grads);
        R::outer(Band::new(ds, 1), &mut [columns], lanes);
        let Some(dx) = &mut dx else { return };
        for t in 0..x.shape.t {
            let (a, ds, dx) = (&a[t * lanes..][..lanes], &ds[t * lanes..][..lanes], dx.step(t));
            for ((dx, dy), &q) in dx.chunks_exact_mut(lanes).zip(dy.data.chunks_exact(lanes)).zip(cx.params) {
                for (l, dx) in dx.iter_mut().enumerate() {
                    *dx = a[l] * dy[l] + ds[l] * q;
                }
            }
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, *self).ignores_zeros())
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let query = graph.tensor("query", &[graph.input().f, 1], graph.params());
        let mut scores = graph.node("MatMul", &[&x, &query], &[]);
        if let Some(mask) = graph.mask(&x) {
            let lowest = graph.scalar(R::from_f64(LOWEST));
            scores = graph.node("Where", &[&mask, &scores, &lowest], &[]);
        }
        let a = graph.node("Softmax", &[&scores], &[("axis", Attribute::Int(0))]);
        let weighted = graph.node("Mul", &[&a, &x], &[]);
        let time = graph.ints(&[0]);
        Ok(graph.node("ReduceSum", &[&weighted, &time], &[]))
    }
}
