//! The product for one sample, of a matrix many of whose blocks are zero: 16 rows of one column each, as
//! [`Blocks`](crate::prune::Blocks) prunes them.
//!
//! Only the other blocks are stored, as vectors of rows, with the columns that they multiply. Each sum is the chain of the
//! dense product without what a zero adds to it, so the same bits, if all x are finite; but for the sign of a sum that is 0
//! because it underflowed.
//!
//! Blocks are copied out of the pack, although it has each of them in a cache line of its own: left there, with columns
//! alone listed, they are read in no order that a processor foresees, and half of them take longer than all.
//!
//! Source: Kalchbrenner et al. 2018, "Efficient neural audio synthesis", for blocks of 16 × 1.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Aligned;
use super::product::{BLOCK, Start};
use super::simd::Num;

/// Rows of a block, as of a block of the pack.
pub const HEIGHT: usize = BLOCK;

/// So many blocks, one below another, are under way together: a bundle. With two vectors each, as of f32 on AVX2, that is
/// the eight sums that hide the latency of an addition.
const GROUPS: usize = 4;

/// Rows of a bundle.
const ROWS: usize = GROUPS * HEIGHT;

/// The fewest weights of which skipping some was measured to pay: those of an LSTM of 32 units that reads 32 values.
const FEWEST: usize = 1 << 13;

/// Blocks of a matrix that are not all 0, bundle by bundle: those of x, then those of h.
#[derive(Clone, Debug)]
pub struct Sparse<R> {
    /// Those of the rows, and 0 up to a whole bundle.
    biases: Aligned<R>,
    /// Rounds of a bundle: a block of each of its groups. A group that has fewer blocks than another has zeros.
    values: Aligned<R>,
    /// The column of each.
    columns: Vec<[u32; GROUPS]>,
    /// How many rounds each bundle has, of x and of h.
    rounds: Vec<[usize; 2]>,
}

impl<R: Num> Sparse<R> {
    /// The blocks of a matrix that [`pack`](super::product::pack) wrote, of so many rows and columns for x and h; `None`
    /// where the dense product is about as fast, or faster: above three quarters (`docs/performance.md`).
    pub fn new(packed: &[R], rows: usize, columns: [usize; 2]) -> Option<Self> {
        let pack = Pack { packed, rows, columns };
        let (lists, weights) = (pack.lists(), rows * (columns[0] + columns[1]));
        let stored = ROWS * lists.iter().flatten().map(most).sum::<usize>();
        (weights >= FEWEST && 4 * stored <= 3 * weights).then(|| Self::copy(&pack, &lists))
    }

    /// Copies the blocks of these columns.
    fn copy(pack: &Pack<'_, R>, lists: &[[Lists; 2]]) -> Self {
        let rounds: Vec<_> = lists.iter().map(|parts| parts.each_ref().map(most)).collect();
        let stored = rounds.as_flattened().iter().sum::<usize>();
        let (mut biases, mut values) = (Aligned::zeros(lists.len() * ROWS), Aligned::zeros(stored * ROWS));
        for (group, to) in biases.chunks_exact_mut(HEIGHT).take(pack.rows.div_ceil(HEIGHT)).enumerate() {
            to.copy_from_slice(pack.line(group, 0));
        }
        let mut columns = vec![[0; GROUPS]; stored];
        let mut room = values.chunks_exact_mut(ROWS).zip(&mut columns);
        for (bundle, parts) in lists.iter().enumerate() {
            for (lists, before) in parts.iter().zip([0, pack.columns[0]]) {
                for (round, (values, columns)) in room.by_ref().take(most(lists)).enumerate() {
                    for (g, list) in lists.iter().enumerate().filter(|(_, list)| round < list.len()) {
                        let block = pack.line(bundle * GROUPS + g, 1 + list[round]);
                        values[g * HEIGHT..][..HEIGHT].copy_from_slice(block);
                        columns[g] = (list[round] - before) as u32;
                    }
                }
            }
        }
        Self { biases, values, columns, rounds }
    }
}

/// For each group of a bundle, the columns whose blocks are not all 0.
type Lists = [Vec<usize>; GROUPS];

