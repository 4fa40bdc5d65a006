//! Recurrent layers: one recurrence, and a small file for each cell.

mod cell;
mod elman;
mod gru;
mod lstm;
mod plan;
mod recurrent;

pub use cell::{Block, Cell, Step, StepBack};
pub use elman::{Rnn, RnnCell};
pub use gru::{Gru, GruCell};
pub use lstm::{Lstm, LstmCell};
pub use recurrent::Recurrent;
