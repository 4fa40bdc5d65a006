//! Parameters: one vector of values, with the names and shapes that PyTorch gives its parts.

mod arena;
mod checked;
mod foreign;
mod groups;
pub(crate) mod halves;
mod init;
mod layout;
mod mismatch;
mod orthogonal;
mod pattern;
mod state_dict;
mod tensor_file;

pub use arena::Arena;
pub(crate) use checked::{NamedTensor, read_checked, write_checked};
pub use groups::{UnitGroup, UnitGroups};
pub use init::Init;
pub use layout::{Axis, Layout, Role, Run, Tensor};
pub(crate) use pattern::matches;
pub(crate) use state_dict::tensors_to_bytes;
pub use state_dict::{IncompatibleKeys, StateDict};
pub(crate) use tensor_file::{TensorFile, read_tensors};
