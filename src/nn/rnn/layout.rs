//! Where everything lies in the flat slices of a stack: parameters, packed weights, tape, gradients.
//!
//! Arithmetic alone. What is cut out of slices by these numbers is in `tape.rs` and `packing.rs`.

use std::ops::Range;

use super::cell::{Block, Cell};
use super::recurrent::Recurrent;
use crate::Shape;
use crate::kernels::packed_len;
use crate::nn::Mode;

/// The most steps of a chunk. States go from chunk to chunk in both passes, so a chunk stays in the cache while each
/// layer works on it, and nothing grows with the sequence but what training keeps of it: the tape, and dropout's masks.
// The weight gradient of 32 steps still finds in the cache what their products wrote: a training step of 1,000 time steps
// took 58 ms in one go and 23 ms in chunks of 32 (`h35_l2_t1000_b64`).
const CHUNK: usize = 32;

/// Values of a cache line at most: 64 bytes of f32. Packs begin at a multiple of it.
const LINE: usize = 16;

/// How many rows lie from step to step on a track that `outer` reads: an odd number. Weight gradients read a few rows
/// of every step; were steps a power of two apart, these would fall on the same few places of a cache and evict each
/// other.
pub(super) const fn odd(rows: usize) -> usize {
    rows | 1
}

/// A direction of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last step to the first.
    Reverse,
}

impl Direction {
    /// Both, in the order of parameters, states and outputs.
    pub(super) const ALL: [Self; 2] = [Self::Forward, Self::Reverse];

    /// 0 or 1.
    pub(super) fn index(self) -> usize {
        usize::from(self == Self::Reverse)
    }

    /// What the names of its parameters end in, as in PyTorch.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Forward => "",
            Self::Reverse => "_reverse",
        }
    }

    /// The other direction: the one that a backward pass takes.
    pub(super) fn reversed(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }

    /// The steps `0..len` in this direction.
    pub(super) fn order(self, len: usize) -> impl Iterator<Item = usize> {
        (0..len).map(move |i| match self {
            Self::Forward => i,
            Self::Reverse => len - 1 - i,
        })
    }

    /// The slots of the states before and after a step. A track of T steps has T + 1 states, in the order of time:
    /// running forward, the state after a step lies behind the one before it; in reverse, in front of it.
    pub(super) fn before_after(self, step: usize) -> (usize, usize) {
        match self {
            Self::Forward => (step, step + 1),
            Self::Reverse => (step + 1, step),
        }
    }

    /// The slots of the states before and after all of `steps`.
    pub(super) fn ends(self, steps: &Range<usize>) -> (usize, usize) {
        match self {
            Self::Forward => (steps.start, steps.end),
            Self::Reverse => (steps.end, steps.start),
        }
    }
}

/// One direction of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) layer: usize,
    pub(super) direction: Direction,
}

/// The product that a step may need after a = b + W x + U h. It reads m, H values that the cell writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    None,
    /// h = W_hr m
    Projection,
    /// a += U m, for this block and its rows of U alone
    Gated(usize),
}

/// A product of a step: rows of the pre-activations, and what is added to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// The first row, and how many.
    start: usize,
    rows: usize,
    /// Whether W x is added.
    pub(super) x: bool,
    /// Whether U h is added.
    pub(super) h: bool,
    /// Whether they are added to what an earlier product has left there, rather than to the bias.
    pub(super) more: bool,
}

impl Sum {
    pub(super) fn rows(self) -> Range<usize> {
        self.start..self.start + self.rows
    }

    /// Values of the pack, for so many features of x and h.
    pub(super) fn packed_len(self, features: usize, width: usize) -> usize {
        packed_len(self.rows, if self.x { features } else { 0 } + if self.h { width } else { 0 })
    }
}

/// The sizes of one track of a tape, in rows, each of which is a value per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackSize {
    /// Steps that are kept. Where there are more than that, the track is a ring.
    pub(super) steps: usize,
    /// Rows from step to step.
    pub(super) stride: usize,
    /// Rows of a step.
    pub(super) rows: usize,
}

impl TrackSize {
    pub(super) fn all_rows(self) -> usize {
        self.steps * self.stride
    }
}

/// The sizes of a layer's parts: the first layer reads the input, all others read outputs.
#[derive(Clone, Copy, Debug, Default)]
struct LayerSizes {
    /// Values of a part's tensors, in their order; see [`Weights`](super::packing::Weights).
    weights: [usize; 6],
    /// Values of all of them.
    params: usize,
    /// Values of a part's packs, in their order; see [`ForwardPacks`](super::packing::ForwardPacks) and
    /// [`Packs`](super::packing::Packs).
    packs: [usize; 6],
    /// Values of all of them.
    packed: usize,
}

