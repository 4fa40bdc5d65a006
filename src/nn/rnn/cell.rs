//! What distinguishes one recurrent cell from another: which pre-activations it sums, and its pointwise part.
//!
//! A stack computes the pre-activations a = b + W x + U h of a step, all blocks of rows by one product; a [`Cell`]
//! computes the next state from them. Stacking, both directions, sequences of different lengths, chunks and weight
//! gradients are the stack's, so a cell is two functions over slices.
//!
//! # How to write a cell
//!
//! 1. Say what it is: [`KIND`](Cell::KIND), [`GATES`](Cell::GATES), [`HAS_CELL`](Cell::HAS_CELL), and
//!    [`TENSORS`](Cell::TENSORS) if it has parameters other than W, U and b.
//! 2. [`forward`](Cell::forward): read `gates`, `h_prev` and `c_prev`, write `h` and `c`, and leave in `gates` and `kept`
//!    what backward needs. Slices are `[rows, lanes]`: value i belongs to row i / lanes. [`sigmoid`] and [`tanh`] work on
//!    whole slices, at the speed of the built-in cells.
//! 3. [`backward`](Cell::backward): from `dh` and `dc`, replace `gates` by the gradients of the pre-activations, replace
//!    `dc` by the gradient of the cell state before, add to `dh_prev` what reaches h without passing U, and add to `grads`
//!    the gradients of the cell's own parameters, lane by lane.
//! 4. State [`COUPLING`](Cell::COUPLING), so that units can be cut; it is optional.
//! 5. Build a layer of it by [`Recurrent::with_cell`](super::Recurrent::with_cell), hold it to
//!    [`gradcheck`](crate::gradcheck), and load models with
//!    [`Recurrent::from_description`](super::Recurrent::from_description).
//!
//! `examples/custom_cell.rs` does all of it.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "onnx")]
use crate::Error;
use crate::kernels::activation::Curve;
use crate::kernels::one_step::Pointwise;
#[cfg(feature = "onnx")]
use crate::onnx_graph::Attribute;
use crate::{Init, Real, Result};

/// One time step of a cell, after a = b + W x + U h. Slices are `[H, lanes]` where nothing else is said.
#[derive(Debug)]
#[non_exhaustive]
pub struct CellStep<'a, R> {
    /// `[blocks · H, lanes]`: pre-activations in; what backward needs of the gates out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The cell state before; empty where there is none.
    pub c_prev: &'a [R],
    /// The cell state after; empty where there is none.
    pub c: &'a mut [R],
    /// `[kept, lanes]`, with [`Cell::kept`] rows: what else backward needs.
    pub kept: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
    /// The cell's own parameters, one of [`Cell::TENSORS`] after another; the same for all lanes.
    pub params: &'a [R],
    /// Samples side by side.
    pub lanes: usize,
}

/// One time step back. Slices are `[H, lanes]` where nothing else is said.
#[derive(Debug)]
#[non_exhaustive]
pub struct CellStepBack<'a, R> {
    /// `[blocks · H, lanes]`: as forward left them in; gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The cell state before.
    pub c_prev: &'a [R],
    /// The cell state after.
    pub c: &'a [R],
    /// `[kept, lanes]`: what else forward kept; may be overwritten.
    pub kept: &'a mut [R],
    /// The hidden state after.
    pub h: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the hidden state before: what does not pass U is added here, and the stack adds Uᵀ da.
    pub dh_prev: &'a mut [R],
    /// The gradient of the cell state: after in, before out.
    pub dc: &'a mut [R],
    /// The cell's own parameters, one of [`Cell::TENSORS`] after another.
    pub params: &'a [R],
    /// `[parameters, lanes]`: the gradients of the cell's own parameters, to be added to. Each lane has its own, and the
    /// stack adds these up after the last step: so the order of summation does not depend on the cell.
    pub grads: &'a mut [R],
    /// Samples side by side.
    pub lanes: usize,
}

/// The step of a cell with a [gated block](Block::gated), between its two products. Slices are `[H, lanes]` where
/// nothing else is said.
#[derive(Debug)]
#[non_exhaustive]
pub struct GateStep<'a, R> {
    /// `[blocks · H, lanes]`: pre-activations, complete but for the gated block.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// What the rows of U of the gated block are multiplied with, to be written.
    pub m: &'a mut [R],
}

/// The same step back, after [`Cell::backward`]. Slices are `[H, lanes]` where nothing else is said.
#[derive(Debug)]
#[non_exhaustive]
pub struct GateStepBack<'a, R> {
    /// `[blocks · H, lanes]`: as [`Cell::backward`] left them in; gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The gradient of m: Uᵀ da over the rows of the gated block.
    pub dm: &'a [R],
    /// The gradient of the hidden state before: what reaches it through m is added here.
    pub dh_prev: &'a mut [R],
}

/// A block of H pre-activations: which block of the rows of `weight_ih` and which of `weight_hh` it sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// The block of `weight_ih` and `bias_ih`.
    pub ih: Option<usize>,
    /// The block of `weight_hh` and `bias_hh`.
    pub hh: Option<usize>,
    /// Whether U is multiplied with what [`Cell::gate`] makes of h rather than with h.
    pub gated: bool,
}

impl Block {
    /// Block `i` of both.
    pub const fn both(i: usize) -> Self {
        Self { ih: Some(i), hh: Some(i), gated: false }
    }

