//! Randomness without hidden state: a key names a stream of numbers, and is a function of what it is for.
//!
//! A shuffle is keyed by (seed, epoch), a dropout mask by (seed, epoch, draw, layer, step): so no generator's
//! state is ever saved, the number of threads changes nothing, and a resumed run draws what it would have drawn.
//! The numbers are the same on every platform.

use rand::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// What is added between parts. It is not SplitMix64's own increment, with which [`rng`] expands a key: so the key
/// to `[…, 0]` is not the first word of the generator of `[…]`.
const INCREMENT: u64 = 0xd134_2543_de82_ef95;

/// Mixes `parts`, in their order, into one key.
///
/// key(∅) = 0; key(a, …, y, z) = mix((key(a, …, y) + increment) xor z), where mix is SplitMix64's finaliser, a
/// bijection: keys that differ in their last part alone never collide.
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
    parts.iter().fold(0, |key, part| mix(key.wrapping_add(INCREMENT) ^ part))
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
/// Multiply and shift: a number is likelier than another by at most n / 2⁶⁴.
pub fn below(rng: &mut impl RngCore, n: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(n)) >> 64) as u64
}

/// SplitMix64's finaliser.
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
}
