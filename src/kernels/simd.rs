//! One source for every instruction set: vectors of `f32` or `f64` over pulp, chosen when the program starts.

use std::ops::Range;
use std::sync::OnceLock;

use pulp::bytemuck;
use pulp::{Arch, Simd, WithSimd};

use crate::Scalar;

/// The instruction set that the kernels run on, which changes the time that a run takes, and no bit of its results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SimdLevel {
    /// Portable code of one lane, vectorised only as far as the compiler can.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 (F, BW, CD, DQ, VL).
    Avx512,
    /// Arm's NEON.
    Neon,
}

impl SimdLevel {
    /// Every level that this machine can run, the slowest first.
    pub fn available() -> Vec<SimdLevel> {
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon]
            .into_iter()
            .filter(|level| level.arch().is_some())
            .collect()
    }

    /// The level in use: the machine's best, or the one that the variable `BPTT_SIMD` names (`portable`, `avx2`,
    /// `avx512` or `neon`) when the first kernel runs. A variable that is empty counts as unset.
    ///
    /// # Panics
    /// If `BPTT_SIMD` names no level, or one that this machine cannot run.
    pub fn current() -> SimdLevel {
        chosen().0
    }

    /// The name that `BPTT_SIMD` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    pub(super) fn arch(self) -> Option<Arch> {
        match self {
            Self::Portable => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

fn chosen() -> (SimdLevel, Arch) {
    static CHOSEN: OnceLock<(SimdLevel, Arch)> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let available = SimdLevel::available();
        let level = match std::env::var_os("BPTT_SIMD").filter(|name| !name.is_empty()) {
            Some(name) => *available.iter().find(|level| name == level.name()).unwrap_or_else(|| {
                let names: Vec<_> = available.iter().map(|level| level.name()).collect();
                panic!("BPTT_SIMD: found {name:?}, expected one that this machine runs: {}", names.join(", "))
            }),
            None => available[available.len() - 1],
        };
        (level, level.arch().unwrap_or(Arch::Scalar))
    })
}

/// Runs `op` on the chosen instruction set.
#[inline(always)]
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    chosen().1.dispatch(op)
}

/// The lanes of the longest vector of any instruction set, AVX-512's.
pub const fn longest_vector<R>() -> usize {
    64 / size_of::<R>()
}

/// As [`dispatch`], for an `op` over `len` values of `R` side by side: on AVX2 rather than AVX-512 if they are few and a
/// last, long vector would be at most half full. Loads and stores of parts of vectors are slow, and both sets give the
/// same bits.
#[inline(always)]
pub fn dispatch_len<R, Op: WithSimd>(len: usize, op: Op) -> Op::Output {
    arch_of_len::<R>(len).dispatch(op)
}

/// The instruction set of [`dispatch_len`].
#[inline(always)]
pub fn arch_of_len<R>(len: usize) -> Arch {
    /// Among this many vectors, a part of one does not matter, but the width of the others does.
    const FEW: usize = 8;
    let [(arch, _), (last, rest)] = parts::<R>(len);
    let few = len <= FEW * longest_vector::<R>();
    if few && !rest.is_empty() { last } else { arch }
}

/// As [`dispatch_len`], for sums of which `len` are under way together: on AVX2 rather than AVX-512, too, if so few long
/// vectors hold them that each waits for its last addition. Twice as many short ones take no longer, and what reads them
/// reads short vectors.
#[inline(always)]
pub fn dispatch_one<R, Op: WithSimd>(len: usize, op: Op) -> Op::Output {
    arch_of_one::<R>(len).dispatch(op)
}

/// The instruction set of [`dispatch_one`].
#[inline(always)]
pub fn arch_of_one<R>(len: usize) -> Arch {
    #[cfg(target_arch = "x86_64")]
    if let (Arch::V4(longest), true) = (chosen().1, len <= 2 * longest_vector::<R>()) {
        return Arch::V3(*longest);
    }
    arch_of_len::<R>(len)
}

