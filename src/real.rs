//! The scalar type that models are generic over: `f32`, the default, or `f64`.

use crate::Scalar;
use crate::kernels::Kernels;

/// A real scalar with its inner loops, `f32` or `f64`.
///
/// Models train in `f32` by default; the same code runs in `f64` for gradient checks. The trait is sealed: every
/// kernel is compiled for both types inside this crate, so that a dependent's build settings cannot slow it down
/// piecemeal. Constants and conversions are those of [`Scalar`].
pub trait Real: Scalar + Kernels {}

impl Real for f32 {}
impl Real for f64 {}
