//! Every reader of the crate on arbitrary bytes, and a use of whatever it reads: for `tests/mutated.rs` and for `fuzz/`.
//!
//! A reader may refuse its input, by an error of bounded length. It may not panic, nor take memory without bounds, nor
//! return something that panics when it is used or that cannot be saved and read again. Each function returns whether the
//! input was read.
#![allow(dead_code)] // each fuzz target uses one

use std::fmt::Debug;

use bptt::data::{Arrays, ByLoss, Normalize, RandomSubset, read_idx_bytes};
use bptt::loss::{
    BceWithLogits, CrossEntropy, Huber, L1, Loss, Mse, MultiMargin, Nll, SmoothL1, WeightedMean,
};
use bptt::metrics::ConfusionMatrix;
use bptt::nn::{Activation, Dropout, Embedding, Gru, Layer, LayerNorm, Linear, LogSoftmax, Lstm, Pool, Rnn};
use bptt::optim::{Adam, AdamW, Adamax, Optimizer, RmsProp, Sgd};
use bptt::params::StateDict;
use bptt::prune::{Magnitude, Random, Rule};
use bptt::train::schedule::{
    Clock, Constant, CosineAnnealing, Exponential, LinearWarmUp, MultiStep, OneCycle, PerStep,
    ReduceOnPlateau, Schedule, StepDecay,
};
use bptt::train::{Clip, EarlyStopping, GradualPruning, History, Monitor};
use bptt::{Init, Model, Result, Shape, Trainer, tune};
use ndarray::{Array3, Ix1, Ix3, IxDyn};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message that an error may have, in bytes.
const LONGEST: usize = 4000;
/// Values up to which a loaded model is used: larger ones are right, but slow.
const SMALL: usize = 1 << 12;

/// What was read; the error, if it is one, has been looked at.
fn read<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() <= LONGEST, "{} bytes of message: {message:.200}", message.len());
            None
        }
    }
}

// --- models, their tensors, and runs ---

/// A model with its tensors under PyTorch's names, small enough to be read a million times.
pub fn small_model() -> Model {
    let mut model = Model::builder(Shape::new(2, 2))
        .normalize(Normalize::per_feature(vec![0.5, -0.5], vec![1.0, 2.0]).unwrap())
        .layer("rnn", Rnn::new(2).relu().last())
        .layer("linear", Linear::new(2))
        .classes(["no", "yes"])
        .build(7)
        .unwrap();
    model.prune(Magnitude::share(0.25)).unwrap();
    model
}

/// A model of more kinds of layers.
pub fn other_model() -> Model {
    Model::builder(Shape::new(3, 1))
        .layer("words", Embedding::new(3, 2))
        .layer("drop", Dropout::new(0.1).locked())
        .layer("lstm", Lstm::new(1).layers(2).bidirectional().dropout(0.5))
        .layer("gru", Gru::new(1))
        .layer("norm", LayerNorm::new())
        .layer("tanh", Activation::tanh())
        .layer("pool", Pool::mean())
        .layer("softmax", LogSoftmax)
        .build(3)
        .unwrap()
}

/// A file of `Model::save`.
pub fn model(bytes: &[u8]) -> bool {
    let Some(model) = read(Model::<f32>::from_bytes(bytes)) else { return false };
    model.to_string();
    model.sparsity().to_string();
    let again = model.to_bytes().expect("what was loaded can be saved");
    let again = Model::<f32>::from_bytes(&again).expect("what was saved can be loaded");
    assert_eq!(again.params().as_slice(), model.params().as_slice());
    let (Shape { t, f }, output) = (model.input_shape(), model.output_shape());
    if t.saturating_mul(f).max(output.size()).max(model.parameter_count()) > SMALL {
        return true;
    }
    read(model.predict(&Array3::<f32>::zeros((2, t, f))));
    if let Some(mut session) = read(model.session()) {
        session.push(&vec![0.0; f]);
    }
    true
}

/// A state dict, into a model that has it under other names.
pub fn state_dict(bytes: &[u8]) -> bool {
    let mut any = false;
    let names = StateDict::new().rename("module.rnn", "rnn").rename("module.fc", "linear");
    for names in [names, StateDict::new()] {
        let mut model = small_model();
        let before = model.params().as_slice().to_vec();
        let loaded = read(model.load_state_dict_bytes(bytes, &names)).is_some();
        assert!(loaded || model.params().as_slice() == before, "a refused file changed the model");
        assert!(model.params().first_not_finite().is_none());
        any |= loaded;
    }
    any
}

/// Data for the run, and for settings: four samples of two classes.
pub fn data() -> Arrays {
    let x = Array3::from_shape_fn((4, 2, 2), |(i, t, f)| (i + t + f) as f32 / 4.0);
    Arrays::classes(x, &[0, 1, 0, 1], ["no", "yes"]).unwrap()
}

