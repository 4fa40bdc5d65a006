//! The inner loops. Private: everything else calls them through [`Kernels`].
//!
//! Kernels are written once, generic over the scalar ([`simd::Num`], or [`Scalar`](crate::Scalar) where no vector is
//! named) and the instruction set (pulp's `Simd`). [`Kernels`] has concrete entry points for `f32` and `f64`, so that
//! they are compiled in this crate, optimised as this crate is, and not in a dependent's generic code.

pub mod activation;
mod aligned;
pub mod batch_norm;
mod dropout;
mod elementwise;
mod embedding;
pub mod gru;
pub mod gru_reset;
mod layer_norm;
pub mod layer_norm_lstm;
pub mod lstm;
mod one_sample;
pub mod one_step;
mod outer;
pub mod peephole;
pub mod pool;
mod product;
mod rows;
pub mod simd;
mod softmax;
mod sparse;
mod streams;
mod windows;

#[cfg(test)]
mod tests;

use activation::{Activate, ActivateInPlace, Curve};
pub use aligned::Aligned;
use batch_norm::{ChannelSums, Channels};
pub use embedding::{Lookup, Place};
pub use layer_norm::Norm;
use one_sample::OneSample;
pub use outer::{Band, Columns};
use outer::{Outer, RowSums};
use pool::{Keep, Lane};
pub use product::{BLOCK, Matrix, Start, packed_len};
use product::{Product, pack};
pub use simd::longest_vector;
use softmax::Softmax;
pub use sparse::HEIGHT as SPARSE_HEIGHT;
pub use windows::Windows;

/// The concrete entry points of the inner loops for one scalar type. Callers are responsible for lengths. Where samples lie
/// in the last axis, `lanes` is a multiple of the quantum unless it may be 1.
pub trait Kernels: simd::Num {
    // Matrices.

