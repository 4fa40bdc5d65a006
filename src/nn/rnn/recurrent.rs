//! The recurrence that every cell shares: stacked layers, forward through time and back.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Step, StepBack};
use super::plan::{History, Plan, pair, step};
use crate::kernels::{Band, Start};
use crate::nn::{Context, Declare, Description, Layer, Mode, Sizes};
#[cfg(feature = "onnx")]
use crate::onnx::{Graph, Value};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Seq, SeqMut, Shape};

/// More is a mistake, or a file that means harm.
const MAX_HIDDEN: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;

/// A stack of recurrent layers of one cell; see [`Lstm`](super::Lstm), [`Gru`](super::Gru) and [`Rnn`](super::Rnn).
///
/// With [`bidirectional`](Self::bidirectional), each layer runs forward and backward in time, and hands out both,
/// side by side: y `[T, 2H, B]`. The parameters of the second direction have the suffix `_reverse`, and the state
/// has both directions of each layer, one after the other.
///
/// Where sequences are shorter than T, states stay as they are beyond a sequence's end, outputs are 0 there, and no
/// gradient comes from there: final states are those of each sequence's own last step.
// Saved as it stands here: keys in alphabetical order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent<C> {
    pub(super) bidirectional: bool,
    pub(super) cell: C,
    // Absent from files that were written before there was any.
    #[serde(default)]
    pub(super) dropout: f64,
    pub(super) hidden_size: usize,
    pub(super) last: bool,
    pub(super) layers: usize,
}

impl<C: Cell> Recurrent<C> {
    pub(super) fn with_cell(cell: C, hidden_size: usize) -> Self {
        Self { cell, hidden_size, layers: 1, bidirectional: false, dropout: 0.0, last: false }
    }

    /// How many layers lie on one another, PyTorch's `num_layers`; 1 by default.
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Runs in both directions of time.
    pub fn bidirectional(mut self) -> Self {
        self.bidirectional = true;
        self
    }

    /// In training, drops each output of every layer but the top one with probability `p`, 0 to 1, on its way to the
    /// layer above, as PyTorch's `dropout=` does; 0 by default. States are handed on in time as they are.
    ///
    /// For one mask over all time steps, or to drop the input or the top layer's outputs, put a
    /// [`Dropout`](crate::nn::Dropout) between layers.
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Hands out the final hidden state of the top layer alone, of both directions where there are two: `[1, H, B]`
    /// or `[1, 2H, B]`.
    pub fn last(mut self) -> Self {
        self.last = true;
        self
    }

    /// Whether outputs of layer `k` are dropped in a pass.
    fn drops(&self, k: usize, mode: Mode) -> bool {
        mode == Mode::Train && self.dropout > 0.0 && k + 1 < self.layers
    }
}

/// The lanes whose sequences are over at step `t`.
fn over<'a, R>(cx: &'a Context<'_, R>, t: usize) -> impl Iterator<Item = usize> + 'a {
    let lens = cx.lens.unwrap_or_default().iter().enumerate();
    lens.filter(move |&(_, &len)| t >= len as usize).map(|(lane, _)| lane)
}

/// Sets the lanes of `rows` to 0, or to what `from` has there.
fn hold<R: Real>(rows: &mut [R], from: Option<&[R]>, lanes: usize, over: impl Iterator<Item = usize>) {
    for lane in over {
        for i in (lane..rows.len()).step_by(lanes) {
            rows[i] = from.map_or(R::ZERO, |from| from[i]);
        }
    }
}

impl<R: Real, C: Cell> Layer<R> for Recurrent<C> {
    fn describe(&self) -> Description {
        Description::new(C::KIND, self)
    }

