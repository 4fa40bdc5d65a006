//! The shape of one sample, and sequences with the batch in the last axis.

use std::fmt;

use crate::Real;

/// The shape of one sample: `t` time steps of `f` features. A vector has `t = 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Time steps.
    pub t: usize,
    /// Features of a step.
    pub f: usize,
}

impl Shape {
    /// `t` steps of `f` features.
    pub const fn new(t: usize, f: usize) -> Self {
        Self { t, f }
    }

    /// Values in one sample, `t · f`.
    pub const fn size(self) -> usize {
        self.t * self.f
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.t, self.f)
    }
}

/// A tile of sequences, read only: `[T, F, lanes]`, the samples in the lanes.
///
/// Lanes are padded to a whole number of SIMD vectors; what stands in a pad lane is arbitrary but finite on the
/// way forward, and its gradient is 0 on the way back.
#[derive(Clone, Copy, Debug)]
pub struct Seq<'a, R> {
    /// `[T, F, lanes]`, row-major.
    pub data: &'a [R],
    /// One sample's `T` and `F`.
    pub shape: Shape,
    /// Samples side by side, pads included.
    pub lanes: usize,
}

/// A tile of sequences to be written, laid out as [`Seq`].
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
    /// Looks at `data` as `[T, F, lanes]`.
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
    /// Looks at `data` as `[T, F, lanes]`.
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
