//! One time step of a part: its products and its cell; and a step of a whole stack, which a stream pushes.

use std::ops::Range;

use super::cell::{Cell, CellStep, GateStep};
use super::layout::{Direction, Part, Second, StackLayout};
use super::packing::ForwardPacks;
use super::recurrent::Recurrent;
use crate::Real;
use crate::Shape;
use crate::kernels::Start;
use crate::kernels::one_step::{self, Pointwise};
use crate::nn::Step;

/// What steps of a stack need and does not change from step to step.
pub(super) struct StepPlan<R> {
    pub(super) layout: StackLayout,
    /// For one stream alone, where the cell has a pointwise part for that.
    pub(super) alone: Option<StepAlone<R>>,
}

/// The steps of one stream alone through a stack, with the sizes that they need.
pub(super) struct StepAlone<R> {
    /// The plan of each layer, and the values of its packs.
    plans: Vec<(one_step::Plan<R>, usize)>,
    /// Pre-activations.
    rows: usize,
    /// Values of a hidden state and of a cell state.
    sizes: [usize; 2],
}

impl<R: Real> StepPlan<R> {
    /// The plan of a stack of these weights, whose input has so many features.
    pub(super) fn new<C: Cell>(stack: &Recurrent<C>, features: usize, packed: &[R]) -> Self {
        let layout = StackLayout::new(stack, Shape::new(1, features));
        let pointwise = stack.cell.one_step().filter(|_| layout.second == Second::None);
        Self { alone: pointwise.map(|pointwise| StepAlone::new(&layout, packed, pointwise)), layout }
    }
}

impl<R: Real> StepAlone<R> {
    fn new(layout: &StackLayout, packed: &[R], pointwise: Pointwise) -> Self {
        let plan = |layer| {
            let (features, mut end) = (layout.features(layer), 0);
            let products = layout.sums().iter().map(|sum| {
                let start = end;
                end += sum.packed_len(features, layout.width);
                let from = if sum.more { Start::Add } else { Start::Bias };
                one_step::Rows { rows: sum.rows(), packed: start..end, x: sum.x, h: sum.h, start: from }
            });
            let own = &packed[layout.packs_range(Part { layer, direction: Direction::Forward })];
            let plan =
                one_step::Plan::new(products, own, [features, layout.width], (pointwise, layout.units));
            (plan, layout.packed_len(layer))
        };
        let (rows, sizes) = (layout.rows(), [layout.width, layout.cell]);
        Self { plans: (0..layout.layers).map(plan).collect(), rows, sizes }
    }

    /// One step.
    #[inline]
    pub(super) fn step(&self, step: Step<'_, R>) {
        let (layers, [width, cell]) = (self.plans.len(), self.sizes);
        let Step { mut x, mut packed, y, state, cache, .. } = step;
        let (gates, hidden) = cache.split_at_mut(self.rows);
        let (mut hs, mut cs) = state.split_at_mut(layers * width);
        for (layer, (plan, size)) in self.plans.iter().enumerate() {
            let (h, other_hs) = hs.split_at_mut(width);
            let (c, other_cs) = cs.split_at_mut(cell);
            let (own, other_packs) = packed.split_at(*size);
            let y = if layer + 1 == layers { &mut *y } else { &mut hidden[..width] };
            R::one_step(plan, one_step::Step { packed: own, x, h: &mut *h, c, gates: &mut *gates, y });
            (x, hs, cs, packed) = (h, other_hs, other_cs, other_packs);
        }
    }
}

