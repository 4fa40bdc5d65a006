//! Dropout, LayerNorm, BatchNorm, Embedding and pooling: gradients, PyTorch's values, statistics, and files.

use bptt::data::{Arrays, Batch, Draw};
use bptt::gradcheck::GradCheck;
use bptt::loss::CrossEntropy;
use bptt::nn::{
    Activation, Backward, BatchNorm, Branches, Chain, Context, Conv2d, Dropout, Embedding, Forward, Gru,
    Layer, LayerNorm, Linear, Lstm, Mode, Pool, Rnn, Workspace,
};
use bptt::optim::{AdamW, Sgd};
use bptt::params::StateDict;
use bptt::prune::Magnitude;
use bptt::{Model, Real, Result, Seq, SeqMut, Shape, Trainer, rng};
use ndarray::{Array1, Array3, Axis};

use crate::common::{Fixture, assert_close};

const TOLERANCE: f64 = 1e-6;

/// Shapes, batches: one step, one sample, a batch of one more than the lanes.
const SHAPES: [(usize, usize, usize); 5] = [(1, 1, 1), (1, 4, 2), (4, 3, 1), (5, 3, 9), (3, 7, 17)];

fn check(check: GradCheck, layer: impl Fn() -> Box<dyn Layer<f64>>) -> Result<()> {
    for (t, f, batch) in SHAPES {
        let mut model = Model::builder(Shape::new(t, f)).boxed("layer", layer()).build(7)?;
        check.batch(batch).model(&mut model).assert_below(TOLERANCE);
    }
    Ok(())
}

#[test]
fn gradients_of_dropout_within_a_stack() -> Result<()> {
    for p in [0.4, 1.0] {
        check(GradCheck::default(), || Box::new(Lstm::new(3).layers(3).dropout(p)))?;
        check(GradCheck::default(), || Box::new(Gru::new(3).layers(2).dropout(p).last()))?;
        check(GradCheck::default(), || Box::new(Rnn::new(3).layers(2).bidirectional().dropout(p)))?;
    }
    let mut model = Model::builder(Shape::new(5, 2))
        .layer("lstm", Lstm::new(3).layers(3).bidirectional().dropout(0.4))
        .build(7)?;
    GradCheck::default().ragged().batch(9).model(&mut model).assert_below(TOLERANCE);
    Ok(())
}

#[test]
fn gradients_of_layer_norm() -> Result<()> {
    for eps in [1e-5, 0.1] {
        check(GradCheck::default(), || Box::new(LayerNorm::new().eps(eps)))?;
        check(GradCheck::default(), || Box::new(LayerNorm::new().eps(eps).elementwise_affine(false)))?;
    }
    // Weights other than 1 and biases other than 0.
    let mut model = Model::builder(Shape::new(3, 5)).layer("norm", LayerNorm::new()).build(1)?;
    model.init("*", bptt::Init::Normal(1.0), 3)?;
    let report = GradCheck::default().batch(9).model(&mut model);
    report.assert_below(TOLERANCE);
    assert_eq!(report.entries.len(), 3);
    Ok(())
}

#[test]
fn gradients_of_embedding() -> Result<()> {
    for (t, n, batch) in [(1, 1, 1), (4, 3, 2), (6, 5, 17)] {
        let mut model = Model::builder(Shape::new(t, 1))
            .layer("embedding", Embedding::new(n, 3))
            .layer("lstm", Lstm::new(2).last())
            .build(7)?;
        let report = GradCheck::default().indices(n).batch(batch).model(&mut model);
        report.assert_below(TOLERANCE);
        let embedding = report.entries.iter().find(|e| e.name == "embedding.weight").expect("its gradient");
        assert_eq!(embedding.count, 3 * n);
    }
    Ok(())
}

#[test]
fn gradients_of_all_in_a_chain() -> Result<()> {
    let mut model = Model::builder(Shape::new(4, 1))
        .layer("embedding", Embedding::new(6, 5))
        .layer("drop", Dropout::new(0.3).locked())
        .layer("norm", LayerNorm::new())
        .layer("lstm", Lstm::new(4))
        .layer("drop2", Dropout::new(0.5))
        .layer("pool", Pool::mean())
        .layer("linear", Linear::new(3))
        .build(3)?;
    GradCheck::default().indices(6).batch(9).model(&mut model).assert_below(TOLERANCE);
    Ok(())
}

