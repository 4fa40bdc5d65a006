//! Convolution over rows and columns, and over time alone.
//!
//! A tile is `[T, columns · channels, lanes]`, channels last: the pixels of a row follow one another, and what a window
//! covers of a row is one run of them. So a convolution is the product of all layers, of as many parts as the window has
//! rows: y[t, q] = b + Σᵢ Wᵢ x[t + i, q ..], each part read where it lies. Nothing is copied but a border of zeros, where
//! there is padding.
//!
//! The kernel is packed row by row, Wᵢ `[out, columns of the window · in]`; the gradients with respect to it are summed
//! in that order, too, and are put back into PyTorch's order once for each tile.

mod conv1d;
mod conv2d;
#[cfg(feature = "onnx")]
pub(super) mod export;
pub(super) mod window;

pub use conv1d::Conv1d;
pub use conv2d::Conv2d;
use window::Window;

use super::{Backward, Build, Built, Context, Features, Forward};
use crate::kernels::{Band, Columns, Matrix, Start, packed_len};
use crate::params::Axis;
use crate::shape::MAX_VALUES;
use crate::{Error, Init, Real, Result, Seq, Shape};

/// The most channels of an output; more is a mistake, or a malicious file.
const MAX_CHANNELS: usize = 1 << 20;

/// How many rows of a window one product takes: the parts that it has.
const ROWS: usize = 3;

/// How many rows of a window one call of `outer` takes.
const OUTER_ROWS: usize = 4;

/// A convolution over an input of known shape.
#[derive(Clone, Copy, Debug)]
struct Convolution {
    /// T and F of the input.
    input: Shape,
    /// Channels of the input, and of the output.
    channels: [usize; 2],
    /// Over rows, which are time steps, and over columns.
    windows: [Window; 2],
    /// Whether the rows before the first one are a state, and zeros only at first.
    carries: bool,
}

impl Convolution {
    fn columns(&self) -> usize {
        self.input.f / self.channels[0]
    }

    /// Values of a row with its border.
    fn padded_row(&self) -> usize {
        self.windows[1].padded(self.columns()).saturating_mul(self.channels[0])
    }

    /// Values of the input with its border.
    fn padded(&self) -> usize {
        self.padded_row().saturating_mul(self.windows[0].padded(self.input.t))
    }

    /// Values of a window within one row.
    fn run(&self) -> usize {
        self.windows[1].size * self.channels[0]
    }

    /// Values of the kernel.
    fn weights(&self) -> usize {
        self.channels[1] * self.windows[0].size * self.run()
    }

    /// Values of the state: the rows before the first one.
    fn state(&self) -> usize {
        if self.carries { self.windows[0].before * self.input.f } else { 0 }
    }

    /// Values per lane that are kept: the input with its border, and the kernel's gradients, which all lanes share.
    fn cache<R: Real>(&self) -> usize {
        self.padded().saturating_add(self.weights().div_ceil(R::QUANTUM))
    }

    /// Whether single steps can be passed: each gives one, of which the state knows what came before.
    fn streams(&self) -> bool {
        self.carries || (self.windows[0] == Window::new(1, 1))
    }

    /// Declares the weight, `[out]` and then `axes`, and the bias if there is one, and returns the output and the buffers.
    ///
    /// # Errors
    /// [`Error::Config`] for channels or a window of absurd sizes.
    fn declare<R: Real>(
        &self,
        build: &mut Build<'_>,
        axes: impl IntoIterator<Item = Axis>,
        bias: bool,
    ) -> Result<Built> {
        let fan = check_channels(self)?;
        let out = Axis::units(build.prefix(), self.channels[1], 1);
        // The layers above count the channels of a pixel, and this one those of the layer below.
        let input = build.input().units.clone();
        [&input, &out].into_iter().for_each(|units| build.fix(units));
        build.tensor("weight", std::iter::once(out.clone()).chain(axes), Init::pytorch(fan))?;
        if bias {
            build.tensor("bias", [out], Init::pytorch(fan))?;
        }
        Ok(self.built::<R>(build.prefix()))
    }