impl<C: Cell> Recurrent<C> {
    /// One step of a stack in one direction.
    ///
    /// States are read where they are, and written back there: nothing is laid out on a tape. So it costs little more
    /// than its arithmetic, and that is what [`one_step`](Self::one_step) does for a pass over a sequence.
    #[inline(never)]
    pub(super) fn stack_step<R: Real>(&self, layout: &StackLayout, step: Step<'_, R>) {
        let lanes = step.lanes;
        let (h_len, c_len) = (layout.width * lanes, layout.cell * lanes);
        // A layer reads the new state of the one below, so that all can write to the same place.
        let (gates, rest) = step.cache.split_at_mut(layout.rows() * lanes);
        let (hidden, rest) = rest.split_at_mut(h_len);
        let (c, rest) = rest.split_at_mut(c_len);
        let (m, rest) = rest.split_at_mut(layout.second_rows() * lanes);
        let kept = &mut rest[..layout.kept * lanes];
        let (mut hs, mut cs) = step.state.split_at_mut(layout.layers * h_len);
        let (mut x, mut packed) = (step.x, step.packed);
        for layer in 0..layout.layers {
            let (h_prev, other_hs) = hs.split_at_mut(h_len);
            let (c_prev, other_cs) = cs.split_at_mut(c_len);
            let (own, other_packs) = packed.split_at(layout.packed_len(layer));
            let part = Part { layer, direction: Direction::Forward };
            let packs = ForwardPacks::new(layout, part, step.params, own);
            let h = if layer + 1 == layout.layers { &mut *step.y } else { &mut *hidden };
            let cell_step = CellStep {
                gates: &mut *gates,
                h_prev: &*h_prev,
                c_prev: &*c_prev,
                c: &mut *c,
                kept: &mut *kept,
                h: &mut *h,
                params: packs.own,
                lanes,
            };
            self.one_step(&packs, [x, &[]], cell_step, &mut *m);
            h_prev.copy_from_slice(h);
            c_prev.copy_from_slice(c);
            (x, hs, cs, packed) = (h_prev, other_hs, other_cs, other_packs);
        }
    }

    /// One step of a part: a = b + W x + U h, then what the cell makes of it. `m` is what the second product reads, if
    /// there is one.
    #[inline(always)]
    pub(super) fn one_step<R: Real>(
        &self,
        packs: &ForwardPacks<'_, R>,
        x: [&[R]; 2],
        mut step: CellStep<'_, R>,
        m: &mut [R],
    ) {
        let (layout, lanes, mut packed) = (packs.layout, step.lanes, packs.sums);
        for sum in layout.sums() {
            let (pack, later) = packed.split_at(sum.packed_len(packs.features, layout.width));
            packed = later;
            let [x, x_reverse] = if sum.x { x } else { [&[][..]; 2] };
            let h = if sum.h { step.h_prev } else { &[] };
            let start = if sum.more { Start::Add } else { Start::Bias };
            let Range { start: first, end } = sum.rows();
            R::product(pack, [x, x_reverse, h], start, &mut step.gates[first * lanes..end * lanes], lanes);
        }
        match layout.second {
            Second::None => self.cell.forward(step),
            Second::Projection => {
                let h = std::mem::take(&mut step.h);
                self.cell.forward(CellStep { h: &mut *m, ..step });
                R::product(packs.second, [m, &[], &[]], Start::Bias, h, lanes);
            }
            Second::Gated(block) => {
                let (gates, h_prev) = (&mut *step.gates, step.h_prev);
                self.cell.gate(GateStep { gates, h_prev, m: &mut *m });
                let len = layout.units * lanes;
                let gated = &mut step.gates[block * len..(block + 1) * len];
                R::product(packs.second, [m, &[], &[]], Start::Add, gated, lanes);
                self.cell.forward(step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use crate::nn::{Gru, Lstm};
    use crate::prune::Blocks;

    /// How many products of each layer read only what is not 0.
    fn sparse<C: Cell>(stack: Recurrent<C>, share: f64) -> Vec<usize> {
        let mut model: Model = Model::builder(Shape::new(1, 48)).layer("a", stack.clone()).build(1).unwrap();
        model.prune(Blocks::share(share)).unwrap();
        let layout = StackLayout::new(&stack, Shape::new(1, 48));
        let mut packed = vec![0.0; layout.packed()];
        super::super::packing::pack(&layout, stack.cell.blocks(), model.params().as_slice(), &mut packed);
        let plan = StepPlan::new(&stack, 48, &packed);
        plan.alone.unwrap().plans.iter().map(|(plan, _)| plan.sparse()).collect()
    }

    #[test]
    fn products_of_pruned_blocks_are_sparse() {
        for (share, some) in [(0.0, 0), (0.1, 0), (0.5, 1), (0.9, 1)] {
            assert_eq!(sparse(Lstm::new(128).layers(2), share), [some; 2]);
            // One of x, and one of h.
            assert_eq!(sparse(Gru::new(128).layers(2), share), [2 * some; 2]);
        }
    }
}
