//! Recurrent and linear layers and a whole training run against PyTorch, in f64 and f32 and at every SIMD level that
//! the machine has. A new layer is a line here: a test that names its cases.
//!
//! Cells that PyTorch does not have are compared with plain loops in Python, `tests/fixtures/make_plain_fixtures.py`.
//!
//! Losses, optimizers, clipping and the other layers are compared in the tests of their own names.

use bptt::data::{Arrays, Batch, Draw};
use bptt::loss::CrossEntropy;
use bptt::nn::rnn::{Cell, Recurrent};
use bptt::nn::{
    Activation, BatchNorm, Branches, Chain, Conv1d, Conv2d, Gru, Layer, LayerNormLstm, Linear, Lstm, Mode,
    ModelBuilder, PeepholeLstm, Pool2d, Rnn, Workspace,
};
use bptt::optim::{Adam, Optimizer};
use bptt::{Model, Real, Shape, Trainer};
use ndarray::{Array, Array1, Array2, Array3, Axis, Dimension, Ix3, concatenate};

use crate::common::{Fixture, assert_close};

/// How far a value may be off, relative to max(1, |expected|): a few hundred units in the last place.
fn tolerance<R: Real>() -> f64 {
    if size_of::<R>() == size_of::<f64>() { 1e-12 } else { 1e-5 }
}

// --- layers ---

#[test]
fn lstm() {
    stacks("lstm", |hidden, layers| Lstm::new(hidden).layers(layers));
}

#[test]
fn rnn_tanh() {
    stacks("rnn_tanh", |hidden, layers| Rnn::new(hidden).layers(layers));
}

#[test]
fn rnn_relu() {
    stacks("rnn_relu", |hidden, layers| Rnn::new(hidden).layers(layers).relu());
}

#[test]
fn gru() {
    stacks("gru", |hidden, layers| Gru::new(hidden).layers(layers));
}

#[test]
fn bidirectional() {
    in_both_precisions("lstm_bi_0", |hidden, layers| Lstm::new(hidden).layers(layers).bidirectional());
    in_both_precisions("gru_bi_0", |hidden, layers| Gru::new(hidden).layers(layers).bidirectional());
    in_both_precisions("rnn_tanh_bi_0", |hidden, layers| Rnn::new(hidden).layers(layers).bidirectional());
    in_both_precisions("rnn_relu_bi_0", |hidden, layers| {
        Rnn::new(hidden).layers(layers).relu().bidirectional()
    });
}

#[test]
fn projections() {
    let lstm = |hidden, layers| Lstm::new(hidden).layers(layers).proj_size(hidden - 1);
    (0..3).for_each(|i| in_both_precisions(&format!("lstm_proj_{i}"), lstm));
    in_both_precisions("lstm_proj_bi_0", |hidden, layers| {
        Lstm::new(hidden).layers(layers).bidirectional().proj_size(2)
    });
}

#[test]
fn without_biases() {
    fn stack<C: Cell>(recurrent: Recurrent<C>, layers: usize) -> Recurrent<C> {
        recurrent.layers(layers).bidirectional().bias(false)
    }
    in_both_precisions("lstm_no_bias_0", |hidden, layers| stack(Lstm::new(hidden), layers));
    in_both_precisions("gru_no_bias_0", |hidden, layers| stack(Gru::new(hidden), layers));
    in_both_precisions("rnn_tanh_no_bias_0", |hidden, layers| stack(Rnn::new(hidden), layers));
}

#[test]
fn peephole_lstm() {
    plain_stacks("peephole_lstm", PeepholeLstm::new);
}

#[test]
fn layer_norm_lstm() {
    plain_stacks("layer_norm_lstm", LayerNormLstm::new);
}

#[test]
fn gru_with_the_reset_gate_before_the_product() {
    plain_stacks("gru_reset_before", |hidden| Gru::new(hidden).reset_after(false));
}

/// The four sizes of a cell that PyTorch does not have, the last of them in both directions.
fn plain_stacks<C: Cell>(cell: &str, make: impl Fn(usize) -> Recurrent<C>) {
    for i in 0..3 {
        in_both_precisions(&format!("{cell}_{i}"), |hidden, layers| make(hidden).layers(layers));
    }
    in_both_precisions(&format!("{cell}_3"), |hidden, layers| make(hidden).layers(layers).bidirectional());
}

