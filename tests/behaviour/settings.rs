//! Settings as plain data: all of them go through JSON and come back, and each that cannot be is refused by its name.

use std::fmt::Debug;

use bptt::data::{
    Arrays, Augment, Batches, BetaSampling, ByLoss, Coverage, DatasetExt, Images, Normalize, RandomSubset,
};
use bptt::gradcheck::GradCheck;
use bptt::loss::{BceWithLogits, CrossEntropy, Ctc, Huber, L1, Loss, Mse, MultiMargin, Nll, SmoothL1};
use bptt::metrics::ConfusionMatrix;
use bptt::ndarray::{Array3, Axis, array};
use bptt::nn::{
    Activation, Dropout, Embedding, Gru, Layer, LayerNorm, Linear, LogSoftmax, Lstm, Pool, Rnn, Workspace,
};
use bptt::optim::{Adam, AdamW, Adamax, Muon, Optimizer, RmsProp, Sgd};
use bptt::params::StateDict;
use bptt::prune::{Magnitude, Random};
use bptt::train::schedule::{
    Clock, Constant, CosineAnnealing, Exponential, LinearWarmUp, MultiStep, OneCycle, PerStep, Plateau,
    ReduceOnPlateau, Schedule, Sequential, StepDecay, Threshold,
};
use bptt::train::{Clip, EarlyStopping, GradualPruning, Group, Monitor};
use bptt::{Error, Init, Model, Result, Shape, Trainer};
use serde::Serialize;
use serde::de::DeserializeOwned;

// --- through JSON and back ---

/// Counts what came back as it was; `Debug` shows every field, also of what has no `PartialEq`.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + Debug>(count: &mut usize, value: T) {
    let json = serde_json::to_string(&value).unwrap();
    let back: T = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{value:?} as {json}: {e}"));
    assert_eq!(format!("{back:?}"), format!("{value:?}"), "by way of {json}");
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
    // A setting that there is not is a typing error, or of a later version.
    let mut more: serde_json::Value = serde_json::from_str(&json).unwrap();
    if let Some(map) = more.as_object_mut() {
        map.insert("no_such_setting".into(), 1.into());
        assert!(serde_json::from_value::<T>(more.clone()).is_err(), "{more}");
    }
    *count += 1;
}

macro_rules! come_back {
    ($($value:expr),* $(,)?) => {{
        let mut count = 0;
        $(comes_back(&mut count, $value);)*
        count
    }};
}

