//! How a batch is cut into tiles and slots, what a slot does, and the tree that sums the slots.

use std::ops::{AddAssign, Range};

use super::{Hits, Outcome};
use crate::data::{Batch, Dataset, TargetShape};
use crate::loss::{Loss, Tally};
use crate::nn::{Mode, Wait, Workspace};
use crate::{Model, Real, Result, Scalar, par};

/// The most slots: the tiles of a batch are summed into slots, and these by a fixed tree.
///
/// More would keep more threads busy, but each costs a workspace, a copy of the gradients and an addition per step; with
/// tiles of 32 lanes, 16 slots hold batches of 512 samples at one tile each. It is a power of two, so that each rank, of
/// which there are 1, 2, 4, 8 or 16, has a subtree of the tree.
pub(super) const SLOTS: usize = 16;

/// Lanes come in multiples of this, in either scalar type.
#[allow(clippy::assertions_on_constants, clippy::eq_op, reason = "true as long as both are the same number")]
const QUANTUM: usize = {
    assert!(f32::QUANTUM == f64::QUANTUM);
    f32::QUANTUM
};

/// How a batch is cut into tiles, the tiles into the slots of all ranks, and which slots belong to this rank.
///
/// All of it is a function of the batch's length and of settings, never of the number of threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The most draws of a tile.
    pub(super) tile: usize,
    pub(super) rank: usize,
    pub(super) ranks: usize,
}

impl Cut {
    fn tiles(self, draws: usize) -> usize {
        draws.div_ceil(self.tile)
    }

    /// The most tiles of a slot in a batch of at most this many draws.
    pub(super) fn most_tiles(self, draws: usize) -> usize {
        self.tiles(draws).div_ceil(SLOTS).max(1)
    }

    /// How many slots a batch of this many draws uses, at all ranks.
    fn used(self, draws: usize) -> usize {
        self.tiles(draws).min(SLOTS)
    }

    /// The slots of which a batch uses the first: the leaves of a whole tree.
    pub(super) fn width(self, draws: usize) -> usize {
        self.used(draws).next_power_of_two()
    }

    /// A rank's share of `width` slots. If both numbers are powers of two, it is a subtree, or at most one slot.
    pub(super) fn share(rank: usize, ranks: usize, width: usize) -> Range<usize> {
        rank * width / ranks..(rank + 1) * width / ranks
    }

    /// The slots of this rank that are used; in a small batch some ranks may have none.
    pub(super) fn own(self, draws: usize) -> Range<usize> {
        let (used, share) = (self.used(draws), Self::share(self.rank, self.ranks, self.width(draws)));
        share.start.min(used)..share.end.min(used)
    }

    /// The most slots that this rank has in a batch of at most this many draws.
    pub(super) fn most(self, draws: usize) -> usize {
        (1..=self.used(draws)).map(|used| self.own(used * self.tile).len()).max().unwrap_or(0)
    }

    /// The range of tiles assigned to a slot; the numbers of tiles of slots differ by at most one.
    pub(super) fn of_slot(self, slot: usize, draws: usize) -> Range<usize> {
        let (tiles, used) = (self.tiles(draws), self.used(draws));
        slot * tiles / used..(slot + 1) * tiles / used
    }

    /// The first draw of this rank.
    pub(super) fn first(self, draws: usize) -> usize {
        let own = self.own(draws);
        if own.is_empty() { draws } else { self.draws(self.of_slot(own.start, draws), draws).start }
    }

    /// The draws of some consecutive tiles, which are as even as whole vectors allow: two threads then take the same time
    /// over a batch whose length is not a multiple of the tile's.
    pub(super) fn draws(self, tiles: Range<usize>, draws: usize) -> Range<usize> {
        let unit = if self.tile.is_multiple_of(QUANTUM) { QUANTUM } else { 1 };
        let (units, count) = (draws.div_ceil(unit), self.tiles(draws).max(1));
        let bound = |tile: usize| draws.min(tile.min(count) * units / count * unit);
        bound(tiles.start)..bound(tiles.end)
    }
}

/// What is summed in addition to gradients.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) tally: Tally,
    pub(super) hits: Hits,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.tally += other.tally;
        self.hits += other.hits;
    }
}

/// A slot: a workspace, and the sums over the tiles that pass through it.
pub(super) struct Slot<R> {
    /// One workspace, or one for each tile where layers wait for all of them.
    tiles: Vec<Workspace<R>>,
    grads: Vec<R>,
    sums: Sums,
    /// The tally of each draw, tile after tile, if there is room for them.
    pub(super) draws: Vec<Tally>,
    /// The outcome of each draw, in the same way.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// The states that its tiles carry to the next step, one tile after another; empty if they carry none.
    pub(super) states: Vec<R>,
}

