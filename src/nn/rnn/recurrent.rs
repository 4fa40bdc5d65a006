//! The recurrence that every cell shares: stacked layers, forward through time and back.

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Step, StepBack};
use crate::kernels::{Matrix, Start, packed_len};
use crate::nn::{Context, Declare, Description, Layer, Mode, Sizes};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Seq, SeqMut, Shape};

/// A stack of recurrent layers of one cell; see [`Lstm`](super::Lstm) and [`Rnn`](super::Rnn).
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent<C> {
    pub(super) cell: C,
    hidden_size: usize,
    layers: usize,
    last: bool,
}

/// More is a mistake, or a file that means harm.
const MAX_HIDDEN: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;

/// The settings as they are saved, keys in alphabetical order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config<C> {
    cell: C,
    hidden_size: usize,
    last: bool,
    layers: usize,
}

impl<C: Cell> Recurrent<C> {
    pub(super) fn with_cell(cell: C, hidden_size: usize) -> Self {
        Self { cell, hidden_size, layers: 1, last: false }
    }

    /// How many layers lie on one another, PyTorch's `num_layers`; 1 by default.
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Hands out the last time step of the top layer alone.
    pub fn last(mut self) -> Self {
        self.last = true;
        self
    }

    /// Builds the layer that a saved model describes.
    pub(crate) fn from_config(config: serde_json::Value) -> serde_json::Result<Self> {
        let Config { cell, hidden_size, last, layers } = serde_json::from_value(config)?;
        Ok(Self { cell, hidden_size, layers, last })
    }

    fn sizes(&self, input: Shape) -> LayerSizes {
        LayerSizes { input, h: self.hidden_size, gates: C::GATES, cells: usize::from(C::HAS_CELL) }
    }
}

/// Where things stand in the flat slices of one layer of the stack.
#[derive(Clone, Copy)]
struct LayerSizes {
    input: Shape,
    h: usize,
    gates: usize,
    cells: usize,
}

impl LayerSizes {
    /// Features that layer `k` of the stack reads.
    fn features(&self, k: usize) -> usize {
        if k == 0 { self.input.f } else { self.h }
    }

    fn params(&self, k: usize) -> usize {
        self.gates * self.h * (self.features(k) + self.h + 2)
    }

    /// The packs of layer `k`: forward, back to h, back to x.
    fn packs(&self, k: usize) -> [usize; 3] {
        let (rows, f) = (self.gates * self.h, self.features(k));
        [packed_len(rows, f + self.h), packed_len(self.h, rows), packed_len(f, rows)]
    }

    fn packed(&self, k: usize) -> usize {
        self.packs(k).iter().sum()
    }

    /// Steps of which gates are kept, and steps of which states are.
    fn history(&self, mode: Mode) -> (usize, usize) {
        if mode.keeps_history() { (self.input.t, self.input.t + 1) } else { (1, 2) }
    }

    /// A layer's part of the cache, per lane: gates, h, and for a cell c and one thing kept.
    fn cache(&self, mode: Mode) -> usize {
        let (gates, states) = self.history(mode);
        self.h * (gates * (self.gates + self.cells) + states * (1 + self.cells))
    }

    /// Splits a layer's part of the cache.
    fn split<'a, R>(&self, mode: Mode, lanes: usize, cache: &'a mut [R]) -> History<'a, R> {
        let (steps, states) = self.history(mode);
        let n = self.h * lanes;
        let (gates, cache) = cache.split_at_mut(steps * self.gates * n);
        let (h, cache) = cache.split_at_mut(states * n);
        let (c, kept) = cache.split_at_mut(states * n * self.cells);
        History { gates, h, c, kept, n: n * self.cells, states, steps }
    }
}

/// What a layer keeps of a pass. Steps are taken modulo how many are kept, so that inference runs in a ring of two.
struct History<'a, R> {
    /// `[steps, G · H, lanes]`
    gates: &'a mut [R],
    /// `[states, H, lanes]`, the initial state first
    h: &'a mut [R],
    /// Likewise, or empty.
    c: &'a mut [R],
    /// `[steps, H, lanes]`, or empty
    kept: &'a mut [R],
    /// Values of c and of what is kept in a step, 0 where the cell has none.
    n: usize,
    states: usize,
    steps: usize,
}

/// The states before and after a step, out of a ring.
fn before_after<R>(ring: &mut [R], t: usize, states: usize) -> (&[R], &mut [R]) {
    let n = ring.len() / states;
    let (before, after) = (t % states, (t + 1) % states);
    if before < after {
        let (head, tail) = ring.split_at_mut(after * n);
        (&head[before * n..][..n], &mut tail[..n])
    } else {
        let (head, tail) = ring.split_at_mut(before * n);
        (&tail[..n], &mut head[after * n..][..n])
    }
}

