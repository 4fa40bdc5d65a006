//! Weight gradients, many time steps and all lanes at once: dW[r, c] += Σₜ Σₗ dy[t, r, l] x[t, c, l].
//!
//! Each weight is one chain of fused multiply-adds, over the steps and, within a step, over the lanes. So the bits depend
//! neither on how wide a vector is nor on how the work is cut. Columns of dW lie in the vectors: x is transposed into a
//! panel of two vectors of columns, small enough for the first-level cache, which all rows then read, each with its dy
//! spread over the columns. The sums of a panel stay in a buffer until all steps are through.

use std::ops::Range;

use pulp::{Simd, WithSimd, bytemuck};

use super::simd::{Num, longest_vector};

/// Some rows of a sequence, at every step: `rows` of `[T, height, lanes]`.
#[derive(Clone, Debug)]
pub struct Band<'a, R> {
    data: &'a [R],
    height: usize,
    rows: Range<usize>,
}

impl<'a, R> Band<'a, R> {
    /// All rows of `[T, height, lanes]`.
    pub fn new(data: &'a [R], height: usize) -> Self {
        Self { data, height, rows: 0..height }
    }

    /// Only the steps `steps`.
    pub fn steps(self, steps: Range<usize>, lanes: usize) -> Self {
        let step = self.height * lanes;
        Self { data: &self.data[steps.start * step..steps.end * step], ..self }
    }

    /// Only the rows `rows`.
    pub fn rows(self, rows: Range<usize>) -> Self {
        Self { rows, ..self }
    }

    /// Some of these rows at step `t`.
    #[inline(always)]
    fn some(&self, t: usize, rows: Range<usize>, lanes: usize) -> &'a [R] {
        &self.data[(t * self.height + self.rows.start + rows.start) * lanes..][..rows.len() * lanes]
    }

    /// How many steps there are. What follows the rows of the last one may be missing.
    fn len(&self, lanes: usize) -> usize {
        self.data.len().div_ceil(self.height * lanes)
    }
}

impl<R> Band<'_, R> {
    /// No rows.
    pub const NONE: Self = Self { data: &[], height: 0, rows: 0..0 };
}

/// A matrix dW, and what it is the gradient of.
#[derive(Debug)]
pub struct Columns<'a, R> {
    /// Together as many rows as dW has columns.
    x: [Band<'a, R>; 2],
    /// `[rows, columns]`
    dw: &'a mut [R],
}

impl<'a, R> Columns<'a, R> {
    /// dW is `[rows, columns]`: as many columns as all of `x` have rows.
    pub fn new(x: [Band<'a, R>; 2], dw: &'a mut [R]) -> Self {
        Self { x, dw }
    }

    /// No columns.
    pub fn none() -> Self {
        Self { x: [Band::NONE; 2], dw: &mut [] }
    }

    fn len(&self) -> usize {
        self.x[0].rows.len() + self.x[1].rows.len()
    }
}

/// How many columns all of them have.
pub fn width<R>(columns: &[Columns<'_, R>]) -> usize {
    columns.iter().map(Columns::len).sum()
}

/// dW += Σ dy xᵀ.
pub struct Outer<'a, 'b, R> {
    /// As many rows as each dW has.
    pub dy: Band<'b, R>,
    /// Side by side, so that a panel is full where one ends and the next begins.
    pub columns: &'a mut [Columns<'b, R>],
    /// Those of all columns that are computed.
    pub part: Range<usize>,
    /// A multiple of the quantum.
    pub lanes: usize,
}

/// The most rows whose sums are held at a time. Each group of so many transposes x again.
const ROWS: usize = 1024;

/// So few rows have a buffer of their own.
const FEW: usize = 256;

/// The most lanes, of one step or of several, that a panel holds.
// All rows of a group read a panel before the next, so that dy, of these few steps, is read from the first row to the last: a
// longer panel would move sums less often, but jump from step to step within a few rows, which no prefetcher foresees. With
// 256 lanes, 512 units took 1.1 times as long on a Zen 3.
const DEPTH: usize = 128;

/// Vectors side by side in a panel.
const WIDTH: usize = 2;

/// Begins at a cache line, so that no vector straddles two.
#[repr(align(64))]
struct Lines<T>(T);

/// The most columns of a panel, of the longest vectors.
const MOST: usize = 32;

impl<R: Num> WithSimd for Outer<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let zero = [R::splat(s, R::ZERO); WIDTH];
        let (part, width, all) = (self.part.clone(), R::lanes::<S>(), self.dy.rows.len());
        let mut panel = Lines([zero; DEPTH]);
        let (mut few, mut many);
        // Filling the larger buffer takes 0.7 µs with vectors of 256 bits and 1.5 with 512, of some 40 for 8 units.
        let sums = if all <= FEW {
            few = Lines([zero; FEW]);
            few.0.as_flattened_mut()
        } else {
            many = Lines([zero; ROWS]);
            many.0.as_flattened_mut()
        };
        let group = all.div_ceil(all.div_ceil(ROWS).max(1)).max(1);
        for first in (0..all).step_by(group) {
            let rows = first..all.min(first + group);
            for c in part.clone().step_by(WIDTH * width) {
                let columns = c..part.end.min(c + WIDTH * width);
                let panel = panel.0.as_flattened_mut();
                if columns.len() > width {
                    self.panel::<S, 2>(s, [rows.clone(), columns], sums, panel);
                } else {
                    self.panel::<S, 1>(s, [rows.clone(), columns], sums, panel);
                }
            }
        }
    }
}

