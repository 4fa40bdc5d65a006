//! Activation functions as layers.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Description, Forward, Layer};
use crate::kernels::activation::Function;
#[cfg(feature = "onnx")]
use crate::onnx::{Graph, Value};
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
pub struct Activation(pub(crate) Function);

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
        R::activate(self.0, x.data, y.data);
    }

    fn backward(&self, Backward { y, dy, dx, .. }: Backward<'_, R>) {
        if let Some(dx) = dx {
            R::activate_backward(self.0, y.data, dy.data, dx.data);
        }
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let op = match self.0 {
            Function::Relu => "Relu",
            Function::Tanh => "Tanh",
            Function::Sigmoid => "Sigmoid",
        };
        Ok(graph.node(op, &[&x], &[]))
    }
}
