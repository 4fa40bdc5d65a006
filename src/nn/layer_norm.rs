//! Layer normalisation.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Description, Forward, Layer, Wiring};
use crate::kernels::{Band, Norm};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Error, Init, Real, Result, Seq};

/// Normalises the features of each time step of each sample.
///
/// y = w ⊙ x̂ + b; x̂ = (x − μ) / √(σ² + ε); μ = Σ x / F; σ² = Σ (x − μ)² / F
///
/// dx = (w ⊙ dy − mean(w ⊙ dy) − x̂ mean(w ⊙ dy ⊙ x̂)) / √(σ² + ε); dw = Σ dy ⊙ x̂; db = Σ dy
///
/// # Shapes
/// x `[T, F, B]` → y `[T, F, B]`
/// # Parameters
/// `weight [F]`, all 1; `bias [F]`, all 0; none after [`elementwise_affine(false)`](LayerNorm::elementwise_affine)
/// # Saved
/// μ and 1 / √(σ² + ε) of each step, `[T, 2, B]`.
/// # Source
/// Ba, Kiros & Hinton 2016, "Layer normalization".
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::LayerNorm};
/// # fn main() -> bptt::Result<()> {
/// let model: Model<f64> = Model::builder(Shape::new(1, 2)).layer("norm", LayerNorm::new()).build(1)?;
/// let y = model.predict(&ndarray::array![[[1.0, 3.0]]])?;
/// // μ = 2, σ = 1
/// assert!((y[[0, 0, 0]] + 1.0).abs() < 1e-5 && (y[[0, 0, 1]] - 1.0).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    elementwise_affine: bool,
    eps: f64,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerNorm {
    /// ε = 1e-5, with weight and bias. The number of features is inferred from the preceding layer.
    pub fn new() -> Self {
        Self { elementwise_affine: true, eps: 1e-5 }
    }

    /// ε, which keeps the denominator away from 0.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether there are a weight and a bias; true by default.
    pub fn elementwise_affine(mut self, elementwise_affine: bool) -> Self {
        self.elementwise_affine = elementwise_affine;
        self
    }

    fn norm<'a, R: Real>(&self, params: &'a [R], x: &Seq<'_, R>) -> Norm<'a, R> {
        let (weight, bias) = params.split_at(params.len() / 2);
        Norm { weight, bias, features: x.shape.f, eps: R::from_f64(self.eps), lanes: x.lanes }
    }
}

impl<R: Real> Layer<R> for LayerNorm {
    fn describe(&self) -> Description {
        Description::new("layer_norm", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(Error::config("eps", format!("found {}, expected a positive number", self.eps)));
        }
        let input = build.input();
        build.fix(&input.units);
        if self.elementwise_affine {
            build.tensor("weight", [input.units.clone()], Init::Constant(1.0))?;
            build.tensor("bias", [input.units.clone()], Init::Constant(0.0))?;
        }
        let stats = 2 * input.shape.t;
        Ok(Built::new(input.clone()).cache(stats).infer_cache(stats))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, y, cache: stats, .. }: Forward<'_, R>) {
        R::norm_forward(self.norm(cx.params, &x), x.data, y.data, stats);
    }

    fn backward(&self, Backward { cx, x, dy, dx, cache: stats, grads, .. }: Backward<'_, R>) {
        let norm = self.norm(cx.params, &x);
        if self.elementwise_affine {
            let (dweight, dbias) = grads.split_at_mut(x.shape.f);
            R::norm_weight(norm, x.data, dy.data, stats, dweight);
            R::row_sums(Band::new(dy.data, x.shape.f), [dbias, &mut []], x.lanes);
        }
        if let Some(dx) = dx {
            R::norm_backward(norm, x.data, dy.data, stats, dx.data);
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, self.clone()))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let features = graph.input().f;
        let (weight, bias) = if self.elementwise_affine {
            (graph.param("weight")?, graph.param("bias")?)
        } else {
            // The operator requires a weight.
            (graph.tensor("weight", &[features], &vec![R::ONE; features]), Value::absent())
        };
        let settings = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(self.eps as f32))];
        Ok(graph.node("LayerNormalization", &[&x, &weight, &bias], &settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, Shape};

    #[test]
    fn eps_must_be_positive() {
        let build =
            |eps| Model::<f32>::builder(Shape::new(1, 2)).layer("n", LayerNorm::new().eps(eps)).build(1);
        assert!(build(1e-3).is_ok());
        assert_eq!(build(0.0).unwrap_err().to_string(), "`n: eps`: found 0, expected a positive number");
        assert!(build(f64::NAN).is_err() && build(f64::INFINITY).is_err());
    }

    #[test]
    fn weight_and_bias_are_optional() -> Result<()> {
        let plain = LayerNorm::new().elementwise_affine(false);
        let model = Model::<f32>::builder(Shape::new(3, 4)).layer("n", plain).build(1)?;
        assert_eq!(model.parameter_count(), 0);
        let model = Model::<f32>::builder(Shape::new(3, 4)).layer("n", LayerNorm::default()).build(1)?;
        assert_eq!(model.params().as_slice(), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        Ok(())
    }
}
