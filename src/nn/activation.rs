//! Activations as layers of their own.

use serde::{Deserialize, Serialize};

use super::{Context, Declare, Description, Layer, Sizes};
use crate::kernels::activation::Function;
#[cfg(feature = "onnx")]
use crate::onnx::{Graph, Value};
use crate::{Real, Result, Seq, SeqMut, Shape};

/// An activation function, element by element.
///
/// y = f(x); dx = dy ⊙ f'(x), told from y
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

    fn build(&self, input: Shape, _: &mut Declare<'_>) -> Result<(Shape, Sizes)> {
        Ok((input, Sizes::default()))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, _: &Context<'_, R>, x: Seq<'_, R>, _: &mut [R], y: SeqMut<'_, R>, _: &mut [R]) {
        R::activate(self.0, x.data, y.data);
    }

    fn backward(
        &self,
        _cx: &Context<'_, R>,
        _x: Seq<'_, R>,
        y: Seq<'_, R>,
        dy: Seq<'_, R>,
        _dstate: &mut [R],
        _cache: &mut [R],
        _grads: &mut [R],
        dx: Option<SeqMut<'_, R>>,
    ) {
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