impl<R: Num> Outer<'_, '_, R> {
    /// All steps of some rows and of the columns that N vectors hold.
    #[inline(always)]
    fn panel<S: Simd, const N: usize>(
        &mut self,
        s: S,
        [rows, columns]: [Range<usize>; 2],
        sums: &mut [R::V<S>],
        panel: &mut [R::V<S>],
    ) {
        let (sums, panel) = (&mut sums.as_chunks_mut::<N>().0[..rows.len()], panel.as_chunks_mut::<N>().0);
        self.each_row(&rows, &columns, bytemuck::cast_slice_mut(sums.as_flattened_mut()), |dw, sums| {
            copy::<R, S, N>(dw, sums);
        });
        let (lanes, steps) = (self.lanes, self.dy.len(self.lanes));
        let block = lanes.min(DEPTH);
        let group = steps.div_ceil(steps.div_ceil(DEPTH / block));
        for first in (0..steps).step_by(group) {
            let steps = first..steps.min(first + group);
            for lane in (0..lanes).step_by(block) {
                let lanes = lane..lanes.min(lane + block);
                let panel = &mut panel[..steps.len() * lanes.len()];
                for (t, to) in steps.clone().zip(panel.chunks_exact_mut(lanes.len())) {
                    transpose::<R, S, N>(s, self.x_rows(t, &columns, &lanes), to);
                }
                let piece = Piece { rows: rows.clone(), first, lanes, panel };
                match self.lanes {
                    32 => self.all_tiles::<S, N, 32>(s, piece, sums),
                    16 => self.all_tiles::<S, N, 16>(s, piece, sums),
                    _ => self.all_tiles::<S, N, 0>(s, piece, sums),
                }
            }
        }
        self.each_row(&rows, &columns, bytemuck::cast_slice_mut(sums.as_flattened_mut()), |dw, sums| {
            copy::<R, S, N>(sums, dw);
        });
    }

    /// Calls `f` for each of the rows, with the part of each dW that is among `columns`, and that of `sums`, whole vectors
    /// a row.
    #[inline(always)]
    fn each_row(
        &mut self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        sums: &mut [R],
        f: impl Fn(&mut [R], &mut [R]),
    ) {
        let width = sums.len() / rows.len();
        let mut first = 0;
        for all in &mut *self.columns {
            let stride = all.len();
            let own = columns.start.max(first)..columns.end.min(first + stride);
            if !own.is_empty() {
                let (from, to, len) = (own.start - first, own.start - columns.start, own.len());
                let dw = all.dw.chunks_exact_mut(stride).skip(rows.start);
                for (dw, sums) in dw.zip(sums.chunks_exact_mut(width)) {
                    f(&mut dw[from..][..len], &mut sums[to..][..len]);
                }
            }
            first += stride;
        }
    }

