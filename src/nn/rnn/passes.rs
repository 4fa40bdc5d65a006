//! The passes of a stack through the steps of a chunk: forward, backward, and the weight gradients.

use std::ops::Range;

use super::cell::{Block, Cell, CellStep, CellStepBack, GateStepBack};
use super::lanes::{add, clear, copy, finished};
use super::layout::{Direction, Part, Second, StackLayout, odd};
use super::packing::{ForwardPacks, Packs, Weights};
use super::recurrent::Recurrent;
use super::tape::{Tape, Tapes, Track, cut};
use crate::kernels::{Band, Columns, Start};
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
    /// `[H, lanes]`: the gradient of m.
    dm: &'a mut [R],
    /// `[parameters, lanes]`: the gradients of the cell's own parameters over the steps of a chunk, lane by lane.
    own: &'a mut [R],
    dropped: &'a mut [R],
}

impl<'a, R: Real> Cache<'a, R> {
    pub(super) fn new(layout: &'a StackLayout, mode: Mode, lanes: usize, cache: &'a mut [R]) -> Self {
        let [data, dh, dc_before, dm, own, dropped] =
            cut(cache, layout.sections(mode).map(|rows| rows * lanes));
        Self { tapes: Tapes { data, layout, mode, lanes }, dh, dc_before, dm, own, dropped }
    }
}

/// The gradients that a step back reads and writes, `[H, lanes]` where nothing else is said.
struct StepGradients<'a, R> {
    /// Of h after the step, `[P, lanes]` where it is projected.
    dh: &'a [R],
    /// Of h before the step, `[P, lanes]` where it is projected.
    dh_prev: &'a mut [R],
    /// Of c: after the step in, before it out.
    dc: &'a mut [R],
    /// Scratch for that of m.
    dm: &'a mut [R],
    /// `[parameters, lanes]`: of the cell's own parameters.
    own: &'a mut [R],
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

/// Where the gradients with respect to a layer's input go.
struct InputGradients<'g, 'd, R> {
    /// Those of all parts' outputs, for a layer that reads the one below.
    dh: &'g mut [R],
    /// That of the stack's input, for the first layer.
    dx: &'g mut Option<SeqMut<'d, R>>,
}

