//! The shape of one sample, and sequences with the batch in the last axis.

use std::fmt;

use ndarray::{Array3, ArrayView3, ArrayViewMut3};

use crate::kernels::longest_vector;
use crate::{Error, Real, Result};

/// The most lanes that a tile may have.
pub(crate) const MAX_LANES: usize = 64;

/// Lanes of a tile in a batch of `batch` samples, by default: enough to fill two vectors. A small batch has tiles of one
/// vector, so that two threads both get a tile.
///
/// It depends on the batch alone, never on the number of threads, and so do results.
// Two vectors are as wide as the register tile of `product`. The tape of 32 lanes of the paper's model takes 1.8 MB, more
// than many second-level caches hold, yet 32 lanes are the fastest: 0.59 ms for a step of 64 samples, where 16 lanes take
// 0.71 ms; for one of 128, 1.17 ms, where 16 and 64 lanes take 1.42 and 1.33 ms (two cores with AVX-512, `cargo bench --
// train_step` with `Trainer::tile`).
pub(crate) fn tile_lanes<R: Real>(batch: usize) -> usize {
    let vector = longest_vector::<R>();
    if batch > 2 * vector { 2 * vector } else { vector }
}

/// The shape of one sample: `t` time steps of `f` features. A vector has `t = 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Time steps.
    pub t: usize,
    /// Features per step.
    pub f: usize,
}

impl Shape {
    /// `t` steps of `f` features.
    pub const fn new(t: usize, f: usize) -> Self {
        Self { t, f }
    }

    /// The number of values in one sample, `t · f`.
    pub const fn size(self) -> usize {
        self.t * self.f
    }
}

/// The most values of one sample, at any place in a model: 1 GiB of `f32`. More is a mistake, or a malicious file.
pub(crate) const MAX_VALUES: usize = 1 << 28;

impl Shape {
    /// Checks that a sample of this shape has values, and not too many.
    ///
    /// # Errors
    /// [`Error::Config`] under the name of `field`.
    pub(crate) fn check(self, field: &str) -> Result<()> {
        if self.t > 0 && self.f > 0 && self.t.checked_mul(self.f).is_some_and(|n| n <= MAX_VALUES) {
            return Ok(());
        }
        Err(Error::config(field, format!("found {self}, expected 1 to {MAX_VALUES} values per sample")))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.t, self.f)
    }
}

/// A tile of sequences, read only: `[T, F, lanes]`, the samples in the lanes.
///
/// Lanes are padded to a whole number of SIMD vectors. The content of a pad lane is arbitrary but finite in the forward
/// pass, and its gradient is 0 in the backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Seq<'a, R> {
    /// `[T, F, lanes]`, row-major.
    pub data: &'a [R],
    /// One sample's `T` and `F`.
    pub shape: Shape,
    /// Samples side by side, pads included.
    pub lanes: usize,
}

/// A tile of sequences, mutable, laid out as [`Seq`].
#[derive(Debug)]
pub struct SeqMut<'a, R> {
    /// `[T, F, lanes]`, row-major.
    pub data: &'a mut [R],
    /// One sample's `T` and `F`.
    pub shape: Shape,
    /// Samples side by side, pads included.
    pub lanes: usize,
}

impl<'a, R: Real> Seq<'a, R> {
    /// Views `data` as `[T, F, lanes]`.
    ///
    /// # Panics
    /// If the length is not `T · F · lanes`.
    #[track_caller]
    pub fn new(data: &'a [R], shape: Shape, lanes: usize) -> Self {
        assert_eq!(data.len(), shape.size() * lanes, "a tile of {lanes} samples of {shape}");
        Self { data, shape, lanes }
    }

    /// Time step `t`: `[F, lanes]`.
    pub fn step(&self, t: usize) -> &'a [R] {
        let size = self.shape.f * self.lanes;
        &self.data[t * size..][..size]
    }
}

impl<'a, R: Real> SeqMut<'a, R> {
    /// Views `data` as `[T, F, lanes]`.
    ///
    /// # Panics
    /// If the length is not `T · F · lanes`.
    #[track_caller]
    pub fn new(data: &'a mut [R], shape: Shape, lanes: usize) -> Self {
        assert_eq!(data.len(), shape.size() * lanes, "a tile of {lanes} samples of {shape}");
        Self { data, shape, lanes }
    }

    /// Time step `t`: `[F, lanes]`.
    pub fn step(&mut self, t: usize) -> &mut [R] {
        let size = self.shape.f * self.lanes;
        &mut self.data[t * size..][..size]
    }

    /// The same tile, read only.
    pub fn as_seq(&self) -> Seq<'_, R> {
        Seq { data: self.data, shape: self.shape, lanes: self.lanes }
    }
}

impl<R: Real> Seq<'_, R> {
    /// The first `valid` lanes, batch first: `[batch, T, F]`.
    pub fn collect(&self, valid: usize) -> Array3<R> {
        let Shape { t, f } = self.shape;
        Array3::from_shape_fn((valid, t, f), |(lane, t, i)| self.data[(t * f + i) * self.lanes + lane])
    }

    /// Copies the first lanes into `batch`, `[batch, T, F]`, one for each of its samples.
    ///
    /// # Panics
    /// If the shapes differ, or there are more samples than lanes.
    #[track_caller]
    pub fn collect_into(&self, mut batch: ArrayViewMut3<'_, R>) {
        let Shape { t, f } = self.shape;
        assert_eq!((batch.dim().1, batch.dim().2), (t, f), "a batch of samples [T, F]");
        assert!(batch.dim().0 <= self.lanes, "{} samples in {} lanes", batch.dim().0, self.lanes);
        for ((lane, t, i), value) in batch.indexed_iter_mut() {
            *value = self.data[(t * f + i) * self.lanes + lane];
        }
    }
}

impl<R: Real> SeqMut<'_, R> {
    /// Copies a batch, `[batch, T, F]`, into the first lanes, and sets the others to 0.
    ///
    /// # Panics
    /// If the shapes differ.
    #[track_caller]
    pub fn scatter(&mut self, x: ArrayView3<'_, R>) {
        let Shape { t, f } = self.shape;
        assert_eq!((x.dim().1, x.dim().2), (t, f), "a batch of samples [T, F]");
        self.data.fill(R::ZERO);
        for ((lane, t, i), &value) in x.indexed_iter() {
            self.data[(t * f + i) * self.lanes + lane] = value;
        }
    }
}
