//! Vectors that begin at a cache line, so that no load of a whole SIMD vector touches two lines.

use std::ops::{Deref, DerefMut};

use crate::Scalar;

/// The length of a cache line and of the longest vector, in bytes.
const LINE: usize = 64;

/// A vector of fixed length whose first value is at the start of a cache line.
#[derive(Debug, Default)]
pub struct Aligned<R> {
    /// The values to its end; before `start`, extra ones, which make sure that a line starts among them.
    data: Vec<R>,
    start: usize,
}

impl<R: Scalar> Aligned<R> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut data = vec![R::ZERO; len + LINE / size_of::<R>()];
        let start = start(&data);
        data.truncate(start + len);
        Self { data, start }
    }
}

/// The first value of `data` at the start of a cache line.
fn start<R>(data: &[R]) -> usize {
    // `align_offset` may give up; values are then merely slower to load, so the start is only kept within bounds.
    data.as_ptr().align_offset(LINE).min(LINE / size_of::<R>())
}

impl<R: Clone> Clone for Aligned<R> {
    fn clone(&self) -> Self {
        // A copy is allocated elsewhere, where a line starts at another value.
        let mut data = Vec::with_capacity(self.len() + LINE / size_of::<R>());
        let start = start(&data);
        data.extend(self.data.iter().cycle().take(start).cloned());
        let start = data.len();
        data.extend_from_slice(self);
        Self { data, start }
    }
}

impl<R> Deref for Aligned<R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        &self.data[self.start..]
    }
}

impl<R> DerefMut for Aligned<R> {
    fn deref_mut(&mut self) -> &mut [R] {
        &mut self.data[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_a_line_and_copies_do_too() {
        for len in [0, 1, 100, 12345] {
            let mut a = Aligned::<f64>::zeros(len);
            a.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64);
            let b = a.clone();
            // An empty vector has no first value.
            if len > 0 {
                assert_eq!(a.as_ptr() as usize % LINE, 0);
                assert_eq!(b.as_ptr() as usize % LINE, 0);
            }
            assert_eq!(a[..], b[..]);
            assert_eq!(b.len(), len);
        }
    }
}
