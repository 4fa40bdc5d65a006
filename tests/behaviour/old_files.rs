//! Files of earlier forms still load: those in `tests/fixtures/old` were written by the code of November 2026, before 0.1.0.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use bptt::data::{Arrays, Normalize};
use bptt::data::{ByLoss, RandomSubset};
use bptt::gradcheck::GradCheck;
use bptt::loss::{BceWithLogits, CrossEntropy, Huber, L1, Mse, MultiMargin, Nll, SmoothL1};
use bptt::metrics::ConfusionMatrix;
use bptt::nn::{Activation, Dropout, Embedding, Gru, LayerNorm, Linear, LogSoftmax, Lstm, Pool, Rnn};
use bptt::optim::{Adam, AdamW, Adamax, RmsProp, Sgd};
use bptt::params::StateDict;
use bptt::prune::{Magnitude, Random};
use bptt::train::schedule::{
    Constant, CosineAnnealing, Exponential, LinearWarmUp, MultiStep, OneCycle, PerStep, ReduceOnPlateau,
    StepDecay, Threshold,
};
use bptt::train::{Checkpoint, Clip, EarlyStopping, GradualPruning, Group, History, Monitor, Schedule};
use bptt::{Init, Model, Shape, Trainer, rng};
use ndarray::{Array1, Array3, array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

fn old(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old").join(name)
}

/// One of every layer, pruned, with class names and normalisation.
#[test]
fn a_model() {
    let model = Model::<f32>::load(old("model.safetensors")).unwrap();
    assert_eq!(model.classes(), ["no", "yes"]);
    assert_eq!(model.sparsity().pruned(), 174);
    let x = Array3::from_shape_fn((3, 4, 3), |(i, t, f)| (i * 12 + t * 3 + f) as f32 / 20.0 - 1.0);
    // Printed by the code that wrote the file.
    let expected = array![
        [[-0.763_646_84, -0.627_292_1]],
        [[-0.759_265, -0.631_131_05]],
        [[-0.758_713_84, -0.631_616_23]]
    ];
    let found = model.predict(&x).unwrap();
    assert!((&found - &expected).iter().all(|d: &f32| d.abs() < 1e-6), "{found}");

    let words = Model::<f64>::load(old("embedding.safetensors")).unwrap();
    assert_eq!(words.params().get("words.weight").unwrap().shape(), [5, 2]);
}

fn data() -> Arrays {
    let x = Array3::from_shape_fn((10, 4, 3), |(i, t, f)| ((i * 5 + t * 3 + f) % 7) as f32);
    Arrays::classes(x, &Array1::from_shape_fn(10, |i| i % 2), ["no", "yes"]).unwrap()
}

fn fit(change: impl FnOnce(Trainer) -> Trainer) -> (History, Model) {
    let builder = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(3).last());
    let mut model = builder.layer("linear", Linear::new(2)).build(1).unwrap();
    let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01))
        .epochs(4)
        .batch_size(4)
        .ema(0.9)
        .clip(Clip::Norm(1.0))
        .schedule(StepDecay::new(2))
        .freeze("lstm.bias_hh*")
        .group("linear.*", Group::new().lr_scale(2.0))
        .callback(EarlyStopping::new(9))
        .callback(GradualPruning::new(0.5).from_epoch(1).until_epoch(3));
    let history = change(trainer).fit(&mut model, &data(), Some(&data())).unwrap();
    (history, model)
}

/// Two epochs of four are in the file: the other two end where four in a row do.
#[test]
fn a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    std::fs::copy(old("run.safetensors"), &path).unwrap();
    let (resumed, model) = fit(|trainer| trainer.run_file(&path).resume(true));
    let (whole, expected) = fit(|trainer| trainer);
    let written = History::load(old("history.json")).unwrap();
    assert_eq!(resumed.epochs[..2], written.epochs[..]);
    assert_eq!(resumed.epochs.len(), 4);
    // The file was written on a machine whose instruction set may differ from this one's in the last bits.
    for (resumed, whole) in resumed.epochs.iter().zip(&whole.epochs) {
        assert!(
            (resumed.train.loss.unwrap() - whole.train.loss.unwrap()).abs() < 1e-5,
            "{resumed:?} {whole:?}"
        );
    }
    let pairs = model.params().as_slice().iter().zip(expected.params().as_slice());
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
}

