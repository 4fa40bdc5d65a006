//! Pooling over time: one step from many.

use std::cmp::Ordering;

use crate::Scalar;

/// How the steps are reduced to one.
#[derive(Clone, Copy)]
pub enum Keep {
    /// The last one.
    Last,
    /// Their mean.
    Mean,
    /// The largest value of each feature.
    Max,
}

/// One of several lanes, of whose steps the first `len` count.
#[derive(Clone, Copy)]
pub struct Lane {
    /// Its index.
    pub lane: usize,
    /// The number of lanes.
    pub lanes: usize,
    /// How many steps count.
    pub len: usize,
}

/// A backward pass: dx from dy, computed from x and y.
pub struct Backward<'a, R> {
    /// `[T, F, lanes]`
    pub x: &'a [R],
    /// `[F, lanes]`
    pub y: &'a [R],
    /// `[F, lanes]`
    pub dy: &'a [R],
    /// `[T, F, lanes]`
    pub dx: &'a mut [R],
}

impl<R> Backward<'_, R> {
    /// The same pass, borrowed again for another lane.
    pub fn reborrow(&mut self) -> Backward<'_, R> {
        Backward { dx: self.dx, ..*self }
    }
}

/// See [`Kernels::pool`](super::Kernels::pool).
#[inline(always)]
pub fn forward<R: Scalar>(keep: Keep, x: &[R], y: &mut [R]) {
    let n = y.len();
    match keep {
        Keep::Last => y.copy_from_slice(&x[x.len() - n..]),
        Keep::Mean => {
            // Begun with the first step rather than 0: −0 stays −0, and one step's mean is that step.
            y.copy_from_slice(&x[..n]);
            for x in x[n..].chunks_exact(n) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += *x);
            }
            let steps = R::from_f64((x.len() / n) as f64);
            y.iter_mut().for_each(|y| *y /= steps);
        }
        Keep::Max => {
            y.copy_from_slice(&x[..n]);
            for x in x[n..].chunks_exact(n) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = max(*y, *x));
            }
        }
    }
}

/// The larger; the first of equals. NaN if either is, so that a run that has diverged shows it.
#[inline(always)]
pub(super) fn max<R: Scalar>(a: R, b: R) -> R {
    match b.partial_cmp(&a) {
        Some(Ordering::Greater) => b,
        Some(_) => a,
        None => a + b,
    }
}

/// See [`Kernels::pool_backward`](super::Kernels::pool_backward).
#[inline(always)]
pub fn backward<R: Scalar>(keep: Keep, Backward { x, y, dy, dx }: Backward<R>) {
    let n = dy.len();
    match keep {
        Keep::Last => {
            let start = dx.len() - n;
            dx[..start].fill(R::ZERO);
            dx[start..].copy_from_slice(dy);
        }
        Keep::Mean => {
            let steps = R::from_f64((dx.len() / n) as f64);
            for dx in dx.chunks_exact_mut(n) {
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = *dy / steps);
            }
        }
        Keep::Max => {
            dx.fill(R::ZERO);
            for i in 0..n {
                // The first of equals.
                if let Some(first) = x[i..].iter().step_by(n).position(|x| *x == y[i]) {
                    dx[first * n + i] = dy[i];
                }
            }
        }
    }
}

/// See [`Kernels::pool_lane`](super::Kernels::pool_lane). Without steps, y is 0.
#[inline(always)]
pub fn forward_lane<R: Scalar>(keep: Keep, x: &[R], y: &mut [R], Lane { lane, lanes, len }: Lane) {
    let n = y.len();
    for i in (lane..n).step_by(lanes) {
        let steps = || x[i..].iter().step_by(n).take(len).copied();
        y[i] = match keep {
            Keep::Last => steps().last(),
            Keep::Mean => steps().reduce(|sum, x| sum + x).map(|sum| sum / R::from_f64(len as f64)),
            Keep::Max => steps().reduce(max),
        }
        .unwrap_or(R::ZERO);
    }
}

/// See [`Kernels::pool_lane_backward`](super::Kernels::pool_lane_backward).
#[inline(always)]
pub fn backward_lane<R: Scalar>(keep: Keep, pass: Backward<R>, Lane { lane, lanes, len }: Lane) {
    let Backward { x, y, dy, dx } = pass;
    let n = dy.len();
    for i in (lane..n).step_by(lanes) {
        dx[i..].iter_mut().step_by(n).for_each(|dx| *dx = R::ZERO);
        let mut steps = dx[i..].iter_mut().step_by(n).take(len);
        match keep {
            Keep::Last => {
                if let Some(dx) = steps.last() {
                    *dx = dy[i];
                }
            }
            Keep::Mean => steps.for_each(|dx| *dx = dy[i] / R::from_f64(len as f64)),
            Keep::Max => {
                let first = x[i..].iter().step_by(n).take(len).position(|x| *x == y[i]);
                if let Some(dx) = first.and_then(|t| steps.nth(t)) {
                    *dx = dy[i];
                }
            }
        }
    }
}
