//! The pointwise part of an LSTM cell with peepholes, forward and backward, a whole time step at once.
//!
//! Forward, from the pre-activations a (gates in the order i, f, g, o) and the peepholes p, one of each a unit:
//! i, f = σ(a + p ⊙ c); g = tanh(a); c' = f ⊙ c + i ⊙ g; o = σ(a + p_o ⊙ c'); h' = o ⊙ tanh(c').
//!
//! Backward, with dc the gradient that comes from the next step:
//! da_o = dh' ⊙ tanh(c') ⊙ o ⊙ (1 − o); dc' = dc + dh' ⊙ o ⊙ (1 − tanh²(c')) + p_o ⊙ da_o;
//! da_i, da_f, da_g as without peepholes; dp_i += da_i ⊙ c; dp_f += da_f ⊙ c; dp_o += da_o ⊙ c'; and
//! dc = dc' ⊙ f + p_i ⊙ da_i + p_f ⊙ da_f goes on to the step before.
//!
//! Source: Graves 2013, "Generating sequences with recurrent neural networks", eq. 7–11.

use pulp::{Simd, WithSimd};

use super::activation::{sigmoid, tanh};
use super::lstm::quarters;
use super::simd::Num;
use super::streams::{Spread, map, map_rows};

/// One step forward. All but `gates` and `peepholes` are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// `[4H, lanes]`: pre-activations in, activations out.
    pub gates: &'a mut [R],
    /// `[3, H]`: those of i, f and o.
    pub peepholes: &'a [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a mut [R],
    /// tanh of the cell after.
    pub tanh_c: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
    /// A multiple of the quantum; or 1, for one sample alone.
    pub lanes: usize,
}

/// One step backward. All but `gates`, `peepholes` and their gradients are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// `[4H, lanes]`: activations in, gradients of the pre-activations out.
    pub gates: &'a mut [R],
    /// `[3, H]`: those of i, f and o.
    pub peepholes: &'a [R],
    /// `[3, H, lanes]`: their gradients, added to.
    pub dpeepholes: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a [R],
    /// tanh of the cell after.
    pub tanh_c: &'a [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the cell: after in, before out.
    pub dc: &'a mut [R],
    /// A multiple of the quantum.
    pub lanes: usize,
}

/// The three peepholes.
#[inline(always)]
fn thirds<R>(peepholes: &[R]) -> [&[R]; 3] {
    let (i, fo) = peepholes.split_at(peepholes.len() / 3);
    let (f, o) = fo.split_at(i.len());
    [i, f, o]
}

impl<R: Num> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, peepholes, c_prev, c, tanh_c, h, lanes } = self;
        let [i, f, g, o] = quarters(gates);
        let [p_i, p_f, p_o] = thirds(peepholes);
        // Two loops for the reason that an LSTM has two.
        map_rows(
            s,
            Spread { lanes, of_row: [p_i, p_f, p_o], of_lane: [] },
            [c_prev],
            [i, f, g, &mut *o, &mut *c],
            #[inline(always)]
            |[p_i, p_f, p_o], [], [c_prev], [i, f, g, o, _]| {
                let i = sigmoid::<R, S>(s, R::vfma(s, p_i, c_prev, i));
                let f = sigmoid::<R, S>(s, R::vfma(s, p_f, c_prev, f));
                let g = tanh::<R, S>(s, g);
                let c = R::vfma(s, i, g, R::vmul(s, f, c_prev));
                [i, f, g, R::vfma(s, p_o, c, o), c]
            },
        );
        map(
            s,
            [c],
            [o, tanh_c, h],
            #[inline(always)]
            |[c], [o, ..]| {
                let (o, tanh_c) = (sigmoid::<R, S>(s, o), tanh::<R, S>(s, c));
                [o, tanh_c, R::vmul(s, o, tanh_c)]
            },
        );
    }
}

impl<R: Num> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, peepholes, dpeepholes, c_prev, c, tanh_c, dh, dc, lanes } = self;
        let [i, f, g, o] = quarters(gates);
        let (dp_i, rest) = dpeepholes.split_at_mut(dc.len());
        let (dp_f, dp_o) = rest.split_at_mut(dc.len());
        let one = R::splat(s, R::ONE);
        map_rows(
            s,
            Spread { lanes, of_row: thirds(peepholes), of_lane: [] },
            [c_prev, c, tanh_c, dh],
            [i, f, g, o, dc, dp_i, dp_f, dp_o],
            #[inline(always)]
            |[p_i, p_f, p_o], [], [c_prev, c, tanh_c, dh], [i, f, g, o, dc, dp_i, dp_f, dp_o]| {
                let slope_o = R::vmul(s, o, R::vsub(s, one, o));
                let da_o = R::vmul(s, R::vmul(s, dh, tanh_c), slope_o);
                let through = R::vsub(s, one, R::vmul(s, tanh_c, tanh_c));
                let dc = R::vfma(s, da_o, p_o, R::vfma(s, R::vmul(s, dh, o), through, dc));
                let slope_i = R::vmul(s, i, R::vsub(s, one, i));
                let slope_f = R::vmul(s, f, R::vsub(s, one, f));
                let slope_g = R::vsub(s, one, R::vmul(s, g, g));
                let da_i = R::vmul(s, R::vmul(s, dc, g), slope_i);
                let da_f = R::vmul(s, R::vmul(s, dc, c_prev), slope_f);
                [
                    da_i,
                    da_f,
                    R::vmul(s, R::vmul(s, dc, i), slope_g),
                    da_o,
                    R::vfma(s, da_i, p_i, R::vfma(s, da_f, p_f, R::vmul(s, dc, f))),
                    R::vfma(s, da_i, c_prev, dp_i),
                    R::vfma(s, da_f, c_prev, dp_f),
                    R::vfma(s, da_o, c, dp_o),
                ]
            },
        );
    }
}
