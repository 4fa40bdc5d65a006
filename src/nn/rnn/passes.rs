//! The passes of a stack through the steps of a chunk: forward, backward, and the weight gradients.

use std::ops::Range;

use super::cell::{Cell, CellStep, CellStepBack};
use super::lanes::{add, clear, copy, finished};
use super::layout::{Direction, Part, StackLayout};
use super::packing::{Packs, Weights};
use super::recurrent::Recurrent;
use super::tape::{Tapes, Track, cut};
use crate::kernels::{Band, Start};
use crate::nn::{Context, Mode};
use crate::{Real, Seq, SeqMut};

/// One pass through the steps of one chunk.
pub(super) struct Pass<'a, R, C> {
    pub(super) stack: &'a Recurrent<C>,
    pub(super) layout: &'a StackLayout,
    pub(super) cx: &'a Context<'a, R>,
    pub(super) lanes: usize,
    pub(super) steps: Range<usize>,
}

/// The sections of a cache, see [`StackLayout::sections`].
pub(super) struct Cache<'a, R> {
    pub(super) tapes: Tapes<'a, R>,
    /// Gradients of the outputs of each part.
    pub(super) dh: &'a mut [R],
    /// `[H, lanes]`: the gradient of a cell state before a step was taken back.
    dc_before: &'a mut [R],
    dropped: &'a mut [R],
}

impl<'a, R: Real> Cache<'a, R> {
    pub(super) fn new(layout: &'a StackLayout, mode: Mode, lanes: usize, cache: &'a mut [R]) -> Self {
        let [data, dh, dc_before, dropped] = cut(cache, layout.sections(mode).map(|rows| rows * lanes));
        Self { tapes: Tapes { data, layout, mode, lanes }, dh, dc_before, dropped }
    }
}

/// What a layer reads in the steps of a chunk: its sequences side by side, each where it lies.
#[derive(Clone, Copy)]
struct Input<'a, R> {
    /// Step by step; the second is empty unless the layer below has two directions.
    sources: [&'a [R]; 2],
    /// Values from step to step.
    stride: usize,
    /// Values of a step.
    len: usize,
}

impl<'a, R> Input<'a, R> {
    /// Step `i` of the chunk, of each source.
    fn step(&self, i: usize) -> [&'a [R]; 2] {
        self.sources
            .map(|source| if source.is_empty() { source } else { &source[i * self.stride..][..self.len] })
    }
}

