//! Parameters: one arena under one layout, with PyTorch's names and shapes.

mod arena;
mod checked;
mod init;
mod layout;
mod orthogonal;
mod pattern;
mod state_dict;

pub use arena::Arena;
pub(crate) use checked::{Named, read_checked, write_checked};
pub use init::Init;
pub use layout::{Axis, Layout, Run, Tensor};
pub(crate) use pattern::matches;
pub use state_dict::{IncompatibleKeys, StateDict};
pub(crate) use state_dict::{read_tensors, write_tensors};
