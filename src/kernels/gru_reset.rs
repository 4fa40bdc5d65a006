//! The pointwise part of a GRU whose reset gate comes before the product, forward and backward, a whole time step at
//! once. It is in two halves, since U (r ⊙ h) lies between them.
//!
//! Forward: r = σ(a), m = r ⊙ h; then, with U m in a_n: z = σ(a), n = tanh(a_n), h' = n + z ⊙ (h − n).
//!
//! Backward: da_z = dh' ⊙ (h − n) ⊙ z ⊙ (1 − z); da_n = dh' ⊙ (1 − z) ⊙ (1 − n²); dh += dh' ⊙ z; then, with
//! dm = Uᵀ da_n: da_r = dm ⊙ h ⊙ r ⊙ (1 − r); dh += dm ⊙ r.
//!
//! Source: Cho et al. 2014, eq. 5–8.

use pulp::{Simd, WithSimd};

use super::activation::{sigmoid, tanh};
use super::simd::Num;
use super::streams::map;

/// The first half of a step forward. All are `[H, lanes]`.
pub struct Reset<'a, R> {
    /// Pre-activation in, activation out.
    pub r: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// r ⊙ h
    pub m: &'a mut [R],
}

/// The second half of a step forward. All are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// Pre-activation in, activation out.
    pub z: &'a mut [R],
    /// Pre-activation in, activation out.
    pub n: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The hidden state after.
    pub h: &'a mut [R],
}

/// The first half of a step backward. All are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// Activation in, gradient of the pre-activation out.
    pub z: &'a mut [R],
    /// Activation in, gradient of the pre-activation out.
    pub n: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the hidden state before, added to.
    pub dh_prev: &'a mut [R],
}

/// The second half of a step backward. All are `[H, lanes]`.
pub struct ResetBack<'a, R> {
    /// Activation in, gradient of the pre-activation out.
    pub r: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The gradient of r ⊙ h.
    pub dm: &'a [R],
    /// The gradient of the hidden state before, added to.
    pub dh_prev: &'a mut [R],
}

impl<R: Num> WithSimd for Reset<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { r, h_prev, m } = self;
        map(
            s,
            [h_prev],
            [r, m],
            #[inline(always)]
            |[h_prev], [r, _]| {
                let r = sigmoid::<R, S>(s, r);
                [r, R::vmul(s, r, h_prev)]
            },
        );
    }
}

impl<R: Num> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { z, n, h_prev, h } = self;
        map(
            s,
            [h_prev],
            [z, n, h],
            #[inline(always)]
            |[h_prev], [z, n, _]| {
                let (z, n) = (sigmoid::<R, S>(s, z), tanh::<R, S>(s, n));
                [z, n, R::vfma(s, z, R::vsub(s, h_prev, n), n)]
            },
        );
    }
}

impl<R: Num> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { z, n, h_prev, dh, dh_prev } = self;
        let one = R::splat(s, R::ONE);
        map(
            s,
            [h_prev, dh],
            [z, n, dh_prev],
            #[inline(always)]
            |[h_prev, dh], [z, n, dh_prev]| {
                let slope_z = R::vmul(s, z, R::vsub(s, one, z));
                let slope_n = R::vsub(s, one, R::vmul(s, n, n));
                [
                    R::vmul(s, R::vmul(s, dh, R::vsub(s, h_prev, n)), slope_z),
                    R::vmul(s, R::vmul(s, dh, R::vsub(s, one, z)), slope_n),
                    R::vfma(s, dh, z, dh_prev),
                ]
            },
        );
    }
}

impl<R: Num> WithSimd for ResetBack<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { r, h_prev, dm, dh_prev } = self;
        let one = R::splat(s, R::ONE);
        map(
            s,
            [h_prev, dm],
            [r, dh_prev],
            #[inline(always)]
            |[h_prev, dm], [r, dh_prev]| {
                let slope_r = R::vmul(s, r, R::vsub(s, one, r));
                [R::vmul(s, R::vmul(s, dm, h_prev), slope_r), R::vfma(s, dm, r, dh_prev)]
            },
        );
    }
}
