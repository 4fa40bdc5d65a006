//! How a pass that waits within a layer goes on.
//!
//! The sums over the batch of a layer that holds others are those of its parts, one after another in the order of the forward
//! pass, and each part has a range of them. How many are known says where the pass has waited, so nothing else is kept
//! between its stretches: parts with fewer have done their pass, and the first one that needs more is where it waits next.

use std::ops::Range;

use crate::nn::Context;

/// Those of `sums`, the first of all, that belong to a part.
pub(super) fn first_of<'a>(sums: &'a [f64], own: &Range<usize>) -> &'a [f64] {
    &sums[own.start.min(sums.len())..own.end.min(sums.len())]
}

/// Those of `sums`, the last of `all`, that belong to a part.
pub(super) fn last_of<'a>(sums: &'a [f64], own: &Range<usize>, all: usize) -> &'a [f64] {
    let unknown = all - sums.len();
    &sums[own.start.saturating_sub(unknown)..own.end.saturating_sub(unknown)]
}

/// A part's pass in this stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// None: the pass was there before.
    Done,
    /// To the next point at which it waits.
    Waits,
    /// To the end, perhaps from a point at which it has waited.
    Ends,
}

/// What a forward pass does in the part with sums `own`, if it `waits` for those that are not known.
pub(super) fn forward<R>(cx: &Context<'_, R>, own: &Range<usize>, waits: bool) -> Stretch {
    stretch(own.end, cx.sums.len(), waits)
}

/// What a backward pass does in the part with sums `own` of `all`.
pub(super) fn backward<R>(cx: &Context<'_, R>, own: &Range<usize>, all: usize, waits: bool) -> Stretch {
    stretch(all - own.start, cx.backward_sums.len(), waits)
}

/// What a pass does in a part at whose end `needed` sums are known, given how many are.
fn stretch(needed: usize, known: usize, waits: bool) -> Stretch {
    match needed.cmp(&known) {
        std::cmp::Ordering::Less => Stretch::Done,
        std::cmp::Ordering::Greater if waits => Stretch::Waits,
        _ => Stretch::Ends,
    }
}
