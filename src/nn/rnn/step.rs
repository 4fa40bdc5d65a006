//! One time step of a part: its products and its cell.

use std::ops::Range;

use super::cell::{Cell, CellStep, GateStep};
use super::layout::Second;
use super::packing::ForwardPacks;
use super::recurrent::Recurrent;
use crate::Real;
use crate::kernels::Start;

impl<C: Cell> Recurrent<C> {
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
