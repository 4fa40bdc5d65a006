//! The pointwise part of an LSTM cell with layer normalisation, forward and backward, a whole time step at once.
//!
//! W x and U h come apart, as eight blocks of rows: i, f, g, o of x, then those of h. With x̂ = (x − mean) · rstd over
//! all rows of a lane, and γ, β the gains and biases of the three normalisations:
//!
//! Forward: a = γ_x ⊙ hat(W x) + β_x + γ_h ⊙ hat(U h) + β_h, over 4H rows; i, f, o = σ(a); g = tanh(a);
//! c' = f ⊙ c + i ⊙ g; h' = o ⊙ tanh(n) with n = γ_c ⊙ hat(c') + β_c, over H rows.
//!
//! Backward: da_o = dh' ⊙ tanh(n) ⊙ o ⊙ (1 − o); dn = dh' ⊙ o ⊙ (1 − tanh²(n)); dc' = dc + N(c', γ_c ⊙ dn);
//! da_i, da_f, da_g and dc = dc' ⊙ f as in an LSTM; d(W x) = N(W x, γ_x ⊙ da); d(U h) = N(U h, γ_h ⊙ da); where
//! N(x, d) = (d − mean(d) − x̂ ⊙ mean(d ⊙ x̂)) · rstd. Gains: dγ += da ⊙ x̂; biases: dβ += da; with dn for those of c.
//!
//! Source: Ba, Kiros & Hinton 2016, "Layer normalization", supplementary material, eq. 20–22.

use pulp::{Simd, WithSimd};

use super::activation::{sigmoid, tanh};
use super::layer_norm::{hat, moments};
use super::lstm::quarters;
use super::simd::Num;
use super::streams::{Spread, map, map_rows};

/// One step forward. All but `gates`, `params` and `kept` are `[H, lanes]`.
pub struct Forward<'a, R> {
    /// `[8H, lanes]`: W x, then U h; normalised out.
    pub gates: &'a mut [R],
    /// `[18, H]`: γ_x, β_x, γ_h and β_h of four blocks each, γ_c, β_c.
    pub params: &'a [R],
    /// ε, added to variances.
    pub eps: R,
    /// The cell before.
    pub c_prev: &'a [R],
    /// The cell after.
    pub c: &'a mut [R],
    /// `[6H + 6, lanes]`: activations i, f, g, o; c' normalised; tanh(n); mean and rstd of W x, of U h and of c'.
    pub kept: &'a mut [R],
    /// The hidden state after.
    pub h: &'a mut [R],
    /// A multiple of the quantum; or 1, for one sample alone.
    pub lanes: usize,
}

/// One step backward. All but `gates`, `params`, `grads` and `kept` are `[H, lanes]`.
pub struct Backward<'a, R> {
    /// `[8H, lanes]`: W x and U h, normalised, in; their gradients out.
    pub gates: &'a mut [R],
    /// `[18, H]`, as in [`Forward`].
    pub params: &'a [R],
    /// `[18, H, lanes]`: the gradients of `params`, added to.
    pub grads: &'a mut [R],
    /// The cell before.
    pub c_prev: &'a [R],
    /// As in [`Forward`]; overwritten.
    pub kept: &'a mut [R],
    /// The gradient of the hidden state after.
    pub dh: &'a [R],
    /// The gradient of the cell: after in, before out.
    pub dc: &'a mut [R],
    /// A multiple of the quantum.
    pub lanes: usize,
}

/// Blocks of H parameters: γ_x, β_x, γ_h, β_h, γ_c, β_c.
const BLOCKS: [usize; 6] = [4, 4, 4, 4, 1, 1];

/// The six tensors of `params`.
#[inline(always)]
fn tensors<R>(mut params: &[R]) -> [&[R]; 6] {
    let block = params.len() / 18;
    let mut tensors = [&[][..]; 6];
    for (tensor, blocks) in tensors.iter_mut().zip(BLOCKS) {
        (*tensor, params) = params.split_at(blocks * block);
    }
    tensors
}

