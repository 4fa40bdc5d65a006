//! The pointwise part of a GRU, forward and backward, a whole time step at once.
//!
//! The new gate keeps the contributions of x and h apart, so there are four blocks of pre-activations: n from x alone, r
//! and z from both, and q, the part of n from h alone.
//!
//! Forward: r, z = σ(a); n = tanh(a_n + r ⊙ q); h' = n + z ⊙ (h − n).
//!
//! Backward: da_z = dh' ⊙ (h − n) ⊙ z ⊙ (1 − z); da_n = dh' ⊙ (1 − z) ⊙ (1 − n²); dq = da_n ⊙ r;
//! da_r = da_n ⊙ q ⊙ r ⊙ (1 − r); and dh += dh' ⊙ z.
//!
//! Source: Cho et al. 2014, in the form of cuDNN and PyTorch, where r scales U h + b and not h.

use pulp::{Simd, WithSimd};

use super::activation::{sigmoid, tanh};
use super::lstm::quarters;
use super::simd::Num;
use super::streams::map;

/// One step forward. All but `gates` are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// `[4H, lanes]`: pre-activations n, r, z, q on entry; n, r, z as activations, and q unchanged, on return.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The hidden state after.
    pub h: &'a mut [R],
}

/// One step backward. All but `gates` are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// `[4H, lanes]`: as the forward pass left them on entry; gradients with respect to the pre-activations on return.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The gradient with respect to the hidden state after.
    pub dh: &'a [R],
    /// The gradient with respect to the hidden state before, to which the step adds.
    pub dh_prev: &'a mut [R],
}

/// One step of one sample, of which nothing is kept but the state. All but `gates` are `[H]`.
pub struct Step<'a, R> {
    /// `[4H]`: pre-activations n, r, z, q on entry; arbitrary on return.
    pub gates: &'a mut [R],
    /// The hidden state: before on entry, after on return.
    pub h: &'a mut [R],
    /// The hidden state after, again.
    pub y: &'a mut [R],
}

impl<R: Num> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, h_prev, h } = self;
        let [n, r, z, q] = quarters(gates);
        // Two loops for the reason that an LSTM has two. q stays as it was: r's gradient needs it.
        map(
            s,
            [q],
            [r, &mut *z, &mut *n],
            #[inline(always)]
            |[q], [r, z, n]| {
                let r = sigmoid::<R, S>(s, r);
                [r, sigmoid::<R, S>(s, z), R::vfma(s, r, q, n)]
            },
        );
        map(
            s,
            [h_prev, z],
            [n, h],
            #[inline(always)]
            |[h_prev, z], [n, _]| {
                let n = tanh::<R, S>(s, n);
                [n, R::vfma(s, z, R::vsub(s, h_prev, n), n)]
            },
        );
    }
}

impl<R: Num> WithSimd for Step<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, h, y } = self;
        let [n, r, z, q] = quarters(gates);
        map(
            s,
            [r, q],
            [&mut *n],
            #[inline(always)]
            |[r, q], [n]| [R::vfma(s, sigmoid::<R, S>(s, r), q, n)],
        );
        // The update gate waits for nothing, so it is computed while tanh(n) waits for n.
        map(
            s,
            [z, n],
            [h, y],
            #[inline(always)]
            |[z, n], [h, _]| {
                let (z, n) = (sigmoid::<R, S>(s, z), tanh::<R, S>(s, n));
                let h = R::vfma(s, z, R::vsub(s, h, n), n);
                [h, h]
            },
        );
    }
}

impl<R: Num> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, h_prev, dh, dh_prev } = self;
        let [n, r, z, q] = quarters(gates);
        let one = R::splat(s, R::ONE);
        map(
            s,
            [h_prev, dh],
            [r, z, n, q, dh_prev],
            #[inline(always)]
            |[h_prev, dh], [r, z, n, q, dh_prev]| {
                let slope_r = R::vmul(s, r, R::vsub(s, one, r));
                let slope_z = R::vmul(s, z, R::vsub(s, one, z));
                let slope_n = R::vsub(s, one, R::vmul(s, n, n));
                let dn = R::vmul(s, R::vmul(s, dh, R::vsub(s, one, z)), slope_n);
                let dz = R::vmul(s, R::vmul(s, dh, R::vsub(s, h_prev, n)), slope_z);
                let dr = R::vmul(s, R::vmul(s, dn, q), slope_r);
                [dr, dz, dn, R::vmul(s, dn, r), R::vfma(s, dh, z, dh_prev)]
            },
        );
    }
}
