//! What cannot be is refused, by an error that names the field, what was found and what was expected; and numbers
//! that stop being numbers end a run before they spoil the model, at every SIMD level that the machine has.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bptt::data::{Arrays, Batch, Dataset, Draw, Normalize, Sample, TargetShape};
use bptt::loss::CrossEntropy;
use bptt::nn::{Linear, Lstm, ModelBuilder, Rnn};
use bptt::optim::{Adam, RmsProp, Sgd};
use bptt::train::{Clip, Epoch, Flow};
use bptt::{Error, Model, Result, Shape, Trainer};
use ndarray::{Array1, Array2, Array3};

/// Asserts that this is an error whose message is this.
#[track_caller]
fn refused<T: Debug>(result: Result<T>, message: &str) {
    assert_eq!(result.expect_err("this must be refused").to_string(), message);
}

const SHAPE: Shape = Shape::new(4, 3);

fn builder() -> ModelBuilder<f32> {
    Model::builder(SHAPE)
}

/// An LSTM for samples of four steps of three features, in two classes.
fn model() -> Model {
    builder().layer("lstm", Lstm::new(5).last()).layer("linear", Linear::new(2)).build(1).unwrap()
}

fn x(n: usize) -> Array3<f32> {
    Array3::from_shape_fn((n, SHAPE.t, SHAPE.f), |(i, t, f)| ((i + t + f) % 5) as f32 / 5.0)
}

fn data(n: usize) -> Arrays {
    Arrays::classes(x(n), &Array1::from_shape_fn(n, |i| i % 2), ["even", "odd"]).unwrap()
}

fn trainer() -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(2).batch_size(4)
}

// --- models ---

#[test]
fn layers_that_cannot_be() {
    let build = |builder: ModelBuilder<f32>| builder.build(1);
    refused(build(builder().layer("a", Lstm::new(0))), "`a: hidden_size`: found 0, expected 1 to 1048576");
    refused(
        build(builder().layer("a", Rnn::new(usize::MAX))),
        "`a: hidden_size`: found 18446744073709551615, expected 1 to 1048576",
    );
    refused(build(builder().layer("a", Lstm::new(2).layers(0))), "`a: layers`: found 0, expected 1 to 1024");
    refused(
        build(builder().layer("a", Linear::new(0))),
        "`a: out_features`: found 0, expected 1 to 16777216",
    );
}

#[test]
fn chains_that_cannot_be() {
    refused(builder().build(1), "`layers`: found none, expected at least one");
    refused(
        builder().layer("a", Linear::new(2)).layer("a", Linear::new(2)).build(1),
        "`layer name`: found `a`, expected a name that no other layer has",
    );
    refused(
        builder().layer("", Linear::new(2)).build(1),
        "`layer name`: found ``, expected a name that no other layer has",
    );
    for shape in [Shape::new(0, 3), Shape::new(4, 0), Shape::new(usize::MAX, 2)] {
        refused(
            Model::<f32>::builder(shape).layer("a", Linear::new(2)).build(1),
            &format!("`input`: found {shape}, expected 1 to 268435456 values per sample"),
        );
    }
    refused(
        builder().layer("a", Linear::new(2)).classes(["one", "two", "three"]).build(1),
        "classes: found 3 names, expected one for each of 2 outputs",
    );
    refused(
        builder()
            .layer("a", Linear::new(2))
            .normalize(Normalize::per_feature(vec![0.0; 2], vec![1.0; 2]).unwrap())
            .build(1),
        "normalize: found 2 means, expected 1 or 3",
    );
}

// --- settings of a trainer ---

#[test]
fn settings_that_cannot_be() {
    let fit = |mut trainer: Trainer| {
        let mut model = model();
        let before = model.params().as_slice().to_vec();
        let result = trainer.fit(&mut model, &data(8), None);
        assert_eq!(model.params().as_slice(), before, "a refused run changes nothing");
        result
    };
    refused(fit(trainer().batch_size(0)), "`batch_size`: found 0, expected at least 1");
    refused(fit(trainer().tile(0)), "`tile`: found 0, expected 1 to 64");
    refused(fit(trainer().tile(65)), "`tile`: found 65, expected 1 to 64");
    refused(fit(trainer().threads(0)), "`threads`: found 0, expected at least 1");
    for clip in [f64::NAN, -1.0, 0.0] {
        let message = format!("`clip`: found {clip}, expected a positive number");
        refused(fit(trainer().clip(Clip::Norm(clip))), &message);
        refused(fit(trainer().clip(Clip::Value(clip))), &message);
    }
    // No epochs are a run, too: it does nothing.
    assert!(fit(trainer().epochs(0)).unwrap().epochs.is_empty());
}