/// The length of the longest.
fn most(lists: &Lists) -> usize {
    lists.iter().map(Vec::len).max().unwrap_or(0)
}

/// What [`pack`](super::product::pack) wrote for a matrix.
struct Pack<'a, R> {
    packed: &'a [R],
    rows: usize,
    /// For x, then for h.
    columns: [usize; 2],
}

impl<'a, R: Num> Pack<'a, R> {
    /// A line of a group of rows: of biases, or of a column's weights. Rows beyond the last are 0.
    fn line(&self, group: usize, i: usize) -> &'a [R] {
        let lines = self.columns[0] + self.columns[1] + 1;
        &self.packed[(group * lines + i) * HEIGHT..][..HEIGHT]
    }

    /// Those of each bundle, for x and for h.
    fn lists(&self) -> Vec<[Lists; 2]> {
        let [x, h] = self.columns;
        let list = |group: usize, part: Range<usize>| -> Vec<usize> {
            // The last bundle may have fewer groups.
            let part = if group * HEIGHT < self.rows { part } else { 0..0 };
            part.filter(|column| self.line(group, 1 + column).iter().any(|w| *w != R::ZERO)).collect()
        };
        let lists = |bundle| {
            [0..x, x..x + h].map(|part| std::array::from_fn(|g| list(bundle * GROUPS + g, part.clone())))
        };
        (0..self.rows.div_ceil(ROWS)).map(lists).collect()
    }
}

/// y = start + W x + U h
pub struct SparseProduct<'a, R> {
    /// W and U.
    pub sparse: &'a Sparse<R>,
    /// x and h, all finite.
    pub xs: [&'a [R]; 2],
    /// Where sums start.
    pub start: Start,
    /// As many values as the matrix has rows.
    pub y: &'a mut [R],
}

impl<R: Num> WithSimd for SparseProduct<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        match R::lanes::<S>() {
            16 => self.add_all::<S, 1, 4>(s),
            8 => self.add_all::<S, 2, 4>(s),
            4 => self.add_all::<S, 4, 2>(s),
            2 => self.add_all::<S, 8, 1>(s),
            _ => self.add_all::<S, 16, 1>(s),
        }
    }
}

impl<R: Num> SparseProduct<'_, R> {
    /// With V vectors a block, and N groups of a bundle at a time, whose sums are all in registers.
    #[inline(always)]
    fn add_all<S: Simd, const V: usize, const N: usize>(self, s: S) {
        let Sparse { biases, values, columns, rounds } = self.sparse;
        let (mut values, mut columns) = (&values[..], &columns[..]);
        let bundles = self.y.chunks_mut(ROWS).zip(biases.chunks_exact(ROWS)).zip(rounds);
        for ((y, biases), rounds) in bundles {
            let mut sums = [R::ZERO; ROWS];
            match self.start {
                Start::Bias => sums.copy_from_slice(biases),
                Start::Add => sums[..y.len()].copy_from_slice(y),
            }
            for (x, n) in self.xs.into_iter().zip(rounds) {
                let (own, more) = values.split_at(n * ROWS);
                let (own_columns, more_columns) = columns.split_at(*n);
                (values, columns) = (more, more_columns);
                for first in (0..GROUPS).step_by(N) {
                    let sums = &mut sums[first * HEIGHT..][..N * HEIGHT];
                    add::<R, S, V, N>(s, sums, (own, own_columns, first), x);
                }
            }
            y.copy_from_slice(&sums[..y.len()]);
        }
    }
}