#[test]
fn linear() {
    layer::<f64>("linear_0", Linear::new(5));
    layer::<f32>("linear_0", Linear::new(5));
}

#[test]
fn convolutions() {
    let pair = |case: &Fixture, field: &str| [0, 1].map(|i| case.number(&format!("/{field}/{i}")) as usize);
    for name in (0..4).map(|i| format!("conv2d_{i}")) {
        let case = Fixture::open(&name);
        let [n_in, out] = ["/in", "/out"].map(|field| case.number(field) as usize);
        let conv = Conv2d::new(n_in, out, pair(&case, "kernel"));
        let conv = conv.stride(pair(&case, "stride")).padding(pair(&case, "padding"));
        layer::<f64>(&name, conv.clone());
        layer::<f32>(&name, conv);
    }
    for name in (0..2).map(|i| format!("conv1d_{i}")) {
        let case = Fixture::open(&name);
        let [out, kernel, stride, padding] =
            ["/out", "/kernel", "/stride", "/padding"].map(|field| case.number(field) as usize);
        let conv = Conv1d::new(out, kernel).stride(stride).padding(padding);
        layer::<f64>(&name, conv.clone());
        layer::<f32>(&name, conv);
    }
}

#[test]
fn pooling_of_pixels() {
    for (name, pool) in [
        ("max_pool2d_0", Pool2d::max(2, [2, 3]).stride([2, 1])),
        ("avg_pool2d_0", Pool2d::mean(2, [2, 3]).stride([2, 1])),
        ("global_max_pool2d_0", Pool2d::global_max(2)),
        ("global_avg_pool2d_0", Pool2d::global_mean(2)),
    ] {
        layer::<f64>(name, pool);
        layer::<f32>(name, pool);
    }
}

/// The five sizes of a recurrent cell.
fn stacks<L: Layer<f32> + Layer<f64> + 'static>(cell: &str, make: impl Fn(usize, usize) -> L) {
    (0..5).for_each(|i| in_both_precisions(&format!("{cell}_{i}"), &make));
}

/// One case, in f64 and in f32.
fn in_both_precisions<L: Layer<f32> + Layer<f64> + 'static>(name: &str, make: impl Fn(usize, usize) -> L) {
    let case = Fixture::open(name);
    let size = |field: &str| case.number(&format!("/{field}")) as usize;
    layer::<f64>(name, make(size("hidden"), size("layers")));
    layer::<f32>(name, make(size("hidden"), size("layers")));
}