    fn build(&self, input: Shape, declare: &mut Declare<'_>) -> Result<(Shape, Sizes)> {
        for (field, value, most) in
            [("hidden_size", self.hidden_size, MAX_HIDDEN), ("layers", self.layers, MAX_LAYERS)]
        {
            if !(1..=most).contains(&value) {
                return Err(Error::config(field, format!("found {value}, expected 1 to {most}")));
            }
        }
        if !(0.0..=1.0).contains(&self.dropout) {
            let fault = format!("found {}, expected a probability, 0 to 1", self.dropout);
            return Err(Error::config("dropout", fault));
        }
        let (plan, h) = (Plan::new(self, input), self.hidden_size);
        let init = Init::pytorch(h);
        for k in 0..self.layers {
            let group = |k: usize| format!("{}.l{k}", declare.prefix());
            let rows = Axis::units(group(k), h, C::GATES);
            let units = Axis::units(group(k), h, 1);
            let columns =
                if k == 0 { Axis::from(input.f) } else { Axis::units(group(k - 1), h, plan.directions) };
            for suffix in &["", "_reverse"][..plan.directions] {
                let name = |kind: &str| format!("{kind}_l{k}{suffix}");
                declare.tensor(&name("weight_ih"), [rows.clone(), columns.clone()], init)?;
                declare.tensor(&name("weight_hh"), [rows.clone(), units.clone()], init)?;
                declare.tensor(&name("bias_ih"), [rows.clone()], init)?;
                declare.tensor(&name("bias_hh"), [rows.clone()], init)?;
            }
        }
        let sizes = Sizes {
            cache: plan.cache(Mode::Train),
            infer_cache: plan.cache(Mode::Infer),
            state: plan.parts() * (h + plan.cell_size()),
            packed: plan.packed(),
        };
        Ok((Shape::new(if self.last { 1 } else { input.t }, plan.directions * h), sizes))
    }

    fn streams(&self) -> bool {
        !self.bidirectional
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        let plan = Plan::new(self, input);
        for k in 0..self.layers {
            (0..plan.directions).for_each(|d| plan.pack::<R, C>(k, d, params, packed));
        }
    }

    fn forward(
        &self,
        cx: &Context<'_, R>,
        x: Seq<'_, R>,
        state: &mut [R],
        mut y: SeqMut<'_, R>,
        cache: &mut [R],
    ) {
        let plan = Plan::new(self, x.shape);
        for steps in plan.chunks() {
            for k in 0..self.layers {
                for d in 0..plan.directions {
                    self.forward_part(cx, &plan, (k, d), x, state, steps.clone(), cache);
                }
                if self.drops(k, cx.mode) {
                    self.drop_outputs(cx, &plan, k, x.lanes, steps.clone(), cache);
                }
            }
            if !self.last {
                self.hand_out(cx, &plan, steps, cache, &mut y);
            }
        }
        if self.last {
            let top = plan.directions * plan.h * x.lanes;
            let end = plan.parts() * plan.h * x.lanes;
            y.data.copy_from_slice(&state[end - top..end]);
        }
    }

    fn backward(
        &self,
        cx: &Context<'_, R>,
        x: Seq<'_, R>,
        _y: Seq<'_, R>,
        dy: Seq<'_, R>,
        dstate: &mut [R],
        cache: &mut [R],
        grads: &mut [R],
        mut dx: Option<SeqMut<'_, R>>,
    ) {
        let (plan, lanes) = (Plan::new(self, x.shape), x.lanes);
        let n = plan.h * lanes;
        let [histories, back, dropped] = plan.split_cache(cx.mode, lanes, cache);
        let (dh, dc_before) = back.split_at_mut(back.len() - n);
        let top = self.layers - 1;
        if self.last {
            let state = &mut dstate[top * plan.directions * n..][..plan.directions * n];
            R::accumulate(state, dy.data);
        }
        for steps in plan.chunks().rev() {
            // What comes down on the outputs of the top layer.
            for d in 0..plan.directions {
                for (i, t) in steps.clone().enumerate() {
                    let place = &mut dh[plan.gradient(top, d, i, lanes)];
                    if self.last {
                        place.fill(R::ZERO);
                    } else {
                        place.copy_from_slice(&dy.step(t)[d * n..][..n]);
                        hold(place, None, lanes, over(cx, t));
                    }
                }
            }
            for k in (0..self.layers).rev() {
                for d in 0..plan.directions {
                    let part = (k, d);
                    let back = [&mut *dh, &mut *dc_before];
                    self.backward_part(cx, &plan, part, steps.clone(), dstate, histories, back, &mut dx);
                    self.weight_gradients(cx, &plan, part, steps.clone(), x, [histories, dropped], grads);
                }
                if k > 0 && self.drops(k - 1, cx.mode) {
                    let [masks, _] = plan.split_dropped(k - 1, lanes, dropped);
                    let masks = masks.chunks_exact(n).skip(steps.start * plan.directions);
                    for (j, mask) in masks.take(steps.len() * plan.directions).enumerate() {
                        let (i, d) = (j / plan.directions, j % plan.directions);
                        let dh = &mut dh[plan.gradient(k - 1, d, i, lanes)];
                        dh.iter_mut().zip(mask).for_each(|(dh, m)| *dh *= *m);
                    }
                }
            }
        }
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        self.export(graph, x)
    }
}