    /// The rows of x at step `t` that are `columns`. Where there are fewer than a panel holds, the first stands for the
    /// others, whose sums nobody reads.
    #[inline(always)]
    fn x_rows<'s>(&'s self, t: usize, columns: &Range<usize>, lanes: &Range<usize>) -> [&'s [R]; MOST] {
        let mut rows = [&[][..]; MOST];
        let (mut first, mut count) = (0, 0);
        for x in self.columns.iter().flat_map(|columns| &columns.x) {
            let own = columns.start.max(first)..columns.end.min(first + x.rows.len());
            if !own.is_empty() {
                let own = own.start - first..own.end - first;
                let some = &mut rows[count..count + own.len()];
                for (to, row) in some.iter_mut().zip(x.some(t, own, self.lanes).chunks_exact(self.lanes)) {
                    *to = &row[lanes.clone()];
                }
                count += some.len();
            }
            first += x.rows.len();
        }
        let (some, rest) = rows.split_at_mut(count);
        rest.fill(some[0]);
        rows
    }

    /// All rows of a piece, in tiles that fill the registers. There are L lanes, or any number if L is 0.
    // With the usual numbers of lanes as constants, rows of dy are constant distances apart and need one address together.
    // Otherwise each has its own, and those of twelve rows are more than there are registers for.
    #[inline(always)]
    fn all_tiles<S: Simd, const N: usize, const L: usize>(
        &self,
        s: S,
        piece: Piece<'_, R::V<S>, N>,
        mut sums: &mut [[R::V<S>; N]],
    ) {
        // Twelve rows of two vectors are 24 sums, two vectors of x and one dy: 27 of 32 registers. Six are 15 of 16, and
        // so are twelve of one vector.
        let wide = N < WIDTH || S::REGISTER_COUNT >= 32;
        let mut r = piece.rows.start;
        while r < piece.rows.end {
            let left = piece.rows.end - r;
            // As even as possible: a low tile has too few sums to hide their latency.
            let m = if wide && left >= 12 { 12 } else { left.div_ceil(left.div_ceil(6)) };
            let (now, later) = sums.split_at_mut(m);
            match m {
                12 if wide => self.tile::<S, 12, N, L>(s, r, &piece, now),
                6 => self.tile::<S, 6, N, L>(s, r, &piece, now),
                5 => self.tile::<S, 5, N, L>(s, r, &piece, now),
                4 => self.tile::<S, 4, N, L>(s, r, &piece, now),
                3 => self.tile::<S, 3, N, L>(s, r, &piece, now),
                2 => self.tile::<S, 2, N, L>(s, r, &piece, now),
                _ => self.tile::<S, 1, N, L>(s, r, &piece, now),
            }
            (r, sums) = (r + m, later);
        }
    }

    /// M rows and N vectors of columns, all in registers.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize, const L: usize>(
        &self,
        s: S,
        r: usize,
        Piece { first, lanes, panel, .. }: &Piece<'_, R::V<S>, N>,
        sums: &mut [[R::V<S>; N]],
    ) {
        let mut acc = [[R::splat(s, R::ZERO); N]; M];
        for m in 0..M {
            for n in 0..N {
                acc[m][n] = sums[m][n];
            }
        }
        let (stride, lanes) = if L == 0 { (self.lanes, lanes.clone()) } else { (L, 0..L) };
        for (t, x) in (*first..).zip(panel.chunks_exact(lanes.len())) {
            // In eights, a constant, so that one check serves for eight lanes: all multiples of the quantum are of 8, too.
            let (x, _) = x.as_chunks::<8>();
            let all = self.dy.some(t, r..r + M, stride);
            let mut dy = [&[][..]; M];
            for m in 0..M {
                dy[m] = &all[m * stride..][lanes.clone()].as_chunks::<8>().0[..x.len()];
            }
            for (i, x) in x.iter().enumerate() {
                for l in 0..8 {
                    for m in 0..M {
                        let d = R::splat(s, dy[m][i][l]);
                        for n in 0..N {
                            acc[m][n] = R::vfma(s, d, x[l][n], acc[m][n]);
                        }
                    }
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                sums[m][n] = acc[m][n];
            }
        }
    }
}

/// Copies the columns of a row that are in a panel, N whole vectors or fewer values.
#[inline(always)]
fn copy<R: Num, S: Simd, const N: usize>(from: &[R], to: &mut [R]) {
    if [from.len(), to.len()] == [N * R::lanes::<S>(); 2] {
        // A constant number: a call that copies any number takes longer than the copy.
        R::vectors_mut::<S>(to)[..N].copy_from_slice(&R::vectors::<S>(from)[..N]);
    } else {
        to.copy_from_slice(from);
    }
}

/// What one panel serves.
struct Piece<'p, V, const N: usize> {
    /// The rows of dW.
    rows: Range<usize>,
    /// The first step.
    first: usize,
    /// The lanes of each step.
    lanes: Range<usize>,
    /// x of each step and lane, N vectors of columns.
    panel: &'p [[V; N]],
}

/// to[l] = x[..][l], N vectors of columns for each lane.
#[inline(always)]
fn transpose<R: Num, S: Simd, const N: usize>(s: S, x: [&[R]; MOST], to: &mut [[R::V<S>; N]]) {
    let width = R::lanes::<S>();
    match R::QUAD {
        _ if width == 1 => {
            for (l, to) in to.iter_mut().enumerate() {
                for n in 0..N {
                    to[n] = R::splat(s, x[n][l]);
                }
            }
        }
        4 => transpose_quads::<R, S, N, 4>(s, x, to),
        _ => transpose_quads::<R, S, N, 2>(s, x, to),
    }
}

