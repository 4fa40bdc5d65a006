//! Hold-out and k-fold splits, both also stratified by class, or by groups that stay together.
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
const K_FOLD_STRATIFIED: u64 = u64::from_be_bytes(*b"k-strat\0");
const HOLD_OUT_GROUPS: u64 = u64::from_be_bytes(*b"hold-grp");
const K_FOLD_GROUPS: u64 = u64::from_be_bytes(*b"fold-grp");
const K_FOLD_STRATIFIED_GROUPS: u64 = u64::from_be_bytes(*b"strt-grp");

/// `n_valid` of `n` samples at random, and the others.
pub(super) fn hold_out(n: usize, n_valid: usize, seed: u64) -> Result<Parts> {
    check_n_valid(n, n_valid)?;
    let order = permutation(n, rng::key(&[seed, HOLD_OUT]));
    Ok(parts(&order, 0, n_valid))
}

/// `n_valid` samples at random, the same share of each class, and the others.
pub(super) fn hold_out_stratified(classes: &[i64], n_valid: usize, seed: u64) -> Result<Parts> {
    check_n_valid(classes.len(), n_valid)?;
    let members = members(classes);
    let counts: Vec<usize> = members.iter().map(|(_, samples)| samples.len()).collect();
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
    check_k(n, k)?;
    let order = permutation(n, rng::key(&[seed, K_FOLD]));
    // n and k fit 32 bits, so their product fits 64.
    let bound = |fold: usize| (n as u64 * fold as u64 / k as u64) as usize;
    Ok((0..k).map(|fold| parts(&order, bound(fold), bound(fold + 1))).collect())
}

/// Each of `k` parts in turn, and the others, with every class in every part: the numbers of samples of a class, and of all
/// samples, differ by at most one between parts. Classes are dealt out one after another, as by scikit-learn's
/// `StratifiedKFold`.
pub(super) fn k_fold_stratified(classes: &[i64], k: usize, seed: u64) -> Result<Vec<Parts>> {
    check_k(classes.len(), k)?;
    let mut fold_of = vec![0; classes.len()];
    let mut dealt = 0;
    for (class, mut samples) in members(classes) {
        if samples.len() < k {
            let fault = format!(
                "found {k} folds, expected at most {}: class {class} has no more samples than that, and some folds would be \
                 without it",
                samples.len()
            );
            return Err(Error::config("k", fault));
        }
        shuffle_slice(&mut samples, rng::key(&[seed, K_FOLD_STRATIFIED, class as u64]));
        for sample in samples {
            fold_of[sample as usize] = dealt % k;
            dealt += 1;
        }
    }
    let fold = |fold| (0..classes.len() as u32).partition(|&i| fold_of[i as usize] != fold);
    Ok((0..k).map(fold).collect())
}

/// Whole groups at random, as long as they are no more than `n_valid` samples together, and the others.
pub(super) fn hold_out_groups(groups: &[u64], n_valid: usize, seed: u64) -> Result<Parts> {
    check_n_valid(groups.len(), n_valid)?;
    let mut valid = Vec::new();
    for (_, samples) in shuffled_groups(groups, rng::key(&[seed, HOLD_OUT_GROUPS])) {
        if valid.len() + samples.len() <= n_valid {
            valid.extend(samples);
        }
    }
    if valid.is_empty() {
        let expected = format!("one of at most {n_valid}, `n_valid`");
        return Err(Error::mismatch("groups", "only groups of more samples", expected));
    }
    Ok(with_rest(valid, groups.len()))
}

/// Each of `k` parts of whole groups in turn, and the others: from the largest group to the smallest, each goes to the part
/// that has the fewest samples so far, as by scikit-learn's `GroupKFold`.
pub(super) fn k_fold_groups(groups: &[u64], k: usize, seed: u64) -> Result<Vec<Parts>> {
    let mut by_size = groups_to_deal(groups, k, rng::key(&[seed, K_FOLD_GROUPS]))?;
    // The sort is stable: the seed orders groups of one size.
    by_size.sort_by_key(|(_, samples)| std::cmp::Reverse(samples.len()));
    let mut folds = vec![Vec::new(); k];
    for (_, samples) in by_size {
        if let Some(fewest) = folds.iter_mut().min_by_key(|fold| fold.len()) {
            fewest.extend(samples);
        }
    }
    Ok(folds.into_iter().map(|valid| with_rest(valid, groups.len())).collect())
}

