//! Views of a stack's cache: the tape of each part, and what else a backward pass needs.

use super::layout::{Direction, Part, StackLayout, TrackSize};
use crate::nn::Mode;

/// Cuts the beginning of `data` into pieces of these lengths, one after another.
///
/// # Panics
/// If `data` is shorter than all of them.
pub(super) fn cut<R, const N: usize>(mut data: &mut [R], lens: [usize; N]) -> [&mut [R]; N] {
    lens.map(|len| {
        let (piece, rest) = std::mem::take(&mut data).split_at_mut(len);
        data = rest;
        piece
    })
}

/// As [`cut`], for what is only read.
pub(super) fn pieces<R, const N: usize>(mut data: &[R], lens: [usize; N]) -> [&[R]; N] {
    lens.map(|len| {
        let (piece, rest) = data.split_at(len);
        data = rest;
        piece
    })
}

/// Values step by step; a ring where it has fewer slots than there are steps.
pub(super) struct Track<'a, R> {
    data: &'a mut [R],
    slots: usize,
    /// Values from slot to slot.
    stride: usize,
    /// Values of a step.
    len: usize,
}

impl<'a, R> Track<'a, R> {
    fn new(data: &'a mut [R], size: TrackSize, lanes: usize) -> Self {
        Self { data, slots: size.steps, stride: size.stride * lanes, len: size.rows * lanes }
    }

    /// Slots of `len` values that lie side by side.
    pub(super) fn dense(data: &'a mut [R], len: usize) -> Self {
        Self { slots: data.len() / len, stride: len, len, data }
    }

    /// The values of a step.
    pub(super) fn at(&mut self, step: usize) -> &mut [R] {
        &mut self.data[step % self.slots * self.stride..][..self.len]
    }

    /// The values of two steps, which must not share a slot.
    pub(super) fn two(&mut self, from: usize, to: usize) -> (&mut [R], &mut [R]) {
        let (from, to) = (from % self.slots, to % self.slots);
        // The cut lies at the beginning of the later slot, so that each of them is whole on its side.
        let (head, tail) = self.data.split_at_mut(from.max(to) * self.stride);
        let (low, high) = (&mut head[from.min(to) * self.stride..][..self.len], &mut tail[..self.len]);
        if from < to { (low, high) } else { (high, low) }
    }

    /// All slots.
    pub(super) fn data(&self) -> &[R] {
        self.data
    }
}

/// What a part keeps of a pass, in the order of time; [`StackLayout::tracks`] has the sizes.
pub(super) struct Tape<'a, R> {
    /// `[blocks · H, lanes]` a step: pre-activations, then what the cell makes of them, then their gradients.
    pub(super) gates: Track<'a, R>,
    /// `[H, lanes]` a step, and the initial state.
    pub(super) h: Track<'a, R>,
    /// `[H, lanes]` a step, and the initial state; empty where there is no cell state.
    pub(super) c: Track<'a, R>,
    /// What else the cell keeps of a step.
    pub(super) kept: Track<'a, R>,
    /// `[H, lanes]` a step: what the second product of a step reads; empty where there is none.
    pub(super) m: Track<'a, R>,
}

impl<'a, R> Tape<'a, R> {
    fn new(data: &'a mut [R], tracks: [TrackSize; 5], lanes: usize) -> Self {
        let [gates, h, c, kept, m] = cut(data, tracks.map(|track| track.all_rows() * lanes));
        Self {
            gates: Track::new(gates, tracks[0], lanes),
            h: Track::new(h, tracks[1], lanes),
            c: Track::new(c, tracks[2], lanes),
            kept: Track::new(kept, tracks[3], lanes),
            m: Track::new(m, tracks[4], lanes),
        }
    }
}

/// The tapes of all parts.
pub(super) struct Tapes<'a, R> {
    pub(super) data: &'a mut [R],
    pub(super) layout: &'a StackLayout,
    pub(super) mode: Mode,
    pub(super) lanes: usize,
}

impl<R> Tapes<'_, R> {
    /// The tape of a part, and the tapes of all layers below.
    pub(super) fn split(&mut self, part: Part) -> (Tape<'_, R>, &[R]) {
        let tape = self.layout.tape(self.mode) * self.lanes;
        // All parts of the layers below lie in front of this layer's.
        let layer = self.layout.index(Part { direction: Direction::Forward, ..part });
        let (below, own) = self.data.split_at_mut(layer * tape);
        let own = &mut own[part.direction.index() * tape..][..tape];
        (Tape::new(own, self.layout.tracks(self.mode), self.lanes), below)
    }
}
