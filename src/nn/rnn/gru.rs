//! The GRU.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::cell::Operator;
use super::cell::{Block, Cell, CellStep, CellStepBack};
use super::recurrent::Recurrent;
use crate::Real;
use crate::kernels::gru;
#[cfg(feature = "onnx")]
use crate::onnx::Attribute;

/// The pointwise part of a GRU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GruCell;

/// A stack of GRU layers.
///
/// r, z = σ(W x + b + U h + b'); n = tanh(W x + b + r ⊙ (U h + b')); h' = (1 − z) ⊙ n + z ⊙ h
///
/// # Shapes
/// x `[T, I, B]` → y `[T, H, B]`, or `[1, H, B]` with [`last`](Recurrent::last). The state is `[layers, H, B]`.
/// # Parameters
/// As [`Lstm`](super::Lstm), with `3H` rows in place of `4H`; gates in the order r, z, n.
/// # Saved
/// r, z, n and U h + b' of the new gate `[T, 4H, B]`, h `[T + 1, H, B]`.
/// # Source
/// Cho et al. 2014, with the reset gate after the product, as in PyTorch.
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
    /// One layer of `hidden_size` units that hands out every time step.
    pub fn new(hidden_size: usize) -> Self {
        Self::with_cell(GruCell, hidden_size)
    }
}

impl Cell for GruCell {
    const KIND: &'static str = "gru";
    const GATES: usize = 3;
    // The new gate keeps W x and U h apart.
    const BLOCKS: &'static [Block] =
        &[Block::both(0), Block::both(1), Block { ih: Some(2), hh: None }, Block { ih: None, hh: Some(2) }];
    const HAS_CELL: bool = false;

    fn forward<R: Real>(&self, CellStep { gates, h_prev, h, .. }: CellStep<'_, R>) {
        R::gru_forward(gru::Forward { gates, h_prev, h });
    }

    fn backward<R: Real>(&self, CellStepBack { gates, h_prev, dh, dh_prev, .. }: CellStepBack<'_, R>) {
        R::gru_backward(gru::Backward { gates, h_prev, dh, dh_prev });
    }

    #[cfg(feature = "onnx")]
    fn operator(&self) -> Operator {
        // r, z, n here; z, r, h there.
        let settings = &[("linear_before_reset", Attribute::Int(1))];
        Operator { name: "GRU", gates: &[1, 0, 2], activation: None, settings }
    }
}
