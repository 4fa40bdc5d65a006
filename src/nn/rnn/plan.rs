//! Where everything stands in the flat slices of a stack: parameters, packed weights, history, gradients.

use std::ops::Range;

use super::Recurrent;
use super::cell::Cell;
use crate::kernels::{Matrix, packed_len};
use crate::nn::Mode;
use crate::{Real, Shape};

/// The most steps of a chunk. States go from chunk to chunk, forward and back; what is done to a chunk, layer by layer,
/// finds it in the cache, and nothing grows with the sequence but what training keeps of it: history, and dropout's masks.
const CHUNK: usize = 32;

/// How many rows lie from step to step in a history: an odd number. Weight gradients read a few rows at every step; were
/// steps a power of two apart, these would fall on the same few places of a cache and drive each other out.
const fn stride(rows: usize) -> usize {
    rows | 1
}

/// The sizes of a stack on an input. A direction of a layer is a `part`, numbered layer by layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) t: usize,
    input: usize,
    pub(super) h: usize,
    pub(super) layers: usize,
    pub(super) directions: usize,
    /// Blocks of H rows in the weights.
    gates: usize,
    /// Blocks of H pre-activations; more than gates where a gate keeps x and h apart.
    blocks: usize,
    /// 1 if there is a cell state, else 0.
    cells: usize,
    /// Whether training drops outputs on their way to the next layer.
    drops: bool,
}

impl Plan {
    pub(super) fn new<C: Cell>(stack: &Recurrent<C>, input: Shape) -> Self {
        Self {
            t: input.t,
            input: input.f,
            h: stack.hidden_size,
            layers: stack.layers,
            directions: 1 + usize::from(stack.bidirectional),
            gates: C::GATES,
            blocks: C::BLOCKS.len(),
            cells: usize::from(C::HAS_CELL),
            drops: stack.dropout > 0.0,
        }
    }

    pub(super) fn parts(&self) -> usize {
        self.layers * self.directions
    }

    /// Features that layer `k` reads.
    pub(super) fn features(&self, k: usize) -> usize {
        if k == 0 { self.input } else { self.directions * self.h }
    }

    /// Of how many sequences the input of layer `k` is made, and how many features each has.
    pub(super) fn inputs(&self, k: usize) -> (usize, usize) {
        if k == 0 { (1, self.input) } else { (self.directions, self.h) }
    }

    /// Rows of the weights.
    pub(super) fn weight_rows(&self) -> usize {
        self.gates * self.h
    }

    /// Rows of the pre-activations.
    pub(super) fn rows(&self) -> usize {
        self.blocks * self.h
    }

    fn params_of(&self, k: usize) -> usize {
        self.weight_rows() * (self.features(k) + self.h + 2)
    }

    /// The parameters of a part within the layer's.
    pub(super) fn params(&self, k: usize, d: usize) -> Range<usize> {
        let below: usize = (0..k).map(|k| self.directions * self.params_of(k)).sum();
        let start = below + d * self.params_of(k);
        start..start + self.params_of(k)
    }