/// As [`dispatch`], for an `op` over rows of `lanes` values of `R`: on AVX2 rather than AVX-512 if long vectors do not fill
/// a row. Of one sample alone, the rows lie in the vectors.
#[inline(always)]
pub fn dispatch_lanes<R, Op: WithSimd>(lanes: usize, op: Op) -> Op::Output {
    let [(arch, _), (last, rest)] = parts::<R>(lanes);
    if rest.is_empty() || lanes == 1 { arch.dispatch(op) } else { last.dispatch(op) }
}

/// Cuts `len` values of `R` side by side into those for the chosen instruction set, and those for AVX2, which are at
/// most half a vector of AVX-512: there a short vector takes half the time of a long one or as much, never more.
#[inline(always)]
pub fn parts<R>(len: usize) -> [(Arch, Range<usize>); 2] {
    let arch = chosen().1;
    #[cfg(target_arch = "x86_64")]
    if let Arch::V4(longest) = arch {
        let lanes = longest_vector::<R>();
        let whole = len / lanes * lanes;
        if len - whole <= lanes / 2 {
            return [(arch, 0..whole), (Arch::V3(*longest), whole..len)];
        }
    }
    [(arch, 0..len), (arch, len..len)]
}

/// Runs a plain loop, a closure that is to be `#[inline(always)]`, on the chosen instruction set: the compiler
/// vectorises it.
///
/// The bound makes it an `FnOnce` and nothing more. A closure that could be called twice would be called through a shim,
/// which is compiled for the baseline processor and not always inlined.
#[inline(always)]
pub fn vectorized<T>(op: impl FnOnce() -> T) -> T {
    dispatch(op)
}

/// The vector operations that kernels are written in, for one scalar type and any instruction set.
pub trait Num: Scalar + bytemuck::Pod {
    /// A vector.
    type V<S: Simd>: bytemuck::Pod;

    /// Lanes of a vector.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::V<S>>() / size_of::<Self>()
    }
    /// Whole vectors of a slice whose length is a multiple of the lanes.
    fn vectors<S: Simd>(x: &[Self]) -> &[Self::V<S>];
    /// Whole vectors of a slice whose length is a multiple of the lanes.
    fn vectors_mut<S: Simd>(x: &mut [Self]) -> &mut [Self::V<S>];
    /// The values of a slice shorter than a vector, and 0 in the lanes left.
    fn load_part<S: Simd>(s: S, x: &[Self]) -> Self::V<S>;
    /// As many lanes as the slice, which is shorter than a vector, has room for.
    fn store_part<S: Simd>(s: S, x: &mut [Self], v: Self::V<S>);
    /// The same value in every lane.
    fn splat<S: Simd>(s: S, x: Self) -> Self::V<S>;
    /// a + b
    fn vadd<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a − b
    fn vsub<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a · b
    fn vmul<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a / b
    fn vdiv<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a · b + c, rounded once
    fn vfma<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// The smaller of a and b. If one is NaN, b or NaN; so the operand that may be NaN must be second.
    fn vmin<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// The larger of a and b. If one is NaN, b or NaN; so the operand that may be NaN must be second.
    fn vmax<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// Transposes within each piece of 128 bits: lane j of piece q of vector i becomes lane i of piece q of vector j, for
    /// i and j below [`QUAD`](Self::QUAD). Vectors have at least 128 bits here.
    fn transpose<S: Simd>(s: S, rows: [Self::V<S>; 4]) -> [Self::V<S>; 4];
    /// 2^n, where `a = n + MAGIC`.
    fn vexp2<S: Simd>(s: S, a: Self::V<S>) -> Self::V<S>;

    /// How many values 128 bits hold.
    const QUAD: usize = 16 / size_of::<Self>();
    /// 1.5 · 2^(mantissa bits), and the bias of an exponent: adding it to x rounds to an integer n, of which n + bias, the
    /// exponent of 2^n, is then in the low bits.
    const MAGIC: Self;
    /// log₂ e
    const LOG2_E: Self;
    /// −ln 2 in two parts: a high one with trailing zeros, and the remainder.
    const MINUS_LN_2: [Self; 2];
    /// expm1(r) = r + r² q(r) on |r| ≤ ln 2 / 2: the coefficients of q, the highest first.
    const EXPM1: &'static [Self];
    /// Arguments are clamped to this magnitude, at which e^x is still a normal number and, for our purposes,
    /// indistinguishable from 0 or ∞.
    const EXP_LIMIT: Self;
    /// Beyond half of this, tanh is ±1.
    const TANH_LIMIT: Self;
    /// −[`EXP_LIMIT`](Self::EXP_LIMIT)
    const MINUS_EXP_LIMIT: Self;
    /// −[`TANH_LIMIT`](Self::TANH_LIMIT)
    const MINUS_TANH_LIMIT: Self;
}

