//! The sum over slots, continued over ranks.
//!
//! A rank has a run of neighbouring slots. Within it lie whole nodes of the fixed tree over all slots, such as slots 0 to 3
//! and slot 4 of a rank that has slots 0 to 4. If there are 1, 2, 4, 8 or 16 ranks, each has at most one node, and the ranks that
//! are summed in pairs continue the tree. Otherwise every node has a place of its own in what is exchanged, where the other
//! ranks add nothing, and every rank sums the nodes by the same tree.

use std::ops::Range;

use super::agreement::failures;
use super::slot::{Cut, SLOTS, Slot, Sums, add};
use super::{AllReduce, Hits, Outcome};
use crate::loss::Tally;
use crate::{Real, Result, par};

/// The indices of the counts that are exchanged together with the gradients.
const RIGHT: usize = 0;
const ALL: usize = 1;
/// 2^rank for each rank that failed.
const FAILED: usize = 2;
/// The number of counts. After them come loss and weight of each node, then the numbers of each draw of the batch, if they are
/// needed.
const COUNTS: usize = 3;
/// The loss and weight of a draw, and the other numbers of its outcome.
const OF_DRAW: usize = 5;

/// The other ranks of a run, and the buffers for what is exchanged with them.
pub(super) struct Ranks<'a, R> {
    all_reduce: &'a dyn AllReduce<R>,
    /// The slots of the nodes that are exchanged, of all ranks; only this rank's, if the ranks are summed in pairs. They
    /// depend on the width of the tree: one slot, two, four, and so on.
    nodes: [Vec<Range<usize>>; WIDTHS],
    /// The gradients of the nodes, one after another, if there are several.
    grads: Vec<R>,
    counts: Vec<f64>,
    /// Other sums of the nodes, one after another.
    sums: Vec<f64>,
    /// Where in the counts the draws begin.
    draws: usize,
}

/// How many widths a tree of slots can have.
const WIDTHS: usize = SLOTS.ilog2() as usize + 1;

/// The nodes that ranks exchange in a tree of this width.
fn exchanged(rank: usize, size: usize, width: usize) -> Vec<Range<usize>> {
    if in_pairs(size) {
        return vec![Cut::share(rank, size, width)];
    }
    (0..size).flat_map(|rank| nodes_within(Cut::share(rank, size, width))).collect()
}

/// Whether ranks that are summed in pairs continue the tree over slots.
fn in_pairs(ranks: usize) -> bool {
    ranks.is_power_of_two()
}

/// The largest nodes of the tree that lie within some slots: neighbours, pairs of neighbours, and so on.
fn nodes_within(mut slots: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        let start = slots.start;
        let fits = |len: &usize| start.is_multiple_of(*len) && start + len <= slots.end;
        let len = (0..=SLOTS.ilog2()).map(|level| 1 << level).filter(fits).max()?;
        slots.start += len;
        Some(start..slots.start)
    })
}

impl<'a, R: Real> Ranks<'a, R> {
    /// For the gradients of so many parameters, and so many sums at most within a pass.
    pub(super) fn new(all_reduce: &'a dyn AllReduce<R>, params: usize, sums: usize) -> Self {
        let (rank, size) = (all_reduce.rank(), all_reduce.size());
        let nodes = std::array::from_fn(|level| exchanged(rank, size, 1 << level));
        let most = nodes.iter().map(Vec::len).max().unwrap_or(1);
        let grads = vec![R::ZERO; if most > 1 { most * params } else { 0 }];
        let counts = vec![0.0; COUNTS + 2 * most];
        Self { all_reduce, nodes, grads, counts, sums: vec![0.0; most * sums], draws: COUNTS + 2 * most }
    }

    /// Allocates the tallies and outcomes of the draws of a batch.
    pub(super) fn expect_draws(&mut self, batch: usize) {
        self.counts.resize(self.draws + OF_DRAW * batch, 0.0);
    }