#[test]
fn all_settings_come_back() {
    let optimizers = come_back![
        Adam::new(0.1).betas(0.8, 0.99).eps(1e-3).weight_decay(0.2).amsgrad(),
        AdamW::new(0.1).weight_decay(0.3),
        Adamax::new(0.1).betas(0.7, 0.9),
        Muon::new(0.1).betas(0.7, 0.9).momentum(0.8).ns_steps(3).weight_decay(0.3),
        RmsProp::new(0.1).alpha(0.5).momentum(0.2).centered(),
        Sgd::new(0.1).momentum(0.9).nesterov(),
    ];
    let losses = come_back![
        BceWithLogits::default().pos_weight([2.0]),
        CrossEntropy::default().weight([1.0, 2.0]).label_smoothing(0.1).ignore_index(7),
        Ctc::new().blank(2).zero_infinity(),
        Huber::default().delta(0.5),
        L1,
        Mse,
        MultiMargin::default().margin(2.0),
        Nll::default().weight([0.5, 2.0]),
        SmoothL1::default().beta(0.25),
    ];
    let schedules = come_back![
        Constant::new(0.5),
        CosineAnnealing::new(9).eta_min(0.1),
        CosineAnnealing::new(9).per_step(),
        Exponential::new(0.9),
        LinearWarmUp::new(5).start_factor(0.1),
        MultiStep::new([3, 7]).gamma(0.5),
        OneCycle::new(0.1).pct_start(0.2).three_phase(),
        ReduceOnPlateau::new().patience(3).threshold(Threshold::Abs(0.1)),
        StepDecay::new(3).gamma(0.5),
    ];
    let layers = come_back![
        Activation::relu(),
        Activation::tanh(),
        Activation::sigmoid(),
        Dropout::new(0.3).locked(),
        Embedding::new(5, 3),
        Gru::new(4).layers(2),
        LayerNorm::new(),
        Linear::new(3),
        LogSoftmax,
        Lstm::new(4).bidirectional().last(),
        Pool::last(),
        Pool::mean(),
        Pool::max(),
        Rnn::new(4).relu(),
    ];
    let rest = come_back![
        Clip::None,
        Clip::Norm(0.5),
        Clip::Value(0.25),
        Monitor::ValidLoss,
        Monitor::TrainAccuracy,
        Normalize::per_feature(vec![0.1, 0.2], vec![1.0, 2.0]).unwrap(),
        Shape::new(3, 4),
        Init::XavierUniform(2.0),
        Init::Orthogonal(1.5),
        Init::ForgetGate(1.0),
        Magnitude::below(0.1).only("lstm.*"),
        Magnitude::share(0.5).global().with_biases(),
        Random::share(0.5).seed(9).only("linear.*"),
        GradualPruning::new(0.7).from_epoch(2).until_epoch(8).only("lstm.*"),
        RandomSubset::share(0.5).seed(4),
        ByLoss::hardest(0.2).stratified(),
        ByLoss::band(0.1, 0.9),
        Coverage::share(0.5).cut(0.1, [0.25, -0.5]).strata(9).seed(3).stratified(),
        BetaSampling::count(7, [0.25, 1.0]).exponent(11.0).seed(3).stratified(),
        GradCheck::default().batch(5).seed(2),
        StateDict::new().rename("fc", "linear").only_renamed(),
    ];
    assert_eq!((optimizers, losses, schedules, layers, rest), (6, 9, 9, 14, 21));
}