/// The sizes of a stack on an input: computed once, and asked for in every pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackLayout {
    pub(super) t: usize,
    input: usize,
    /// H, the rows of a gate and of a cell state.
    pub(super) units: usize,
    /// The rows of a hidden state, which is what a part outputs: P where h is projected, else H.
    pub(super) width: usize,
    pub(super) layers: usize,
    directions: usize,
    /// Blocks of H rows in the weights.
    gates: usize,
    /// Blocks of H pre-activations; more than gates where a gate keeps x and h apart.
    blocks: usize,
    /// Whether the blocks are the gates in their order, so that weights are packed as they are.
    plain: bool,
    /// The products that make the pre-activations, and how many there are.
    sums: ([Sum; 3], usize),
    /// Those of the first layer, and those of all others.
    sizes: [LayerSizes; 2],
    /// Rows of the cell state; 0 where there is none.
    pub(super) cell: usize,
    /// How many other rows the cell keeps of a step.
    pub(super) kept: usize,
    /// Values of the cell's own parameters.
    pub(super) own: usize,
    /// Whether there are biases.
    pub(super) bias: bool,
    pub(super) second: Second,
    /// Whether training drops outputs between layers.
    drops: bool,
}

impl StackLayout {
    pub(super) fn new<C: Cell>(stack: &Recurrent<C>, input: Shape) -> Self {
        let units = stack.hidden_size;
        let blocks = stack.cell.blocks();
        let layout = Self {
            t: input.t,
            input: input.f,
            units,
            width: stack.proj_size.unwrap_or(units),
            layers: stack.layers,
            directions: 1 + usize::from(stack.bidirectional),
            gates: C::GATES,
            blocks: blocks.len(),
            plain: blocks.iter().enumerate().all(|(i, &block)| block == Block::both(i)),
            sums: sums(blocks, units),
            sizes: Default::default(),
            cell: if C::HAS_CELL { units } else { 0 },
            kept: stack.cell.kept(units),
            own: units * C::TENSORS.iter().map(|tensor| tensor.blocks).sum::<usize>(),
            bias: stack.bias,
            second: match blocks.iter().position(|block| block.gated) {
                Some(block) => Second::Gated(block),
                None if stack.proj_size.is_some() => Second::Projection,
                None => Second::None,
            },
            drops: stack.dropout > 0.0,
        };
        Self { sizes: [0, 1].map(|layer| layout.layer_sizes(layer)), ..layout }
    }

    fn layer_sizes(&self, layer: usize) -> LayerSizes {
        let (weights, packs) = (self.tensor_sizes(layer), self.pack_sizes(layer));
        LayerSizes { weights, params: weights.iter().sum(), packs, packed: packs.iter().sum() }
    }

    /// The sizes of a layer.
    fn sizes(&self, layer: usize) -> &LayerSizes {
        &self.sizes[usize::from(layer > 0)]
    }

    // --- parts ---