/// As above, for their gradients.
#[inline(always)]
fn tensors_mut<R>(mut grads: &mut [R]) -> [&mut [R]; 6] {
    let block = grads.len() / 18;
    let mut tensors: [&mut [R]; 6] = Default::default();
    for (tensor, blocks) in tensors.iter_mut().zip(BLOCKS) {
        (*tensor, grads) = grads.split_at_mut(blocks * block);
    }
    tensors
}

/// What a step keeps.
struct Kept<'a, R> {
    /// `[4H, lanes]`
    acts: &'a mut [R],
    /// `[H, lanes]`
    hat_c: &'a mut [R],
    /// `[H, lanes]`
    tanh_n: &'a mut [R],
    /// `[2, lanes]` each: mean and rstd of W x, U h and c'.
    stats: [&'a mut [R]; 3],
}

impl<'a, R> Kept<'a, R> {
    #[inline(always)]
    fn new(kept: &'a mut [R], lanes: usize) -> Self {
        let (values, stats) = kept.split_at_mut(kept.len() - 6 * lanes);
        let (acts, of_c) = values.split_at_mut(values.len() / 6 * 4);
        let (hat_c, tanh_n) = of_c.split_at_mut(of_c.len() / 2);
        let (x, rest) = stats.split_at_mut(2 * lanes);
        let (h, c) = rest.split_at_mut(2 * lanes);
        Self { acts, hat_c, tanh_n, stats: [x, h, c] }
    }
}

impl<R: Num> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, params, eps, c_prev, c, kept, h, lanes } = self;
        let [gain_x, bias_x, gain_h, bias_h, gain_c, bias_c] = tensors(params);
        let Kept { acts, hat_c, tanh_n, stats: [of_x, of_h, of_c] } = Kept::new(kept, lanes);
        let (wx, uh) = gates.split_at_mut(gates.len() / 2);
        moments(s, wx, eps, lanes, of_x);
        moments(s, uh, eps, lanes, of_h);
        let ((mean_x, rstd_x), (mean_h, rstd_h)) = (of_x.split_at(lanes), of_h.split_at(lanes));
        map_rows(
            s,
            Spread {
                lanes,
                of_row: [gain_x, bias_x, gain_h, bias_h],
                of_lane: [mean_x, rstd_x, mean_h, rstd_h],
            },
            [],
            [wx, uh, acts],
            #[inline(always)]
            |[gain_x, bias_x, gain_h, bias_h], [mean_x, rstd_x, mean_h, rstd_h], [], [wx, uh, _]| {
                let (x, h) = (hat::<R, S>(s, wx, mean_x, rstd_x), hat::<R, S>(s, uh, mean_h, rstd_h));
                let a_x = R::vadd(s, R::vmul(s, x, gain_x), bias_x);
                let a_h = R::vadd(s, R::vmul(s, h, gain_h), bias_h);
                [x, h, R::vadd(s, a_x, a_h)]
            },
        );
        let [i, f, g, o] = quarters(acts);
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
        moments(s, c, eps, lanes, of_c);
        let (mean, rstd) = of_c.split_at(lanes);
        map_rows(
            s,
            Spread { lanes, of_row: [gain_c, bias_c], of_lane: [mean, rstd] },
            [c, o],
            [hat_c, tanh_n, h],
            #[inline(always)]
            |[gain, bias], [mean, rstd], [c, o], _| {
                let c = hat::<R, S>(s, c, mean, rstd);
                let tanh_n = tanh::<R, S>(s, R::vadd(s, R::vmul(s, c, gain), bias));
                [c, tanh_n, R::vmul(s, o, tanh_n)]
            },
        );
    }
}

