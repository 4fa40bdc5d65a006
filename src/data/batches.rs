//! Minibatches: the draws of an epoch, cut into batches.

use super::{Draw, Population, Sample, Sampler, SequentialStreams, Shuffled};
use crate::{Error, Result, rng};

/// Sets the key to an epoch's shuffle apart from those to its samples.
pub(super) const SHUFFLE: u64 = u64::from_be_bytes(*b"shuffle\0");

/// The numbers `0..n` in an order that depends only on seed and epoch.
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

/// Some consecutive draws of an epoch, for one step.
///
/// # Examples
/// ```
/// use bptt::data::{Batch, Draw};
///
/// let draws = [7, 8, 9].map(Draw::new);
/// let whole: Vec<_> = Batch::new(&draws, 1, 0).samples(5).collect();
/// let last: Vec<_> = Batch::new(&draws[2..], 1, 2).samples(5).collect();
/// assert_eq!(whole[2], last[0]);
/// assert_eq!((last[0].index, last[0].key), (9, bptt::rng::key(&[5, 1, 2])));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// The draws.
    pub draws: &'a [Draw],
    /// The epoch, which is part of the keys of the draws.
    pub epoch: usize,
    /// The position of the first draw in the epoch, which is also part of the keys. A batch that begins at 0 begins the
    /// epoch.
    pub first: usize,
}

impl<'a> Batch<'a> {
    /// The draws of an epoch that begin at position `first`.
    pub const fn new(draws: &'a [Draw], epoch: usize, first: usize) -> Self {
        Self { draws, epoch, first }
    }

    /// How many draws there are.
    pub const fn len(&self) -> usize {
        self.draws.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.draws.is_empty()
    }

    /// The indices of the samples.
    pub fn indices(self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.draws.iter().map(|draw| draw.index)
    }

    /// The samples to read from a dataset. A draw's key is a function of (seed, epoch, position in the epoch), so it does not
    /// depend on how the epoch is cut into batches or tiles.
    pub fn samples(self, seed: u64) -> impl ExactSizeIterator<Item = Sample> + 'a {
        let Self { draws, epoch, first } = self;
        let key = move |i: usize| rng::key(&[seed, epoch as u64, (first + i) as u64]);
        draws.iter().enumerate().map(move |(i, draw)| Sample::of(*draw, epoch, key(i)))
    }

    /// The draws of `range`, counted from the first of this batch.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Self {
        Self { draws: &self.draws[range.clone()], first: self.first + range.start, ..*self }
    }
}

/// Cuts the draws of each epoch into minibatches.
///
/// An epoch's draws do not depend on the epochs before it, unless its [`Sampler`] does. The buffer is allocated once.
///
/// # Examples
/// ```
/// use bptt::data::Batches;
///
/// let mut batches = Batches::new(10, 4, 1)?;
/// let sizes: Vec<usize> = batches.epoch(0)?.map(|batch| batch.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
///
/// let mut batches = batches.drop_last();
/// let first = batches.epoch(0)?.next().unwrap();
/// assert!(first.indices().eq([9, 0, 1, 5]));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches<S = Shuffled> {
    sampler: S,
    draws: Vec<Draw>,
    samples: usize,
    batch_size: usize,
    drop_last: bool,
}

impl Batches<Shuffled> {
    /// Shuffled minibatches of `batch_size` of `n` samples; the last of an epoch has the remaining ones.
    ///
    /// # Errors
    /// As for [`of`](Self::of).
    pub fn new(n: usize, batch_size: usize, seed: u64) -> Result<Self> {
        Self::of(Shuffled::new(), &Population::new(n, batch_size).seed(seed))
    }
}

impl Batches<SequentialStreams> {
    /// Minibatches of `streams` samples, for samples that follow one another, such as windows of a long sequence; see
    /// [`SequentialStreams`]. This is the order of [`Trainer::stateful`](crate::Trainer::stateful).
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
    /// let batches: Vec<Vec<u32>> = batches.epoch(1)?.map(|batch| batch.indices().collect()).collect();
    /// assert_eq!(batches, [[0, 3, 6], [1, 4, 7], [2, 5, 8]]);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn streams(n: usize, streams: usize) -> Result<Self> {
        Self::of(SequentialStreams::new(), &Population::new(n, streams))
    }
}

