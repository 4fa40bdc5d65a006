//! Layers that hold layers.

mod branches;
mod chain;
mod plans;

pub use branches::Branches;
pub use chain::Chain;
