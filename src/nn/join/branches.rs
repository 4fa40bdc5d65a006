//! Chains of layers side by side.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::chain::{Chain, ChainPlan};
use super::plans::Plans;
use super::sums::{self, Stretch};
use crate::nn::{Backward, Build, Built, Context, Description, Features, Forward, InvalidInput, Layer};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::params::Axis;
use crate::{Error, Real, Result, Seq, SeqMut, Shape, names};

/// Chains of layers side by side, which all read the input; their outputs are concatenated, or added.
///
/// concatenated: y = [f₁(x), f₂(x), …]; added: y = f₁(x) + f₂(x) + …
///
/// A [residual](Self::residual) connection is the sum of a chain and of one without layers, which returns its input. All
/// outputs have the same number of steps, and sequences that end early must end at the same step in each.
///
/// # Shapes
/// x `[T, F, B]` → y `[T', F'₁ + F'₂ + …, B]`, or `[T', F', B]` if added; state: those of all layers
/// # Parameters
/// Those of all layers, under `branch.layer.tensor`.
/// # Saved
/// The output of every layer, and what each keeps.
/// # Source
/// Visin et al. 2015, "ReNet: a recurrent neural network based alternative to convolutional networks" (rows and columns); He
/// et al. 2016, "Deep residual learning for image recognition".
/// # Examples
/// Rows read by one LSTM, columns by another:
/// ```
/// use bptt::nn::{Branches, Chain, Linear, Lstm, Transpose};
/// use bptt::{Model, Shape};
///
/// let both = Branches::concat()
///     .branch("rows", Chain::new().layer("lstm", Lstm::new(16).last()))
///     .branch("columns", Chain::new().layer("turn", Transpose::new(28, 1)).layer("lstm", Lstm::new(16).last()));
/// let model: Model = Model::builder(Shape::new(28, 28))
///     .layer("both", both)
///     .layer("linear", Linear::new(10))
///     .build(1)?;
/// assert_eq!(model.params().get("both.columns.lstm.weight_hh_l0").unwrap().shape(), [64, 16]);
/// assert_eq!(model.params().get("linear.weight").unwrap().shape(), [10, 32]);
///
/// let loaded: Model = Model::from_bytes(&model.to_bytes()?)?;
/// assert_eq!(loaded.to_string(), model.to_string());
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Debug)]
pub struct Branches<R: Real = f32> {
    branches: Vec<(String, Chain<R>)>,
    join: Join,
    plans: Plans<Vec<Part>>,
}

/// What lies where for a branch, for one shape of the input. Features are those of the concatenated output.
#[derive(Debug)]
struct Part {
    output: Shape,
    features: Range<usize>,
    params: Range<usize>,
    packed: Range<usize>,
    state: Range<usize>,
    sums: Range<usize>,
    /// In the cache, in values per lane: the output, and what the chain keeps. After those of all branches come the gradient
    /// with respect to an output and that with respect to the input.
    cache: Range<usize>,
    infer_cache: Range<usize>,
}

impl Part {
    /// That of a branch which comes after `before`.
    fn after(before: Option<&Self>, plan: &ChainPlan) -> Self {
        let from = |range: fn(&Self) -> &Range<usize>, size: usize| {
            let start = before.map_or(0, |part| range(part).end);
            start..start.saturating_add(size)
        };
        let size = plan.output.shape.size();
        Self {
            output: plan.output.shape,
            features: from(|part| &part.features, plan.output.shape.f),
            params: from(|part| &part.params, plan.params),
            packed: from(|part| &part.packed, plan.packed),
            state: from(|part| &part.state, plan.state),
            sums: from(|part| &part.sums, plan.sums),
            cache: from(|part| &part.cache, plan.cache.saturating_add(size)),
            infer_cache: from(|part| &part.infer_cache, plan.infer_cache.saturating_add(size)),
        }
    }

