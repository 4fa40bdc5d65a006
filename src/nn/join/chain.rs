//! Layers one after another within a layer.

use std::ops::Range;

use super::plans::Plans;
use super::sums::{self, Stretch};
use crate::nn::{Backward, Build, Context, Description, Features, Forward, Layer};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::shape::MAX_LANES;
use crate::{Real, Result, Seq, SeqMut, Shape, names, rng};

/// Named layers, one after another, within a layer that holds them; see [`Branches`](super::Branches).
///
/// Without layers, it returns its input.
///
/// # Examples
/// ```
/// use bptt::nn::{Activation, Chain, Linear};
///
/// let chain: Chain = Chain::new().layer("linear", Linear::new(8)).layer("tanh", Activation::tanh());
/// ```
#[derive(Debug)]
pub struct Chain<R: Real = f32> {
    layers: Vec<(String, Box<dyn Layer<R>>)>,
    plans: Plans<ChainPlan>,
}

impl<R: Real> Default for Chain<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a chain has for one shape of its input: everything that a pass would otherwise compute again.
#[derive(Debug)]
pub(super) struct ChainPlan {
    links: Vec<Link>,
    pub output: Features,
    /// Parameters, packed weights, and values per lane of states, and of caches with all that lies between the layers.
    pub params: usize,
    pub packed: usize,
    pub state: usize,
    pub cache: usize,
    pub infer_cache: usize,
    /// How many sums over the batch it waits for at each point, and all together.
    pub waits: Vec<usize>,
    pub sums: usize,
}

/// What one layer has.
#[derive(Debug)]
struct Link {
    input: Shape,
    output: Shape,
    params: Range<usize>,
    packed: Range<usize>,
    state: Range<usize>,
    sums: Range<usize>,
    /// Its own cache, followed by its output and, if a backward pass may follow, the gradient with respect to that. The
    /// last layer's output lies elsewhere.
    cache: usize,
    infer_cache: usize,
    between: usize,
}

impl Link {
    /// Values per lane of what lies in the chain's cache.
    fn kept(&self, back: bool) -> usize {
        let own = if back { self.cache } else { self.infer_cache };
        own.saturating_add(self.between.saturating_mul(if back { 2 } else { 1 }))
    }
}

/// The lengths and keys of a layer within a chain.
struct Lanes {
    lens: [u32; MAX_LANES],
    short: bool,
    keys: [u64; MAX_LANES],
}

impl<R: Real> Chain<R> {
    /// A chain of no layers.
    pub fn new() -> Self {
        Self { layers: Vec::new(), plans: Plans::default() }
    }

    /// Appends a layer.
    pub fn layer(self, name: impl Into<String>, layer: impl Layer<R> + 'static) -> Self {
        self.boxed(name, Box::new(layer))
    }

    /// Appends a boxed layer.
    pub fn boxed(mut self, name: impl Into<String>, layer: Box<dyn Layer<R>>) -> Self {
        self.layers.push((name.into(), layer));
        self
    }

