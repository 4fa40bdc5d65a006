//! A tile's forward and backward pass through all layers of a model.

use super::Model;
use super::workspace::Workspace;
use crate::data::Sample;
use crate::nn::{Backward, Context, Forward};
use crate::{Real, rng};

impl<R: Real> Model<R> {
    /// Passes the tile forward through every layer.
    ///
    /// # Panics
    /// If the workspace belongs to another model.
    #[track_caller]
    pub fn forward(&self, ws: &mut Workspace<R>) {
        ws.check_model(self);
        let lanes = ws.lanes;
        for (i, slot) in self.slots().iter().enumerate() {
            let (below, above) = ws.values.split_at_mut(i + 1);
            layer_keys(&mut ws.keys, &ws.samples, i);
            let lens = ws.lengths.at(i, ws.valid);
            let cx = self.context(
                i,
                Context { lens, keys: &ws.keys[..lanes], ..Context::new(&[], ws.mode, ws.valid) },
            );
            let state = &mut ws.states[i][..slot.sizes.state * lanes];
            let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
            let pass = Forward::new(cx, below[i].seq(lanes), above[0].seq_mut(lanes));
            slot.layer.forward(pass.state(state).cache(cache));
        }
    }

    /// Passes the gradient back through every layer and adds to `grads`. The gradient with respect to the input is
    /// computed only if `input_gradient` is true.
    ///
    /// # Panics
    /// If the workspace belongs to another model or keeps no history, or `grads` does not have one value for each
    /// parameter.
    #[track_caller]
    pub fn backward(&self, ws: &mut Workspace<R>, grads: &mut [R], input_gradient: bool) {
        ws.check_model(self);
        assert!(
            ws.mode.keeps_history(),
            "found a workspace of Mode::Infer, which keeps no history, expected one of Mode::Train or Mode::Eval"
        );
        assert_eq!(grads.len(), self.parameter_count(), "one gradient for each parameter");
        let lanes = ws.lanes;
        for (i, slot) in self.slots().iter().enumerate().rev() {
            let (below, above) = ws.grads.split_at_mut(i + 1);
            layer_keys(&mut ws.keys, &ws.samples, i);
            let lens = ws.lengths.at(i, ws.valid);
            let cx = self.context(
                i,
                Context { lens, keys: &ws.keys[..lanes], ..Context::new(&[], ws.mode, ws.valid) },
            );
            let dstate = &mut ws.dstates[i][..slot.sizes.state * lanes];
            let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
            let (x, y, dy) = (ws.values[i].seq(lanes), ws.values[i + 1].seq(lanes), above[0].seq(lanes));
            let dx = (i > 0 || input_gradient).then(|| below[i].seq_mut(lanes));
            let grads = &mut grads[slot.params.clone()];
            slot.layer.backward(Backward { cx, x, y, dy, dx, dstate, cache, grads });
        }
    }

    /// `cx` with the parameters of layer `i`, and what it packed of them.
    pub(crate) fn context<'a>(&'a self, i: usize, cx: Context<'a, R>) -> Context<'a, R> {
        let slot = &self.slots()[i];
        let params = &self.params.as_slice()[slot.params.clone()];
        Context { params, packed: &self.packed[slot.packed.clone()], ..cx }
    }
}

fn layer_keys(keys: &mut [u64], samples: &[Sample], layer: usize) {
    for (key, sample) in keys.iter_mut().zip(samples) {
        *key = rng::key(&[sample.key, layer as u64]);
    }
}

/// The part of a cache that a tile of `lanes` lanes uses.
fn size_cache<R>(cache: &mut [R], lanes: usize, capacity: usize) -> &mut [R] {
    let size = cache.len() / capacity;
    &mut cache[..size * lanes]
}
