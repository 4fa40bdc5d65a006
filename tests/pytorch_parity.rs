//! Layers, losses, optimizers, clipping and a whole training run against PyTorch, in f64 and f32 and at every SIMD
//! level that the machine has.
//!
//! A new layer, loss or optimizer is a line here: a test that names its cases, or a row of [`losses`] or
//! [`optimizers`].

mod common;

use bptt::data::{Arrays, TargetShape};
use bptt::loss::{CrossEntropy, Loss, Tally, Targets};
use bptt::nn::{Layer, Linear, Lstm, Mode, Rnn, Workspace};
use bptt::optim::{Adam, At, Optimizer, Sgd};
use bptt::train::Clip;
use bptt::{Model, Real, Seq, SeqMut, Shape, Trainer};
use common::{Fixture, assert_close};
use ndarray::{Array, Array1, Array2, Array3, Axis, Dimension, Ix2, Ix3, concatenate};

/// How far a value may be off, relative to max(1, |expected|): a few hundred units in the last place.
fn tolerance<R: Real>() -> f64 {
    if is_f64::<R>() { 1e-12 } else { 1e-5 }
}

fn is_f64<R: Real>() -> bool {
    size_of::<R>() == size_of::<f64>()
}

/// A loss for both scalars, so that a table has one row for both.
trait AnyLoss: Loss<f32> + Loss<f64> {}
impl<L: Loss<f32> + Loss<f64>> AnyLoss for L {}

/// An optimizer for both scalars.
trait AnyOptimizer: Optimizer<f32> + Optimizer<f64> {}
impl<O: Optimizer<f32> + Optimizer<f64>> AnyOptimizer for O {}

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
fn linear() {
    layer::<f64>("linear_0", Linear::new(5));
    layer::<f32>("linear_0", Linear::new(5));
}

