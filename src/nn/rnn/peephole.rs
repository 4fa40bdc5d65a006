//! The LSTM with peepholes.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::cell::Operator;
use super::cell::{Cell, CellStep, CellStepBack, CellTensor, Coupling};
use super::recurrent::Recurrent;
#[cfg(feature = "onnx")]
use crate::Result;
use crate::kernels::peephole;
use crate::{Init, Real};

/// The pointwise part of an LSTM with peepholes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeepholeLstmCell;

/// A stack of LSTM layers whose gates also see the cell state: i and f the one before, o the one after.
///
/// i, f = σ(W x + U h + p ⊙ c + b); g = tanh(W x + U h + b); c' = f ⊙ c + i ⊙ g; o = σ(W x + U h + p ⊙ c' + b);
/// h' = o ⊙ tanh(c')
///
/// # Shapes
/// As [`Lstm`](super::Lstm): x `[T, I, B]` → y `[T, H, B]`, or `[1, H, B]` with [`last`](Recurrent::last); the state is
/// `[2, layers, H, B]`.
/// # Parameters
/// Those of [`Lstm`](super::Lstm), and after them `weight_pi_lk`, `weight_pf_lk` and `weight_po_lk`, `[H]` each, the
/// peepholes of i, f and o; all U(±1/√H).
/// # Saved
/// Gate activations `[T, 4H, B]`, h and c `[T + 1, H, B]`, tanh c `[T, H, B]`.
/// # Source
/// Graves 2013, "Generating sequences with recurrent neural networks", eq. 7 to 11; Gers, Schraudolph & Schmidhuber 2002.
/// In Graves's equations the peephole matrices are diagonal, as here.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::PeepholeLstm};
/// # fn main() -> bptt::Result<()> {
/// let lstm = PeepholeLstm::new(5).bidirectional();
/// let model: Model = Model::builder(Shape::new(7, 3)).layer("lstm", lstm).build(1)?;
/// assert_eq!(model.params().get("lstm.weight_pi_l0_reverse").unwrap().shape(), [5]);
/// # Ok(())
/// # }
/// ```
pub type PeepholeLstm = Recurrent<PeepholeLstmCell>;

impl PeepholeLstm {
    /// One layer of `hidden_size` units that returns the output of every time step.
    pub fn new(hidden_size: usize) -> Self {
        Self::with_cell(PeepholeLstmCell, hidden_size)
    }
}

const fn peephole(name: &'static str) -> CellTensor {
    CellTensor { name, blocks: 1, init: Init::pytorch }
}

impl Cell for PeepholeLstmCell {
    const KIND: &'static str = "peephole_lstm";
    const GATES: usize = 4;
    const HAS_CELL: bool = true;
    // g = 0 adds nothing to c.
    const COUPLING: Coupling = Coupling::Own { rest: &[2] };
    const TENSORS: &'static [CellTensor] =
        &[peephole("weight_pi"), peephole("weight_pf"), peephole("weight_po")];
    const PROJECTS: bool = true;

    /// tanh c
    fn kept(&self, units: usize) -> usize {
        units
    }

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        let CellStep { gates, c_prev, c, kept, h, params, lanes, .. } = step;
        R::peephole_forward(peephole::Forward {
            gates,
            peepholes: params,
            c_prev,
            c,
            tanh_c: kept,
            h,
            lanes,
        });
    }

    fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
        let CellStepBack { gates, c_prev, c, kept, dh, dc, params, grads, lanes, .. } = step;
        R::peephole_backward(peephole::Backward {
            gates,
            peepholes: params,
            dpeepholes: grads,
            c_prev,
            c,
            tanh_c: kept,
            dh,
            dc,
            lanes,
        });
    }

    #[cfg(feature = "onnx")]
    fn operator(&self) -> Result<Operator> {
        // i, f, g, o here; i, o, f, c there. Peepholes are i, f, o here; i, o, f there.
        Ok(Operator { name: "LSTM", gates: &[0, 3, 1, 2], peepholes: &[0, 2, 1], ..Operator::default() })
    }
}