    /// The directions of a layer.
    pub(super) fn directions(&self) -> &'static [Direction] {
        &Direction::ALL[..self.directions]
    }

    /// All parts, in the order of parameters and states: layer by layer, both directions of each.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let directions = self.directions();
        (0..self.layers)
            .flat_map(move |layer| directions.iter().map(move |&direction| Part { layer, direction }))
    }

    pub(super) fn part_count(&self) -> usize {
        self.layers * self.directions
    }

    /// Where a part comes in [`parts`](Self::parts).
    pub(super) fn index(&self, part: Part) -> usize {
        part.layer * self.directions + part.direction.index()
    }

    /// Features that a layer outputs.
    pub(super) fn outputs(&self) -> usize {
        self.directions * self.width
    }

    /// Features that `layer` reads.
    pub(super) fn features(&self, layer: usize) -> usize {
        if layer == 0 { self.input } else { self.outputs() }
    }

    /// How many sequences make up a layer's input, and the features of each: those of all directions of the layer
    /// below, which lie on tapes of their own.
    pub(super) fn sources(&self, layer: usize) -> (usize, usize) {
        if layer == 0 { (1, self.input) } else { (self.directions, self.width) }
    }

    /// States, per lane: h of every part, then c of every part.
    pub(super) fn state(&self) -> usize {
        self.part_count() * (self.width + self.cell)
    }

    // --- parameters and packs ---

    /// The products that make the pre-activations, in their order.
    #[inline]
    pub(super) fn sums(&self) -> &[Sum] {
        &self.sums.0[..self.sums.1]
    }

    /// Rows of the weights.
    pub(super) fn weight_rows(&self) -> usize {
        self.gates * self.units
    }

    /// Rows of the pre-activations.
    pub(super) fn rows(&self) -> usize {
        self.blocks * self.units
    }

    fn tensor_sizes(&self, layer: usize) -> [usize; 6] {
        let rows = self.weight_rows();
        let bias = if self.bias { rows } else { 0 };
        let projection = if self.second == Second::Projection { self.width * self.units } else { 0 };
        [rows * self.features(layer), rows * self.width, bias, bias, projection, self.own]
    }

    /// Values of a part's tensors, in their order; see [`Weights`](super::packing::Weights).
    pub(super) fn weights(&self, layer: usize) -> [usize; 6] {
        self.sizes(layer).weights
    }

    /// The parameters of a part within the stack's.
    pub(super) fn params(&self, part: Part) -> Range<usize> {
        self.range(part, |sizes| sizes.params)
    }

    fn pack_sizes(&self, layer: usize) -> [usize; 6] {
        let (rows, features) = (self.rows(), self.features(layer));
        let (sources, width) = self.sources(layer);
        let [second, back_second] = match self.second {
            Second::None => [0, 0],
            // A cell with a gated block projects nothing, so its width is H.
            Second::Projection | Second::Gated(_) => {
                [packed_len(self.width, self.units), packed_len(self.units, self.width)]
            }
        };
        let spread = if self.plain { 0 } else { rows * (features + self.width + 2) };
        [
            self.sums().iter().map(|sum| sum.packed_len(features, self.width)).sum(),
            second,
            packed_len(self.width, rows),
            sources * packed_len(width, rows),
            back_second,
            // Whole cache lines, so that the packs that follow begin at one.
            spread.next_multiple_of(LINE),
        ]
    }

    /// Values of a part's packs, in their order; see [`ForwardPacks`](super::packing::ForwardPacks) and
    /// [`Packs`](super::packing::Packs).
    pub(super) fn packs(&self, layer: usize) -> [usize; 6] {
        self.sizes(layer).packs
    }

    /// Values of all packs of a part.
    pub(super) fn packed_len(&self, layer: usize) -> usize {
        self.sizes(layer).packed
    }

    /// The packs of a part within the stack's.
    pub(super) fn packs_range(&self, part: Part) -> Range<usize> {
        self.range(part, |sizes| sizes.packed)
    }

    /// Values of all packs.
    pub(super) fn packed(&self) -> usize {
        let [first, others] = &self.sizes;
        self.directions * (first.packed + (self.layers - 1) * others.packed)
    }

    /// The range of a part where all lie one after another, each as long as those of its layer.
    fn range(&self, part: Part, len: impl Fn(&LayerSizes) -> usize) -> Range<usize> {
        let below = match part.layer {
            0 => 0,
            layer => self.directions * (len(&self.sizes[0]) + (layer - 1) * len(&self.sizes[1])),
        };
        let own = len(self.sizes(part.layer));
        let start = below + part.direction.index() * own;
        start..start + own
    }

    // --- time ---

    /// The most steps that a pass takes at a time: all of them where a direction runs in reverse, which begins at the
    /// end of the sequence while the other begins at its start.
    fn chunk(&self) -> usize {
        if self.directions > 1 || self.t <= CHUNK { self.t } else { self.t.div_ceil(self.t.div_ceil(CHUNK)) }
    }

    /// The chunks of a sequence, in the order of time.
    pub(super) fn chunks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let (t, chunk) = (self.t, self.chunk());
        (0..t.div_ceil(chunk)).map(move |i| i * chunk..t.min((i + 1) * chunk))
    }

    /// The slots of a tape that the steps of a chunk have: a tape that is not kept begins again with each chunk.
    pub(super) fn slots(&self, mode: Mode, steps: &Range<usize>) -> Range<usize> {
        if mode.keeps_history() { steps.clone() } else { 0..steps.len() }
    }

    /// Rows of m, what the second product reads.
    pub(super) fn second_rows(&self) -> usize {
        if self.second == Second::None { 0 } else { self.units }
    }

    // --- the tape ---

    /// The tracks of a part's tape: gates, h, c, what else the cell keeps, and m, what the second product reads.
    ///
    /// States have one slot more than there are steps, for the initial one. Inference keeps the outputs of a chunk for
    /// the layer above; of the rest it needs the current step alone, so gates and c are rings of 1 and 2 slots.
    pub(super) fn tracks(&self, mode: Mode) -> [TrackSize; 5] {
        let [gates, h, c] =
            if mode.keeps_history() { [self.t, self.t + 1, self.t + 1] } else { [1, self.chunk() + 1, 2] };
        let m = self.second_rows();
        let m_stride = if m == 0 { 0 } else { odd(m) };
        let track = |steps, rows, stride| TrackSize { steps, stride, rows };
        [
            track(gates, self.rows(), odd(self.rows())),
            track(h, self.width, odd(self.width)),
            track(c, self.cell, self.cell),
            track(gates, self.kept, self.kept),
            track(gates, m, m_stride),
        ]
    }

    /// The tape of a part, in rows.
    pub(super) fn tape(&self, mode: Mode) -> usize {
        self.tracks(mode).into_iter().map(TrackSize::all_rows).sum()
    }

    /// What a direction outputs at the slots `slots`, within the tapes of its layer, in rows: the states after each
    /// step. Running forward, these begin one slot later.
    pub(super) fn output_rows(&self, mode: Mode, direction: Direction, slots: &Range<usize>) -> Range<usize> {
        let [gates, h, ..] = self.tracks(mode);
        let start = direction.index() * self.tape(mode) + gates.all_rows();
        let (_, first) = direction.before_after(slots.start);
        let first = start + first * h.stride;
        first..first + slots.len() * h.stride
    }

    // --- the cache ---

    /// The sections of the cache, in rows: the tapes of all parts; for a backward pass, the gradients of outputs, that
    /// of a cell state, that of m, and those of the cell's own parameters; and what dropout keeps of each layer but the
    /// top one.
    pub(super) fn sections(&self, mode: Mode) -> [usize; 6] {
        let tapes = self.part_count() * self.tape(mode);
        if !mode.keeps_history() {
            return [tapes, 0, 0, 0, 0, 0];
        }
        let dh = self.gradient_sets() * self.directions * self.chunk() * self.width;
        let dm = self.second_rows();
        let dropped = if self.drops { 2 * self.t * self.outputs() * (self.layers - 1) } else { 0 };
        [tapes, dh, self.cell, dm, self.own, dropped]
    }

    /// The whole cache, in rows.
    pub(super) fn cache(&self, mode: Mode) -> usize {
        self.sections(mode).iter().sum()
    }

    /// How many layers' gradients of outputs are held at a time. Where time has one direction, the gradient for the
    /// layer below can replace that of this layer step by step; with two, the second direction still reads what the
    /// first would have overwritten, and the weights of a projection read all of them after the last step: then layers
    /// take two sets in turn.
    fn gradient_sets(&self) -> usize {
        if self.directions == 1 && self.second != Second::Projection { 1 } else { 2 }
    }

    /// The gradients of a part's outputs within that section, in rows: all steps of a chunk.
    pub(super) fn gradients(&self, part: Part) -> Range<usize> {
        let rows = self.chunk() * self.width;
        let set = part.layer % self.gradient_sets();
        let start = (set * self.directions + part.direction.index()) * rows;
        start..start + rows
    }

    /// The gradient at step `i` of a chunk.
    pub(super) fn gradient(&self, part: Part, i: usize) -> Range<usize> {
        let start = self.gradients(part).start + i * self.width;
        start..start + self.width
    }
}

