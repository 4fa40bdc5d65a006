//! The dense product, batch in the lanes: y[r] = b[r] + Σₖ W[r, k] x[k], each y[r] and x[k] a row of lanes.
//!
//! Weights are packed into blocks of 16 rows: a line of biases, then a line of weights for each k, so that the loop over
//! k reads one stream, and all that it reads of a cache line at once. With samples in the lanes, a few rows of a block fill
//! the registers, and each of their weights is broadcast to the lanes; for a single sample, rows are the lanes, and a line is
//! a few vectors. Every sum is one chain of fused multiply-adds: bias, then k ascending.
//!
//! The pointwise part of a cell is a kernel of its own. One fused with it would keep the gates of a unit in registers and
//! never store a pre-activation. Here they are stored once and read back from the first-level cache (18 kB for a step of
//! 35 units and 32 lanes); in return every layer shares this one product, in one order of summation, and a new cell is
//! its pointwise part alone.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::simd::Num;

/// A matrix as it is stored in the parameters, viewed directly or transposed.
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

    /// Only the columns `first .. first + cols`.
    pub fn columns(self, first: usize, cols: usize) -> Self {
        Self { data: &self.data[first..], cols, ..self }
    }

    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Only the rows `first .. first + rows`.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        let step = if self.transposed { 1 } else { self.stride };
        Self { data: &self.data[first * step..], rows, ..self }
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }
}

/// Where the accumulators of a product start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the packed bias (0 where none was packed).
    Bias,
    /// At the content of `y`.
    Add,
}

/// The number of values in a packed matrix of `rows` rows and `k` columns; the largest number if they are more, as they can be
/// on targets of 32 bits.
pub const fn packed_len(rows: usize, k: usize) -> usize {
    // The rows of the last block may need padding.
    rows.next_multiple_of(BLOCK).saturating_mul(k.saturating_add(1))
}

/// Rows of a block, and the length of its lines: a whole vector, or several, on every instruction set.
// A line of f32 is a cache line. Of longer ones, a tile of six rows would read a part of each, with which the parts that it
// does not need come to the first-level cache, too: with lines of 48 rows, 512 units took 1.6 times as long on a Zen 3.
pub const BLOCK: usize = 16;

/// The most columns of W that are processed at a time: x of 32 lanes is then 64 kB of f32, and a block of 16 rows 32 kB. All
/// tiles of the block read both. Sums are stored in between, and read back.
const DEPTH: usize = 512;

/// The highest register tile.
const HIGHEST: usize = 8;

/// Cuts a block of `height` rows into register tiles of (first row, height), of at most `most` rows.
// A tile of M rows and two vectors of lanes holds 2 M accumulators, two vectors of x and one broadcast weight: 19 of 32
// registers with 8 rows, half of a block, and 15 of 16 with 6. Two FMAs a cycle of four cycles' latency need eight sums under
// way. Six rows are just above that, so 16 rows are better cut into 6 + 5 + 5 than into 6 + 6 + 4. One vector of lanes needs
// eight rows; more would gain nothing, since each multiply-add has a broadcast of its own then, which takes as long. Three
// vectors, of 24 lanes, leave room for four rows: 12 accumulators, three vectors of x and a weight.
fn tiles(height: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let m = match height - row {
            0 => return None,
            left if most == HIGHEST => *[HIGHEST, 4, 3, 2, 1].iter().find(|&&m| m <= left)?,
            left => left.div_ceil(left.div_ceil(most)),
        };
        row += m;
        Some((row - m, m))
    })
}

/// Packs the matrices `parts`, side by side, and the sum of the `biases`.
#[inline(always)]
pub fn pack<R: Num>(parts: &[Matrix<R>], biases: &[&[R]], packed: &mut [R]) {
    let (rows, k) = (parts[0].rows, parts.iter().map(|part| part.cols).sum::<usize>());
    let blocks = packed[..packed_len(rows, k)].chunks_exact_mut(BLOCK * (k + 1));
    for (row, block) in (0..rows).step_by(BLOCK).zip(blocks) {
        if rows - row >= BLOCK {
            // Each line is written at once.
            pack_rows::<R, BLOCK>(parts, biases, row, block.chunks_exact_mut(BLOCK));
            continue;
        }
        for (first, m) in tiles(rows - row, HIGHEST) {
            let to = block.chunks_exact_mut(BLOCK).map(|line| &mut line[first..]);
            let row = row + first;
            match m {
                8 => pack_rows::<R, 8>(parts, biases, row, to),
                4 => pack_rows::<R, 4>(parts, biases, row, to),
                3 => pack_rows::<R, 3>(parts, biases, row, to),
                2 => pack_rows::<R, 2>(parts, biases, row, to),
                _ => pack_rows::<R, 1>(parts, biases, row, to),
            }
        }
    }
}