/// Sets a tensor.
fn set<R: Real>(model: &mut Model<R>, name: &str, values: &[f64]) {
    let range = model.params().layout().get(name).expect("a tensor of the model").range();
    let mut params = model.params_mut();
    params.as_mut_slice()[range].iter_mut().zip(values).for_each(|(p, v)| *p = R::from_f64(*v));
}

fn wide<R: Real>(values: impl IntoIterator<Item = R>) -> Vec<f64> {
    values.into_iter().map(R::to_f64).collect()
}

/// Outputs and every gradient of a layer against PyTorch's; x is `[batch, T, F]`.
fn parity<R: Real>(
    fixture: &Fixture,
    layer: impl Layer<R> + 'static,
    x: &Array3<f64>,
    tolerance: f64,
) -> Result<()> {
    let (batch, t, f) = x.dim();
    let mut model = Model::<R>::builder(Shape::new(t, f)).layer("layer", layer).build(1)?;
    let names = fixture.names("param.");
    assert_eq!(names.len(), model.params().layout().tensors().len());
    for name in &names {
        set(&mut model, &format!("layer.{name}"), &fixture.values(&format!("param.{name}")));
    }
    let mut ws = Workspace::new(&model, batch, Mode::Train);
    ws.set_input(x.mapv(R::from_f64).view());
    model.forward(&mut ws);
    assert_close("y", &wide(ws.output()), &fixture.values("y"), tolerance);
    let predicted = model.predict(&x.mapv(R::from_f64))?;
    assert_close("y in inference", &wide(predicted), &fixture.values("y"), tolerance);

    ws.set_output_gradient(fixture.get::<ndarray::Ix3>("wy").mapv(R::from_f64).view());
    let mut grads = vec![R::ZERO; model.parameter_count()];
    model.backward(&mut ws, &mut grads, true);
    if fixture.has("grad.x") {
        assert_close("dx", &wide(ws.input_gradient()), &fixture.values("grad.x"), tolerance);
    } else {
        assert_eq!(ws.input_gradient(), Array3::from_elem(x.dim(), R::ZERO));
    }
    for name in &names {
        let range = model.params().layout().get(&format!("layer.{name}")).expect("just set").range();
        let expected = fixture.values(&format!("grad.{name}"));
        assert_close(name, &wide(grads[range].iter().copied()), &expected, tolerance);
    }
    Ok(())
}

#[test]
fn layer_norm_is_pytorchs() -> Result<()> {
    let fixture = Fixture::open("layer_norm_0");
    let x = fixture.get("x");
    let layer = || LayerNorm::new().eps(fixture.number("/eps"));
    assert_eq!(layer(), LayerNorm::default());
    parity::<f64>(&fixture, layer(), &x, 1e-9)?;
    parity::<f32>(&fixture, layer(), &x, 1e-5)
}

#[test]
fn embedding_is_pytorchs() -> Result<()> {
    let fixture = Fixture::open("embedding_0");
    let x = fixture.get::<ndarray::Ix2>("x").insert_axis(Axis(2));
    let layer = || Embedding::new(fixture.number("/rows") as usize, fixture.number("/width") as usize);
    parity::<f64>(&fixture, layer(), &x, 1e-9)?;
    parity::<f32>(&fixture, layer(), &x, 1e-5)
}

/// What a dropout layer makes of ones, `[T, F, lanes]`, and of a gradient of ones.
fn drop_ones<R: Real>(dropout: &Dropout, shape: Shape, keys: &[u64], mode: Mode) -> (Vec<R>, Vec<R>) {
    let lanes = keys.len();
    let n = shape.size() * lanes;
    let mut cx = Context::new(&[], mode, lanes);
    cx.keys = keys;
    let (ones, mut cache) = (vec![R::ONE; n], vec![R::ZERO; n]);
    let (mut y, mut dx) = (vec![R::ZERO; n], vec![R::ZERO; n]);
    let x = Seq::new(&ones, shape, lanes);
    dropout.forward(Forward::new(cx, x, SeqMut::new(&mut y, shape, lanes)).cache(&mut cache));
    let (seq, to) = (Seq::new(&y, shape, lanes), SeqMut::new(&mut dx, shape, lanes));
    dropout.backward(Backward::new(cx, x, seq, x).cache(&mut cache).dx(to));
    (y, dx)
}

