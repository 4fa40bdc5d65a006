//! Chains of layers side by side.

use serde::{Deserialize, Serialize};

use super::chain::{Chain, ChainPlan};
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
    /// No branches yet, whose outputs will be concatenated.
    pub fn concat() -> Self {
        Self { branches: Vec::new(), join: Join::Concat }
    }

    /// No branches yet, whose outputs will be added.
    pub fn sum() -> Self {
        Self { branches: Vec::new(), join: Join::Sum }
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
        let mut own = Self { branches: Vec::new(), join };
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

    /// What lies in the cache for each branch, in values per lane: what the chain keeps, and its output; after those of all,
    /// the gradient with respect to an output and that with respect to the input.
    fn kept(plan: &ChainPlan, back: bool) -> usize {
        (if back { plan.cache } else { plan.infer_cache }).saturating_add(plan.output.shape.size())
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
            plans.push(chain.build(build.child(input, name)).map_err(|e| e.within(name))?);
        }
        let output = self.units(&plans)?;
        let sum = |size: fn(&ChainPlan) -> usize| {
            plans.iter().map(|plan| size(plan)).fold(0, usize::saturating_add)
        };
        let gradients = output.shape.size().saturating_add(input.shape.size());
        Ok(Built::new(output)
            .cache(sum(|plan| Self::kept(plan, true)).saturating_add(gradients))
            .infer_cache(sum(|plan| Self::kept(plan, false)))
            .state(sum(|plan| plan.state))
            .packed(sum(|plan| plan.packed)))
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

    fn pack(&self, input: Shape, mut params: &[R], mut packed: &mut [R]) {
        for chain in self.chains() {
            let plan = chain.plan(input);
            let (own, rest) = params.split_at(plan.params);
            let (own_packed, rest_packed) = packed.split_at_mut(plan.packed);
            chain.pack(input, own, own_packed);
            (params, packed) = (rest, rest_packed);
        }
    }

    fn forward(&self, Forward { cx, x, y, mut state, mut cache }: Forward<'_, R>) {
        let (n, back) = (x.lanes, cx.mode.keeps_history());
        let (mut params, mut packed, mut first) = (cx.params, cx.packed, 0);
        for (i, chain) in self.chains().enumerate() {
            let plan = chain.plan(x.shape);
            let (own, shape) = (take_mut(&mut cache, Self::kept(plan, back) * n), plan.output.shape);
            let (out, own) = own.split_at_mut(shape.size() * n);
            let cx = Context {
                params: take(&mut params, plan.params),
                packed: take(&mut packed, plan.packed),
                ..cx
            };
            let pass = Forward::new(cx, x, SeqMut::new(out, shape, n));
            chain.forward(i, pass.state(take_mut(&mut state, plan.state * n)).cache(own));
            match self.join {
                Join::Sum if i == 0 => y.data.copy_from_slice(out),
                Join::Sum => R::accumulate(y.data, out),
                Join::Concat => {
                    for (y, out) in y.data.chunks_exact_mut(y.shape.f * n).zip(out.chunks_exact(shape.f * n))
                    {
                        y[first..][..out.len()].copy_from_slice(out);
                    }
                    first += shape.f * n;
                }
            }
        }
    }

    fn backward(
        &self,
        Backward { cx, x, dy, mut dx, mut dstate, mut cache, mut grads, .. }: Backward<'_, R>,
    ) {
        let n = x.lanes;
        let gradients = cache.len() - (dy.shape.size() + x.shape.size()) * n;
        let (kept, rest) = cache.split_at_mut(gradients);
        let (own_dy, own_dx) = rest.split_at_mut(dy.shape.size() * n);
        cache = kept;
        let (mut params, mut packed, mut first) = (cx.params, cx.packed, 0);
        for (i, chain) in self.chains().enumerate() {
            let plan = chain.plan(x.shape);
            let (own, shape) = (take_mut(&mut cache, Self::kept(plan, true) * n), plan.output.shape);
            let (out, own) = own.split_at_mut(shape.size() * n);
            let dy = match self.join {
                Join::Sum => dy,
                Join::Concat => {
                    let own_dy = &mut own_dy[..shape.size() * n];
                    for (dy, own) in
                        dy.data.chunks_exact(dy.shape.f * n).zip(own_dy.chunks_exact_mut(shape.f * n))
                    {
                        own.copy_from_slice(&dy[first..][..own.len()]);
                    }
                    first += shape.f * n;
                    Seq::new(&*own_dy, shape, n)
                }
            };
            let cx = Context {
                params: take(&mut params, plan.params),
                packed: take(&mut packed, plan.packed),
                ..cx
            };
            let pass = Backward::new(cx, x, Seq::new(&*out, shape, n), dy);
            let pass = pass.dstate(take_mut(&mut dstate, plan.state * n)).cache(own);
            let pass = pass.grads(take_mut(&mut grads, plan.params));
            match &mut dx {
                None => chain.backward(i, pass),
                Some(dx) if i == 0 => chain.backward(i, pass.dx(SeqMut::new(dx.data, x.shape, n))),
                Some(dx) => {
                    chain.backward(i, pass.dx(SeqMut::new(own_dx, x.shape, n)));
                    R::accumulate(dx.data, own_dx);
                }
            }
        }
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let (mut outputs, input, mut first) = (Vec::new(), graph.input(), 0);
        let before = graph.lengths_before();
        for (name, chain) in &self.branches {
            let range = first..first + chain.plan(input).params;
            first = range.end;
            graph.restore_lengths(before.clone());
            outputs.push(graph.within(name, (input, range), |graph| chain.export(graph, x.clone()))?);
        }
        let outputs: Vec<_> = outputs.iter().collect();
        Ok(match self.join {
            Join::Concat => graph.node("Concat", &outputs, &[("axis", Attribute::Int(2))]),
            Join::Sum => graph.node("Sum", &outputs, &[]),
        })
    }
}

/// Takes the first `n` values.
fn take<'a, R>(from: &mut &'a [R], n: usize) -> &'a [R] {
    let (own, rest) = from.split_at(n);
    *from = rest;
    own
}

/// Takes the first `n` values.
fn take_mut<'a, R>(from: &mut &'a mut [R], n: usize) -> &'a mut [R] {
    let (own, rest) = std::mem::take(from).split_at_mut(n);
    *from = rest;
    own
}