    /// The output of a layer called `prefix`, and its buffers.
    fn built<R: Real>(&self, prefix: &str) -> Built {
        let out = Axis::units(prefix, self.channels[1], self.windows[1].positions(self.columns()));
        let built = Built::new(Features::of(self.windows[0].positions(self.input.t), out));
        built.cache(self.cache::<R>()).infer_cache(self.padded()).state(self.state()).packed(self.packed())
    }

    /// Values of a pack of the forward pass: of up to [`ROWS`] rows of the window.
    fn forward_pack(&self, rows: usize) -> usize {
        packed_len(self.channels[1], rows * self.run())
    }

    /// Values of all packs of the forward pass.
    fn forward_packs(&self) -> usize {
        let rows = self.windows[0].size;
        let rest = if rows.is_multiple_of(ROWS) { 0 } else { self.forward_pack(rows % ROWS) };
        self.forward_pack(ROWS).saturating_mul(rows / ROWS).saturating_add(rest)
    }

    /// Values of a pack of the backward pass: of one row of the window.
    fn backward_pack(&self) -> usize {
        packed_len(self.run(), self.channels[1])
    }

    fn packed(&self) -> usize {
        let backward = self.backward_pack().saturating_mul(self.windows[0].size);
        self.forward_packs().saturating_add(backward).saturating_add(self.weights())
    }

    /// Calls `f` with the place of each weight in PyTorch's order, `[out, in, rows, columns]`, and in that of the passes,
    /// `[rows, out, columns, in]`.
    fn each_weight(&self, mut f: impl FnMut(usize, usize)) {
        let ([channels, out], [rows, columns]) = (self.channels, self.windows.map(|window| window.size));
        let mut to = 0;
        for i in 0..rows {
            for o in 0..out {
                for j in 0..columns {
                    for c in 0..channels {
                        f(((o * channels + c) * rows + i) * columns + j, to);
                        to += 1;
                    }
                }
            }
        }
    }

    fn pack<R: Real>(&self, params: &[R], packed: &mut [R]) {
        let (weight, bias) = params.split_at(self.weights());
        let (out, run) = (self.channels[1], self.run());
        let (mut packs, rows) = packed.split_at_mut(packed.len() - self.weights());
        self.each_weight(|from, to| rows[to] = weight[from]);
        let mut parts = [Matrix::new(&rows[..out * run], out, run); ROWS];
        for (group, rows) in rows.chunks(ROWS * out * run).enumerate() {
            let count = rows.len() / (out * run);
            for (part, row) in parts.iter_mut().zip(rows.chunks_exact(out * run)) {
                *part = Matrix::new(row, out, run);
            }
            let (pack, rest) = packs.split_at_mut(self.forward_pack(count));
            let biases = [bias];
            R::pack(&parts[..count], if group == 0 && !bias.is_empty() { &biases } else { &[] }, pack);
            packs = rest;
        }
        for (row, pack) in rows.chunks_exact(out * run).zip(packs.chunks_exact_mut(self.backward_pack())) {
            R::pack(&[Matrix::new(row, out, run).transposed()], &[], pack);
        }
    }

    /// Whether the passes read an input as it lies: it has no border, and no sequence ends early.
    fn reads_in_place<R>(&self, cx: &Context<'_, R>) -> bool {
        let [rows, columns] = self.windows;
        rows.before + rows.after + columns.before + columns.after == 0 && cx.lens.is_none()
    }

    /// Where a row of the input begins among the values with the border.
    fn row(&self, t: usize, lanes: usize) -> usize {
        ((self.windows[0].before + t) * self.padded_row() + self.windows[1].before * self.channels[0]) * lanes
    }

    /// Where row `i` of the state begins among them.
    fn state_row(&self, i: usize, lanes: usize) -> usize {
        (i * self.padded_row() + self.windows[1].before * self.channels[0]) * lanes
    }

    /// Where the window at row `t` and column `q` of the output begins in row `i`.
    fn place(&self, t: usize, q: usize, i: usize, lanes: usize) -> usize {
        let [rows, columns] = self.windows;
        ((t * rows.stride + i) * self.padded_row() + q * columns.stride * self.channels[0]) * lanes
    }