    /// The context of a chain among branches with `all` sums.
    fn context<'a, R>(&self, cx: &Context<'a, R>, all: usize) -> Context<'a, R> {
        Context {
            params: &cx.params[self.params.clone()],
            packed: &cx.packed[self.packed.clone()],
            sums: sums::first_of(cx.sums, &self.sums),
            backward_sums: sums::last_of(cx.backward_sums, &self.sums, all),
            ..*cx
        }
    }
}

/// What is made of the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Join {
    Concat,
    Sum,
}

/// How it is saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    branches: Vec<(String, Vec<(String, Description)>)>,
    join: Join,
}

impl<R: Real> Branches<R> {
    fn new(join: Join) -> Self {
        Self { branches: Vec::new(), join, plans: Plans::default() }
    }

    /// No branches yet, whose outputs will be concatenated.
    pub fn concat() -> Self {
        Self::new(Join::Concat)
    }

    /// No branches yet, whose outputs will be added.
    pub fn sum() -> Self {
        Self::new(Join::Sum)
    }

    /// y = x + f(x): the sum of the input and of `chain`, which is called `branch`.
    pub fn residual(branch: impl Into<String>, chain: Chain<R>) -> Self {
        Self::sum().branch("skip", Chain::new()).branch(branch, chain)
    }

    /// Adds a branch.
    pub fn branch(mut self, name: impl Into<String>, chain: Chain<R>) -> Self {
        self.branches.push((name.into(), chain));
        self
    }

    /// The layer with this description; `load` makes the layers in it.
    ///
    /// # Errors
    /// [`Error::Config`] if the description is of another kind or has invalid settings, or `load` fails.
    pub(crate) fn from_config(
        config: serde_json::Value,
        load: &dyn Fn(Description) -> Result<Box<dyn Layer<R>>>,
    ) -> Result<Self> {
        let Config { branches, join } =
            serde_json::from_value(config).map_err(|e| Error::config("branches", e.to_string()))?;
        let mut own = Self::new(join);
        for (name, layers) in branches {
            let chain = layers.into_iter().try_fold(Chain::new(), |chain, (layer, description)| {
                Ok::<_, Error>(chain.boxed(layer.clone(), load(description).map_err(|e| e.within(&layer))?))
            });
            let chain = chain.map_err(|e| e.within(&name))?;
            own = own.branch(name, chain);
        }
        Ok(own)
    }

    fn chains(&self) -> impl Iterator<Item = &Chain<R>> {
        self.branches.iter().map(|(_, chain)| chain)
    }

    fn layers(&self) -> impl Iterator<Item = &dyn Layer<R>> {
        self.chains().flat_map(Chain::layers)
    }

    /// What the branches have for inputs of this shape.
    ///
    /// # Panics
    /// If the layer was not built for them.
    fn parts(&self, input: Shape) -> &[Part] {
        self.plans.get(input).expect("a layer is built for a shape before it passes inputs of it")
    }

    /// The units of the output.
    fn units(&self, plans: &[&ChainPlan]) -> Result<Features> {
        let shapes: Vec<_> = plans.iter().map(|plan| plan.output.shape).collect();
        let Some(first) = shapes.first() else {
            return Err(Error::config("branches", "found none, expected at least one"));
        };
        let same = |shape: &Shape| shape.t == first.t && (self.join == Join::Concat || shape.f == first.f);
        if let Some(other) = shapes.iter().find(|shape| !same(shape)) {
            let what = if self.join == Join::Concat { "the same number of steps" } else { "the same shape" };
            return Err(Error::config(
                "branches",
                format!("found outputs {first} and {other}, expected {what}"),
            ));
        }
        if self.join == Join::Sum {
            // A unit is the sum of units of several layers, and none of them can go alone.
            return Ok(Features::new(*first));
        }
        let axes = plans.iter().map(|plan| plan.output.units.clone());
        let units = axes.reduce(Axis::then).unwrap_or_else(|| 0.into());
        Ok(Features::of(first.t, units))
    }
}

