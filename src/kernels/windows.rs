//! Pooling of pixels by windows: what a window covers becomes one pixel.

use super::pool::{Keep, max};
use crate::Scalar;

/// Windows over `[T, columns, pixel]`. Those beyond the last whole one are left out.
#[derive(Clone, Copy)]
pub struct Windows {
    /// Rows and columns of a window.
    pub size: [usize; 2],
    /// How far it moves over them.
    pub stride: [usize; 2],
    /// Columns of the input, and of the output.
    pub columns: [usize; 2],
    /// Values of a pixel: channels times lanes.
    pub pixel: usize,
}

impl Windows {
    /// Where each pixel begins that window `i` covers, row by row.
    #[inline(always)]
    fn pixels(self, i: usize) -> impl Iterator<Item = usize> + Clone {
        let Self { size, stride, columns, pixel } = self;
        let (t, q) = (i / columns[1], i % columns[1]);
        let first = t * stride[0] * columns[0] + q * stride[1];
        let row =
            move |row: usize| (0..size[1]).map(move |column| (first + row * columns[0] + column) * pixel);
        (0..size[0]).flat_map(row)
    }
}

/// See [`Kernels::pool_windows`](super::Kernels::pool_windows).
#[inline(always)]
pub fn forward<R: Scalar>(keep: Keep, windows: Windows, x: &[R], y: &mut [R]) {
    let n = windows.pixel;
    let count = R::from_f64((windows.size[0] * windows.size[1]) as f64);
    for (i, y) in y.chunks_exact_mut(n).enumerate() {
        for (tap, at) in windows.pixels(i).enumerate() {
            let x = &x[at..][..n];
            match keep {
                _ if tap == 0 => y.copy_from_slice(x),
                Keep::Last => y.copy_from_slice(x),
                Keep::Mean => y.iter_mut().zip(x).for_each(|(y, x)| *y += *x),
                Keep::Max => y.iter_mut().zip(x).for_each(|(y, x)| *y = max(*y, *x)),
            }
        }
        if matches!(keep, Keep::Mean) {
            y.iter_mut().for_each(|y| *y /= count);
        }
    }
}

/// As many values as are compared side by side; a divisor of every number of lanes but 1.
const SIDE: usize = 8;

/// Windows of up to so many pixels are located once, rather than for each few values of a pixel.
const PIXELS: usize = 16;

/// See [`Kernels::pool_windows_backward`](super::Kernels::pool_windows_backward).
#[inline(always)]
pub fn backward<R: Scalar>(keep: Keep, windows: Windows, pass: super::pool::Backward<R>) {
    let super::pool::Backward { x, y, dy, dx } = pass;
    let n = windows.pixel;
    dx.fill(R::ZERO);
    if matches!(keep, Keep::Max) {
        // A loop, because the adapters' `for_each` is a call that is not inlined: compiled for the baseline processor.
        for (i, (y, dy)) in y.chunks_exact(n).zip(dy.chunks_exact(n)).enumerate() {
            let mut pixels = [0; PIXELS];
            match pixels.get_mut(..windows.size[0] * windows.size[1]) {
                Some(pixels) => {
                    for (own, pixel) in pixels.iter_mut().zip(windows.pixels(i)) {
                        *own = pixel;
                    }
                    backward_max(pixels.iter().copied(), [x, y, dy], dx);
                }
                None => backward_max(windows.pixels(i), [x, y, dy], dx),
            }
        }
        return;
    }
    let count = R::from_f64((windows.size[0] * windows.size[1]) as f64);
    for (i, dy) in dy.chunks_exact(n).enumerate() {
        for at in windows.pixels(i) {
            dx[at..][..n].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy / count);
        }
    }
}

/// A window of the given pixels: the first of equals gets all of dy.
#[inline(always)]
fn backward_max<R: Scalar>(pixels: impl Iterator<Item = usize> + Clone, [x, y, dy]: [&[R]; 3], dx: &mut [R]) {
    let (y, dy) = (y.as_chunks::<SIDE>().0, dy.as_chunks::<SIDE>().0);
    for (b, (y, dy)) in y.iter().zip(dy).enumerate() {
        // What no pixel has got yet.
        let mut left = *dy;
        for at in pixels.clone() {
            let at = at + b * SIDE;
            let (x, dx) = (&x[at..][..SIDE], &mut dx[at..][..SIDE]);
            for l in 0..SIDE {
                let largest = x[l] == y[l];
                dx[l] += if largest { left[l] } else { R::ZERO };
                left[l] = if largest { R::ZERO } else { left[l] };
            }
        }
    }
}