/// A run that was stopped in the middle of its third epoch, with all that a file holds: averages, two optimizers,
/// frozen parameters, the states of three callbacks; and one that carries states from step to step.
#[test]
fn runs_stopped_within_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let values = |n: usize, key: u64| {
        let mut values = vec![0.0f32; n];
        Init::Uniform(1.0).fill(&mut values, rng::key(&[key]));
        values
    };
    let data = |n: usize| {
        let x = Array3::from_shape_vec((n, 4, 3), values(n * 12, n as u64)).unwrap();
        let y = Array1::from_shape_fn(n, |i| usize::from(x[[i, 0, 0]] > x[[i, 1, 1]]));
        Arrays::classes(x, &y, ["less", "more"]).unwrap()
    };
    let model = || {
        Model::builder(Shape::new(4, 3))
            .layer("lstm", Lstm::new(5).layers(2).last())
            .layer("dropout", Dropout::new(0.3))
            .layer("linear", Linear::new(2))
            .build(1)
            .unwrap()
    };
    let trainer = || {
        Trainer::new(CrossEntropy::default(), Adam::new(0.03))
            .epochs(4)
            .batch_size(20)
            .tile(4)
            .seed(7)
            .schedule(CosineAnnealing::new(9).per_step())
            .ema(0.8)
            .clip(Clip::Norm(0.5))
            .group("linear.*", Group::new().optimizer(Sgd::new(0.1).momentum(0.9)))
            .freeze("lstm.bias_hh_l0")
            .callback(EarlyStopping::new(2))
            .callback(Checkpoint::new(folder.path().join("best")).best_only().monitor(Monitor::ValidAccuracy))
            .callback(GradualPruning::new(0.5).from_epoch(1).until_epoch(2))
    };
    let goes_on = |name: &str, trainer: Trainer, mut model: Model, train: &Arrays, valid: Option<&Arrays>| {
        let path = folder.path().join(name);
        std::fs::copy(old(name), &path).unwrap();
        let mut trainer = trainer.run_file(path).resume(true);
        trainer.fit(&mut model, train, valid.map(|valid| valid as _)).unwrap();
        model
    };
    let near = |a: &Model, b: &Model| {
        a.params().as_slice().iter().zip(b.params().as_slice()).all(|(a, b)| (a - b).abs() < 1e-4)
    };
    let mut whole = model();
    trainer().fit(&mut whole, &data(93), Some(&data(41))).unwrap();
    let resumed = goes_on("run_full.safetensors", trainer(), model(), &data(93), Some(&data(41)));
    assert!(near(&resumed, &whole));
    assert_eq!(resumed.mask(), whole.mask());

    let x = Array3::from_shape_vec((45, 4, 3), values(45 * 12, 45)).unwrap();
    let y = Array3::from_shape_vec((45, 4, 1), values(45 * 4, 46)).unwrap();
    let streams = Arrays::values(x, y).unwrap();
    let model = || {
        let builder = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(4));
        builder.layer("linear", Linear::new(1)).build(1).unwrap()
    };
    let trainer = || Trainer::new(Mse, Sgd::new(0.1)).epochs(2).batch_size(9).stateful();
    let mut whole = model();
    trainer().fit(&mut whole, &streams, None).unwrap();
    assert!(near(&goes_on("run_stateful.safetensors", trainer(), model(), &streams, None), &whole));
}

