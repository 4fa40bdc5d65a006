//! Activation functions as layers.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Description, Forward, Layer, Wiring};
use crate::kernels::activation::Curve;
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::{Real, Result};

/// An activation function, applied element by element.
///
/// y = f(x); dx = dy ⊙ f'(x), computed from y
///
/// # Shapes
/// x `[T, F, B]` → y `[T, F, B]`
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Activation};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(1, 3)).layer("relu", Activation::relu()).build(1)?;
/// let y = model.predict(&ndarray::array![[[-1.0, 0.0, 2.0]]])?;
/// assert_eq!(y, ndarray::array![[[0.0, 0.0, 2.0]]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation(Function);

/// An activation function of one variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Function {
    /// max(0, x), with slope 0 at 0
    Relu,
    /// tanh(x)
    Tanh,
    /// σ(x) = 1 / (1 + e^−x)
    Sigmoid,
}

impl Function {
    /// Its kernel.
    pub(super) fn curve(self) -> Curve {
        match self {
            Function::Relu => Curve::Relu,
            Function::Tanh => Curve::Tanh,
            Function::Sigmoid => Curve::Sigmoid,
        }
    }

    /// Its name among ONNX's operators, as a node and as the activation of a recurrent one.
    #[cfg(feature = "onnx")]
    pub(super) fn onnx(self) -> &'static str {
        match self {
            Function::Relu => "Relu",
            Function::Tanh => "Tanh",
            Function::Sigmoid => "Sigmoid",
        }
    }
}

impl Activation {
    /// max(0, x); the slope at 0 is 0, as in PyTorch.
    pub fn relu() -> Self {
        Self(Function::Relu)
    }

    /// tanh(x)
    pub fn tanh() -> Self {
        Self(Function::Tanh)
    }

    /// σ(x) = 1 / (1 + e^−x)
    pub fn sigmoid() -> Self {
        Self(Function::Sigmoid)
    }
}

impl<R: Real> Layer<R> for Activation {
    fn describe(&self) -> Description {
        Description::new("activation", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        Ok(Built::new(build.input().clone()))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { x, y, .. }: Forward<'_, R>) {
        R::activate(self.0.curve(), x.data, y.data);
    }

    fn backward(&self, Backward { y, dy, dx, .. }: Backward<'_, R>) {
        if let Some(dx) = dx {
            R::activate_backward(self.0.curve(), y.data, dy.data, dx.data);
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        let wiring = Wiring::unchanged(name, *self);
        Ok(match self.0 {
            Function::Relu | Function::Tanh => wiring.ignores_zeros(),
            // σ(0) is ½.
            Function::Sigmoid => wiring,
        })
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        Ok(graph.node(self.0.onnx(), &[&x], &[]))
    }
}