/// Step `t` of a ring of `steps`.
fn at<R>(ring: &mut [R], t: usize, steps: usize) -> &mut [R] {
    let n = ring.len() / steps;
    &mut ring[(t % steps) * n..][..n]
}

impl<R: Real, C: Cell> Layer<R> for Recurrent<C> {
    fn describe(&self) -> Description {
        let Self { cell, hidden_size, layers, last } = self.clone();
        Description::new(C::KIND, Config { cell, hidden_size, last, layers })
    }

    fn build(&self, input: Shape, declare: &mut Declare<'_>) -> Result<(Shape, Sizes)> {
        for (field, value, most) in
            [("hidden_size", self.hidden_size, MAX_HIDDEN), ("layers", self.layers, MAX_LAYERS)]
        {
            if !(1..=most).contains(&value) {
                return Err(Error::config(field, format!("found {value}, expected 1 to {most}")));
            }
        }
        let h = self.hidden_size;
        let size = self.sizes(input);
        let init = Init::pytorch(h);
        for k in 0..self.layers {
            let group = |k: usize| format!("{}.l{k}", declare.prefix());
            let rows = Axis::units(group(k), h, C::GATES);
            let columns = if k == 0 { Axis::from(input.f) } else { Axis::units(group(k - 1), h, 1) };
            let units = Axis::units(group(k), h, 1);
            declare.tensor(&format!("weight_ih_l{k}"), [rows.clone(), columns], init)?;
            declare.tensor(&format!("weight_hh_l{k}"), [rows.clone(), units], init)?;
            declare.tensor(&format!("bias_ih_l{k}"), [rows.clone()], init)?;
            declare.tensor(&format!("bias_hh_l{k}"), [rows], init)?;
        }
        let sizes = Sizes {
            // Besides the history: the gradient of one layer's output sequence.
            cache: self.layers * size.cache(Mode::Train) + input.t * h,
            infer_cache: self.layers * size.cache(Mode::Infer),
            state: self.layers * h * (1 + size.cells),
            packed: (0..self.layers).map(|k| size.packed(k)).sum(),
        };
        Ok((Shape::new(if self.last { 1 } else { input.t }, h), sizes))
    }

    fn pack(&self, input: Shape, mut params: &[R], mut packed: &mut [R]) {
        let size = self.sizes(input);
        for k in 0..self.layers {
            let (rows, f, h) = (size.gates * size.h, size.features(k), size.h);
            let (own, rest) = params.split_at(size.params(k));
            params = rest;
            let (w_ih, own) = own.split_at(rows * f);
            let (w_hh, biases) = own.split_at(rows * h);
            let (b_ih, b_hh) = biases.split_at(rows);
            let [forward, back_h, back_x] = size.packs(k);
            let (place, rest) = packed.split_at_mut(forward);
            R::pack(&[Matrix::new(w_ih, rows, f), Matrix::new(w_hh, rows, h)], &[b_ih, b_hh], place);
            let (place, rest) = rest.split_at_mut(back_h);
            R::pack(&[Matrix::transposed(w_hh, rows, h)], &[], place);
            let (place, rest) = rest.split_at_mut(back_x);
            R::pack(&[Matrix::transposed(w_ih, rows, f)], &[], place);
            packed = rest;
        }
    }