/// No schedule panics or goes on for ever, whatever its settings, and those that no builder would let pass are refused
/// by the run that they are for.
#[test]
fn schedules_out_of_json_are_checked_when_they_are_used() {
    let max = u64::MAX;
    let refused = |schedule: &dyn Schedule, name: &str| {
        for done in [0, 1, 2, 7, usize::MAX] {
            let clock = Clock::new(done, usize::MAX);
            schedule.lr(0.1, clock);
        }
        assert!(schedule.check().unwrap_err().to_string().starts_with(&format!("`{name}`")), "{schedule:?}");
    };
    fn read<T: DeserializeOwned>(json: String) -> T {
        serde_json::from_str(&json).unwrap()
    }
    refused(&read::<CosineAnnealing>(r#"{"eta_min":0,"t_max":0}"#.into()), "t_max");
    refused(&read::<PerStep<CosineAnnealing>>(format!(r#"{{"eta_min":-1,"t_max":{max}}}"#)), "eta_min");
    refused(&read::<StepDecay>(r#"{"gamma":1,"step_size":0}"#.into()), "step_size");
    refused(&read::<LinearWarmUp>(r#"{"end":1,"start":1,"total":0}"#.into()), "total");
    refused(&read::<MultiStep>(format!(r#"{{"gamma":-2,"milestones":[0,{max}]}}"#)), "gamma");
    let json = r#"{"div_factor":0,"final_div_factor":1,"linear":true,"max_lr":1,"pct_start":0,"three_phase":true,"total_steps":0}"#;
    refused(&read::<OneCycle>(json.into()), "div_factor");
    let json = r#"{"cooldown":0,"eps":-1,"factor":1,"min_lr":0,"monitor":"valid_loss","patience":0,"threshold":{"Abs":0}}"#;
    let plateau = read::<ReduceOnPlateau>(json.into());
    refused(&plateau, "factor");
    let reduced = Plateau { reductions: usize::MAX, ..Plateau::default() };
    assert_eq!(plateau.reduced(0.1, &reduced), 0.1);
    let mut seen = Plateau { bad_epochs: usize::MAX, reductions: usize::MAX, ..Plateau::default() };
    plateau.observe(&mut seen, f64::NAN);

    let cosine = read::<CosineAnnealing>(format!(r#"{{"eta_min":0,"t_max":{max}}}"#));
    assert_eq!(cosine.lr(0.1, Clock::new(usize::MAX, 1)), cosine.lr(0.1, Clock::new(usize::MAX, 1)));
    let json = format!(
        r#"{{"to":0.5,"from":0,"until":{max},"rule":{{"global":false,"limit":{{"share":0.7}},"scope":{{"biases":false,"patterns":[]}}}}}}"#
    );
    let pruning = read::<GradualPruning>(json.clone());
    assert!(pruning.share(0) <= 0.5);
    assert!(trainer(|t| t.callback(pruning)).is_err());
    // The share of the whole is checked as well as the rule's own.
    let pruning = read::<GradualPruning>(json.replace("0.5", "7.5").replace(":0,", ":1,"));
    assert!(trainer(|t| t.callback(pruning)).unwrap_err().to_string().contains("found 7.5"));
}

/// Class names that cannot be told apart, or that break a table, are refused wherever they come in.
#[test]
fn class_names_are_one_to_a_class_and_a_line() {
    let x = || Array3::<f32>::ones((2, 1, 1));
    for (names, fault) in [(["a", "a"], "found `a` twice"), (["a", "b\nc"], "control characters")] {
        let builder = Model::<f32>::builder(Shape::new(1, 1)).layer("linear", Linear::new(2));
        let mut model = builder.build(1).unwrap();
        let built = Model::<f32>::builder(Shape::new(1, 1)).layer("linear", Linear::new(2)).classes(names);
        let pixels = Array3::<u8>::zeros((2, 1, 1));
        let matrix = ConfusionMatrix::from_rows(&[[1, 0], [0, 1]]).unwrap();
        for result in [
            built.build(1).map(drop),
            model.set_classes(names),
            Arrays::classes(x(), &[0, 1], names).map(drop),
            Arrays::step_classes(x(), array![[0], [1]], names).map(drop),
            Images::new(pixels, array![0, 1], names).map(drop),
            matrix.with_names(names).map(drop),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(fault), "{message}");
        }
        assert!(model.classes().is_empty());
    }
    let mut model = model();
    assert!(model.set_classes(["one"]).is_err());
    model.set_classes(["one", "two"]).unwrap();
    assert_eq!(model.classes(), ["one", "two"]);
    model.set_classes([""; 0]).unwrap();
}

/// A layer's own JSON is what a saved model says of it.
#[test]
fn layers_are_saved_as_they_are() {
    let config = |layer: &dyn Layer<f32>| layer.describe().config;
    let json = |layer: &dyn erased::Json| layer.json();
    let (lstm, pool, relu) = (Lstm::new(3).layers(2).last(), Pool::mean(), Activation::relu());
    assert_eq!(config(&lstm), json(&lstm));
    assert_eq!(config(&pool), json(&pool));
    assert_eq!(config(&relu), json(&relu));
    assert_eq!(
        serde_json::to_string(&lstm).unwrap(),
        r#"{"bidirectional":false,"cell":null,"dropout":0.0,"hidden_size":3,"last":true,"layers":2}"#
    );
}

mod erased {
    pub trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).unwrap()
        }
    }
}

// --- what cannot be is refused ---

fn data() -> Arrays {
    Arrays::classes(Array3::ones((8, 4, 3)), &[0, 1, 0, 1, 0, 1, 0, 1], ["a", "b"]).unwrap()
}

fn model() -> Model {
    Model::builder(Shape::new(4, 3))
        .layer("lstm", Lstm::new(2).last())
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap()
}

fn layer(layer: impl Layer<f32> + 'static) -> Result<()> {
    Model::builder(Shape::new(4, 3)).layer("it", layer).build(1).map(drop)
}

fn trainer(change: impl FnOnce(Trainer) -> Trainer) -> Result<()> {
    let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.1)).epochs(1);
    change(trainer).fit(&mut model(), &data(), Some(&data())).map(drop)
}

fn optimizer(optimizer: impl Optimizer<f32> + 'static) -> Result<()> {
    Trainer::new(CrossEntropy::default(), optimizer).epochs(1).fit(&mut model(), &data(), None).map(drop)
}

fn schedule(schedule: impl Schedule + 'static) -> Result<()> {
    trainer(|trainer| trainer.schedule(schedule))
}

fn classes(loss: impl Loss<f32> + 'static) -> Result<()> {
    Trainer::new(loss, Adam::new(0.1)).epochs(1).fit(&mut model(), &data(), None).map(drop)
}

fn values(loss: impl Loss<f32> + 'static) -> Result<()> {
    let data = Arrays::values(Array3::ones((8, 4, 3)), Array3::ones((8, 1, 2))).unwrap();
    Trainer::new(loss, Adam::new(0.1)).epochs(1).fit(&mut model(), &data, None).map(drop)
}

/// Each setting of each builder with a value that cannot be: the error has the setting's name, and the value.
#[test]
fn every_builder_names_the_bad_field() {
    let nan = f64::NAN;
    let cases: Vec<(&str, &str, Result<()>)> = vec![
        ("it: hidden_size", "0", layer(Lstm::new(0))),
        ("it: layers", "0", layer(Gru::new(3).layers(0))),
        ("it: hidden_size", "0", layer(Rnn::new(0))),
        ("it: out_features", "0", layer(Linear::new(0))),
        ("it: p", "1.5", layer(Dropout::new(1.5))),
        ("it: num_embeddings", "0", layer(Embedding::new(0, 3))),
        ("it: embedding_dim", "0", layer(Embedding::new(3, 0))),
        ("it: eps", "-1", layer(LayerNorm::new().eps(-1.0))),
        ("lr", "NaN", optimizer(Adam::new(nan))),
        ("momentum", "1", optimizer(Muon::new(0.1).momentum(1.0))),
        ("ns_steps", "0", optimizer(Muon::new(0.1).ns_steps(0))),
        ("beta1", "1", optimizer(AdamW::new(0.1).betas(1.0, 0.9))),
        ("beta2", "2", optimizer(Adamax::new(0.1).betas(0.9, 2.0))),
        ("alpha", "1", optimizer(RmsProp::new(0.1).alpha(1.0))),
        ("momentum", "-1", optimizer(RmsProp::new(0.1).momentum(-1.0))),
        ("eps", "-1", optimizer(Adam::new(0.1).eps(-1.0))),
        ("weight_decay", "inf", optimizer(Sgd::new(0.1).weight_decay(f64::INFINITY))),
        ("dampening", "-1", optimizer(Sgd::new(0.1).dampening(-1.0))),
        ("nesterov", "0", optimizer(Sgd::new(0.1).nesterov())),
        ("factor", "-1", schedule(Constant::new(-1.0))),
        ("t_max", "0", schedule(CosineAnnealing::new(0))),
        ("eta_min", "NaN", schedule(CosineAnnealing::new(3).eta_min(nan))),
        ("gamma", "-0.5", schedule(Exponential::new(-0.5))),
        ("total", "0", schedule(LinearWarmUp::new(0))),
        ("start_factor", "-1", schedule(LinearWarmUp::new(2).start_factor(-1.0))),
        ("gamma", "NaN", schedule(MultiStep::new([2]).gamma(nan))),
        ("max_lr", "-1", schedule(OneCycle::new(-1.0))),
        ("pct_start", "2", schedule(OneCycle::new(0.1).pct_start(2.0))),
        ("div_factor", "0", schedule(OneCycle::new(0.1).div_factor(0.0))),
        ("factor", "1.5", schedule(ReduceOnPlateau::new().factor(1.5))),
        ("min_lr", "-1", schedule(ReduceOnPlateau::new().min_lr(-1.0))),
        ("step_size", "0", schedule(StepDecay::new(0))),
        (
            "milestones",
            "[0, 3, 2]",
            schedule(Sequential::new(StepDecay::new(1)).at(3, StepDecay::new(1)).at(2, StepDecay::new(1))),
        ),
        ("label_smoothing", "2", classes(CrossEntropy::default().label_smoothing(2.0))),
        ("weight", "-1", classes(Nll::default().weight([-1.0, 1.0]))),
        ("margin", "NaN", classes(MultiMargin::default().margin(nan))),
        ("delta", "0", values(Huber::default().delta(0.0))),
        ("beta", "-1", values(SmoothL1::default().beta(-1.0))),
        ("pos_weight", "-1", values(BceWithLogits::default().pos_weight([-1.0, 1.0]))),
        ("threshold", "1", values(BceWithLogits::default().threshold(1.0))),
        ("batch_size", "0", trainer(|t| t.batch_size(0))),
        ("tile", "65", trainer(|t| t.tile(65))),
        ("threads", "0", trainer(|t| t.threads(0))),
        ("clip", "NaN", trainer(|t| t.clip(Clip::Norm(nan)))),
        ("ema", "1.5", trainer(|t| t.ema(1.5))),
        ("freeze", "every", trainer(|t| t.freeze("*"))),
        ("group", "none", trainer(|t| t.group("none.*", Group::new()))),
        ("lr_scale", "-1", trainer(|t| t.group("lstm.*", Group::new().lr_scale(-1.0)))),
        ("run_file_every", "no file", trainer(|t| t.run_file_every(3))),
        ("resume", "no file", trainer(|t| t.resume(true))),
        ("min_delta", "NaN", trainer(|t| t.callback(EarlyStopping::new(1).min_delta(nan)))),
        ("share", "1.5", trainer(|t| t.callback(GradualPruning::new(1.5)))),
        (
            "gradual pruning",
            "5 to 3",
            trainer(|t| t.callback(GradualPruning::new(0.5).from_epoch(5).until_epoch(3))),
        ),
        ("share", "-1", model().prune(Magnitude::share(-1.0)).map(drop)),
        ("threshold", "NaN", model().prune(Magnitude::below(nan)).map(drop)),
        ("only", "none.*", model().prune(Random::share(0.1).only("none.*")).map(drop)),
        ("batch_size", "0", Batches::new(4, 0, 1).map(drop)),
        ("flip", "2", Augment::new(data()).flip(2.0).build().map(drop)),
        ("erase", "-1", Augment::new(data()).erase(-1.0).build().map(drop)),
        ("noise", "NaN", Augment::new(data()).noise(nan).build().map(drop)),
        ("shift", "4", Augment::new(data()).shift(4).build().map(drop)),
        ("sd", "0", Normalize::scalar(0.0, 0.0).map(drop)),
        ("mean", "NaN", Normalize::scalar(nan, 1.0).map(drop)),
        ("init", "none.*", model().init("none.*", Init::Constant(0.0), 1)),
        ("layers", "none", Model::<f32>::builder(Shape::new(4, 3)).build(1).map(drop)),
        (
            "layer name",
            "",
            Model::<f32>::builder(Shape::new(4, 3)).layer("", Linear::new(1)).build(1).map(drop),
        ),
        (
            "input",
            "[0, 3]",
            Model::<f32>::builder(Shape::new(0, 3)).layer("a", Linear::new(1)).build(1).map(drop),
        ),
        ("batch", "65", GradCheck::default().batch(65).layer(Linear::new(1), Shape::new(1, 1)).map(drop)),
        ("share", "2", data().select(&RandomSubset::share(2.0)).map(drop)),
    ];
    for (field, found, result) in cases {
        let error = result.expect_err(field).to_string();
        assert!(error.contains(field) && error.contains(found), "`{field}` with {found}: {error}");
    }
}

// --- errors in other people's programs ---

#[test]
fn errors_and_models_go_anywhere() {
    fn anywhere<T: Send + Sync + 'static>() {}
    anywhere::<Error>();
    anywhere::<Model>();
    anywhere::<Model<f64>>();
    anywhere::<Workspace<f32>>();
    fn boxed() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err(Error::config("a", "b"))?
    }
    assert_eq!(boxed().unwrap_err().to_string(), "`a`: b");
}

/// A regression has no accuracy, and an evaluation without a loss has none: neither is 0.
#[test]
fn what_was_not_measured_is_not_zero() {
    let data = Arrays::values(Array3::ones((8, 4, 3)), Array3::ones((8, 1, 2))).unwrap();
    let measured = model().evaluate_with(&data, &Mse).unwrap();
    assert!(measured.loss().unwrap() > 0.0 && measured.accuracy().is_none());
    let measured = model().evaluate(&self::data()).unwrap();
    assert!(measured.loss().is_none() && measured.accuracy() == Some(0.5));
}

/// An array is a dataset without targets.
#[test]
fn arrays_and_datasets_alike() {
    // More than one tile a share, and a last one that is not full.
    let x = Array3::from_shape_fn((2500, 4, 3), |(i, t, f)| ((i * 5 + t * 3 + f) % 2477) as f32 / 2477.0);
    let data = Arrays::classes(x.clone(), &[0; 2500], ["a", "b"]).unwrap();
    let model = model();
    let y = model.predict(&x).unwrap();
    assert_eq!(model.predict(x.view()).unwrap(), y);
    for (x, y) in x.axis_chunks_iter(Axis(0), 100).zip(y.axis_chunks_iter(Axis(0), 100)) {
        assert!((&model.predict(x).unwrap() - &y).iter().all(|d| d.abs() < 1e-6));
    }
    assert_eq!(model.predict(&data).unwrap(), y);
    assert_eq!(model.predict(x.subset(vec![3, 1]).unwrap()).unwrap().dim(), (2, 1, 2));
    assert_eq!(model.predict_proba(&data).unwrap(), model.predict_proba(&x).unwrap());
    assert_eq!(model.predict_classes(&data).unwrap(), model.predict_classes(&x).unwrap());
    // Turned round in memory, the same values.
    let turned = x.clone().reversed_axes().as_standard_layout().into_owned().reversed_axes();
    assert!(!turned.is_standard_layout());
    assert_eq!(model.predict(&turned).unwrap(), y);
    let error = model.evaluate(&x).unwrap_err().to_string();
    assert_eq!(error, "evaluation without a loss: targets: found none, expected classes");
    let error = model.evaluate_with(&x, &Mse).unwrap_err().to_string();
    assert!(error.contains("squared error: targets: found None"), "{error}");
}

/// Where there is an output for each step, the class is that of a sequence's own last step, not of its padding.
#[test]
fn classes_of_sequences_that_end_early() {
    let x = Array3::from_shape_fn((2, 4, 1), |(_, t, _)| if t < 2 { 1.0f32 } else { -1.0 });
    let mut model: Model = Model::builder(Shape::new(4, 1)).layer("linear", Linear::new(2)).build(1).unwrap();
    let mut params = model.params_mut();
    params.get_mut("linear.weight").unwrap().as_slice_mut().unwrap().copy_from_slice(&[1.0, -1.0]);
    params.get_mut("linear.bias").unwrap().fill(0.0);
    assert!(params.get_mut("linear.gain").is_none());
    drop(params);
    let data = Arrays::classes(x, &[0, 0], ["up", "down"]).unwrap().lengths([2, 4]).unwrap();
    assert_eq!(model.predict_classes(&data).unwrap().to_vec(), [0, 1]);
}
