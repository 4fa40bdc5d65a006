//! Training: one trainer for every model and loss.

mod average;
mod callback;
mod clip;
mod early_stopping;
mod group;
mod history;
mod monitor;
pub mod schedule;
mod step;
mod trainer;

pub use callback::{Callback, Checkpoint, EpochEnd, Flow, Progress};
pub use clip::Clip;
pub use early_stopping::EarlyStopping;
pub use group::Group;
pub use history::{Epoch, History, Score};
pub use monitor::Monitor;
pub use schedule::Schedule;
pub use step::{StepReport, Stepper};
pub use trainer::Trainer;