    /// Copies the input into its border of zeros, with the state before it and zeros after the end of each sequence.
    fn pad<R: Real>(&self, cx: &Context<'_, R>, x: Seq<'_, R>, state: &[R], padded: &mut [R]) {
        let (step, lanes) = (self.input.f * x.lanes, x.lanes);
        padded.fill(R::ZERO);
        for t in 0..self.input.t {
            padded[self.row(t, lanes)..][..step].copy_from_slice(x.step(t));
        }
        for (i, state) in state.chunks_exact(step).enumerate() {
            padded[self.state_row(i, lanes)..][..step].copy_from_slice(state);
        }
        for (lane, len) in shorter(cx, self.input.t) {
            let first = self.row(len, lanes);
            padded[first..].iter_mut().skip(lane).step_by(lanes).for_each(|x| *x = R::ZERO);
        }
    }

    /// Calls `f` with the place of each value of the final state, and where it is among the values with the border: in the
    /// last rows of each lane's sequence.
    fn each_final<R>(&self, cx: &Context<'_, R>, lanes: usize, mut f: impl FnMut(usize, usize)) {
        let rows = if self.carries { self.windows[0].before } else { 0 };
        let first = self.windows[1].before * self.channels[0];
        for lane in 0..lanes {
            let len = cx.lens.and_then(|lens| lens.get(lane)).map_or(self.input.t, |&len| len as usize);
            for i in 0..rows {
                for value in 0..self.input.f {
                    let from = ((len + i) * self.padded_row() + first + value) * lanes + lane;
                    f((i * self.input.f + value) * lanes + lane, from);
                }
            }
        }
    }

    fn forward<R: Real>(&self, Forward { cx, x, mut y, state, cache }: Forward<'_, R>) {
        let lanes = x.lanes;
        let mut source = x.data;
        if !self.reads_in_place(&cx) {
            let padded = &mut cache[..self.padded() * lanes];
            self.pad(&cx, x, state, padded);
            source = padded;
        }
        self.each_final(&cx, lanes, |to, from| state[to] = source[from]);
        let (pixel, run) = (self.channels[1] * lanes, self.run() * lanes);
        for t in 0..y.shape.t {
            for (q, y) in y.step(t).chunks_exact_mut(pixel).enumerate() {
                let mut packs = cx.packed;
                for first in (0..self.windows[0].size).step_by(ROWS) {
                    let count = ROWS.min(self.windows[0].size - first);
                    let mut xs = [&[][..]; ROWS];
                    for (i, x) in xs[..count].iter_mut().enumerate() {
                        *x = &source[self.place(t, q, first + i, lanes)..][..run];
                    }
                    let (pack, rest) = packs.split_at(self.forward_pack(count));
                    R::product(pack, xs, if first == 0 { Start::Bias } else { Start::Add }, y, lanes);
                    packs = rest;
                }
            }
        }
    }

    fn backward<R: Real>(&self, pass: Backward<'_, R>) {
        let Backward { cx, x, dy, dx, dstate, cache, grads, .. } = pass;
        let lanes = x.lanes;
        let (dweight, dbias) = grads.split_at_mut(self.weights());
        if !dbias.is_empty() {
            R::row_sums(Band::new(dy.data, self.channels[1]), [dbias, &mut []], lanes);
        }
        let (padded, dkernel) = cache.split_at_mut(self.padded() * lanes);
        let dkernel = &mut dkernel[..self.weights()];
        let in_place = self.reads_in_place(&cx);
        // Begun with the gradients so far, so that each stays one chain.
        self.each_weight(|from, to| dkernel[to] = dweight[from]);
        self.weight_gradients(if in_place { x.data } else { padded }, dy, dkernel);
        self.each_weight(|from, to| dweight[from] = dkernel[to]);
        match dx {
            Some(dx) if in_place => self.input_gradients(cx.packed, dy, dy.shape.t, dx.data),
            Some(mut dx) => {
                self.input_gradients(cx.packed, dy, dy.shape.t, padded);
                self.state_gradients(&cx, lanes, padded, dstate);
                for t in 0..self.input.t {
                    let row = self.row(t, lanes);
                    dx.step(t).copy_from_slice(&padded[row..][..self.input.f * lanes]);
                }
                for (lane, len) in shorter(&cx, self.input.t) {
                    let first = len * self.input.f * lanes;
                    dx.data[first..].iter_mut().skip(lane).step_by(lanes).for_each(|dx| *dx = R::ZERO);
                }
            }
            None if self.state() > 0 => {
                // The windows of later rows do not reach the rows of the state.
                let rows = self.windows[0].before.min(dy.shape.t);
                self.input_gradients(cx.packed, dy, rows, padded);
                self.state_gradients(&cx, lanes, padded, dstate);
            }
            None => {}
        }
    }

