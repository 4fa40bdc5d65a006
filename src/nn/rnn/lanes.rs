//! Lanes whose sequences have ended before the current step.

use crate::Real;
use crate::nn::Context;

/// The lanes whose sequences have ended at step `t`.
pub(super) fn finished<'a, R>(cx: &'a Context<'_, R>, t: usize) -> impl Iterator<Item = usize> + 'a {
    let lens = cx.lens.unwrap_or_default().iter().enumerate();
    lens.filter(move |&(_, &len)| t >= len as usize).map(|(lane, _)| lane)
}

/// Sets these lanes of `rows` to 0.
pub(super) fn clear<R: Real>(rows: &mut [R], which: impl Iterator<Item = usize>, lanes: usize) {
    for lane in which {
        (lane..rows.len()).step_by(lanes).for_each(|i| rows[i] = R::ZERO);
    }
}

/// Sets these lanes of `rows` to what `from` has there.
pub(super) fn copy<R: Real>(rows: &mut [R], from: &[R], which: impl Iterator<Item = usize>, lanes: usize) {
    for lane in which {
        (lane..rows.len()).step_by(lanes).for_each(|i| rows[i] = from[i]);
    }
}

/// Adds these lanes of `from` to `rows`.
pub(super) fn add<R: Real>(rows: &mut [R], from: &[R], which: impl Iterator<Item = usize>, lanes: usize) {
    for lane in which {
        (lane..rows.len()).step_by(lanes).for_each(|i| rows[i] += from[i]);
    }
}
