//! What tells one recurrent cell from another: how many gates it has, and its pointwise part.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Real;

/// One time step of a cell, after W x + U h + b. All but `gates` are `[H, lanes]`.
#[derive(Debug)]
pub struct Step<'a, R> {
    /// `[GATES · H, lanes]`: pre-activations in; what backward needs of the gates out.
    pub gates: &'a mut [R],
    /// The cell before; empty where there is none.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a mut [R],
    /// What else backward needs.
    pub kept: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
}

/// One time step back. All but `gates` are `[H, lanes]`.
#[derive(Debug)]
pub struct StepBack<'a, R> {
    /// `[GATES · H, lanes]`: as forward left them in; gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// What else forward kept.
    pub kept: &'a [R],
    /// The hidden state after.
    pub h: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the cell: after in, before out.
    pub dc: &'a mut [R],
}

/// A recurrent cell.
pub trait Cell: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The layer's kind in saved models.
    const KIND: &'static str;
    /// Blocks of H rows in the weights.
    const GATES: usize;
    /// Whether there is a cell state besides the hidden one.
    const HAS_CELL: bool;

    /// The pointwise part of a step.
    fn forward<R: Real>(&self, step: Step<'_, R>);

    /// The pointwise part of a step back.
    fn backward<R: Real>(&self, step: StepBack<'_, R>);
}
