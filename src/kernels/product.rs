//! The dense product, batch in the lanes: y[r] = b[r] + Σₖ W[r, k] x[k], each y[r] and x[k] a row of lanes.
//!
//! Weights are packed into blocks of rows that fill the registers. A block is M biases, then M weights for each k,
//! so that the loop over k reads one stream. Every sum is one chain of fused multiply-adds: bias, then k ascending.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::simd;
use crate::Real;

/// A matrix as it stands in the parameters, looked at as it is or transposed.
#[derive(Clone, Copy)]
pub struct Matrix<'a, R> {
    data: &'a [R],
    rows: usize,
    cols: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, R: Copy> Matrix<'a, R> {
    /// `data` is `[rows, cols]`, row-major.
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix of {rows} × {cols}");
        Self { data, rows, cols, stride: cols, transposed: false }
    }

    /// The columns `first .. first + cols` alone.
    pub fn columns(self, first: usize, cols: usize) -> Self {
        Self { data: &self.data[first..], cols, ..self }
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }
}

/// Where the accumulators of a product start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the packed bias (0 where none was packed).
    Bias,
    /// At what `y` holds.
    Add,
}

/// Values that a packed matrix of `rows` rows and `k` columns takes, with room for a vector to read past the end.
pub const fn packed_len(rows: usize, k: usize) -> usize {
    rows * (k + 1) + SLACK
}

/// The longest vector there is, an AVX-512 one of f32.
const SLACK: usize = 16;

/// Heights of the row blocks, the registers' fill first.
const HEIGHTS_32: [usize; 6] = [12, 8, 4, 3, 2, 1];
const HEIGHTS_16: [usize; 5] = [6, 4, 3, 2, 1];

/// Cuts `rows` into blocks of (first row, height).
fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let heights: &[usize] = if simd::registers() >= 32 { &HEIGHTS_32 } else { &HEIGHTS_16 };
    let mut row = 0;
    std::iter::from_fn(move || {
        let height = *heights.iter().find(|&&m| m <= rows - row)?;
        row += height;
        Some((row - height, height))
    })
}

/// Packs the matrices `parts`, side by side, and the sum of the `biases`.
#[inline(always)]
pub fn pack<R: Real>(parts: &[Matrix<R>], biases: &[&[R]], mut packed: &mut [R]) {
    let (rows, k) = (parts[0].rows, parts.iter().map(|part| part.cols).sum::<usize>());
    for (row, height) in blocks(rows) {
        let (block, rest) = packed.split_at_mut(height * (k + 1));
        packed = rest;
        match height {
            12 => pack_block::<R, 12>(parts, biases, row, block),
            8 => pack_block::<R, 8>(parts, biases, row, block),
            6 => pack_block::<R, 6>(parts, biases, row, block),
            4 => pack_block::<R, 4>(parts, biases, row, block),
            3 => pack_block::<R, 3>(parts, biases, row, block),
            2 => pack_block::<R, 2>(parts, biases, row, block),
            _ => pack_block::<R, 1>(parts, biases, row, block),
        }
    }
}

/// The block of the M rows from `row` on.
#[inline(always)]
fn pack_block<R: Real, const M: usize>(parts: &[Matrix<R>], biases: &[&[R]], row: usize, block: &mut [R]) {
    let (lines, _) = block.as_chunks_mut::<M>();
    let Some((sums, mut lines)) = lines.split_first_mut() else { return };
    *sums = [R::ZERO; M];
    for bias in biases {
        sums.iter_mut().zip(&bias[row..]).for_each(|(sum, b)| *sum += *b);
    }
    for part in parts {
        let (own, rest) = lines.split_at_mut(part.cols);
        lines = rest;
        if part.transposed {
            for (k, line) in own.iter_mut().enumerate() {
                line.copy_from_slice(&part.data[k * part.stride + row..][..M]);
            }
        } else {
            let mut from = [&[][..]; M];
            for (m, from) in from.iter_mut().enumerate() {
                *from = &part.data[(row + m) * part.stride..][..part.cols];
            }
            for (k, line) in own.iter_mut().enumerate() {
                for m in 0..M {
                    line[m] = from[m][k];
                }
            }
        }
    }
}