impl<C: Cell> Recurrent<C> {
    /// Steps of one direction of one layer.
    #[allow(clippy::too_many_arguments)]
    fn forward_part<R: Real>(
        &self,
        cx: &Context<'_, R>,
        plan: &Plan,
        (k, d): (usize, usize),
        x: Seq<'_, R>,
        state: &mut [R],
        steps: Range<usize>,
        cache: &mut [R],
    ) {
        let lanes = x.lanes;
        let (n, cell_n) = (plan.h * lanes, plan.cell_size() * lanes);
        let part = k * plan.directions + d;
        let [histories, _, dropped] = plan.split_cache(cx.mode, lanes, cache);
        let (below, own) = plan.split_at_layer(cx.mode, lanes, k, histories);
        let history = plan.part(cx.mode, lanes, d, own);
        let input = self.input(cx.mode, plan, k, x, dropped);
        let (h_state, c_state) = state.split_at_mut(plan.parts() * n);
        let (h_state, c_state) = (&mut h_state[part * n..][..n], &mut c_state[part * cell_n..][..cell_n]);
        let packed = plan.split_packed(k, d, cx.packed)[0];
        let (origin, len) = (plan.origin(cx.mode, steps.start), steps.len());
        let (first, last) = if d == 0 { (origin, origin + len) } else { (len, 0) };
        step(history.h, first, history.h_steps, n).copy_from_slice(h_state);
        step(history.c, first, history.c_steps, cell_n).copy_from_slice(c_state);
        for i in 0..len {
            let i = if d == 0 { i } else { len - 1 - i };
            let (t, place) = (steps.start + i, origin + i);
            let (before, after) = plan.before_after(d, place);
            let (h_prev, h) = pair(history.h, before, after, history.h_steps, n);
            let (c_prev, c) = pair(history.c, before, after, history.c_steps, cell_n);
            let gates = step(history.gates, place, history.gate_steps, plan.rows() * lanes);
            let kept = step(history.kept, place, history.gate_steps, cell_n);
            // a = W x + U h + b, then what the cell makes of it.
            let from = |d: usize| plan.output(lanes, place, plan.outputs(cx.mode, lanes, d, below));
            let xs = match (input, plan.directions) {
                (Some(x), _) => [x.step(t), h_prev, &[]],
                (None, 1) => [from(0), h_prev, &[]],
                (None, _) => [from(0), from(1), h_prev],
            };
            R::product(packed, xs, Start::Bias, gates, lanes);
            self.cell.forward(Step { gates, h_prev, c_prev, c: &mut *c, kept, h: &mut *h });
            if cx.lens.is_some() {
                hold(h, Some(h_prev), lanes, over(cx, t));
                hold(c, Some(c_prev), lanes, over(cx, t));
            }
        }
        h_state.copy_from_slice(step(history.h, last, history.h_steps, n));
        c_state.copy_from_slice(step(history.c, last, history.c_steps, cell_n));
    }

    /// What the layer above `k` reads in place of its outputs: they, times a mask.
    ///
    /// A sample's draws are keyed by its own key and by layer, step and feature, as those of a `Dropout` layer.
    fn drop_outputs<R: Real>(
        &self,
        cx: &Context<'_, R>,
        plan: &Plan,
        k: usize,
        lanes: usize,
        steps: Range<usize>,
        cache: &mut [R],
    ) {
        let [histories, _, dropped] = plan.split_cache(cx.mode, lanes, cache);
        let (outputs, _) = plan.split_at_layer(cx.mode, lanes, k + 1, histories);
        let [masks, left] = plan.split_dropped(k, lanes, dropped);
        let n = plan.h * lanes;
        for t in steps {
            let place = t * plan.directions * n..(t + 1) * plan.directions * n;
            let (mask, left) = (&mut masks[place.clone()], &mut left[place]);
            R::dropout_mask(&cx.keys[..lanes], (k * plan.t + t) as u64, self.dropout, mask);
            for (d, (mask, left)) in mask.chunks_exact(n).zip(left.chunks_exact_mut(n)).enumerate() {
                let outputs = plan.outputs(cx.mode, lanes, d, outputs);
                R::multiply(plan.output(lanes, t, outputs), mask, left);
            }
        }
    }

