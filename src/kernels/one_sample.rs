//! The dense product for one sample: rows lie in the lanes of a vector, side by side as the lines of a pack have them.
//! Each sum is the same chain as with samples in the lanes: bias, then k ascending.

use pulp::{Simd, WithSimd};

use super::product::{BLOCK, Start, packed_len};
use super::simd::Num;

/// The most vectors of sums that are under way together.
// Two fused multiply-adds a cycle of four cycles' latency need eight. Twelve, and a broadcast x, leave a few of 16 registers.
const MOST: usize = 12;

/// y = start + W x, where x is the values of `xs[0]`, then those of `xs[1]` and `xs[2]`.
pub struct OneSample<'a, R> {
    /// As [`pack`](super::product::pack) wrote it.
    pub packed: &'a [R],
    /// Any may be empty.
    pub xs: &'a [&'a [R]; 3],
    /// Where sums start.
    pub start: Start,
    /// As many values as the matrix has rows.
    pub y: &'a mut [R],
}

impl<R: Num> WithSimd for OneSample<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        if self.start == Start::Bias && self.xs.iter().all(|x| x.is_empty()) {
            // Without columns, the lines of all blocks are of biases alone.
            return self.y.copy_from_slice(&self.packed[..self.y.len()]);
        }
        match R::lanes::<S>() {
            16 => self.all::<S, 1>(s),
            8 => self.all::<S, 2>(s),
            4 => self.all::<S, 4>(s),
            2 => self.all::<S, 8>(s),
            _ => self.all::<S, BLOCK>(s),
        }
    }
}

impl<R: Num> OneSample<'_, R> {
    /// All rows, in groups of blocks that are as even as possible; V vectors are a block.
    #[inline(always)]
    fn all<S: Simd, const V: usize>(self, s: S) {
        let Self { packed, xs, start, y } = self;
        let columns = xs[0].len() + xs[1].len() + xs[2].len();
        assert!(packed.len() >= packed_len(y.len(), columns));
        let (mut first, mut left) = (0, y.len().div_ceil(BLOCK));
        while left > 0 {
            let n = left.div_ceil(left.div_ceil((MOST / V).max(1)));
            let rows = first..y.len().min(first + n * BLOCK);
            let packed = &packed[first * (columns + 1)..][..n * BLOCK * (columns + 1)];
            let group = Group { packed, columns, xs, start, y: &mut y[rows] };
            // Groups for which there are too few registers are not compiled.
            match n {
                12 if 12 * V <= MOST => group.sums::<S, V, 12>(s),
                11 if 11 * V <= MOST => group.sums::<S, V, 11>(s),
                10 if 10 * V <= MOST => group.sums::<S, V, 10>(s),
                9 if 9 * V <= MOST => group.sums::<S, V, 9>(s),
                8 if 8 * V <= MOST => group.sums::<S, V, 8>(s),
                7 if 7 * V <= MOST => group.sums::<S, V, 7>(s),
                6 if 6 * V <= MOST => group.sums::<S, V, 6>(s),
                5 if 5 * V <= MOST => group.sums::<S, V, 5>(s),
                4 if 4 * V <= MOST => group.sums::<S, V, 4>(s),
                3 if 3 * V <= MOST => group.sums::<S, V, 3>(s),
                2 if 2 * V <= MOST => group.sums::<S, V, 2>(s),
                _ => group.sums::<S, V, 1>(s),
            }
            (first, left) = (first + n * BLOCK, left - n);
        }
    }
}

/// Some blocks that follow one another.
struct Group<'a, R> {
    /// Theirs alone.
    packed: &'a [R],
    /// Columns of the whole matrix.
    columns: usize,
    xs: &'a [&'a [R]; 3],
    start: Start,
    /// As many values as they have rows.
    y: &'a mut [R],
}

impl<R: Num> Group<'_, R> {
    /// The sums of N blocks, all in registers; the last block need not be full.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "constant bounds keep `acc` in registers")]
    fn sums<S: Simd, const V: usize, const N: usize>(self, s: S) {
        let Self { packed, columns, xs, start, y } = self;
        let (lanes, len) = (R::lanes::<S>(), BLOCK * (columns + 1));
        let whole = y.len() / lanes;
        let mut acc = [[R::splat(s, R::ZERO); V]; N];
        let mut blocks = [&[][..]; N];
        for n in 0..N {
            let (lines, _) = R::vectors::<S>(&packed[n * len..][..len]).as_chunks::<V>();
            acc[n] = lines[0];
            blocks[n] = &lines[1..];
        }
        if start == Start::Add {
            for n in 0..N {
                for v in 0..V {
                    let (i, from) = (n * V + v, (n * V + v) * lanes);
                    if i < whole {
                        acc[n][v] = R::vectors::<S>(&y[from..][..lanes])[0];
                    } else if from < y.len() {
                        acc[n][v] = R::load_part(s, &y[from..]);
                    }
                }
            }
        }
        for x in xs {
            let mut lines = [&[][..]; N];
            for n in 0..N {
                (lines[n], blocks[n]) = blocks[n].split_at(x.len());
            }
            // Each block has as many lines here as there are x, so the compiler has no bounds to check.
            for (k, &x) in x.iter().enumerate() {
                let x = R::splat(s, x);
                for n in 0..N {
                    for v in 0..V {
                        acc[n][v] = R::vfma(s, lines[n][k][v], x, acc[n][v]);
                    }
                }
            }
        }
        for n in 0..N {
            for v in 0..V {
                let (i, from) = (n * V + v, (n * V + v) * lanes);
                if i < whole {
                    R::vectors_mut::<S>(&mut y[from..][..lanes])[0] = acc[n][v];
                } else if from < y.len() {
                    R::store_part(s, &mut y[from..], acc[n][v]);
                }
            }
        }
    }
}
