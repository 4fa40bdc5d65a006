//! Randomness without hidden state: a key names a stream of numbers, and is a function of what the numbers are for.
//!
//! A shuffle is keyed by (seed, epoch), a dropout mask by (seed, epoch, draw, layer, step). So no generator has a state
//! to save, the number of threads changes nothing, and a resumed run draws the same numbers as an uninterrupted one. The
//! numbers are the same on every platform.

use rand::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Added between parts. It differs from SplitMix64's own increment, with which [`rng`] expands a key, so that the key of
/// `[…, 0]` is not the first word of the generator of `[…]`.
const INCREMENT: u64 = 0xd134_2543_de82_ef95;

/// Mixes `parts`, in order, into one key.
///
/// key(∅) = 0; key(a, …, y, z) = mix((key(a, …, y) + increment) xor z), where mix is SplitMix64's finaliser, a
/// bijection: keys that differ only in their last part never collide.
///
/// # Source
/// Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
///
/// # Examples
/// ```
/// use bptt::rng::key;
///
/// let (seed, epoch) = (1, 2);
/// assert_eq!(key(&[seed, epoch]), 0x1517_80a3_f310_4f8d);
/// assert_ne!(key(&[seed, epoch]), key(&[epoch, seed]));
/// ```
pub fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |key, &part| extend(key, part))
}

/// The key of the parts of `key` and one more.
#[inline(always)]
pub(crate) const fn extend(key: u64, part: u64) -> u64 {
    mix(key.wrapping_add(INCREMENT) ^ part)
}

/// The generator that `key` names.
///
/// # Examples
/// ```
/// use rand::RngCore;
///
/// let mut rng = bptt::rng::rng(0);
/// assert_eq!(rng.next_u64(), 0x5317_5d61_490b_23df);
/// ```
pub fn rng(key: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(key)
}

/// A number in `0..n`, from one draw; 0 if `n` is 0.
///
/// By multiplication and shift: the probabilities of two numbers differ by at most 2⁻⁶⁴.
pub fn below(rng: &mut impl RngCore, n: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(n)) >> 64) as u64
}

/// A number in (0, 1), from one draw: 53 random bits, moved by half a step so that the interval is open and symmetric.
///
/// # Examples
/// ```
/// let x = bptt::rng::unit(&mut bptt::rng::rng(0));
/// assert_eq!(x, 0.32457526803140674);
/// ```
pub fn unit(rng: &mut impl RngCore) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Two numbers of the normal distribution N(0, 1).
///
/// They are the same on every platform, since the platform's mathematical library is not used.
///
/// # Source
/// Marsaglia & Bray 1964, "A convenient method for generating normal variables".
///
/// # Examples
/// ```
/// assert_eq!(bptt::rng::normals(&mut bptt::rng::rng(0)), [-1.541182607223073, -1.034579024256711]);
/// ```
pub fn normals(rng: &mut impl RngCore) -> [f64; 2] {
    loop {
        // A point in the unit disc; its squared radius is uniform, and does not depend on its direction.
        let [u, v] = [2.0 * unit(rng) - 1.0, 2.0 * unit(rng) - 1.0];
        let s = u * u + v * v;
        if s < 1.0 {
            let scale = (-2.0 * ln(s) / s).sqrt();
            return [u * scale, v * scale];
        }
    }
}

/// The natural logarithm of a positive normal number, to a few units in the last place.
///
/// ln(m 2ᵉ) = e ln 2 + 2 atanh(r), r = (m − 1) / (m + 1), with m between √½ and √2, so |r| < 0.172
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = ((bits >> 52) as i64 - 1023) as f64;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | (1023 << 52));
    if m > std::f64::consts::SQRT_2 {
        (e, m) = (e + 1.0, m * 0.5);
    }
    let r = (m - 1.0) / (m + 1.0);
    // 2 r (1 + r²/3 + r⁴/5 + …); the terms left out are below 2⁻⁵⁵.
    let series = (0..11).rev().fold(0.0, |sum, k| sum * (r * r) + 1.0 / f64::from(2 * k + 1));
    e * std::f64::consts::LN_2 + 2.0 * r * series
}

