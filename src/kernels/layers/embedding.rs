//! Rows of a table, looked up and added to.

use crate::Real;

/// See [`LayerKernels::embed`](super::LayerKernels::embed).
#[inline(always)]
pub fn forward<R: Real>(x: &[R], weight: &[R], width: usize, valid: usize, y: &mut [R], lanes: usize) {
    let rows = weight.len() / width;
    for (t, (x, y)) in x.chunks_exact(lanes).zip(y.chunks_exact_mut(width * lanes)).enumerate() {
        if valid < lanes {
            y.fill(R::ZERO);
        }
        for (lane, &x) in x[..valid].iter().enumerate() {
            let row = &weight[index(x, rows, t, lane) * width..][..width];
            y[lane..].iter_mut().step_by(lanes).zip(row).for_each(|(y, w)| *y = *w);
        }
    }
}

/// See [`LayerKernels::embed_backward`](super::LayerKernels::embed_backward).
#[inline(always)]
pub fn backward<R: Real>(x: &[R], dy: &[R], width: usize, valid: usize, dw: &mut [R], lanes: usize) {
    let rows = dw.len() / width;
    for (t, (x, dy)) in x.chunks_exact(lanes).zip(dy.chunks_exact(width * lanes)).enumerate() {
        for (lane, &x) in x[..valid].iter().enumerate() {
            let row = &mut dw[index(x, rows, t, lane) * width..][..width];
            dy[lane..].iter().step_by(lanes).zip(row).for_each(|(dy, dw)| *dw += *dy);
        }
    }
}

/// The row that `x` means.
fn index<R: Real>(x: R, rows: usize, t: usize, lane: usize) -> usize {
    let index = x.to_f64() as usize;
    // Also false for NaN and what is negative: those are cast to 0.
    assert!(
        index as f64 == x.to_f64() && index < rows,
        "index {x} at step {t} of sample {lane} of a tile, expected a whole number from 0 to less than {rows}"
    );
    index
}