/// As above, Q lanes at a time: as many as 128 bits hold.
// A vector is first put together from pieces of 128 bits, each of another row, which are loaded to where they belong; what
// is left is to transpose within pieces, and no instruction set needs more than two operations for a vector of that.
#[inline(always)]
fn transpose_quads<R: Num, S: Simd, const N: usize, const Q: usize>(
    s: S,
    x: [&[R]; MOST],
    to: &mut [[R::V<S>; N]],
) {
    let width = R::lanes::<S>();
    let (to, _) = to.as_chunks_mut::<Q>();
    for n in 0..N {
        // Each cut to the same length here, where the compiler sees it, so that nothing is left to check in the loop.
        let mut rows = [&[][..]; MOST / WIDTH];
        for c in 0..width {
            rows[c] = &x[n * width + c].as_chunks::<Q>().0[..to.len()];
        }
        for (i, to) in to.iter_mut().enumerate() {
            let mut pieces = [[R::ZERO; MOST / WIDTH]; 4];
            for q in 0..width / Q {
                for j in 0..Q {
                    pieces[j][q * Q..][..Q].copy_from_slice(&rows[q * Q + j][i]);
                }
            }
            let mut vectors = [R::splat(s, R::ZERO); 4];
            for j in 0..Q {
                vectors[j] = R::vectors::<S>(&pieces[j][..width])[0];
            }
            let vectors = R::transpose(s, vectors);
            for j in 0..Q {
                to[j][n] = vectors[j];
            }
        }
    }
}

/// db[r] += Σₜ Σₗ dy[t, r, l].
///
/// A row has as many sums as the longest vector has lanes, whatever the width of a vector: lane l of a step belongs to sum
/// l modulo their number, and [`sum_by_halves`] adds these up.
pub struct RowSums<'a, R> {
    /// The rows that are summed.
    pub dy: Band<'a, R>,
    /// `[rows]` both, or empty
    pub db: [&'a mut [R]; 2],
    /// A multiple of the quantum.
    pub lanes: usize,
}

impl<R: Num> WithSimd for RowSums<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // Eight sums side by side, so that none waits for its last addition; or as many as a row has.
        match longest_vector::<R>() / R::lanes::<S>() {
            1 => self.all::<S, 8, 1>(s),
            2 => self.all::<S, 4, 2>(s),
            4 => self.all::<S, 2, 4>(s),
            8 => self.all::<S, 1, 8>(s),
            _ => self.all::<S, 1, 16>(s),
        }
    }
}

impl<R: Num> RowSums<'_, R> {
    /// M rows at a time, with N vectors of sums each.
    #[inline(always)]
    fn all<S: Simd, const M: usize, const N: usize>(mut self, s: S) {
        let rows = self.dy.rows.len();
        let whole = rows / M * M;
        (0..whole).step_by(M).for_each(|r| self.rows::<S, M, N>(s, r));
        (whole..rows).for_each(|r| self.rows::<S, 1, N>(s, r));
    }

    /// Sums M rows, beginning at `first`.
    #[inline(always)]
    fn rows<S: Simd, const M: usize, const N: usize>(&mut self, s: S, first: usize) {
        let (mut sums, row) = ([[R::splat(s, R::ZERO); N]; M], self.lanes / R::lanes::<S>());
        for t in 0..self.dy.len(self.lanes) {
            let dy = R::vectors::<S>(self.dy.some(t, first..first + M, self.lanes));
            for m in 0..M {
                let (whole, half) = dy[m * row..][..row].as_chunks::<N>();
                for dy in whole {
                    for n in 0..N {
                        sums[m][n] = R::vadd(s, sums[m][n], dy[n]);
                    }
                }
                // The lanes are a multiple of the quantum, half of the longest vector.
                if !half.is_empty() {
                    for n in 0..N / 2 {
                        sums[m][n] = R::vadd(s, sums[m][n], half[n]);
                    }
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            let sum = sum_by_halves(bytemuck::cast_slice(sums));
            for db in self.db.iter_mut().filter(|db| !db.is_empty()) {
                db[first + m] += sum;
            }
        }
    }
}

/// The sum of a quantum of values: the second half is added to the first, until one is left.
#[inline(always)]
pub fn sum_by_halves<R: Num>(values: &[R]) -> R {
    let mut sums = [R::ZERO; 16];
    sums[..values.len()].copy_from_slice(values);
    let mut len = values.len() / 2;
    while len > 0 {
        for i in 0..len {
            let other = sums[len + i];
            sums[i] += other;
        }
        len /= 2;
    }
    sums[0]
}
