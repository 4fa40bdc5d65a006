//! Benchmarks. `cargo bench` runs all of them; `cargo bench -- lstm_2x35` those of the paper's model.
//!
//! `fma_peak` is the machine's limit, with which to compare the others: fused multiply-adds on registers only, on one
//! thread and on two, on the instruction set that the kernels run on (`BPTT_SIMD` names another). docs/performance.md
//! counts the operations of the model.

#[path = "common/peak.rs"]
mod peak;

use std::hint::black_box;

use bptt::data::{Arrays, Batch, Dataset, Draw};
use bptt::loss::CrossEntropy;
use bptt::nn::{Activation, Linear, Lstm, Mode, Workspace};
use bptt::optim::{Adam, AdamW, Adamax, Optimizer, RmsProp, Sgd, Update};
use bptt::{Model, SeqMut, Shape, SimdLevel, Trainer, rng};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array, Array1, Array3, ShapeBuilder};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

fn values<Sh: ShapeBuilder>(shape: Sh, key: u64) -> Array<f32, Sh::Dim> {
    Array::random_using(shape, Uniform::new(-1.0, 1.0).expect("a range"), &mut rng::rng(key))
}

fn data(n: usize, shape: Shape) -> Arrays {
    let x = values((n, shape.t, shape.f), 1);
    let y = Array1::from_shape_fn(n, |i| i % 10);
    Arrays::classes(x, &y, (0..10).map(|class| class.to_string())).expect("a dataset")
}

fn model(shape: Shape, hidden: usize, layers: usize) -> Model {
    Model::builder(shape)
        .layer("lstm", Lstm::new(hidden).layers(layers).last())
        .layer("linear", Linear::new(10))
        .build(1)
        .expect("a model")
}

/// One training step, from the forward pass to the repacking of the weights.
fn step(
    c: &mut Criterion,
    (group, id): (&str, String),
    (hidden, layers): (usize, usize),
    shape: Shape,
    batch: usize,
) {
    let (data, mut model) = (data(batch, shape), model(shape, hidden, layers));
    let trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).batch_size(batch);
    let mut stepper = trainer.stepper(&model, &data).expect("a stepper");
    let indices = Draw::all(0..batch as u32);
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(batch as u64));
    // Within the pool, as `fit` does it, so that the fork costs as much as it does there.
    group.bench_function(id, |b| {
        rayon::scope(|_| {
            b.iter(|| stepper.step(&mut model, &data, Batch::new(&indices, 1, 0)).expect("a step"))
        });
    });
}

fn lstm_2x35(c: &mut Criterion) {
    let shape = Shape::new(28, 28);
    for batch in [64, 100, 128] {
        step(c, ("lstm_2x35", format!("train_step_b{batch}")), (35, 2), shape, batch);
    }
    let (few, mut trained) = (data(64, shape), model(shape, 35, 2));
    let trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).batch_size(64);
    let mut stepper = trainer.stepper(&trained, &few).expect("a stepper");
    // What one thread does while the others wait, except for the sum of the gradients: the optimizer, and packing.
    c.benchmark_group("lstm_2x35").bench_function("update", |b| b.iter(|| stepper.update(&mut trained)));
    let (many, model) = (data(10_000, shape), model(shape, 35, 2));
    let mut group = c.benchmark_group("lstm_2x35");
    group.sample_size(20);
    group.bench_function("infer_10000", |b| b.iter(|| model.evaluate(&many).expect("an evaluation")));
    let mut ws = Workspace::new(&model, 1, Mode::Infer);
    let x = values((1, 28, 28), 2);
    group.bench_function("infer_1", |b| {
        b.iter(|| {
            ws.set_input(black_box(x.view()));
            model.forward(&mut ws);
            black_box(&ws);
        });
    });
}