#[test]
fn optimizers_that_cannot_be() {
    let adam = |adam: Adam| Trainer::new(CrossEntropy::default(), adam).fit(&mut model(), &data(8), None);
    let sgd = |sgd: Sgd| Trainer::new(CrossEntropy::default(), sgd).fit(&mut model(), &data(8), None);
    for lr in [-0.1, f64::NAN, f64::INFINITY] {
        let message = format!("`lr`: found {lr}, expected a number of at least 0");
        refused(adam(Adam::new(lr)), &message);
        refused(sgd(Sgd::new(lr)), &message);
    }
    refused(
        adam(Adam::new(0.1).betas(1.0, 0.9)),
        "`beta1`: found 1, expected a number of at least 0 and below 1",
    );
    refused(
        adam(Adam::new(0.1).betas(0.9, -0.1)),
        "`beta2`: found -0.1, expected a number of at least 0 and below 1",
    );
    refused(
        adam(Adam::new(0.1).eps(-1.0)),
        "`eps`: found -1, expected a number of at least 1.1754943508222875e-38",
    );
    refused(
        adam(Adam::new(0.1).weight_decay(f64::NAN)),
        "`weight_decay`: found NaN, expected a number of at least 0",
    );
    refused(sgd(Sgd::new(0.1).momentum(-1.0)), "`momentum`: found -1, expected a number of at least 0");
    refused(
        sgd(Sgd::new(0.1).nesterov()),
        "`nesterov`: found momentum 0 and dampening 0, expected a momentum and no dampening",
    );
}

#[test]
fn losses_that_cannot_be() {
    let fit = |loss: CrossEntropy| Trainer::new(loss, Adam::new(0.1)).fit(&mut model(), &data(8), None);
    refused(
        fit(CrossEntropy::default().weight([1.0; 3])),
        "cross-entropy: weight: found 3 weights, expected 2 classes",
    );
    refused(
        fit(CrossEntropy::default().weight([1.0, -1.0])),
        "`weight`: found -1, expected numbers of at least 0",
    );
    refused(
        fit(CrossEntropy::default().label_smoothing(1.5)),
        "`label_smoothing`: found 1.5, expected a number from 0 to 1",
    );
}

// --- data that do not fit ---

/// The same must be refused in training, in validation and in evaluation; `message` is without its first words.
#[track_caller]
fn does_not_fit(data: &Arrays, message: &str) {
    let good = self::data(8);
    refused(trainer().fit(&mut model(), data, None), &format!("training: {message}"));
    refused(trainer().fit(&mut model(), &good, Some(data)), &format!("validation: {message}"));
    refused(model().evaluate(data), &format!("evaluation: {message}"));
}

#[test]
fn data_that_do_not_fit() {
    does_not_fit(&data(0), "found a dataset without samples, expected at least one");
    let wide = Arrays::classes(Array3::zeros((2, 4, 7)), &[0, 1], ["a", "b"]).unwrap();
    does_not_fit(&wide, "found samples [4, 7], expected the model's input [4, 3]");
    let long = Arrays::classes(Array3::zeros((2, 5, 3)), &[0, 1], ["a", "b"]).unwrap();
    let message = "training: found samples [5, 3], expected the model's input [4, 3]";
    refused(trainer().fit(&mut model(), &long, None), message);
    trainer()
        .fit(&mut model(), &data(8), Some(&long))
        .expect("only training needs the model's number of steps");
    let classes = Arrays::classes(x(2), &[0, 2], ["a", "b", "c"]).unwrap();
    does_not_fit(&classes, "found 3 classes at 1 steps, expected at most what the output [1, 2] has");
    let steps = Arrays::step_classes(x(2), Array2::zeros((2, 4)), ["a", "b"]).unwrap();
    does_not_fit(&steps, "found 2 classes at 4 steps, expected at most what the output [1, 2] has");
}

#[test]
fn targets_that_do_not_fit() {
    let values = Arrays::vectors(x(2), Array2::zeros((2, 2))).unwrap();
    let expected = "expected a class for each of the 1 steps of an output [1, 2]";
    let message = format!("cross-entropy: targets: found Values(Shape {{ t: 1, f: 2 }}), {expected}");
    refused(trainer().fit(&mut model(), &values, None), &message);
    refused(trainer().fit(&mut model(), &data(8), Some(&values)), &message);
    refused(model().evaluate_with(&values, &CrossEntropy::default()), &message);
    refused(
        model().evaluate(&values),
        "evaluation without a loss: targets: found values [1, 2], expected classes",
    );
}

#[test]
fn samples_that_do_not_fit() {
    let message = "samples: found [2, 4, 7], expected [_, 4, 3]";
    let x = Array3::zeros((2, 4, 7));
    refused(model().predict(&x), message);
    refused(model().predict_classes(&x), message);
    refused(model().predict_proba(&x), message);
    assert_eq!(model().predict(&Array3::zeros((0, 4, 3))).unwrap().dim(), (0, 1, 2), "no samples are fine");
}