    /// Takes this rank's draws, of which the first is the `first` of the batch; those of the others come with the next
    /// [`sum`](Self::sum).
    pub(super) fn set_draws(&mut self, first: usize, draws: impl Iterator<Item = (Tally, Option<Outcome>)>) {
        let counts = &mut self.counts[self.draws..];
        counts.fill(-0.0);
        let own = counts.as_chunks_mut::<OF_DRAW>().0.iter_mut().skip(first);
        for (count, (tally, outcome)) in own.zip(draws) {
            let [probability, margin, error] = Outcome::numbers(outcome);
            *count = [tally.loss, tally.weight, probability, margin, error];
        }
    }

    /// The losses and outcomes of the draws of all ranks.
    pub(super) fn draws(&self) -> impl Iterator<Item = (Option<f64>, Option<Outcome>)> {
        let draws = self.counts[self.draws..].as_chunks::<OF_DRAW>().0.iter();
        draws.map(|&[loss, weight, probability, margin, error]| {
            let loss = Tally::new(loss, weight).mean();
            (loss, Outcome::from_numbers([probability, margin, error], loss))
        })
    }

    /// Sums what `sum` writes for each node of a tree of this width that has slots of this rank, over all ranks.
    ///
    /// # Errors
    /// If the other ranks cannot be reached.
    pub(super) fn sum_counts(
        &mut self,
        width: usize,
        total: &mut [f64],
        mut sum: impl FnMut(Range<usize>, &mut [f64]),
    ) -> Result<()> {
        let (nodes, len) = (&self.nodes[width.ilog2() as usize], total.len());
        let sums = &mut self.sums[..nodes.len() * len];
        sums.fill(-0.0);
        nodes.iter().zip(sums.chunks_exact_mut(len)).for_each(|(node, place)| sum(node.clone(), place));
        self.all_reduce.sum(&mut [], sums)?;
        if nodes.len() > 1 {
            add_nodes(nodes, |into, from| add_place(sums, len, (into, from)));
        }
        total.copy_from_slice(&sums[..len]);
        Ok(())
    }

    /// Sums the slots of all ranks, of a tree of this width, into `total`. This rank's begin with slot `first`.
    ///
    /// A rank that has failed still takes part, and says so: otherwise the others would wait for it.
    ///
    /// # Errors
    /// The error of this rank, or that another one has failed.
    pub(super) fn sum(
        &mut self,
        slots: &mut [Slot<R>],
        first: usize,
        (total, width): (&mut [R], usize),
        done: Result<()>,
    ) -> Result<Sums> {
        let Self { all_reduce, nodes, grads, counts, draws, .. } = self;
        let nodes = &nodes[width.ilog2() as usize];
        let one = nodes.len() == 1;
        let params = total.len();
        let buffer = if one { &mut *total } else { &mut grads[..nodes.len() * params] };
        let failed = if done.is_err() { f64::from(1u32 << all_reduce.rank()) } else { 0.0 };
        let tallies = counts[COUNTS..*draws].as_chunks_mut().0;
        tallies.fill([0.0; 2]);
        let mut hits = Hits::default();
        for (i, node) in nodes.iter().enumerate() {
            let place = &mut buffer[i * params..][..params];
            let own = node.start.max(first)..node.end.min(first + slots.len());
            if done.is_err() || own.is_empty() {
                // The one value that leaves every other as it is, to the sign of 0, wherever it is added.
                place.fill(-R::ZERO);
                tallies[i] = [-0.0; 2];
                continue;
            }
            let (sums, both) = add(&mut slots[own.start - first..own.end - first]);
            par::in_parts(place, both, &|place, [a, b]| R::scaled_sum(place, a, b, R::ONE));
            tallies[i] = [sums.tally.loss, sums.tally.weight];
            hits += sums.hits;
        }
        // Exact in f64: no batch has 2⁵³ targets.
        (counts[RIGHT], counts[ALL], counts[FAILED]) = (hits.right as f64, hits.all as f64, failed);
        let reached = all_reduce.sum(buffer, counts);
        done?;
        reached?;
        let failed = counts[FAILED] as u32;
        failures((0..all_reduce.size()).filter(|rank| failed & (1 << rank) != 0).collect())?;
        let tallies = counts[COUNTS..].as_chunks_mut().0;
        if !one {
            add_nodes(nodes, |into, from| {
                add_place(grads, params, (into, from));
                let [loss, weight] = tallies[from];
                tallies[into] = [tallies[into][0] + loss, tallies[into][1] + weight];
            });
            total.copy_from_slice(&grads[..params]);
        }
        let [loss, weight] = tallies[0];
        Ok(Sums {
            tally: Tally::new(loss, weight),
            hits: Hits { right: counts[RIGHT] as u64, all: counts[ALL] as u64 },
        })
    }
}