fn keys(n: u64) -> Vec<u64> {
    (0..n).map(|i| rng::key(&[9, i])).collect()
}

#[test]
fn dropout_drops_its_share_and_scales_the_rest() {
    let (shape, keys) = (Shape::new(20, 50), keys(64));
    for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
        for (dropout, masks) in [(Dropout::new(p), 20), (Dropout::new(p).locked(), 1)] {
            let (y, dx) = drop_ones::<f64>(&dropout, shape, &keys, Mode::Train);
            assert_eq!(y, dx, "one mask for both ways");
            assert!(y.iter().all(|&y| y == 0.0 || y == 1.0 / (1.0 - p)));
            let draws = (masks * 50 * 64) as f64;
            let zeros = y.iter().filter(|&&y| y == 0.0).count() as f64 / y.len() as f64;
            let sd = (p * (1.0 - p) / draws).sqrt();
            assert!((zeros - p).abs() <= 5.0 * sd, "p {p}: {zeros} are 0");

            // Each lane, and each step that has a mask of its own, draws anew.
            let lane = |l: usize| y.iter().skip(l).step_by(64);
            let step = |t: usize| &y[t * 50 * 64..][..50 * 64];
            if (0.05..0.95).contains(&p) {
                assert!((1..64).all(|l| !lane(l).eq(lane(0))));
                assert!((1..20).all(|t| (step(t) == step(0)) == (masks == 1)));
            }
        }
    }
}

#[test]
fn dropout_is_the_same_in_any_tile_and_type() {
    let (shape, keys) = (Shape::new(3, 5), keys(32));
    for dropout in [Dropout::new(0.4), Dropout::new(0.4).locked()] {
        let (whole, _) = drop_ones::<f64>(&dropout, shape, &keys, Mode::Train);
        let (single, _) = drop_ones::<f32>(&dropout, shape, &keys, Mode::Train);
        assert!(whole.iter().zip(&single).all(|(a, b)| (*a == 0.0) == (*b == 0.0)));
        for (tile, keys) in keys.chunks(8).enumerate() {
            let (part, _) = drop_ones::<f64>(&dropout, shape, keys, Mode::Train);
            let lanes = whole.chunks(32).flat_map(|row| &row[tile * 8..][..8]);
            assert!(lanes.eq(&part), "tile {tile}");
        }
    }
}

/// PyTorch's `dropout=` of a stack is a dropout layer between its layers, in every bit of outputs and gradients.
#[test]
fn dropout_within_a_stack_is_a_layer_between_its_layers() -> Result<()> {
    // More steps than a pass back takes at a time.
    let shape = Shape::new(40, 4);
    for bidirectional in [false, true] {
        let lstm = || if bidirectional { Lstm::new(5).bidirectional() } else { Lstm::new(5) };
        // Draws are keyed by a layer's place: it must be the second in both.
        let stack = Model::<f64>::builder(shape)
            .layer("as_it_is", Dropout::new(0.0))
            .layer("lstm", lstm().layers(2).dropout(0.4))
            .build(3)?;
        let mut chain = Model::<f64>::builder(shape)
            .layer("lstm", lstm())
            .layer("drop", Dropout::new(0.4))
            .layer("upper", lstm())
            .build(4)?;
        // The same tensors in the same order.
        chain.params_mut().as_mut_slice().copy_from_slice(stack.params().as_slice());

        let batch = 21;
        let array = |f: usize, k: usize| {
            Array3::from_shape_fn((batch, shape.t, f), |(i, t, f)| {
                ((i * 7 + t * k + f * 3) % 13) as f64 / 6.0 - 1.0
            })
        };
        let pass = |model: &Model<f64>, mode: Mode| {
            let mut ws = Workspace::new(model, batch, mode);
            ws.set_input(array(4, 5).view());
            model.forward(&mut ws);
            let y = ws.output();
            ws.set_output_gradient(array(y.dim().2, 2).view());
            let mut grads = vec![0.0; model.parameter_count()];
            model.backward(&mut ws, &mut grads, true);
            (y, ws.input_gradient(), grads)
        };
        assert_eq!(pass(&stack, Mode::Train), pass(&chain, Mode::Train));
        assert_eq!(pass(&stack, Mode::Eval), pass(&chain, Mode::Eval));
        assert_ne!(pass(&stack, Mode::Train).0, pass(&stack, Mode::Eval).0);
        let x = array(4, 5);
        assert_eq!(stack.predict(&x)?, chain.predict(&x)?);
    }
    Ok(())
}

