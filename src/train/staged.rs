//! The passes of a batch whose tiles wait for one another: a layer such as a batch normalisation needs sums over all of them.
//!
//! The layers fall into stages, each of which ends before a layer that waits. All tiles pass a stage, side by side, and leave
//! their sums; these are added by the tree of the slots, and the next stage begins with the total. The backward pass does the
//! same from the last stage to the first. A model without such layers has one stage, and does not come here.

use super::slot::{Slot, Work, pairs};
use crate::nn::Mode;
use crate::{Real, Result, par};

/// One half of a layer's sums.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    Backward,
}

/// Sums the losses and gradients of the tiles of all slots, of which the first is slot `first`, and leaves each layer's sums
/// over the batch in `sums`.
///
/// # Errors
/// Those of [`Slot::open_all`].
pub(super) fn run<R: Real>(
    slots: &mut [Slot<R>],
    first: usize,
    work: Work<'_, R>,
    sums: &mut [Vec<f64>],
) -> Result<()> {
    let (model, mut begin) = (work.model, 0);
    par::for_each(slots, |i, slot| slot.open_all(first + i, work))?;
    for layer in model.waiting(Mode::Train) {
        par::for_each(slots, |i, slot| {
            for ws in slot.tiles_of(first + i, work).0 {
                model.forward_layers(ws, begin..layer);
                model.forward_sums(ws, layer);
            }
            Ok(())
        })?;
        share(slots, (first, layer, Pass::Forward), work, &mut sums[layer]);
        begin = layer;
    }
    let mut end = model.layer_count();
    par::for_each(slots, |i, slot| {
        slot.tiles_of(first + i, work).0.iter_mut().for_each(|ws| model.forward_layers(ws, begin..end));
        slot.measure_all(first + i, work);
        Ok(())
    })?;
    for layer in model.waiting(Mode::Train).rev() {
        par::for_each(slots, |i, slot| {
            let (tiles, grads) = slot.tiles_of(first + i, work);
            for ws in tiles {
                model.backward_layers(ws, grads, false, layer + 1..end);
                model.backward_sums(ws, grads, layer);
            }
            Ok(())
        })?;
        share(slots, (first, layer, Pass::Backward), work, &mut sums[layer]);
        end = layer + 1;
    }
    par::for_each(slots, |i, slot| {
        let (tiles, grads) = slot.tiles_of(first + i, work);
        tiles.iter_mut().for_each(|ws| model.backward_layers(ws, grads, false, 0..end));
        Ok(())
    })
}

/// Adds what the tiles have left for a layer, in order within a slot and by the tree over the slots, and gives each the total.
fn share<R: Real>(
    slots: &mut [Slot<R>],
    (first, layer, pass): (usize, usize, Pass),
    work: Work<'_, R>,
    total: &mut [f64],
) {
    let half = total.len() / 2;
    let range = match pass {
        Pass::Forward => 0..half,
        Pass::Backward => half..2 * half,
    };
    let add =
        |into: &mut [f64], from: &[f64]| into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
    for (i, slot) in slots.iter_mut().enumerate() {
        if let [one, others @ ..] = slot.tiles_of(first + i, work).0 {
            let own = &mut one.sums_mut(layer)[range.clone()];
            others.iter_mut().for_each(|other| add(own, &other.sums_mut(layer)[range.clone()]));
        }
    }
    for (into, from) in pairs(slots.len()) {
        let (left, right) = slots.split_at_mut(from);
        let [own, other] = [&mut left[into], &mut right[0]].map(|slot| slot.first_sums(layer));
        add(&mut own[range.clone()], &other[range.clone()]);
    }
    if let Some(slot) = slots.first_mut() {
        total[range.clone()].copy_from_slice(&slot.first_sums(layer)[range.clone()]);
    }
    for (i, slot) in slots.iter_mut().enumerate() {
        for ws in slot.tiles_of(first + i, work).0 {
            ws.sums_mut(layer)[range.clone()].copy_from_slice(&total[range.clone()]);
        }
    }
}
