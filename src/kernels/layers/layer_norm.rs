//! Layer normalisation, W lanes at a time; each lane's sums run over the features in their order, so the bits are
//! the same on every instruction set.

use crate::Real;

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

/// W lanes from place `i` on.
#[inline(always)]
fn at<R, const W: usize>(x: &[R], i: usize) -> &[R; W] {
    x[i..].first_chunk().expect("lanes are a multiple of the quantum")
}

#[inline(always)]
fn at_mut<R, const W: usize>(x: &mut [R], i: usize) -> &mut [R; W] {
    x[i..].first_chunk_mut().expect("lanes are a multiple of the quantum")
}

/// See [`LayerKernels::norm_forward`](super::LayerKernels::norm_forward).
#[inline(always)]
pub fn forward<R: Real, const W: usize>(norm: Norm<R>, x: &[R], y: &mut [R], stats: &mut [R]) {
    let Norm { weight, bias, features, eps, lanes } = norm;
    let n = R::from_f64(features as f64);
    let steps = x.chunks_exact(features * lanes).zip(y.chunks_exact_mut(features * lanes));
    for ((x, y), stats) in steps.zip(stats.chunks_exact_mut(2 * lanes)) {
        for l in (0..lanes).step_by(W) {
            let mut mean = [R::ZERO; W];
            for f in 0..features {
                let x = at::<R, W>(x, f * lanes + l);
                (0..W).for_each(|i| mean[i] += x[i]);
            }
            mean.iter_mut().for_each(|mean| *mean /= n);
            let mut sum = [R::ZERO; W];
            for f in 0..features {
                let x = at::<R, W>(x, f * lanes + l);
                (0..W).for_each(|i| sum[i] += (x[i] - mean[i]) * (x[i] - mean[i]));
            }
            let mut rstd = [R::ZERO; W];
            (0..W).for_each(|i| rstd[i] = R::ONE / (sum[i] / n + eps).sqrt());
            for f in 0..features {
                let w = weight.get(f).copied().unwrap_or(R::ONE);
                let b = bias.get(f).copied().unwrap_or(R::ZERO);
                let (x, y) = (at::<R, W>(x, f * lanes + l), at_mut::<R, W>(y, f * lanes + l));
                (0..W).for_each(|i| y[i] = (x[i] - mean[i]) * rstd[i] * w + b);
            }
            *at_mut(stats, l) = mean;
            *at_mut(stats, lanes + l) = rstd;
        }
    }
}

/// See [`LayerKernels::norm_backward`](super::LayerKernels::norm_backward).
#[inline(always)]
pub fn backward<R: Real, const W: usize>(norm: Norm<R>, x: &[R], dy: &[R], stats: &[R], dx: &mut [R]) {
    let Norm { weight, features, lanes, .. } = norm;
    let n = R::from_f64(features as f64);
    let steps = x.chunks_exact(features * lanes).zip(dy.chunks_exact(features * lanes));
    let steps = steps.zip(dx.chunks_exact_mut(features * lanes));
    for (((x, dy), dx), stats) in steps.zip(stats.chunks_exact(2 * lanes)) {
        for l in (0..lanes).step_by(W) {
            let (mean, rstd) = (at::<R, W>(stats, l), at::<R, W>(stats, lanes + l));
            // Σ w dy and Σ w dy x̂
            let (mut plain, mut along) = ([R::ZERO; W], [R::ZERO; W]);
            for f in 0..features {
                let w = weight.get(f).copied().unwrap_or(R::ONE);
                let (x, dy) = (at::<R, W>(x, f * lanes + l), at::<R, W>(dy, f * lanes + l));
                for i in 0..W {
                    let d = dy[i] * w;
                    plain[i] += d;
                    along[i] += d * ((x[i] - mean[i]) * rstd[i]);
                }
            }
            for i in 0..W {
                (plain[i], along[i]) = (plain[i] / n, along[i] / n);
            }
            for f in 0..features {
                let w = weight.get(f).copied().unwrap_or(R::ONE);
                let (x, dy) = (at::<R, W>(x, f * lanes + l), at::<R, W>(dy, f * lanes + l));
                let dx = at_mut::<R, W>(dx, f * lanes + l);
                for i in 0..W {
                    let hat = (x[i] - mean[i]) * rstd[i];
                    dx[i] = (dy[i] * w - plain[i] - hat * along[i]) * rstd[i];
                }
            }
        }
    }
}

/// See [`LayerKernels::norm_weight`](super::LayerKernels::norm_weight).
#[inline(always)]
pub fn weight<R: Real, const W: usize>(norm: Norm<R>, x: &[R], dy: &[R], stats: &[R], dw: &mut [R]) {
    let Norm { features, lanes, .. } = norm;
    for (f, dw) in dw.iter_mut().enumerate() {
        let mut sum = [R::ZERO; W];
        let steps = x.chunks_exact(features * lanes).zip(dy.chunks_exact(features * lanes));
        for ((x, dy), stats) in steps.zip(stats.chunks_exact(2 * lanes)) {
            for l in (0..lanes).step_by(W) {
                let (mean, rstd) = (at::<R, W>(stats, l), at::<R, W>(stats, lanes + l));
                let (x, dy) = (at::<R, W>(x, f * lanes + l), at::<R, W>(dy, f * lanes + l));
                (0..W).for_each(|i| sum[i] += dy[i] * ((x[i] - mean[i]) * rstd[i]));
            }
        }
        *dw += sum.into_iter().sum();
    }
}
