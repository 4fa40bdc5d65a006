//! Minibatches: a shuffle for each epoch, cut into pieces, or streams side by side.

use std::slice::Chunks;

use crate::data::Sample;
use crate::{Error, Result, rng};

/// Sets the key to an epoch's shuffle apart from those to its samples.
const SHUFFLE: u64 = u64::from_be_bytes(*b"shuffle\0");

/// The numbers `0..n` in an order that is a function of seed and epoch alone.
///
/// # Panics
/// If `n` exceeds `u32::MAX`.
///
/// # Examples
/// ```
/// assert_eq!(bptt::data::shuffle(10, 1, 0), [9, 0, 1, 5, 3, 8, 7, 6, 4, 2]);
/// ```
#[track_caller]
pub fn shuffle(n: usize, seed: u64, epoch: u64) -> Vec<u32> {
    assert!(u32::try_from(n).is_ok(), "{n} samples, at most {}", u32::MAX);
    let mut order = vec![0; n];
    shuffle_into(&mut order, rng::key(&[seed, epoch, SHUFFLE]));
    order
}

/// Fills `order` with `0..len` and shuffles it (Fisher and Yates).
pub(super) fn shuffle_into(order: &mut [u32], key: u64) {
    for (i, place) in (0..).zip(&mut *order) {
        *place = i;
    }
    shuffle_slice(order, key);
}

/// Shuffles `items` as `key` says.
pub(crate) fn shuffle_slice(items: &mut [u32], key: u64) {
    let mut rng = rng::rng(key);
    for i in (1..items.len()).rev() {
        items.swap(i, rng::below(&mut rng, i as u64 + 1) as usize);
    }
}

/// Draws of the samples `indices`, whose first has place `first` in the epoch.
///
/// A draw's key is a function of (seed, epoch, place in the epoch), so it does not depend on how the epoch is cut
/// into batches or tiles.
///
/// # Examples
/// ```
/// use bptt::data::samples;
///
/// let whole: Vec<_> = samples(&[7, 8, 9], 1, 0, 0).collect();
/// let last: Vec<_> = samples(&[9], 1, 0, 2).collect();
/// assert_eq!(whole[2], last[0]);
/// assert_eq!(last[0].index, 9);
/// assert_eq!(last[0].key, bptt::rng::key(&[1, 0, 2]));
/// ```
pub fn samples(
    indices: &[u32],
    seed: u64,
    epoch: u64,
    first: usize,
) -> impl ExactSizeIterator<Item = Sample> + '_ {
    let key = move |i: usize| rng::key(&[seed, epoch, (first + i) as u64]);
    indices.iter().enumerate().map(move |(i, &index)| Sample::new(index as usize, key(i)))
}

/// Cuts each epoch's shuffle of a dataset into minibatches.
///
/// An epoch's order does not depend on the epochs before it. The buffer is allocated once.
///
/// # Examples
/// ```
/// use bptt::data::Batches;
///
/// let mut batches = Batches::new(10, 4, 1)?;
/// let sizes: Vec<usize> = batches.epoch(0).map(|batch| batch.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
///
/// let mut batches = batches.drop_last(true);
/// assert_eq!(batches.epoch(0).collect::<Vec<_>>(), [[9, 0, 1, 5], [3, 8, 7, 6]]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches {
    order: Vec<u32>,
    batch_size: usize,
    /// Of the shuffles; none where the order stays.
    seed: Option<u64>,
    drop_last: bool,
}

impl Batches {
    /// Minibatches of `batch_size` out of `n` samples; the last of an epoch has what is left.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no samples, or more than `u32::MAX`; [`Error::Config`] if `batch_size` is 0.
    pub fn new(n: usize, batch_size: usize, seed: u64) -> Result<Self> {
        check_count(n)?;
        if n == 0 {
            return Err(Error::mismatch("dataset", "0 samples", "at least 1"));
        }
        if batch_size == 0 {
            return Err(Error::config("batch_size", "found 0, expected at least 1"));
        }
        Ok(Self { order: vec![0; n], batch_size, seed: Some(seed), drop_last: false })
    }

    /// Minibatches of `streams` samples for samples that follow one another, as windows of a long sequence do: stream b
    /// is the b-th of as many runs of n / streams neighbours, and a batch has the next sample of each. Nothing is
    /// shuffled, and the n % streams samples at the end are left out.
    ///
    /// This is the order of [`Trainer::stateful`](crate::Trainer::stateful).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are fewer samples than streams, or more than `u32::MAX`; [`Error::Config`] if there
    /// are no streams.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::Batches;
    ///
    /// let mut batches = Batches::streams(11, 3)?;
    /// assert_eq!(batches.epoch(0).collect::<Vec<_>>(), [[0, 3, 6], [1, 4, 7], [2, 5, 8]]);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn streams(n: usize, streams: usize) -> Result<Self> {
        let batches = Self::new(n, streams, 0)?;
        if n < streams {
            return Err(Error::mismatch(
                "dataset",
                format!("{n} samples"),
                format!("one for each of {streams} streams"),
            ));
        }
        let steps = n / streams;
        let order =
            (0..steps).flat_map(|step| (0..streams).map(move |stream| (stream * steps + step) as u32));
        Ok(Self { order: order.collect(), seed: None, ..batches })
    }

    /// Whether to leave out a last batch that is not full. If `n < batch_size`, an epoch then has no batch.
    pub fn drop_last(self, drop_last: bool) -> Self {
        Self { drop_last, ..self }
    }

    /// Batches in an epoch.
    pub fn steps(&self) -> usize {
        self.kept().div_ceil(self.batch_size)
    }

    /// Shuffles for epoch `epoch`, unless they are streams, and hands out its batches: indices of samples.
    pub fn epoch(&mut self, epoch: u64) -> Chunks<'_, u32> {
        if let Some(seed) = self.seed {
            shuffle_into(&mut self.order, rng::key(&[seed, epoch, SHUFFLE]));
        }
        self.order[..self.kept()].chunks(self.batch_size)
    }

    /// Samples that an epoch hands out.
    fn kept(&self) -> usize {
        let n = self.order.len();
        if self.drop_last { n - n % self.batch_size } else { n }
    }
}