/// Sums nodes by the tree of which they are nodes, into the first place, by calls of `add(into, from)`.
fn add_nodes(nodes: &[Range<usize>], mut add: impl FnMut(usize, usize)) {
    let mut places = [None; SLOTS];
    nodes.iter().enumerate().for_each(|(i, node)| places[node.start] = Some(i));
    let strides = (0..SLOTS.ilog2()).map(|level| 1 << level);
    for (stride, start) in strides.flat_map(|stride| (0..SLOTS).step_by(2 * stride).map(move |i| (stride, i)))
    {
        // A node that is this large already has no neighbour at half its size.
        let Some(from) = places[start + stride].take() else { continue };
        let into = places[start].expect("the nodes of all ranks begin at slot 0 and have no gaps");
        add(into, from);
    }
}

/// Adds the values of a place of `len` to those of one before it.
fn add_place<R: Real>(values: &mut [R], len: usize, (into, from): (usize, usize)) {
    let (left, right) = values.split_at_mut(from * len);
    R::accumulate(&mut left[into * len..][..len], &right[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every node of every rank is one of the tree, and together they are all slots.
    #[test]
    fn nodes_of_the_tree() {
        for (size, width) in sizes() {
            let all = all_nodes(size, width);
            assert_eq!(all.iter().cloned().flatten().collect::<Vec<_>>(), (0..width).collect::<Vec<_>>());
            assert!(all.iter().all(|node| node.len().is_power_of_two() && node.start % node.len() == 0));
            assert!(!in_pairs(size) || all.len() == size.min(width), "{size}: {all:?}");
        }
        let three = (0..3).map(|rank| nodes_within(Cut::share(rank, 3, 16)).collect::<Vec<_>>());
        let expected = [vec![0..4, 4..5], vec![5..6, 6..8, 8..10], vec![10..12, 12..16]];
        assert_eq!(three.collect::<Vec<_>>(), expected);
    }

    fn sizes() -> impl Iterator<Item = (usize, usize)> {
        (1..=SLOTS).flat_map(|size| [1, 2, 4, 8, SLOTS].map(|width| (size, width)))
    }

    fn all_nodes(size: usize, width: usize) -> Vec<Range<usize>> {
        (0..size).flat_map(|rank| nodes_within(Cut::share(rank, size, width))).collect()
    }

    /// Sums neighbours, then pairs of neighbours, and so on.
    fn tree(mut sums: Vec<f64>) -> f64 {
        while sums.len() > 1 {
            sums = sums.chunks(2).map(|pair| pair.iter().copied().reduce(|a, b| a + b).unwrap()).collect();
        }
        sums[0]
    }

    /// Numbers that have another sum in another order.
    #[test]
    fn nodes_are_summed_as_slots_are() {
        let slots: Vec<f64> = (0..SLOTS).map(|i| 0.1 * (i * i + 1) as f64).collect();
        assert_ne!(tree(slots.clone()), slots.iter().sum::<f64>());
        for (size, width) in sizes() {
            let expected = tree(slots[..width].to_vec());
            let nodes = all_nodes(size, width);
            let mut sums: Vec<f64> = nodes.iter().map(|node| tree(slots[node.clone()].to_vec())).collect();
            add_nodes(&nodes, |into, from| add_place(&mut sums, 1, (into, from)));
            assert_eq!(sums[0], expected, "{size} ranks, {width} slots");
            if in_pairs(size) {
                let of_rank = |rank| Cut::share(rank, size, width);
                let sum_of =
                    |share: Range<usize>| if share.is_empty() { -0.0 } else { tree(slots[share].to_vec()) };
                assert_eq!(tree((0..size).map(of_rank).map(sum_of).collect()), expected);
            }
        }
    }
}
