//! Batch normalisation: sums over a channel, and what is done with them.
//!
//! A pixel is `[channels, lanes]`, and a step some pixels. Channels are processed in blocks of at most [`BLOCK`], whose constants
//! and sums fit on the stack, so that a pass reads memory in the order in which it is stored.

use std::array::from_fn;

use crate::Scalar;
use crate::shape::MAX_LANES;

/// The most channels that are processed side by side.
pub const BLOCK: usize = 8;

/// Lanes that are summed side by side, whatever the instruction set; a divisor of every number of lanes but 1.
const SIDE: usize = 8;

/// Some channels of a sequence of pixels, `[T, pixels, channels, lanes]`.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    /// The first of them.
    pub first: usize,
    /// How many a pixel has.
    pub of: usize,
    /// Values of a step: pixels, channels and lanes.
    pub step: usize,
    /// Samples side by side.
    pub lanes: usize,
    /// How many lanes hold samples.
    pub valid: usize,
    /// The samples' lengths, where any is shorter.
    pub lens: Option<&'a [u32]>,
}

impl Channels<'_> {
    /// Which lanes count in step `t`, or `None` if all do.
    pub fn counted(&self, t: usize) -> Option<[bool; MAX_LANES]> {
        let within = |lane: usize| self.lens.is_none_or(|lens| t < lens[lane] as usize);
        let counted = from_fn(|lane| lane < self.valid && within(lane));
        (!counted[..self.lanes].iter().all(|&counts| counts)).then_some(counted)
    }

    /// Where the rows of a pixel begin that are those of the first channel and of `count` in all.
    #[inline(always)]
    fn rows(&self, count: usize) -> std::ops::Range<usize> {
        self.first * self.lanes..(self.first + count) * self.lanes
    }
}

/// What is summed of a channel: Σ v and Σ v ⊙ x̂ with x̂ = (x − mean) scale, where v is dy, or x̂ itself.
#[derive(Clone, Copy, Default)]
pub struct ChannelSums {
    /// Subtracted from x.
    pub mean: f64,
    /// What is left is multiplied by it.
    pub scale: f64,
    /// Both sums.
    pub sums: [f64; 2],
}

/// See [`Kernels::channel_sums`](super::Kernels::channel_sums). In f64, in as many sums as [`SIDE`] says, so that the order of
/// summation is in the code.
#[inline(always)]
pub fn sums<R: Scalar>(channels: Channels<'_>, x: &[R], dy: Option<&[R]>, block: &mut [ChannelSums]) {
    let Channels { step, lanes, of, .. } = channels;
    let (rows, mut all) = (channels.rows(block.len()), [[[0.0; SIDE]; 2]; BLOCK]);
    for (t, first) in (0..x.len()).step_by(step).enumerate() {
        let counted = channels.counted(t);
        for pixel in (first..first + step).step_by(of * lanes) {
            let at = pixel + rows.start..pixel + rows.end;
            let xs = x[at.clone()].chunks_exact(lanes);
            let vs = dy.unwrap_or(x)[at].chunks_exact(lanes);
            for (((x, v), channel), sums) in xs.zip(vs).zip(&*block).zip(&mut all) {
                let (x, v) = (x.as_chunks::<SIDE>().0, v.as_chunks::<SIDE>().0);
                let [mut plain, mut products] = *sums;
                for (i, (x, v)) in x.iter().zip(v).enumerate() {
                    for l in 0..SIDE {
                        let hat = (x[l].to_f64() - channel.mean) * channel.scale;
                        let value = if dy.is_some() { v[l].to_f64() } else { hat };
                        let counts = counted.is_none_or(|counted| counted[i * SIDE + l]);
                        plain[l] += if counts { value } else { 0.0 };
                        products[l] += if counts { value * hat } else { 0.0 };
                    }
                }
                *sums = [plain, products];
            }
        }
    }
    for (channel, sums) in block.iter_mut().zip(all) {
        channel.sums = sums.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (c + g)) + ((b + f) + (d + h)));
    }
}

/// See [`Kernels::channel_forward`](super::Kernels::channel_forward).
#[inline(always)]
pub fn forward<R: Scalar>(channels: Channels<'_>, block: &[[R; 3]], x: &[R], y: &mut [R]) {
    let Channels { lanes, of, .. } = channels;
    let rows = channels.rows(block.len());
    for (x, y) in x.chunks_exact(of * lanes).zip(y.chunks_exact_mut(of * lanes)) {
        let (x, y) = (x[rows.clone()].chunks_exact(lanes), y[rows.clone()].chunks_exact_mut(lanes));
        for ((x, y), &[mean, scale, shift]) in x.zip(y).zip(block) {
            for (x, y) in x.as_chunks::<SIDE>().0.iter().zip(y.as_chunks_mut::<SIDE>().0) {
                for l in 0..SIDE {
                    y[l] = (x[l] - mean) * scale + shift;
                }
            }
        }
    }
}

/// See [`Kernels::scale_pixels`](super::Kernels::scale_pixels).
#[inline(always)]
pub fn scale_pixels<R: Scalar>(x: &[R], [scales, shifts]: [&[R]; 2], y: &mut [R]) {
    for (x, y) in x.chunks_exact(scales.len()).zip(y.chunks_exact_mut(scales.len())) {
        for ((x, y), (scale, shift)) in x.iter().zip(y).zip(scales.iter().zip(shifts)) {
            *y = *x * *scale + *shift;
        }
    }
}

/// What the backward pass reads.
pub struct Backward<'a, R> {
    pub x: &'a [R],
    pub dy: &'a [R],
    pub dx: &'a mut [R],
}

/// See [`Kernels::channel_backward`](super::Kernels::channel_backward).
#[inline(always)]
pub fn backward<R: Scalar>(
    channels: Channels<'_>,
    block: &[[R; 5]],
    Backward { x, dy, dx }: Backward<'_, R>,
) {
    let Channels { step, lanes, of, .. } = channels;
    let rows = channels.rows(block.len());
    for (t, first) in (0..x.len()).step_by(step).enumerate() {
        let counted = channels.counted(t);
        for pixel in (first..first + step).step_by(of * lanes) {
            let at = pixel + rows.start..pixel + rows.end;
            let xs = x[at.clone()].chunks_exact(lanes).zip(dy[at.clone()].chunks_exact(lanes));
            for (((x, dy), dx), channel) in xs.zip(dx[at].chunks_exact_mut(lanes)).zip(block) {
                let [mean, inv, scale, dy_mean, product_mean] = *channel;
                let (x, dy) = (x.as_chunks::<SIDE>().0, dy.as_chunks::<SIDE>().0);
                for (i, (dx, (x, dy))) in
                    dx.as_chunks_mut::<SIDE>().0.iter_mut().zip(x.iter().zip(dy)).enumerate()
                {
                    for l in 0..SIDE {
                        let own = (dy[l] - dy_mean - (x[l] - mean) * inv * product_mean) * scale;
                        let counts = counted.is_none_or(|counted| counted[i * SIDE + l]);
                        dx[l] = if counts { own } else { R::ZERO };
                    }
                }
            }
        }
    }
}