/// One layer: outputs, final states, loss = Σ wy ⊙ y + Σ wh ⊙ hn + Σ wc ⊙ cn, and every gradient of it.
fn layer<R: Real>(name: &str, layer: impl Layer<R> + 'static) {
    let case = Fixture::open(name);
    let what = |tensor: &str| format!("{name} in {:?}: {tensor}", R::DTYPE);
    let (x, y): (Array3<R>, Array3<f64>) = (real(&case.get("x")), case.get("y"));
    let (batch, t, f) = x.dim();
    let mut model = Model::builder(Shape::new(t, f)).layer("layer", layer).build(0).unwrap();
    assert_eq!(model.params().iter().count(), case.names("param.").len(), "{name}: tensors");
    set_params(&mut model, &case, "param.", "layer.");
    assert_eq!((batch, model.output_shape().t, model.output_shape().f), y.dim(), "{name}: output");

    // The norm of the states of three units divides by what little these differ, and rounding errors grow by that.
    let steepness = if case.case["class"] == "layer_norm_lstm" { 10.0 } else { 1.0 };
    let check = |tensor: &str, found: &[f64], expected: &[f64]| {
        assert_close(&what(tensor), found, expected, steepness * tolerance::<R>());
    };
    let final_states = states::<f64>(&case, ["hn", "cn"]);
    for mode in [Mode::Infer, Mode::Eval, Mode::Train] {
        let mut ws = Workspace::new(&model, batch, mode);
        ws.set_input(x.view());
        if let Some(state) = &states::<R>(&case, ["h0", "c0"]) {
            ws.set_state(0, state.view());
        }
        model.forward(&mut ws);
        check("y", &values(&ws.output()), &values(&y));
        if let Some(expected) = &final_states {
            check("final state", &values(&ws.state(0)), &values(expected));
        }
        if !mode.keeps_history() {
            continue;
        }

        let mut loss = weighted_sum(&ws.output(), &case.get::<Ix3>("wy"));
        ws.set_output_gradient(real::<R, _>(&case.get("wy")).view());
        if let Some(weights) = &states::<R>(&case, ["wh", "wc"]) {
            loss += weighted_sum(&ws.state(0), &states(&case, ["wh", "wc"]).unwrap());
            ws.set_state_gradient(0, weights.view());
        }
        check("loss", &[loss], &case.values("loss"));
        let mut grads = vec![R::ZERO; model.parameter_count()];
        model.backward(&mut ws, &mut grads, true);
        for tensor in model.params().layout().tensors() {
            let expected = format!("grad.{}", tensor.name.trim_start_matches("layer."));
            let found: Vec<f64> = grads[tensor.range()].iter().map(|g| g.to_f64()).collect();
            check(&expected, &found, &case.values(&expected));
        }
        check("grad.x", &values(&ws.input_gradient()), &case.values("grad.x"));
        if let Some(expected) = &states::<f64>(&case, ["grad.h0", "grad.c0"]) {
            check("grad of the initial state", &values(&ws.state_gradient(0)), &values(expected));
        }
    }
}

/// PyTorch's states `[layers, batch, H]`, those of these that there are, as a workspace has them: `[batch, all]`.
fn states<R: Real>(case: &Fixture, names: [&str; 2]) -> Option<Array2<R>> {
    let flat = |name: &&str| {
        let state: Array3<f64> = case.get(name);
        let (layers, batch, hidden) = state.dim();
        let state = real(&state).permuted_axes([1, 0, 2]);
        state.as_standard_layout().into_owned().into_shape_with_order((batch, layers * hidden)).unwrap()
    };
    let states: Vec<Array2<R>> = names.iter().filter(|name| case.has(name)).map(flat).collect();
    let views: Vec<_> = states.iter().map(|state| state.view()).collect();
    (!views.is_empty()).then(|| concatenate(Axis(1), &views).unwrap())
}

fn weighted_sum<R: Real, D: Dimension>(x: &Array<R, D>, weights: &Array<f64, D>) -> f64 {
    x.iter().zip(weights).map(|(x, w)| x.to_f64() * w).sum()
}

// --- a whole run ---

#[test]
fn trajectory() {
    trajectory_in::<f64>(Adam::new(0.01), 1e-12);
    // Where a gradient is near 0, Adam's step depends on the last bits of it.
    trajectory_in::<f32>(Adam::new(0.01), 1e-4);
}

fn trajectory_in<R: Real>(adam: impl Optimizer<R> + 'static, tolerance: f64) {
    let mut model = Model::<R>::builder(Shape::new(4, 6))
        .layer("lstm", Lstm::new(7).layers(2).last())
        .layer("linear", Linear::new(4))
        .build(0)
        .unwrap();
    let trainer = Trainer::new(CrossEntropy::default(), adam);
    run_in(&Fixture::open("trajectory"), &mut model, (trainer, 3), tolerance);
}

/// Twenty steps, in tiles that are smaller than a batch.
#[test]
fn batch_norm() {
    batch_norm_in::<f64>(1e-10);
    batch_norm_in::<f32>(1e-3);
}

fn batch_norm_in<R: Real>(tolerance: f64)
where
    Adam: Optimizer<R>,
{
    let models = [
        ("batch_norm_trajectory", normalised as fn() -> ModelBuilder<R>),
        ("batch_norm_joined_trajectory", joined),
    ];
    for ((name, builder), tile) in models.into_iter().flat_map(|model| [1, 2, 5].map(|tile| (model, tile))) {
        let (case, mut model) = (Fixture::open(name), builder().build(0).unwrap());
        let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01)).tile(tile);
        run_in(&case, &mut model, (trainer, 5), tolerance);
        let y = model.predict(&real::<R, _>(&case.get::<Ix3>("x"))).unwrap();
        assert_close("in inference", &values(&y), &case.values("inference"), tolerance);
    }
}

