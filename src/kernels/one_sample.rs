//! The dense product for one sample: rows lie in the lanes of a vector, side by side as the lines of a pack have them.
//! Each sum is the same chain as with samples in the lanes: bias, then k ascending.

use pulp::{Simd, WithSimd};

use super::product::{BLOCK, Start, line};
use super::simd::Num;

/// The most vectors of sums that are under way together.
// Two fused multiply-adds a cycle of four cycles' latency need eight. Twelve, and a broadcast x, leave a few of 16
// registers; and they are whole blocks with f32 on AVX2 (two) and AVX-512 (four).
const MOST: usize = 12;

/// The most blocks that so many vectors are cut out of: with the longest vectors, four.
const BLOCKS: usize = 4;

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
        let Self { packed, xs, start, y } = self;
        one_sample::<R, S>(s, packed, xs, start, y);
    }
}

#[inline(always)]
fn one_sample<R: Num, S: Simd>(s: S, packed: &[R], xs: &[&[R]; 3], start: Start, y: &mut [R]) {
    let (rows, mut first) = (y.len(), 0);
    if start == Start::Bias && xs.iter().all(|x| x.is_empty()) {
        // The lines of all blocks are of biases alone.
        return y.copy_from_slice(&packed[..rows]);
    }
    for y in y.chunks_mut(MOST * R::lanes::<S>()) {
        let group = Group { packed, first, rows, xs, start };
        first += y.len();
        match y.len().div_ceil(R::lanes::<S>()) {
            1 => sums::<R, S, 1>(s, group, y),
            2 => sums::<R, S, 2>(s, group, y),
            3 => sums::<R, S, 3>(s, group, y),
            4 => sums::<R, S, 4>(s, group, y),
            5 => sums::<R, S, 5>(s, group, y),
            6 => sums::<R, S, 6>(s, group, y),
            7 => sums::<R, S, 7>(s, group, y),
            8 => sums::<R, S, 8>(s, group, y),
            9 => sums::<R, S, 9>(s, group, y),
            10 => sums::<R, S, 10>(s, group, y),
            11 => sums::<R, S, 11>(s, group, y),
            _ => sums::<R, S, MOST>(s, group, y),
        }
    }
}

/// What the sums of some rows that follow one another read.
#[derive(Clone, Copy)]
struct Group<'a, R> {
    /// The whole pack.
    packed: &'a [R],
    /// The first of the rows.
    first: usize,
    /// Rows of the whole pack.
    rows: usize,
    xs: &'a [&'a [R]; 3],
    start: Start,
}

/// The sums of V vectors of rows, all in registers; the last vector need not be full.
#[inline(always)]
#[allow(clippy::manual_memcpy, reason = "constant bounds keep `acc` in registers")]
fn sums<R: Num, S: Simd, const V: usize>(s: S, group: Group<'_, R>, y: &mut [R]) {
    let Group { packed, first, rows, xs, start } = group;
    let k = xs[0].len() + xs[1].len() + xs[2].len();
    let lanes = R::lanes::<S>();
    // Vectors out of each block. Where a block has more than there are, a group is some of one block, else it begins with
    // a block; so the compiler knows which block a vector is in, and how long the lines of each block are.
    let (block, each) = (BLOCK / lanes, (BLOCK / lanes).min(MOST));
    let skipped = if block > MOST { first % BLOCK } else { 0 };
    let line = |b: usize| match block > MOST {
        true => line(BLOCK.min(rows - (first - skipped))),
        false => line(each.min(V - b * each) * lanes),
    };
    let mut weights = [&[][..]; BLOCKS];
    let mut acc = [R::splat(s, R::ZERO); V];
    for b in 0..V.div_ceil(each) {
        let row = first - skipped + b * BLOCK;
        let (bias, rest) = packed[row * (k + 1)..][..line(b) * (k + 1)].split_at(line(b));
        for v in 0..each.min(V - b * each) {
            acc[b * each + v] = R::vectors::<S>(&bias[skipped + v * lanes..][..lanes])[0];
        }
        weights[b] = rest;
    }
    let whole = y.len() / lanes;
    if start == Start::Add {
        for v in 0..V {
            let y = &y[v * lanes..];
            acc[v] = if v < whole { R::vectors::<S>(&y[..lanes])[0] } else { R::load_part(s, y) };
        }
    }
    for &x in xs.iter().filter(|x| !x.is_empty()) {
        let (mut lines, mut len) = ([&[][..]; BLOCKS], [0; BLOCKS]);
        for b in 0..V.div_ceil(each) {
            len[b] = line(b);
            (lines[b], weights[b]) = weights[b].split_at(x.len() * len[b]);
        }
        add_all::<R, S, V>(s, &mut acc, lines, (len, skipped), x);
    }
    if whole == V {
        let y = R::vectors_mut::<S>(&mut y[..V * lanes]);
        for v in 0..V {
            y[v] = acc[v];
        }
        return;
    }
    for v in 0..V {
        let y = &mut y[v * lanes..];
        if v < whole {
            R::vectors_mut::<S>(&mut y[..lanes])[0] = acc[v];
        } else {
            R::store_part(s, y, acc[v]);
        }
    }
}