/// The trainer whose run is in the file.
pub fn run_trainer() -> Trainer {
    Trainer::new(CrossEntropy::default(), Sgd::new(0.1).momentum(0.5))
        .epochs(2)
        .batch_size(4)
        .ema(0.9)
        .run_file("run")
        .callback(EarlyStopping::new(9))
}

/// The model that the run trains.
pub fn run_model() -> Model {
    Model::builder(Shape::new(2, 2))
        .layer("linear", Linear::new(2))
        .layer("pool", Pool::last())
        .build(1)
        .unwrap()
}

/// The file of that run.
pub fn run_file() -> Vec<u8> {
    let path = std::env::temp_dir().join(format!("bptt-run-{}", std::process::id()));
    run_trainer().run_file(&path).fit(&mut run_model(), &data(), None).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bytes
}

/// A run's file.
pub fn run(bytes: &[u8]) -> bool {
    let mut model = run_model();
    let before = model.params().as_slice().to_vec();
    let restored = read(run_trainer().restore_bytes(bytes, &mut model, &data())).is_some();
    assert!(restored || model.params().as_slice() == before, "a refused file changed the model");
    restored
}

// --- data and studies ---

/// An IDX file, plain or gzipped, as any type.
pub fn idx(bytes: &[u8]) -> bool {
    let array = read(read_idx_bytes::<u8, IxDyn>(bytes));
    // No byte of gzip holds much more than a thousand.
    assert!(array.as_ref().is_none_or(|array| array.len() <= 2048 * bytes.len()));
    array.is_some()
        || read(read_idx_bytes::<i8, Ix1>(bytes)).is_some()
        || read(read_idx_bytes::<i16, Ix3>(bytes)).is_some()
        || read(read_idx_bytes::<i32, IxDyn>(bytes)).is_some()
        || read(read_idx_bytes::<f32, Ix1>(bytes)).is_some()
        || read(read_idx_bytes::<f64, IxDyn>(bytes)).is_some()
}

/// A study's file.
pub fn study(bytes: &[u8]) -> bool {
    let counts = read(tune::count_runs(bytes));
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert!(counts.is_none_or(|(runs, unreadable)| runs + unreadable <= lines));
    counts.is_some()
}

// --- settings ---

/// Settings that come from JSON: what is read comes back from what is written, and is used.
type Use = fn(&[u8]) -> bool;

/// Every kind of setting, by the names that the old ones have in `tests/fixtures/old/settings.json`.
pub const SETTINGS: &[(&str, Use)] = &[
    ("adam", |json| optimizer::<Adam>(json)),
    ("adamw", |json| optimizer::<AdamW>(json)),
    ("adamax", |json| optimizer::<Adamax>(json)),
    ("rms_prop", |json| optimizer::<RmsProp>(json)),
    ("sgd", |json| optimizer::<Sgd>(json)),
    ("bce_with_logits", |json| loss::<BceWithLogits>(json)),
    ("cross_entropy", |json| loss::<CrossEntropy>(json)),
    ("huber", |json| loss::<Huber>(json)),
    ("l1", |json| loss::<L1>(json)),
    ("mse", |json| loss::<Mse>(json)),
    ("multi_margin", |json| loss::<MultiMargin>(json)),
    ("nll", |json| loss::<Nll>(json)),
    ("smooth_l1", |json| loss::<SmoothL1>(json)),
    ("weighted_mean", |json| parse::<WeightedMean<CrossEntropy>>(json).is_some()),
    ("constant", |json| schedule::<Constant>(json)),
    ("cosine_annealing", |json| schedule::<CosineAnnealing>(json)),
    ("per_step", |json| schedule::<PerStep<CosineAnnealing>>(json)),
    ("exponential", |json| schedule::<Exponential>(json)),
    ("linear_warm_up", |json| schedule::<LinearWarmUp>(json)),
    ("multi_step", |json| schedule::<MultiStep>(json)),
    ("one_cycle", |json| schedule::<OneCycle>(json)),
    ("reduce_on_plateau", |json| schedule::<ReduceOnPlateau>(json)),
    ("step", |json| schedule::<StepDecay>(json)),
    ("relu", |json| layer::<Activation>(json)),
    ("dropout", |json| layer::<Dropout>(json)),
    ("embedding", |json| layer::<Embedding>(json)),
    ("gru", |json| layer::<Gru>(json)),
    ("layer_norm", |json| layer::<LayerNorm>(json)),
    ("linear", |json| layer::<Linear>(json)),
    ("log_softmax", |json| layer::<LogSoftmax>(json)),
    ("lstm", |json| layer::<Lstm>(json)),
    ("pool_mean", |json| layer::<Pool>(json)),
    ("rnn", |json| layer::<Rnn>(json)),
    ("clip_norm", clip),
    ("monitor", |json| parse::<Monitor>(json).is_some()),
    ("normalize", normalize),
    ("shape", |json| parse::<Shape>(json).is_some()),
    ("init_xavier_uniform", init),
    ("magnitude_share", |json| prune::<Magnitude>(json)),
    ("random", |json| prune::<Random>(json)),
    ("gradual_pruning", gradual),
    ("random_subset", |json| parse::<RandomSubset>(json).is_some()),
    ("by_loss_band", |json| parse::<ByLoss>(json).is_some()),
    ("state_dict", names),
    ("history", |json| parse::<History>(json).map(|history| history.to_csv()).is_some()),
    ("confusion", |json| {
        parse::<ConfusionMatrix>(json).map(|matrix| matrix.to_string() + &matrix.report()).is_some()
    }),
];

