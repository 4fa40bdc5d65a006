//! Outputs are the same bits on every instruction set, and a trained model is the same file: layers, losses, optimizers and
//! schedules, in f32 and f64.
//!
//! Each level runs in a process of its own, because a level is chosen once. The portable level computes a fused multiply-add
//! without the instruction for it, so it stands for machines that this one is not.

use std::process::Command;

use bptt::data::{Arrays, Dataset, DatasetExt};
use bptt::loss::{BceWithLogits, CrossEntropy, Huber, L1, Mse, MultiMargin, Nll, SmoothL1};
use bptt::nn::{
    Activation, AttentionPool, BatchNorm, Branches, Chain, Conv1d, Conv2d, Dropout, EmbedColumns, Embedding,
    Gru, LayerNorm, LayerNormLstm, Linear, LogSoftmax, Lstm, PeepholeLstm, Pool, Pool2d, Rnn, Transpose,
};
use bptt::optim::{Adam, AdamW, Adamax, Muon, RmsProp, Sgd};
use bptt::train::Clip;
use bptt::train::schedule::{CosineAnnealing, Exponential, OneCycle};
use bptt::{Model, Real, Scalar, Shape, SimdLevel, Trainer, rng};
use ndarray::{Array, Array1, Array2, Array3, Axis, ShapeBuilder};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

const SAMPLES: usize = 70;
const SHAPE: Shape = Shape { t: 9, f: 5 };

/// What a sample comes out as, however many are beside it, is the same to the last bit on every instruction set.
#[test]
fn outputs_on_every_instruction_set() {
    same_lines_at_every_level("levels::print_outputs", 6);
}

#[test]
fn a_trained_model_on_every_instruction_set() {
    same_lines_at_every_level("levels::print_trained", 2 * 41);
}

/// Runs an ignored test of this binary at each level: all must print the same `lines` lines that begin with "bits".
#[track_caller]
fn same_lines_at_every_level(test: &str, lines: usize) {
    let printed = SimdLevel::available().into_iter().map(|level| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("BPTT_SIMD", level.name())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "at {}:\n{text}", level.name());
        let found: Vec<_> = text.lines().filter(|line| line.starts_with("bits")).map(str::to_owned).collect();
        assert_eq!(found.len(), lines, "at {}:\n{text}", level.name());
        (level, found)
    });
    let printed: Vec<_> = printed.collect();
    for (level, found) in &printed[1..] {
        for (found, expected) in found.iter().zip(&printed[0].1) {
            assert_eq!(found, expected, "{} and {}", level.name(), printed[0].0.name());
        }
    }
}

/// An empty `BPTT_SIMD` is one that is not set; a level that there is not is refused by its name.
#[test]
fn the_variable_of_the_instruction_set() {
    let run = |level: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "levels::print_outputs", "--ignored", "--nocapture"])
            .env("BPTT_SIMD", level)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (fine, errors) = run("");
    assert!(fine, "{errors}");
    let (fine, errors) = run("nonsense");
    assert!(!fine);
    assert!(
        errors.contains("BPTT_SIMD: found \"nonsense\", expected one that this machine runs: portable"),
        "{errors}"
    );
}

#[test]
#[ignore = "run by outputs_on_every_instruction_set"]
fn print_outputs() {
    fn print<R: Real>(data: &Arrays<R>) {
        let lstm = Lstm::new(35).layers(2).last();
        let builder = || Model::<R>::builder(data.shape());
        for model in [
            crate::model(data),
            builder().layer("lstm", lstm).layer("linear", Linear::new(3)).build(1).unwrap(),
            builder().layer("gru", Gru::new(13).bidirectional().last()).build(2).unwrap(),
        ] {
            let all = model.predict(data).unwrap();
            let bits: Vec<_> = all.iter().map(|y| y.to_f64().to_bits()).collect();
            println!("bits {:016x}", rng::key(&bits));
            for i in 0..3 {
                let one = model.predict(&data.subset([i]).unwrap()).unwrap();
                assert_eq!(one.index_axis(Axis(0), 0), all.index_axis(Axis(0), i as usize));
            }
        }
    }
    print(&crate::data::<f32>(70));
    print(&crate::data::<f64>(70));
}

#[test]
#[ignore = "run by a_trained_model_on_every_instruction_set"]
fn print_trained() {
    single::print_all();
    double::print_all();
}