    /// The names and descriptions of the layers.
    pub(super) fn describe(&self) -> Vec<(String, Description)> {
        self.layers.iter().map(|(name, layer)| (name.clone(), layer.describe())).collect()
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &dyn Layer<R>> {
        self.layers.iter().map(|(_, layer)| &**layer)
    }

    /// What it has for inputs of this shape.
    ///
    /// # Panics
    /// If it was not built for them.
    pub(super) fn plan(&self, input: Shape) -> &ChainPlan {
        self.plans.get(input).expect("a layer is built for a shape before it passes inputs of it")
    }

    /// Declares the tensors of all layers, and returns what it has for this input.
    pub(super) fn build(&self, mut build: Build<'_>) -> Result<&ChainPlan> {
        let (mut features, first) = (build.input().clone(), build.declared());
        let mut plan = ChainPlan {
            links: vec![],
            output: features.clone(),
            params: 0,
            packed: 0,
            state: 0,
            cache: 0,
            infer_cache: 0,
            waits: vec![],
            sums: 0,
        };
        for (i, (name, layer)) in self.layers.iter().enumerate() {
            names::check("layer name", name)?;
            if name.is_empty() || self.layers[..i].iter().any(|(other, _)| other == name) {
                let fault = format!("found `{name}`, expected a name that no other layer has");
                return Err(crate::Error::config("layer name", fault));
            }
            let built = layer.build(&mut build.waiting_child(&features, name)).map_err(|e| e.within(name))?;
            let (output, sizes) = (built.output, built.sizes);
            output.shape.check("output").map_err(|e| e.within(name))?;
            let params = plan.params..build.declared() - first;
            let link = Link {
                input: features.shape,
                output: output.shape,
                packed: plan.packed..plan.packed.saturating_add(sizes.packed),
                state: plan.state..plan.state.saturating_add(sizes.state),
                sums: plan.sums..plan.sums.saturating_add(sizes.sums),
                cache: sizes.cache,
                infer_cache: sizes.infer_cache,
                between: if i + 1 < self.layers.len() { output.shape.size() } else { 0 },
                params,
            };
            (plan.params, plan.packed, plan.state) = (link.params.end, link.packed.end, link.state.end);
            plan.sums = link.sums.end;
            plan.waits.extend(built.waits);
            plan.cache = plan.cache.saturating_add(link.kept(true));
            plan.infer_cache = plan.infer_cache.saturating_add(link.kept(false));
            plan.links.push(link);
            features = output;
        }
        plan.output = features;
        Ok(self.plans.insert(build.input().shape, plan))
    }

    pub(super) fn length(&self, input: Shape, len: usize) -> usize {
        let links = self.plan(input).links.iter().zip(&self.layers);
        links.fold(len, |len, (link, (_, layer))| layer.length(link.input, len).min(link.output.t))
    }

    pub(super) fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        for (link, (_, layer)) in self.plan(input).links.iter().zip(&self.layers) {
            layer.pack(link.input, &params[link.params.clone()], &mut packed[link.packed.clone()]);
        }
    }

    pub(super) fn track(&self, input: Shape, sums: &[f64], params: &mut [R]) {
        for (link, (_, layer)) in self.plan(input).links.iter().zip(&self.layers) {
            layer.track(link.input, &sums[link.sums.clone()], &mut params[link.params.clone()]);
        }
    }

    /// The lengths and keys of layer `index` of a branch.
    fn lanes(&self, plan: &ChainPlan, cx: &Context<'_, R>, [branch, index]: [usize; 2]) -> Lanes {
        let mut lanes = Lanes { lens: [0; MAX_LANES], short: cx.lens.is_some(), keys: [0; MAX_LANES] };
        for (to, key) in lanes.keys.iter_mut().zip(cx.keys) {
            *to = rng::key(&[*key, branch as u64, index as u64]);
        }
        if let Some(lens) = cx.lens {
            lanes.lens[..lens.len()].copy_from_slice(lens);
            for (link, (_, layer)) in plan.links[..index].iter().zip(&self.layers) {
                let own = &mut lanes.lens[..lens.len()];
                own.iter_mut().for_each(|len| {
                    *len = layer.length(link.input, *len as usize).min(link.output.t) as u32;
                });
                lanes.short = own.iter().any(|&len| (len as usize) < link.output.t);
            }
        }
        lanes
    }

    /// Passes `pass.x` through the layers to `pass.y`, or to where the pass waits for `sums`; without layers, copies it.
    pub(super) fn forward(&self, branch: usize, pass: Forward<'_, R>, mut sums: Option<&mut [f64]>) {
        let Forward { cx, x, y, state, cache } = pass;
        let (plan, n, back) = (self.plan(x.shape), x.lanes, cx.mode.keeps_history());
        if plan.links.is_empty() {
            return y.data.copy_from_slice(x.data);
        }
        let (mut x, mut rest) = (x, cache);
        for (i, (link, (_, layer))) in plan.links.iter().zip(&self.layers).enumerate() {
            let lanes = self.lanes(plan, &cx, [branch, i]);
            let (own, after) = rest.split_at_mut(link.kept(back) * n);
            rest = after;
            let (cache, between) = own.split_at_mut(if back { link.cache } else { link.infer_cache } * n);
            let last = i + 1 == plan.links.len();
            let to = if last { &mut *y.data } else { &mut between[..link.between * n] };
            let own = link.context(&cx, &lanes, (n, plan.sums));
            let pass = Forward::new(own, x, SeqMut::new(to, link.output, n));
            let pass = pass.state(&mut state[link.state.start * n..link.state.end * n]).cache(cache);
            match (sums::forward(&cx, &link.sums, sums.is_some()), &mut sums) {
                (Stretch::Waits, Some(sums)) => return layer.forward_sums(pass, sums),
                (Stretch::Done, _) => {}
                _ => layer.forward(pass),
            }
            if !last {
                x = Seq::new(&between[..link.between * n], link.output, n);
            }
        }
    }

