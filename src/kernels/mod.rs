//! The inner loops. Private: everything else calls them through [`Kernels`].
//!
//! Kernels are written once, generic over the scalar ([`simd::Num`]) and the instruction set (pulp's `Simd`).
//! [`Kernels`] has concrete entry points for `f32` and `f64`, so that they are compiled in this crate, optimised as
//! this crate is, and not in a dependent's generic code.

pub mod activation;
mod aligned;
mod elementwise;
pub mod gru;
pub mod layers;
pub mod lstm;
mod outer;
mod product;
pub mod simd;
mod softmax;
mod streams;

#[cfg(test)]
mod tests;

use activation::{Activate, Function};
pub use aligned::Aligned;
pub use outer::Band;
use outer::{Outer, RowSums};
pub use product::{Matrix, Start, packed_len};
use product::{Product, pack};
use softmax::Softmax;

/// The concrete entry points of the inner loops for one scalar type. Lengths are the callers' care.
pub trait Kernels: simd::Num {
    /// Packs matrices, side by side, and the sum of biases for [`product`](Kernels::product).
    fn pack(parts: &[Matrix<Self>], biases: &[&[Self]], packed: &mut [Self]);
    /// y = start + W x; x is the rows of all parts, `[k, lanes]`; y is `[rows, lanes]`.
    fn product(packed: &[Self], xs: [&[Self]; 3], start: Start, y: &mut [Self], lanes: usize);
    /// dw[r, first + c] += Σₜ Σₗ dy[t, r, l] x[t, c, l]; `columns` is the length of a row of dw, and `first`.
    fn outer(dy: Band<Self>, x: Band<Self>, dw: &mut [Self], columns: (usize, usize), lanes: usize);
    /// db[r] += Σₜ Σₗ dy[t, r, l], for both of `db`; either may be empty.
    fn row_sums(dy: Band<Self>, db: [&mut [Self]; 2], lanes: usize);
    /// One step of an LSTM's pointwise part.
    fn lstm_forward(step: lstm::Forward<Self>);
    /// One step back through an LSTM's pointwise part.
    fn lstm_backward(step: lstm::Backward<Self>);
    /// One step of a GRU's pointwise part.
    fn gru_forward(step: gru::Forward<Self>);
    /// One step back through a GRU's pointwise part.
    fn gru_backward(step: gru::Backward<Self>);
    /// y = f(x)
    fn activate(function: Function, x: &[Self], y: &mut [Self]);
    /// dx = dy ⊙ f'(x), told from y.
    fn activate_backward(function: Function, y: &[Self], dy: &[Self], dx: &mut [Self]);
    /// p = softmax(y) over `[C, lanes]`; `sum_max` is Σ e^(y − max) and max, `[2, lanes]`.
    fn softmax(y: &[Self], p: &mut [Self], sum_max: &mut [Self], lanes: usize);
    /// a += b
    fn accumulate(a: &mut [Self], b: &[Self]);
    /// y = factor (a + b), or factor a where `b` is empty.
    fn scaled_sum(y: &mut [Self], a: &[Self], b: &[Self], factor: Self);
    /// a *= factor
    fn scale(a: &mut [Self], factor: Self);
    /// a += weight (b − a)
    fn lerp(a: &mut [Self], b: &[Self], weight: Self);
    /// a ← 0 where `zero` says so, by selection.
    fn zero_where(a: &mut [Self], zero: &[bool]);
    /// Σ a²
    fn sum_of_squares(a: &[Self]) -> f64;
}

macro_rules! kernels {
    ($t:ident) => {
        impl Kernels for $t {
            fn pack(parts: &[Matrix<Self>], biases: &[&[Self]], packed: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || pack(parts, biases, packed),
                );
            }
            fn product(packed: &[Self], xs: [&[Self]; 3], start: Start, y: &mut [Self], lanes: usize) {
                simd::dispatch(Product { packed, xs, start, y, lanes });
            }
            fn outer(dy: Band<Self>, x: Band<Self>, dw: &mut [Self], columns: (usize, usize), lanes: usize) {
                simd::dispatch(Outer { dy, x, dw, columns, lanes });
            }
            fn row_sums(dy: Band<Self>, db: [&mut [Self]; 2], lanes: usize) {
                simd::dispatch(RowSums { dy, db, lanes });
            }
            fn lstm_forward(step: lstm::Forward<Self>) {
                simd::dispatch(step);
            }
            fn lstm_backward(step: lstm::Backward<Self>) {
                simd::dispatch(step);
            }
            fn gru_forward(step: gru::Forward<Self>) {
                simd::dispatch(step);
            }
            fn gru_backward(step: gru::Backward<Self>) {
                simd::dispatch(step);
            }
            fn activate(function: Function, x: &[Self], y: &mut [Self]) {
                simd::dispatch(Activate { function, x, y });
            }
            fn activate_backward(function: Function, y: &[Self], dy: &[Self], dx: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || activation::activate_backward(function, y, dy, dx),
                );
            }
            fn softmax(y: &[Self], p: &mut [Self], sum_max: &mut [Self], lanes: usize) {
                simd::dispatch(Softmax { y, p, sum_max, lanes });
            }
            fn accumulate(a: &mut [Self], b: &[Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || elementwise::accumulate(a, b),
                );
            }
            fn scaled_sum(y: &mut [Self], a: &[Self], b: &[Self], factor: Self) {
                simd::vectorized(
                    #[inline(always)]
                    || elementwise::scaled_sum(y, a, b, factor),
                );
            }
            fn scale(a: &mut [Self], factor: Self) {
                simd::vectorized(
                    #[inline(always)]
                    || elementwise::scale(a, factor),
                );
            }
            fn lerp(a: &mut [Self], b: &[Self], weight: Self) {
                simd::vectorized(
                    #[inline(always)]
                    || elementwise::lerp(a, b, weight),
                );
            }
            fn zero_where(a: &mut [Self], zero: &[bool]) {
                simd::vectorized(
                    #[inline(always)]
                    || elementwise::zero_where(a, zero),
                );
            }
            fn sum_of_squares(a: &[Self]) -> f64 {
                simd::vectorized(
                    #[inline(always)]
                    || elementwise::sum_of_squares(a),
                )
            }
        }
    };
}

kernels!(f32);
kernels!(f64);
