//! Weight gradients, many time steps and all lanes at once: dW[r, c] += Σₜ Σₗ dy[t, r, l] x[t, c, l].
//!
//! A tile of dW stays in registers over the whole sum; its lanes are added up once, at the end.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::simd;
use super::simd::Num;

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
}

/// dW += Σ dy xᵀ.
pub struct Outer<'a, R> {
    /// As many rows as dW has.
    pub dy: Band<'a, R>,
    /// As many rows as columns of dW are computed.
    pub x: Band<'a, R>,
    /// `[rows, stride]`
    pub dw: &'a mut [R],
    /// The length of a row of dW, and the first of the columns that are computed.
    pub columns: (usize, usize),
    /// A multiple of the quantum.
    pub lanes: usize,
}

/// The number of rows whose dy, over all steps, should stay in the second-level cache while the columns are processed.
// 64 rows of 32 lanes over 32 steps, the most that a pass back takes at a time, are 256 kB in f32: a quarter of a cache of
// 1 MB. Without groups, each tile of columns would read all rows' dy from further away.
const ROW_GROUP: usize = 64;

impl<R: Num> WithSimd for Outer<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // In pairs of vectors where the lanes allow: half the addresses to compute.
        if (self.lanes / R::lanes::<S>()).is_multiple_of(2) {
            OuterTiles::<R, S, 2>::new(s, &self).all(self.dw);
        } else {
            OuterTiles::<R, S, 1>::new(s, &self).all(self.dw);
        }
    }
}

/// Both factors as groups of P vectors.
struct OuterTiles<'a, R: Num, S: Simd, const P: usize> {
    s: S,
    /// The rows of every step, and the distance from step to step.
    dy: &'a [[R::V<S>; P]],
    dy_step: usize,
    x: &'a [[R::V<S>; P]],
    x_step: usize,
    rows: usize,
    cols: usize,
    columns: (usize, usize),
    /// Groups of a row of lanes.
    row: usize,
}

impl<'a, R: Num, S: Simd, const P: usize> OuterTiles<'a, R, S, P> {
    #[inline(always)]
    fn new(s: S, Outer { dy, x, columns, lanes, .. }: &Outer<'a, R>) -> Self {
        let row = lanes / R::lanes::<S>() / P;
        Self {
            s,
            dy: &R::vectors::<S>(dy.data).as_chunks().0[dy.rows.start * row..],
            dy_step: dy.height * row,
            x: &R::vectors::<S>(x.data).as_chunks().0[x.rows.start * row..],
            x_step: x.height * row,
            rows: dy.rows.len(),
            cols: x.rows.len(),
            columns: *columns,
            row,
        }
    }

    #[inline(always)]
    fn all(&self, dw: &mut [R]) {
        let rows = self.rows;
        // Four rows and six columns are 24 accumulators, six x and a dy: 31 of 32 registers. Of 16, four rows and two columns
        // leave some to spare; three columns would take all of them.
        let most = if simd::registers() >= 32 { 6 } else { 2 };
        for group in (0..rows).step_by(ROW_GROUP) {
            let end = rows.min(group + ROW_GROUP);
            let mut c = 0;
            while c < self.cols {
                // Columns in tiles as even as possible: a narrow tile has too few sums to hide their latency.
                let left = self.cols - c;
                c += match left.div_ceil(left.div_ceil(most)) {
                    6 => self.column::<4, 6>(dw, group, end, c),
                    5 => self.column::<4, 5>(dw, group, end, c),
                    4 => self.column::<4, 4>(dw, group, end, c),
                    3 => self.column::<4, 3>(dw, group, end, c),
                    2 => self.column::<4, 2>(dw, group, end, c),
                    _ => self.column::<4, 1>(dw, group, end, c),
                };
            }
        }
    }

    /// Columns `c .. c + N` of the rows `row .. end`; returns N.
    #[inline(always)]
    fn column<const M: usize, const N: usize>(
        &self,
        dw: &mut [R],
        row: usize,
        end: usize,
        c: usize,
    ) -> usize {
        let mut r = row;
        while r + M <= end {
            self.tile::<M, N>(dw, r, c);
            r += M;
        }
        while r < end {
            self.tile::<1, N>(dw, r, c);
            r += 1;
        }
        N
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(&self, dw: &mut [R], r: usize, c: usize) {
        let Self { s, row, .. } = *self;
        let mut acc = [[R::splat(s, R::ZERO); N]; M];
        // `chunks`, because both begin at their first row: what follows the rows of the last step may be missing.
        for (dy, x) in self.dy.chunks(self.dy_step).zip(self.x.chunks(self.x_step)) {
            let dy = &dy[r * row..][..M * row];
            let x = &x[c * row..][..N * row];
            for v in 0..row {
                for p in 0..P {
                    let mut xs = [x[v][p]; N];
                    for n in 1..N {
                        xs[n] = x[n * row + v][p];
                    }
                    for m in 0..M {
                        let d = dy[m * row + v][p];
                        for n in 0..N {
                            acc[m][n] = R::vfma(s, d, xs[n], acc[m][n]);
                        }
                    }
                }
            }
        }
        // By constant indices: were `acc` indexed by a variable here, it would live in memory in the loop above.
        self.add_row(dw, r, c, acc[0]);
        if M > 1 {
            self.add_row(dw, r + 1, c, acc[1]);
            self.add_row(dw, r + 2, c, acc[2]);
            self.add_row(dw, r + 3, c, acc[3]);
        }
    }

    #[inline(always)]
    fn add_row<const N: usize>(&self, dw: &mut [R], r: usize, c: usize, sums: [R::V<S>; N]) {
        let (stride, first) = self.columns;
        let dw = &mut dw[r * stride + first + c..][..N];
        for n in 0..N {
            dw[n] += R::vsum(self.s, sums[n]);
        }
    }
}

/// db[r] += Σₜ Σₗ dy[t, r, l].
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
    fn with_simd<S: Simd>(mut self, s: S) {
        // Eight rows side by side, so that no sum waits for its last addition.
        let rows = self.dy.rows.len();
        // An addition takes four cycles and two can begin in each: eight sums under way are enough.
        let eights = rows / 8 * 8;
        (0..eights).step_by(8).for_each(|r| self.sum::<S, 8>(s, r));
        (eights..rows).for_each(|r| self.sum::<S, 1>(s, r));
    }
}

impl<R: Num> RowSums<'_, R> {
    /// Sums M rows, beginning at `first`.
    #[inline(always)]
    fn sum<S: Simd, const M: usize>(&mut self, s: S, first: usize) {
        let Band { data, height, rows } = &self.dy;
        let nv = self.lanes / R::lanes::<S>();
        let mut sums = [R::splat(s, R::ZERO); M];
        for dy in R::vectors::<S>(data).chunks(height * nv) {
            let dy = &dy[(rows.start + first) * nv..][..M * nv];
            for v in 0..nv {
                for m in 0..M {
                    sums[m] = R::vadd(s, sums[m], dy[m * nv + v]);
                }
            }
        }
        let mut totals = [R::ZERO; M];
        for m in 0..M {
            totals[m] = R::vsum(s, sums[m]);
        }
        for db in &mut self.db {
            if !db.is_empty() {
                db[first..][..M].iter_mut().zip(totals).for_each(|(db, total)| *db += total);
            }
        }
    }
}
