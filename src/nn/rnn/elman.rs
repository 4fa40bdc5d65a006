//! The traditional recurrent network.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::cell::Operator;
use super::cell::{Cell, CellStep, CellStepBack, Coupling};
use super::recurrent::Recurrent;
use crate::Real;
#[cfg(feature = "onnx")]
use crate::Result;
use crate::nn::activation::Function;

/// The pointwise part of an Elman network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RnnCell(pub(super) Function);

/// A stack of Elman layers, with tanh or ReLU.
///
/// h' = tanh(W x + U h + b)
///
/// # Shapes
/// x `[T, I, B]` → y `[T, H, B]`, or `[1, H, B]` with [`last`](Recurrent::last). The state is `[layers, H, B]`.
/// # Parameters
/// As [`Lstm`](super::Lstm), with `H` rows in place of `4H`.
/// # Saved
/// Pre-activations `[T, H, B]` and h `[T + 1, H, B]`.
/// # Source
/// Elman 1990
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Rnn};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(7, 3)).layer("rnn", Rnn::new(5).relu()).build(1)?;
/// assert_eq!(model.output_shape(), Shape::new(7, 5));
/// # Ok(())
/// # }
/// ```
pub type Rnn = Recurrent<RnnCell>;

impl Rnn {
    /// One layer of `hidden_size` units with tanh that returns the output of every time step.
    pub fn new(hidden_size: usize) -> Self {
        Self::with_cell(RnnCell(Function::Tanh), hidden_size)
    }

    /// With ReLU in place of tanh.
    pub fn relu(mut self) -> Self {
        self.cell = RnnCell(Function::Relu);
        self
    }
}

impl Cell for RnnCell {
    const KIND: &'static str = "rnn";
    const GATES: usize = 1;
    const HAS_CELL: bool = false;
    const COUPLING: Coupling = Coupling::Own { rest: &[0] };

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        R::activate(self.0.curve(), step.gates, step.h);
    }

    fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
        R::activate_backward(self.0.curve(), step.h, step.dh, step.gates);
    }

    #[cfg(feature = "onnx")]
    fn operator(&self) -> Result<Operator> {
        Ok(Operator { name: "RNN", gates: &[0], activation: Some(self.0.onnx()), ..Operator::default() })
    }
}
