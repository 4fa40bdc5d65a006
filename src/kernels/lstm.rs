//! The pointwise part of an LSTM cell, forward and backward, a whole time step at once.
//!
//! Forward, from the pre-activations a (gates in PyTorch's order i, f, g, o):
//! i, f, o = σ(a); g = tanh(a); c' = f ⊙ c + i ⊙ g; h' = o ⊙ tanh(c').
//!
//! Backward, with dc the gradient that comes from the cell of the next step:
//! dc' = dc + dh' ⊙ o ⊙ (1 − tanh²(c'));
//! da_i = dc' ⊙ g ⊙ i ⊙ (1 − i); da_f = dc' ⊙ c ⊙ f ⊙ (1 − f); da_g = dc' ⊙ i ⊙ (1 − g²);
//! da_o = dh' ⊙ tanh(c') ⊙ o ⊙ (1 − o); and dc = dc' ⊙ f passes to the step before.
//!
//! Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate; Graves 2013, eq. 7–11 without
//! peepholes.

use pulp::{Simd, WithSimd};

use super::activation::{sigmoid, tanh};
use super::simd::Num;
use super::streams::map;

/// One step forward. All but `gates` are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// `[4H, lanes]`: pre-activations on entry, activations on return.
    pub gates: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a mut [R],
    /// tanh of the cell after.
    // Kept for the pass back, which would otherwise compute the dearest operation of the step once more.
    pub tanh_c: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
}

/// One step backward. All but `gates` are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// `[4H, lanes]`: activations on entry, gradients with respect to the pre-activations on return.
    pub gates: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// tanh of the cell after.
    pub tanh_c: &'a [R],
    /// The gradient with respect to the hidden state after.
    pub dh: &'a [R],
    /// The gradient with respect to the cell: after the step on entry, before it on return.
    pub dc: &'a mut [R],
}

/// One step of one sample, of which nothing is kept but the state. All but `gates` are `[H]`.
pub struct Step<'a, R> {
    /// `[4H]`: pre-activations.
    pub gates: &'a [R],
    /// The cell: before on entry, after on return.
    pub c: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
    /// The same again.
    pub y: &'a mut [R],
}

/// The four blocks of rows.
#[inline(always)]
// By halves, because that is how two `split_at_mut` borrow four parts; each is H rows of lanes, in PyTorch's order.
pub(super) fn quarters<V>(gates: &mut [V]) -> [&mut [V]; 4] {
    let (if_, go) = gates.split_at_mut(gates.len() / 2);
    let (i, f) = if_.split_at_mut(if_.len() / 2);
    let (g, o) = go.split_at_mut(go.len() / 2);
    [i, f, g, o]
}

impl<R: Num> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, c_prev, c, tanh_c, h } = self;
        let [i, f, g, o] = quarters(gates);
        // Two loops, because a chain from a through c to tanh(c) is as long as what a processor looks ahead: in one loop, it
        // would wait for the end of each chain.
        map(
            s,
            [c_prev],
            [i, f, g, &mut *o, &mut *c],
            #[inline(always)]
            |[c_prev], [i, f, g, o, _]| {
                let (i, f, o) = (sigmoid::<R, S>(s, i), sigmoid::<R, S>(s, f), sigmoid::<R, S>(s, o));
                let g = tanh::<R, S>(s, g);
                [i, f, g, o, R::vfma(s, i, g, R::vmul(s, f, c_prev))]
            },
        );
        map(
            s,
            [o, c],
            [tanh_c, h],
            #[inline(always)]
            |[o, c], _| {
                let tanh_c = tanh::<R, S>(s, c);
                [tanh_c, R::vmul(s, o, tanh_c)]
            },
        );
    }
}

impl<R: Num> WithSimd for Step<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, c, h, y } = self;
        let (if_, go) = gates.split_at(gates.len() / 2);
        let ((i, f), (g, o)) = (if_.split_at(if_.len() / 2), go.split_at(go.len() / 2));
        map(
            s,
            [i, f, g],
            [&mut *c],
            #[inline(always)]
            |[i, f, g], [c]| {
                let (i, f, g) = (sigmoid::<R, S>(s, i), sigmoid::<R, S>(s, f), tanh::<R, S>(s, g));
                [R::vfma(s, i, g, R::vmul(s, f, c))]
            },
        );
        // The output gate waits for nothing, so it is computed while tanh(c) waits for c.
        map(
            s,
            [o, c],
            [h, y],
            #[inline(always)]
            |[o, c], _| {
                let h = R::vmul(s, sigmoid::<R, S>(s, o), tanh::<R, S>(s, c));
                [h, h]
            },
        );
    }
}

impl<R: Num> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, c_prev, tanh_c, dh, dc } = self;
        let [i, f, g, o] = quarters(gates);
        let one = R::splat(s, R::ONE);
        map(
            s,
            [c_prev, tanh_c, dh],
            [i, f, g, o, dc],
            #[inline(always)]
            |[c_prev, tanh_c, dh], [i, f, g, o, dc]| {
                let through = R::vsub(s, one, R::vmul(s, tanh_c, tanh_c));
                let dc = R::vfma(s, R::vmul(s, dh, o), through, dc);
                let slope_i = R::vmul(s, i, R::vsub(s, one, i));
                let slope_f = R::vmul(s, f, R::vsub(s, one, f));
                let slope_g = R::vsub(s, one, R::vmul(s, g, g));
                let slope_o = R::vmul(s, o, R::vsub(s, one, o));
                [
                    R::vmul(s, R::vmul(s, dc, g), slope_i),
                    R::vmul(s, R::vmul(s, dc, c_prev), slope_f),
                    R::vmul(s, R::vmul(s, dc, i), slope_g),
                    R::vmul(s, R::vmul(s, dh, tanh_c), slope_o),
                    R::vmul(s, dc, f),
                ]
            },
        );
    }
}