    /// dx[t + i, q ..] += Wᵢᵀ dy[t, q] for the first `rows` rows of dy, from 0.
    // Each window is added where it lies, rather than each dx gathered: so any stride has the same code, and a product
    // has as many rows as a window has values in a row, not as few as the input has channels.
    fn input_gradients<R: Real>(&self, packed: &[R], dy: Seq<'_, R>, rows: usize, dx: &mut [R]) {
        let (run, pixel, lanes) = (self.run() * dy.lanes, self.channels[1] * dy.lanes, dy.lanes);
        dx.fill(R::ZERO);
        for t in 0..rows {
            for (q, dy) in dy.step(t).chunks_exact(pixel).enumerate() {
                let packs = packed[self.forward_packs()..].chunks_exact(self.backward_pack());
                for (i, pack) in packs.take(self.windows[0].size).enumerate() {
                    let dx = &mut dx[self.place(t, q, i, lanes)..][..run];
                    R::product(pack, [dy, &[], &[]], Start::Add, dx, lanes);
                }
            }
        }
    }

    /// Adds the gradient of the final state to that of the rows that it is, and takes that of the initial state from the
    /// rows before the first one.
    fn state_gradients<R: Real>(
        &self,
        cx: &Context<'_, R>,
        lanes: usize,
        padded: &mut [R],
        dstate: &mut [R],
    ) {
        self.each_final(cx, lanes, |from, to| padded[to] += dstate[from]);
        let step = self.input.f * lanes;
        for (i, dstate) in dstate.chunks_exact_mut(step).enumerate() {
            dstate.copy_from_slice(&padded[self.state_row(i, lanes)..][..step]);
        }
    }

    /// dWᵢ += Σ dy[t, q] x[t + i, q ..]ᵀ, `[rows, out, columns · in]`.
    fn weight_gradients<R: Real>(&self, source: &[R], dy: Seq<'_, R>, dkernel: &mut [R]) {
        let (run, lanes) = (self.run(), dy.lanes);
        let matrix = self.channels[1] * run;
        // The step from one position to the next is that of a band whose rows overlap.
        let step = self.windows[1].stride * self.channels[0];
        for t in 0..dy.shape.t {
            for (group, dkernel) in dkernel.chunks_mut(OUTER_ROWS * matrix).enumerate() {
                let mut columns: [_; OUTER_ROWS] = std::array::from_fn(|_| Columns::none());
                let count = dkernel.len() / matrix;
                for (i, dw) in dkernel.chunks_exact_mut(matrix).enumerate() {
                    let first = self.place(t, 0, OUTER_ROWS * group + i, lanes);
                    let x = Band::new(&source[first..], step).rows(0..run);
                    columns[i] = Columns::new([x, Band::NONE], dw);
                }
                R::outer(Band::new(dy.step(t), self.channels[1]), &mut columns[..count], lanes);
            }
        }
    }
}

/// Checks the number of channels, and returns the values that a window covers.
fn check_channels(convolution: &Convolution) -> Result<usize> {
    let Convolution { channels: [channels, out], windows, .. } = *convolution;
    if !(1..=MAX_CHANNELS).contains(&out) {
        return Err(Error::config("out_channels", format!("found {out}, expected 1 to {MAX_CHANNELS}")));
    }
    let fan = windows.iter().try_fold(channels, |n, window| n.checked_mul(window.size));
    fan.filter(|&fan| fan <= MAX_VALUES).ok_or_else(|| {
        let fault = format!("found a window of more than {MAX_VALUES} values, expected fewer");
        Error::config("kernel_size", fault)
    })
}

/// The lanes whose sequences are shorter than `t` steps, and their lengths.
fn shorter<'a, R>(cx: &Context<'a, R>, t: usize) -> impl Iterator<Item = (usize, usize)> + 'a {
    let lens = cx.lens.unwrap_or_default().iter().map(|&len| len as usize);
    lens.enumerate().filter(move |&(_, len)| len < t)
}
