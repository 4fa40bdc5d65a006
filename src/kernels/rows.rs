//! Rows of lanes, scaled and multiplied with each other.

use crate::Scalar;

/// See [`Kernels::add_scaled_rows`](super::Kernels::add_scaled_rows).
#[inline(always)]
pub fn add_scaled<R: Scalar>(x: &[R], a: &[R], y: &mut [R]) {
    for (y, x) in y.chunks_exact_mut(a.len()).zip(x.chunks_exact(a.len())) {
        for ((y, x), a) in y.iter_mut().zip(x).zip(a) {
            *y += *a * *x;
        }
    }
}

/// See [`Kernels::row_dots`](super::Kernels::row_dots).
#[inline(always)]
pub fn dots<R: Scalar>(a: &[R], b: &[R], y: &mut [R]) {
    y.fill(R::ZERO);
    for (a, b) in a.chunks_exact(y.len()).zip(b.chunks_exact(y.len())) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y += *a * *b;
        }
    }
}
