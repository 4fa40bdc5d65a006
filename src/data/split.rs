//! Which samples go where: hold-out, stratified hold-out and k folds.
//!
//! Each function returns (training, validation) indices, both ascending: a trainer shuffles anyway, and reading in
//! order is faster.

use std::collections::BTreeMap;

use crate::data::batches::{check_count, shuffle_into, shuffle_slice};
use crate::{Error, Result, rng};

/// Training and validation samples.
pub(super) type Parts = (Vec<u32>, Vec<u32>);

const HOLD_OUT: u64 = u64::from_be_bytes(*b"hold-out");
const STRATIFIED: u64 = u64::from_be_bytes(*b"stratify");
const K_FOLD: u64 = u64::from_be_bytes(*b"k-fold\0\0");

/// `n_valid` of `n` samples at random, and the others.
pub(super) fn hold_out(n: usize, n_valid: usize, seed: u64) -> Result<Parts> {
    check_n_valid(n, n_valid)?;
    let order = permutation(n, rng::key(&[seed, HOLD_OUT]));
    Ok(parts(&order, 0, n_valid))
}

/// `n_valid` samples at random, of each class its share, and the others.
pub(super) fn hold_out_stratified(classes: &[i64], n_valid: usize, seed: u64) -> Result<Parts> {
    check_n_valid(classes.len(), n_valid)?;
    let mut members: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (i, &class) in (0..).zip(classes) {
        members.entry(class).or_default().push(i);
    }
    let counts: Vec<usize> = members.values().map(Vec::len).collect();
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for ((class, mut samples), share) in members.into_iter().zip(shares(&counts, n_valid)) {
        shuffle_slice(&mut samples, rng::key(&[seed, STRATIFIED, class as u64]));
        valid.extend_from_slice(&samples[..share]);
        train.extend_from_slice(&samples[share..]);
    }
    train.sort_unstable();
    valid.sort_unstable();
    Ok((train, valid))
}

/// Each of `k` parts of `n` samples in turn, and the others; the sizes differ by at most one.
pub(super) fn k_fold(n: usize, k: usize, seed: u64) -> Result<Vec<Parts>> {
    check_count(n)?;
    if !(2..=n).contains(&k) {
        return Err(Error::config("k", format!("found {k} folds, expected 2 to {n}, the number of samples")));
    }
    let order = permutation(n, rng::key(&[seed, K_FOLD]));
    // n and k fit 32 bits, so their product fits 64.
    let bound = |fold: usize| (n as u64 * fold as u64 / k as u64) as usize;
    Ok((0..k).map(|fold| parts(&order, bound(fold), bound(fold + 1))).collect())
}

fn check_n_valid(n: usize, n_valid: usize) -> Result<()> {
    check_count(n)?;
    if n_valid == 0 {
        return Err(Error::config("n_valid", "found 0, expected at least 1; or use the dataset whole"));
    }
    if n_valid >= n {
        return Err(Error::config("n_valid", format!("found {n_valid}, expected less than the {n} samples")));
    }
    Ok(())
}

/// 0..n, shuffled.
fn permutation(n: usize, key: u64) -> Vec<u32> {
    let mut order = vec![0; n];
    shuffle_into(&mut order, key);
    order
}

/// What of `order` lies outside `from..to` and what lies inside, each sorted.
fn parts(order: &[u32], from: usize, to: usize) -> Parts {
    let mut train = [&order[..from], &order[to..]].concat();
    let mut valid = order[from..to].to_vec();
    train.sort_unstable();
    valid.sort_unstable();
    (train, valid)
}