    /// Packs matrices, side by side, and the sum of biases for [`product`](Kernels::product).
    fn pack(parts: &[Matrix<Self>], biases: &[&[Self]], packed: &mut [Self]);
    /// y = start + W x; x is the rows of all parts, `[k, lanes]`; y is `[rows, lanes]`.
    fn product(packed: &[Self], xs: [&[Self]; 3], start: Start, y: &mut [Self], lanes: usize);
    /// One step of one sample through a cell: its products, then its pointwise part.
    fn one_step(plan: &one_step::Plan<Self>, step: one_step::Step<Self>);
    /// dw[r, c] += Σₜ Σₗ dy[t, r, l] x[t, c, l], for each of `columns`, any of which may be empty.
    fn outer<'a>(dy: Band<'a, Self>, columns: &mut [Columns<'a, Self>], lanes: usize);
    /// db[r] += Σₜ Σₗ dy[t, r, l], for both of `db`; either may be empty.
    fn row_sums<'a>(dy: Band<'a, Self>, db: [&'a mut [Self]; 2], lanes: usize);

    // The pointwise parts of cells.

    /// One step of an LSTM's pointwise part.
    fn lstm_forward(step: lstm::Forward<Self>);
    /// One step back through an LSTM's pointwise part.
    fn lstm_backward(step: lstm::Backward<Self>);
    /// One step of a GRU's pointwise part.
    fn gru_forward(step: gru::Forward<Self>);
    /// One step back through a GRU's pointwise part.
    fn gru_backward(step: gru::Backward<Self>);
    /// The first half of a step of a GRU whose reset gate comes before the product.
    fn gru_reset(step: gru_reset::Reset<Self>);
    /// The second half.
    fn gru_reset_forward(step: gru_reset::Forward<Self>);
    /// One step back through the second half.
    fn gru_reset_backward(step: gru_reset::Backward<Self>);
    /// One step back through the first half.
    fn gru_reset_back(step: gru_reset::ResetBack<Self>);
    /// One step of the pointwise part of an LSTM with peepholes.
    fn peephole_forward(step: peephole::Forward<Self>);
    /// One step back through the pointwise part of an LSTM with peepholes.
    fn peephole_backward(step: peephole::Backward<Self>);
    /// One step of the pointwise part of an LSTM with layer normalisation.
    fn layer_norm_lstm_forward(step: layer_norm_lstm::Forward<Self>);
    /// One step back through the pointwise part of an LSTM with layer normalisation.
    fn layer_norm_lstm_backward(step: layer_norm_lstm::Backward<Self>);

    // Layers and losses that are not matrix products.

    /// x ← f(x)
    fn activate_in_place(curve: Curve, x: &mut [Self]);
    /// y = f(x)
    fn activate(curve: Curve, x: &[Self], y: &mut [Self]);
    /// dx = dy ⊙ f'(x), computed from y.
    fn activate_backward(curve: Curve, y: &[Self], dy: &[Self], dx: &mut [Self]);
    /// p = softmax(y) over `[C, lanes]`; `sum_max` is Σ e^(y − max) and max, `[2, lanes]`.
    fn softmax(y: &[Self], p: &mut [Self], sum_max: &mut [Self], lanes: usize);
    /// One step's mask `[F, lanes]`: 0 with probability `p`, else 1 / (1 − p). Feature f in lane l is decided by the key of
    /// (`keys[l]`, `step`, f).
    fn dropout_mask(keys: &[u64], step: u64, p: f64, mask: &mut [Self]);
    /// y = a ⊙ b
    fn multiply(a: &[Self], b: &[Self], y: &mut [Self]);
    /// y = x̂ ⊙ w + b, and the mean and 1 / √(σ² + ε) of each step, `[T, 2, lanes]`.
    fn norm_forward(norm: Norm<Self>, x: &[Self], y: &mut [Self], stats: &mut [Self]);
    /// dx from dy, computed from x and `stats`.
    fn norm_backward(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dx: &mut [Self]);
    /// dw[f] += Σₜ Σₗ dy ⊙ x̂
    fn norm_weight(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dw: &mut [Self]);
    /// Sums over all values of some channels that count; of x alone where there is no dy.
    fn channel_sums(channels: Channels<'_>, x: &[Self], dy: Option<&[Self]>, block: &mut [ChannelSums]);
    /// y = (x − mean) scale + shift, given these three of some channels, for several samples side by side.
    fn channel_forward(channels: Channels<'_>, block: &[[Self; 3]], x: &[Self], y: &mut [Self]);
    /// y = x scale + shift, given both of all channels, for one sample alone.
    fn scale_pixels(x: &[Self], scales_shifts: [&[Self]; 2], y: &mut [Self]);
    /// dx = (dy − a − (x − mean) inv b) scale, or 0 where nothing counts, given mean, inv, scale, a and b of some channels.
    fn channel_backward(channels: Channels<'_>, block: &[[Self; 5]], pass: batch_norm::Backward<'_, Self>);
    /// y `[F, lanes]` from x `[T, F, lanes]`.
    fn pool(keep: Keep, x: &[Self], y: &mut [Self]);
    /// The same again for one lane, of which the first `len` steps count.
    fn pool_lane(keep: Keep, x: &[Self], y: &mut [Self], lane: Lane);
    /// dx from dy.
    fn pool_backward(keep: Keep, pass: pool::Backward<Self>);
    /// The same again for one lane, of which the first `len` steps count.
    fn pool_lane_backward(keep: Keep, pass: pool::Backward<Self>, lane: Lane);
    /// A pixel of y from those of x that each window covers.
    fn pool_windows(keep: Keep, windows: Windows, x: &[Self], y: &mut [Self]);
    /// dx from dy.
    fn pool_windows_backward(keep: Keep, windows: Windows, pass: pool::Backward<Self>);
    /// y `[T, width, lanes]`: row x of `weight` `[N, width]` for each step of a sample; 0 elsewhere.
    ///
    /// # Panics
    /// If an x is not a whole number below N.
    fn embed(lookup: Lookup<Self>, weight: &[Self], to: Place, y: &mut [Self]);
    /// Adds dy to the rows x of dw.
    fn embed_backward(lookup: Lookup<Self>, dy: &[Self], from: Place, dw: &mut [Self]);

    /// y[r, l] += a[l] x[r, l], for all rows; a is `[lanes]`.
    fn add_scaled_rows(x: &[Self], a: &[Self], y: &mut [Self]);
    /// y[l] = Σᵣ a[r, l] b[r, l]; y is `[lanes]`.
    fn row_dots(a: &[Self], b: &[Self], y: &mut [Self]);

    // Whole vectors of parameters and gradients.

    /// a += b
    fn accumulate(a: &mut [Self], b: &[Self]);
    /// y = factor (a + b), or factor a where `b` is empty.
    fn scaled_sum(y: &mut [Self], a: &[Self], b: &[Self], factor: Self);
    /// a *= factor
    fn scale(a: &mut [Self], factor: Self);
    /// a += weight (b − a)
    fn lerp(a: &mut [Self], b: &[Self], weight: Self);
    /// a ← 0 where `zero` is true, by selection.
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
                if lanes == 1 {
                    let len = y.len();
                    return simd::dispatch_one::<Self, _>(len, OneSample { packed, xs: &xs, start, y });
                }
                for (arch, part) in
                    simd::parts::<Self>(lanes).into_iter().filter(|(_, part)| !part.is_empty())
                {
                    arch.dispatch(Product { packed, xs: &xs, start, y, lanes, part });
                }
            }
            fn one_step(plan: &one_step::Plan<Self>, step: one_step::Step<Self>) {
                plan.run(step);
            }
            fn outer<'a>(dy: Band<'a, Self>, columns: &mut [Columns<'a, Self>], lanes: usize) {
                let parts = simd::parts::<Self>(outer::width(columns));
                for (arch, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
                    arch.dispatch(Outer { dy: dy.clone(), columns: &mut *columns, part, lanes });
                }
            }
            fn row_sums<'a>(dy: Band<'a, Self>, db: [&'a mut [Self]; 2], lanes: usize) {
                simd::dispatch_lanes::<Self, _>(lanes, RowSums { dy, db, lanes });
            }
            fn lstm_forward(step: lstm::Forward<Self>) {
                simd::dispatch_len::<Self, _>(step.h.len(), step);
            }
            fn lstm_backward(step: lstm::Backward<Self>) {
                simd::dispatch(step);
            }
            fn gru_forward(step: gru::Forward<Self>) {
                simd::dispatch_len::<Self, _>(step.h.len(), step);
            }
            fn gru_backward(step: gru::Backward<Self>) {
                simd::dispatch(step);
            }
            fn gru_reset(step: gru_reset::Reset<Self>) {
                simd::dispatch_len::<Self, _>(step.m.len(), step);
            }
            fn gru_reset_forward(step: gru_reset::Forward<Self>) {
                simd::dispatch_len::<Self, _>(step.h.len(), step);
            }
            fn gru_reset_backward(step: gru_reset::Backward<Self>) {
                simd::dispatch(step);
            }
            fn gru_reset_back(step: gru_reset::ResetBack<Self>) {
                simd::dispatch(step);
            }
            fn peephole_forward(step: peephole::Forward<Self>) {
                simd::dispatch_lanes::<Self, _>(step.lanes, step);
            }
            fn peephole_backward(step: peephole::Backward<Self>) {
                simd::dispatch_lanes::<Self, _>(step.lanes, step);
            }
            fn layer_norm_lstm_forward(step: layer_norm_lstm::Forward<Self>) {
                simd::dispatch_lanes::<Self, _>(step.lanes, step);
            }
            fn layer_norm_lstm_backward(step: layer_norm_lstm::Backward<Self>) {
                simd::dispatch_lanes::<Self, _>(step.lanes, step);
            }
            fn activate_in_place(curve: Curve, x: &mut [Self]) {
                simd::dispatch(ActivateInPlace { curve, x });
            }
            fn activate(curve: Curve, x: &[Self], y: &mut [Self]) {
                simd::dispatch(Activate { curve, x, y });
            }
            fn activate_backward(curve: Curve, y: &[Self], dy: &[Self], dx: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || activation::activate_backward(curve, y, dy, dx),
                );
            }
            fn softmax(y: &[Self], p: &mut [Self], sum_max: &mut [Self], lanes: usize) {
                simd::dispatch_lanes::<Self, _>(lanes, Softmax { y, p, sum_max, lanes });
            }
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
                simd::dispatch_lanes::<Self, _>(norm.lanes, layer_norm::Forward { norm, x, y, stats });
            }
            fn norm_backward(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dx: &mut [Self]) {
                simd::dispatch_lanes::<Self, _>(norm.lanes, layer_norm::Backward { norm, x, dy, stats, dx });
            }
            fn norm_weight(norm: Norm<Self>, x: &[Self], dy: &[Self], stats: &[Self], dw: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || layer_norm::Weight { norm, x, dy, stats, dw }.add(),
                );
            }
            fn channel_sums(
                channels: Channels<'_>,
                x: &[Self],
                dy: Option<&[Self]>,
                block: &mut [ChannelSums],
            ) {
                simd::vectorized(
                    #[inline(always)]
                    || batch_norm::sums(channels, x, dy, block),
                );
            }
            fn channel_forward(channels: Channels<'_>, block: &[[Self; 3]], x: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || batch_norm::forward(channels, block, x, y),
                );
            }
            fn scale_pixels(x: &[Self], scales_shifts: [&[Self]; 2], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || batch_norm::scale_pixels(x, scales_shifts, y),
                );
            }
            fn channel_backward(
                channels: Channels<'_>,
                block: &[[Self; 5]],
                pass: batch_norm::Backward<'_, Self>,
            ) {
                simd::vectorized(
                    #[inline(always)]
                    || batch_norm::backward(channels, block, pass),
                );
            }
            fn pool(keep: Keep, x: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || pool::forward(keep, x, y),
                );
            }
            fn pool_lane(keep: Keep, x: &[Self], y: &mut [Self], lane: Lane) {
                pool::forward_lane(keep, x, y, lane);
            }
            fn pool_backward(keep: Keep, pass: pool::Backward<Self>) {
                simd::vectorized(
                    #[inline(always)]
                    || pool::backward(keep, pass),
                );
            }
            fn pool_lane_backward(keep: Keep, pass: pool::Backward<Self>, lane: Lane) {
                pool::backward_lane(keep, pass, lane);
            }
            fn pool_windows(keep: Keep, windows: Windows, x: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || windows::forward(keep, windows, x, y),
                );
            }
            fn pool_windows_backward(keep: Keep, windows: Windows, pass: pool::Backward<Self>) {
                simd::vectorized(
                    #[inline(always)]
                    || windows::backward(keep, windows, pass),
                );
            }
            fn embed(lookup: Lookup<Self>, weight: &[Self], to: Place, y: &mut [Self]) {
                embedding::forward(lookup, weight, to, y);
            }
            fn embed_backward(lookup: Lookup<Self>, dy: &[Self], from: Place, dw: &mut [Self]) {
                embedding::backward(lookup, dy, from, dw);
            }
            fn add_scaled_rows(x: &[Self], a: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || rows::add_scaled(x, a, y),
                );
            }
            fn row_dots(a: &[Self], b: &[Self], y: &mut [Self]) {
                simd::vectorized(
                    #[inline(always)]
                    || rows::dots(a, b, y),
                );
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
