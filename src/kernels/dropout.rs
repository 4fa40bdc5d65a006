//! Dropout's masks.

use crate::{Scalar, rng};

/// Lanes whose keys are mixed side by side: a vector of `u64`.
// AVX-512's lanes; two vectors of AVX2's, four of NEON's.
const SIDE_BY_SIDE: usize = 8;

/// See [`Kernels::dropout_mask`](super::Kernels::dropout_mask). The draws are the same for both scalars.
#[inline(always)]
pub fn mask<R: Scalar>(keys: &[u64], step: u64, p: f64, mask: &mut [R]) {
    let lanes = keys.len();
    // With p = 1 every value is 0, so the scale does not matter. The cast saturates.
    let kept = if p < 1.0 { R::from_f64(1.0 / (1.0 - p)) } else { R::ZERO };
    let threshold = (p * 2f64.powi(64)) as u64;
    for (i, group) in keys.chunks(SIDE_BY_SIDE).enumerate() {
        // Step and feature are mixed in one after the other, so that a mask does not depend on how many features there are.
        let mut keys = [0; SIDE_BY_SIDE];
        for (to, &key) in keys.iter_mut().zip(group) {
            *to = rng::extend(key, step);
        }
        for (f, row) in mask.chunks_exact_mut(lanes).enumerate() {
            for (m, &key) in row[i * SIDE_BY_SIDE..].iter_mut().zip(&keys) {
                *m = if rng::extend(key, f as u64) < threshold { R::ZERO } else { kept };
            }
        }
    }
}

/// y = a ⊙ b
#[inline(always)]
pub fn multiply<R: Scalar>(a: &[R], b: &[R], y: &mut [R]) {
    a.iter().zip(b).zip(y).for_each(|((a, b), y)| *y = *a * *b);
}