/// Adds the products of all `x` and their weights in each block. `len` is how long a line of each block is; `skipped`, where
/// the vectors begin in it.
#[inline(always)]
fn add_all<R: Num, S: Simd, const V: usize>(
    s: S,
    acc: &mut [R::V<S>; V],
    [w0, w1, w2, w3]: [&[R]; BLOCKS],
    (len, skipped): ([usize; BLOCKS], usize),
    x: &[R],
) {
    let x = x.iter().map(
        #[inline(always)]
        |&x| R::splat(s, x),
    );
    // Zipped, none of them has bounds to check.
    match V.div_ceil((BLOCK / R::lanes::<S>()).min(MOST)) {
        1 => {
            for (x, w0) in x.zip(w0.chunks_exact(len[0])) {
                add::<R, S, V>(s, acc, (0, skipped), w0, x);
            }
        }
        2 => {
            for ((x, w0), w1) in x.zip(w0.chunks_exact(len[0])).zip(w1.chunks_exact(len[1])) {
                add::<R, S, V>(s, acc, (0, skipped), w0, x);
                add::<R, S, V>(s, acc, (1, skipped), w1, x);
            }
        }
        3 => {
            let w = w0.chunks_exact(len[0]).zip(w1.chunks_exact(len[1])).zip(w2.chunks_exact(len[2]));
            for (x, ((w0, w1), w2)) in x.zip(w) {
                add::<R, S, V>(s, acc, (0, skipped), w0, x);
                add::<R, S, V>(s, acc, (1, skipped), w1, x);
                add::<R, S, V>(s, acc, (2, skipped), w2, x);
            }
        }
        _ => {
            let w = w0.chunks_exact(len[0]).zip(w1.chunks_exact(len[1]));
            let w = w.zip(w2.chunks_exact(len[2]).zip(w3.chunks_exact(len[3])));
            for (x, ((w0, w1), (w2, w3))) in x.zip(w) {
                add::<R, S, V>(s, acc, (0, skipped), w0, x);
                add::<R, S, V>(s, acc, (1, skipped), w1, x);
                add::<R, S, V>(s, acc, (2, skipped), w2, x);
                add::<R, S, V>(s, acc, (3, skipped), w3, x);
            }
        }
    }
}

/// Adds the products of one x and its weights in block `b`, whose line is `line`.
#[inline(always)]
fn add<R: Num, S: Simd, const V: usize>(
    s: S,
    acc: &mut [R::V<S>; V],
    (b, skipped): (usize, usize),
    line: &[R],
    x: R::V<S>,
) {
    let each = (BLOCK / R::lanes::<S>()).min(MOST);
    let n = each.min(V - b * each);
    let w = R::vectors::<S>(&line[skipped..][..n * R::lanes::<S>()]);
    for v in 0..n {
        acc[b * each + v] = R::vfma(s, w[v], x, acc[b * each + v]);
    }
}
