//! The pointwise part of a GRU, forward and backward, a whole time step at once.
//!
//! The new gate keeps what comes from x and what comes from h apart, so there are four blocks of pre-activations:
//! r and z of both, n of x alone, and q, n of h alone.
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
use crate::Real;

/// One step forward. All but `gates` are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// `[4H, lanes]`: pre-activations r, z, n, q in; r, z, n as activations and q as it was out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The hidden state after.
    pub h: &'a mut [R],
}

/// One step backward. All but `gates` are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// `[4H, lanes]`: as forward left them in; gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// The hidden state before.
    pub h_prev: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the hidden state before, added to.
    pub dh_prev: &'a mut [R],
}

impl<R: Real> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let [r, z, n, q] = quarters(R::vectors_mut::<S>(self.gates));
        let len = r.len();
        let (z, n, q) = (&mut z[..len], &mut n[..len], &q[..len]);
        let h_prev = &R::vectors::<S>(self.h_prev)[..len];
        let h = &mut R::vectors_mut::<S>(self.h)[..len];
        for u in 0..len {
            r[u] = sigmoid::<R, S>(s, r[u]);
            z[u] = sigmoid::<R, S>(s, z[u]);
            n[u] = tanh::<R, S>(s, R::vfma(s, r[u], q[u], n[u]));
            h[u] = R::vfma(s, z[u], R::vsub(s, h_prev[u], n[u]), n[u]);
        }
    }
}

impl<R: Real> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let [r, z, n, q] = quarters(R::vectors_mut::<S>(self.gates));
        let len = r.len();
        let (z, n, q) = (&mut z[..len], &mut n[..len], &mut q[..len]);
        let h_prev = &R::vectors::<S>(self.h_prev)[..len];
        let dh = &R::vectors::<S>(self.dh)[..len];
        let dh_prev = &mut R::vectors_mut::<S>(self.dh_prev)[..len];
        let one = R::splat(s, R::ONE);
        for u in 0..len {
            let slope_r = R::vmul(s, r[u], R::vsub(s, one, r[u]));
            let slope_z = R::vmul(s, z[u], R::vsub(s, one, z[u]));
            let slope_n = R::vsub(s, one, R::vmul(s, n[u], n[u]));
            let dn = R::vmul(s, R::vmul(s, dh[u], R::vsub(s, one, z[u])), slope_n);
            let dz = R::vmul(s, R::vmul(s, dh[u], R::vsub(s, h_prev[u], n[u])), slope_z);
            dh_prev[u] = R::vfma(s, dh[u], z[u], dh_prev[u]);
            let dr = R::vmul(s, R::vmul(s, dn, q[u]), slope_r);
            q[u] = R::vmul(s, dn, r[u]);
            r[u] = dr;
            z[u] = dz;
            n[u] = dn;
        }
    }
}
