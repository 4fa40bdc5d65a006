//! Rows of a table, looked up and added to.

use crate::Scalar;

/// The indices to look up, one for each step and lane.
#[derive(Clone, Copy)]
pub struct Lookup<'a, R> {
    /// `[T, lanes]`
    pub x: &'a [R],
    /// How many lanes hold samples.
    pub valid: usize,
    /// The length of each sample, where any is shorter than T.
    pub lens: Option<&'a [u32]>,
    /// Samples side by side.
    pub lanes: usize,
}

impl<R: Scalar> Lookup<'_, R> {
    /// The first value that is not the index of one of `rows` rows, with its step and lane.
    pub fn first_unfit(&self, rows: usize) -> Option<(usize, usize, R)> {
        let mut at = self.x.iter().enumerate().map(|(i, &x)| (i / self.lanes, i % self.lanes, x));
        at.find(|&(t, lane, x)| self.counts(t, lane) && index(x, rows).is_none())
    }

    /// Whether there is a sample in this lane that has a step `t`.
    #[inline(always)]
    fn counts(&self, t: usize, lane: usize) -> bool {
        lane < self.valid && self.lens.is_none_or(|lens| t < lens[lane] as usize)
    }

    /// Calls `f(lane, row)` for each sample whose sequence has a step `t`; `rows` is how many rows there are.
    #[inline(always)]
    fn each(&self, t: usize, rows: usize, mut f: impl FnMut(usize, usize)) {
        for (lane, &x) in self.x[t * self.lanes..][..self.valid].iter().enumerate() {
            if self.counts(t, lane) {
                let Some(row) = index(x, rows) else {
                    panic!("index {x} at step {t} of lane {lane}, expected a whole number below {rows}")
                };
                f(lane, row);
            }
        }
    }
}

/// See [`Kernels::embed`](super::Kernels::embed).
#[inline(always)]
pub fn forward<R: Scalar>(lookup: Lookup<R>, weight: &[R], width: usize, y: &mut [R]) {
    let lanes = lookup.lanes;
    for (t, y) in y.chunks_exact_mut(width * lanes).enumerate() {
        // Only where some place is not looked up: otherwise every value is overwritten below.
        if lookup.valid < lanes || lookup.lens.is_some() {
            y.fill(R::ZERO);
        }
        lookup.each(t, weight.len() / width, |lane, row| {
            let row = &weight[row * width..][..width];
            y[lane..].iter_mut().step_by(lanes).zip(row).for_each(|(y, w)| *y = *w);
        });
    }
}

/// See [`Kernels::embed_backward`](super::Kernels::embed_backward).
#[inline(always)]
pub fn backward<R: Scalar>(lookup: Lookup<R>, dy: &[R], width: usize, dw: &mut [R]) {
    let lanes = lookup.lanes;
    for (t, dy) in dy.chunks_exact(width * lanes).enumerate() {
        lookup.each(t, dw.len() / width, |lane, row| {
            let row = &mut dw[row * width..][..width];
            dy[lane..].iter().step_by(lanes).zip(row).for_each(|(dy, dw)| *dw += *dy);
        });
    }
}

/// The index of a row that `x` is, if it is one.
fn index<R: Scalar>(x: R, rows: usize) -> Option<usize> {
    let index = x.to_f64() as usize;
    // Also false for NaN and negative numbers, which are cast to 0.
    (index as f64 == x.to_f64() && index < rows).then_some(index)
}
