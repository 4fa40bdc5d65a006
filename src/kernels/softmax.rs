//! Softmax with cross-entropy for one step of a tile, by log-sum-exp.
//!
//! p = e^(y − max) / Σ e^(y − max); loss = ln Σ e^(y − max) + max − y[class]; d loss / dy = p − onehot(class).

use pulp::{Simd, WithSimd};

use super::activation::exp;
use super::simd::Num;

/// p = softmax(y) over the classes of each lane; also Σ e^(y − max) and max, for the loss.
pub struct Softmax<'a, R> {
    /// `[C, lanes]`
    pub y: &'a [R],
    /// `[C, lanes]`
    pub p: &'a mut [R],
    /// Σ e^(y − max) and max, `[2, lanes]`
    pub sum_max: &'a mut [R],
    /// A multiple of the quantum.
    pub lanes: usize,
}

impl<R: Num> WithSimd for Softmax<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let nv = self.lanes / R::lanes::<S>();
        let y = R::vectors::<S>(self.y);
        let p = R::vectors_mut::<S>(self.p);
        let (sums, maxima) = R::vectors_mut::<S>(self.sum_max).split_at_mut(nv);
        for v in 0..nv {
            // With the maximum subtracted, no e^y overflows and at least one is 1. NaN goes through to the sum.
            let mut max = y[v];
            for row in y.chunks_exact(nv) {
                max = R::vmax(s, max, row[v]);
            }
            let mut sum = R::splat(s, R::ZERO);
            for (y, p) in y.chunks_exact(nv).zip(p.chunks_exact_mut(nv)) {
                p[v] = exp::<R, S>(s, R::vsub(s, y[v], max));
                sum = R::vadd(s, sum, p[v]);
            }
            for p in p.chunks_exact_mut(nv) {
                p[v] = R::vdiv(s, p[v], sum);
            }
            sums[v] = sum;
            maxima[v] = max;
        }
    }
}