fn shapes(c: &mut Criterion) {
    for (hidden, layers, t, batch) in [
        (8, 2, 28, 64),
        (16, 2, 28, 64),
        (64, 2, 28, 64),
        (128, 2, 28, 64),
        (256, 2, 28, 64),
        (512, 2, 28, 64),
        (35, 1, 28, 64),
        (35, 4, 28, 64),
        (35, 2, 280, 64),
        (35, 2, 1000, 64),
        (256, 2, 280, 64),
    ] {
        let id = format!("h{hidden}_l{layers}_t{t}_b{batch}");
        step(c, ("shapes", id), (hidden, layers), Shape::new(t, 28), batch);
    }
    step(c, ("shapes", "i512_h35_l2_t28_b64".into()), (35, 2), Shape::new(28, 512), 64);
}

fn activations(c: &mut Criterion) {
    let shape = Shape::new(1, 1024);
    let mut group = c.benchmark_group("activations");
    group.throughput(Throughput::Elements(64 * 1024));
    for (name, layer) in [("sigmoid", Activation::sigmoid()), ("tanh", Activation::tanh())] {
        let model: Model = Model::builder(shape).layer("f", layer).build(1).expect("a model");
        let mut ws = Workspace::new(&model, 64, Mode::Infer);
        let x = values((64, 1, 1024), 1);
        ws.set_input((x * 8.0).view());
        group.bench_function(name, |b| b.iter(|| model.forward(black_box(&mut ws))));
    }
}

fn optimizers(c: &mut Criterion) {
    let n = 19_540;
    let rules: [(&str, Box<dyn Optimizer<f32>>); 5] = [
        ("adam", Box::new(Adam::new(1e-3))),
        ("adamw", Box::new(AdamW::new(1e-3))),
        ("adamax", Box::new(Adamax::new(1e-3))),
        ("rmsprop", Box::new(RmsProp::new(1e-3))),
        ("sgd_momentum", Box::new(Sgd::new(1e-3).momentum(0.9))),
    ];
    let mut group = c.benchmark_group("optimizers");
    group.throughput(Throughput::Elements(n as u64));
    for (name, rule) in rules {
        let (mut p, g) = (values(n, 1).to_vec(), values(n, 2).to_vec());
        let mut moments = vec![vec![0.0; n]; rule.moments()];
        let mut step = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                step += 1;
                let mut own = moments.iter_mut();
                let moments = std::array::from_fn(|_| own.next().map_or(&mut [][..], |m| &mut m[..]));
                rule.update(Update::new(1e-3, &mut p, &g).step(step).moments(moments));
            });
        });
    }
}

/// The limit on one thread and on two, each named after the instruction set.
fn fma_peak(c: &mut Criterion) {
    let level = SimdLevel::current().name();
    let flop = peak::run(peak::ROUNDS).1;
    let mut group = c.benchmark_group("fma_peak");
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(threads * flop));
        group.bench_function(format!("{level}_threads_{threads}"), |b| {
            rayon::scope(|_| {
                b.iter(|| {
                    if threads == 1 {
                        peak::run(peak::ROUNDS).0
                    } else {
                        rayon::join(|| peak::run(peak::ROUNDS).0, || peak::run(peak::ROUNDS).0).0
                    }
                });
            });
        });
    }
}

/// Gathering a minibatch from bytes: transposing and normalising.
fn gather(c: &mut Criterion) {
    use bptt::data::{Images, Normalize, Sample};
    let pixels = Array3::from_shape_fn((64, 28, 28), |(i, y, x)| (i * 7 + y * 28 + x) as u8);
    let images = Images::new(pixels, Array1::zeros(64), ["one"]).expect("images");
    let normalize = Normalize::scalar(0.286, 0.353).expect("numbers");
    let samples: Vec<Sample> = (0..32).map(|i| Sample::plain(i * 2)).collect();
    let (mut scratch, mut x) = (vec![0.0; 784], vec![0.0; 784 * 32]);
    c.bench_function("gather_32_images", |b| {
        b.iter(|| {
            let tile = SeqMut::new(&mut x, Shape::new(28, 28), 32);
            images.gather(black_box(&samples), &normalize, &mut scratch, tile)
        });
    });
}

criterion_group!(benches, fma_peak, lstm_2x35, shapes, activations, optimizers, gather);
criterion_main!(benches);