/// Shares `total` among classes of these sizes in proportion, by largest remainder; the earlier class goes first.
pub(crate) fn shares(counts: &[usize], total: usize) -> Vec<usize> {
    let n: u64 = counts.iter().map(|&count| count as u64).sum();
    let exact = |count: usize| count as u64 * total as u64;
    let mut shares: Vec<usize> = counts.iter().map(|&count| (exact(count) / n) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(exact(counts[class]) % n));
    let left = total - shares.iter().sum::<usize>();
    for &class in &by_remainder[..left] {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the two parts are sorted and together are 0..n.
    fn is_partition((train, valid): &Parts, n: usize) -> bool {
        let mut all = [&train[..], valid].concat();
        all.sort_unstable();
        train.is_sorted() && valid.is_sorted() && all.iter().copied().eq(0..n as u32)
    }

    #[test]
    fn shares_by_largest_remainder() {
        assert_eq!(shares(&[6000; 10], 12_000), [1200; 10]);
        // 2.5, 1.5 and 1 of 5: the remainders are 0.5, 0.5 and 0, and the first class wins.
        assert_eq!(shares(&[5, 3, 2], 5), [3, 1, 1]);
        // 0.7, 0.2, 2.1 of 3.
        assert_eq!(shares(&[7, 2, 21], 3), [1, 0, 2]);
    }

    #[test]
    fn seeds_decide() {
        let split = |seed| hold_out(1000, 200, seed).unwrap();
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
        let classes: Vec<i64> = (0..1000).map(|i| i % 7).collect();
        let split = |seed| hold_out_stratified(&classes, 200, seed).unwrap();
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
        assert_ne!(k_fold(100, 5, 1).unwrap(), k_fold(100, 5, 2).unwrap());
    }

    /// A sample is held out as often as its share says.
    #[test]
    fn every_sample_is_as_likely() {
        let mut counts = [0_i32; 10];
        for seed in 0..10_000 {
            hold_out(10, 3, seed).unwrap().1.iter().for_each(|&i| counts[i as usize] += 1);
        }
        // Standard deviation of a count: √(10,000 · 0.3 · 0.7) = 46.
        assert!(counts.iter().all(|c| (c - 3000).abs() < 5 * 46), "{counts:?}");
    }

    #[test]
    fn bad_sizes_are_errors() {
        let message = |result: Result<Parts>| result.unwrap_err().to_string();
        assert!(message(hold_out(10, 0, 0)).contains("use the dataset whole"));
        assert!(message(hold_out(10, 10, 0)).contains("found 10, expected less than the 10 samples"));
        assert!(message(hold_out_stratified(&[0, 1], 2, 0)).contains("less than the 2"));
        for k in [0, 1, 11] {
            let message = k_fold(10, k, 0).unwrap_err().to_string();
            assert!(message.contains(&format!("found {k} folds, expected 2 to 10")), "{message}");
        }
        assert!(k_fold(10, 10, 0).is_ok());
    }

    proptest! {
        #[test]
        fn hold_out_partitions(n in 2_usize..300, share in 0.0..1.0, seed: u64) {
            let n_valid = 1 + ((n - 1) as f64 * share) as usize;
            prop_assume!(n_valid < n);
            let parts = hold_out(n, n_valid, seed).unwrap();
            prop_assert_eq!(parts.1.len(), n_valid);
            prop_assert!(is_partition(&parts, n));
        }

        #[test]
        fn stratified_keeps_shares(
            classes in prop::collection::vec(-2_i64..4, 2..300), share in 0.0..1.0, seed: u64,
        ) {
            let n = classes.len();
            let n_valid = 1 + ((n - 1) as f64 * share) as usize;
            prop_assume!(n_valid < n);
            let parts = hold_out_stratified(&classes, n_valid, seed).unwrap();
            prop_assert_eq!(parts.1.len(), n_valid);
            prop_assert!(is_partition(&parts, n));
            for class in -2..4 {
                let all = classes.iter().filter(|&&c| c == class).count();
                let held = parts.1.iter().filter(|&&i| classes[i as usize] == class).count();
                let exact = (all * n_valid) as f64 / n as f64;
                prop_assert!((held as f64 - exact).abs() < 1.0, "{held} of class {class}, {exact} expected");
            }
        }

        #[test]
        fn folds_partition(n in 2_usize..200, share in 0.0..1.0, seed: u64) {
            let k = 2 + ((n - 2) as f64 * share) as usize;
            let folds = k_fold(n, k, seed).unwrap();
            prop_assert_eq!(folds.len(), k);
            prop_assert!(folds.iter().all(|fold| is_partition(fold, n)));
            prop_assert!(folds.iter().all(|(_, valid)| valid.len() == n / k || valid.len() == n.div_ceil(k)));
            let mut valid: Vec<u32> = folds.into_iter().flat_map(|(_, valid)| valid).collect();
            valid.sort_unstable();
            prop_assert!(valid.into_iter().eq(0..n as u32));
        }
    }
}