/// Names pulp's operations, which carry their scalar type in their names, the same for both types.
macro_rules! num {
    ($t:ident, $v:ident, $bits:ident, $shift:literal, $as_simd:ident, $as_mut_simd:ident,
     $load_part:ident, $store_part:ident, $splat:ident, $add:ident,
     $sub:ident, $mul:ident, $div:ident, $fma:ident, $fused:path, $min:ident, $max:ident) => {
        type V<S: Simd> = S::$v;

        #[inline(always)]
        fn vectors<S: Simd>(x: &[Self]) -> &[S::$v] {
            S::$as_simd(x).0
        }
        #[inline(always)]
        fn vectors_mut<S: Simd>(x: &mut [Self]) -> &mut [S::$v] {
            S::$as_mut_simd(x).0
        }
        #[inline(always)]
        fn load_part<S: Simd>(s: S, x: &[Self]) -> S::$v {
            s.$load_part(x)
        }
        #[inline(always)]
        fn store_part<S: Simd>(s: S, x: &mut [Self], v: S::$v) {
            s.$store_part(x, v);
        }
        #[inline(always)]
        fn splat<S: Simd>(s: S, x: Self) -> S::$v {
            s.$splat(x)
        }
        #[inline(always)]
        fn vadd<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$add(a, b)
        }
        #[inline(always)]
        fn vsub<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$sub(a, b)
        }
        #[inline(always)]
        fn vmul<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$mul(a, b)
        }
        #[inline(always)]
        fn vdiv<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$div(a, b)
        }
        #[inline(always)]
        fn vfma<S: Simd>(s: S, a: S::$v, b: S::$v, c: S::$v) -> S::$v {
            if size_of::<S::$v>() == size_of::<Self>() {
                // The operation of the one-lane level rounds twice.
                let [a, b, c]: [Self; 3] = [a, b, c].map(bytemuck::cast);
                return bytemuck::cast($fused(a, b, c));
            }
            s.$fma(a, b, c)
        }
        #[inline(always)]
        fn vmin<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            if size_of::<S::$v>() == size_of::<Self>() {
                // The operation of the one-lane level loses NaN.
                let (x, y): (Self, Self) = (bytemuck::cast(a), bytemuck::cast(b));
                return bytemuck::cast(if x < y { x } else { y });
            }
            s.$min(a, b)
        }
        #[inline(always)]
        fn vmax<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            if size_of::<S::$v>() == size_of::<Self>() {
                // As in `vmin`.
                let (x, y): (Self, Self) = (bytemuck::cast(a), bytemuck::cast(b));
                return bytemuck::cast(if x > y { x } else { y });
            }
            s.$max(a, b)
        }
        #[inline(always)]
        fn vexp2<S: Simd>(_: S, mut a: S::$v) -> S::$v {
            // The shift moves n and the bias into the exponent, and MAGIC's own bits out of the word.
            for bits in bytemuck::cast_slice_mut::<S::$v, $bits>(std::slice::from_mut(&mut a)) {
                *bits <<= $shift;
            }
            a
        }

        const MINUS_EXP_LIMIT: Self = -Self::EXP_LIMIT;
        const MINUS_TANH_LIMIT: Self = -Self::TANH_LIMIT;
    };
}

