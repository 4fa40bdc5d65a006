//! What the two scalar types have in common. Everything else is built on it, including the kernels.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// What `f32` and `f64` have in common: constants, conversions and bytes. [`Real`](crate::Real), which adds the inner
/// loops, is the bound of layers and models; this one serves where a concrete type's methods are called.
///
/// # Examples
/// ```
/// use bptt::Scalar;
///
/// // Two samples take as many lanes as eight.
/// assert_eq!(2usize.next_multiple_of(f32::QUANTUM), 8);
/// assert_eq!(f32::from_f64(0.5).to_f64(), 0.5);
/// ```
pub trait Scalar:
    sealed::Sealed
    + Copy
    + Default
    + Debug
    + Display
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// −∞
    const NEG_INFINITY: Self;
    /// The type's name in safetensors files: `F32` or `F64`.
    const DTYPE: safetensors::Dtype;
    /// Lanes in which samples lie side by side come in multiples of this.
    const QUANTUM: usize;

    /// The nearest value of this type.
    fn from_f64(x: f64) -> Self;
    /// The same value in `f64`.
    fn to_f64(self) -> f64;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// |x|
    fn abs(self) -> Self;
    /// e^x, the same bits on all platforms.
    fn exp(self) -> Self;
    /// The natural logarithm, the same bits on all platforms.
    fn ln(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// Reads values from little-endian bytes; an incomplete last value is dropped.
    fn read_le(bytes: &[u8]) -> impl Iterator<Item = Self> + '_;
    /// Appends the value's little-endian bytes.
    fn push_le(self, bytes: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! scalar {
    ($t:ident, $dtype:ident, $exp:ident, $ln:ident) => {
        impl sealed::Sealed for $t {}

        impl Scalar for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const DTYPE: safetensors::Dtype = safetensors::Dtype::$dtype;
            const QUANTUM: usize = 8;

            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            fn abs(self) -> Self {
                self.abs()
            }
            fn exp(self) -> Self {
                libm::$exp(self)
            }
            fn ln(self) -> Self {
                libm::$ln(self)
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn read_le(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
                bytes.as_chunks().0.iter().map(|b| $t::from_le_bytes(*b))
            }
            fn push_le(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}

scalar!(f32, F32, expf, logf);
scalar!(f64, F64, exp, log);
