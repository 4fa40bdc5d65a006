//! What a rank exchanges with the others.

use super::slot::Sums;
use super::{AllReduce, Outcome};
use crate::loss::Tally;
use crate::{Error, Real, Result};

/// The indices of the counts that are exchanged together with the gradients.
const LOSS: usize = 0;
const WEIGHT: usize = 1;
const RIGHT: usize = 2;
const ALL: usize = 3;
/// How many ranks failed.
const FAILED: usize = 4;
/// How many ranks were asked to stop.
const STOP: usize = 5;
/// The number of counts. After them come those of each draw of the batch, if they are needed.
const COUNTS: usize = 6;
/// The loss and weight of a draw, and the other numbers of its outcome.
const OF_DRAW: usize = 5;

/// The other ranks of a run, and the buffer for what is exchanged with them.
pub(super) struct Ranks<'a, R> {
    all_reduce: &'a dyn AllReduce<R>,
    counts: Vec<f64>,
    /// Whether this rank was asked to stop.
    pub(super) asked_to_stop: bool,
    /// Whether any rank was, as of the last step: the same at all of them.
    pub(super) stops: bool,
}

impl<'a, R: Real> Ranks<'a, R> {
    pub(super) fn new(all_reduce: &'a dyn AllReduce<R>) -> Self {
        Self { all_reduce, counts: vec![0.0; COUNTS], asked_to_stop: false, stops: false }
    }

    /// Allocates the tallies and outcomes of the draws of a batch.
    pub(super) fn expect_draws(&mut self, batch: usize) {
        self.counts.resize(COUNTS + OF_DRAW * batch, 0.0);
    }

    /// Takes this rank's draws, of which the first is the `first` of the batch; those of the others come with the next
    /// [`sum`](Self::sum).
    pub(super) fn set_draws(&mut self, first: usize, draws: impl Iterator<Item = (Tally, Option<Outcome>)>) {
        let counts = &mut self.counts[COUNTS..];
        counts.fill(-0.0);
        let own = counts.as_chunks_mut::<OF_DRAW>().0.iter_mut().skip(first);
        for (count, (tally, outcome)) in own.zip(draws) {
            let [probability, margin, error] = Outcome::numbers(outcome);
            *count = [tally.loss, tally.weight, probability, margin, error];
        }
    }

    /// The losses and outcomes of the draws of all ranks.
    pub(super) fn draws(&self) -> impl Iterator<Item = (Option<f64>, Option<Outcome>)> {
        let draws = self.counts[COUNTS..].as_chunks::<OF_DRAW>().0.iter();
        draws.map(|&[loss, weight, probability, margin, error]| {
            let loss = Tally::new(loss, weight).mean();
            (loss, Outcome::from_numbers([probability, margin, error], loss))
        })
    }

    /// Sums gradients and counts over all ranks.
    ///
    /// A rank that has failed still takes part, and says so: otherwise the others would wait for it.
    ///
    /// # Errors
    /// The error of this rank, or that another one has failed.
    pub(super) fn sum(&mut self, grads: &mut [R], sums: &mut Sums, done: Result<()>) -> Result<()> {
        let counts = &mut self.counts[..];
        (counts[LOSS], counts[WEIGHT]) = (sums.tally.loss, sums.tally.weight);
        // Exact in f64: no batch has 2⁵³ targets.
        (counts[RIGHT], counts[ALL]) = (sums.hits.right as f64, sums.hits.all as f64);
        counts[FAILED] = f64::from(u8::from(done.is_err()));
        counts[STOP] = f64::from(u8::from(self.asked_to_stop));
        let reached = self.all_reduce.sum(grads, counts);
        done?;
        reached?;
        if counts[FAILED] > 0.0 {
            let fault =
                format!("found a failure at {} of the other ranks; its error says why", counts[FAILED]);
            return Err(Error::config("all_reduce", fault));
        }
        (sums.tally.loss, sums.tally.weight) = (counts[LOSS], counts[WEIGHT]);
        (sums.hits.right, sums.hits.all) = (counts[RIGHT] as u64, counts[ALL] as u64);
        self.stops = counts[STOP] > 0.0;
        Ok(())
    }
}
