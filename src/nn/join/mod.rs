//! Layers that hold layers.

mod branches;
mod chain;
mod plans;
mod sums;

pub use branches::Branches;
pub use chain::Chain;