impl<R: Real, C: Cell> Pass<'_, R, C> {
    /// The steps of one part: h and c from their initial states in `state` to their final ones.
    pub(super) fn forward_part(&self, part: Part, x: Seq<'_, R>, state: &mut [R], cache: &mut Cache<'_, R>) {
        let Self { layout, cx, lanes, .. } = *self;
        let (mut tape, below) = cache.tapes.split(part);
        let input = self.input(part.layer, x, below, cache.dropped);
        let packs = ForwardPacks::new(layout, part, cx.params, &cx.packed[layout.packs_range(part)]);
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
            let (gates, kept, m) = (tape.gates.at(slot), tape.kept.at(slot), tape.m.at(slot));
            let (c_after, h_after) = (&mut *c, &mut *h);
            let step =
                CellStep { gates, h_prev, c_prev, c: c_after, kept, h: h_after, params: packs.own, lanes };
            self.stack.one_step(&packs, input.step(i), step, m);
            if cx.lens.is_some() {
                let t = self.steps.start + i;
                copy(h, h_prev, finished(cx, t), lanes);
                copy(c, c_prev, finished(cx, t), lanes);
            }
        }
        h_state.copy_from_slice(tape.h.at(last));
        c_state.copy_from_slice(tape.c.at(last));
    }

    /// A block of pre-activations.
    fn block(&self, block: usize) -> Range<usize> {
        let len = self.layout.units * self.lanes;
        block * len..(block + 1) * len
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
        let (packs, len) = (Packs::new(layout, part, cx), layout.width * lanes);
        let (mut tape, _) = cache.tapes.split(part);
        let [dh_end, dc] = self.states(part, dstate);
        let row = layout.gradients(part);
        let row = row.start * lanes..row.end * lanes;
        let mut order = part.direction.reversed().order(self.steps.len()).peekable();
        // The gradient of the final state joins that of the last output; its slot then serves the initial state's.
        let last = order.peek().map_or(0, |&i| i);
        R::accumulate(&mut cache.dh[row.clone()][last * len..][..len], dh_end);
        dh_end.fill(R::ZERO);
        cache.own.fill(R::ZERO);
        while let Some(i) = order.next() {
            let t = self.steps.start + i;
            // The step before in time lies next to this one; at the chunk's first, it is the initial state.
            let mut dh = Track::dense(&mut cache.dh[row.clone()], len);
            let (now, dh_prev) = match order.peek() {
                Some(&before) => dh.two(i, before),
                None => (dh.at(i), &mut *dh_end),
            };
            if cx.lens.is_some() {
                // Beyond the end of a sequence the state was left as it was, so its gradient passes through: dh is
                // added to the step before, and dc is put back after the cell, which finds 0 in both.
                add(dh_prev, now, finished(cx, t), lanes);
                clear(now, finished(cx, t), lanes);
                cache.dc_before.copy_from_slice(dc);
                clear(dc, finished(cx, t), lanes);
            }
            let grads =
                StepGradients { dh: now, dh_prev: &mut *dh_prev, dc: &mut *dc, dm: cache.dm, own: cache.own };
            self.cell_backward(&packs, t, &mut tape, grads);
            let gates = tape.gates.at(t);
            if cx.lens.is_some() {
                clear(gates, finished(cx, t), lanes);
                copy(dc, cache.dc_before, finished(cx, t), lanes);
            }
            // dh of the step before += Uᵀ da
            R::product(packs.back_h, [gates, &[], &[]], Start::Add, dh_prev, lanes);
            self.input_gradients(&packs, i, gates, InputGradients { dh: cache.dh, dx });
        }
    }

    /// The cell's part of a step back, with the second product if there is one.
    fn cell_backward(
        &self,
        packs: &Packs<'_, R>,
        t: usize,
        tape: &mut Tape<'_, R>,
        grads: StepGradients<'_, R>,
    ) {
        let (cell, lanes) = (&self.stack.cell, self.lanes);
        let StepGradients { mut dh, dh_prev, dc, dm, own } = grads;
        let (before, after) = packs.part.direction.before_after(t);
        let (h_prev, mut h) = tape.h.two(before, after);
        let (c_prev, c) = tape.c.two(before, after);
        let (gates, kept) = (tape.gates.at(t), tape.kept.at(t));
        if self.layout.second == Second::Projection {
            R::product(packs.back_second, [dh, &[], &[]], Start::Bias, dm, lanes);
            (dh, h) = (&*dm, tape.m.at(t));
        }
        cell.backward(CellStepBack {
            gates: &mut *gates,
            h_prev,
            c_prev,
            c,
            kept,
            h,
            dh,
            dh_prev: &mut *dh_prev,
            dc,
            params: packs.own,
            grads: own,
            lanes,
        });
        if let Second::Gated(block) = self.layout.second {
            R::product(packs.back_second, [&gates[self.block(block)], &[], &[]], Start::Bias, dm, lanes);
            cell.gate_back(GateStepBack { gates, h_prev, dm, dh_prev });
        }
    }

    /// dx of step `i` of the chunk = Wᵀ da, summed over both directions of the layer: the first overwrites.
    fn input_gradients(
        &self,
        packs: &Packs<'_, R>,
        i: usize,
        da: &[R],
        InputGradients { dh, dx }: InputGradients<'_, '_, R>,
    ) {
        let Self { layout, lanes, .. } = *self;
        let Part { layer, direction } = packs.part;
        let start = if direction == Direction::Forward { Start::Bias } else { Start::Add };
        if layer > 0 {
            for (&direction, pack) in layout.directions().iter().zip(packs.back_x()) {
                let rows = layout.gradient(Part { layer: layer - 1, direction }, i);
                R::product(pack, [da, &[], &[]], start, &mut dh[rows.start * lanes..rows.end * lanes], lanes);
            }
        } else if let Some(dx) = dx {
            for pack in packs.back_x() {
                R::product(pack, [da, &[], &[]], start, dx.step(self.steps.start + i), lanes);
            }
        }
    }

    /// dW += Σ da xᵀ; dU += Σ da hᵀ; db += Σ da; and those of the second product and of the cell's own parameters: over
    /// all steps of the chunk and all lanes at once.
    pub(super) fn weight_gradients(
        &self,
        part: Part,
        x: Seq<'_, R>,
        cache: &mut Cache<'_, R>,
        grads: &mut [R],
    ) {
        let Self { layout, lanes, .. } = *self;
        let mut grads = Weights::of_gradients(layout, part, grads);
        let (tape, below) = cache.tapes.split(part);
        let input = self.input(part.layer, x, below, cache.dropped);
        self.block_gradients(part, &tape, input, &mut grads);
        if layout.second == Second::Projection {
            let dh = layout.gradients(part).start * lanes;
            let dh = &cache.dh[dh..][..self.steps.len() * layout.width * lanes];
            let m = self.band(tape.m.data(), odd(layout.units)).rows(0..layout.units);
            let columns = Columns::new([m, Band::NONE], grads.hr);
            R::outer(Band::new(dh, layout.width), &mut [columns], lanes);
        }
        if !grads.own.is_empty() {
            R::row_sums(Band::new(cache.own, grads.own.len()), [grads.own, &mut []], lanes);
        }
    }

    /// The steps of the chunk out of a track that is kept.
    fn band<'s>(&self, data: &'s [R], stride: usize) -> Band<'s, R> {
        Band::new(data, stride).steps(self.steps.clone(), self.lanes)
    }

    /// dW += Σ da xᵀ; dU += Σ da hᵀ, and for a gated block Σ da mᵀ; db += Σ da.
    fn block_gradients(
        &self,
        part: Part,
        tape: &Tape<'_, R>,
        input: Input<'_, R>,
        grads: &mut Weights<&mut [R]>,
    ) {
        let Self { layout: &StackLayout { units, width, bias, .. }, lanes, .. } = *self;
        let x = input.sources.map(|source| match source.is_empty() {
            true => Band::NONE,
            false => Band::new(source, input.stride / lanes).rows(0..input.len / lanes),
        });
        let da = self.band(tape.gates.data(), odd(self.layout.rows()));
        let features = self.layout.features(part.layer);
        // The states before each step: in reverse, these lie one slot later.
        let (first, _) = part.direction.before_after(0);
        let h = self.band(&tape.h.data()[first * odd(width) * lanes..], odd(width)).rows(0..width);
        for (first, len) in runs(self.stack.cell.blocks()) {
            let Block { ih, hh, gated } = self.stack.cell.blocks()[first];
            let rows = |from: usize| from * units..(from + len) * units;
            let da = da.clone().rows(rows(first));
            let of = |from: usize, width: usize| rows(from).start * width..rows(from).end * width;
            let ih_columns =
                ih.map_or(Columns::none(), |ih| Columns::new(x.clone(), &mut grads.ih[of(ih, features)]));
            let hh_columns = hh.map_or(Columns::none(), |hh| {
                let m = || self.band(tape.m.data(), odd(units)).rows(0..units);
                let h = if gated { m() } else { h.clone() };
                Columns::new([h, Band::NONE], &mut grads.hh[of(hh, width)])
            });
            R::outer(da.clone(), &mut [ih_columns, hh_columns], lanes);
            if bias {
                let db_ih = ih.map_or(&mut [][..], |ih| &mut grads.b_ih[rows(ih)]);
                let db_hh = hh.map_or(&mut [][..], |hh| &mut grads.b_hh[rows(hh)]);
                R::row_sums(da, [db_ih, db_hh], lanes);
            }
        }
    }
}

/// Runs of blocks that follow one another in the pre-activations and in both weights, (first, how many): one product for
/// each.
fn runs(blocks: &[Block]) -> impl Iterator<Item = (usize, usize)> {
    let next = |a: &Block, b: &Block| {
        let follows = |a: Option<usize>, b: Option<usize>| b == a.map(|a| a + 1);
        !a.gated && !b.gated && follows(a.ih, b.ih) && follows(a.hh, b.hh)
    };
    let mut first = 0;
    blocks.chunk_by(next).map(move |run| {
        first += run.len();
        (first - run.len(), run.len())
    })
}