#[test]
fn batches_that_do_not_fit() {
    let (mut model, data) = (model(), data(8));
    let trainer = trainer();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    let none = stepper.step(&mut model, &data, Batch::new(&[], 1, 0));
    assert!(none.unwrap_err().to_string().starts_with("a batch: found 0 samples, expected 1 to"));
    let many = stepper.step(&mut model, &data, Batch::new(&Draw::all([0; 100]), 1, 0));
    assert!(many.unwrap_err().to_string().starts_with("a batch: found 100 samples, expected 1 to"));
}

// --- numbers that stop being numbers ---

/// Eight samples, one of which turns to NaN once the second epoch is over.
struct Poisoned {
    data: Arrays,
    epochs: Arc<AtomicUsize>,
}

impl Dataset for Poisoned {
    type Elem = f32;

    fn len(&self) -> usize {
        self.data.len()
    }

    fn shape(&self) -> Shape {
        self.data.shape()
    }

    fn target_shape(&self) -> TargetShape {
        self.data.target_shape()
    }

    fn read(&self, sample: Sample, x: &mut [f32]) {
        self.data.read(sample, x);
        if sample.index == 5 && self.epochs.load(Ordering::SeqCst) >= 2 {
            x[7] = f32::NAN;
        }
    }

    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        self.data.classes(sample, classes);
    }
}

#[test]
fn a_nan_in_the_data_ends_the_step() {
    let data = Poisoned { data: data(8), epochs: Arc::new(AtomicUsize::new(2)) };
    let mut model = model();
    let trainer = trainer();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    stepper.step(&mut model, &data, Batch::new(&Draw::all([0, 1, 2, 3]), 1, 0)).unwrap();
    let before = model.params().as_slice().to_vec();
    let error = stepper.step(&mut model, &data, Batch::new(&Draw::all([4, 5, 6, 7]), 1, 4)).unwrap_err();
    let Error::NonFinite { epoch: 1, step: 2, what, tensor, .. } = &error else { panic!("{error:?}") };
    assert_eq!((what.as_str(), tensor.as_str()), ("the loss (NaN)", "gradient of `lstm.weight_ih_l0`"));
    let message = error.to_string();
    assert!(message.starts_with("epoch 1, step 2: the loss (NaN) is not finite"), "{message}");
    assert_eq!(model.params().as_slice(), before, "parameters are as they were before the step");

    stepper.step(&mut model, &data, Batch::new(&Draw::all([6, 7]), 1, 8)).unwrap();
    assert!(model.params().first_not_finite().is_none(), "good batches still train");
    assert_ne!(model.params().as_slice(), before);
}

/// The step is counted within its epoch, as callbacks and progress bars count it.
#[test]
fn a_run_names_epoch_and_step() {
    let epochs = Arc::new(AtomicUsize::new(0));
    let data = Poisoned { data: data(8), epochs: epochs.clone() };
    let mut trainer = trainer().epochs(5).batch_size(8).callback(move |epoch: &Epoch| {
        epochs.store(epoch.epoch, Ordering::SeqCst);
        Flow::Continue
    });
    let mut model = model();
    let error = trainer.fit(&mut model, &data, None).unwrap_err();
    assert!(matches!(error, Error::NonFinite { epoch: 3, step: 1, .. }), "{error:?}");
    assert!(model.params().first_not_finite().is_none());
}

/// Everything grows without end: the run ends with an error, and the parameters that it leaves are numbers.
#[test]
fn a_learning_rate_that_is_absurd() {
    let mut model: Model = builder()
        .layer("rnn", Rnn::new(5).relu())
        .layer("linear", Linear::new(2))
        .layer("last", Rnn::new(2).relu().last())
        .build(1)
        .unwrap();
    let mut trainer =
        Trainer::new(CrossEntropy::default(), Sgd::new(1e30)).epochs(50).batch_size(4).clip(Clip::Norm(1.0));
    let error = trainer.fit(&mut model, &data(8), None).unwrap_err();
    let Error::NonFinite { advice, .. } = &error else { panic!("{error:?}") };
    assert!(advice.contains("learning rate"), "{advice}");
    assert!(model.params().first_not_finite().is_none(), "{:?}", model.params().first_not_finite());
}

/// The parameters overflow in the very last step, which no loss sees any more.
#[test]
fn parameters_that_overflow_in_the_last_step() {
    // The mean square and the square of the mean are infinite in f32, so their difference is NaN.
    let centered = RmsProp::new(0.1).centered().weight_decay(1e25);
    let trainers = [
        Trainer::new(CrossEntropy::default(), Sgd::new(1e300)),
        Trainer::new(CrossEntropy::default(), centered),
    ];
    for trainer in trainers {
        let error = trainer.epochs(1).batch_size(8).fit(&mut model(), &data(8), None).unwrap_err();
        assert!(matches!(error, Error::NonFinite { epoch: 1, step: 1, .. }), "{error:?}");
    }
}