/// SplitMix64's finaliser.
#[inline(always)]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by a few lines of Python that share nothing with this file.
    #[test]
    fn keys_are_as_computed_elsewhere() {
        assert_eq!(key(&[]), 0);
        assert_eq!(key(&[0]), 0xad53_d547_2392_edec);
        assert_eq!(key(&[1]), 0x7f9f_a62e_b5e9_42b3);
        assert_eq!(key(&[2, 1]), 0xcbac_df9e_27ab_8d38);
        assert_eq!(key(&[1, 2, 3]), 0xf1eb_baad_c41b_bf15);
    }

    #[test]
    fn generator_is_xoshiro_seeded_by_splitmix() {
        let mut rng = rng(0);
        assert_eq!([rng.next_u64(), rng.next_u64()], [0x5317_5d61_490b_23df, 0x61da_6f3d_c380_d507]);
    }

    #[test]
    fn near_keys_do_not_collide() {
        let mut keys: Vec<u64> = (0..64)
            .flat_map(|a| (0..64).map(move |b| key(&[a, b])))
            .chain((0..64).map(|a| key(&[a])))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 64 * 64 + 64);
    }

    #[test]
    fn below_is_even_and_in_range() {
        let mut rng = rng(7);
        let mut counts = [0; 3];
        for _ in 0..30_000 {
            counts[below(&mut rng, 3) as usize] += 1;
        }
        // Standard deviation of a count: √(30,000 · 1/3 · 2/3) = 82.
        assert!(counts.iter().all(|&c: &i32| (c - 10_000).abs() < 5 * 82), "{counts:?}");
        assert_eq!(below(&mut rng, 0), 0);
        assert_eq!(below(&mut rng, 1), 0);
    }

    #[test]
    fn logarithms_are_those_of_the_library() {
        let mut rng = rng(3);
        for i in 0..10_000 {
            // From 2⁻¹⁰⁰ to 1, and close to 1.
            let x = if i % 2 == 0 { unit(&mut rng).powi(1 + i % 7) } else { 1.0 - unit(&mut rng) * 1e-3 };
            let (found, expected) = (ln(x), x.ln());
            assert!((found - expected).abs() <= 4.0 * f64::EPSILON * expected.abs(), "ln {x} is {found}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    /// Moments, and the share beyond 1 and 2 standard deviations, of 10⁶ numbers.
    #[test]
    fn normals_are_normal() {
        let mut rng = rng(5);
        let x: Vec<f64> = (0..500_000).flat_map(|_| normals(&mut rng)).collect();
        let n = x.len() as f64;
        let moment = |k| x.iter().map(|x| x.powi(k)).sum::<f64>() / n;
        let beyond = |z: f64| x.iter().filter(|x| x.abs() > z).count() as f64 / n;
        let found = [moment(1), moment(2), moment(3), moment(4), beyond(1.0), beyond(2.0)];
        let expected = [0.0, 1.0, 0.0, 3.0, 0.317_310_5, 0.045_500_3];
        // The variances of one number's share in each: E x²ᵏ − (E xᵏ)², and q (1 − q).
        let variances = [1.0, 2.0, 15.0, 96.0, 0.2166, 0.0434];
        for ((found, expected), variance) in found.into_iter().zip(expected).zip(variances) {
            assert!((found - expected).abs() < 5.0 * (variance / n).sqrt(), "{found}, expected {expected}");
        }
        let product = x.chunks(2).map(|x| x[0] * x[1]).sum::<f64>() / (n / 2.0);
        assert!(product.abs() < 5.0 * (2.0 / n).sqrt(), "the two of a pair correlate by {product}");
    }
}