/// Trains a model, with a linear layer on top of it, and prints a hash of its parameters and of its losses.
fn print<R: Real>(name: &str, mut model: Model<R>, data: &Arrays<R>, trainer: Trainer<R>) {
    let before = model.params().as_slice().to_vec();
    let history = trainer.epochs(2).batch_size(40).fit(&mut model, data, None).unwrap();
    assert_ne!(model.params().as_slice(), before, "{name}: nothing was learnt");
    let losses = history.epochs.iter().map(|epoch| epoch.train.loss.unwrap().to_bits());
    let bits = model.params().as_slice().iter().map(|p| p.to_f64().to_bits()).chain(losses);
    println!("bits {name}: {:016x}", rng::key(&bits.collect::<Vec<_>>()));
}

fn uniform<R: Real, Sh: ShapeBuilder>(shape: Sh, key: u64) -> Array<R, Sh::Dim> {
    let uniform = Uniform::new(-1.0, 1.0).unwrap();
    Array::random_using(shape, uniform, &mut rng::rng(key)).mapv(R::from_f64)
}

fn x<R: Real>() -> Array3<R> {
    uniform((SAMPLES, SHAPE.t, SHAPE.f), 1)
}

fn class() -> Array1<usize> {
    Array1::from_shape_fn(SAMPLES, |i| i % 3)
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A class for each sample.
fn classes<R: Real>() -> Arrays<R> {
    Arrays::classes(x(), &class(), NAMES).unwrap()
}

/// A class for each step of sequences of different lengths.
fn step_classes<R: Real>() -> Arrays<R> {
    let y = Array2::from_shape_fn((SAMPLES, SHAPE.t), |(i, t)| ((i + t) % 3) as i64);
    let lens: Vec<usize> = (0..SAMPLES).map(|i| 1 + (5 * i) % SHAPE.t).collect();
    Arrays::step_classes(x(), y, NAMES).unwrap().lengths(lens).unwrap()
}

macro_rules! each {
    ($scalar:ident, $data:expr, $trainer:expr, { $($name:literal: $($layer:expr),+;)* }) => {
        $(
            let data: Arrays<R> = $data;
            let model = Model::<R>::builder(data.shape());
            $(let model = model.layer(stringify!($layer), $layer);)+
            let model = model.layer("out", Linear::new(3)).build(1).unwrap();
            print(&format!("{} {}", $scalar, $name), model, &data, $trainer);
        )*
    };
}

/// All cases of one scalar type: losses and optimizers are implemented for each of them, not for all.
macro_rules! of_scalar {
    ($name:ident, $scalar:ident) => {
        mod $name {
            use super::*;

            type R = $scalar;

            pub fn print_all() {
                let scalar = stringify!($scalar);
                layers(scalar);
                cells(scalar);
                losses(scalar);
                optimizers(scalar);
            }

            fn trainer() -> Trainer<R> {
                Trainer::new(CrossEntropy::default(), Adam::new(0.01)).clip(Clip::Norm(0.5))
            }

            fn rows_and_columns() -> Branches<R> {
                let columns = Chain::new().layer("transpose", Transpose::new(SHAPE.t, 1));
                Branches::concat()
                    .branch("rows", Chain::new().layer("lstm", Lstm::new(4).last()))
                    .branch("columns", columns.layer("gru", Gru::new(3).last()))
            }

            fn residual() -> Branches<R> {
                let conv = Chain::new().layer("conv", Conv1d::new(SHAPE.f, 3).padding(1));
                let conv = conv.layer("norm", BatchNorm::new()).layer("dropout", Dropout::new(0.2));
                Branches::residual("conv", conv)
            }

            fn layers(scalar: &str) {
                each!(scalar, classes(), trainer(), {
                    "mean": Pool::mean();
                    "max": Pool::max();
                    "last": Pool::last();
                    "conv2d, max": Conv2d::new(1, 5, [3, 2]).padding([1, 1]), Pool2d::max(5, [2, 2]), Lstm::new(4).last();
                    "two conv2d, mean": Conv2d::new(1, 7, [4, 3]).stride([1, 2]), Conv2d::new(7, 3, [2, 2]), Pool2d::mean(3, [2, 1]), Pool::last();
                    "attention": Rnn::new(4), AttentionPool::new();
                    "rows and columns": rows_and_columns();
                    "residual": residual(), Pool::max();
                    "global": Conv2d::new(5, 18, [2, 1]), Pool2d::global_mean(9);
                });
                each!(scalar, step_classes(), trainer(), {
                    "causal conv1d": Conv1d::new(6, 5).causal(), Conv1d::new(4, 2).causal();
                    "norm": LayerNorm::new();
                    "batch norm": Linear::new(5), BatchNorm::new(), Activation::tanh();
                    "dropout": Dropout::new(0.3);
                    "tanh": Activation::tanh();
                    "sigmoid": Activation::sigmoid();
                    "relu": Activation::relu();
                });
                let words =
                    Array3::from_shape_fn((SAMPLES, SHAPE.t, 1), |(i, t, _)| R::from_f64(((7 * i + 3 * t) % 11) as f64));
                each!(scalar, Arrays::classes(words.clone(), &class(), NAMES).unwrap(), trainer(), {
                    "embedding": Embedding::new(11, 4), Pool::mean();
                });
                let columns = Array3::from_shape_fn((SAMPLES, SHAPE.t, 3), |(i, t, f)| R::from_f64(((7 * i + 3 * t + f) % 11) as f64));
                each!(scalar, Arrays::classes(columns, &class(), NAMES).unwrap(), trainer(), {
                    "embedded columns": EmbedColumns::new().column(2, 11, 4).column(0, 11, 3), Pool::mean();
                });
            }

            fn cells(scalar: &str) {
                each!(scalar, classes(), trainer(), {
                    "lstm": Lstm::new(35).layers(2).dropout(0.2).last();
                    "gru, both directions": Gru::new(13).bidirectional().last();
                    "rnn, relu": Rnn::new(3).relu().last();
                    "layer norm lstm": LayerNormLstm::new(6).last();
                });
                each!(scalar, step_classes(), trainer(), {
                    "lstm, both directions": Lstm::new(5).layers(2).bidirectional();
                    "lstm, projected": Lstm::new(9).layers(2).proj_size(4);
                    "gru, reset before": Gru::new(7).reset_after(false);
                    "rnn": Rnn::new(17);
                    "peephole lstm": PeepholeLstm::new(6);
                });
            }

            fn losses(scalar: &str) {
                let lstm = || Lstm::new(4).last();
                let values = || Arrays::vectors(x(), uniform((SAMPLES, 3), 2)).unwrap();
                let sgd = || Sgd::new(0.05);
                each!(scalar, values(), Trainer::new(Mse, sgd()), { "mse": lstm(); });
                each!(scalar, values(), Trainer::new(L1, sgd()), { "l1": lstm(); });
                each!(scalar, values(), Trainer::new(Huber::default().delta(0.4), sgd()), { "huber": lstm(); });
                each!(scalar, values(), Trainer::new(SmoothL1::default().beta(0.4), sgd()), { "smooth l1": lstm(); });
                let labels = || Arrays::vectors(x(), uniform::<R, _>((SAMPLES, 3), 2).mapv(|y| if y > R::ZERO { R::ONE } else { R::ZERO })).unwrap();
                each!(scalar, labels(), Trainer::new(BceWithLogits::default(), sgd()), { "bce": lstm(); });
                each!(scalar, classes(), Trainer::new(MultiMargin::default().p(2), sgd()), { "multi margin": lstm(); });
                let data = classes::<R>();
                let model = Model::builder(SHAPE).layer("lstm", lstm()).layer("out", Linear::new(3)).layer("log", LogSoftmax);
                print(&format!("{scalar} nll"), model.build(1).unwrap(), &data, Trainer::new(Nll::default(), sgd()));
            }

            fn optimizers(scalar: &str) {
                let lstm = || Lstm::new(4).last();
                let loss = || CrossEntropy::default().label_smoothing(0.1);
                let adam = || Trainer::new(loss(), Adam::new(0.01).amsgrad());
                each!(scalar, classes(), adam().schedule(OneCycle::new(0.02)).ema(0.9), { "adam": lstm(); });
                each!(scalar, classes(), adam().schedule(CosineAnnealing::new(3)), { "cosine": lstm(); });
                each!(scalar, classes(), Trainer::new(loss(), AdamW::new(0.01)), { "adamw": lstm(); });
                each!(scalar, classes(), Trainer::new(loss(), Muon::new(0.01)), { "muon": lstm(); });
                each!(scalar, classes(), Trainer::new(loss(), Adamax::new(0.01)).schedule(Exponential::new(0.9)), {
                    "adamax": lstm();
                });
                each!(scalar, classes(), Trainer::new(loss(), RmsProp::new(0.01).centered().momentum(0.9)), {
                    "rms_prop": lstm();
                });
                each!(scalar, classes(), Trainer::new(loss(), Sgd::new(0.1).momentum(0.9).nesterov()).clip(Clip::Value(0.01)), {
                    "sgd": lstm();
                });
            }
        }
    };
}

of_scalar!(single, f32);
of_scalar!(double, f64);
