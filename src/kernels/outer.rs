//! Weight gradients, all time steps and lanes at once: dW[r, c] += Σₜ Σₗ dy[t, r, l] x[t, c, l].
//!
//! A register tile of dW is kept over the whole sum and its lanes are added up once, at the end.

use pulp::{Simd, WithSimd};

use super::simd;
use crate::Real;

/// dW += Σ dy xᵀ.
pub struct Outer<'a, R> {
    /// `[T, rows, lanes]`
    pub dy: &'a [R],
    /// `[T, cols, lanes]`
    pub x: &'a [R],
    /// `[rows, cols]`
    pub dw: &'a mut [R],
    /// Columns of dW.
    pub cols: usize,
    /// A multiple of the quantum.
    pub lanes: usize,
}

/// Rows whose dy, over all steps, should stay in the second-level cache while the columns pass by.
const ROW_GROUP: usize = 64;

impl<R: Real> WithSimd for Outer<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { dy, x, dw, cols, lanes } = self;
        let rows = dw.len() / cols;
        let nv = lanes / R::lanes::<S>();
        let t = Tiles::<R, S> { s, dy: R::vectors::<S>(dy), x: R::vectors::<S>(x), rows, cols, nv };
        let wide = simd::registers() >= 32;
        for group in (0..rows).step_by(ROW_GROUP) {
            let end = rows.min(group + ROW_GROUP);
            let mut c = 0;
            while c < cols {
                let left = cols - c;
                c += if wide && left >= 6 {
                    t.column::<4, 6>(dw, group, end, c)
                } else if wide && left >= 4 {
                    t.column::<4, 4>(dw, group, end, c)
                } else if left >= 2 {
                    t.column::<4, 2>(dw, group, end, c)
                } else {
                    t.column::<4, 1>(dw, group, end, c)
                };
            }
        }
    }
}

struct Tiles<'a, R: Real, S: Simd> {
    s: S,
    dy: &'a [R::V<S>],
    x: &'a [R::V<S>],
    rows: usize,
    cols: usize,
    nv: usize,
}

impl<R: Real, S: Simd> Tiles<'_, R, S> {
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
        let Self { s, nv, .. } = *self;
        let mut acc = [[R::splat(s, R::ZERO); N]; M];
        let steps = self.dy.chunks_exact(self.rows * nv).zip(self.x.chunks_exact(self.cols * nv));
        for (dy, x) in steps {
            let dy = &dy[r * nv..][..M * nv];
            let x = &x[c * nv..][..N * nv];
            for v in 0..nv {
                let mut xs = [x[v]; N];
                for n in 1..N {
                    xs[n] = x[n * nv + v];
                }
                for m in 0..M {
                    let d = dy[m * nv + v];
                    for n in 0..N {
                        acc[m][n] = R::vfma(s, d, xs[n], acc[m][n]);
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
        let dw = &mut dw[r * self.cols + c..][..N];
        for n in 0..N {
            dw[n] += R::vsum(self.s, sums[n]);
        }
    }
}

/// db[r] += Σₜ Σₗ dy[t, r, l].
pub struct RowSums<'a, R> {
    /// `[T, rows, lanes]`
    pub dy: &'a [R],
    /// `[rows]`
    pub db: &'a mut [R],
    /// A multiple of the quantum.
    pub lanes: usize,
}

impl<R: Real> WithSimd for RowSums<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let nv = self.lanes / R::lanes::<S>();
        let size = self.db.len() * nv;
        let dy = R::vectors::<S>(self.dy);
        for (r, db) in self.db.iter_mut().enumerate() {
            let mut sum = R::splat(s, R::ZERO);
            for step in dy.chunks_exact(size) {
                for &d in &step[r * nv..][..nv] {
                    sum = R::vadd(s, sum, d);
                }
            }
            *db += R::vsum(s, sum);
        }
    }
}