/// y = start + W x, where x is the rows of `xs[0]`, then those of `xs[1]` and `xs[2]` (any may be empty).
pub struct Product<'a, R> {
    /// As [`pack`] wrote it.
    pub packed: &'a [R],
    /// `[k, lanes]` each
    pub xs: [&'a [R]; 3],
    /// Where sums start.
    pub start: Start,
    /// `[rows, lanes]`
    pub y: &'a mut [R],
    /// A multiple of the quantum; or 1, for one sample alone.
    pub lanes: usize,
}

impl<R: Real> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { mut packed, xs, start, y, lanes } = self;
        if lanes == 1 {
            return one_sample::<R, S>(s, packed, xs, start, y);
        }
        let nv = lanes / R::lanes::<S>();
        let k = (xs[0].len() + xs[1].len() + xs[2].len()) / lanes;
        let y = R::vectors_mut::<S>(y);
        let xs = [R::vectors::<S>(xs[0]), R::vectors::<S>(xs[1]), R::vectors::<S>(xs[2])];
        for (row, height) in blocks(y.len() / nv) {
            let (w, rest) = packed.split_at(height * (k + 1));
            packed = rest;
            let y = &mut y[row * nv..][..height * nv];
            match height {
                12 => block::<R, S, 12>(s, w, xs, start, y, nv),
                8 => block::<R, S, 8>(s, w, xs, start, y, nv),
                6 => block::<R, S, 6>(s, w, xs, start, y, nv),
                4 => block::<R, S, 4>(s, w, xs, start, y, nv),
                3 => block::<R, S, 3>(s, w, xs, start, y, nv),
                2 => block::<R, S, 2>(s, w, xs, start, y, nv),
                _ => block::<R, S, 1>(s, w, xs, start, y, nv),
            }
        }
    }
}

/// M rows, all lanes.
#[inline(always)]
fn block<R: Real, S: Simd, const M: usize>(
    s: S,
    w: &[R],
    xs: [&[R::V<S>]; 3],
    start: Start,
    y: &mut [R::V<S>],
    nv: usize,
) {
    let mut v = 0;
    while v + 2 <= nv {
        tile::<R, S, M, 2>(s, w, xs, start, y, nv, v);
        v += 2;
    }
    if v < nv {
        tile::<R, S, M, 1>(s, w, xs, start, y, nv, v);
    }
}

/// M rows, the N vectors from `v` on, all in registers.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile<R: Real, S: Simd, const M: usize, const N: usize>(
    s: S,
    w: &[R],
    xs: [&[R::V<S>]; 3],
    start: Start,
    y: &mut [R::V<S>],
    nv: usize,
    v: usize,
) {
    let (bias, w) = w.split_at(M);
    let mut acc = [[R::splat(s, R::ZERO); N]; M];
    for m in 0..M {
        for n in 0..N {
            acc[m][n] = match start {
                Start::Bias => R::splat(s, bias[m]),
                Start::Add => y[m * nv + v + n],
            };
        }
    }
    let mut w = w.chunks_exact(M);
    for x in xs {
        for (x, w) in x.chunks_exact(nv).zip(&mut w) {
            let x = &x[v..v + N];
            for m in 0..M {
                let weight = R::splat(s, w[m]);
                for n in 0..N {
                    acc[m][n] = R::vfma(s, weight, x[n], acc[m][n]);
                }
            }
        }
    }
    for m in 0..M {
        for n in 0..N {
            y[m * nv + v + n] = acc[m][n];
        }
    }
}

/// One sample: rows in the lanes. A block's last vector reads into what follows, and those lanes come to nothing. Each
/// sum is the same chain as with samples in the lanes.
///
/// Many sums side by side hide the latency of each, so the one block that is left over after a run of high ones does
/// not wait for its turn, but goes along with the last of them.
#[inline(always)]
fn one_sample<R: Real, S: Simd>(s: S, mut packed: &[R], xs: [&[R]; 3], start: Start, y: &mut [R]) {
    let lanes = R::lanes::<S>();
    let k = xs[0].len() + xs[1].len() + xs[2].len();
    let mut all = blocks(y.len()).peekable();
    while let Some((row, height)) = all.next() {
        let mut count = 1;
        while all.next_if(|&(_, next)| next == height).is_some() {
            count += 1;
        }
        let tail = all.next_if(|&(_, next)| next <= lanes).map_or(0, |(_, height)| height);
        let run = Run { packed, height, pieces: count * height.div_ceil(lanes), tail: count * height };
        let y = &mut y[row..][..count * height + tail];
        let mut first = 0;
        while first < run.pieces {
            first += match (run.pieces - first, tail) {
                (1, 0) => few::<R, S, 1, 0>(s, run, xs, start, y, first),
                (2..=4, 0) => few::<R, S, 4, 0>(s, run, xs, start, y, first),
                (5.., 0) | (13.., _) => few::<R, S, 12, 0>(s, run, xs, start, y, first),
                (..=1, _) => few::<R, S, 1, 1>(s, run, xs, start, y, first),
                (2..=4, _) => few::<R, S, 4, 1>(s, run, xs, start, y, first),
                (5..=12, _) => few::<R, S, 12, 1>(s, run, xs, start, y, first),
            };
        }
        packed = &packed[(count * height + tail) * (k + 1)..];
    }
}