/// The products that make the pre-activations of these blocks, and how many there are: none of them multiplies with
/// zeros where the blocks that sum x follow one another, and so do those that sum h.
fn sums(blocks: &[Block], units: usize) -> ([Sum; 3], usize) {
    let sum = |blocks: Range<usize>, x, h, more| {
        let [start, rows] = [blocks.start, blocks.len()].map(|blocks| blocks * units);
        Sum { start, rows, x, h, more }
    };
    let none = Sum::default();
    let x = span(blocks, |block| block.ih.is_some());
    // What is gated is added later.
    let h = span(blocks, |block| block.hh.is_some() && !block.gated);
    match (x, h) {
        (Some(x), Some(h))
            if x != h && x.start == 0 && h.start <= x.end && x.end.max(h.end) == blocks.len() =>
        {
            if h.start == x.end {
                return ([sum(x, true, false, false), sum(h, false, true, false), none], 2);
            }
            // Of the blocks that sum h, some are begun with x; the others have only a bias before.
            let others = x.end..h.end.max(x.end);
            if others.is_empty() {
                return ([sum(x, true, false, false), sum(h, false, true, true), none], 2);
            }
            let first = [sum(x, true, false, false), sum(others, false, false, false)];
            ([first[0], first[1], sum(h, false, true, true)], 3)
        }
        // All blocks sum both; or seem to, with zeros in the weights.
        _ => ([sum(0..blocks.len(), true, true, false), none, none], 1),
    }
}