/// Packs M rows, beginning at `row`, to the beginning of each of `lines`.
#[inline(always)]
fn pack_rows<'a, R: Num, const M: usize>(
    parts: &[Matrix<R>],
    biases: &[&[R]],
    row: usize,
    mut lines: impl Iterator<Item = &'a mut [R]>,
) {
    // Rows are a constant number here, so that the copies below are straight-line code; the values of a line beyond the
    // last row are never read with samples in the lanes, and not stored for a single sample.
    let mut sums = [R::ZERO; M];
    for bias in biases {
        sums.iter_mut().zip(&bias[row..]).for_each(|(sum, b)| *sum += *b);
    }
    let Some(line) = lines.next() else { return };
    line[..M].copy_from_slice(&sums);
    for part in parts {
        let lines = lines.by_ref().take(part.cols);
        if part.transposed {
            for (k, line) in lines.enumerate() {
                line[..M].copy_from_slice(&part.data[k * part.stride + row..][..M]);
            }
        } else {
            let mut from = [&[][..]; M];
            for (m, from) in from.iter_mut().enumerate() {
                *from = &part.data[(row + m) * part.stride..][..part.cols];
            }
            for (k, line) in lines.enumerate() {
                let line = &mut line[..M];
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
    pub xs: &'a [&'a [R]; 3],
    /// Where sums start.
    pub start: Start,
    /// `[rows, lanes]`
    pub y: &'a mut [R],
    /// A multiple of the quantum.
    pub lanes: usize,
    /// Those of the lanes that are computed: whole vectors.
    pub part: Range<usize>,
}

impl<R: Num> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { packed, xs, start, y, lanes, part } = self;
        let k = xs.iter().map(|x| x.len()).sum::<usize>() / lanes;
        assert!(packed.len() >= packed_len(y.len() / lanes, k));
        // In between, the sums lie in y, so each of them is still one chain. A block is through before the next begins: the
        // pack is read from its beginning to its end, which is what fetches weights from beyond the second-level cache in time.
        let depth = k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1);
        for (y, block) in y.chunks_mut(BLOCK * lanes).zip(packed.chunks_exact(BLOCK * (k + 1))) {
            let (bias, w) = block.split_at(BLOCK);
            for first in (0..k.max(1)).step_by(depth) {
                let ks = first..k.min(first + depth);
                let xs = between(*xs, ks.start * lanes..ks.end * lanes);
                let start = if first == 0 { start } else { Start::Add };
                let block = Block { bias, w: &w[ks.start * BLOCK..ks.end * BLOCK], xs, start, lanes };
                block.all::<S>(s, part.clone(), y);
            }
        }
    }
}

/// The elements `range` of three slices that follow one another.
#[inline(always)]
fn between<R>(slices: [&[R]; 3], range: Range<usize>) -> [&[R]; 3] {
    let mut first = 0;
    slices.map(
        #[inline(always)]
        |slice| {
            let [start, end] = [range.start, range.end].map(|at| at.saturating_sub(first).min(slice.len()));
            first += slice.len();
            &slice[start..end]
        },
    )
}

/// What all tiles of a block read.
#[derive(Clone, Copy)]
struct Block<'a, R> {
    /// A line.
    bias: &'a [R],
    /// A line for each k.
    w: &'a [R],
    /// `[k, lanes]` each
    xs: [&'a [R]; 3],
    start: Start,
    lanes: usize,
}