/// What can be compared with such a file is, and is called what it is called today.
#[test]
fn a_run_of_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    std::fs::copy(old("run.safetensors"), &path).unwrap();
    let fault = |change: fn(Trainer) -> Trainer| {
        let builder = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(3).last());
        let mut model = builder.layer("linear", Linear::new(2)).build(1).unwrap();
        let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(4).batch_size(4).ema(0.9);
        let trainer = trainer.clip(Clip::Norm(1.0)).freeze("lstm.bias_hh*").run_file(&path).resume(true);
        change(trainer).fit(&mut model, &data(), Some(&data())).unwrap_err().to_string()
    };
    let other = fault(|trainer| trainer.seed(2).batch_size(5).ema(0.5));
    let settings = "`batch_size`: found 4, expected 5; `ema`: found Some(0.9), expected Some(0.5); `seed`: found 1, expected 2";
    assert!(other.ends_with(settings), "{other}");
    // The settings fit; the callbacks, of which the file has two, do not.
    assert!(fault(|trainer| trainer).contains("found states of 2 callbacks"));
}

/// Reads a setting, which must come back from what is written today as well.
fn read<T: Serialize + DeserializeOwned + Debug>(settings: &mut Map<String, Value>, name: &str) -> T {
    let json = settings.remove(name).unwrap_or_else(|| panic!("no `{name}`"));
    let value: T = serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{name}, {json}: {e}"));
    let again: T = serde_json::from_value(serde_json::to_value(&value).unwrap()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
    value
}

#[test]
fn settings() {
    let json = std::fs::read(old("settings.json")).unwrap();
    let s: &mut Map<String, Value> = &mut serde_json::from_slice(&json).unwrap();
    let text = |value: &dyn Debug| format!("{value:?}");

    assert_eq!(
        read::<Adam>(s, "adam"),
        Adam::new(0.1).betas(0.8, 0.99).eps(1e-3).weight_decay(0.2).amsgrad()
    );
    assert_eq!(read::<AdamW>(s, "adamw"), AdamW::new(0.1).weight_decay(0.3));
    assert_eq!(read::<Adamax>(s, "adamax"), Adamax::new(0.1).betas(0.7, 0.9));
    assert_eq!(read::<RmsProp>(s, "rms_prop"), RmsProp::new(0.1).alpha(0.5).momentum(0.2).centered());
    assert_eq!(read::<Sgd>(s, "sgd"), Sgd::new(0.1).momentum(0.9).nesterov());

    assert_eq!(read::<BceWithLogits>(s, "bce_with_logits"), BceWithLogits::default().pos_weight([2.0]));
    let cross_entropy = CrossEntropy::default().weight([1.0, 2.0]).label_smoothing(0.1).ignore_index(7);
    assert_eq!(read::<CrossEntropy>(s, "cross_entropy"), cross_entropy);
    assert_eq!(read::<Huber>(s, "huber"), Huber::default().delta(0.5));
    assert_eq!(text(&read::<L1>(s, "l1")), text(&L1));
    assert_eq!(text(&read::<Mse>(s, "mse")), text(&Mse));
    assert_eq!(read::<MultiMargin>(s, "multi_margin"), MultiMargin::default().margin(2.0));
    assert_eq!(read::<Nll>(s, "nll"), Nll::default().weight([0.5, 2.0]));
    assert_eq!(read::<SmoothL1>(s, "smooth_l1"), SmoothL1::default().beta(0.25));

    assert_eq!(read::<Constant>(s, "constant"), Constant::new(0.5));
    assert_eq!(read::<CosineAnnealing>(s, "cosine_annealing"), CosineAnnealing::new(9).eta_min(0.1));
    read::<PerStep<CosineAnnealing>>(s, "per_step");
    assert_eq!(read::<Exponential>(s, "exponential"), Exponential::new(0.9));
    assert_eq!(read::<LinearWarmUp>(s, "linear_warm_up"), LinearWarmUp::new(5).start_factor(0.1));
    assert_eq!(read::<MultiStep>(s, "multi_step"), MultiStep::new([3, 7]).gamma(0.5));
    assert_eq!(read::<OneCycle>(s, "one_cycle"), OneCycle::new(0.1).pct_start(0.2).three_phase());
    let plateau = ReduceOnPlateau::new().patience(3).threshold(Threshold::Abs(0.1));
    assert_eq!(read::<ReduceOnPlateau>(s, "reduce_on_plateau"), plateau);
    assert_eq!(read::<StepDecay>(s, "step"), StepDecay::new(3).gamma(0.5));

    assert_eq!(read::<Activation>(s, "relu"), Activation::relu());
    assert_eq!(read::<Activation>(s, "tanh"), Activation::tanh());
    assert_eq!(read::<Activation>(s, "sigmoid"), Activation::sigmoid());
    assert_eq!(read::<Dropout>(s, "dropout"), Dropout::new(0.3).locked());
    assert_eq!(read::<Embedding>(s, "embedding"), Embedding::new(5, 3));
    assert_eq!(text(&read::<Gru>(s, "gru")), text(&Gru::new(4).layers(2)));
    assert_eq!(read::<LayerNorm>(s, "layer_norm"), LayerNorm::new());
    assert_eq!(read::<Linear>(s, "linear"), Linear::new(3));
    assert_eq!(read::<LogSoftmax>(s, "log_softmax"), LogSoftmax);
    assert_eq!(text(&read::<Lstm>(s, "lstm")), text(&Lstm::new(4).bidirectional().last()));
    assert_eq!(read::<Pool>(s, "pool_last"), Pool::last());
    assert_eq!(read::<Pool>(s, "pool_mean"), Pool::mean());
    assert_eq!(read::<Pool>(s, "pool_max"), Pool::max());
    assert_eq!(text(&read::<Rnn>(s, "rnn")), text(&Rnn::new(4).relu()));

    assert_eq!(read::<Clip>(s, "clip_none"), Clip::None);
    assert_eq!(read::<Clip>(s, "clip_norm"), Clip::Norm(0.5));
    assert_eq!(read::<Clip>(s, "clip_value"), Clip::Value(0.25));
    assert_eq!(read::<Monitor>(s, "monitor"), Monitor::TrainAccuracy);
    let normalize = Normalize::per_feature(vec![0.1, 0.2], vec![1.0, 2.0]).unwrap();
    assert_eq!(read::<Normalize>(s, "normalize"), normalize);
    assert_eq!(read::<Shape>(s, "shape"), Shape::new(3, 4));
    assert_eq!(read::<Init>(s, "init_xavier_uniform"), Init::XavierUniform(2.0));
    assert_eq!(read::<Init>(s, "init_forget_gate"), Init::ForgetGate(1.0));
    assert_eq!(text(&read::<Magnitude>(s, "magnitude_below")), text(&Magnitude::below(0.1).only("lstm.*")));
    let share = Magnitude::share(0.5).global().with_biases();
    assert_eq!(text(&read::<Magnitude>(s, "magnitude_share")), text(&share));
    assert_eq!(text(&read::<Random>(s, "random")), text(&Random::share(0.5).seed(9).only("linear.*")));
    let gradual = GradualPruning::new(0.7).from_epoch(2).until_epoch(8).only("lstm.*");
    assert_eq!(text(&read::<GradualPruning>(s, "gradual_pruning")), text(&gradual));
    assert_eq!(text(&read::<RandomSubset>(s, "random_subset")), text(&RandomSubset::share(0.5).seed(4)));
    assert_eq!(text(&read::<ByLoss>(s, "by_loss_hardest")), text(&ByLoss::hardest(0.2).stratified()));
    assert_eq!(text(&read::<ByLoss>(s, "by_loss_band")), text(&ByLoss::band(0.1, 0.9)));
    assert_eq!(text(&read::<GradCheck>(s, "grad_check")), text(&GradCheck::default().batch(5).seed(2)));
    read::<StateDict>(s, "state_dict");

    let left: BTreeSet<_> = s.keys().collect();
    assert!(left.is_empty(), "no test reads {left:?}");
}

#[test]
fn a_confusion_matrix() {
    let json = std::fs::read(old("confusion.json")).unwrap();
    let matrix: ConfusionMatrix = serde_json::from_slice(&json).unwrap();
    assert_eq!((matrix.names(), matrix.total()), (&["a".to_owned(), "b".into()][..], 1));
}
