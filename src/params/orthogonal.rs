//! Random orthogonal matrices.

use rand::RngCore;

use crate::{Real, rng};

/// Fills a matrix of `rows` rows with `gain` times one that has orthonormal rows, or columns if there are more rows
/// than columns, drawn uniformly at random (by Haar measure).
pub(super) fn fill<R: Real>(values: &mut [R], rows: usize, gain: f64, rng: &mut impl RngCore) {
    let columns = values.len() / rows;
    let (count, length) = (rows.min(columns), rows.max(columns));
    let vectors = orthonormal(count, length, rng);
    for (i, value) in values.iter_mut().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let i = if rows <= columns { row * length + column } else { column * length + row };
        *value = R::from_f64(gain * vectors[i]);
    }
}

/// `count` orthonormal vectors of `length` ≥ `count` values, one after another.
///
/// They come from normal vectors by Gram–Schmidt: a QR factorisation whose R has a positive diagonal, which PyTorch
/// obtains by flipping signs. Each vector is orthogonalised against the others twice, which is enough to make it
/// orthogonal to within rounding (Giraud et al. 2005).
fn orthonormal(count: usize, length: usize, rng: &mut impl RngCore) -> Vec<f64> {
    let mut vectors = vec![0.0; count * length];
    for pair in vectors.chunks_mut(2) {
        pair.iter_mut().zip(rng::normals(rng)).for_each(|(x, z)| *x = z);
    }
    for k in 0..count {
        let (done, rest) = vectors.split_at_mut(k * length);
        let vector = &mut rest[..length];
        for _ in 0..2 {
            for other in done.chunks_exact(length) {
                let along = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let norm = dot(vector, vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    vectors
}

/// Σ a b, in eight partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