    /// Block `i` of W x + b alone.
    pub const fn input(i: usize) -> Self {
        Self { ih: Some(i), hh: None, gated: false }
    }

    /// Block `i` of U h + b' alone.
    pub const fn hidden(i: usize) -> Self {
        Self { ih: None, hh: Some(i), gated: false }
    }

    /// Block `i` of W x + b and of U m + b', where m is what [`Cell::gate`] makes of h. At most one block of a cell.
    pub const fn gated(i: usize) -> Self {
        Self { ih: Some(i), hh: Some(i), gated: true }
    }
}

/// A tensor of a cell's own, of some blocks of H values.
#[derive(Clone, Copy, Debug)]
pub struct CellTensor {
    /// The beginning of its name: `weight_pi` becomes `weight_pi_l0`, `weight_pi_l0_reverse` and so on.
    pub name: &'static str,
    /// How many blocks of H values it has.
    pub blocks: usize,
    /// How it is initialised in a layer of H units.
    pub init: fn(usize) -> Init,
}

/// What a cell is in ONNX.
#[cfg(feature = "onnx")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Operator {
    /// The operator's name.
    pub name: &'static str,
    /// Which blocks of the weights' rows follow one another in ONNX.
    pub gates: &'static [usize],
    /// The activation of each direction, where it is not the operator's own.
    pub activation: Option<&'static str>,
    /// Further settings.
    pub settings: &'static [(&'static str, Attribute<'static>)],
    /// Which blocks of the cell's own parameters follow one another in the operator's input P, if it has one.
    pub peepholes: &'static [usize],
}

/// How the units of a cell depend on one another, other than by W and U.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coupling {
    /// Nothing is said, so no unit can be cut, and a model with the cell cannot be
    /// [compacted](crate::Model::compact).
    Unknown,
    /// Not at all: each unit is computed from its own pre-activations, states and parameters.
    Own {
        /// A unit whose states are 0 keeps them at 0 while the pre-activations of these blocks of the weights are 0; none if
        /// that is never so.
        rest: &'static [usize],
    },
    /// On all units of the layer together, as with a normalisation: no unit can be cut.
    All,
}

/// A recurrent cell; [how to write one](self).
pub trait Cell: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The layer's kind in saved models.
    const KIND: &'static str;
    /// Blocks of H rows in each weight.
    const GATES: usize;
    /// Whether there is a cell state in addition to the hidden one.
    const HAS_CELL: bool;
    /// The parameters of the cell, other than weights and biases.
    const TENSORS: &'static [CellTensor] = &[];
    /// Whether h may be [projected](super::Recurrent::proj_size): only if forward does not read `h_prev`, backward
    /// neither `h` nor `h_prev`, and nothing is added to `dh_prev`.
    const PROJECTS: bool = false;

    /// How units depend on one another, other than by W and U: for [`Model::compact`](crate::Model::compact).
    const COUPLING: Coupling = Coupling::Unknown;

    /// The blocks of pre-activations, those of `weight_ih` in its order: block i of both weights for each gate, unless
    /// the cell needs W x and U h apart. A cell of more than eight gates has to say what its blocks are.
    fn blocks(&self) -> &'static [Block] {
        const ALL: [Block; 8] = [
            Block::both(0),
            Block::both(1),
            Block::both(2),
            Block::both(3),
            Block::both(4),
            Block::both(5),
            Block::both(6),
            Block::both(7),
        ];
        &ALL[..Self::GATES]
    }

    /// Rows that forward keeps of a step for backward, in addition to gates and states, in a layer of `units` units.
    fn kept(&self, _units: usize) -> usize {
        0
    }

    /// Checks the cell's settings.
    ///
    /// # Errors
    /// A [configuration error](crate::Error::Config) that names the setting.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Writes m, what a [gated block](Block::gated) multiplies U with: called before [`forward`](Self::forward), when all
    /// other blocks are complete. Cells without such a block need not have it.
    fn gate<R: Real>(&self, _step: GateStep<'_, R>) {}

    /// The same step back: called after [`backward`](Self::backward), which has left the gradient of the gated block.
    fn gate_back<R: Real>(&self, _step: GateStepBack<'_, R>) {}

    /// Which pointwise part steps of one stream have, if one is built in that replaces the state where it is.
    #[doc(hidden)]
    fn one_step(&self) -> Option<Pointwise> {
        None
    }

    /// The pointwise part of a step.
    fn forward<R: Real>(&self, step: CellStep<'_, R>);

    /// The pointwise part of a step back.
    fn backward<R: Real>(&self, step: CellStepBack<'_, R>);

    /// What the cell is in ONNX.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be exported, as by default.
    #[cfg(feature = "onnx")]
    fn operator(&self) -> Result<Operator> {
        let fault = format!("found a cell of kind `{}`, expected one that has `Cell::operator`", Self::KIND);
        Err(Error::config("onnx", fault))
    }
}

/// x ← σ(x), value by value.
pub fn sigmoid<R: Real>(x: &mut [R]) {
    R::activate_in_place(Curve::Sigmoid, x);
}

/// x ← tanh(x), value by value.
pub fn tanh<R: Real>(x: &mut [R]) {
    R::activate_in_place(Curve::Tanh, x);
}