#[test]
fn dropout_within_a_stack_is_a_probability() {
    for p in [-0.1, 1.5, f64::NAN] {
        let fault = Model::<f32>::builder(Shape::new(2, 3)).layer("lstm", Lstm::new(4).dropout(p)).build(1);
        let message = fault.unwrap_err().to_string();
        assert_eq!(message, format!("`lstm: dropout`: found {p}, expected a probability, 0 to 1"));
    }
}

#[test]
fn dropout_is_for_training_alone() {
    let (shape, keys) = (Shape::new(3, 5), keys(8));
    for mode in [Mode::Eval, Mode::Infer] {
        let (y, dx) = drop_ones::<f64>(&Dropout::new(0.9), shape, &keys, mode);
        assert!(y.iter().chain(&dx).all(|&y| y == 1.0));
    }
}

fn dropping(seed: u64) -> Result<Model<f64>> {
    Model::builder(Shape::new(3, 4))
        .layer("drop", Dropout::new(0.3))
        .layer("lstm", Lstm::new(5))
        .layer("locked", Dropout::new(0.5).locked())
        .layer("pool", Pool::max())
        .layer("linear", Linear::new(3))
        .build(seed)
}

/// The parameters after two epochs of five tiles and a ragged batch.
fn trained(threads: usize, tile: usize, seed: u64) -> Result<Vec<f64>> {
    let x = Array3::from_shape_fn((50, 3, 4), |(i, t, f)| ((i * 7 + t * 5 + f * 3) % 11) as f64 / 5.0 - 1.0);
    let data = Arrays::classes(x, &Array1::from_shape_fn(50, |i| i % 3), ["a", "b", "c"])?;
    let mut model = dropping(1)?;
    Trainer::new(CrossEntropy::default(), Sgd::new(0.1))
        .epochs(2)
        .batch_size(37)
        .tile(tile)
        .threads(threads)
        .seed(seed)
        .fit(&mut model, &data, None)?;
    Ok(model.params().as_slice().to_vec())
}

#[test]
fn training_with_dropout_is_the_same_at_any_thread_count_and_tile() -> Result<()> {
    let one = trained(1, 8, 1)?;
    for threads in [2, 3, 8] {
        assert_eq!(trained(threads, 8, 1)?, one, "{threads} threads");
    }
    // Other tiles sum in another order, but drop the same.
    for tile in [16, 40] {
        assert_close(&format!("tiles of {tile}"), &trained(1, tile, 1)?, &one, 1e-12);
    }
    assert_ne!(trained(1, 8, 2)?, one);
    Ok(())
}

/// One sample alone, and step by step, takes another way with the same bits.
#[test]
fn one_alone_and_step_by_step_are_the_same() -> Result<()> {
    let mut model = Model::<f32>::builder(Shape::new(5, 1))
        .layer("embedding", Embedding::new(6, 7))
        .layer("drop", Dropout::new(0.3))
        .layer("norm", LayerNorm::new())
        .layer("pool", Pool::last())
        .layer("norm2", LayerNorm::new().elementwise_affine(false))
        .build(3)?;
    model.init("norm.*", bptt::Init::Normal(1.0), 3)?;
    let x = Array3::from_shape_fn((19, 5, 1), |(i, t, _)| ((3 * i + 2 * t) % 6) as f32);
    let together = model.predict(&x)?;
    for (x, y) in x.outer_iter().zip(together.outer_iter()) {
        let alone = model.predict(x.insert_axis(Axis(0)))?;
        assert_eq!(alone.index_axis(Axis(0), 0), y);
        let mut stream = model.session()?;
        let steps = x.iter().map(|x| stream.push(&[*x]).to_vec());
        assert_eq!(steps.last(), Some(y.iter().copied().collect()));
    }
    Ok(())
}

#[test]
fn only_the_last_step_can_be_pooled_in_a_stream() -> Result<()> {
    let model = |pool| Model::<f32>::builder(Shape::new(3, 2)).layer("pool", pool).build(1);
    assert_eq!(model(Pool::last())?.session()?.push(&[1.0, 2.0]), [1.0, 2.0]);
    for pool in [Pool::mean(), Pool::max()] {
        let error = model(pool)?.session().expect_err("nothing to stream").to_string();
        assert!(error.contains("needs the whole sequence"), "{error}");
    }
    Ok(())
}

