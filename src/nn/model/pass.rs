//! A tile's forward and backward pass through all layers of a model.

use std::ops::Range;

use super::Model;
use super::workspace::Workspace;
use crate::data::Sample;
use crate::nn::{Backward, Context, Forward, Mode};
use crate::{Real, rng};

impl<R: Real> Model<R> {
    /// Passes the tile forward through every layer.
    ///
    /// # Panics
    /// If the workspace belongs to another model.
    #[track_caller]
    pub fn forward(&self, ws: &mut Workspace<R>) {
        ws.check_model(self);
        let mut first = 0;
        for i in self.waiting(ws.mode) {
            self.forward_layers(ws, first..i);
            self.forward_sums(ws, i);
            first = i;
        }
        self.forward_layers(ws, first..self.slots().len());
    }

    /// The layers whose passes wait for sums over the whole batch.
    pub(crate) fn waiting(&self, mode: Mode) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.slots().len()).filter(move |&i| mode == Mode::Train && self.slots()[i].sizes.sums > 0)
    }

    /// Passes the tile forward through these layers.
    pub(crate) fn forward_layers(&self, ws: &mut Workspace<R>, layers: Range<usize>) {
        let lanes = ws.lanes;
        for i in layers {
            let slot = &self.slots()[i];
            let (below, above) = ws.values.split_at_mut(i + 1);
            layer_keys(&mut ws.keys, &ws.samples, i);
            let lens = ws.lengths.at(i, ws.valid);
            let sums = ws.sums[i].split_at(ws.sums[i].len() / 2).0;
            let cx = self.context(
                i,
                Context { lens, sums, keys: &ws.keys[..lanes], ..Context::new(&[], ws.mode, ws.valid) },
            );
            let state = &mut ws.states[i][..slot.sizes.state * lanes];
            let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
            let pass = Forward::new(cx, below[i].seq(lanes), above[0].seq_mut(lanes));
            slot.layer.forward(pass.state(state).cache(cache));
        }
    }

    /// Computes the tile's share of what the forward pass of layer `i` waits for.
    pub(crate) fn forward_sums(&self, ws: &mut Workspace<R>, i: usize) {
        let (lens, x) = (ws.lengths.at(i, ws.valid), ws.values[i].seq(ws.lanes));
        let cx = self.context(i, Context { lens, ..Context::new(&[], ws.mode, ws.valid) });
        let half = ws.sums[i].len() / 2;
        let sums = &mut ws.sums[i][..half];
        sums.fill(0.0);
        self.slots()[i].layer.forward_sums(&cx, x, sums);
    }

    /// Computes the tile's share of what the backward pass of layer `i` waits for, and may add to `grads`.
    pub(crate) fn backward_sums(&self, ws: &mut Workspace<R>, grads: &mut [R], i: usize) {
        let (lens, x) = (ws.lengths.at(i, ws.valid), ws.values[i].seq(ws.lanes));
        let half = ws.sums[i].len() / 2;
        let (forward, sums) = ws.sums[i].split_at_mut(half);
        let cx = Context { lens, sums: forward, ..Context::new(&[], ws.mode, ws.valid) };
        sums.fill(0.0);
        let slot = &self.slots()[i];
        let (dy, grads) = (ws.grads[i + 1].seq(ws.lanes), &mut grads[slot.params.clone()]);
        slot.layer.backward_sums(&self.context(i, cx), (x, dy), sums, grads);
    }

    /// Lets each layer that has statistics move them towards those of a batch with these sums, unless they are frozen.
    pub(crate) fn track(&mut self, sums: &[Vec<f64>], frozen: &[Range<usize>]) {
        let Self { layers, params, .. } = self;
        for (slot, sums) in layers.iter().zip(sums).filter(|(slot, _)| slot.sizes.sums > 0) {
            let mut own = params.layout().statistics().filter(|range| slot.params.contains(&range.start));
            if !own.any(|own| frozen.iter().any(|frozen| frozen.contains(&own.start))) {
                drop(own);
                let params = &mut params.as_mut_slice()[slot.params.clone()];
                slot.layer.track(&sums[..slot.sizes.sums], params);
            }
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
        let mut last = self.slots().len();
        for i in self.waiting(ws.mode).rev() {
            self.backward_layers(ws, grads, input_gradient, i + 1..last);
            self.backward_sums(ws, grads, i);
            last = i + 1;
        }
        self.backward_layers(ws, grads, input_gradient, 0..last);
    }

    /// Passes the gradient back through these layers, the last one first.
    pub(crate) fn backward_layers(
        &self,
        ws: &mut Workspace<R>,
        grads: &mut [R],
        input_gradient: bool,
        layers: Range<usize>,
    ) {
        let lanes = ws.lanes;
        for i in layers.rev() {
            let slot = &self.slots()[i];
            let (below, above) = ws.grads.split_at_mut(i + 1);
            layer_keys(&mut ws.keys, &ws.samples, i);
            let lens = ws.lengths.at(i, ws.valid);
            let (sums, keys) = (&*ws.sums[i], &ws.keys[..lanes]);
            let cx = self.context(i, Context { lens, sums, keys, ..Context::new(&[], ws.mode, ws.valid) });
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