impl<R: Num> Block<'_, R> {
    /// All rows, and the lanes `part`.
    #[inline(always)]
    fn all<S: Simd>(self, s: S, part: Range<usize>, y: &mut [R]) {
        // Two vectors at a time share each broadcast weight; or three, where one would be left over, and there are too few
        // registers for it to have many rows beside it.
        let (width, many) = (R::lanes::<S>(), S::REGISTER_COUNT >= 32);
        let pair = 2 * width;
        let rest = match part.len() % pair {
            0 => 0,
            _ if many || part.len() < pair => width,
            _ => 3 * width,
        };
        let pairs = part.start..part.end - rest;
        let height = y.len() / self.lanes;
        for (first, m) in tiles(height, if many { HIGHEST } else { 6 }) {
            for lane in pairs.clone().step_by(pair) {
                self.rows::<S, 2>(s, [first, m], lane, y);
            }
        }
        if rest == width {
            for (first, m) in tiles(height, HIGHEST) {
                self.rows::<S, 1>(s, [first, m], pairs.end, y);
            }
        } else if rest > 0 && !many {
            for (first, m) in tiles(height, 4) {
                self.rows::<S, 3>(s, [first, m], pairs.end, y);
            }
        }
    }

    /// M rows, beginning at `first`, and N vectors, beginning at `lane`.
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(self, s: S, [first, m]: [usize; 2], lane: usize, y: &mut [R]) {
        let y = &mut y[first * self.lanes..][..m * self.lanes];
        // The conditions are constants: tiles for which there are too few registers, or more than enough, are not compiled.
        let even = N == 2 && S::REGISTER_COUNT < 32;
        let high = N < 3 && !even;
        match m {
            8 if high => self.tile::<S, 8, N>(s, first, lane, y),
            6 if even => self.tile::<S, 6, N>(s, first, lane, y),
            5 if even => self.tile::<S, 5, N>(s, first, lane, y),
            4 => self.tile::<S, 4, N>(s, first, lane, y),
            3 => self.tile::<S, 3, N>(s, first, lane, y),
            2 => self.tile::<S, 2, N>(s, first, lane, y),
            _ => self.tile::<S, 1, N>(s, first, lane, y),
        }
    }

    /// M rows and N vectors, all in registers.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        clippy::manual_memcpy,
        reason = "constant bounds keep `acc` in registers"
    )]
    fn tile<S: Simd, const M: usize, const N: usize>(self, s: S, first: usize, lane: usize, y: &mut [R]) {
        let Self { bias, w, xs, start, lanes } = self;
        let width = R::lanes::<S>();
        let part = lane..lane + N * width;
        assert!(part.end <= lanes);
        let mut acc = [[R::splat(s, R::ZERO); N]; M];
        match start {
            Start::Bias => {
                let bias = &bias[first..][..M];
                for m in 0..M {
                    for n in 0..N {
                        acc[m][n] = R::splat(s, bias[m]);
                    }
                }
            }
            Start::Add => {
                let mut rows = y.chunks_exact(lanes);
                for m in 0..M {
                    let Some(row) = rows.next() else { return };
                    let y = R::vectors::<S>(&row[part.clone()]);
                    for n in 0..N {
                        acc[m][n] = y[n];
                    }
                }
            }
        }
        // Beside loads and multiply-adds, a loop should do little: what else there is takes from the multiply-adds. Iterators of
        // chunks would divide before it, or find the shorter of two lengths within it.
        assert!(first + M <= BLOCK);
        let mut w = w;
        for mut x in xs {
            while x.len() >= lanes {
                let (row, rest) = x.split_at(lanes);
                let (weights, later) = w.split_at(BLOCK);
                (x, w) = (rest, later);
                let (x, w) = (R::vectors::<S>(&row[part.clone()]), &weights[first..first + M]);
                for m in 0..M {
                    let weight = R::splat(s, w[m]);
                    for n in 0..N {
                        acc[m][n] = R::vfma(s, weight, x[n], acc[m][n]);
                    }
                }
            }
        }
        let mut rows = y.chunks_exact_mut(lanes);
        for m in 0..M {
            let Some(row) = rows.next() else { return };
            let y = R::vectors_mut::<S>(&mut row[part.clone()]);
            for n in 0..N {
                y[n] = acc[m][n];
            }
        }
    }
}
