//! The pointwise part of an LSTM cell, forward and backward, a whole time step at once.
//!
//! Forward, from the pre-activations a (gates in PyTorch's order i, f, g, o):
//! i, f, o = σ(a); g = tanh(a); c' = f ⊙ c + i ⊙ g; h' = o ⊙ tanh(c').
//!
//! Backward, with dc the gradient that comes from the next step's cell:
//! dc' = dc + dh' ⊙ o ⊙ (1 − tanh²(c'));
//! da_i = dc' ⊙ g ⊙ i ⊙ (1 − i); da_f = dc' ⊙ c ⊙ f ⊙ (1 − f); da_g = dc' ⊙ i ⊙ (1 − g²);
//! da_o = dh' ⊙ tanh(c') ⊙ o ⊙ (1 − o); and dc = dc' ⊙ f goes on to the step before.
//!
//! Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate; Graves 2013, eq. 7–11 without
//! peepholes.

use pulp::{Simd, WithSimd};

use super::activation::{sigmoid, tanh};
use crate::Real;

/// One step forward. All but `gates` are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// `[4H, lanes]`: pre-activations in, activations out.
    pub gates: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a mut [R],
    /// tanh of the cell after.
    pub tanh_c: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
}

/// One step backward. All but `gates` are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// `[4H, lanes]`: activations in, gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// tanh of the cell after.
    pub tanh_c: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the cell: after in, before out.
    pub dc: &'a mut [R],
}

/// The four blocks of rows.
#[inline(always)]
pub(super) fn quarters<V>(gates: &mut [V]) -> [&mut [V]; 4] {
    let (if_, go) = gates.split_at_mut(gates.len() / 2);
    let (i, f) = if_.split_at_mut(if_.len() / 2);
    let (g, o) = go.split_at_mut(go.len() / 2);
    [i, f, g, o]
}

impl<R: Real> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let [i, f, g, o] = quarters(R::vectors_mut::<S>(self.gates));
        let n = i.len();
        let (f, g, o) = (&mut f[..n], &mut g[..n], &mut o[..n]);
        let c_prev = &R::vectors::<S>(self.c_prev)[..n];
        let c = &mut R::vectors_mut::<S>(self.c)[..n];
        let tanh_c = &mut R::vectors_mut::<S>(self.tanh_c)[..n];
        let h = &mut R::vectors_mut::<S>(self.h)[..n];
        for u in 0..n {
            i[u] = sigmoid::<R, S>(s, i[u]);
            f[u] = sigmoid::<R, S>(s, f[u]);
            g[u] = tanh::<R, S>(s, g[u]);
            o[u] = sigmoid::<R, S>(s, o[u]);
            c[u] = R::vfma(s, i[u], g[u], R::vmul(s, f[u], c_prev[u]));
            tanh_c[u] = tanh::<R, S>(s, c[u]);
            h[u] = R::vmul(s, o[u], tanh_c[u]);
        }
    }
}

impl<R: Real> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let [i, f, g, o] = quarters(R::vectors_mut::<S>(self.gates));
        let n = i.len();
        let (f, g, o) = (&mut f[..n], &mut g[..n], &mut o[..n]);
        let c_prev = &R::vectors::<S>(self.c_prev)[..n];
        let tanh_c = &R::vectors::<S>(self.tanh_c)[..n];
        let dh = &R::vectors::<S>(self.dh)[..n];
        let dc = &mut R::vectors_mut::<S>(self.dc)[..n];
        let one = R::splat(s, R::ONE);
        for u in 0..n {
            let do_ = R::vmul(s, dh[u], tanh_c[u]);
            let through = R::vsub(s, one, R::vmul(s, tanh_c[u], tanh_c[u]));
            let dcell = R::vfma(s, R::vmul(s, dh[u], o[u]), through, dc[u]);
            let slope_i = R::vmul(s, i[u], R::vsub(s, one, i[u]));
            let slope_f = R::vmul(s, f[u], R::vsub(s, one, f[u]));
            let slope_g = R::vsub(s, one, R::vmul(s, g[u], g[u]));
            let slope_o = R::vmul(s, o[u], R::vsub(s, one, o[u]));
            dc[u] = R::vmul(s, dcell, f[u]);
            let di = R::vmul(s, dcell, g[u]);
            g[u] = R::vmul(s, R::vmul(s, dcell, i[u]), slope_g);
            i[u] = R::vmul(s, di, slope_i);
            f[u] = R::vmul(s, R::vmul(s, dcell, c_prev[u]), slope_f);
            o[u] = R::vmul(s, do_, slope_o);
        }
    }
}