/// a · b + c, rounded once, on a processor that may not have an instruction for it: `f32::mul_add` would then call a function
/// at four times the cost.
///
/// The product is exact in f64. The sum is rounded to odd, which leaves a trace of what is cut off, so that the second
/// rounding, to f32, comes out as if it were the only one.
///
/// Source: Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd".
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (a as f64 * b as f64, c as f64);
    let sum = product + c;
    // What the addition cut off, exactly (Knuth's two-sum).
    let added = sum - product;
    let error = (product - (sum - added)) + (c - added);
    let inexact = (error > 0.0) | (error < 0.0);
    // One unit towards the exact sum, if the last bit is even; the other even neighbour is further away than the odd one.
    let away = (error > 0.0) == (sum > 0.0);
    let bits = sum.to_bits();
    let step = u64::from(inexact & (bits & 1 == 0));
    f64::from_bits(if away { bits.wrapping_add(step) } else { bits.wrapping_sub(step) }) as f32
}

/// Exchanges the odd lanes of `a` with the even lanes of `b`.
#[inline(always)]
fn exchange_lanes<S: Simd>(s: S, a: S::f32s, b: S::f32s) -> [S::f32s; 2] {
    let [swapped_a, swapped_b] = [a, b].map(
        #[inline(always)]
        |a| bytemuck::cast(s.swap_re_im_c32s(bytemuck::cast(a))),
    );
    let odd = lanes_with(s, 1);
    [s.select_f32s(odd, swapped_b, a), s.select_f32s(odd, b, swapped_a)]
}

/// The same with pairs of lanes, which are the lanes of f64.
#[inline(always)]
fn exchange_pairs<S: Simd>(s: S, a: S::f32s, b: S::f32s) -> [S::f32s; 2] {
    let [swapped_a, swapped_b] = [a, b].map(
        #[inline(always)]
        |a| bytemuck::cast(s.swap_re_im_c64s(bytemuck::cast(a))),
    );
    let odd = lanes_with(s, 2);
    [s.select_f32s(odd, swapped_b, a), s.select_f32s(odd, b, swapped_a)]
}

/// The lanes in whose number this bit is set.
#[inline(always)]
fn lanes_with<S: Simd>(s: S, bit: u32) -> S::m32s {
    const NUMBERS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let numbers = S::as_simd_u32s(&NUMBERS[..S::F32_LANES]).0[0];
    s.equal_u32s(s.and_u32s(numbers, s.splat_u32s(bit)), s.splat_u32s(bit))
}

impl Num for f32 {
    num!(
        f32,
        f32s,
        u32,
        23,
        as_simd_f32s,
        as_mut_simd_f32s,
        partial_load_f32s,
        partial_store_f32s,
        splat_f32s,
        add_f32s,
        sub_f32s,
        mul_f32s,
        div_f32s,
        mul_add_e_f32s,
        fused,
        min_f32s,
        max_f32s
    );