impl<S: Sampler> Batches<S> {
    /// Minibatches of what `sampler` draws.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no samples, or more than `u32::MAX`; [`Error::Config`] if the batch size is 0;
    /// or the error of the sampler.
    pub fn of(mut sampler: S, population: &Population) -> Result<Self> {
        let (samples, batch_size) = (population.len, population.batch_size);
        check_count(samples)?;
        if samples == 0 {
            return Err(Error::mismatch("dataset", "0 samples", "at least 1"));
        }
        if batch_size == 0 {
            return Err(Error::config("batch_size", "found 0, expected at least 1"));
        }
        sampler.start(population)?;
        let draws = Vec::with_capacity(sampler.draws().unwrap_or(samples));
        Ok(Self { sampler, draws, samples, batch_size, drop_last: false })
    }

    /// Leaves out a last batch that is not full. An epoch with fewer draws than a batch then has no batch.
    pub fn drop_last(self) -> Self {
        Self { drop_last: true, ..self }
    }

    /// The number of batches in every epoch; `None` if the sampler does not know it beforehand.
    pub fn steps(&self) -> Option<usize> {
        self.sampler.draws().map(|draws| self.kept(draws).div_ceil(self.batch_size))
    }

    /// Draws the epoch and returns its batches.
    ///
    /// # Errors
    /// The error of the sampler; [`Error::Mismatch`] if it drew nothing, or a sample that does not exist;
    /// [`Error::Config`] if a weight is negative or not finite.
    pub fn epoch(&mut self, epoch: usize) -> Result<impl ExactSizeIterator<Item = Batch<'_>>> {
        self.draw(epoch)?;
        let batches = &*self;
        Ok((0..batches.drawn()).map(move |step| batches.batch(epoch, step)))
    }

    /// The number of draws of the largest possible batch.
    pub(crate) fn largest(&self) -> usize {
        self.sampler.draws().map_or(self.batch_size, |draws| draws.min(self.batch_size))
    }

    /// Draws an epoch.
    ///
    /// # Errors
    /// As for [`epoch`](Self::epoch).
    pub(crate) fn draw(&mut self, epoch: usize) -> Result<()> {
        self.draws.clear();
        self.sampler.draw(epoch, &mut self.draws)?;
        if self.draws.is_empty() {
            return Err(Error::mismatch("sampler", format!("no draw in epoch {epoch}"), "at least one"));
        }
        if let Some(Draw { index, .. }) = self.draws.iter().find(|draw| draw.index as usize >= self.samples) {
            let expected = format!("less than {}", self.samples);
            return Err(Error::mismatch("sampler", format!("a draw of sample {index}"), expected));
        }
        if let Some(Draw { weight, .. }) =
            self.draws.iter().find(|draw| !(0.0..f64::INFINITY).contains(&draw.weight))
        {
            let fault = format!("found a draw of weight {weight}, expected a finite number of at least 0");
            return Err(Error::config("sampler", fault));
        }
        Ok(())
    }

    /// The number of batches of the epoch that was drawn last.
    pub(crate) fn drawn(&self) -> usize {
        self.kept(self.draws.len()).div_ceil(self.batch_size)
    }

    /// A batch of the epoch that was drawn last.
    pub(crate) fn batch(&self, epoch: usize, step: usize) -> Batch<'_> {
        let (first, kept) = (step * self.batch_size, self.kept(self.draws.len()));
        Batch::new(&self.draws[first..kept.min(first + self.batch_size)], epoch, first)
    }

    /// The draws of several consecutive batches of the epoch that was drawn last.
    pub(crate) fn batches(&self, epoch: usize, steps: std::ops::Range<usize>) -> Batch<'_> {
        let kept = self.kept(self.draws.len());
        let [first, last] = [steps.start, steps.end].map(|step| kept.min(step * self.batch_size));
        Batch::new(&self.draws[first..last], epoch, first)
    }

    /// Passes the losses of a batch of the epoch that was drawn last to the sampler.
    pub(crate) fn observe(&mut self, epoch: usize, step: usize, losses: &[Option<f64>]) {
        let first = step * self.batch_size;
        let draws = &self.draws[first..first + losses.len()];
        self.sampler.observe(Batch::new(draws, epoch, first), losses);
    }

    pub(crate) fn sampler(&self) -> &S {
        &self.sampler
    }

    pub(crate) fn sampler_mut(&mut self) -> &mut S {
        &mut self.sampler
    }

    /// How many of `n` draws are used.
    fn kept(&self, n: usize) -> usize {
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

    /// Each of the 24 orders of 4 is about equally frequent.
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

    fn indices(batches: &mut Batches, epoch: usize) -> Vec<u32> {
        batches.epoch(epoch).unwrap().flat_map(|batch| batch.indices()).collect()
    }

    #[test]
    fn an_epoch_does_not_depend_on_those_before() {
        let mut run = Batches::new(101, 10, 5).unwrap();
        for epoch in 0..3 {
            run.epoch(epoch).unwrap().for_each(drop);
        }
        let resumed = indices(&mut Batches::new(101, 10, 5).unwrap(), 3);
        assert_eq!(indices(&mut run, 3), resumed);
        assert_eq!(resumed, shuffle(101, 5, 3));
        assert_ne!(resumed, shuffle(101, 5, 2));
        assert_ne!(resumed, shuffle(101, 6, 3));
    }

    #[test]
    fn the_buffer_is_refilled_in_place() {
        let mut batches = Batches::new(1000, 64, 0).unwrap();
        let before = batches.draws.as_ptr();
        batches.epoch(0).unwrap().for_each(drop);
        batches.epoch(1).unwrap().for_each(drop);
        assert_eq!((batches.draws.as_ptr(), batches.draws.capacity()), (before, 1000));
    }

    #[test]
    fn keys_differ_and_do_not_depend_on_the_cut() {
        let draws: Vec<Draw> = shuffle(50, 1, 2).into_iter().map(Draw::new).collect();
        let whole: Vec<Sample> = Batch::new(&draws, 2, 0).samples(1).collect();
        let part = |i: usize| Batch::new(&draws, 2, 0).part(7 * i..50.min(7 * i + 7));
        let cut: Vec<Sample> = (0..8).flat_map(|i| part(i).samples(1)).collect();
        assert_eq!(whole, cut);
        let mut keys: Vec<u64> = whole.iter().map(|s| s.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 50);
    }

    /// Draws what it is told to.
    #[derive(Debug)]
    struct Fixed(Vec<Draw>);

    impl Sampler for Fixed {
        fn start(&mut self, _: &Population) -> Result<()> {
            Ok(())
        }
        fn draw(&mut self, _: usize, draws: &mut Vec<Draw>) -> Result<()> {
            draws.extend_from_slice(&self.0);
            Ok(())
        }
    }

    #[test]
    fn draws_that_are_none() {
        let message = |draws: &[Draw]| {
            let mut batches = Batches::of(Fixed(draws.to_vec()), &Population::new(3, 2)).unwrap();
            assert_eq!(batches.steps(), None);
            batches.draw(4).unwrap_err().to_string()
        };
        assert_eq!(message(&[]), "sampler: found no draw in epoch 4, expected at least one");
        let no_such = message(&[Draw::new(2), Draw::new(3)]);
        assert_eq!(no_such, "sampler: found a draw of sample 3, expected less than 3");
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(message(&[Draw::new(0).weight(weight)]).starts_with("`sampler`: found a draw of weight"));
        }
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
        fn batches_partition_the_samples(n in 1_usize..200, size in 1_usize..50, seed: u64, epoch in 0_usize..1000) {
            let mut batches = Batches::new(n, size, seed).unwrap();
            let steps = batches.steps().unwrap();
            let cut = |batches: &mut Batches| -> Vec<Vec<u32>> {
                batches.epoch(epoch).unwrap().map(|batch| batch.indices().collect()).collect()
            };
            let all = cut(&mut batches);
            prop_assert_eq!(all.len(), steps);
            prop_assert!(all[..steps - 1].iter().all(|batch| batch.len() == size));
            let mut samples = all.concat();
            samples.sort_unstable();
            prop_assert_eq!(samples, (0..n as u32).collect::<Vec<_>>());

            let mut full = batches.drop_last();
            prop_assert_eq!(full.steps(), Some(n / size));
            prop_assert_eq!(&cut(&mut full)[..], &all[..n / size]);
        }
    }
}
