//! Recurrent layers: one recurrence, and a small file for each cell.

mod cell;
mod elman;
mod lstm;
mod recurrent;

pub use cell::{Cell, Step, StepBack};
pub use elman::{Rnn, RnnCell};
pub use lstm::{Lstm, LstmCell};
pub use recurrent::Recurrent;