    #[inline(always)]
    fn transpose<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        let [[a, c], [b, d]] = [exchange_pairs(s, a, c), exchange_pairs(s, b, d)];
        let [[a, b], [c, d]] = [exchange_lanes(s, a, b), exchange_lanes(s, c, d)];
        [a, b, c, d]
    }

    // 1.5 · 2²³ + 127: the half keeps the sum in one binade for negative n, too.
    const MAGIC: Self = 12_583_039.0;
    const LOG2_E: Self = std::f32::consts::LOG2_E;
    // 355 / 512 has nine bits, so n · hi is exact for every n of the range even without FMA. The split is that of the
    // Cephes library's `expf`.
    const MINUS_LN_2: [Self; 2] = [-0.693_359_4, 2.121_944_4e-4];
    // By Remez exchange on |r| ≤ ln 2 / 2, of the error relative to expm1(r), that is with the weight |r² / expm1(r)|:
    // 1.32e-8 at the six extrema, 1.7e-8 with coefficients rounded to f32, well below half a unit in the last place
    // (6e-8). Over all f32, sigmoid and tanh are within 2.6 units in the last place:
    // `activations_are_within_four_ulp_in_f32_exhaustively` goes through them.
    const EXPM1: &'static [Self] = &[0.001_388_251_6, 0.008_366_548, 0.041_667_2, 0.166_665_43, 0.499_999_97];
    // The smallest normal number is e^−87.3; e^88.7 overflows.
    const EXP_LIMIT: Self = 87.0;
    // 1 − tanh(10) is 4e-9, less than half of what f32 can tell from 1 (6e-8).
    const TANH_LIMIT: Self = 20.0;
}

impl Num for f64 {
    num!(
        f64,
        f64s,
        u64,
        52,
        as_simd_f64s,
        as_mut_simd_f64s,
        partial_load_f64s,
        partial_store_f64s,
        splat_f64s,
        add_f64s,
        sub_f64s,
        mul_f64s,
        div_f64s,
        mul_add_e_f64s,
        f64::mul_add,
        min_f64s,
        max_f64s
    );

    #[inline(always)]
    fn transpose<S: Simd>(s: S, [a, b, c, d]: [S::f64s; 4]) -> [S::f64s; 4] {
        let [a, b]: [S::f32s; 2] = exchange_pairs(s, bytemuck::cast(a), bytemuck::cast(b));
        [bytemuck::cast(a), bytemuck::cast(b), c, d]
    }

    // 1.5 · 2⁵² + 1023
    const MAGIC: Self = 6_755_399_441_056_767.0;
    const LOG2_E: Self = std::f64::consts::LOG2_E;
    // The split of fdlibm's `exp`: the high part ends in 21 zero bits.
    const MINUS_LN_2: [Self; 2] = [-6.931_471_803_691_238e-1, -1.908_214_929_270_587_7e-10];
    // 1/k!, k = 14 … 2: Taylor's series. What is left of it is at most r¹⁴ / 15! = 3e-19 relative to r, so a fit would
    // gain nothing but a shorter loop, and f64 serves gradient checks.
    const EXPM1: &'static [Self] = &[
        1.0 / 87_178_291_200.0,
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    // The smallest normal number is e^−708.4; e^709.8 overflows.
    const EXP_LIMIT: Self = 708.0;
    // 1 − tanh(20) is 8e-18, less than half of what f64 can tell from 1 (1e-16).
    const TANH_LIMIT: Self = 40.0;
}

#[cfg(test)]
mod tests {
    use super::fused;
    use crate::rng;
    use rand::RngCore;

    #[test]
    fn fused_multiply_add_rounds_once() {
        let mut rng = rng::rng(1);
        let check = |a: f32, b: f32, c: f32| {
            let (found, expected) = (fused(a, b, c), a.mul_add(b, c));
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{a:e} · {b:e} + {c:e} is {found:e}, expected {expected:e}"
            );
        };
        let special = [0.0, -0.0, 1.0, -1.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY, f32::NAN];
        for a in special {
            for b in special {
                special.iter().for_each(|&c| check(a, b, c));
            }
        }
        for _ in 0..1_000_000 {
            let [a, b, c] = [(); 3].map(|()| f32::from_bits(rng.next_u32()));
            check(a, b, c);
            // The sum is close to half way between two f32: where rounding twice goes wrong.
            let half = f32::from_bits(0x3f80_0000 | rng.next_u32() >> 9);
            check(half, f32::from_bits(0x3380_0000 | rng.next_u32() & 0x7f_ffff), 1.0 + half);
            check(a, b, -a * b);
        }
    }
}