/// Blocks of one height, and perhaps a lower one behind them.
#[derive(Clone, Copy)]
struct Run<'a, R> {
    packed: &'a [R],
    height: usize,
    /// Vectors of rows of the blocks of that height.
    pieces: usize,
    /// The row where the lower block begins.
    tail: usize,
}

/// G vectors of rows of a run, from vector `first` on, the ones that lack being the last one again; and T = 0 or 1 of
/// the block behind it, the last one of `y`.
#[inline(always)]
fn few<R: Real, S: Simd, const G: usize, const T: usize>(
    s: S,
    run: Run<R>,
    xs: [&[R]; 3],
    start: Start,
    y: &mut [R],
    first: usize,
) -> usize {
    let Run { packed, height, pieces, tail } = run;
    let lanes = R::lanes::<S>();
    let k = xs[0].len() + xs[1].len() + xs[2].len();
    let block = (k + 1) * height;
    let first_sum = |bias: &[R], y: &[R]| match start {
        Start::Bias => R::vectors::<S>(&bias[..lanes])[0],
        Start::Add => R::load_part(s, y),
    };
    let mut weights = [&[][..]; G];
    let mut acc = [R::splat(s, R::ZERO); G];
    for g in 0..G {
        let (offset, rows) = place((first + g).min(pieces - 1), height, lanes, block);
        // All of one length, so that one comparison in the loop below serves for all.
        weights[g] = &packed[offset + height..][..block - 2 * height + lanes];
        acc[g] = first_sum(&packed[offset..], &y[rows]);
    }
    let tail_height = y.len() - tail;
    let mut tail_weights = [&[][..]; T];
    let mut tail_acc = [R::splat(s, R::ZERO); T];
    for t in 0..T {
        let own = &packed[tail * (k + 1)..];
        tail_weights[t] = &own[tail_height..][..(k - 1) * tail_height + lanes];
        tail_acc[t] = first_sum(own, &y[tail..]);
    }
    let (mut at, mut tail_at) = (0, 0);
    for x in xs {
        for &x in x {
            let x = R::splat(s, x);
            for g in 0..G {
                acc[g] = R::vfma(s, R::vectors::<S>(&weights[g][at..at + lanes])[0], x, acc[g]);
            }
            at += height;
            for t in 0..T {
                let w = R::vectors::<S>(&tail_weights[t][tail_at..tail_at + lanes])[0];
                tail_acc[t] = R::vfma(s, w, x, tail_acc[t]);
            }
            tail_at += tail_height;
        }
    }
    // By constant indices, so that the sums stay in registers until here.
    let mut out = [R::ZERO; 12 * SLACK];
    for g in 0..G {
        R::vectors_mut::<S>(&mut out[g * lanes..][..lanes])[0] = acc[g];
    }
    for (piece, out) in (first..pieces).zip(out[..G * lanes].chunks_exact(lanes)) {
        let y = &mut y[place(piece, height, lanes, block).1];
        y.copy_from_slice(&out[..y.len()]);
    }
    for sum in tail_acc {
        R::vectors_mut::<S>(&mut out[..lanes])[0] = sum;
        y[tail..].copy_from_slice(&out[..tail_height]);
    }
    G
}

/// Where the weights of a vector of rows begin, and which rows they are, in blocks of `height` that take `block` values.
#[inline(always)]
fn place(piece: usize, height: usize, lanes: usize, block: usize) -> (usize, Range<usize>) {
    let per_block = height.div_ceil(lanes);
    let (b, p) = (piece / per_block, piece % per_block * lanes);
    (b * block + p, b * height + p..b * height + height.min(p + lanes))
}