impl<R: Num> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { gates, params, grads, c_prev, kept, dh, dc, lanes } = self;
        let [gain_x, _, gain_h, _, gain_c, _] = tensors(params);
        let [dgain_x, dbias_x, dgain_h, dbias_h, dgain_c, dbias_c] = tensors_mut(grads);
        let Kept { acts, hat_c, tanh_n, stats: [of_x, of_h, of_c] } = Kept::new(kept, lanes);
        let one = R::splat(s, R::ONE);
        let [i, f, g, o] = quarters(acts);
        map(
            s,
            [dh],
            [o, &mut *tanh_n],
            #[inline(always)]
            |[dh], [o, tanh_n]| {
                let da_o = R::vmul(s, R::vmul(s, dh, tanh_n), R::vmul(s, o, R::vsub(s, one, o)));
                let dn = R::vmul(s, R::vmul(s, dh, o), R::vsub(s, one, R::vmul(s, tanh_n, tanh_n)));
                [da_o, dn]
            },
        );
        // dn is in place of tanh(n) by now; what reaches c' through it takes the place of the normalised c'.
        normalize_back(s, hat_c, tanh_n, Normed { gain: gain_c, stats: of_c }, [dgain_c, dbias_c]);
        map(
            s,
            [c_prev, hat_c],
            [i, f, g, dc],
            #[inline(always)]
            |[c_prev, dc_through], [i, f, g, dc]| {
                let dc = R::vadd(s, dc, dc_through);
                let slope_i = R::vmul(s, i, R::vsub(s, one, i));
                let slope_f = R::vmul(s, f, R::vsub(s, one, f));
                let slope_g = R::vsub(s, one, R::vmul(s, g, g));
                [
                    R::vmul(s, R::vmul(s, dc, g), slope_i),
                    R::vmul(s, R::vmul(s, dc, c_prev), slope_f),
                    R::vmul(s, R::vmul(s, dc, i), slope_g),
                    R::vmul(s, dc, f),
                ]
            },
        );
        let (wx, uh) = gates.split_at_mut(gates.len() / 2);
        normalize_back(s, wx, acts, Normed { gain: gain_x, stats: of_x }, [dgain_x, dbias_x]);
        normalize_back(s, uh, acts, Normed { gain: gain_h, stats: of_h }, [dgain_h, dbias_h]);
    }
}

/// One normalisation of a step.
struct Normed<'a, R> {
    /// γ
    gain: &'a [R],
    /// `[2, lanes]`: mean and rstd.
    stats: &'a [R],
}

/// `hat`, x̂ in, is N(x, γ ⊙ d) out; dγ += d ⊙ x̂; dβ += d. Means run over the rows of a lane in their order.
#[inline(always)]
fn normalize_back<R: Num, S: Simd>(
    s: S,
    hat: &mut [R],
    d: &[R],
    Normed { gain, stats }: Normed<'_, R>,
    [dgain, dbias]: [&mut [R]; 2],
) {
    let width = stats.len() / 2 / R::lanes::<S>();
    let rstd = &R::vectors::<S>(stats)[width..];
    let (hat, d) = (R::vectors_mut::<S>(hat), R::vectors::<S>(d));
    let (dgain, dbias) = (R::vectors_mut::<S>(dgain), R::vectors_mut::<S>(dbias));
    let n = R::splat(s, R::from_f64(gain.len() as f64));
    for (v, &rstd) in rstd.iter().enumerate() {
        let (mut plain, mut along) = (R::splat(s, R::ZERO), R::splat(s, R::ZERO));
        for (f, i) in (v..hat.len()).step_by(width).enumerate() {
            let own = R::vmul(s, d[i], R::splat(s, gain[f]));
            plain = R::vadd(s, plain, own);
            along = R::vfma(s, own, hat[i], along);
            dgain[i] = R::vfma(s, d[i], hat[i], dgain[i]);
            dbias[i] = R::vadd(s, dbias[i], d[i]);
        }
        (plain, along) = (R::vdiv(s, plain, n), R::vdiv(s, along, n));
        for (f, i) in (v..hat.len()).step_by(width).enumerate() {
            let own = R::vmul(s, d[i], R::splat(s, gain[f]));
            let left = R::vsub(s, R::vsub(s, own, plain), R::vmul(s, hat[i], along));
            hat[i] = R::vmul(s, left, rstd);
        }
    }
}