/// What the slots of a step share.
#[derive(Clone, Copy)]
pub(super) struct Work<'a, R: Real> {
    pub(super) model: &'a Model<R>,
    pub(super) data: &'a dyn Dataset<Elem = R>,
    pub(super) loss: &'a dyn Loss<R>,
    pub(super) batch: Batch<'a>,
    pub(super) seed: u64,
    pub(super) cut: Cut,
}

impl<R: Real> Slot<R> {
    /// A slot for tiles of `tile` samples with targets of this shape and their loss, with `count` workspaces, which carries the
    /// states of `streams` tiles.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(super) fn new(
        model: &Model<R>,
        targets: TargetShape,
        loss: &dyn Loss<R>,
        (tile, count): (usize, usize),
        streams: usize,
    ) -> Result<Self> {
        let workspace = |_| -> Result<_> {
            let mut ws = Workspace::try_new(model, tile, Mode::Train)?;
            ws.expect_targets(targets, Some(loss));
            Ok(ws)
        };
        let tiles = (0..count).map(workspace).collect::<Result<Vec<_>>>()?;
        let states = vec![R::ZERO; streams * tiles[0].state_len()];
        let grads = vec![R::ZERO; model.parameter_count()];
        let (sums, draws, outcomes) = (Sums::default(), Vec::new(), Vec::new());
        Ok(Self { tiles, grads, sums, draws, outcomes, states })
    }

    /// A slot like this one for a smaller model, with states of 0.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(super) fn smaller(
        &self,
        model: &Model<R>,
        targets: TargetShape,
        loss: &dyn Loss<R>,
        tile: usize,
    ) -> Result<Self> {
        let streams = self.states.len() / self.tiles[0].state_len().max(1);
        let mut slot = Self::new(model, targets, loss, (tile, self.tiles.len()), streams)?;
        slot.draws.reserve_exact(self.draws.capacity());
        slot.outcomes.reserve_exact(self.outcomes.capacity());
        Ok(slot)
    }

    /// Sums the losses and gradients of the tiles of slot `i`, in order.
    pub(super) fn run(&mut self, i: usize, work: Work<'_, R>) -> Result<()> {
        self.clear(work.batch);
        for (k, tile) in work.cut.of_slot(i, work.batch.len()).enumerate() {
            self.open((0, k), tile, work)?;
            work.model.forward(&mut self.tiles[0]);
            self.measure((0, k), work.loss);
            work.model.backward(&mut self.tiles[0], &mut self.grads, false);
        }
        Ok(())
    }

    /// Begins a batch.
    fn clear(&mut self, batch: Batch<'_>) {
        self.grads.fill(R::ZERO);
        self.sums = Sums::default();
        self.draws.clear();
        self.outcomes.clear();
        if batch.first == 0 {
            self.states.fill(R::ZERO);
        }
    }

    /// Gathers a tile of the batch, which is the slot's `k`-th, into workspace `w`.
    fn open(&mut self, (w, k): (usize, usize), tile: usize, work: Work<'_, R>) -> Result<()> {
        let Work { model, data, loss, batch, seed, cut } = work;
        let draws = cut.draws(tile..tile + 1, batch.len());
        let ws = &mut self.tiles[w];
        ws.gather(model, data, Some(loss), batch.part(draws).samples(seed))?;
        if let Some(states) = self.states.chunks_exact_mut(ws.state_len().max(1)).nth(k) {
            ws.load_states(states);
        }
        Ok(())
    }

    /// Measures the slot's `k`-th tile, in workspace `w`, after its forward pass, and keeps its states.
    fn measure(&mut self, (w, k): (usize, usize), loss: &dyn Loss<R>) {
        let ws = &mut self.tiles[w];
        if let Some(states) = self.states.chunks_exact_mut(ws.state_len().max(1)).nth(k) {
            ws.save_states(states);
        }
        let hits = &mut self.sums.hits;
        ws.each_class(Some(loss), |_, truth, predicted| {
            *hits += Hits { right: u64::from(Some(truth) == predicted), all: 1 };
        });
        self.sums.tally += ws.measure(loss);
        if self.draws.capacity() > 0 {
            self.draws.extend_from_slice(ws.tallies());
        }
        if self.outcomes.capacity() > 0 {
            let lanes = ws.tallies().iter().enumerate();
            self.outcomes.extend(lanes.map(|(lane, tally)| {
                let (class, outputs) = ws.class(loss, lane)?;
                Some(Outcome::of(outputs, class, tally.mean()?))
            }));
        }
    }

    /// The slot's tiles of this batch, each with its workspace, and the gradients to which their backward passes add.
    pub(super) fn tiles_of(&mut self, i: usize, work: Work<'_, R>) -> (&mut [Workspace<R>], &mut [R]) {
        let count = work.cut.of_slot(i, work.batch.len()).len();
        (&mut self.tiles[..count], &mut self.grads)
    }

    /// The sums where a pass waits, in the first workspace.
    pub(super) fn first_sums(&mut self, wait: &Wait) -> &mut [f64] {
        self.tiles[0].sums_mut(wait)
    }

    /// Begins a batch and gathers all tiles of slot `i`, each into its workspace.
    pub(super) fn open_all(&mut self, i: usize, work: Work<'_, R>) -> Result<()> {
        self.clear(work.batch);
        let tiles = work.cut.of_slot(i, work.batch.len());
        tiles.enumerate().try_for_each(|(k, tile)| self.open((k, k), tile, work))
    }

    /// Measures all tiles of slot `i` after their forward pass.
    pub(super) fn measure_all(&mut self, i: usize, work: Work<'_, R>) {
        let count = work.cut.of_slot(i, work.batch.len()).len();
        (0..count).for_each(|k| self.measure((k, k), work.loss));
    }
}

