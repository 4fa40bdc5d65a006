//! A tile's forward and backward pass through all layers of a model.

use std::ops::Range;

use super::Model;
use super::waits::Wait;
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
        let mut first = 0;
        for wait in self.forward_waits(ws.mode) {
            self.forward_layers(ws, first..wait.layer);
            self.forward_sums(ws, &wait);
            first = wait.layer;
        }
        self.forward_layers(ws, first..self.slots().len());
    }

    /// Passes the tile forward through these layers, but for what [`forward_sums`](Self::forward_sums) has done.
    pub(crate) fn forward_layers(&self, ws: &mut Workspace<R>, layers: Range<usize>) {
        for i in layers {
            let all = ws.sums[i].len() / 2;
            self.slots()[i].layer.forward(self.forward_pass(ws, i, all..all).0);
        }
    }

    /// Passes the tile to where its layer waits, and computes its share of the sums there.
    pub(crate) fn forward_sums(&self, ws: &mut Workspace<R>, wait: &Wait) {
        let (pass, sums) = self.forward_pass(ws, wait.layer, wait.sums.clone());
        sums.fill(0.0);
        self.slots()[wait.layer].layer.forward_sums(pass, sums);
    }

    /// The pass of layer `i`, given the sums before `own`, and those in `own`.
    fn forward_pass<'a>(
        &'a self,
        ws: &'a mut Workspace<R>,
        i: usize,
        own: Range<usize>,
    ) -> (Forward<'a, R>, &'a mut [f64]) {
        let lanes = ws.lanes;
        let (below, above) = ws.values.split_at_mut(i + 1);
        layer_keys(&mut ws.keys, &ws.samples, i);
        let (lens, keys) = (ws.lengths.at(i, ws.valid), &ws.keys[..lanes]);
        let (sums, own) = ws.sums[i][..own.end].split_at_mut(own.start);
        let cx = self.context(i, Context { lens, sums, keys, ..Context::new(&[], ws.mode, ws.valid) });
        let state = &mut ws.states[i][..self.slots()[i].sizes.state * lanes];
        let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
        let pass = Forward::new(cx, below[i].seq(lanes), above[0].seq_mut(lanes));
        (pass.state(state).cache(cache), own)
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
        for wait in self.backward_waits(ws.mode) {
            self.backward_layers(ws, grads, input_gradient, wait.layer + 1..last);
            self.backward_sums(ws, grads, input_gradient, &wait);
            last = wait.layer + 1;
        }
        self.backward_layers(ws, grads, input_gradient, 0..last);
    }

    /// Passes the gradient back through these layers, the last one first, but for what
    /// [`backward_sums`](Self::backward_sums) has done.
    pub(crate) fn backward_layers(
        &self,
        ws: &mut Workspace<R>,
        grads: &mut [R],
        input_gradient: bool,
        layers: Range<usize>,
    ) {
        for i in layers.rev() {
            let half = ws.sums[i].len() / 2;
            let (pass, _) = self.backward_pass(ws, grads, input_gradient, (i, half..half));
            self.slots()[i].layer.backward(pass);
        }
    }

    /// Passes the gradient back to where its layer waits, and computes the tile's share of the sums there; may add to `grads`.
    pub(crate) fn backward_sums(
        &self,
        ws: &mut Workspace<R>,
        grads: &mut [R],
        input_gradient: bool,
        wait: &Wait,
    ) {
        let (pass, sums) = self.backward_pass(ws, grads, input_gradient, (wait.layer, wait.sums.clone()));
        sums.fill(0.0);
        self.slots()[wait.layer].layer.backward_sums(pass, sums);
    }

    /// The pass of layer `i`, given the sums of the forward pass and those after `own`, and those in `own`.
    fn backward_pass<'a>(
        &'a self,
        ws: &'a mut Workspace<R>,
        grads: &'a mut [R],
        input_gradient: bool,
        (i, own): (usize, Range<usize>),
    ) -> (Backward<'a, R>, &'a mut [f64]) {
        let (slot, lanes) = (&self.slots()[i], ws.lanes);
        let (below, above) = ws.grads.split_at_mut(i + 1);
        layer_keys(&mut ws.keys, &ws.samples, i);
        let (lens, keys) = (ws.lengths.at(i, ws.valid), &ws.keys[..lanes]);
        let half = ws.sums[i].len() / 2;
        let (sums, rest) = ws.sums[i].split_at_mut(half);
        let (rest, backward_sums) = rest.split_at_mut(own.end - half);
        let cx = Context { lens, sums, backward_sums, keys, ..Context::new(&[], ws.mode, ws.valid) };
        let cx = self.context(i, cx);
        let dstate = &mut ws.dstates[i][..slot.sizes.state * lanes];
        let cache = size_cache(&mut ws.caches[i], lanes, ws.capacity);
        let (x, y, dy) = (ws.values[i].seq(lanes), ws.values[i + 1].seq(lanes), above[0].seq(lanes));
        let dx = (i > 0 || input_gradient).then(|| below[i].seq_mut(lanes));
        let grads = &mut grads[slot.params.clone()];
        (Backward { cx, x, y, dy, dx, dstate, cache, grads }, &mut rest[own.start - half..])
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