#[test]
fn gradients_of_sequences_of_different_lengths() -> Result<()> {
    for pool in [Pool::last(), Pool::mean(), Pool::max()] {
        let check = GradCheck::default().step(1e-5).floor(1e-2).ragged();
        for (t, f, batch) in SHAPES {
            let mut model = Model::builder(Shape::new(t, f)).layer("pool", pool).build(7)?;
            check.batch(batch).model(&mut model).assert_below(TOLERANCE);
        }
        let mut model = Model::builder(Shape::new(4, 1))
            .layer("embedding", Embedding::new(6, 5))
            .layer("norm", LayerNorm::new())
            .layer("lstm", Lstm::new(4).bidirectional())
            .layer("drop", Dropout::new(0.5).locked())
            .layer("pool", pool)
            .build(3)?;
        check.indices(6).batch(9).model(&mut model).assert_below(TOLERANCE);
    }
    Ok(())
}

// --- batch normalisation ---

/// Two normalisations, of channels and of features.
fn normalised() -> Result<Model<f64>> {
    Model::builder(Shape::new(5, 6))
        .layer("conv", Conv2d::new(1, 2, [2, 2]).padding([1, 0]))
        .layer("norm", BatchNorm::channels(2).eps(1e-3))
        .layer("tanh", Activation::tanh())
        .layer("gru", Gru::new(3).last())
        .layer("norm1", BatchNorm::new())
        .layer("linear", Linear::new(3))
        .build(5)
}

/// Normalisations within a residual connection, within three branches, and within a branch of a branch, among them the first
/// and the last layer of a chain and of the model.
fn joined() -> Result<Model<f64>> {
    let norm = || Chain::new().layer("norm", BatchNorm::channels(2).eps(0.1));
    let f = norm().layer("tanh", Activation::tanh()).layer("conv", Conv2d::new(2, 2, [2, 1]).causal());
    let f = f.layer("norm1", BatchNorm::channels(2));
    let two = Branches::sum().branch("norm", norm()).branch("same", Chain::new()).branch("again", norm());
    let three = Branches::concat()
        .branch("two", Chain::new().layer("both", two).layer("gru", Gru::new(2)))
        .branch("drop", Chain::new().layer("drop", Dropout::new(0.3)).layer("linear", Linear::new(2)))
        .branch("linear", Chain::new().layer("linear", Linear::new(1)).layer("norm", BatchNorm::new()));
    Model::builder(Shape::new(5, 6))
        .layer("residual", Branches::residual("f", f))
        .layer("conv", Conv2d::new(1, 2, [2, 2]).padding([1, 0]))
        .layer("three", three)
        .layer("last", Pool::last())
        .layer("linear", Linear::new(3))
        .layer("norm", BatchNorm::new())
        .build(5)
}

/// Parameters that are not 0 and 1, and sequences of different lengths.
fn with_data(model: Result<Model<f64>>, samples: usize) -> Result<(Model<f64>, Arrays<f64>)> {
    let mut model = model?;
    model.init("*norm*.*", bptt::Init::Uniform(1.0), 3)?;
    let x = Array3::from_shape_fn((samples, 5, 6), |(i, t, f)| ((7 * i + 3 * t + 5 * f) as f64).sin() + 0.5);
    let y = Array1::from_shape_fn(samples, |i| (i * i) % 3);
    let lens: Vec<usize> = (0..samples).map(|i| 1 + (2 * i) % 5).collect();
    Ok((model, Arrays::classes(x, &y, ["a", "b", "c"])?.lengths(lens)?))
}

/// What trains is the derivative of the loss of the whole batch, in three tiles.
#[test]
fn gradients_of_batch_norm_over_several_tiles() -> Result<()> {
    gradients_over_several_tiles(normalised()?)?;
    gradients_over_several_tiles(joined()?)
}