/// The blocks for which `which` holds, if they follow one another.
fn span(blocks: &[Block], which: impl Fn(&Block) -> bool) -> Option<Range<usize>> {
    let start = blocks.iter().position(&which)?;
    let len = blocks[start..].iter().take_while(|block| which(block)).count();
    let no_more = !blocks[start + len..].iter().any(which);
    no_more.then_some(start..start + len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Gru, LayerNormLstm, Lstm, PeepholeLstm, Rnn};
    use super::*;

    /// Sizes of a stack: T, I, H, layers; and whether it has two directions, and dropout.
    type Sizes = (usize, usize, usize, usize, bool, bool);

    fn sizes() -> impl Strategy<Value = Sizes> {
        (1usize..100, 1usize..40, 1usize..40, 1usize..5, any::<bool>(), any::<bool>())
    }

    fn layout<C: Cell>(
        stack: impl Fn(usize) -> Recurrent<C>,
        (t, f, hidden, layers, both, drops): Sizes,
    ) -> StackLayout {
        let mut stack = stack(hidden).layers(layers);
        stack.bidirectional = both;
        StackLayout::new(&stack.dropout(if drops { 0.5 } else { 0.0 }), Shape::new(t, f))
    }

    /// A layout of each cell, and of both kinds of second product: with and without a cell state, blocks that are
    /// spread, biases, and parameters of the cell's own.
    fn layouts(sizes: Sizes) -> [StackLayout; 7] {
        [
            layout(Lstm::new, sizes),
            layout(Gru::new, sizes),
            layout(|hidden| Gru::new(hidden).reset_after(false), sizes),
            layout(Rnn::new, sizes),
            layout(PeepholeLstm::new, sizes),
            layout(LayerNormLstm::new, sizes),
            layout(|hidden| PeepholeLstm::new(hidden + 1).proj_size(hidden), sizes),
        ]
    }

    /// One behind another, from 0 to `end`: so they are disjoint, and nothing is left between them.
    fn follow_one_another(mut ranges: Vec<Range<usize>>, end: usize) {
        ranges.sort_by_key(|range| range.start);
        let last = ranges.iter().fold(0, |end, range| {
            assert_eq!(range.start, end, "{ranges:?}");
            range.end
        });
        assert_eq!(last, end, "{ranges:?}");
    }

    proptest! {
        #[test]
        fn parameters_and_packs_cover_theirs(sizes in sizes()) {
            for layout in layouts(sizes) {
                let of = |layer| layout.directions * layout.weights(layer).iter().sum::<usize>();
                let all = (0..layout.layers).map(of).sum();
                follow_one_another(layout.parts().map(|part| layout.params(part)).collect(), all);
                let packs: Vec<_> = layout.parts().map(|part| layout.packs_range(part)).collect();
                follow_one_another(packs.clone(), layout.packed());
                for (part, range) in layout.parts().zip(packs) {
                    prop_assert_eq!(layout.packs(part.layer).iter().sum::<usize>(), range.len());
                    // Each pack begins at a cache line.
                    prop_assert_eq!(range.start % LINE, 0);
                    prop_assert!(layout.packs(part.layer).iter().all(|len| len % LINE == 0));
                }
            }
        }

        #[test]
        fn parts_are_numbered_in_order(sizes in sizes()) {
            let layout = layouts(sizes)[0];
            let indices: Vec<_> = layout.parts().map(|part| layout.index(part)).collect();
            prop_assert_eq!(indices, (0..layout.part_count()).collect::<Vec<_>>());
        }

        #[test]
        fn chunks_cover_the_sequence(sizes in sizes()) {
            for layout in layouts(sizes) {
                follow_one_another(layout.chunks().collect(), layout.t);
                let longest = layout.chunks().map(|steps| steps.len()).max();
                prop_assert_eq!(longest, Some(layout.chunk()));
                prop_assert!(layout.directions > 1 || layout.chunk() <= CHUNK);
            }
        }

        /// Every step of every track has a slot of its own while it is needed, on an odd stride where `outer` reads it.
        #[test]
        fn tracks_hold_what_is_read_again(sizes in sizes()) {
            let modes = [Mode::Train, Mode::Infer].into_iter().cycle();
            for (layout, mode) in layouts(sizes).into_iter().zip(modes) {
                let [gates, h, c, kept, m] = layout.tracks(mode);
                prop_assert!(gates.stride % 2 == 1 && h.stride % 2 == 1);
                for track in [gates, h, c, kept, m] {
                    prop_assert!(track.rows <= track.stride && track.stride <= track.rows + 1);
                }
                for steps in layout.chunks() {
                    let slots = layout.slots(mode, &steps);
                    prop_assert_eq!(slots.len(), steps.len());
                    // The layer above reads all outputs of a chunk, so h is no ring.
                    prop_assert!(slots.end < h.steps);
                    for direction in Direction::ALL {
                        for slot in slots.clone() {
                            let (before, after) = direction.before_after(slot);
                            prop_assert!(before % c.steps != after % c.steps);
                        }
                    }
                }
                if mode == Mode::Train {
                    prop_assert!(gates.steps == layout.t && kept.steps == layout.t);
                    prop_assert_eq!(c.steps, layout.t + 1);
                }
            }
        }

        /// Outputs lie within the h track of their own direction, at the states after each step.
        #[test]
        fn outputs_are_states_after_steps(sizes in sizes()) {
            for layout in layouts(sizes) {
                let modes = [Mode::Train, Mode::Infer].into_iter();
                let each = modes.flat_map(|mode| layout.directions().iter().map(move |&d| (mode, d)));
                for (mode, direction) in each {
                    let [gates, h, ..] = layout.tracks(mode);
                    let track = direction.index() * layout.tape(mode) + gates.all_rows();
                    for steps in layout.chunks() {
                        let slots = layout.slots(mode, &steps);
                        let rows = layout.output_rows(mode, direction, &slots);
                        prop_assert!(rows.end <= track + h.all_rows());
                        for (i, slot) in slots.enumerate() {
                            let (_, after) = direction.before_after(slot);
                            prop_assert_eq!(rows.start + i * h.stride, track + after * h.stride);
                        }
                    }
                }
            }
        }

        /// What one step writes for the layer below is not what a later one still reads of this layer.
        #[test]
        fn gradients_of_a_layer_are_apart(sizes in sizes()) {
            for layout in layouts(sizes) {
                let [_, dh, ..] = layout.sections(Mode::Train);
                for layer in 0..layout.layers {
                    let directions = layout.directions().iter();
                    let parts = |layer| directions.clone().map(move |&direction| Part { layer, direction });
                    let mut ranges: Vec<_> = parts(layer).map(|part| layout.gradients(part)).collect();
                    if layer > 0 && layout.gradient_sets() > 1 {
                        ranges.extend(parts(layer - 1).map(|part| layout.gradients(part)));
                        follow_one_another(ranges, dh);
                    } else if layout.gradient_sets() == 1 {
                        follow_one_another(ranges, dh);
                    }
                    for part in parts(layer) {
                        let steps = (0..layout.chunk()).map(|i| layout.gradient(part, i));
                        let start = layout.gradients(part).start;
                        let steps = steps.map(|rows| rows.start - start..rows.end - start);
                        follow_one_another(steps.collect(), layout.gradients(part).len());
                    }
                }
            }
        }

        #[test]
        fn nothing_but_tapes_is_kept_in_inference(sizes in sizes()) {
            for layout in layouts(sizes) {
                let [tapes, rest @ ..] = layout.sections(Mode::Infer);
                prop_assert_eq!(tapes, layout.part_count() * layout.tape(Mode::Infer));
                prop_assert_eq!(rest.iter().sum::<usize>(), 0);
            }
        }
    }

    #[test]
    fn directions_mirror_one_another() {
        let order = |direction: Direction| direction.order(3).collect::<Vec<_>>();
        assert_eq!(order(Direction::Forward), [0, 1, 2]);
        assert_eq!(order(Direction::Reverse), [2, 1, 0]);
        for direction in Direction::ALL {
            assert_eq!(direction.reversed().reversed(), direction);
            // The state after the last step is where the states end, and the one before the first where they begin.
            let steps: Vec<_> = direction.order(3).map(|i| direction.before_after(4 + i)).collect();
            assert_eq!(direction.ends(&(4..7)), (steps[0].0, steps[2].1));
            assert!(
                steps.windows(2).all(|two| two[0].1 == two[1].0),
                "each begins where the one before ended"
            );
        }
    }
}