/// A setting: the first byte says of which kind, the rest is JSON.
pub fn settings(bytes: &[u8]) -> bool {
    let Some((kind, json)) = bytes.split_first() else { return false };
    SETTINGS[usize::from(*kind) % SETTINGS.len()].1(json)
}

fn parse<T: Serialize + DeserializeOwned + Debug>(json: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(json).ok()?;
    let text = serde_json::to_string(&value).expect("what was read can be written");
    let again: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{value:?} as {text}: {e}"));
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    Some(value)
}

fn optimizer<O: Optimizer<f32> + Serialize + DeserializeOwned + 'static>(json: &[u8]) -> bool {
    let Some(optimizer) = parse::<O>(json) else { return false };
    train(Trainer::new(CrossEntropy::default(), optimizer));
    true
}

fn loss<L: Loss<f32> + Serialize + DeserializeOwned + 'static>(json: &[u8]) -> bool {
    let Some(loss) = parse::<L>(json) else { return false };
    train(Trainer::new(loss, Sgd::new(0.1)));
    true
}

/// A schedule gives a rate at any time, whatever its settings; one that is refused is never asked.
fn schedule<S: Schedule + Serialize + DeserializeOwned + 'static>(json: &[u8]) -> bool {
    let Some(schedule) = parse::<S>(json) else { return false };
    for done in [0, 1, 9, usize::MAX / 2, usize::MAX] {
        schedule.lr(0.1, Clock::new(done, usize::MAX));
        schedule.lr(0.1, Clock::new(done, 0));
    }
    if read(schedule.check()).is_some() {
        let rate = schedule.lr(0.1, Clock::new(3, 10));
        assert!(rate >= 0.0 || !rate.is_finite(), "{schedule:?}: {rate}");
    }
    train(Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).schedule(schedule));
    true
}

fn train(trainer: Trainer) {
    let mut model = run_model();
    let done = read(trainer.epochs(1).batch_size(4).fit(&mut model, &data(), None)).is_some();
    // Settings may be so large that an update overflows, but then the run says so.
    let bad = model.params().first_not_finite();
    assert!(!done || bad.is_none(), "training made {bad:?}");
}

fn layer<L: Layer<f32> + Serialize + DeserializeOwned + 'static>(json: &[u8]) -> bool {
    // Sizes that are right, but take their time, are for `model`.
    let large = json.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 2);
    let Some(layer) = parse::<L>(json).filter(|_| !large) else { return false };
    let Some(model) = read(Model::builder(Shape::new(2, 1)).layer("it", layer).build(1)) else {
        return false;
    };
    read(model.predict(&Array3::<f32>::zeros((2, 2, 1))));
    true
}

fn clip(json: &[u8]) -> bool {
    let Some(clip) = parse::<Clip>(json) else { return false };
    train(Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).clip(clip));
    true
}

fn gradual(json: &[u8]) -> bool {
    let Some(gradual) = parse::<GradualPruning>(json) else { return false };
    for epoch in [0, 1, 9, usize::MAX] {
        gradual.share(epoch);
    }
    train(Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).callback(gradual));
    true
}

fn prune<P: Rule<f32> + Serialize + DeserializeOwned + Debug>(json: &[u8]) -> bool {
    let Some(rule) = parse::<P>(json) else { return false };
    read(run_model().prune(rule));
    true
}

fn init(json: &[u8]) -> bool {
    let Some(init) = parse::<Init>(json) else { return false };
    read(run_model().init("linear.weight", init, 1));
    true
}

fn normalize(json: &[u8]) -> bool {
    let Some(normalize) = parse::<Normalize>(json) else { return false };
    if normalize.check(2).is_ok() {
        normalize.apply(1.0f32, 1);
    }
    true
}

fn names(json: &[u8]) -> bool {
    let Some(names) = parse::<StateDict>(json) else { return false };
    let mut model = small_model();
    let bytes = model.to_bytes().unwrap();
    read(model.load_state_dict_bytes(&bytes, &names));
    true
}