/// The tree by which `count` slots are summed, as pairs of which the second is added to the first: neighbours, then
/// neighbouring pairs, and so on; one without a neighbour waits for the next level.
///
/// ```text
/// stride 1:  0+1  2+3  4        stride 2:  01+23  4        stride 4:  0123+4
/// ```
pub(super) fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let strides = std::iter::successors(Some(1), |stride| Some(2 * stride)).take_while(move |&s| s < count);
    strides.flat_map(move |stride| (0..count - stride).step_by(2 * stride).map(move |i| (i, i + stride)))
}

/// Sums all slots, by a tree that depends only on their number; see [`pairs`].
///
/// The gradients are returned as two summands, of which the second may be empty: the last addition is left to the code that
/// writes the sum elsewhere, which saves a pass over them.
pub(super) fn add<R: Real>(slots: &mut [Slot<R>]) -> (Sums, [&[R]; 2]) {
    let count = slots.len();
    for (into, from) in pairs(count) {
        let (left, right) = slots.split_at_mut(from);
        let (own, other) = (&mut left[into], &right[0]);
        own.sums += other.sums;
        let last = into == 0 && 2 * from >= count;
        if !last {
            par::in_parts(&mut own.grads, [&other.grads, &[]], &|own, [other, _]| R::accumulate(own, other));
        }
    }
    match slots {
        [] => (Sums::default(), [&[], &[]]),
        [one] => (one.sums, [&one.grads, &[]]),
        // The last level added this slot to slot 0.
        _ => (slots[0].sums, [&slots[0].grads, &slots[count.next_power_of_two() / 2].grads]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_draw_in_one_tile_of_one_slot_of_one_rank() {
        for ranks in 1..=SLOTS {
            for (draws, tile) in [(1, 1), (7, 2), (100, 8), (300, 8), (512, 32), (16, 1), (1000, 3)] {
                let mut next = 0;
                for rank in 0..ranks {
                    let cut = Cut { tile, rank, ranks };
                    for slot in cut.own(draws) {
                        assert!(cut.own(draws).len() <= cut.most(draws.max(512)));
                        for t in cut.of_slot(slot, draws) {
                            let range = cut.draws(t..t + 1, draws);
                            assert_eq!(range.start, next, "{draws} draws in tiles of {tile}");
                            assert!((1..=tile).contains(&range.len()));
                            next = range.end;
                        }
                    }
                }
                assert_eq!(next, draws);
            }
        }
    }

    #[test]
    fn tiles_are_as_even_as_whole_vectors_allow() {
        let lengths = |tile, draws| -> Vec<_> {
            let cut = Cut { tile, rank: 0, ranks: 1 };
            (0..cut.tiles(draws)).map(|t| cut.draws(t..t + 1, draws).len()).collect()
        };
        assert_eq!(lengths(32, 64), [32, 32]);
        assert_eq!(lengths(32, 100), [24, 24, 24, 28]);
        assert_eq!(lengths(32, 33), [16, 17]);
        assert_eq!(lengths(16, 20), [8, 12]);
        assert_eq!(lengths(5, 11), [3, 4, 4]);
    }
}