/// Each of `k` parts of whole groups in turn, and the others, with classes spread over the parts as evenly as groups allow: from
/// the group with the most uneven classes to the one with the most even ones, each goes to the part where it leaves the shares
/// of classes most alike, as by scikit-learn's `StratifiedGroupKFold`.
pub(super) fn k_fold_stratified_groups(
    classes: &[i64],
    groups: &[u64],
    k: usize,
    seed: u64,
) -> Result<Vec<Parts>> {
    let all = members(classes);
    let place = |sample: u32| all.partition_point(|(class, _)| *class < classes[sample as usize]);
    let mut dealt: Vec<(f64, Vec<f64>, Vec<u32>)> = Vec::new();
    for (_, samples) in groups_to_deal(groups, k, rng::key(&[seed, K_FOLD_STRATIFIED_GROUPS]))? {
        let mut counts = vec![0.0; all.len()];
        samples.iter().for_each(|&sample| counts[place(sample)] += 1.0);
        dealt.push((sd(&counts), counts, samples));
    }
    dealt.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut folds = vec![(vec![0.0; all.len()], Vec::new()); k];
    for (_, counts, samples) in dealt {
        let unevenness = |fold: usize| {
            let of_class = |(class, (_, all)): (usize, &(i64, Vec<u32>))| {
                let count = |i: usize| folds[i].0[class] + if i == fold { counts[class] } else { 0.0 };
                sd(&(0..k).map(|i| count(i) / all.len() as f64).collect::<Vec<_>>())
            };
            all.iter().enumerate().map(of_class).sum::<f64>()
        };
        // Sums of the same numbers in other orders should count as equal.
        let order = |fold: usize| ((unevenness(fold) * 1e9).round() as u64, folds[fold].1.len());
        if let Some(best) = (0..k).min_by_key(|&fold| order(fold)) {
            let (own, all) = &mut folds[best];
            own.iter_mut().zip(&counts).for_each(|(own, count)| *own += count);
            all.extend(samples);
        }
    }
    Ok(folds.into_iter().map(|(_, valid)| with_rest(valid, groups.len())).collect())
}