    /// Weights and biases of a part: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    pub(super) fn split_params<'a, R>(&self, k: usize, params: &'a [R]) -> [&'a [R]; 4] {
        let (w_ih, rest) = params.split_at(self.weight_rows() * self.features(k));
        let (w_hh, biases) = rest.split_at(self.weight_rows() * self.h);
        let (b_ih, b_hh) = biases.split_at(self.weight_rows());
        [w_ih, w_hh, b_ih, b_hh]
    }

    /// As [`split_params`](Self::split_params), for gradients.
    pub(super) fn split_params_mut<'a, R>(&self, k: usize, params: &'a mut [R]) -> [&'a mut [R]; 4] {
        let (w_ih, rest) = params.split_at_mut(self.weight_rows() * self.features(k));
        let (w_hh, biases) = rest.split_at_mut(self.weight_rows() * self.h);
        let (b_ih, b_hh) = biases.split_at_mut(self.weight_rows());
        [w_ih, w_hh, b_ih, b_hh]
    }

    /// Sizes of a part's packs: forward, back to h, back to each sequence of x; and of the weights spread over blocks.
    fn packs(&self, k: usize) -> [usize; 4] {
        let (rows, f) = (self.rows(), self.features(k));
        let (inputs, width) = self.inputs(k);
        // Whole cache lines, so that the packs that follow begin at one.
        let spread =
            if self.blocks == self.gates { 0 } else { (rows * (f + self.h + 2)).next_multiple_of(16) };
        [packed_len(rows, f + self.h), packed_len(self.h, rows), inputs * packed_len(width, rows), spread]
    }

    fn packed_of(&self, k: usize) -> usize {
        self.packs(k).iter().sum()
    }

    /// Values of all packs.
    pub(super) fn packed(&self) -> usize {
        (0..self.layers).map(|k| self.directions * self.packed_of(k)).sum()
    }

    fn packed_range(&self, k: usize, d: usize) -> Range<usize> {
        let below: usize = (0..k).map(|k| self.directions * self.packed_of(k)).sum();
        let start = below + d * self.packed_of(k);
        start..start + self.packed_of(k)
    }

    /// The packs of a part: forward, back to h, back to x.
    pub(super) fn split_packed<'a, R>(&self, k: usize, d: usize, packed: &'a [R]) -> [&'a [R]; 3] {
        let [forward, back_h, back_x, _] = self.packs(k);
        let (forward, rest) = packed[self.packed_range(k, d)].split_at(forward);
        let (back_h, rest) = rest.split_at(back_h);
        [forward, back_h, &rest[..back_x]]
    }

    /// Packs one part.
    pub(super) fn pack<R: Real, C: Cell>(&self, k: usize, d: usize, params: &[R], packed: &mut [R]) {
        let params = self.split_params(k, &params[self.params(k, d)]);
        let (rows, f, h) = (self.rows(), self.features(k), self.h);
        let [forward, back_h, back_x, _] = self.packs(k);
        let (forward, rest) = packed[self.packed_range(k, d)].split_at_mut(forward);
        let (back_h, rest) = rest.split_at_mut(back_h);
        let (back_x, spread) = rest.split_at_mut(back_x);
        let [w_ih, w_hh, b_ih, b_hh] = if spread.is_empty() {
            params
        } else {
            let (to_ih, rest) = spread.split_at_mut(rows * f);
            let (to_hh, rest) = rest.split_at_mut(rows * h);
            let (to_b_ih, to_b_hh) = rest.split_at_mut(rows);
            for (i, block) in C::BLOCKS.iter().enumerate() {
                spread_block(params[0], h * f, block.ih, i, to_ih);
                spread_block(params[1], h * h, block.hh, i, to_hh);
                spread_block(params[2], h, block.ih, i, to_b_ih);
                spread_block(params[3], h, block.hh, i, to_b_hh);
            }
            [&*to_ih, &*to_hh, &*to_b_ih, &*to_b_hh]
        };
        let (ih, hh) = (Matrix::new(w_ih, rows, f), Matrix::new(w_hh, rows, h));
        R::pack(&[ih, hh], &[b_ih, b_hh], forward);
        R::pack(&[hh.transposed()], &[], back_h);
        let (inputs, width) = self.inputs(k);
        for (e, place) in back_x.chunks_exact_mut(packed_len(width, rows)).enumerate().take(inputs) {
            R::pack(&[ih.columns(e * width, width).transposed()], &[], place);
        }
    }

    /// Steps that a pass takes at a time: all of them where a direction runs backward in time.
    fn chunk(&self) -> usize {
        if self.directions > 1 { self.t } else { self.t.div_ceil(self.t.div_ceil(CHUNK)) }
    }

    /// The chunks of a sequence, in the order of time.
    pub(super) fn chunks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let (t, chunk) = (self.t, self.chunk());
        (0..t.div_ceil(chunk)).map(move |i| i * chunk..t.min((i + 1) * chunk))
    }

    /// Where in the history a chunk that begins at step `start` begins.
    pub(super) fn origin(&self, mode: Mode, start: usize) -> usize {
        if mode.keeps_history() { start } else { 0 }
    }

    /// Steps of gates, of h and of c in a part's history.
    fn steps(&self, mode: Mode) -> [usize; 3] {
        if mode.keeps_history() { [self.t, self.t + 1, self.t + 1] } else { [1, self.chunk() + 1, 2] }
    }

    /// Rows from step to step in a history of gates, and of h.
    pub(super) fn strides(&self) -> [usize; 2] {
        [stride(self.rows()), stride(self.h)]
    }

    /// A part's history, per lane.
    fn history(&self, mode: Mode) -> usize {
        let ([gates, h, c], [gate_rows, h_rows]) = (self.steps(mode), self.strides());
        gates * gate_rows + h * h_rows + (c + gates) * self.cell_size()
    }

    /// How many sets of gradients of a layer's outputs there are: one layer's and the one's below, unless the
    /// second can take the place of the first step by step.
    fn gradient_sets(&self) -> usize {
        if self.directions == 1 { 1 } else { 2 }
    }

    /// The sections of the cache, per lane: the history of every part; for a pass back, gradients of outputs and of
    /// a cell; and what dropout keeps of each layer but the top one, its masks and what they left of the outputs.
    fn sections(&self, mode: Mode) -> [usize; 3] {
        let back = self.directions * self.chunk() * self.h * self.gradient_sets() + self.h;
        let outputs = self.directions * self.t * self.h;
        let dropped = if self.drops { 2 * outputs * (self.layers - 1) } else { 0 };
        let kept = usize::from(mode.keeps_history());
        [self.parts() * self.history(mode), kept * back, kept * dropped]
    }

    /// The cache, per lane.
    pub(super) fn cache(&self, mode: Mode) -> usize {
        self.sections(mode).iter().sum()
    }

    /// Splits a cache into its sections: histories, gradients, what dropout keeps.
    pub(super) fn split_cache<'a, R>(
        &self,
        mode: Mode,
        lanes: usize,
        cache: &'a mut [R],
    ) -> [&'a mut [R]; 3] {
        let [histories, back, _] = self.sections(mode);
        let (histories, rest) = cache.split_at_mut(histories * lanes);
        let (back, dropped) = rest.split_at_mut(back * lanes);
        [histories, back, dropped]
    }

    /// The masks of layer `k` and what they left of its outputs, `[T, directions · H, lanes]` each, out of that
    /// section of the cache.
    pub(super) fn split_dropped<'a, R>(
        &self,
        k: usize,
        lanes: usize,
        dropped: &'a mut [R],
    ) -> [&'a mut [R]; 2] {
        let n = self.directions * self.t * self.h * lanes;
        dropped[2 * n * k..][..2 * n].split_at_mut(n).into()
    }

    /// One part's history.
    pub(super) fn part<'a, R>(
        &self,
        mode: Mode,
        lanes: usize,
        part: usize,
        histories: &'a mut [R],
    ) -> History<'a, R> {
        let ([gate_steps, h_steps, c_steps], [gate_rows, h_rows]) = (self.steps(mode), self.strides());
        let own = self.history(mode) * lanes;
        let (gates, rest) = histories[part * own..][..own].split_at_mut(gate_steps * gate_rows * lanes);
        let (h, rest) = rest.split_at_mut(h_steps * h_rows * lanes);
        let (c, kept) = rest.split_at_mut(c_steps * self.cell_size() * lanes);
        History { gates, gate_steps, h, h_steps, c, c_steps, kept }
    }

    /// Splits histories into those of the layer below `k` (none below the first) and those from layer `k` on.
    pub(super) fn split_at_layer<'a, R>(
        &self,
        mode: Mode,
        lanes: usize,
        k: usize,
        histories: &'a mut [R],
    ) -> (&'a [R], &'a mut [R]) {
        let layer = self.directions * self.history(mode) * lanes;
        let (below, own) = histories.split_at_mut(k * layer);
        (&below[k.saturating_sub(1) * layer..], own)
    }

    /// What direction `d` of a layer hands out at all steps that its histories, `layer`, hold, in the order of time.
    pub(super) fn outputs<'a, R>(&self, mode: Mode, lanes: usize, d: usize, layer: &'a [R]) -> &'a [R] {
        let ([gate_steps, h_steps, _], [gate_rows, h_rows]) = (self.steps(mode), self.strides());
        let h = d * self.history(mode) + gate_steps * gate_rows;
        // States after each step: one on where time runs forward.
        &layer[(h + (1 - d) * h_rows) * lanes..][..(h_steps - 1) * h_rows * lanes]
    }

    /// Step `t` of [`outputs`](Self::outputs), `[H, lanes]`.
    pub(super) fn output<'a, R>(&self, lanes: usize, t: usize, outputs: &'a [R]) -> &'a [R] {
        let [_, h_rows] = self.strides();
        &outputs[t * h_rows * lanes..][..self.h * lanes]
    }

    /// Where the gradients of the outputs of direction `d` of layer `k` stand, step by step of a chunk.
    pub(super) fn gradients(&self, k: usize, d: usize, lanes: usize) -> Range<usize> {
        let n = self.chunk() * self.h * lanes;
        let start = (k % self.gradient_sets() * self.directions + d) * n;
        start..start + n
    }

    /// The gradient at step `i` of a chunk.
    pub(super) fn gradient(&self, k: usize, d: usize, i: usize, lanes: usize) -> Range<usize> {
        let n = self.h * lanes;
        let start = self.gradients(k, d, lanes).start + i * n;
        start..start + n
    }

    /// Where the cell of a step stands before and after it, in a row of steps in the order of time.
    ///
    /// Forward, the state after step t follows the one before it; backward in time it is the other way round.
    pub(super) fn before_after(&self, d: usize, t: usize) -> (usize, usize) {
        if d == 0 { (t, t + 1) } else { (t + 1, t) }
    }

    /// The values of a state that a cell has besides h, per lane.
    pub(super) fn cell_size(&self) -> usize {
        self.h * self.cells
    }
}