/// The five sizes of a recurrent cell.
fn stacks<L: Layer<f32> + Layer<f64> + 'static>(cell: &str, make: impl Fn(usize, usize) -> L) {
    for i in 0..5 {
        let name = format!("{cell}_{i}");
        let case = Fixture::open(&name);
        let size = |field: &str| case.number(&format!("/{field}")) as usize;
        layer::<f64>(&name, make(size("hidden"), size("layers")));
        layer::<f32>(&name, make(size("hidden"), size("layers")));
    }
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
    assert_eq!((batch, model.output().t, model.output().f), y.dim(), "{name}: output");

    let check = |tensor: &str, found: &[f64], expected: &[f64]| {
        assert_close(&what(tensor), found, expected, tolerance::<R>());
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

// --- losses ---

/// Case, the tensor in it that is the output, and the loss.
fn losses() -> Vec<(&'static str, &'static str, Box<dyn AnyLoss>)> {
    let full = |case: &str| {
        CrossEntropy::default().weight(Fixture::open(case).values("weight")).label_smoothing(0.1)
    };
    vec![
        ("cross_entropy_0", "input", Box::new(CrossEntropy::default())),
        ("cross_entropy_1", "input", Box::new(CrossEntropy::default())),
        ("cross_entropy_2", "input", Box::new(full("cross_entropy_2"))),
        ("cross_entropy_3", "input", Box::new(CrossEntropy::default())),
        ("cross_entropy_4", "input", Box::new(full("cross_entropy_4").ignore_index(2))),
    ]
}

#[test]
fn losses_and_their_gradients() {
    for (case, input, rule) in losses() {
        loss::<f64>(case, input, &*rule);
        loss::<f32>(case, input, &*rule);
    }
}

/// The mean loss and its gradient, the batch in one tile and cut into tiles of two.
fn loss<R: Real>(name: &str, input: &str, loss: &dyn Loss<R>) {
    let case = Fixture::open(name);
    let y = batch_first(case.get::<ndarray::IxDyn>(input));
    let batch = y.dim().0;
    let target = case.get::<ndarray::IxDyn>("target");
    // Classes lack the last axis.
    let axes = target.ndim();
    let classes = axes < case.get::<ndarray::IxDyn>(input).ndim();
    let target = batch_first(if classes { target.insert_axis(Axis(axes)) } else { target });
    for tile in [batch, 2] {
        let what = |tensor: &str| format!("{name} in {:?}, tiles of {tile}: {tensor}", R::DTYPE);
        let mut tally = Tally::default();
        let mut grads = Vec::new();
        for start in (0..batch).step_by(tile) {
            let part =
                |x: &Array3<f64>| x.slice_axis(Axis(0), (start..batch.min(start + tile)).into()).to_owned();
            let (part_tally, dy) = loss_tile(loss, &real(&part(&y)), &part(&target), classes);
            tally += part_tally;
            grads.extend(values(&dy));
        }
        assert_close(&what("loss"), &[tally.mean()], &case.values("loss"), tolerance::<R>());
        grads.iter_mut().for_each(|g| *g /= tally.weight);
        let expected = format!("grad.{input}");
        assert_close(&what(&expected), &grads, &case.values(&expected), tolerance::<R>());
    }
}

fn loss_tile<R: Real>(
    loss: &dyn Loss<R>,
    y: &Array3<R>,
    target: &Array3<f64>,
    classes: bool,
) -> (Tally, Array3<R>) {
    let (valid, lanes) = (y.dim().0, y.dim().0.next_multiple_of(R::QUANTUM));
    let (shape, target_shape) = (shape(y), shape(target));
    let expected =
        if classes { TargetShape::Classes { t: shape.t } } else { TargetShape::Values(target_shape) };
    loss.check(shape, expected).unwrap();
    let lay_out = |x: &Array3<R>, shape: Shape| {
        let mut data = vec![R::ZERO; shape.size() * lanes];
        SeqMut::new(&mut data, shape, lanes).scatter(x.view());
        data
    };
    let (output, target) = (lay_out(y, shape), lay_out(&real(target), target_shape));
    let indices: Vec<i64> = target.iter().map(|class| class.to_f64() as i64).collect();
    let target = if classes {
        Targets::Classes(&indices)
    } else {
        Targets::Values(Seq::new(&target, target_shape, lanes))
    };
    // Whatever was there before must be overwritten, in the pads as well.
    let mut dy = vec![R::from_f64(f64::NAN); output.len()];
    let tally = loss.tile(Seq::new(&output, shape, lanes), target, valid, SeqMut::new(&mut dy, shape, lanes));
    let dy = Seq::new(&dy, shape, lanes).collect(lanes);
    let (dy, pads) = dy.view().split_at(Axis(0), valid);
    assert!(pads.iter().all(|&g| g == R::ZERO), "pads: {pads}");
    (tally, dy.to_owned())
}

fn shape<R>(x: &Array3<R>) -> Shape {
    Shape::new(x.dim().1, x.dim().2)
}

/// `[batch, F]` has one step.
fn batch_first(x: ndarray::ArrayD<f64>) -> Array3<f64> {
    let x = if x.ndim() == 2 { x.insert_axis(Axis(1)) } else { x };
    x.into_dimensionality().unwrap()
}

// --- optimizers ---

/// Case, and the optimizer.
fn optimizers() -> Vec<(&'static str, Box<dyn AnyOptimizer>)> {
    let sgd = || Sgd::new(0.01);
    let adam = || Adam::new(0.01);
    vec![
        ("optim_sgd", Box::new(sgd())),
        ("optim_sgd_momentum", Box::new(sgd().momentum(0.9))),
        ("optim_sgd_nesterov", Box::new(sgd().momentum(0.9).nesterov())),
        ("optim_sgd_momentum_decay", Box::new(sgd().momentum(0.9).weight_decay(0.01).dampening(0.1))),
        ("optim_adam", Box::new(adam())),
        ("optim_adam_decay", Box::new(adam().weight_decay(0.01))),
    ]
}

#[test]
fn optimizers_over_ten_steps() {
    for (case, rule) in optimizers() {
        optimizer::<f64>(case, &*rule);
        optimizer::<f32>(case, &*rule);
    }
}

fn optimizer<R: Real>(name: &str, rule: &dyn Optimizer<R>) {
    let case = Fixture::open(name);
    rule.check().unwrap();
    let mut p = real(&case.get::<ndarray::Ix1>("p0")).to_vec();
    let grads: Array2<R> = real(&case.get("grads"));
    let mut moments = vec![vec![R::ZERO; p.len()]; rule.moments()];
    for (i, expected) in case.get::<Ix2>("params").rows().into_iter().enumerate() {
        let mut places = moments.iter_mut().map(Vec::as_mut_slice);
        let places = std::array::from_fn(|_| places.next().unwrap_or_default());
        let at = At { step: i as u64 + 1, lr: rule.lr() };
        rule.update(at, &mut p, &grads.row(i).to_vec(), places);
        let found: Vec<f64> = p.iter().map(|p| p.to_f64()).collect();
        let what = format!("{name} in {:?}, step {}", R::DTYPE, i + 1);
        assert_close(&what, &found, &expected.to_vec(), if is_f64::<R>() { 1e-14 } else { 1e-6 });
    }
}

// --- clipping ---

#[test]
fn clipping_by_norm() {
    for name in ["clip_grad_norm", "clip_grad_norm_under"] {
        clip::<f64>(name);
        clip::<f32>(name);
    }
}

fn clip<R: Real>(name: &str) {
    let case = Fixture::open(name);
    let all = |prefix: &str| -> Vec<f64> {
        case.names(prefix).iter().flat_map(|tensor| case.values(&format!("{prefix}{tensor}"))).collect()
    };
    let mut grads: Vec<R> = all("grad.").into_iter().map(R::from_f64).collect();
    Clip::Norm(case.values("max_norm")[0]).apply(&mut grads, case.values("norm")[0]);
    let found: Vec<f64> = grads.iter().map(|g| g.to_f64()).collect();
    assert_close(&format!("{name} in {:?}", R::DTYPE), &found, &all("clipped."), tolerance::<R>() / 10.0);
}

// --- a whole run ---

#[test]
fn trajectory() {
    trajectory_in::<f64>(Adam::new(0.01), 1e-12);
    // Where a gradient is near 0, Adam's step depends on the last bits of it.
    trajectory_in::<f32>(Adam::new(0.01), 1e-4);
}

/// Three epochs in order, the last batch ragged: the loss before each step, and the parameters after the last.
fn trajectory_in<R: Real>(adam: impl Optimizer<R> + 'static, tolerance: f64) {
    let case = Fixture::open("trajectory");
    let y: Array1<usize> = case.get("y").mapv(|class: f64| class as usize);
    let data = Arrays::<R>::classes(real(&case.get("x")), &y, ["0", "1", "2", "3"]).unwrap();
    let mut model = Model::<R>::builder(Shape::new(4, 6))
        .layer("lstm", Lstm::new(7).layers(2).last())
        .layer("linear", Linear::new(4))
        .build(0)
        .unwrap();
    set_params(&mut model, &case, "param0.", "");
    let trainer = Trainer::new(CrossEntropy::default(), adam).batch_size(5);
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    let order: Vec<u32> = (0..17).collect();
    let mut losses = Vec::new();
    for epoch in 1..=3 {
        for (i, batch) in order.chunks(5).enumerate() {
            let report = stepper.step(&mut model, &data, batch, epoch, 5 * i).unwrap();
            losses.push(report.tally.mean());
        }
    }
    assert_close("losses", &losses, &case.values("loss"), tolerance);
    for (name, found) in model.params().iter() {
        let found: Vec<f64> = found.iter().map(|p| p.to_f64()).collect();
        assert_close(name, &found, &case.values(&format!("param1.{name}")), tolerance);
    }
}

// --- all of them again ---

#[test]
fn at_every_simd_level() {
    common::rerun_at_every_simd_level("at_every_simd_level");
}

#[test]
#[ignore = "run by at_every_simd_level"]
fn level_is_as_expected() {
    common::assert_expected_simd_level();
}

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