fn gradients_over_several_tiles(model: Model<f64>) -> Result<()> {
    let (mut model, data) = with_data(Ok(model), 11)?;
    let trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).batch_size(11).tile(4);
    let mut stepper = trainer.stepper(&model, &data)?;
    let draws = Draw::all(0..11);
    let mut loss = |model: &Model<f64>| {
        let report = stepper.gradients(model, &data, Batch::new(&draws, 1, 0)).unwrap();
        (report.tally.mean().unwrap(), stepper.grads().as_slice().to_vec())
    };
    let (_, grads) = loss(&model);
    let layout = model.params().layout().clone();
    for tensor in layout.tensors() {
        for i in tensor.range() {
            let mut at = |delta: f64| {
                let before = model.params().as_slice()[i];
                model.params_mut().as_mut_slice()[i] = before + delta;
                let (loss, _) = loss(&model);
                model.params_mut().as_mut_slice()[i] = before;
                loss
            };
            let h = 1e-3;
            let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let error = (numeric - grads[i]).abs() / numeric.abs().max(grads[i].abs()).max(1e-3);
            assert!(error < 1e-6, "{}: found {}, expected {numeric}", tensor.name, grads[i]);
            assert!(!tensor.name.contains("running") || grads[i] == 0.0, "{}", tensor.name);
        }
    }
    Ok(())
}

/// As with one tile, whose passes wait for no other.
#[test]
fn gradients_of_nested_batch_norms_within_a_tile() -> Result<()> {
    GradCheck::default().ragged().batch(9).model(&mut joined()?).assert_below(TOLERANCE);
    Ok(())
}

/// Normalisations within other layers have their tensors' names, are tracked one by one, and are saved and loaded.
#[test]
fn statistics_of_nested_batch_norms() -> Result<()> {
    let (mut model, data) = with_data(joined(), 20)?;
    let names: Vec<_> = model.params().iter().map(|(name, _)| name.to_owned()).collect();
    let running: Vec<_> = names.iter().filter(|name| name.contains("running")).collect();
    assert_eq!(running.len(), 2 * 6, "{running:?}");
    assert!(running.iter().any(|&name| name == "three.two.both.again.norm.running_var"), "{running:?}");
    let before = model.clone();
    let trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).batch_size(20).epochs(1);
    trainer
        .freeze("residual.f.norm.*")
        .freeze("three.linear.norm.running_var")
        .fit(&mut model, &data, None)?;
    for name in running {
        let frozen = name.starts_with("residual.f.norm.") || name == "three.linear.norm.running_var";
        assert_eq!(before.params().get(name) == model.params().get(name), frozen, "{name}");
    }
    let loaded = Model::<f64>::from_bytes(&model.to_bytes()?)?;
    assert_eq!(loaded.params().as_slice(), model.params().as_slice());
    assert_eq!(loaded.predict(&data)?, model.predict(&data)?);
    let error = model.compact().unwrap_err().to_string();
    assert!(error.contains("found a layer of kind `branches`"), "{error}");
    Ok(())
}

#[test]
fn gradients_of_batch_norm_within_a_tile() -> Result<()> {
    check(GradCheck::default(), || Box::new(BatchNorm::new().eps(0.1)))?;
    check(GradCheck::default().ragged(), || Box::new(BatchNorm::new().eps(0.1).affine(false)))?;
    let layer = BatchNorm::channels(3).eps(0.1);
    GradCheck::default().ragged().batch(9).layer(layer, Shape::new(4, 6))?.assert_below(TOLERANCE);
    Ok(())
}

/// 40 samples in tiles of one are more tiles than slots.
#[test]
fn batch_norm_does_not_show_threads_or_tiles() -> Result<()> {
    for model in [normalised()?, joined()?] {
        let trained = |threads, tile| -> Result<Vec<f64>> {
            let (mut model, data) = with_data(Ok(model.clone()), 97)?;
            let trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).batch_size(40).epochs(2);
            trainer.tile(tile).threads(threads).fit(&mut model, &data, None)?;
            Ok(model.params().as_slice().to_vec())
        };
        for tile in [1, 8] {
            let one = trained(1, tile)?;
            for threads in [2, 3] {
                assert_eq!(trained(threads, tile)?, one, "{threads} threads, tiles of {tile}");
            }
            assert_close(&format!("tiles of {tile}"), &one, &trained(1, 40)?, 1e-10);
        }
    }
    Ok(())
}

