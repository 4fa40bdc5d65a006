//! The LSTM with layer normalisation.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::cell::Operator;
use super::cell::{Block, Cell, CellStep, CellStepBack, CellTensor, Coupling};
use super::recurrent::Recurrent;
use crate::kernels::layer_norm_lstm;
use crate::{Error, Init, Real, Result};

/// The pointwise part of an LSTM with layer normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNormLstmCell {
    eps: f64,
}

/// A stack of LSTM layers that normalise W x, U h and the cell state, each over the units of a layer.
///
/// i, f, o = σ(a); g = tanh(a) with a = γ_x ⊙ norm(W x) + β_x + γ_h ⊙ norm(U h) + β_h; c' = f ⊙ c + i ⊙ g;
/// h' = o ⊙ tanh(γ_c ⊙ norm(c') + β_c); norm(v) = (v − mean v) / √(variance of v + ε), over all 4H rows of W x and of
/// U h, and over the H of c'.
///
/// # Shapes
/// As [`Lstm`](super::Lstm): x `[T, I, B]` → y `[T, H, B]`, or `[1, H, B]` with [`last`](Recurrent::last); the state is
/// `[2, layers, H, B]`, and its c is not normalised.
/// # Parameters
/// For each layer k: `weight_ih_lk [4H, I]`, `weight_hh_lk [4H, H]`, U(±1/√H); and after them gains, all 1, and biases,
/// all 0: `weight_ln_ih_lk [4H]`, `bias_ln_ih_lk [4H]`, `weight_ln_hh_lk [4H]`, `bias_ln_hh_lk [4H]`,
/// `weight_ln_c_lk [H]`, `bias_ln_c_lk [H]`. β_x and β_h take the place of the LSTM's biases;
/// [`bias(true)`](Recurrent::bias) adds those within the norms.
/// # Saved
/// norm(W x) and norm(U h) `[T, 8H, B]`, h and c `[T + 1, H, B]`; gate activations, norm(c'), tanh(…) and each norm's mean
/// and 1 / √(…) `[T, 6H + 6, B]`.
/// # Source
/// Ba, Kiros & Hinton 2016, "Layer normalization", supplementary material, eq. 20 to 22.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::LayerNormLstm};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(7, 3)).layer("lstm", LayerNormLstm::new(5)).build(1)?;
/// assert_eq!(model.params().get("lstm.weight_ln_hh_l0").unwrap().shape(), [20]);
/// # Ok(())
/// # }
/// ```
pub type LayerNormLstm = Recurrent<LayerNormLstmCell>;

impl LayerNormLstm {
    /// One layer of `hidden_size` units that returns the output of every time step, with ε = 1e-5.
    pub fn new(hidden_size: usize) -> Self {
        Self::with_cell(LayerNormLstmCell { eps: 1e-5 }, hidden_size).bias(false)
    }

    /// ε, added to variances, a positive number; 1e-5 by default.
    pub fn eps(mut self, eps: f64) -> Self {
        self.cell.eps = eps;
        self
    }
}

const fn gain(name: &'static str, blocks: usize) -> CellTensor {
    CellTensor { name, blocks, init: |_| Init::Constant(1.0) }
}

const fn bias(name: &'static str, blocks: usize) -> CellTensor {
    CellTensor { name, blocks, init: |_| Init::Constant(0.0) }
}

impl Cell for LayerNormLstmCell {
    const KIND: &'static str = "layer_norm_lstm";
    const GATES: usize = 4;
    const HAS_CELL: bool = true;
    // Means and variances are over all units.
    const COUPLING: Coupling = Coupling::All;
    const TENSORS: &'static [CellTensor] = &[
        gain("weight_ln_ih", 4),
        bias("bias_ln_ih", 4),
        gain("weight_ln_hh", 4),
        bias("bias_ln_hh", 4),
        gain("weight_ln_c", 1),
        bias("bias_ln_c", 1),
    ];
    const PROJECTS: bool = true;

    fn blocks(&self) -> &'static [Block] {
        // W x and U h are normalised each by itself.
        const {
            &[
                Block::input(0),
                Block::input(1),
                Block::input(2),
                Block::input(3),
                Block::hidden(0),
                Block::hidden(1),
                Block::hidden(2),
                Block::hidden(3),
            ]
        }
    }

    fn kept(&self, units: usize) -> usize {
        6 * units + 6
    }

    fn check(&self) -> Result<()> {
        if self.eps > 0.0 && self.eps.is_finite() {
            return Ok(());
        }
        Err(Error::config("eps", format!("found {}, expected a positive number", self.eps)))
    }

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        let CellStep { gates, c_prev, c, kept, h, params, lanes, .. } = step;
        let eps = R::from_f64(self.eps);
        R::layer_norm_lstm_forward(layer_norm_lstm::Forward {
            gates,
            params,
            eps,
            c_prev,
            c,
            kept,
            h,
            lanes,
        });
    }

    fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
        let CellStepBack { gates, c_prev, kept, dh, dc, params, grads, lanes, .. } = step;
        R::layer_norm_lstm_backward(layer_norm_lstm::Backward {
            gates,
            params,
            grads,
            c_prev,
            kept,
            dh,
            dc,
            lanes,
        });
    }

    #[cfg(feature = "onnx")]
    fn operator(&self) -> Result<Operator> {
        let fault = "found an LSTM with layer normalisation, expected a cell that ONNX has an operator for";
        Err(Error::config("onnx", fault))
    }
}
