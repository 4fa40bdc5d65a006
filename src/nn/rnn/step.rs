//! One time step of a part: its products and its cell; and a step of a whole stack, which a stream pushes.

use std::ops::Range;

use super::cell::{Cell, CellStep, GateStep};
use super::layout::{Direction, Part, Second, StackLayout};
use super::packing::ForwardPacks;
use super::recurrent::Recurrent;
use crate::Real;
use crate::Shape;
use crate::kernels::{Start, one_step};
use crate::nn::Step;

/// What steps of a stack need and does not change from step to step.
pub(super) struct StepPlan {
    layout: StackLayout,
    /// For one stream alone, where the cell has a pointwise part for that: the plan of the first layer, and that of all
    /// others.
    alone: Option<[one_step::Plan; 2]>,
}

impl StepPlan {
    /// The plan of a stack whose input has so many features.
    pub(super) fn new<R: Real, C: Cell>(stack: &Recurrent<C>, features: usize) -> Self {
        let layout = StackLayout::new(stack, Shape::new(1, features));
        let pointwise = stack.cell.one_step().filter(|_| layout.second == Second::None);
        let plan = |layer, pointwise| {
            let mut end = 0;
            let products = layout.sums().iter().map(|sum| {
                let start = end;
                end += sum.packed_len(layout.features(layer), layout.width);
                let from = if sum.more { Start::Add } else { Start::Bias };
                one_step::Rows { rows: sum.rows(), packed: start..end, x: sum.x, h: sum.h, start: from }
            });
            one_step::Plan::new::<R>(products, pointwise, layout.units)
        };
        Self { alone: pointwise.map(|pointwise| [0, 1].map(|layer| plan(layer, pointwise))), layout }
    }
}

impl<C: Cell> Recurrent<C> {
    /// One step of a stack in one direction.
    ///
    /// States are read where they are, and written back there: nothing is laid out on a tape. So it costs little more
    /// than its arithmetic, and that is what [`one_step`](Self::one_step) does for a pass over a sequence.
    pub(super) fn planned_step<R: Real>(&self, plan: &StepPlan, step: Step<'_, R>) {
        let (layout, lanes) = (&plan.layout, step.lanes);
        if let (1, Some(plans)) = (lanes, &plan.alone) {
            return step_alone(layout, plans, step);
        }
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

/// One step of one stream through a stack, by the plans of its layers.
fn step_alone<R: Real>(layout: &StackLayout, plans: &[one_step::Plan; 2], step: Step<'_, R>) {
    let Step { mut x, mut packed, y, state, cache, .. } = step;
    let (gates, rest) = cache.split_at_mut(layout.rows());
    let hidden = &mut rest[..layout.width];
    let (mut hs, mut cs) = state.split_at_mut(layout.layers * layout.width);
    for layer in 0..layout.layers {
        let (h, other_hs) = hs.split_at_mut(layout.width);
        let (c, other_cs) = cs.split_at_mut(layout.cell);
        let (own, other_packs) = packed.split_at(layout.packed_len(layer));
        let y = if layer + 1 == layout.layers { &mut *y } else { &mut *hidden };
        let values = one_step::Step { packed: own, x, h: &mut *h, c, gates: &mut *gates, y };
        R::one_step(&plans[usize::from(layer > 0)], values);
        (x, hs, cs, packed) = (h, other_hs, other_cs, other_packs);
    }
}
