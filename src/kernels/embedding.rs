//! Rows of a table, looked up and added to.

use crate::Scalar;

/// The indices to look up, one for each step and lane.
#[derive(Clone, Copy)]
pub struct Lookup<'a, R> {
    /// `[T, features, lanes]`
    pub x: &'a [R],
    /// The features of a step, and which of them is the index.
    pub features: usize,
    pub column: usize,
    /// How many lanes hold samples.
    pub valid: usize,
    /// The length of each sample, where any is shorter than T.
    pub lens: Option<&'a [u32]>,
    /// Samples side by side.
    pub lanes: usize,
}

/// Where in y rows of the table are put.
#[derive(Clone, Copy)]
pub struct Place {
    /// The features of a step of y.
    pub features: usize,
    /// The first of them that is of the table, and how many are.
    pub first: usize,
    pub width: usize,
}

impl<R: Scalar> Lookup<'_, R> {
    /// The indices of step `t`, `[lanes]`.
    #[inline(always)]
    fn step(&self, t: usize) -> &[R] {
        &self.x[(t * self.features + self.column) * self.lanes..][..self.lanes]
    }

    /// The first value that is not the index of one of `rows` rows, with its step and lane.
    pub fn first_unfit(&self, rows: usize) -> Option<(usize, usize, R)> {
        let steps = self.x.len() / (self.features * self.lanes);
        let mut at =
            (0..steps).flat_map(|t| self.step(t).iter().enumerate().map(move |(lane, &x)| (t, lane, x)));
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
        for (lane, &x) in self.step(t)[..self.valid].iter().enumerate() {
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
pub fn forward<R: Scalar>(lookup: Lookup<R>, weight: &[R], to: Place, y: &mut [R]) {
    let (lanes, width) = (lookup.lanes, to.width);
    for (t, y) in y.chunks_exact_mut(to.features * lanes).enumerate() {
        let y = &mut y[to.first * lanes..][..width * lanes];
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
pub fn backward<R: Scalar>(lookup: Lookup<R>, dy: &[R], from: Place, dw: &mut [R]) {
    let (lanes, width) = (lookup.lanes, from.width);
    for (t, dy) in dy.chunks_exact(from.features * lanes).enumerate() {
        let dy = &dy[from.first * lanes..][..width * lanes];
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
