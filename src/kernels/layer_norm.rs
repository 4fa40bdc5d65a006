//! Layer normalisation. The sums of each lane run over the features in order, so the bits of the result depend neither on
//! the width of a vector nor on other lanes.

use pulp::{Simd, WithSimd};

use super::outer::sum_by_halves;
use super::simd::{Num, longest_vector};

/// What the passes of a layer normalisation share.
#[derive(Clone, Copy)]
pub struct Norm<'a, R> {
    /// w `[F]`, or empty for 1
    pub weight: &'a [R],
    /// b `[F]`, or empty for 0
    pub bias: &'a [R],
    /// F
    pub features: usize,
    /// ε, added to the variance
    pub eps: R,
    /// Samples side by side.
    pub lanes: usize,
}

impl<R: Num> Norm<'_, R> {
    /// Vectors side by side, and F in each lane.
    #[inline(always)]
    fn sizes<S: Simd>(&self, s: S) -> (usize, R::V<S>) {
        (self.lanes / R::lanes::<S>(), R::splat(s, R::from_f64(self.features as f64)))
    }

    /// w of feature `f`.
    #[inline(always)]
    fn weight<S: Simd>(&self, s: S, f: usize) -> R::V<S> {
        R::splat(s, self.weight.get(f).copied().unwrap_or(R::ONE))
    }

    /// Values of a step, all lanes together.
    fn step(&self) -> usize {
        self.features * self.lanes
    }
}

/// The mean and 1 / √(σ² + ε) of each lane of x `[features, lanes]`, `[2, lanes]`.
#[inline(always)]
pub(super) fn moments<R: Num, S: Simd>(s: S, x: &[R], eps: R, lanes: usize, stats: &mut [R]) {
    let width = lanes / R::lanes::<S>();
    if !lanes.is_multiple_of(R::lanes::<S>()) {
        return moments_by_lane(x, eps, lanes, stats);
    }
    let n = R::splat(s, R::from_f64((x.len() / lanes) as f64));
    let x = R::vectors::<S>(x);
    let (mean, rstd) = stats.split_at_mut(lanes);
    for (v, (mean, variance)) in R::vectors_mut(mean).iter_mut().zip(R::vectors_mut(rstd)).enumerate() {
        let (mut sum, mut squares) = (R::splat(s, R::ZERO), R::splat(s, R::ZERO));
        for i in (v..x.len()).step_by(width) {
            sum = R::vadd(s, sum, x[i]);
        }
        // A second pass over x for the variance: Σ x² / n − mean² in one would cancel where the mean is large.
        let center = R::vdiv(s, sum, n);
        for i in (v..x.len()).step_by(width) {
            let d = R::vsub(s, x[i], center);
            squares = R::vadd(s, squares, R::vmul(s, d, d));
        }
        (*mean, *variance) = (center, R::vdiv(s, squares, n));
    }
    // Lane by lane, as below: once a step, so it costs little, and roots are correctly rounded in any width.
    for variance in rstd {
        *variance = R::ONE / (*variance + eps).sqrt();
    }
}

/// The same for lanes that fill no vectors, as those of one sample alone.
fn moments_by_lane<R: Num>(x: &[R], eps: R, lanes: usize, stats: &mut [R]) {
    let n = R::from_f64((x.len() / lanes) as f64);
    for lane in 0..lanes {
        let (mut sum, mut squares) = (R::ZERO, R::ZERO);
        for x in x[lane..].iter().step_by(lanes) {
            sum += *x;
        }
        let mean = sum / n;
        for x in x[lane..].iter().step_by(lanes) {
            squares += (*x - mean) * (*x - mean);
        }
        (stats[lane], stats[lanes + lane]) = (mean, R::ONE / (squares / n + eps).sqrt());
    }
}

/// (x − mean) · rstd
#[inline(always)]
pub(super) fn hat<R: Num, S: Simd>(s: S, x: R::V<S>, mean: R::V<S>, rstd: R::V<S>) -> R::V<S> {
    R::vmul(s, R::vsub(s, x, mean), rstd)
}

/// See [`Kernels::norm_forward`](super::Kernels::norm_forward).
pub struct Forward<'a, R> {
    pub norm: Norm<'a, R>,
    pub x: &'a [R],
    pub y: &'a mut [R],
    pub stats: &'a mut [R],
}

impl<R: Num> WithSimd for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let norm = self.norm;
        if !norm.lanes.is_multiple_of(R::lanes::<S>()) {
            return self.lane_by_lane();
        }
        let (width, _) = norm.sizes::<S>(s);
        let steps = self.x.chunks_exact(norm.step()).zip(self.y.chunks_exact_mut(norm.step()));
        for ((x, y), stats) in steps.zip(self.stats.chunks_exact_mut(2 * norm.lanes)) {
            moments(s, x, norm.eps, norm.lanes, stats);
            let (x, y) = (R::vectors::<S>(x), R::vectors_mut::<S>(y));
            let (mean, rstd) = R::vectors::<S>(stats).split_at(width);
            let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
            for (f, (x, y)) in rows.enumerate() {
                let w = norm.weight::<S>(s, f);
                let b = R::splat(s, norm.bias.get(f).copied().unwrap_or(R::ZERO));
                for (v, (x, y)) in x.iter().zip(y).enumerate() {
                    *y = R::vadd(s, R::vmul(s, hat::<R, S>(s, *x, mean[v], rstd[v]), w), b);
                }
            }
        }
    }
}