impl<R: Real, C: Cell> Pass<'_, R, C> {
    /// The steps of one part: h and c from their initial states in `state` to their final ones.
    pub(super) fn forward_part(&self, part: Part, x: Seq<'_, R>, state: &mut [R], cache: &mut Cache<'_, R>) {
        let Self { layout, cx, lanes, .. } = *self;
        let (mut tape, below) = cache.tapes.split(part);
        let input = self.input(part.layer, x, below, cache.dropped);
        let packs = Packs::new(layout, part, cx.packed);
        let [h_state, c_state] = self.states(part, state);
        let slots = layout.slots(cx.mode, &self.steps);
        let (first, last) = part.direction.ends(&slots);
        tape.h.at(first).copy_from_slice(h_state);
        tape.c.at(first).copy_from_slice(c_state);
        for i in part.direction.order(slots.len()) {
            let slot = slots.start + i;
            let (before, after) = part.direction.before_after(slot);
            let (h_prev, h) = tape.h.two(before, after);
            let (c_prev, c) = tape.c.two(before, after);
            let (gates, kept) = (tape.gates.at(slot), tape.kept.at(slot));
            // a = b + W x + U h, then what the cell makes of it.
            let [x, x_reverse] = input.step(i);
            R::product(packs.forward, [x, x_reverse, h_prev], Start::Bias, gates, lanes);
            self.stack.cell.forward(CellStep { gates, h_prev, c_prev, c: &mut *c, kept, h: &mut *h, lanes });
            if cx.lens.is_some() {
                let t = self.steps.start + i;
                copy(h, h_prev, finished(cx, t), lanes);
                copy(c, c_prev, finished(cx, t), lanes);
            }
        }
        h_state.copy_from_slice(tape.h.at(last));
        c_state.copy_from_slice(tape.c.at(last));
    }

    /// A part's h and c out of the states of the stack, or out of their gradients.
    fn states<'s>(&self, part: Part, state: &'s mut [R]) -> [&'s mut [R]; 2] {
        let Self { layout, lanes, .. } = *self;
        let (h, c) = (layout.width * lanes, layout.cell * lanes);
        let index = layout.index(part);
        let [all_h, all_c] = cut(state, [layout.part_count() * h, layout.part_count() * c]);
        [&mut all_h[index * h..][..h], &mut all_c[index * c..][..c]]
    }

    /// What `layer` reads: the stack's input, or the outputs below, or what dropout left of these. `below` is the tapes
    /// of all layers below.
    fn input<'s>(&self, layer: usize, x: Seq<'s, R>, below: &'s [R], dropped: &'s [R]) -> Input<'s, R> {
        let Self { layout, cx, lanes, .. } = *self;
        let (_, width) = layout.sources(layer);
        let dense = |data: &'s [R]| {
            let step = layout.features(layer) * lanes;
            Input {
                sources: [&data[self.steps.start * step..self.steps.end * step], &[]],
                stride: step,
                len: step,
            }
        };
        if layer == 0 {
            return dense(x.data);
        }
        if self.drops(layer - 1) {
            let [_, left] = self.masks(layer - 1);
            return dense(&dropped[left]);
        }
        let slots = layout.slots(cx.mode, &self.steps);
        let [_, h, ..] = layout.tracks(cx.mode);
        let tapes = layout.directions().len() * layout.tape(cx.mode) * lanes;
        let below = &below[(layer - 1) * tapes..];
        let mut sources = [&[][..]; 2];
        for (source, &direction) in sources.iter_mut().zip(layout.directions()) {
            let rows = layout.output_rows(cx.mode, direction, &slots);
            *source = &below[rows.start * lanes..rows.end * lanes];
        }
        Input { sources, stride: h.stride * lanes, len: width * lanes }
    }

    /// Copies what the top layer output into `y`, 0 beyond a sequence's end.
    pub(super) fn write_outputs(&self, cache: &mut Cache<'_, R>, y: &mut SeqMut<'_, R>) {
        let Self { layout, cx, lanes, .. } = *self;
        let len = layout.width * lanes;
        let slots = layout.slots(cx.mode, &self.steps);
        for &direction in layout.directions() {
            let (mut tape, _) = cache.tapes.split(Part { layer: layout.layers - 1, direction });
            for (slot, t) in slots.clone().zip(self.steps.clone()) {
                let output = &mut y.step(t)[direction.index() * len..][..len];
                output.copy_from_slice(tape.h.at(direction.before_after(slot).1));
                clear(output, finished(cx, t), lanes);
            }
        }
    }

    // --- dropout between layers ---

    /// Whether outputs of `layer` are dropped in this pass.
    pub(super) fn drops(&self, layer: usize) -> bool {
        self.cx.mode == Mode::Train && self.stack.dropout > 0.0 && layer + 1 < self.stack.layers
    }

    /// Where the masks of `layer` lie, and what they left of its outputs: `[T, directions · H, lanes]` each.
    fn masks(&self, layer: usize) -> [Range<usize>; 2] {
        let len = self.layout.t * self.layout.outputs() * self.lanes;
        [2 * layer, 2 * layer + 1].map(|i| i * len..(i + 1) * len)
    }

    /// Multiplies the outputs of `layer` by a mask, for the layer above.
    ///
    /// A sample's draws are keyed by its own key and by layer, step and feature, as those of a `Dropout` layer.
    pub(super) fn drop_outputs(&self, layer: usize, cache: &mut Cache<'_, R>) {
        let Self { layout, cx, lanes, .. } = *self;
        let (step, len) = (layout.outputs() * lanes, layout.width * lanes);
        let [masks, left] = self.masks(layer);
        let [masks, left] = cut(&mut cache.dropped[masks.start..], [masks.len(), left.len()]);
        for t in self.steps.clone() {
            let (mask, left) = (&mut masks[t * step..][..step], &mut left[t * step..][..step]);
            R::dropout_mask(&cx.keys[..lanes], (layer * layout.t + t) as u64, self.stack.dropout, mask);
            let halves = mask.chunks_exact(len).zip(left.chunks_exact_mut(len));
            for (&direction, (mask, left)) in layout.directions().iter().zip(halves) {
                let (mut tape, _) = cache.tapes.split(Part { layer, direction });
                R::multiply(tape.h.at(direction.before_after(t).1), mask, left);
            }
        }
    }

    /// Multiplies the gradients of the outputs of `layer` by the masks of the forward pass.
    pub(super) fn drop_gradients(&self, layer: usize, cache: &mut Cache<'_, R>) {
        let Self { layout, lanes, .. } = *self;
        let (step, len) = (layout.outputs() * lanes, layout.width * lanes);
        let [masks, _] = self.masks(layer);
        let masks = cache.dropped[masks][self.steps.start * step..].chunks_exact(step);
        for (i, mask) in masks.take(self.steps.len()).enumerate() {
            for (&direction, mask) in layout.directions().iter().zip(mask.chunks_exact(len)) {
                let rows = layout.gradient(Part { layer, direction }, i);
                let dh = &mut cache.dh[rows.start * lanes..rows.end * lanes];
                dh.iter_mut().zip(mask).for_each(|(dh, m)| *dh *= *m);
            }
        }
    }

    // --- backward ---

    /// Fills the gradients of the top layer's outputs: with `dy`, or with 0 where only the final state was returned.
    pub(super) fn read_gradients(&self, dy: Option<Seq<'_, R>>, cache: &mut Cache<'_, R>) {
        let Self { layout, cx, lanes, .. } = *self;
        let len = layout.width * lanes;
        for &direction in layout.directions() {
            for (i, t) in self.steps.clone().enumerate() {
                let rows = layout.gradient(Part { layer: layout.layers - 1, direction }, i);
                let dh = &mut cache.dh[rows.start * lanes..rows.end * lanes];
                let Some(dy) = dy else {
                    dh.fill(R::ZERO);
                    continue;
                };
                dh.copy_from_slice(&dy.step(t)[direction.index() * len..][..len]);
                clear(dh, finished(cx, t), lanes);
            }
        }
    }

    /// The steps of one part, back: leaves the gradients of the pre-activations on the tape, those of the inputs in
    /// `cache.dh` of the layer below or in `dx`, and those of the initial state in `dstate`.
    pub(super) fn backward_part(
        &self,
        part: Part,
        dstate: &mut [R],
        cache: &mut Cache<'_, R>,
        dx: &mut Option<SeqMut<'_, R>>,
    ) {
        let Self { layout, cx, lanes, .. } = *self;
        let (mut tape, _) = cache.tapes.split(part);
        let packs = Packs::new(layout, part, cx.packed);
        let [dh_end, dc] = self.states(part, dstate);
        let dc_before = &mut cache.dc_before[..dc.len()];
        let (row, len) = (layout.gradients(part), self.steps.len());
        let row = row.start * lanes..row.end * lanes;
        let back = part.direction.reversed();
        let mut order = back.order(len).peekable();
        // The gradient of the final state joins that of the last output; its slot then serves the initial state's.
        let last = order.peek().map_or(0, |&i| i);
        let mut dh = Track::dense(&mut cache.dh[row.clone()], layout.width * lanes);
        R::accumulate(dh.at(last), dh_end);
        dh_end.fill(R::ZERO);
        while let Some(i) = order.next() {
            let t = self.steps.start + i;
            let (before, after) = part.direction.before_after(t);
            let (h_prev, h) = tape.h.two(before, after);
            let (c_prev, _) = tape.c.two(before, after);
            let (gates, kept) = (tape.gates.at(t), tape.kept.at(t));
            let mut dh = Track::dense(&mut cache.dh[row.clone()], layout.width * lanes);
            // The step before in time lies next to this one; at the chunk's first, it is the initial state.
            let (now, dh_prev) = match order.peek() {
                Some(&before) => dh.two(i, before),
                None => (dh.at(i), &mut *dh_end),
            };
            let held = cx.lens.is_some();
            if held {
                // Beyond the end of a sequence the state was left as it was, so its gradient passes through: dh is
                // added to the step before, and dc, which the cell overwrites, is put back afterwards.
                add(dh_prev, now, finished(cx, t), lanes);
                clear(now, finished(cx, t), lanes);
                dc_before.copy_from_slice(dc);
            }
            self.stack.cell.backward(CellStepBack {
                gates: &mut *gates,
                h_prev,
                c_prev,
                kept,
                h,
                dh: now,
                dh_prev: &mut *dh_prev,
                dc: &mut *dc,
                lanes,
            });
            if held {
                clear(gates, finished(cx, t), lanes);
                copy(dc, dc_before, finished(cx, t), lanes);
            }
            // dh of the step before += Uᵀ da
            R::product(packs.back_h, [gates, &[], &[]], Start::Add, dh_prev, lanes);
            self.input_gradients(part, i, gates, &mut cache.dh, dx);
        }
    }

    /// dx of step `i` of the chunk = Wᵀ da, summed over both directions of the layer: the first overwrites.
    fn input_gradients(&self, part: Part, i: usize, da: &[R], dh: &mut [R], dx: &mut Option<SeqMut<'_, R>>) {
        let Self { layout, cx, lanes, .. } = *self;
        let start = if part.direction == Direction::Forward { Start::Bias } else { Start::Add };
        let packs = Packs::new(layout, part, cx.packed);
        if part.layer > 0 {
            for (&direction, pack) in layout.directions().iter().zip(packs.back_x()) {
                let rows = layout.gradient(Part { layer: part.layer - 1, direction }, i);
                R::product(pack, [da, &[], &[]], start, &mut dh[rows.start * lanes..rows.end * lanes], lanes);
            }
        } else if let Some(dx) = dx {
            for pack in packs.back_x() {
                R::product(pack, [da, &[], &[]], start, dx.step(self.steps.start + i), lanes);
            }
        }
    }

    /// dW += Σ da xᵀ; dU += Σ da hᵀ; db += Σ da: over all steps of the chunk and all lanes at once.
    pub(super) fn weight_gradients(
        &self,
        part: Part,
        x: Seq<'_, R>,
        cache: &mut Cache<'_, R>,
        grads: &mut [R],
    ) {
        let Self { layout, cx, lanes, .. } = *self;
        let (units, width, features) = (layout.units, layout.width, layout.features(part.layer));
        let grads = Weights::of_gradients(layout, part, grads);
        let (tape, below) = cache.tapes.split(part);
        let input = self.input(part.layer, x, below, cache.dropped);
        let [gates, h, ..] = layout.tracks(cx.mode);
        let da = Band::new(tape.gates.data(), gates.stride).steps(self.steps.clone(), lanes);
        // The states before each step: in reverse, these lie one slot later.
        let (first, _) = part.direction.before_after(0);
        let states = Band::new(&tape.h.data()[first * h.stride * lanes..], h.stride);
        let states = states.steps(self.steps.clone(), lanes).rows(0..width);
        for (from, to) in runs(C::BLOCKS.iter().map(|block| block.ih)) {
            let da = da.clone().rows(from.start * units..from.end * units);
            let dw = &mut grads.ih[to.start * units * features..to.end * units * features];
            for (i, source) in input.sources.iter().enumerate().filter(|(_, source)| !source.is_empty()) {
                let rows = input.len / lanes;
                let x = Band::new(source, input.stride / lanes).rows(0..rows);
                R::outer(da.clone(), x, dw, (features, i * rows), lanes);
            }
        }
        for (from, to) in runs(C::BLOCKS.iter().map(|block| block.hh)) {
            let da = da.clone().rows(from.start * units..from.end * units);
            let dw = &mut grads.hh[to.start * units * width..to.end * units * width];
            R::outer(da, states.clone(), dw, (width, 0), lanes);
        }
        for (i, block) in C::BLOCKS.iter().enumerate() {
            let db_ih = block.ih.map_or(&mut [][..], |to| &mut grads.b_ih[to * units..][..units]);
            let db_hh = block.hh.map_or(&mut [][..], |to| &mut grads.b_hh[to * units..][..units]);
            R::row_sums(da.clone().rows(i * units..(i + 1) * units), [db_ih, db_hh], lanes);
        }
    }
}

/// Runs of blocks that follow one another both in the pre-activations and in a weight, (from, to): one product for each.
fn runs(blocks: impl Iterator<Item = Option<usize>>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut blocks = blocks.enumerate().filter_map(|(from, to)| Some((from, to?))).peekable();
    std::iter::from_fn(move || {
        let (from, to) = blocks.next()?;
        let mut len = 1;
        while blocks.next_if_eq(&(from + len, to + len)).is_some() {
            len += 1;
        }
        Some((from..from + len, to..to + len))
    })
}
