//! The inner loops of layers that are no matrix product; what they compute is told with the layers, in `nn`.

mod dropout;
mod embedding;
mod layer_norm;
mod pool;

use super::simd;
pub use layer_norm::Norm;
pub use pool::Over;

/// The concrete entry points of these loops for one scalar type, as in [`Kernels`](super::Kernels). Samples lie in
/// the last axis, of `lanes`, a multiple of the quantum.
pub trait LayerKernels: Sized {
    /// One step's mask `[F, lanes]`: 0 with probability `p`, else 1 / (1 − p); lane l draws from the stream
    /// (`keys[l]`, `step`).
    fn dropout_mask(keys: &[u64], step: u64, p: f64, mask: &mut [Self]);
    /// y = a ⊙ b
    fn multiply(a: &[Self], b: &[Self], y: &mut [Self]);
    /// y = x̂ ⊙ w + b, and the mean and 1 / sd of each step, `[T, 2, lanes]`.
    fn norm_forward(norm: Norm<Self>, x: &[Self], y: &mut [Self], stats: &mut [Self]);
    /// dx from dy, told from x and `stats`.
    fn norm_backward(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dx: &mut [Self]);
    /// dw[f] += Σₜ Σₗ dy ⊙ x̂
    fn norm_weight(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dw: &mut [Self]);
    /// y `[F, lanes]` out of x `[T, F, lanes]`.
    fn pool(over: Over, x: &[Self], y: &mut [Self]);
    /// dx from dy, told from x and y.
    fn pool_backward(over: Over, x: &[Self], y: &[Self], dy: &[Self], dx: &mut [Self]);
    /// y `[T, E, lanes]`: of the first `valid` lanes, row x of `weight` `[N, E]`; 0 in the others.
    ///
    /// # Panics
    /// If an x, `[T, lanes]`, is no whole number below N.
    fn embed(x: &[Self], weight: &[Self], width: usize, valid: usize, y: &mut [Self], lanes: usize);
    /// Adds dy to the rows x of dw.
    fn embed_backward(x: &[Self], dy: &[Self], width: usize, valid: usize, dw: &mut [Self], lanes: usize);
}

macro_rules! layer_kernels {
    ($t:ident) => {
        impl LayerKernels for $t {
            fn dropout_mask(keys: &[u64], step: u64, p: f64, mask: &mut [Self]) {
                dropout::mask(keys, step, p, mask);
            }
            fn multiply(a: &[Self], b: &[Self], y: &mut [Self]) {
                simd::dispatch(|| dropout::multiply(a, b, y));
            }
            fn norm_forward(norm: Norm<Self>, x: &[Self], y: &mut [Self], stats: &mut [Self]) {
                simd::dispatch(|| layer_norm::forward::<_, { 64 / size_of::<$t>() }>(norm, x, y, stats));
            }
            fn norm_backward(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dx: &mut [Self]) {
                simd::dispatch(|| {
                    layer_norm::backward::<_, { 64 / size_of::<$t>() }>(norm, x, dy, stats, dx)
                });
            }
            fn norm_weight(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dw: &mut [Self]) {
                simd::dispatch(|| layer_norm::weight::<_, { 64 / size_of::<$t>() }>(norm, x, dy, stats, dw));
            }
            fn pool(over: Over, x: &[Self], y: &mut [Self]) {
                simd::dispatch(|| pool::forward(over, x, y));
            }
            fn pool_backward(over: Over, x: &[Self], y: &[Self], dy: &[Self], dx: &mut [Self]) {
                simd::dispatch(|| pool::backward(over, x, y, dy, dx));
            }
            fn embed(x: &[Self], weight: &[Self], width: usize, valid: usize, y: &mut [Self], lanes: usize) {
                embedding::forward(x, weight, width, valid, y, lanes);
            }
            fn embed_backward(
                x: &[Self],
                dy: &[Self],
                width: usize,
                valid: usize,
                dw: &mut [Self],
                lanes: usize,
            ) {
                embedding::backward(x, dy, width, valid, dw, lanes);
            }
        }
    };
}

layer_kernels!(f32);
layer_kernels!(f64);
