//! Recurrent layers: one recurrence, and a small file for each cell.

mod cell;
mod elman;
#[cfg(feature = "onnx")]
mod export;
mod gru;
mod lanes;
mod layout;
mod lstm;
mod packing;
mod passes;
mod recurrent;
mod tape;

#[cfg(feature = "onnx")]
pub use cell::Operator;
pub use cell::{Block, Cell, CellStep, CellStepBack};
pub use elman::{Rnn, RnnCell};
pub use gru::{Gru, GruCell};
pub use lstm::{Lstm, LstmCell};
pub use recurrent::Recurrent;