/// Copies block `from` of `weights` to block `to` of `spread`; 0 where there is none.
fn spread_block<R: Real>(weights: &[R], size: usize, from: Option<usize>, to: usize, spread: &mut [R]) {
    let place = &mut spread[to * size..][..size];
    match from {
        Some(from) => place.copy_from_slice(&weights[from * size..][..size]),
        None => place.fill(R::ZERO),
    }
}

/// What a part keeps of a pass, in the order of time; see [`strides`](Plan::strides).
pub(super) struct History<'a, R> {
    /// `[gate_steps, blocks · H, lanes]`, and a row to spare a step where rows would be even
    pub(super) gates: &'a mut [R],
    pub(super) gate_steps: usize,
    /// `[h_steps, H, lanes]`, spaced likewise: one more step than there are, for the initial state
    pub(super) h: &'a mut [R],
    pub(super) h_steps: usize,
    /// `[c_steps, H, lanes]`, or empty
    pub(super) c: &'a mut [R],
    pub(super) c_steps: usize,
    /// `[gate_steps, H, lanes]`, or empty
    pub(super) kept: &'a mut [R],
}

/// The `n` values of step `t` of a row of `steps`, around and around.
pub(super) fn step<R>(row: &mut [R], t: usize, steps: usize, n: usize) -> &mut [R] {
    let stride = row.len() / steps;
    &mut row[(t % steps) * stride..][..n]
}

/// The `n` values of steps `from` and `to` of a row of `steps`, around and around.
pub(super) fn pair<R>(row: &mut [R], from: usize, to: usize, steps: usize, n: usize) -> (&mut [R], &mut [R]) {
    let stride = row.len() / steps;
    let (from, to) = (from % steps, to % steps);
    let (head, tail) = row.split_at_mut(from.max(to) * stride);
    let (low, high) = (&mut head[from.min(to) * stride..][..n], &mut tail[..n]);
    if from < to { (low, high) } else { (high, low) }
}