impl<R: Real> Layer<R> for Branches<R> {
    fn describe(&self) -> Description {
        let branches = self.branches.iter().map(|(name, chain)| (name.clone(), chain.describe())).collect();
        Description::new("branches", Config { branches, join: self.join })
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let (mut plans, input) = (Vec::new(), build.input());
        for (i, (name, chain)) in self.branches.iter().enumerate() {
            names::check("branch name", name)?;
            if name.is_empty() || self.branches[..i].iter().any(|(other, _)| other == name) {
                let fault = format!("found `{name}`, expected a name that no other branch has");
                return Err(Error::config("branch name", fault));
            }
            plans.push(chain.build(build.waiting_child(input, name)).map_err(|e| e.within(name))?);
        }
        let output = self.units(&plans)?;
        let mut parts: Vec<Part> = Vec::new();
        plans.iter().for_each(|plan| parts.push(Part::after(parts.last(), plan)));
        let end = |range: fn(&Part) -> &Range<usize>| parts.last().map_or(0, |part| range(part).end);
        let gradients = output.shape.size().saturating_add(input.shape.size());
        let built = Built::new(output)
            .cache(end(|part| &part.cache).saturating_add(gradients))
            .infer_cache(end(|part| &part.infer_cache))
            .state(end(|part| &part.state))
            .packed(end(|part| &part.packed));
        self.plans.insert(input.shape, parts);
        Ok(plans.iter().flat_map(|plan| &plan.waits).fold(built, |built, &sums| built.sums(sums)))
    }

    fn length(&self, input: Shape, len: usize) -> usize {
        self.chains().next().map_or(len, |chain| chain.length(input, len))
    }

    fn streams(&self) -> bool {
        self.layers().all(Layer::streams)
    }

    fn takes_one_lane(&self) -> bool {
        self.layers().all(Layer::takes_one_lane)
    }

    fn check(&self, cx: &Context<'_, R>, x: Seq<'_, R>) -> Result<(), InvalidInput> {
        self.chains().filter_map(|chain| chain.layers().next()).try_for_each(|layer| layer.check(cx, x))
    }

    fn accepts_everything(&self) -> bool {
        self.chains().filter_map(|chain| chain.layers().next()).all(Layer::accepts_everything)
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        for (part, chain) in self.parts(input).iter().zip(self.chains()) {
            chain.pack(input, &params[part.params.clone()], &mut packed[part.packed.clone()]);
        }
    }

    fn forward(&self, pass: Forward<'_, R>) {
        self.pass_forward(pass, None);
    }

    fn forward_sums(&self, pass: Forward<'_, R>, sums: &mut [f64]) {
        self.pass_forward(pass, Some(sums));
    }

    fn backward(&self, pass: Backward<'_, R>) {
        self.pass_back(pass, None);
    }

    fn backward_sums(&self, pass: Backward<'_, R>, sums: &mut [f64]) {
        self.pass_back(pass, Some(sums));
    }

    fn track(&self, input: Shape, sums: &[f64], params: &mut [R]) {
        for (part, chain) in self.parts(input).iter().zip(self.chains()) {
            chain.track(input, &sums[part.sums.clone()], &mut params[part.params.clone()]);
        }
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let (mut outputs, input) = (Vec::new(), graph.input());
        let before = graph.lengths_before();
        for (part, (name, chain)) in self.parts(input).iter().zip(&self.branches) {
            graph.restore_lengths(before.clone());
            let own = (input, part.params.clone());
            outputs.push(graph.within(name, own, |graph| chain.export(graph, x.clone()))?);
        }
        let outputs: Vec<_> = outputs.iter().collect();
        Ok(match self.join {
            Join::Concat => graph.node("Concat", &outputs, &[("axis", Attribute::Int(2))]),
            Join::Sum => graph.node("Sum", &outputs, &[]),
        })
    }
}