fn normalised<R: Real>() -> ModelBuilder<R> {
    Model::builder(Shape::new(4, 6))
        .layer("conv", Conv2d::new(1, 3, [3, 2]).padding([1, 0]).bias(false))
        .layer("norm", BatchNorm::channels(3))
        .layer("relu", Activation::relu())
        .layer("lstm", Lstm::new(4).last())
        .layer("norm1", BatchNorm::new().eps(1e-3).momentum(0.3))
        .layer("linear", Linear::new(4))
}

/// Normalisations within other layers, first and last of a chain.
fn joined<R: Real>() -> ModelBuilder<R> {
    let conv = |channels| Conv2d::new(channels, 3, [3, 3]).padding([1, 1]).bias(false);
    let f = Chain::new()
        .layer("norm", BatchNorm::channels(3))
        .layer("relu", Activation::relu())
        .layer("conv", conv(3))
        .layer("norm1", BatchNorm::channels(3).eps(1e-3).momentum(0.3));
    let both = Branches::concat()
        .branch("a", Chain::new().layer("norm", BatchNorm::new()).layer("linear", Linear::new(3)))
        .branch(
            "b",
            Chain::new().layer("linear", Linear::new(2).bias(false)).layer("norm", BatchNorm::new()),
        );
    Model::builder(Shape::new(4, 6))
        .layer("conv", conv(1))
        .layer("block", Branches::residual("f", f))
        .layer("relu", Activation::relu())
        .layer("lstm", Lstm::new(4).last())
        .layer("both", both)
        .layer("linear", Linear::new(4))
}

/// Some epochs in order, the last batch ragged: the loss before each step, and the parameters after the last.
fn run_in<R: Real>(
    case: &Fixture,
    model: &mut Model<R>,
    (trainer, epochs): (Trainer<R>, usize),
    tolerance: f64,
) {
    let y: Array1<usize> = case.get("y").mapv(|class: f64| class as usize);
    let data = Arrays::<R>::classes(real(&case.get("x")), &y, ["0", "1", "2", "3"]).unwrap();
    set_params(model, case, "param0.", "");
    let trainer = trainer.batch_size(5);
    let mut stepper = trainer.stepper(model, &data).unwrap();
    let order = Draw::all(0..17);
    let mut losses = Vec::new();
    for epoch in 1..=epochs {
        for (i, batch) in order.chunks(5).enumerate() {
            let report = stepper.step(model, &data, Batch::new(batch, epoch, 5 * i)).unwrap();
            losses.push(report.tally.mean().unwrap());
        }
    }
    assert_close("losses", &losses, &case.values("loss"), tolerance);
    for (name, found) in model.params().iter() {
        let found: Vec<f64> = found.iter().map(|p| p.to_f64()).collect();
        assert_close(name, &found, &case.values(&format!("param1.{name}")), tolerance);
    }
}

// --- all of them again ---

fn real<R: Real, D: Dimension>(x: &Array<f64, D>) -> Array<R, D> {
    x.mapv(R::from_f64)
}

fn values<R: Real, D: Dimension>(x: &Array<R, D>) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// Sets every tensor: `own…` of the model is `prefix…` of the case.
fn set_params<R: Real>(model: &mut Model<R>, case: &Fixture, prefix: &str, own: &str) {
    let layout = model.params().layout().clone();
    let mut params = model.params_mut();
    for tensor in layout.tensors() {
        let values = case.get::<ndarray::IxDyn>(&format!("{prefix}{}", tensor.name.trim_start_matches(own)));
        assert_eq!(values.shape(), tensor.shape(), "{}", tensor.name);
        let place = params.as_mut_slice()[tensor.range()].iter_mut();
        place.zip(&values).for_each(|(p, &value)| *p = R::from_f64(value));
    }
}