/// The mean and variance of two batches by hand, unbiased as PyTorch's; optimizer, decay and averages leave them out.
#[test]
fn running_statistics_are_not_trained() -> Result<()> {
    let x = ndarray::array![[[1.0]], [[2.0]], [[6.0]], [[10.0]]];
    let data = Arrays::classes(x, &Array1::from(vec![0, 1, 0, 1]), ["a", "b"])?;
    let build = || {
        let builder = Model::<f64>::builder(Shape::new(1, 1)).layer("norm", BatchNorm::new().momentum(0.5));
        builder.layer("linear", Linear::new(2)).build(1)
    };
    let mut model = build()?;
    let trainer =
        Trainer::new(CrossEntropy::default(), AdamW::new(0.1).weight_decay(0.5)).batch_size(3).ema(0.9);
    let mut stepper = trainer.stepper(&model, &data)?;
    stepper.step(&mut model, &data, Batch::new(&Draw::all(0..3), 1, 0))?;
    let statistics = |model: &Model<f64>| {
        ["norm.running_mean", "norm.running_var"].map(|name| model.params().get(name).unwrap()[[0]])
    };
    // Mean 3, variance 7.
    assert_close("first", &statistics(&model), &[1.5, 4.0], 1e-14);
    // A batch of one value has no variance.
    stepper.step(&mut model, &data, Batch::new(&Draw::all(3..4), 1, 3))?;
    assert_close("one value", &statistics(&model), &[1.5, 4.0], 1e-14);
    stepper.step(&mut model, &data, Batch::new(&Draw::all(1..4), 1, 0))?;
    assert_close("second", &statistics(&model), &[3.75, 10.0], 1e-14);
    let (trained, weight) = (statistics(&model), model.params().as_slice()[0]);
    stepper.swap_average(&mut model);
    assert_eq!(statistics(&model), trained);
    assert_ne!(model.params().as_slice()[0], weight);

    model.init("norm.*", bptt::Init::Constant(7.0), 1)?;
    model.prune(Magnitude::share(1.0).with_biases())?;
    assert_eq!(statistics(&model), trained);
    assert_eq!(model.params().as_slice()[..2], [0.0; 2]);

    let mut frozen = build()?;
    let before = frozen.params().as_slice()[..4].to_vec();
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).freeze("norm.*").epochs(1);
    trainer.fit(&mut frozen, &data, None)?;
    assert_eq!(frozen.params().as_slice()[..4], before);
    Ok(())
}

#[test]
fn pytorchs_count_of_batches_is_ignored() -> Result<()> {
    let build = || Model::<f32>::builder(Shape::new(1, 2)).layer("bn", BatchNorm::new()).build(1);
    let bytes = |name: &str| {
        let values: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let count = 3i64.to_le_bytes();
        let tensor = |kind, shape, data| safetensors::tensor::TensorView::new(kind, shape, data).unwrap();
        let mut views: std::collections::BTreeMap<String, _> =
            ["weight", "bias", "running_mean", "running_var"]
                .into_iter()
                .map(|name| (format!("bn.{name}"), tensor(safetensors::Dtype::F32, vec![2], &values[..])))
                .collect();
        views.insert(name.to_owned(), tensor(safetensors::Dtype::I64, vec![], &count[..]));
        safetensors::serialize(views, None).unwrap()
    };
    let mut model = build()?;
    model.load_state_dict_bytes(&bytes("bn.num_batches_tracked"), &StateDict::new())?;
    assert_eq!(model.params().as_slice(), [0.5, 2.0].repeat(4));
    // (x - mean) / sd * weight + bias
    let y = model.predict(&ndarray::array![[[1.5, 4.0]]])?;
    let expected = [0.5 / (0.5f64 + 1e-5).sqrt() + 0.5, 4.0 / (2.0f64 + 1e-5).sqrt() + 2.0];
    assert_close("y", &y.iter().map(|&y| f64::from(y)).collect::<Vec<_>>(), &expected, 1e-6);
    let error = build()?.load_state_dict_bytes(&bytes("other.num_batches_tracked"), &StateDict::new());
    assert!(error.unwrap_err().to_string().contains("unexpected tensor `other.num_batches_tracked`"));
    Ok(())
}

#[test]
fn invalid_batch_norms() {
    let message = |layer: BatchNorm| {
        Model::<f32>::builder(Shape::new(2, 4)).layer("n", layer).build(1).unwrap_err().to_string()
    };
    assert_eq!(message(BatchNorm::new().eps(0.0)), "`n: eps`: found 0, expected a positive number");
    let found = message(BatchNorm::new().momentum(1.5));
    assert_eq!(found, "`n: momentum`: found 1.5, expected a number from 0 to 1");
    assert_eq!(
        message(BatchNorm::channels(3)),
        "`n: channels`: found 3, expected a divisor of the 4 features of a step"
    );
}