/// The standard deviation, by the number of values.
fn sd(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Groups to be dealt out to `k` folds, at least as many, in an order that `key` gives.
fn groups_to_deal(groups: &[u64], k: usize, key: u64) -> Result<Vec<(u64, Vec<u32>)>> {
    check_k(groups.len(), k)?;
    let dealt = shuffled_groups(groups, key);
    if dealt.len() < k {
        let fault = format!("found {k} folds, expected at most {}, the number of groups", dealt.len());
        return Err(Error::config("k", fault));
    }
    Ok(dealt)
}

/// Those of `n` samples that are not in `valid`, and these.
fn with_rest(mut valid: Vec<u32>, n: usize) -> Parts {
    valid.sort_unstable();
    let train = (0..n as u32).filter(|i| valid.binary_search(i).is_err()).collect();
    (train, valid)
}

/// The samples of each group, the groups in an order that `key` gives.
fn shuffled_groups(groups: &[u64], key: u64) -> Vec<(u64, Vec<u32>)> {
    let members = members(groups);
    let order = permutation(members.len(), key);
    order.into_iter().map(|i| members[i as usize].clone()).collect()
}

/// The samples of each class or group, in ascending order of these.
pub(super) fn members<K: Copy + Ord>(keys: &[K]) -> Vec<(K, Vec<u32>)> {
    let mut members = BTreeMap::<K, Vec<u32>>::new();
    for (i, &key) in (0..).zip(keys) {
        members.entry(key).or_default().push(i);
    }
    members.into_iter().collect()
}

fn check_k(n: usize, k: usize) -> Result<()> {
    check_count(n)?;
    if n < 2 {
        return Err(Error::mismatch("dataset to cut into folds", format!("{n} samples"), "at least 2"));
    }
    if !(2..=n).contains(&k) {
        return Err(Error::config("k", format!("found {k} folds, expected 2 to {n}, the number of samples")));
    }
    Ok(())
}

fn check_n_valid(n: usize, n_valid: usize) -> Result<()> {
    check_count(n)?;
    if n < 2 {
        return Err(Error::mismatch("dataset to hold out of", format!("{n} samples"), "at least 2"));
    }
    if n_valid == 0 {
        return Err(Error::config("n_valid", "found 0, expected at least 1; or use the whole dataset"));
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

/// The values of `order` outside `from..to` and those inside, each sorted.
fn parts(order: &[u32], from: usize, to: usize) -> Parts {
    let mut train = [&order[..from], &order[to..]].concat();
    let mut valid = order[from..to].to_vec();
    train.sort_unstable();
    valid.sort_unstable();
    (train, valid)
}

/// Distributes `total`, at most as many as there are, among classes in proportion to their sizes, by largest remainder; of
/// equal remainders the earlier class comes first.
pub(super) fn shares(counts: &[usize], total: usize) -> Vec<usize> {
    // Without samples there is nothing to distribute, and nothing must be divided by 0.
    let n: u64 = counts.iter().map(|&count| count as u64).sum::<u64>().max(1);
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
    use std::collections::BTreeSet;

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
        assert_eq!(shares(&[0], 0), [0]);
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
    fn samples_are_held_out_uniformly() {
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
        assert!(message(hold_out(10, 0, 0)).contains("use the whole dataset"));
        assert!(message(hold_out(10, 10, 0)).contains("found 10, expected less than the 10 samples"));
        assert!(message(hold_out_stratified(&[0, 1], 2, 0)).contains("less than the 2"));
        for k in [0, 1, 11] {
            let message = k_fold(10, k, 0).unwrap_err().to_string();
            assert!(message.contains(&format!("found {k} folds, expected 2 to 10")), "{message}");
        }
        assert!(k_fold(10, 10, 0).is_ok());
        for n in [0, 1] {
            let few = format!("found {n} samples, expected at least 2");
            assert!(k_fold(n, 2, 0).unwrap_err().to_string().contains(&few));
            assert!(k_fold_stratified(&vec![0; n], 2, 0).unwrap_err().to_string().contains(&few));
            assert!(message(hold_out(n, 1, 0)).contains(&few));
            assert!(message(hold_out_stratified(&vec![0; n], 1, 0)).contains(&few));
        }
    }

    /// Groups of 1 to 7 samples: none is on both sides, and folds differ by no more than a group.
    #[test]
    fn groups_stay_together() {
        let groups: Vec<u64> = (1..=7).flat_map(|group| vec![group * 100; group as usize]).collect();
        let apart = |(train, valid): &Parts| {
            let of = |part: &[u32]| part.iter().map(|&i| groups[i as usize]).collect::<BTreeSet<_>>();
            of(train).is_disjoint(&of(valid))
        };
        for seed in 0..20 {
            let parts = hold_out_groups(&groups, 8, seed).unwrap();
            assert!(is_partition(&parts, 28) && apart(&parts), "{parts:?}");
            // What is left out would not fit. Below 6 samples, groups 1 to 3 would, and they have 6.
            assert!((6..=8).contains(&parts.1.len()), "{parts:?}");
            let folds = k_fold_groups(&groups, 4, seed).unwrap();
            assert!(folds.iter().all(|fold| is_partition(fold, 28) && apart(fold)));
            let mut sizes: Vec<_> = folds.iter().map(|(_, valid)| valid.len()).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [7, 7, 7, 7]);
        }
        assert_ne!(hold_out_groups(&groups, 8, 1).unwrap(), hold_out_groups(&groups, 8, 2).unwrap());
        let fault = k_fold_groups(&groups, 8, 1).unwrap_err().to_string();
        assert_eq!(fault, "`k`: found 8 folds, expected at most 7, the number of groups");
        let fault = hold_out_groups(&[3, 3, 5, 5], 1, 1).unwrap_err().to_string();
        assert_eq!(fault, "groups: found only groups of more samples, expected one of at most 1, `n_valid`");
    }

    /// 30 groups of 4 to 8 samples, each mostly of one class; a third of the samples are of class 1.
    #[test]
    fn groups_are_stratified() {
        let (mut groups, mut classes) = (Vec::new(), Vec::new());
        for group in 0..30 {
            for i in 0..4 + group % 5 {
                groups.push(group);
                // One sample of the other class in every second group.
                classes.push(i64::from((group % 3 == 0) != (i == 0 && group % 2 == 0)));
            }
        }
        let n = groups.len();
        let share = |part: &[u32]| {
            part.iter().filter(|&&i| classes[i as usize] == 1).count() as f64 / part.len() as f64
        };
        let all = share(&(0..n as u32).collect::<Vec<_>>());
        for seed in 0..20 {
            let folds = k_fold_stratified_groups(&classes, &groups, 5, seed).unwrap();
            let mut held_out: Vec<u32> = folds.iter().flat_map(|(_, valid)| valid).copied().collect();
            held_out.sort_unstable();
            assert!(held_out.into_iter().eq(0..n as u32));
            for (train, valid) in &folds {
                let of = |part: &[u32]| part.iter().map(|&i| groups[i as usize]).collect::<BTreeSet<_>>();
                assert!(of(train).is_disjoint(&of(valid)));
                assert!((share(valid) - all).abs() < 0.1, "{} of {all}", share(valid));
                assert!(valid.len().abs_diff(n / 5) < 8, "{} of {n}", valid.len());
            }
        }
        let folds = |seed| k_fold_stratified_groups(&classes, &groups, 5, seed).unwrap();
        assert!(folds(1) == folds(1) && folds(1) != folds(2));
        // Without classes, groups of one kind end up together.
        let worst =
            |folds: Vec<Parts>| folds.iter().map(|(_, valid)| (share(valid) - all).abs()).fold(0.0, f64::max);
        let plain: f64 = (0..20).map(|seed| worst(k_fold_groups(&groups, 5, seed).unwrap())).sum();
        let stratified: f64 = (0..20).map(|seed| worst(folds(seed))).sum();
        assert!(3.0 * stratified < plain, "{stratified} and {plain}");
        let fault = k_fold_stratified_groups(&[0; 4], &[1, 1, 2, 2], 3, 1).unwrap_err().to_string();
        assert_eq!(fault, "`k`: found 3 folds, expected at most 2, the number of groups");
    }

    /// One sample in twenty is of class 1: five folds have one each, and a sixth would have none.
    #[test]
    fn a_fold_without_a_class_is_an_error() {
        let classes: Vec<i64> = (0..100).map(|i| i64::from(i % 20 == 0)).collect();
        let folds = k_fold_stratified(&classes, 5, 1).unwrap();
        assert!(folds.iter().all(|(_, valid)| valid.iter().filter(|&&i| i % 20 == 0).count() == 1));
        assert_ne!(folds, k_fold_stratified(&classes, 5, 2).unwrap());
        let fault = k_fold_stratified(&classes, 6, 1).unwrap_err().to_string();
        assert!(fault.starts_with("`k`: found 6 folds, expected at most 5: class 1 has no more"), "{fault}");
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
        fn stratified_folds_are_even(
            rare in 3_usize..20, common in 3_usize..200, k in 2_usize..4, seed: u64,
        ) {
            let classes: Vec<i64> = (0..rare + common).map(|i| i64::from(i * 7 % (rare + common) < rare)).collect();
            let folds = k_fold_stratified(&classes, k, seed).unwrap();
            prop_assert!(folds.iter().all(|fold| is_partition(fold, classes.len())));
            for class in [None, Some(0), Some(1)] {
                let of_class = |i: &&u32| class.is_none_or(|class| classes[**i as usize] == class);
                let sizes: Vec<_> = folds.iter().map(|(_, valid)| valid.iter().filter(of_class).count()).collect();
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
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
