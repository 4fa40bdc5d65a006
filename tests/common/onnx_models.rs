//! Models of every kind of layer, with something to run through them: for whoever compares what they hand out here
//! with what their exported files hand out elsewhere.
#![allow(dead_code)] // each test uses its part

use bptt::data::Normalize;
use bptt::nn::{
    Activation, AttentionPool, BatchNorm, Branches, Chain, Conv1d, Conv2d, Dropout, EmbedColumns, Embedding,
    Gru, Layer, LayerNorm, Linear, LogSoftmax, Lstm, Mode, ModelBuilder, PeepholeLstm, Pool, Pool2d, Rnn,
    Transpose, Workspace,
};
use bptt::prune::Units;
use bptt::{Init, Model, Real, Shape, rng};
use ndarray::{Array2, Array3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

/// A model and the recurrent layers in it.
pub struct Case<R> {
    pub name: String,
    pub model: Model<R>,
    stacks: Vec<Stack>,
    /// Whether the input is indices, below this.
    indices: Option<usize>,
}

/// A recurrent layer of a case.
#[derive(Clone)]
struct Stack {
    name: &'static str,
    /// Which layer of the model it is.
    layer: usize,
    /// Layers times directions.
    parts: usize,
    hidden: usize,
    /// Whether there is a cell state too.
    cell: bool,
}

/// Inputs or outputs by name, all `[_, _, _]` but for the lengths.
pub type Values<R> = Vec<(String, Array3<R>)>;

/// One run of a case.
pub struct Run<R> {
    pub inputs: Values<R>,
    pub lengths: Vec<i32>,
    pub outputs: Values<R>,
}

/// All cases: every kind of layer, of sizes that differ from case to case.
pub fn cases<R: Real>() -> Vec<Case<R>> {
    let mut cases = Vec::new();
    for cell in ["lstm", "gru", "rnn_tanh", "rnn_relu"] {
        for (layers, bidirectional, last) in (0..12).map(|i| (1 + i / 4, i % 2 == 1, i / 2 % 2 == 1)) {
            cases.push(recurrent(cell, layers, bidirectional, last, cases.len() as u64));
        }
    }
    let (relu, tanh, sigmoid) = (Activation::relu(), Activation::tanh(), Activation::sigmoid());
    for (layers, bidirectional, last) in
        [(1, false, true), (2, false, false), (2, true, false), (1, true, true)]
    {
        cases.push(recurrent("peephole", layers, bidirectional, last, cases.len() as u64));
    }
    for cell in ["lstm_plain", "gru_plain", "gru_before"] {
        cases.push(recurrent(cell, 2, true, false, cases.len() as u64));
    }
    alone(&mut cases, "linear", Linear::new(4));
    alone(&mut cases, "linear_plain", Linear::new(4).bias(false));
    alone(&mut cases, "relu", relu);
    alone(&mut cases, "tanh", tanh);
    alone(&mut cases, "sigmoid", sigmoid);
    alone(&mut cases, "dropout", Dropout::new(0.5).locked());
    alone(&mut cases, "layer_norm", LayerNorm::new());
    alone(&mut cases, "layer_norm_plain", LayerNorm::new().eps(1e-3).elementwise_affine(false));
    normalised(&mut cases);
    alone(&mut cases, "log_softmax", LogSoftmax);
    alone(&mut cases, "pool_last", Pool::last());
    alone(&mut cases, "pool_mean", Pool::mean());
    alone(&mut cases, "pool_max", Pool::max());
    let words = builder(Shape::new(6, 1)).layer("embedding", Embedding::new(11, 5));
    cases.push(Case { indices: Some(11), ..case("embedding", words, vec![]) });
    let columns = builder(Shape::new(6, 4))
        .layer("columns", EmbedColumns::new().column(3, 11, 2).column(1, 12, 3))
        .layer("gru", Gru::new(4));
    let gru = vec![stack(("gru", 1, 1, 4, false))];
    cases.push(Case { indices: Some(11), ..case("embed_columns", columns, gru) });
    cases.push(scaled(vec![4.0, -0.25], vec![20.0, 0.5]));
    cases.push(scaled(vec![5.0], vec![0.1]));
    convolutions(&mut cases);
    alone(&mut cases, "attention_pool", AttentionPool::new());
    joined(&mut cases);
    cases.push(everything());
    cases.push(compacted());
    // Layers above one that has left a single step.
    let steps = builder(Shape::new(5, 3)).layer("below", Gru::new(4).last()).layer("mean", Pool::mean());
    let stacks = [("below", 0, 1, 4, false), ("above", 2, 2, 3, true)].map(stack).to_vec();
    cases.push(case("one_step", steps.layer("above", Lstm::new(3).bidirectional()), stacks));
    cases
}

/// With lengths that they change, and with states.
fn convolutions<R: Real>(cases: &mut Vec<Case<R>>) {
    let images = builder(Shape::new(9, 12))
        .layer("conv", Conv2d::new(2, 3, [3, 2]).padding([2, 1]))
        .layer("max", Pool2d::max(3, [2, 3]).stride([1, 2]))
        .layer("second", Conv2d::new(3, 4, [2, 2]).padding([1, 0]).stride([2, 1]).bias(false))
        .layer("mean", Pool2d::mean(4, [1, 1]))
        .layer("lstm", Lstm::new(3).bidirectional());
    cases.push(case("conv2d", images, vec![stack(("lstm", 4, 2, 3, true))]));
    for (name, global) in
        [("conv2d_global_mean", Pool2d::global_mean(3)), ("conv2d_global_max", Pool2d::global_max(3))]
    {
        let images =
            builder(Shape::new(7, 4)).layer("conv", Conv2d::new(1, 3, [1, 2])).layer("global", global);
        cases.push(case(name, images, vec![]));
    }
    let steps = builder(Shape::new(6, 5))
        .layer("conv", Conv1d::new(4, 3).stride(2).padding(2))
        .layer("gru", Gru::new(3).last());
    cases.push(case("conv1d", steps, vec![stack(("gru", 1, 1, 3, false))]));
    // Its state is the rows before the first one.
    let causal = builder(Shape::new(6, 5))
        .layer("conv", Conv1d::new(4, 4).causal())
        .layer("above", Conv2d::new(2, 3, [2, 2]).causal());
    let stacks = [("conv", 0, 3, 5, false), ("above", 1, 1, 4, false)].map(stack).to_vec();
    cases.push(case("causal", causal, stacks));
}

/// With targets that are standardised.
fn scaled<R: Real>(mean: Vec<f64>, sd: Vec<f64>) -> Case<R> {
    let name = format!("targets_{}", mean.len());
    let targets = Normalize::per_feature(mean, sd).unwrap();
    let builder = builder(Shape::new(4, 3)).normalize_targets(targets);
    let builder = builder.layer("lstm", Lstm::new(5).last()).layer("linear", Linear::new(2).bias(false));
    case(&name, builder, vec![stack(("lstm", 0, 1, 5, true))])
}

/// With statistics that are not those of a new model.
fn normalised<R: Real>(cases: &mut Vec<Case<R>>) {
    let images = builder(Shape::new(4, 6))
        .layer("norm", BatchNorm::channels(2))
        .layer("plain", BatchNorm::new().affine(false).eps(1e-3))
        .layer("gru", Gru::new(3));
    let mut case = case("batch_norm", images, vec![stack(("gru", 2, 1, 3, false))]);
    set_statistics(&mut case.model, &[("norm", 0.4), ("plain", 0.7)]);
    cases.push(case);
    let f = Chain::new().layer("conv", Conv2d::new(2, 2, [3, 1]).padding([1, 0]).bias(false));
    let f = f.layer("norm", BatchNorm::channels(2)).layer("relu", Activation::relu());
    let ends = Branches::concat()
        .branch("a", Chain::new().layer("norm", BatchNorm::new()).layer("linear", Linear::new(3)))
        .branch(
            "b",
            Chain::new().layer("linear", Linear::new(2)).layer("norm", BatchNorm::new().affine(false)),
        );
    let images = builder(Shape::new(4, 6)).layer("residual", Branches::residual("f", f)).layer("ends", ends);
    let mut case = self::case("batch_norm_joined", images, vec![]);
    set_statistics(&mut case.model, &[("residual.f.norm", 0.4), ("ends.a.norm", 0.7), ("ends.b.norm", 0.3)]);
    cases.push(case);
}

fn set_statistics<R: Real>(model: &mut Model<R>, values: &[(&str, f64)]) {
    let mut params = model.params_mut();
    for (name, value) in values {
        params.get_mut(&format!("{name}.running_mean")).unwrap().fill(R::from_f64(value - 0.5));
        params.get_mut(&format!("{name}.running_var")).unwrap().fill(R::from_f64(*value));
    }
}

/// Layers that hold layers.
fn joined<R: Real>(cases: &mut Vec<Case<R>>) {
    let columns = || Chain::new().layer("transpose", Transpose::new(5, 2));
    let conv = |out| Chain::new().layer("conv", Conv1d::new(out, 3).stride(2).padding(1));
    let ends = Branches::concat()
        .branch("columns", columns().layer("linear", Linear::new(3)).layer("max", Pool::max()))
        .branch("rows", conv(2).layer("mean", Pool::mean()));
    cases.push(case("branches", builder(Shape::new(5, 6)).layer("branches", ends), vec![]));
    let sum = Branches::sum().branch("a", conv(4)).branch("b", conv(4).layer("tanh", Activation::tanh()));
    let residual = Branches::residual("f", Chain::new().layer("linear", Linear::new(6)));
    let steps = builder(Shape::new(7, 6)).layer("residual", residual).layer("sum", sum);
    cases.push(case("sums", steps.layer("gru", Gru::new(3)), vec![stack(("gru", 2, 1, 3, false))]));
    let turned =
        builder(Shape::new(5, 6)).layer("transpose", Transpose::new(5, 2)).layer("lstm", Lstm::new(3).last());
    cases.push(case("transpose", turned, vec![stack(("lstm", 1, 1, 3, true))]));
}

fn builder<R: Real>(input: Shape) -> ModelBuilder<R> {
    Model::builder(input)
}

fn stack((name, layer, parts, hidden, cell): (&'static str, usize, usize, usize, bool)) -> Stack {
    Stack { name, layer, parts, hidden, cell }
}

fn case<R: Real>(name: &str, builder: ModelBuilder<R>, stacks: Vec<Stack>) -> Case<R> {
    // Parameters that are 0 or 1 at first would hide mistakes.
    let mut model = builder.build(3).unwrap();
    if model.params().get("norm.bias").is_some() {
        model.init("norm.*", Init::Uniform(1.0), 4).unwrap();
    }
    Case { name: name.into(), model, stacks, indices: None }
}

fn alone<R: Real>(cases: &mut Vec<Case<R>>, name: &str, layer: impl Layer<R> + 'static) {
    let [t, f] = [2, 3].map(|n| 1 + size(cases.len() as u64, n, 7));
    cases.push(case(name, builder(Shape::new(t, f)).layer("norm", layer), vec![]));
}

fn recurrent<R: Real>(cell: &str, layers: usize, bidirectional: bool, last: bool, seed: u64) -> Case<R> {
    let [t, f, h, out] = [0, 1, 2, 3].map(|n| 1 + size(seed, n, 9));
    macro_rules! boxed {
        ($layer:expr) => {{
            let layer = $layer.layers(layers);
            let layer = if bidirectional { layer.bidirectional() } else { layer };
            Box::new(if last { layer.last() } else { layer }) as Box<dyn Layer<R>>
        }};
    }
    let layer = match cell {
        "lstm" => boxed!(Lstm::new(h)),
        "lstm_plain" => boxed!(Lstm::new(h).bias(false)),
        "peephole" => boxed!(PeepholeLstm::new(h)),
        "gru" => boxed!(Gru::new(h)),
        "gru_before" => boxed!(Gru::new(h).reset_after(false)),
        "gru_plain" => boxed!(Gru::new(h).bias(false)),
        "rnn_tanh" => boxed!(Rnn::new(h)),
        _ => boxed!(Rnn::new(h).relu()),
    };
    let mean_sd = (0..f).map(|i| (i as f64 / 10.0 - 0.2, 0.5 + i as f64 / 5.0)).unzip();
    let builder = builder(Shape::new(t, f))
        .normalize(Normalize::per_feature(mean_sd.0, mean_sd.1).unwrap())
        .boxed("rnn", layer)
        .layer("linear", Linear::new(out))
        .classes((0..out).map(|i| format!("class {i}")));
    let directions = 1 + usize::from(bidirectional);
    let stacks =
        vec![stack(("rnn", 0, layers * directions, h, cell.starts_with("lstm") || cell == "peephole"))];
    let direction = ["", "_bi"][directions - 1];
    case(&format!("{cell}_{layers}{direction}{}", if last { "_last" } else { "" }), builder, stacks)
}

/// A chain of every kind.
fn everything<R: Real>() -> Case<R> {
    let builder = builder(Shape::new(7, 1))
        .layer("embedding", Embedding::new(9, 6))
        .layer("lstm", Lstm::new(5).layers(2).bidirectional().dropout(0.3))
        .layer("norm", LayerNorm::new())
        .layer("dropout", Dropout::new(0.2))
        .layer("gru", Gru::new(4))
        .layer("tanh", Activation::tanh())
        .layer("rnn", Rnn::new(6))
        .layer("pool", Pool::mean())
        .layer("linear", Linear::new(3))
        .layer("log_softmax", LogSoftmax);
    let stacks = [("lstm", 1, 4, 5, true), ("gru", 4, 1, 4, false), ("rnn", 6, 1, 6, false)].map(stack);
    Case { indices: Some(9), ..case("everything", builder, stacks.to_vec()) }
}

/// A stack that lost units, of one layer more than of the other.
fn compacted<R: Real>() -> Case<R> {
    let lstm = Lstm::new(6).layers(2).bidirectional();
    let builder = builder(Shape::new(5, 3)).layer("lstm", lstm).layer("linear", Linear::new(2));
    let stacks = [("lstm.0", 0, 2, 3, true), ("lstm.1", 1, 2, 4, true)].map(stack).to_vec();
    let mut case = case("compacted", builder, stacks);
    case.model.prune(Units::share(0.5).only("lstm.l0*")).unwrap();
    case.model.prune(Units::share(1.0 / 3.0).only("lstm.l1*")).unwrap();
    Case { model: case.model.compact().unwrap(), ..case }
}

fn size(seed: u64, n: u64, below: usize) -> usize {
    (rng::key(&[seed, n]) % below as u64) as usize
}

fn uniform<R: Real>(shape: (usize, usize, usize), key: &[u64]) -> Array3<R> {
    let uniform = Uniform::new(-1.5, 1.5).unwrap();
    Array3::random_using(shape, uniform, &mut rng::rng(rng::key(key))).mapv(R::from_f64)
}

impl<R: Real> Case<R> {
    /// How many recurrent layers there are.
    pub fn recurrent(&self) -> usize {
        self.stacks.len()
    }

    /// Samples of full length, without states: what `predict` says of them.
    pub fn plain(&self, batch: usize) -> Run<R> {
        let x = self.x(batch);
        let outputs = vec![("output".into(), self.model.predict(&x).unwrap())];
        Run { inputs: vec![("input".into(), x)], lengths: vec![], outputs }
    }

    /// Samples of any length from 1, with initial states and final ones; `ragged` or all of full length.
    pub fn full(&self, batch: usize, ragged: bool) -> Run<R> {
        let t = self.model.input_shape().t;
        let lengths: Vec<_> = (0..batch).map(|i| if ragged { 1 + size(9, i as u64, t) } else { t }).collect();
        let mut x = self.x(batch);
        // Padding is not read here: it counts as 0 after normalisation, and so it must there.
        let mean = self.model.normalization().mean();
        let padding = x.indexed_iter_mut().filter(|&((i, t, _), _)| t >= lengths[i]);
        padding.for_each(|((.., f), x)| *x = R::from_f64(mean[f % mean.len()]));
        let mut ws = Workspace::new(&self.model, batch, Mode::Infer);
        let mut normalized = x.clone();
        normalized.indexed_iter_mut().for_each(|((.., f), x)| *x = self.model.normalization().apply(*x, f));
        ws.set_input(normalized.view());
        ws.set_lengths(&lengths);
        let (mut inputs, mut outputs) = (vec![("input".to_owned(), x)], vec![]);
        for stack in &self.stacks {
            let state = uniform::<R>((batch, stack.size(), 1), &[7, stack.layer as u64]);
            let state = state.into_shape_with_order((batch, stack.size())).unwrap();
            ws.set_state(stack.layer, state.view());
            inputs.extend(stack.split("0", &state));
        }
        self.model.forward(&mut ws);
        let mut y = ws.output();
        if let Some(targets) = self.model.target_normalization() {
            y.indexed_iter_mut().for_each(|((.., f), y)| *y = targets.undo(*y, f));
        }
        outputs.push(("output".to_owned(), y));
        for stack in &self.stacks {
            outputs.extend(stack.split("n", &ws.state(stack.layer)));
        }
        Run { inputs, lengths: lengths.iter().map(|&len| len as i32).collect(), outputs }
    }

    fn x(&self, batch: usize) -> Array3<R> {
        let Shape { t, f } = self.model.input_shape();
        match self.indices {
            None => uniform((batch, t, f), &[5, batch as u64]),
            Some(n) => Array3::from_shape_fn((batch, t, f), |(i, t, _)| {
                R::from_f64(size(i as u64, t as u64, n) as f64)
            }),
        }
    }
}

impl Stack {
    fn size(&self) -> usize {
        self.parts * self.hidden * (1 + usize::from(self.cell))
    }

    /// A state `[batch, h of every part, then c of every part]` as `name.h…`, `name.c…`: `[parts, batch, hidden]`.
    fn split<R: Real>(&self, suffix: &str, state: &Array2<R>) -> Values<R> {
        let of = |(i, letter): (usize, char)| {
            let shape = (self.parts, state.dim().0, self.hidden);
            let start = i * self.parts * self.hidden;
            let value = |(part, lane, unit)| state[[lane, start + part * self.hidden + unit]];
            (format!("{}.{letter}{suffix}", self.name), Array3::from_shape_fn(shape, value))
        };
        ['h', 'c'][..1 + usize::from(self.cell)].iter().copied().enumerate().map(of).collect()
    }
}