/// Adds the products of all rounds and their x to the sums of N groups, the first of which is `first`.
#[inline(always)]
fn add<R: Num, S: Simd, const V: usize, const N: usize>(
    s: S,
    sums: &mut [R],
    (values, columns, first): (&[R], &[[u32; GROUPS]], usize),
    x: &[R],
) {
    let sums = R::vectors_mut::<S>(sums);
    let mut acc = [[R::splat(s, R::ZERO); V]; N];
    for g in 0..N {
        for v in 0..V {
            acc[g][v] = sums[g * V + v];
        }
    }
    for (w, columns) in values.chunks_exact(ROWS).zip(columns) {
        let w = R::vectors::<S>(&w[first * HEIGHT..][..N * HEIGHT]);
        for g in 0..N {
            let x = R::splat(s, x[columns[first + g] as usize]);
            for v in 0..V {
                acc[g][v] = R::vfma(s, w[g * V + v], x, acc[g][v]);
            }
        }
    }
    for g in 0..N {
        for v in 0..V {
            sums[g * V + v] = acc[g][v];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::one_sample::OneSample;
    use super::super::tests::values;
    use super::super::{Kernels, Matrix, packed_len};
    use super::*;
    use crate::SimdLevel;

    /// A matrix of which about this share of blocks is not 0, packed beside its biases.
    fn packed<R: Kernels>(rows: usize, [x, h]: [usize; 2], share: f64) -> Vec<R> {
        let keep: Vec<f64> = values::<f64>(rows.div_ceil(HEIGHT) * (x + h), 1);
        let weights = |part: Range<usize>| -> Vec<R> {
            let kept = |r: usize, c: usize| keep[r / HEIGHT * (x + h) + c] < 2.0 * share - 1.0;
            let places = (0..rows).flat_map(|r| part.clone().map(move |c| (r, c)));
            let all = places.zip(values::<R>(rows * part.len(), 2 + part.start as u64));
            all.map(|((r, c), w)| if kept(r, c) { w } else { R::ZERO }).collect()
        };
        let (w, u) = (weights(0..x), weights(x..x + h));
        let mut packed = vec![R::ZERO; packed_len(rows, x + h)];
        R::pack(&[Matrix::new(&w, rows, x), Matrix::new(&u, rows, h)], &[&values::<R>(rows, 3)], &mut packed);
        packed
    }

    /// On every level, from the biases and from what y holds.
    fn equals_dense<R: Kernels>(rows: usize, columns: [usize; 2], share: f64) {
        let packed = packed::<R>(rows, columns, share);
        let pack = Pack { packed: &packed, rows, columns };
        let sparse = &Sparse::copy(&pack, &pack.lists());
        let [x, h] = [4, 5].map(|salt| values::<R>(columns[salt as usize - 4], salt));
        let x: Vec<R> = x.iter().enumerate().map(|(i, x)| [*x, R::ZERO, -R::ZERO][i % 3]).collect();
        let xs = [&x[..], &h[..]];
        for arch in SimdLevel::available().into_iter().filter_map(SimdLevel::arch) {
            for start in [Start::Bias, Start::Add] {
                let [mut found, mut expected] = [(); 2].map(|()| values::<R>(rows, 6));
                arch.dispatch(SparseProduct { sparse, xs, start, y: &mut found });
                let xs = &[xs[0], xs[1], &[]];
                arch.dispatch(OneSample { packed: &packed, xs, start, y: &mut expected });
                let bits = |y: &[R]| y.iter().map(|y| y.to_f64().to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    bits(&found),
                    bits(&expected),
                    "{rows} × {columns:?}, {share}, {start:?}, {arch:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_dense_product_to_the_bit(
            rows in 1usize..300,
            x in 0usize..70,
            h in 0usize..70,
            share in 0.0..1.0,
        ) {
            equals_dense::<f32>(rows, [x, h], share);
            equals_dense::<f64>(rows, [x, h], share);
        }
    }

    #[test]
    fn is_chosen_where_it_pays() {
        let chosen =
            |rows, columns, share| Sparse::new(&packed::<f32>(rows, columns, share), rows, columns).is_some();
        // Groups of a bundle are as long as the longest, so that what is stored is a little more.
        let shares = [0.0, 0.3, 0.6, 0.8, 1.0];
        assert_eq!(shares.map(|share| chosen(512, [128, 128], share)), [true, true, true, false, false]);
        assert!(chosen(512, [0, 128], 0.5) && chosen(512, [16, 0], 0.3));
        assert!(!chosen(64, [60, 60], 0.1), "too small");
        assert!(!chosen(0, [100, 100], 0.1) && !chosen(100, [0, 0], 0.1), "empty");
    }
}
