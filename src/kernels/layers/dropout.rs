//! Masks of dropout.

use rand::RngCore;

use crate::{Real, rng};

/// See [`LayerKernels::dropout_mask`](super::LayerKernels::dropout_mask). The draws are the same for both scalars.
#[inline(always)]
pub fn mask<R: Real>(keys: &[u64], step: u64, p: f64, mask: &mut [R]) {
    let lanes = keys.len();
    // p = 1 leaves nothing, and so nothing to scale. The cast saturates.
    let kept = if p < 1.0 { R::from_f64(1.0 / (1.0 - p)) } else { R::ZERO };
    let threshold = (p * 2f64.powi(64)) as u64;
    for (lane, &key) in keys.iter().enumerate() {
        let mut rng = rng::rng(rng::key(&[key, step]));
        for m in mask[lane..].iter_mut().step_by(lanes) {
            *m = if rng.next_u64() < threshold { R::ZERO } else { kept };
        }
    }
}

/// y = a ⊙ b
#[inline(always)]
pub fn multiply<R: Real>(a: &[R], b: &[R], y: &mut [R]) {
    a.iter().zip(b).zip(y).for_each(|((a, b), y)| *y = *a * *b);
}
