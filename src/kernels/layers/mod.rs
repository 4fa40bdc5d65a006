//! The inner loops of layers that are no matrix product; what they compute is told with the layers, in `nn`.

mod dropout;
mod embedding;
mod layer_norm;
mod pool;

use super::simd;
pub use embedding::Lookup;
pub use layer_norm::Norm;
pub use pool::{Lane, Over};

/// The concrete entry points of these loops for one scalar type, as in [`Kernels`](super::Kernels). Samples lie in
/// the last axis, of `lanes`, a multiple of the quantum.
pub trait LayerKernels: Sized {
    /// One step's mask `[F, lanes]`: 0 with probability `p`, else 1 / (1 − p). What becomes of feature f in lane l is
    /// told by the key to (`keys[l]`, `step`, f).
    fn dropout_mask(keys: &[u64], step: u64, p: f64, mask: &mut [Self]);
    /// y = a ⊙ b
    fn multiply(a: &[Self], b: &[Self], y: &mut [Self]);
    /// y = x̂ ⊙ w + b, and the mean and 1 / √(σ² + ε) of each step, `[T, 2, lanes]`.
    fn norm_forward(norm: Norm<Self>, x: &[Self], y: &mut [Self], stats: &mut [Self]);
    /// dx from dy, told from x and `stats`.
    fn norm_backward(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dx: &mut [Self]);
    /// dw[f] += Σₜ Σₗ dy ⊙ x̂
    fn norm_weight(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dw: &mut [Self]);
    /// y `[F, lanes]` out of x `[T, F, lanes]`.
    fn pool(over: Over, x: &[Self], y: &mut [Self]);
    /// The same once more for one lane, of which the first `len` steps count.
    fn pool_lane(over: Over, x: &[Self], y: &mut [Self], lane: Lane);
    /// dx from dy, told from x and y.
    fn pool_backward(over: Over, x: &[Self], y: &[Self], dy: &[Self], dx: &mut [Self]);
    /// The same once more for one lane, of which the first `len` steps count.
    fn pool_lane_backward(over: Over, x: &[Self], y: &[Self], dy: &[Self], dx: &mut [Self], lane: Lane);
    /// y `[T, width, lanes]`: of each step of a sample, row x of `weight` `[N, width]`; 0 in other places.
    ///
    /// # Panics
    /// If an x is no whole number below N.
    fn embed(lookup: Lookup<Self>, weight: &[Self], width: usize, y: &mut [Self]);
    /// Adds dy to the rows x of dw.
    fn embed_backward(lookup: Lookup<Self>, dy: &[Self], width: usize, dw: &mut [Self]);
}

macro_rules! layer_kernels {
    ($t:ident) => {
        impl LayerKernels for $t {
            fn dropout_mask(keys: &[u64], step: u64, p: f64, mask: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || dropout::mask(keys, step, p, mask),
                );
            }
            fn multiply(a: &[Self], b: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || dropout::multiply(a, b, y),
                );
            }
            fn norm_forward(norm: Norm<Self>, x: &[Self], y: &mut [Self], stats: &mut [Self]) {
                simd::dispatch(layer_norm::Forward { norm, x, y, stats });
            }
            fn norm_backward(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dx: &mut [Self]) {
                simd::dispatch(layer_norm::Backward { norm, x, dy, stats, dx });
            }
            fn norm_weight(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dw: &mut [Self]) {
                simd::dispatch(layer_norm::Weight { norm, x, dy, stats, dw });
            }
            fn pool(over: Over, x: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || pool::forward(over, x, y),
                );
            }
            fn pool_lane(over: Over, x: &[Self], y: &mut [Self], lane: Lane) {
                pool::forward_lane(over, x, y, lane);
            }
            fn pool_lane_backward(
                over: Over,
                x: &[Self],
                y: &[Self],
                dy: &[Self],
                dx: &mut [Self],
                lane: Lane,
            ) {
                pool::backward_lane(over, x, y, dy, dx, lane);
            }
            fn pool_backward(over: Over, x: &[Self], y: &[Self], dy: &[Self], dx: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || pool::backward(over, x, y, dy, dx),
                );
            }
            fn embed(lookup: Lookup<Self>, weight: &[Self], width: usize, y: &mut [Self]) {
                embedding::forward(lookup, weight, width, y);
            }
            fn embed_backward(lookup: Lookup<Self>, dy: &[Self], width: usize, dw: &mut [Self]) {
                embedding::backward(lookup, dy, width, dw);
            }
        }
    };
}

layer_kernels!(f32);
layer_kernels!(f64);
