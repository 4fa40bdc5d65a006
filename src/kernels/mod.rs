//! The inner loops. Private: everything else calls them through [`Kernels`].

/// The concrete entry points of the inner loops for one scalar type.
pub trait Kernels {}
impl Kernels for f32 {}
impl Kernels for f64 {}
