//! The loops of every kernel that works element by element.

use pulp::Simd;

use super::simd::Num;

/// `write[..][i] = f(read[..][i], write[..][i])` for every i, a vector at a time, including the odd lanes at the end.
///
/// # Panics
/// If the slices differ in length.
#[inline(always)]
pub fn map<R: Num, S: Simd, const A: usize, const B: usize>(
    s: S,
    read: [&[R]; A],
    write: [&mut [R]; B],
    f: impl Fn([R::V<S>; A], [R::V<S>; B]) -> [R::V<S>; B],
) {
    let n = write[0].len();
    let whole = n / R::lanes::<S>();
    let zero = R::splat(s, R::ZERO);
    // One length, asserted once, so that the loop below has no bounds to check. An array of the slices that it indexes
    // would be made by `array::map`, a call that is not inlined: all pointers would pass through memory.
    for read in &read {
        assert_eq!(read.len(), n, "streams of one length");
    }
    for write in &write {
        assert_eq!(write.len(), n, "streams of one length");
    }
    for i in 0..whole {
        let (mut x, mut y) = ([zero; A], [zero; B]);
        for a in 0..A {
            x[a] = R::vectors::<S>(read[a])[i];
        }
        for b in 0..B {
            y[b] = R::vectors::<S>(write[b])[i];
        }
        let y = f(x, y);
        for b in 0..B {
            R::vectors_mut::<S>(write[b])[i] = y[b];
        }
    }
    // What is left passes in one vector filled up with 0, through the same `f`: the same bits as within a longer slice.
    let done = whole * R::lanes::<S>();
    if done < n {
        let (mut x, mut y) = ([zero; A], [zero; B]);
        for a in 0..A {
            x[a] = R::load_part(s, &read[a][done..]);
        }
        for b in 0..B {
            y[b] = R::load_part(s, &write[b][done..]);
        }
        let y = f(x, y);
        for b in 0..B {
            R::store_part(s, &mut write[b][done..], y[b]);
        }
    }
}

/// Values that are the same along each row of `[rows, lanes]`, and values that are the same down each lane.
pub struct Spread<'a, R, const P: usize, const L: usize> {
    /// A multiple of the vector's lanes; or 1, for one sample alone.
    pub lanes: usize,
    /// `[rows]` each
    pub of_row: [&'a [R]; P],
    /// `[lanes]` each
    pub of_lane: [&'a [R]; L],
}

/// As [`map`] over `[rows, lanes]`, where `f` is also given the values of the row and of the lane:
/// `write[..][i] = f(of_row[..], of_lane[..], read[..][i], write[..][i])`.
///
/// # Panics
/// If the slices are not of one length.
#[inline(always)]
pub fn map_rows<R: Num, S: Simd, const P: usize, const L: usize, const A: usize, const B: usize>(
    s: S,
    Spread { lanes, of_row, of_lane }: Spread<'_, R, P, L>,
    read: [&[R]; A],
    write: [&mut [R]; B],
    f: impl Fn([R::V<S>; P], [R::V<S>; L], [R::V<S>; A], [R::V<S>; B]) -> [R::V<S>; B],
) {
    let (n, width) = (write[0].len(), R::lanes::<S>());
    let zero = R::splat(s, R::ZERO);
    let (mut row, mut lane, mut x, mut y) = ([zero; P], [zero; L], [zero; A], [zero; B]);
    if lanes == 1 {
        // One sample alone: rows lie side by side, and are the lanes of a vector.
        for l in 0..L {
            lane[l] = R::splat(s, of_lane[l][0]);
        }
        for from in (0..n).step_by(width) {
            let at = from..n.min(from + width);
            for p in 0..P {
                row[p] = load(s, &of_row[p][at.clone()]);
            }
            for a in 0..A {
                x[a] = load(s, &read[a][at.clone()]);
            }
            for b in 0..B {
                y[b] = load(s, &write[b][at.clone()]);
            }
            let y = f(row, lane, x, y);
            for b in 0..B {
                store(s, &mut write[b][at.clone()], y[b]);
            }
        }
        return;
    }
    for (r, start) in (0..n).step_by(lanes).enumerate() {
        for p in 0..P {
            row[p] = R::splat(s, of_row[p][r]);
        }
        for from in (0..lanes).step_by(width) {
            let at = start + from..start + from + width;
            for l in 0..L {
                lane[l] = load(s, &of_lane[l][from..from + width]);
            }
            for a in 0..A {
                x[a] = load(s, &read[a][at.clone()]);
            }
            for b in 0..B {
                y[b] = load(s, &write[b][at.clone()]);
            }
            let y = f(row, lane, x, y);
            for b in 0..B {
                store(s, &mut write[b][at.clone()], y[b]);
            }
        }
    }
}

/// A vector of at most its lanes' values, 0 in the rest.
#[inline(always)]
fn load<R: Num, S: Simd>(s: S, x: &[R]) -> R::V<S> {
    if x.len() == R::lanes::<S>() { R::vectors::<S>(x)[0] } else { R::load_part(s, x) }
}

/// The first values of a vector.
#[inline(always)]
fn store<R: Num, S: Simd>(s: S, x: &mut [R], v: R::V<S>) {
    if x.len() == R::lanes::<S>() {
        R::vectors_mut::<S>(x)[0] = v;
    } else {
        R::store_part(s, x, v);
    }
}