impl<R: Num> Forward<'_, R> {
    /// The same for lanes that do not fill a vector, such as the single lane of one sample.
    fn lane_by_lane(self) {
        let Norm { weight, bias, features, eps, lanes } = self.norm;
        let steps = self.x.chunks_exact(self.norm.step()).zip(self.y.chunks_exact_mut(self.norm.step()));
        for ((x, y), stats) in steps.zip(self.stats.chunks_exact_mut(2 * lanes)) {
            moments_by_lane(x, eps, lanes, stats);
            for lane in 0..lanes {
                let (mean, rstd) = (stats[lane], stats[lanes + lane]);
                for f in 0..features {
                    let w = weight.get(f).copied().unwrap_or(R::ONE);
                    let b = bias.get(f).copied().unwrap_or(R::ZERO);
                    let i = f * lanes + lane;
                    y[i] = (x[i] - mean) * rstd * w + b;
                }
            }
        }
    }
}

/// See [`Kernels::norm_backward`](super::Kernels::norm_backward).
pub struct Backward<'a, R> {
    pub norm: Norm<'a, R>,
    pub x: &'a [R],
    pub dy: &'a [R],
    pub stats: &'a [R],
    pub dx: &'a mut [R],
}

impl<R: Num> WithSimd for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let norm = self.norm;
        let (width, n) = norm.sizes::<S>(s);
        let steps = self.x.chunks_exact(norm.step()).zip(self.dy.chunks_exact(norm.step()));
        let steps = steps.zip(self.dx.chunks_exact_mut(norm.step()));
        for (((x, dy), dx), stats) in steps.zip(self.stats.chunks_exact(2 * norm.lanes)) {
            let (x, dy, dx) = (R::vectors::<S>(x), R::vectors::<S>(dy), R::vectors_mut::<S>(dx));
            // As `Forward` left them: means of all lanes, then 1 / √(σ² + ε) of all.
            let (mean, rstd) = R::vectors::<S>(stats).split_at(width);
            for v in 0..width {
                // mean(w dy) and mean(w dy x̂)
                let (mut plain, mut along) = (R::splat(s, R::ZERO), R::splat(s, R::ZERO));
                for (f, i) in (v..x.len()).step_by(width).enumerate() {
                    let d = R::vmul(s, dy[i], norm.weight::<S>(s, f));
                    plain = R::vadd(s, plain, d);
                    along = R::vadd(s, along, R::vmul(s, d, hat::<R, S>(s, x[i], mean[v], rstd[v])));
                }
                (plain, along) = (R::vdiv(s, plain, n), R::vdiv(s, along, n));
                for (f, i) in (v..x.len()).step_by(width).enumerate() {
                    let d = R::vmul(s, dy[i], norm.weight::<S>(s, f));
                    let pull = R::vmul(s, hat::<R, S>(s, x[i], mean[v], rstd[v]), along);
                    dx[i] = R::vmul(s, R::vsub(s, R::vsub(s, d, plain), pull), rstd[v]);
                }
            }
        }
    }
}

/// See [`Kernels::norm_weight`](super::Kernels::norm_weight).
pub struct Weight<'a, R> {
    pub norm: Norm<'a, R>,
    pub x: &'a [R],
    pub dy: &'a [R],
    pub stats: &'a [R],
    pub dw: &'a mut [R],
}

impl<R: Num> Weight<'_, R> {
    /// As for a bias, each feature has sums of its own for the lanes of the longest vector, whatever the width of a vector.
    #[inline(always)]
    pub fn add(self) {
        let lanes = self.norm.lanes;
        for (f, dw) in self.dw.iter_mut().enumerate() {
            let mut sums = [R::ZERO; 16];
            let sums = &mut sums[..longest_vector::<R>()];
            let steps = self.x.chunks_exact(self.norm.step()).zip(self.dy.chunks_exact(self.norm.step()));
            for ((x, dy), stats) in steps.zip(self.stats.chunks_exact(2 * lanes)) {
                let [x, dy] = [x, dy].map(|step| &step[f * lanes..][..lanes]);
                let (mean, rstd) = stats.split_at(lanes);
                let values = x.iter().zip(dy).zip(mean.iter().zip(rstd));
                for (i, ((x, dy), (mean, rstd))) in values.enumerate() {
                    sums[i % longest_vector::<R>()] += *dy * ((*x - *mean) * *rstd);
                }
            }
            *dw += sum_by_halves(sums);
        }
    }
}
