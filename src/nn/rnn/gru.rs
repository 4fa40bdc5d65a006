//! The GRU.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::cell::Operator;
use super::cell::{Block, Cell, CellStep, CellStepBack, Coupling, GateStep, GateStepBack};
use super::recurrent::Recurrent;
use crate::Real;
#[cfg(feature = "onnx")]
use crate::Result;
use crate::kernels::one_step::Pointwise;
use crate::kernels::{gru, gru_reset};
#[cfg(feature = "onnx")]
use crate::onnx_graph::Attribute;

/// The pointwise part of a GRU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<GruSettings>", into = "Option<GruSettings>")]
pub struct GruCell {
    reset_after: bool,
}

/// A cell as it is saved: nothing by default, as before there was a choice.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GruSettings {
    reset_after: bool,
}

impl From<Option<GruSettings>> for GruCell {
    fn from(settings: Option<GruSettings>) -> Self {
        Self { reset_after: settings.is_none_or(|settings| settings.reset_after) }
    }
}

impl From<GruCell> for Option<GruSettings> {
    fn from(GruCell { reset_after }: GruCell) -> Self {
        (!reset_after).then_some(GruSettings { reset_after })
    }
}

/// A stack of GRU layers.
///
/// r, z = σ(W x + b + U h + b'); n = tanh(W x + b + r ⊙ (U h + b')); h' = (1 − z) ⊙ n + z ⊙ h
///
/// With [`reset_after(false)`](Gru::reset_after), n = tanh(W x + b + U (r ⊙ h) + b').
///
/// # Shapes
/// x `[T, I, B]` → y `[T, H, B]`, or `[1, H, B]` with [`last`](Recurrent::last). The state is `[layers, H, B]`.
/// # Parameters
/// As [`Lstm`](super::Lstm), with `3H` rows in place of `4H`; gates in the order r, z, n.
/// # Saved
/// n, r, z and U h + b' of the new gate `[T, 4H, B]`, h `[T + 1, H, B]`; or r, z, n `[T, 3H, B]` and r ⊙ h `[T, H, B]`.
/// # Source
/// Cho et al. 2014, with the reset gate after the product, as in PyTorch, or before it, as in the paper.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Gru};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(7, 3)).layer("gru", Gru::new(5)).build(1)?;
/// assert_eq!(model.params().get("gru.weight_hh_l0").unwrap().shape(), [15, 5]);
/// # Ok(())
/// # }
/// ```
pub type Gru = Recurrent<GruCell>;

impl Gru {
    /// One layer of `hidden_size` units that returns the output of every time step.
    pub fn new(hidden_size: usize) -> Self {
        Self::with_cell(GruCell { reset_after: true }, hidden_size)
    }

    /// Whether the reset gate comes after the product with U; true by default, as in PyTorch, cuDNN and Keras. False is
    /// the equation of the paper, ONNX's default (`linear_before_reset = 0`) and Keras's `reset_after=False`; it takes a
    /// second product a step.
    pub fn reset_after(mut self, reset_after: bool) -> Self {
        self.cell.reset_after = reset_after;
        self
    }
}

impl Cell for GruCell {
    const KIND: &'static str = "gru";
    const GATES: usize = 3;
    const HAS_CELL: bool = false;
    // n = 0: h' = z ⊙ h
    const COUPLING: Coupling = Coupling::Own { rest: &[2] };

    fn blocks(&self) -> &'static [Block] {
        if self.reset_after {
            // n, r, z, q: the new gate keeps W x and U h apart, and stands on both sides of the others, so that the blocks
            // that sum x follow one another, and so do those that sum h.
            const { &[Block::input(2), Block::both(0), Block::both(1), Block::hidden(2)] }
        } else {
            const { &[Block::both(0), Block::both(1), Block::gated(2)] }
        }
    }

    fn gate<R: Real>(&self, GateStep { gates, h_prev, m, .. }: GateStep<'_, R>) {
        R::gru_reset(gru_reset::Reset { r: &mut gates[..h_prev.len()], h_prev, m });
    }

    fn gate_back<R: Real>(&self, GateStepBack { gates, h_prev, dm, dh_prev, .. }: GateStepBack<'_, R>) {
        R::gru_reset_back(gru_reset::ResetBack { r: &mut gates[..h_prev.len()], h_prev, dm, dh_prev });
    }

    fn one_step(&self) -> Option<Pointwise> {
        self.reset_after.then_some(Pointwise::Gru)
    }

    #[inline]
    fn forward<R: Real>(&self, CellStep { gates, h_prev, h, .. }: CellStep<'_, R>) {
        if self.reset_after {
            return R::gru_forward(gru::Forward { gates, h_prev, h });
        }
        let (z, n) = gates[h_prev.len()..].split_at_mut(h_prev.len());
        R::gru_reset_forward(gru_reset::Forward { z, n, h_prev, h });
    }

    fn backward<R: Real>(&self, CellStepBack { gates, h_prev, dh, dh_prev, .. }: CellStepBack<'_, R>) {
        if self.reset_after {
            return R::gru_backward(gru::Backward { gates, h_prev, dh, dh_prev });
        }
        let (z, n) = gates[h_prev.len()..].split_at_mut(h_prev.len());
        R::gru_reset_backward(gru_reset::Backward { z, n, h_prev, dh, dh_prev });
    }

    #[cfg(feature = "onnx")]
    fn operator(&self) -> Result<Operator> {
        let settings: &[_] = match self.reset_after {
            true => &[("linear_before_reset", Attribute::Int(1))],
            false => &[("linear_before_reset", Attribute::Int(0))],
        };
        // r, z, n here; z, r, h there.
        Ok(Operator { name: "GRU", gates: &[1, 0, 2], settings, ..Operator::default() })
    }
}
