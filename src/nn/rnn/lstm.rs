//! The LSTM.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::cell::Operator;
use super::cell::{Cell, CellStep, CellStepBack, Coupling};
use super::recurrent::Recurrent;
use crate::Real;
#[cfg(feature = "onnx")]
use crate::Result;
use crate::kernels::lstm;
use crate::kernels::one_step::Pointwise;

/// The pointwise part of an LSTM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LstmCell;

/// A stack of LSTM layers.
///
/// i, f, o = σ(W x + U h + b); g = tanh(W x + U h + b); c' = f ⊙ c + i ⊙ g; h' = o ⊙ tanh(c')
///
/// # Shapes
/// x `[T, I, B]` → y `[T, H, B]`, or `[1, H, B]` with [`last`](Recurrent::last).
/// The state is h of every layer, then c of every layer: `[2, layers, H, B]`.
/// # Parameters
/// For each layer k: `weight_ih_lk [4H, I]` (`[4H, H]` above the first), `weight_hh_lk [4H, H]`, `bias_ih_lk [4H]`,
/// `bias_hh_lk [4H]`; gates in the order i, f, g, o; all U(±1/√H): names, order and initialisation are PyTorch's. No biases
/// after [`bias(false)`](Recurrent::bias); `weight_hr_lk [P, H]` with [`proj_size`](Recurrent::proj_size).
/// # Saved
/// Gate activations `[T, 4H, B]`, h and c `[T + 1, H, B]`, tanh c `[T, H, B]`.
/// # Source
/// Hochreiter & Schmidhuber 1997; Gers et al. 2000; Graves 2013. Backward is derived in docs/lstm-backward.md.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Lstm};
/// # fn main() -> bptt::Result<()> {
/// let lstm = Lstm::new(5).layers(2).last();
/// let model: Model = Model::builder(Shape::new(7, 3)).layer("lstm", lstm).build(1)?;
/// assert_eq!(model.output_shape(), Shape::new(1, 5));
/// assert_eq!(model.params().get("lstm.weight_hh_l1").unwrap().shape(), [20, 5]);
/// # Ok(())
/// # }
/// ```
pub type Lstm = Recurrent<LstmCell>;

impl Lstm {
    /// One layer of `hidden_size` units that returns the output of every time step.
    pub fn new(hidden_size: usize) -> Self {
        Self::with_cell(LstmCell, hidden_size)
    }
}

impl Cell for LstmCell {
    const KIND: &'static str = "lstm";
    const GATES: usize = 4;
    const HAS_CELL: bool = true;
    // g = 0 adds nothing to c.
    const COUPLING: Coupling = Coupling::Own { rest: &[2] };
    const PROJECTS: bool = true;

    /// tanh c
    fn kept(&self, units: usize) -> usize {
        units
    }

    fn one_step(&self) -> Option<Pointwise> {
        Some(Pointwise::Lstm)
    }

    #[inline]
    fn forward<R: Real>(&self, CellStep { gates, c_prev, c, kept, h, .. }: CellStep<'_, R>) {
        R::lstm_forward(lstm::Forward { gates, c_prev, c, tanh_c: kept, h });
    }

    fn backward<R: Real>(&self, CellStepBack { gates, c_prev, kept, dh, dc, .. }: CellStepBack<'_, R>) {
        R::lstm_backward(lstm::Backward { gates, c_prev, tanh_c: kept, dh, dc });
    }

    #[cfg(feature = "onnx")]
    fn operator(&self) -> Result<Operator> {
        // i, f, g, o here; i, o, f, c there.
        Ok(Operator { name: "LSTM", gates: &[0, 3, 1, 2], ..Operator::default() })
    }
}