impl<R: Real> Branches<R> {
    /// Passes all branches, or to where the pass waits for `sums`.
    fn pass_forward(&self, pass: Forward<'_, R>, mut sums: Option<&mut [f64]>) {
        let Forward { cx, x, y, state, cache } = pass;
        let (n, parts) = (x.lanes, self.parts(x.shape));
        let all = parts.last().map_or(0, |part| part.sums.end);
        for (i, (part, chain)) in parts.iter().zip(self.chains()).enumerate() {
            let stretch = sums::forward(&cx, &part.sums, sums.is_some());
            if stretch == Stretch::Done {
                continue;
            }
            let own = if cx.mode.keeps_history() { &part.cache } else { &part.infer_cache };
            let (out, own) = of_lanes(cache, own, n).split_at_mut(part.output.size() * n);
            let pass = Forward::new(part.context(&cx, all), x, SeqMut::new(out, part.output, n));
            let own_sums = sums.as_deref_mut().filter(|_| stretch == Stretch::Waits);
            chain.forward(i, pass.state(of_lanes(state, &part.state, n)).cache(own), own_sums);
            if stretch == Stretch::Waits {
                return;
            }
            match self.join {
                Join::Sum if i == 0 => y.data.copy_from_slice(out),
                Join::Sum => R::accumulate(y.data, out),
                Join::Concat => {
                    let rows = y.data.chunks_exact_mut(y.shape.f * n);
                    for (y, out) in rows.zip(out.chunks_exact(part.output.f * n)) {
                        of_lanes(y, &part.features, n).copy_from_slice(out);
                    }
                }
            }
        }
    }

    /// Passes the gradient back through all branches, or to where the pass waits for `sums`.
    fn pass_back(&self, pass: Backward<'_, R>, mut sums: Option<&mut [f64]>) {
        let Backward { cx, x, dy, mut dx, dstate, cache, grads, .. } = pass;
        let (n, parts) = (x.lanes, self.parts(x.shape));
        let all = parts.last().map_or(0, |part| part.sums.end);
        let gradients = cache.len() - (dy.shape.size() + x.shape.size()) * n;
        let (cache, rest) = cache.split_at_mut(gradients);
        let (own_dy, own_dx) = rest.split_at_mut(dy.shape.size() * n);
        for k in 0..parts.len() {
            // From the last one where branches wait: a pass back waits in the opposite order.
            let i = if all > 0 { parts.len() - 1 - k } else { k };
            let (part, chain) = (&parts[i], &self.branches[i].1);
            let stretch = sums::backward(&cx, &part.sums, all, sums.is_some());
            if stretch == Stretch::Done {
                continue;
            }
            let (out, own) = of_lanes(cache, &part.cache, n).split_at_mut(part.output.size() * n);
            let dy = self.gradient_of(part, dy, own_dy);
            let pass = Backward::new(part.context(&cx, all), x, Seq::new(&*out, part.output, n), dy);
            let pass = pass.dstate(of_lanes(dstate, &part.state, n)).cache(own);
            let pass = pass.grads(&mut grads[part.params.clone()]);
            let to = dx
                .as_mut()
                .map(|dx| SeqMut::new(if k == 0 { &mut *dx.data } else { &mut *own_dx }, x.shape, n));
            let own_sums = sums.as_deref_mut().filter(|_| stretch == Stretch::Waits);
            chain.backward(i, Backward { dx: to, ..pass }, own_sums);
            match &mut dx {
                _ if stretch == Stretch::Waits => return,
                Some(dx) if k > 0 => R::accumulate(dx.data, own_dx),
                _ => {}
            }
        }
    }

    /// The gradient with respect to the output of a branch; `own` has room for it.
    fn gradient_of<'a>(&self, part: &Part, dy: Seq<'a, R>, own: &'a mut [R]) -> Seq<'a, R> {
        if self.join == Join::Sum {
            return dy;
        }
        let (n, own) = (dy.lanes, &mut own[..part.output.size() * dy.lanes]);
        let features = part.features.start * n..part.features.end * n;
        for (dy, own) in dy.data.chunks_exact(dy.shape.f * n).zip(own.chunks_exact_mut(part.output.f * n)) {
            own.copy_from_slice(&dy[features.clone()]);
        }
        Seq::new(own, part.output, n)
    }
}

/// What lies at `range`, counted per lane.
fn of_lanes<'a, R>(data: &'a mut [R], range: &Range<usize>, lanes: usize) -> &'a mut [R] {
    &mut data[range.start * lanes..range.end * lanes]
}