/// Checks that samples can be numbered in 32 bits.
pub(crate) fn check_count(n: usize) -> Result<()> {
    match u32::try_from(n) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::mismatch("dataset", format!("{n} samples"), format!("at most {}", u32::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed by a few lines of Python that share nothing with this file.
    #[test]
    fn shuffles_are_as_computed_elsewhere() {
        assert_eq!(shuffle(10, 1, 0), [9, 0, 1, 5, 3, 8, 7, 6, 4, 2]);
        assert_eq!(shuffle(10, 1, 1), [9, 8, 5, 4, 0, 7, 2, 6, 3, 1]);
        assert_eq!(shuffle(10, 2, 0), [7, 0, 9, 1, 8, 2, 3, 4, 6, 5]);
        assert!(shuffle(0, 1, 0).is_empty());
        assert_eq!(shuffle(1, 1, 0), [0]);
    }

    /// Each of the 24 orders of 4 is about as frequent as the others.
    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(shuffle(4, 3, epoch)).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // Standard deviation of a count: √(1000 · 23/24) = 31.
        assert!(counts.values().all(|c| (c - 1000).abs() < 5 * 31), "{counts:?}");
    }

    #[test]
    fn an_epoch_does_not_depend_on_those_before() {
        let mut run = Batches::new(101, 10, 5).unwrap();
        for epoch in 0..3 {
            run.epoch(epoch).for_each(drop);
        }
        let resumed: Vec<u32> = Batches::new(101, 10, 5).unwrap().epoch(3).flatten().copied().collect();
        assert_eq!(run.epoch(3).flatten().copied().collect::<Vec<_>>(), resumed);
        assert_eq!(resumed, shuffle(101, 5, 3));
        assert_ne!(resumed, shuffle(101, 5, 2));
        assert_ne!(resumed, shuffle(101, 6, 3));
    }

    #[test]
    fn the_buffer_is_refilled_in_place() {
        let mut batches = Batches::new(1000, 64, 0).unwrap();
        let before = batches.order.as_ptr();
        batches.epoch(0).for_each(drop);
        batches.epoch(1).for_each(drop);
        assert_eq!((batches.order.as_ptr(), batches.order.capacity()), (before, 1000));
    }

    #[test]
    fn keys_differ_and_do_not_depend_on_the_cut() {
        let order = shuffle(50, 1, 2);
        let whole: Vec<Sample> = samples(&order, 1, 2, 0).collect();
        let cut: Vec<Sample> =
            order.chunks(7).enumerate().flat_map(|(i, batch)| samples(batch, 1, 2, 7 * i)).collect();
        assert_eq!(whole, cut);
        let mut keys: Vec<u64> = whole.iter().map(|s| s.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 50);
    }

    #[test]
    fn nothing_to_batch_is_an_error() {
        let message = |n, size| Batches::new(n, size, 0).unwrap_err().to_string();
        assert_eq!(message(0, 4), "dataset: found 0 samples, expected at least 1");
        assert_eq!(message(4, 0), "`batch_size`: found 0, expected at least 1");
        let few = Batches::streams(3, 4).unwrap_err().to_string();
        assert_eq!(few, "dataset: found 3 samples, expected one for each of 4 streams");
        assert!(message(usize::MAX, 4).contains("at most 4294967295"));
    }

    proptest! {
        #[test]
        fn batches_partition_the_samples(n in 1_usize..200, size in 1_usize..50, seed: u64, epoch: u64) {
            let mut batches = Batches::new(n, size, seed).unwrap();
            let steps = batches.steps();
            let cut: Vec<Vec<u32>> = batches.epoch(epoch).map(<[u32]>::to_vec).collect();
            prop_assert_eq!(cut.len(), steps);
            prop_assert!(cut[..steps - 1].iter().all(|batch| batch.len() == size));
            let mut all = cut.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n as u32).collect::<Vec<_>>());

            let mut full = batches.drop_last(true);
            prop_assert_eq!(full.steps(), n / size);
            let full: Vec<Vec<u32>> = full.epoch(epoch).map(<[u32]>::to_vec).collect();
            prop_assert_eq!(&full[..], &cut[..n / size]);
        }
    }
}
