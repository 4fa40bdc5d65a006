//! The loop of every kernel that works element by element.

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
    let mut write = write;
    {
        let mut ins = [&[][..]; A];
        for a in 0..A {
            assert_eq!(read[a].len(), n, "streams of one length");
            ins[a] = &R::vectors::<S>(read[a])[..whole];
        }
        let outs = write.each_mut().map(
            #[inline(always)]
            |w| {
                assert_eq!(w.len(), n, "streams of one length");
                &mut R::vectors_mut::<S>(w)[..whole]
            },
        );
        for i in 0..whole {
            let (mut x, mut y) = ([zero; A], [zero; B]);
            for a in 0..A {
                x[a] = ins[a][i];
            }
            for b in 0..B {
                y[b] = outs[b][i];
            }
            let y = f(x, y);
            for b in 0..B {
                outs[b][i] = y[b];
            }
        }
    }
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
