//! Sigmoid, tanh and exp, branch-free, within a few units in the last place.
//!
//! All three use one reduction: x = n ln 2 + r with |r| ≤ ln 2 / 2, and e^x − 1 = 2ⁿ expm1(r) + (2ⁿ − 1), which loses
//! nothing near 0. Arguments are clamped where the result no longer changes, so that no intermediate value is denormal or
//! infinite; NaN stays NaN.

use pulp::{Simd, WithSimd};

use super::simd::Num;
use super::streams::map;

/// (2ⁿ, expm1(r)) for x = n ln 2 + r; `limit` clamps |x|.
#[inline(always)]
fn reduce<R: Num, S: Simd>(s: S, x: R::V<S>, limit: R, minus_limit: R) -> (R::V<S>, R::V<S>) {
    // The constant first: on x86 the result is the second operand where one is NaN.
    let x = R::vmax(s, R::splat(s, minus_limit), R::vmin(s, R::splat(s, limit), x));
    // Rounding by addition: one FMA and one subtraction, where a conversion to integers and back costs more and is not
    // in every instruction set's f64.
    let magic = R::splat(s, R::MAGIC);
    let rounded = R::vfma(s, x, R::splat(s, R::LOG2_E), magic);
    let n = R::vsub(s, rounded, magic);
    // In two parts, the larger first: x − n hi is exact, and only the small rest is rounded.
    let [hi, lo] = R::MINUS_LN_2;
    let r = R::vfma(s, n, R::splat(s, lo), R::vfma(s, n, R::splat(s, hi), x));
    let mut q = R::splat(s, R::EXPM1[0]);
    for &c in &R::EXPM1[1..] {
        q = R::vfma(s, q, r, R::splat(s, c));
    }
    (R::vexp2(s, rounded), R::vfma(s, R::vmul(s, r, r), q, r))
}

/// e^x
#[inline(always)]
pub fn exp<R: Num, S: Simd>(s: S, x: R::V<S>) -> R::V<S> {
    // 2ⁿ p + 2ⁿ by one rounding, rather than 2ⁿ (p + 1) by two.
    let (scale, p) = reduce::<R, S>(s, x, R::EXP_LIMIT, R::MINUS_EXP_LIMIT);
    R::vfma(s, scale, p, scale)
}

/// σ(x) = 1 / (1 + e^−x)
#[inline(always)]
pub fn sigmoid<R: Num, S: Simd>(s: S, x: R::V<S>) -> R::V<S> {
    // Clamped, e is at most e^87: neither does it overflow, nor does the quotient become denormal.
    let one = R::splat(s, R::ONE);
    let e = exp::<R, S>(s, R::vsub(s, R::splat(s, R::ZERO), x));
    R::vdiv(s, one, R::vadd(s, one, e))
}

/// tanh(x) = (e^2x − 1) / (e^2x + 1)
#[inline(always)]
pub fn tanh<R: Num, S: Simd>(s: S, x: R::V<S>) -> R::V<S> {
    let (scale, p) = reduce::<R, S>(s, R::vadd(s, x, x), R::TANH_LIMIT, R::MINUS_TANH_LIMIT);
    // e^2x − 1 is not computed from e^2x: near 0, where 2ⁿ is 1, the difference would cancel, but `p` alone is left here.
    let e = R::vfma(s, scale, p, R::vsub(s, scale, R::splat(s, R::ONE)));
    R::vdiv(s, e, R::vadd(s, e, R::splat(s, R::ONE + R::ONE)))
}

/// A function of one variable whose slope can be computed from its value.
#[derive(Clone, Copy, Debug)]
pub enum Curve {
    /// max(0, x), with slope 0 at 0
    Relu,
    /// tanh(x)
    Tanh,
    /// σ(x) = 1 / (1 + e^−x)
    Sigmoid,
}

/// y = f(x), element by element.
pub struct Activate<'a, R> {
    /// f
    pub curve: Curve,
    /// Any length.
    pub x: &'a [R],
    /// As long as x.
    pub y: &'a mut [R],
}

impl<R: Num> WithSimd for Activate<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { curve, x, y } = self;
        match curve {
            Curve::Relu => map(
                s,
                [x],
                [y],
                #[inline(always)]
                |[x], _| [R::vmax(s, R::splat(s, R::ZERO), x)],
            ),
            Curve::Tanh => map(
                s,
                [x],
                [y],
                #[inline(always)]
                |[x], _| [tanh::<R, S>(s, x)],
            ),
            Curve::Sigmoid => map(
                s,
                [x],
                [y],
                #[inline(always)]
                |[x], _| [sigmoid::<R, S>(s, x)],
            ),
        }
    }
}

/// x ← f(x), element by element.
pub struct ActivateInPlace<'a, R> {
    /// f
    pub curve: Curve,
    /// Any length.
    pub x: &'a mut [R],
}

impl<R: Num> WithSimd for ActivateInPlace<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { curve, x } = self;
        match curve {
            Curve::Relu => map(
                s,
                [],
                [x],
                #[inline(always)]
                |[], [x]| [R::vmax(s, R::splat(s, R::ZERO), x)],
            ),
            Curve::Tanh => map(
                s,
                [],
                [x],
                #[inline(always)]
                |[], [x]| [tanh::<R, S>(s, x)],
            ),
            Curve::Sigmoid => map(
                s,
                [],
                [x],
                #[inline(always)]
                |[], [x]| [sigmoid::<R, S>(s, x)],
            ),
        }
    }
}

/// dx = dy ⊙ f'(x), computed from y = f(x).
#[inline(always)]
pub fn activate_backward<R: Num>(curve: Curve, y: &[R], dy: &[R], dx: &mut [R]) {
    let all = y.iter().zip(dy).zip(dx);
    match curve {
        Curve::Relu => all.for_each(|((&y, &dy), dx)| *dx = if y > R::ZERO { dy } else { R::ZERO }),
        Curve::Tanh => all.for_each(|((&y, &dy), dx)| *dx = dy * (R::ONE - y * y)),
        Curve::Sigmoid => all.for_each(|((&y, &dy), dx)| *dx = dy * (y * (R::ONE - y))),
    }
}
