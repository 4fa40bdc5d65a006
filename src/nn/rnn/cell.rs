//! What tells one recurrent cell from another: where its pre-activations come from, and its pointwise part.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Real;
#[cfg(feature = "onnx")]
use crate::onnx::Attribute;

/// One time step of a cell, after W x + U h + b. All but `gates` are `[H, lanes]`.
#[derive(Debug)]
pub struct CellStep<'a, R> {
    /// `[blocks · H, lanes]`: pre-activations in; what backward needs of the gates out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The cell before; empty where there is none.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a mut [R],
    /// `[kept, lanes]`, with [`Cell::kept`] rows: what else backward needs.
    pub kept: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
    /// Samples side by side.
    pub lanes: usize,
}

/// One time step back. All but `gates` are `[H, lanes]`.
#[derive(Debug)]
pub struct CellStepBack<'a, R> {
    /// `[blocks · H, lanes]`: as forward left them in; gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// What else forward kept; may be overwritten.
    pub kept: &'a mut [R],
    /// The hidden state after.
    pub h: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the hidden state before: what goes past the weights is added here.
    pub dh_prev: &'a mut [R],
    /// The gradient of the cell: after in, before out.
    pub dc: &'a mut [R],
    /// Samples side by side.
    pub lanes: usize,
}

/// A block of H pre-activations: which block of the rows of `weight_ih` and which of `weight_hh` it sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The block of `weight_ih` and `bias_ih`.
    pub ih: Option<usize>,
    /// The block of `weight_hh` and `bias_hh`.
    pub hh: Option<usize>,
}

impl Block {
    /// Block `i` of both.
    pub const fn both(i: usize) -> Self {
        Self { ih: Some(i), hh: Some(i) }
    }
}

/// What a cell is in ONNX.
#[cfg(feature = "onnx")]
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// The operator's name.
    pub name: &'static str,
    /// Which blocks of the weights' rows follow one another in ONNX.
    pub gates: &'static [usize],
    /// The activation of each direction, where it is not the operator's own.
    pub activation: Option<&'static str>,
    /// Settings that are the cell's own.
    pub settings: &'static [(&'static str, Attribute<'static>)],
}

/// A recurrent cell.
pub trait Cell: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The layer's kind in saved models.
    const KIND: &'static str;
    /// Blocks of H rows in each weight.
    const GATES: usize;
    /// The blocks of pre-activations, those of `weight_ih` in its order.
    const BLOCKS: &'static [Block];
    /// Whether there is a cell state besides the hidden one.
    const HAS_CELL: bool;

    /// Rows that forward keeps of a step for backward, besides gates and states, in a layer of `units` units.
    fn kept(units: usize) -> usize {
        let _ = units;
        0
    }

    /// The pointwise part of a step.
    fn forward<R: Real>(&self, step: CellStep<'_, R>);

    /// The pointwise part of a step back.
    fn backward<R: Real>(&self, step: CellStepBack<'_, R>);

    /// What the cell is in ONNX.
    #[cfg(feature = "onnx")]
    fn operator(&self) -> Operator;
}
