//! The affine layer.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Description, Features, Forward, Layer, Wiring};
use crate::kernels::{Band, Columns, Matrix, Start, packed_len};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Shape};

/// The most features; more is a mistake, or a malicious file.
const MAX_FEATURES: usize = 1 << 24;

/// An affine layer, applied to every time step.
///
/// y = W x + b
///
/// # Shapes
/// x `[T, in, B]` → y `[T, out, B]`
/// # Parameters
/// `weight [out, in]`, `bias [out]`; both U(±1/√in), as in PyTorch; no bias after [`bias(false)`](Linear::bias)
/// # Saved
/// Nothing: backward reads x again.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Linear};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(1, 3)).layer("linear", Linear::new(2)).build(1)?;
/// assert_eq!(model.params().get("linear.weight").unwrap().shape(), [2, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    // Absent where it is true, as it is in files that were written before there was a choice.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    bias: bool,
    out_features: usize,
}

fn yes() -> bool {
    true
}

impl Linear {
    /// A layer with `out_features` outputs; the number of inputs is inferred from the preceding layer.
    pub fn new(out_features: usize) -> Self {
        Self { bias: true, out_features }
    }

    /// Whether there is a bias; true by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

impl<R: Real> Layer<R> for Linear {
    fn describe(&self) -> Description {
        Description::new("linear", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        if !(1..=MAX_FEATURES).contains(&self.out_features) {
            let fault = format!("found {}, expected 1 to {MAX_FEATURES}", self.out_features);
            return Err(Error::config("out_features", fault));
        }
        let Features { shape, units } = build.input();
        let out = Axis::units(build.prefix(), self.out_features, 1);
        build.tensor("weight", [out.clone(), units.clone()], Init::pytorch(shape.f))?;
        if self.bias {
            build.tensor("bias", [out.clone()], Init::pytorch(shape.f))?;
        }
        let backward = packed_len(shape.f, self.out_features);
        let packed = packed_len(self.out_features, shape.f).saturating_add(backward);
        Ok(Built::new(Features::of(shape.t, out)).packed(packed))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn accepts_everything(&self) -> bool {
        true
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        let (weight, bias) = params.split_at(self.out_features * input.f);
        let (forward, backward) = packed.split_at_mut(packed_len(self.out_features, input.f));
        let matrix = Matrix::new(weight, self.out_features, input.f);
        let biases = [bias];
        R::pack(&[matrix], if self.bias { &biases } else { &[] }, forward);
        R::pack(&[matrix.transposed()], &[], backward);
    }

    fn forward(&self, Forward { cx, x, mut y, .. }: Forward<'_, R>) {
        let packed = &cx.packed[..packed_len(self.out_features, x.shape.f)];
        for t in 0..x.shape.t {
            R::product(packed, [x.step(t), &[], &[]], Start::Bias, y.step(t), x.lanes);
        }
    }

    fn backward(&self, Backward { cx, x, dy, dx, grads, .. }: Backward<'_, R>) {
        // dW = Σ dy xᵀ; db = Σ dy; dx = Wᵀ dy
        let (dweight, dbias) = grads.split_at_mut(self.out_features * x.shape.f);
        let (band, x_band) = (Band::new(dy.data, dy.shape.f), Band::new(x.data, x.shape.f));
        let columns = Columns::new([x_band, Band::NONE], dweight);
        R::outer(band.clone(), &mut [columns], x.lanes);
        if self.bias {
            R::row_sums(band, [dbias, &mut []], x.lanes);
        }
        if let Some(mut dx) = dx {
            let packed = &cx.packed[packed_len(self.out_features, x.shape.f)..];
            for t in 0..x.shape.t {
                R::product(packed, [dy.step(t), &[], &[]], Start::Bias, dx.step(t), x.lanes);
            }
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        let (group, bias) = (name.to_owned(), self.bias);
        let wiring = Wiring::new(move |kept| {
            kept.at_least(&group, 1);
            let layer = Self { bias, out_features: kept.count(&group) };
            vec![(group.clone(), Box::new(layer))]
        });
        let rows = ["weight", "bias"].into_iter().take(1 + usize::from(bias));
        Ok(wiring.ignores_zeros().rests(name, rows.map(|tensor| (format!("{name}.{tensor}"), 0))))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let weight = graph.param("weight")?;
        let transposed = graph.node("Transpose", &[&weight], &[("perm", Attribute::Ints(&[1, 0]))]);
        let product = graph.node("MatMul", &[&x, &transposed], &[]);
        if !self.bias {
            return Ok(product);
        }
        let bias = graph.param("bias")?;
        Ok(graph.node("Add", &[&product, &bias], &[]))
    }
}