    /// What layer `k` reads, `[T, features, lanes]`: the stack's input, or what dropout left of the outputs below.
    /// None if it reads those as they are, each direction where it lies.
    fn input<'a, R: Real>(
        &self,
        mode: Mode,
        plan: &Plan,
        k: usize,
        x: Seq<'a, R>,
        dropped: &'a mut [R],
    ) -> Option<Seq<'a, R>> {
        if k == 0 {
            return Some(x);
        }
        self.drops(k - 1, mode).then(|| {
            let [_, left] = plan.split_dropped(k - 1, x.lanes, dropped);
            Seq::new(left, Shape::new(plan.t, plan.features(k)), x.lanes)
        })
    }

    /// Copies what the top layer brought in these steps into `y`, 0 beyond a sequence's end.
    fn hand_out<R: Real>(
        &self,
        cx: &Context<'_, R>,
        plan: &Plan,
        steps: Range<usize>,
        cache: &mut [R],
        y: &mut SeqMut<'_, R>,
    ) {
        let (lanes, n, origin) = (y.lanes, plan.h * y.lanes, plan.origin(cx.mode, steps.start));
        let [histories, ..] = plan.split_cache(cx.mode, lanes, cache);
        for d in 0..plan.directions {
            let part = (self.layers - 1) * plan.directions + d;
            let History { h, h_steps, .. } = plan.part(cx.mode, lanes, part, histories);
            for (i, t) in steps.clone().enumerate() {
                let place = &mut y.step(t)[d * n..][..n];
                place.copy_from_slice(step(h, plan.before_after(d, origin + i).1, h_steps, n));
                hold(place, None, lanes, over(cx, t));
            }
        }
    }

    /// One direction of one layer, back through the steps of a chunk: leaves the gradients of the pre-activations in the
    /// history.
    #[allow(clippy::too_many_arguments)]
    fn backward_part<R: Real>(
        &self,
        cx: &Context<'_, R>,
        plan: &Plan,
        (k, d): (usize, usize),
        steps: Range<usize>,
        dstate: &mut [R],
        histories: &mut [R],
        [dh, dc_before]: [&mut [R]; 2],
        dx: &mut Option<SeqMut<'_, R>>,
    ) {
        let lanes = dc_before.len() / plan.h;
        let (n, cell_n) = (plan.h * lanes, plan.cell_size() * lanes);
        let part = k * plan.directions + d;
        let history = plan.part(cx.mode, lanes, part, histories);
        let (dh_state, dc_state) = dstate.split_at_mut(plan.parts() * n);
        let (dh_first, dc) = (&mut dh_state[part * n..][..n], &mut dc_state[part * cell_n..][..cell_n]);
        let [_, back_h, back_x] = plan.split_packed(k, d, cx.packed);
        let (inputs, _) = plan.inputs(k);
        let back_x_len = back_x.len() / inputs;
        // The final state's gradient joins that of the last output; then its place serves the initial state's.
        let len = steps.len();
        let last = if d == 0 { len - 1 } else { 0 };
        R::accumulate(&mut dh[plan.gradient(k, d, last, lanes)], dh_first);
        dh_first.fill(R::ZERO);
        for j in 0..len {
            let i = if d == 0 { len - 1 - j } else { j };
            let t = steps.start + i;
            let (before, after) = plan.before_after(d, t);
            let row = plan.gradients(k, d, lanes);
            let first = j + 1 == len;
            let held = cx.lens.is_some();
            if held {
                dc_before[..cell_n].copy_from_slice(dc);
            }
            let (h_prev, h) = pair(history.h, before, after, history.h_steps, n);
            let (c_prev, _) = pair(history.c, before, after, history.c_steps, cell_n);
            let gates = step(history.gates, t, plan.t, plan.rows() * lanes);
            let kept = &*step(history.kept, t, plan.t, cell_n);
            let (now, dh_prev) = if first {
                (&mut dh[plan.gradient(k, d, i, lanes)], &mut *dh_first)
            } else {
                // The step before lies next to this one, on the side that time comes from.
                let steps = row.len() / n;
                pair(&mut dh[row], i, if d == 0 { i - 1 } else { i + 1 }, steps, n)
            };
            if held {
                // Beyond the end of a sequence the state was handed on as it was: so is its gradient.
                add_lanes(dh_prev, now, lanes, over(cx, t));
                hold(now, None, lanes, over(cx, t));
            }
            let own = StepBack {
                gates: &mut *gates,
                h_prev,
                c_prev,
                kept,
                h,
                dh: now,
                dh_prev: &mut *dh_prev,
                dc: &mut *dc,
            };
            self.cell.backward(own);
            if held {
                hold(gates, None, lanes, over(cx, t));
                hold(dc, Some(dc_before), lanes, over(cx, t));
            }
            // dh[t − 1] += Uᵀ da; dx[t] = Wᵀ da, over both directions.
            R::product(back_h, [gates, &[], &[]], Start::Add, dh_prev, lanes);
            let start = if d == 0 { Start::Bias } else { Start::Add };
            if k > 0 {
                for (e, pack) in back_x.chunks_exact(back_x_len).enumerate() {
                    R::product(
                        pack,
                        [gates, &[], &[]],
                        start,
                        &mut dh[plan.gradient(k - 1, e, i, lanes)],
                        lanes,
                    );
                }
            } else if let Some(dx) = dx {
                R::product(back_x, [gates, &[], &[]], start, dx.step(t), lanes);
            }
        }
    }

    /// dW += Σ da xᵀ; dU += Σ da hᵀ; db += Σ da: over all steps of a chunk and lanes at once.
    #[allow(clippy::too_many_arguments)]
    fn weight_gradients<R: Real>(
        &self,
        cx: &Context<'_, R>,
        plan: &Plan,
        (k, d): (usize, usize),
        steps: Range<usize>,
        x: Seq<'_, R>,
        [histories, dropped]: [&mut [R]; 2],
        grads: &mut [R],
    ) {
        let (lanes, h, f) = (x.lanes, plan.h, plan.features(k));
        let [dw_ih, dw_hh, db_ih, db_hh] = plan.split_params_mut(k, &mut grads[plan.params(k, d)]);
        let (below, own) = plan.split_at_layer(cx.mode, lanes, k, histories);
        let history = plan.part(cx.mode, lanes, d, own);
        let [gate_rows, h_rows] = plan.strides();
        let band = |data, height| Band::new(data, height).steps(steps.clone(), lanes);
        let da = band(history.gates, gate_rows);
        let states = band(&history.h[d * h_rows * lanes..], h_rows).rows(0..h);
        let input = self.input(cx.mode, plan, k, x, dropped);
        for (from, to) in runs(C::BLOCKS.iter().map(|block| block.ih)) {
            let (da, dw) = (da.clone().rows(from.start * h..from.end * h), to.start * h..to.end * h);
            let dw_ih = &mut dw_ih[dw.start * f..dw.end * f];
            if let Some(x) = input {
                R::outer(da.clone(), band(x.data, f), dw_ih, (f, 0), lanes);
            } else {
                for e in 0..plan.directions {
                    let outputs = band(plan.outputs(cx.mode, lanes, e, below), h_rows).rows(0..h);
                    R::outer(da.clone(), outputs, dw_ih, (f, e * h), lanes);
                }
            }
        }
        for (from, to) in runs(C::BLOCKS.iter().map(|block| block.hh)) {
            let (da, dw) = (da.clone().rows(from.start * h..from.end * h), to.start * h..to.end * h);
            let dw_hh = &mut dw_hh[dw.start * h..dw.end * h];
            R::outer(da, states.clone(), dw_hh, (h, 0), lanes);
        }
        for (i, block) in C::BLOCKS.iter().enumerate() {
            let db_ih = block.ih.map_or(&mut [][..], |to| &mut db_ih[to * h..][..h]);
            let db_hh = block.hh.map_or(&mut [][..], |to| &mut db_hh[to * h..][..h]);
            R::row_sums(da.clone().rows(i * h..(i + 1) * h), [db_ih, db_hh], lanes);
        }
    }
}

/// Adds the lanes of `from` to `rows`.
fn add_lanes<R: Real>(rows: &mut [R], from: &[R], lanes: usize, over: impl Iterator<Item = usize>) {
    for lane in over {
        (lane..rows.len()).step_by(lanes).for_each(|i| rows[i] += from[i]);
    }
}

/// Runs of blocks that follow one another both in the pre-activations and in a weight: (from, to).
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
