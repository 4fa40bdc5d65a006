//! Training: one trainer for every model and loss.

mod average;
mod callback;
mod checkpoint;
mod clip;
mod display;
mod early_stopping;
mod exact;
mod gradual_pruning;
mod group;
mod history;
mod log;
mod monitor;
mod resume;
mod run;
pub mod schedule;
mod step;
mod trainer;

pub use callback::{Callback, CallbackState, EpochEnd, Flow, Progress};
pub use checkpoint::Checkpoint;
pub use clip::Clip;
pub use early_stopping::EarlyStopping;
pub use gradual_pruning::GradualPruning;
pub use group::Group;
pub use history::{Epoch, History, Score};
pub use log::{CsvLog, JsonLog};
pub use monitor::Monitor;
pub use schedule::Schedule;
pub use step::{StepReport, Stepper};
pub use trainer::Trainer;