    fn forward(
        &self,
        cx: &Context<'_, R>,
        x: Seq<'_, R>,
        state: &mut [R],
        y: SeqMut<'_, R>,
        cache: &mut [R],
    ) {
        let (size, lanes) = (self.sizes(x.shape), x.lanes);
        let n = size.h * lanes;
        let per_layer = size.cache(cx.mode) * lanes;
        let (h_state, c_state) = state.split_at_mut(self.layers * n);
        for (k, cache) in cache.chunks_exact_mut(per_layer).take(self.layers).enumerate() {
            let history = size.split(cx.mode, lanes, cache);
            history.h[..n].copy_from_slice(&h_state[k * n..][..n]);
            history.c[..history.n].copy_from_slice(&c_state[k * history.n..][..history.n]);
        }
        for t in 0..x.shape.t {
            let mut packed = cx.packed;
            for k in 0..self.layers {
                let (below, own) = cache[..self.layers * per_layer].split_at_mut(k * per_layer);
                let History { gates, h, c, kept, states, steps, .. } =
                    size.split(cx.mode, lanes, &mut own[..per_layer]);
                let input = match below.len().checked_sub(per_layer) {
                    None => x.step(t),
                    Some(start) => {
                        let below = size.split(cx.mode, lanes, &mut below[start..]);
                        &*before_after(below.h, t, states).1
                    }
                };
                // a = W x + U h + b, then what the cell makes of it.
                let gates = at(gates, t, steps);
                let (h_prev, h) = before_after(h, t, states);
                R::product(&packed[..size.packs(k)[0]], [input, h_prev], Start::Bias, gates, lanes);
                let (c_prev, c) = before_after(c, t, states);
                self.cell.forward(Step { gates, c_prev, c, kept: at(kept, t, steps), h });
                packed = &packed[size.packed(k)..];
            }
            if !self.last {
                let top = &mut cache[(self.layers - 1) * per_layer..][..per_layer];
                let History { h, states, .. } = size.split(cx.mode, lanes, top);
                y.data[t * n..][..n].copy_from_slice(before_after(h, t, states).1);
            }
        }
        for (k, cache) in cache.chunks_exact_mut(per_layer).take(self.layers).enumerate() {
            let history = size.split(cx.mode, lanes, cache);
            let (t, states) = (x.shape.t - 1, history.states);
            h_state[k * n..][..n].copy_from_slice(before_after(history.h, t, states).1);
            c_state[k * history.n..][..history.n].copy_from_slice(before_after(history.c, t, states).1);
        }
        if self.last {
            y.data.copy_from_slice(&h_state[(self.layers - 1) * n..][..n]);
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
        let (size, lanes, steps) = (self.sizes(x.shape), x.lanes, x.shape.t);
        let (n, rows) = (size.h * lanes, size.gates * size.h);
        let per_layer = size.cache(cx.mode) * lanes;
        let (cache, dh) = cache.split_at_mut(self.layers * per_layer);
        let (dh_state, dc_state) = dstate.split_at_mut(self.layers * n);
        // dh, [T, H, lanes]: what comes down on the outputs of the layer in hand.
        if self.last {
            dh.fill(R::ZERO);
            dh[(steps - 1) * n..].copy_from_slice(dy.data);
        } else {
            dh.copy_from_slice(dy.data);
        }
        let mut packed_end = (0..self.layers).map(|k| size.packed(k)).sum::<usize>();
        let mut grads_end = grads.len();
        for k in (0..self.layers).rev() {
            let (below, own) = cache.split_at_mut(k * per_layer);
            let History { gates, h, c, kept, n: cell_n, .. } =
                size.split(cx.mode, lanes, &mut own[..per_layer]);
            packed_end -= size.packed(k);
            let (_, packed) = cx.packed[packed_end..].split_at(size.packs(k)[0]);
            let (back_h, back_x) = packed.split_at(size.packs(k)[1]);
            let back_x = &back_x[..size.packs(k)[2]];
            let dh_first = &mut dh_state[k * n..][..n];
            let dc = &mut dc_state[k * cell_n..][..cell_n];
            R::accumulate(&mut dh[(steps - 1) * n..], dh_first);
            dh_first.fill(R::ZERO);
            for t in (0..steps).rev() {
                let (before, now) = dh.split_at_mut(t * n);
                let now = &mut now[..n];
                let gates = at(gates, t, steps);
                let h = &h[(t + 1) * n..][..n];
                let c_prev = &c[t * cell_n..][..cell_n];
                self.cell.backward(StepBack { gates, c_prev, kept: at(kept, t, steps), h, dh: now, dc });
                // dh[t − 1] += Uᵀ da; dx[t] = Wᵀ da
                let dh_prev = if t > 0 { &mut before[(t - 1) * n..] } else { &mut *dh_first };
                R::product(back_h, [gates, &[]], Start::Add, dh_prev, lanes);
                if k > 0 {
                    R::product(back_x, [gates, &[]], Start::Bias, now, lanes);
                } else if let Some(dx) = &mut dx {
                    R::product(back_x, [gates, &[]], Start::Bias, dx.step(t), lanes);
                }
            }
            // dW = Σ da xᵀ; dU = Σ da hᵀ; db = Σ da, over all steps and lanes at once.
            let f = size.features(k);
            let start = grads_end - size.params(k);
            let (dw_ih, rest) = grads[start..grads_end].split_at_mut(rows * f);
            let (dw_hh, db) = rest.split_at_mut(rows * size.h);
            let (db_ih, db_hh) = db.split_at_mut(rows);
            grads_end = start;
            if k == 0 {
                R::outer(gates, x.data, dw_ih, f, lanes);
            } else {
                let below = size.split(cx.mode, lanes, &mut below[(k - 1) * per_layer..]);
                R::outer(gates, &below.h[n..], dw_ih, f, lanes);
            }
            R::outer(gates, &h[..steps * n], dw_hh, size.h, lanes);
            R::row_sums(gates, db_ih, lanes);
            R::row_sums(gates, db_hh, lanes);
        }
    }
}