    /// Passes the gradient back from `pass.dy` to `pass.dx`, or to where the pass waits for `sums`; `pass.y` is what `forward`
    /// wrote.
    pub(super) fn backward(&self, branch: usize, pass: Backward<'_, R>, mut sums: Option<&mut [f64]>) {
        let Backward { cx, x, y, dy, mut dx, dstate, cache, grads } = pass;
        let (plan, n) = (self.plan(x.shape), x.lanes);
        if plan.links.is_empty() {
            return dx.iter_mut().for_each(|dx| dx.data.copy_from_slice(dy.data));
        }
        let mut rest = &mut cache[..plan.cache * n];
        for (i, (link, (_, layer))) in plan.links.iter().zip(&self.layers).enumerate().rev() {
            let lanes = self.lanes(plan, &cx, [branch, i]);
            let (below, own) = rest.split_at_mut(rest.len() - link.kept(true) * n);
            rest = below;
            let (cache, between) = own.split_at_mut(link.cache * n);
            let (own_y, own_dy) = between.split_at(link.between * n);
            let last = i + 1 == plan.links.len();
            let of = |data| Seq::new(data, link.output, n);
            let (y, dy) = if last { (y, dy) } else { (of(own_y), of(own_dy)) };
            // The output of the layer below, and the gradient with respect to it, are the last of what that keeps.
            let size = link.input.size() * n;
            let (x, to) = if i == 0 {
                (x, dx.as_mut().map(|dx| SeqMut::new(dx.data, link.input, n)))
            } else {
                let end = rest.len();
                let (value, gradient) = rest[end - 2 * size..].split_at_mut(size);
                (Seq::new(&*value, link.input, n), Some(SeqMut::new(gradient, link.input, n)))
            };
            let pass = Backward::new(link.context(&cx, &lanes, (n, plan.sums)), x, y, dy);
            let pass = Backward { dx: to, ..pass };
            let dstate = &mut dstate[link.state.start * n..link.state.end * n];
            let pass = pass.dstate(dstate).cache(cache).grads(&mut grads[link.params.clone()]);
            match (sums::backward(&cx, &link.sums, plan.sums, sums.is_some()), &mut sums) {
                (Stretch::Waits, Some(sums)) => return layer.backward_sums(pass, sums),
                (Stretch::Done, _) => {}
                _ => layer.backward(pass),
            }
        }
    }

    #[cfg(feature = "onnx")]
    pub(super) fn export(&self, graph: &mut Graph<'_, R>, mut x: Value) -> Result<Value> {
        for (link, (name, layer)) in self.plan(graph.input()).links.iter().zip(&self.layers) {
            x = graph.within(name, (link.input, link.params.clone()), |graph| layer.export_onnx(graph, x))?;
        }
        Ok(x)
    }
}

impl Link {
    /// The context in `n` lanes of a layer of a chain with so many sums.
    fn context<'a, R>(
        &self,
        cx: &Context<'a, R>,
        lanes: &'a Lanes,
        (n, all): (usize, usize),
    ) -> Context<'a, R> {
        Context {
            params: &cx.params[self.params.clone()],
            packed: &cx.packed[self.packed.clone()],
            lens: lanes.short.then(|| &lanes.lens[..cx.valid]),
            keys: &lanes.keys[..n],
            sums: sums::first_of(cx.sums, &self.sums),
            backward_sums: sums::last_of(cx.backward_sums, &self.sums, all),
            ..*cx
        }
    }
}
