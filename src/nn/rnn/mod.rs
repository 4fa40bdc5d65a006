//! Recurrent layers: one recurrence, and a small file for each cell; [`cell`] says how to write another.

pub mod cell;
mod elman;
#[cfg(feature = "onnx")]
mod export;
mod gru;
mod lanes;
mod layer_norm_lstm;
mod layout;
mod lstm;
mod packing;
mod passes;
mod peephole;
mod recurrent;
mod step;
mod tape;
mod wiring;

#[cfg(feature = "onnx")]
pub use cell::Operator;
pub use cell::{Block, Cell, CellStep, CellStepBack, CellTensor, Coupling, GateStep, GateStepBack};
pub use elman::{Rnn, RnnCell};
pub use gru::{Gru, GruCell};
pub use layer_norm_lstm::{LayerNormLstm, LayerNormLstmCell};
pub use lstm::{Lstm, LstmCell};
pub use peephole::{PeepholeLstm, PeepholeLstmCell};
pub use recurrent::Recurrent;
