//! Wrong or unusual input, each with what it must lead to: padding, lengths, classes, weights, and workspaces by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bptt::data::{Arrays, Batch, Dataset, Draw, Sample, TargetShape};
use bptt::loss::{CrossEntropy, Loss, Mse, WeightedMean};
use bptt::nn::{Dropout, Embedding, Linear, Lstm, Mode, Pool, Workspace};
use bptt::optim::Sgd;
use bptt::{Error, Model, Result, Shape, Trainer};
use ndarray::{Array2, Array3, array, s};

/// The message of a panic.
fn panic_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("this must panic");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or(payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap()
}

fn values(shape: (usize, usize, usize)) -> Array3<f32> {
    let mut i = 0f32;
    Array3::from_shape_simple_fn(shape, || {
        i += 1.0;
        (i * 12.9898).sin()
    })
}

/// Samples of four steps and three features, with whatever a test needs to be unusual.
struct Custom {
    x: Array3<f32>,
    /// One class a step; a single column is a class a sample.
    classes: Array2<i64>,
    lengths: Vec<usize>,
    weights: Vec<f64>,
}

impl Custom {
    fn new(n: usize, steps: usize) -> Self {
        let classes = Array2::from_shape_fn((n, steps), |(i, t)| ((i + t) % 2) as i64);
        Self { x: values((n, 4, 3)), classes, lengths: vec![4; n], weights: vec![1.0; n] }
    }
}

impl Dataset for Custom {
    type Elem = f32;

    fn len(&self) -> usize {
        self.x.dim().0
    }
    fn shape(&self) -> Shape {
        Shape::new(4, 3)
    }
    fn target_shape(&self) -> TargetShape {
        TargetShape::Classes { t: self.classes.ncols() }
    }
    fn length(&self, sample: Sample) -> Option<usize> {
        Some(self.lengths[sample.index])
    }
    fn weight(&self, sample: Sample) -> f64 {
        self.weights[sample.index]
    }
    fn read(&self, sample: Sample, x: &mut [f32]) {
        let from = self.x.slice(s![sample.index, .., ..]);
        x.iter_mut().zip(&from).for_each(|(x, &value)| *x = value);
    }
    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        classes.iter_mut().zip(self.classes.row(sample.index)).for_each(|(to, &class)| *to = class);
    }
}

/// A model with an output for each step, or for the whole.
fn model(steps: usize) -> Model {
    let lstm = if steps == 1 { Lstm::new(5).last() } else { Lstm::new(5) };
    Model::builder(Shape::new(4, 3)).layer("lstm", lstm).layer("linear", Linear::new(2)).build(1).unwrap()
}

fn loss_of(model: &Model, data: &dyn Dataset<Elem = f32>) -> f64 {
    model.evaluate_with(data, &CrossEntropy::default()).unwrap().loss().unwrap()
}

/// The gradient of one batch of all samples.
fn gradient(loss: impl Loss<f32> + 'static, model: &Model, data: &dyn Dataset<Elem = f32>) -> Vec<f32> {
    let trainer = Trainer::new(loss, Sgd::new(0.1)).batch_size(data.len());
    let mut stepper = trainer.stepper(model, data).unwrap();
    let batch = Draw::all(0..data.len() as u32);
    stepper.gradients(model, data, Batch::new(&batch, 1, 0)).unwrap();
    stepper.grads().as_slice().to_vec()
}

// --- padding and lengths ---

#[test]
fn targets_of_padded_steps_do_not_count() {
    let model = model(4);
    let mut data = Custom::new(40, 4);
    data.lengths = (0..40).map(|i| 1 + i % 4).collect();
    let real: usize = data.lengths.iter().sum();
    let (loss, grads) = (loss_of(&model, &data), gradient(CrossEntropy::default(), &model, &data));
    assert_eq!(model.evaluate(&data).unwrap().confusion().unwrap().total(), real as u64);
    // Any label may stand in the padding, one of no class too.
    for label in [0, 1, 7, -3] {
        for (i, &len) in data.lengths.iter().enumerate() {
            data.classes.slice_mut(s![i, len..]).fill(label);
        }
        assert_eq!(loss_of(&model, &data), loss, "label {label}");
        assert_eq!(gradient(CrossEntropy::default(), &model, &data), grads, "label {label}");
        assert_eq!(model.evaluate(&data).unwrap().confusion().unwrap().total(), real as u64);
    }
}

#[test]
fn padded_values_do_not_count() {
    let model = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(2)).build(1).unwrap();
    let (x, mut y, lens) = (values((20, 4, 3)), values((20, 4, 2)), vec![3; 20]);
    let loss = |y: &Array3<f32>| {
        let data = Arrays::values(x.clone(), y.clone()).unwrap().lengths(lens.clone()).unwrap();
        (model.evaluate_with(&data, &Mse).unwrap().loss(), gradient(Mse, &model, &data))
    };
    let before = loss(&y);
    y.slice_mut(s![.., 3.., ..]).fill(1e6);
    assert_eq!(loss(&y), before);
}

#[test]
fn padding_is_never_read() {
    for steps in [1, 4] {
        let model = model(steps);
        let mut data = Custom::new(40, steps);
        data.lengths = (0..40).map(|i| 1 + i % 4).collect();
        let (loss, grads) = (loss_of(&model, &data), gradient(CrossEntropy::default(), &model, &data));
        assert!(grads.iter().all(|g| g.is_finite()));
        for junk in [f32::NAN, f32::INFINITY] {
            for (i, &len) in data.lengths.iter().enumerate() {
                data.x.slice_mut(s![i, len.., ..]).fill(junk);
            }
            assert_eq!(loss_of(&model, &data), loss);
            assert_eq!(gradient(CrossEntropy::default(), &model, &data), grads);
        }
    }
}

#[test]
fn padding_is_never_read_by_hand() {
    let model = model(4);
    let grads = |junk: f32| {
        let mut x = values((3, 4, 3)).mapv(|_| 0.5);
        x.slice_mut(s![.., 2.., ..]).fill(junk);
        let mut ws = Workspace::new(&model, 3, Mode::Train);
        ws.set_input(x.view());
        ws.set_lengths(&[2, 1, 2]);
        model.forward(&mut ws);
        ws.set_output_gradient(Array3::ones((3, 4, 2)).view());
        let mut grads = vec![0.0; model.parameter_count()];
        model.backward(&mut ws, &mut grads, true);
        (ws.output(), ws.input_gradient(), grads)
    };
    let clean = grads(0.0);
    assert!(clean.2.iter().all(|g| g.is_finite()));
    assert_eq!(grads(f32::NAN), clean);
}

/// After a layer that makes one step of all, a length is that step.
#[test]
fn lengths_follow_the_layers() {
    let model: Model = Model::builder(Shape::new(4, 3))
        .layer("lstm", Lstm::new(4))
        .layer("pool", Pool::mean())
        .layer("again", Lstm::new(3).last())
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap();
    let mut data = Custom::new(24, 1);
    data.lengths = (0..24).map(|i| 1 + i % 4).collect();
    let whole = model.predict(&data).unwrap();
    for (i, &len) in data.lengths.iter().enumerate() {
        let mut cut = Workspace::for_steps(&model, len, 1, Mode::Infer).unwrap();
        cut.set_input(data.x.slice(s![i..=i, ..len, ..]));
        model.forward(&mut cut);
        let error =
            (&cut.output() - &whole.slice(s![i..=i, .., ..])).mapv(f32::abs).into_iter().fold(0.0, f32::max);
        assert!(error < 1e-6, "sample {i} of {len} steps: off by {error}");
    }
}

#[test]
fn lengths_out_of_range_are_errors() {
    for (length, found) in [(0, "0"), (99, "99")] {
        let mut data = Custom::new(9, 1);
        data.lengths[5] = length;
        let message = format!("sample 5: length: found {found}, expected 1 to 4 steps");
        assert_eq!(model(1).predict(&data).unwrap_err().to_string(), message);
        assert_eq!(model(1).evaluate(&data).unwrap_err().to_string(), message);
    }
}

// --- classes ---

#[test]
fn an_ignored_class_counts_nowhere() {
    let (model, mut data) = (model(1), Custom::new(40, 1));
    let loss = CrossEntropy::default().ignore_index(255);
    data.classes.iter_mut().skip(1).step_by(2).for_each(|class| *class = 255);
    let evaluation = model.evaluate_with(&data, &loss).unwrap();
    assert_eq!(evaluation.confusion().unwrap().total(), 20);
    let mut trained = model.clone();
    let mut trainer = Trainer::new(loss, Sgd::new(0.0)).epochs(1).batch_size(40);
    let history = trainer.fit(&mut trained, &data, None).unwrap();
    assert_eq!(history.epochs[0].train.accuracy, evaluation.accuracy());
}

#[test]
fn classes_out_of_range_are_errors() {
    for class in [99, -5] {
        let mut data = Custom::new(9, 4);
        data.classes[[7, 2]] = class;
        let message = format!(
            "sample 7, step 2: class: found {class}, expected 0 to less than 2, or one that the loss ignores"
        );
        let loss = CrossEntropy::default();
        assert_eq!(model(4).evaluate_with(&data, &loss).unwrap_err().to_string(), message);
        let mut trainer = Trainer::new(loss, Sgd::new(0.1)).batch_size(9);
        assert_eq!(trainer.fit(&mut model(4), &data, None).unwrap_err().to_string(), message);
    }
}

/// The class that arrays have for none is another than this loss ignores.
#[test]
fn another_ignored_class_than_the_datas_is_an_error() {
    let y = array![[0, 1], [Arrays::<f32>::NO_CLASS, 1]];
    let data = Arrays::step_classes(values((2, 2, 3)), y, ["a", "b"]).unwrap();
    let model: Model = Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1).unwrap();
    let fault = model.evaluate_with(&data, &CrossEntropy::default().ignore_index(-1)).unwrap_err();
    assert!(matches!(fault, Error::Mismatch { .. }) && fault.to_string().contains("found -100"), "{fault}");
    assert!(model.evaluate_with(&data, &CrossEntropy::default()).is_ok());
}

#[test]
fn no_target_at_all_is_no_loss() {
    let mut data = Custom::new(10, 4);
    data.classes.fill(-100);
    let evaluation = model(4).evaluate_with(&data, &CrossEntropy::default()).unwrap();
    assert_eq!(evaluation.loss(), None);
    let fault = model(4).sample_losses(&data, &CrossEntropy::default()).unwrap_err().to_string();
    assert_eq!(fault, "sample 0: targets: found none that counts, expected at least one that counts");
}

#[test]
fn class_names_in_another_order_are_an_error() {
    let data =
        |names: [&str; 2]| Arrays::classes(values((8, 4, 3)), &[0, 1, 0, 1, 0, 1, 0, 1], names).unwrap();
    let model: Model = Model::builder(Shape::new(4, 3))
        .layer("lstm", Lstm::new(5).last())
        .layer("linear", Linear::new(2))
        .classes(["cat", "dog"])
        .build(1)
        .unwrap();
    assert!(model.evaluate(&data(["cat", "dog"])).is_ok());
    let expected =
        "evaluation: class names: found [\"dog\", \"cat\"], expected the model's, [\"cat\", \"dog\"]";
    assert_eq!(model.evaluate(&data(["dog", "cat"])).unwrap_err().to_string(), expected);
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1));
    let fault = trainer.fit(&mut model.clone(), &data(["dog", "cat"]), None).unwrap_err().to_string();
    assert!(fault.contains("[\"dog\", \"cat\"]") && fault.contains("[\"cat\", \"dog\"]"), "{fault}");
}

#[test]
fn a_nan_is_no_class() {
    let mut data = Custom::new(20, 1);
    data.x[[13, 2, 1]] = f32::NAN;
    for fault in [
        model(1).predict_classes(&data).unwrap_err().to_string(),
        model(1).evaluate(&data).unwrap_err().to_string(),
    ] {
        assert!(fault.starts_with("sample 13: outputs: found NaN, expected numbers"), "{fault}");
    }
    let mut broken = model(1);
    broken.params_mut().as_mut_slice().fill(f32::NAN);
    assert!(broken.evaluate(&Custom::new(9, 1)).unwrap_err().to_string().starts_with("sample 0: outputs"));
}

// --- weights ---

#[test]
fn a_weight_scales_loss_and_gradient_and_not_the_denominator() {
    let (model, mut data) = (model(1), Custom::new(20, 1));
    let losses = model.sample_losses(&data, &CrossEntropy::default()).unwrap();
    let plain = gradient(CrossEntropy::default(), &model, &data);
    data.weights = (0..20).map(|i| f64::from(i % 4)).collect();
    let sum: f64 = losses.iter().zip(&data.weights).map(|(loss, weight)| loss * weight).sum();
    assert!((loss_of(&model, &data) - sum / 20.0).abs() < 1e-12);
    let weighted = model.evaluate_with(&data, &WeightedMean::new(CrossEntropy::default())).unwrap();
    let total: f64 = data.weights.iter().sum();
    assert!((weighted.loss().unwrap() - sum / total).abs() < 1e-12);
    assert_eq!(
        model.sample_losses(&data, &CrossEntropy::default()).unwrap(),
        losses,
        "each by itself, unweighted"
    );

    // All weights alike: the gradient is scaled, and that of the weighted mean is not.
    data.weights.fill(2.0);
    let twice = gradient(CrossEntropy::default(), &model, &data);
    let same = gradient(WeightedMean::new(CrossEntropy::default()), &model, &data);
    for ((twice, same), plain) in twice.iter().zip(&same).zip(&plain) {
        assert!((twice - 2.0 * plain).abs() < 1e-6 && (same - plain).abs() < 1e-6);
    }
    // A weight of 0 is as good as no sample, but for the denominator.
    data.weights.fill(0.0);
    data.weights[3] = 1.0;
    assert!((loss_of(&model, &data) - losses[3] / 20.0).abs() < 1e-12);
}

#[test]
fn weights_out_of_range_are_errors() {
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let mut data = Custom::new(9, 1);
        data.weights[4] = weight;
        let message = format!("sample 4: weight: found {weight}, expected a finite number of at least 0");
        assert_eq!(model(1).evaluate(&data).unwrap_err().to_string(), message);
        let arrays = Arrays::vectors(values((2, 4, 3)), Array2::zeros((2, 1))).unwrap();
        let fault = arrays.weights([1.0, weight]).unwrap_err().to_string();
        assert_eq!(fault, format!("weights[1]: found {weight}, expected a finite number of at least 0"));
    }
}

// --- workspaces and streams by hand ---

#[test]
fn dropout_by_hand_draws_anew_for_each_sample_and_input() {
    let model: Model = Model::builder(Shape::new(1, 64)).layer("drop", Dropout::new(0.5)).build(1).unwrap();
    let ones = Array3::ones((4, 1, 64));
    let mut ws = Workspace::new(&model, 4, Mode::Train);
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for _ in 0..2 {
        ws.set_input(ones.view());
        model.forward(&mut ws);
        rows.extend(ws.output().outer_iter().map(|y| y.iter().map(|y| y.to_bits()).collect()));
    }
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), 8, "eight masks, none of them twice");
    let drawn = |ws: &mut Workspace<f32>, keys: [u64; 4]| {
        ws.set_input(ones.view());
        ws.set_keys(&keys);
        model.forward(ws);
        ws.output()
    };
    assert_eq!(drawn(&mut ws, [1, 2, 3, 4]), drawn(&mut ws, [1, 2, 3, 4]));
    assert_ne!(drawn(&mut ws, [1, 2, 3, 4]), drawn(&mut ws, [1, 2, 3, 5]));
}

#[test]
fn states_of_another_shape_panic() {
    let model = model(1);
    let mut ws = Workspace::new(&model, 3, Mode::Train);
    ws.set_input(values((3, 4, 3)).view());
    for rows in [2, 20] {
        let fault = panic_of(|| ws.set_state(0, Array2::zeros((rows, 10)).view()));
        assert!(
            fault.contains("the shape of a state") && fault.contains(&format!("({rows}, 10)")),
            "{fault}"
        );
        let fault = panic_of(|| ws.set_state_gradient(0, Array2::zeros((rows, 10)).view()));
        assert!(fault.contains("the shape of a state"), "{fault}");
    }
    ws.set_state(0, Array2::zeros((3, 10)).view());
}

#[test]
fn a_workspace_of_another_model_panics() {
    let (model, other) = (model(1), model(1));
    let mut ws = Workspace::new(&other, 3, Mode::Train);
    ws.set_input(values((3, 4, 3)).view());
    for fault in [
        panic_of(|| model.forward(&mut ws)),
        panic_of(|| model.backward(&mut ws, &mut vec![0.0; model.parameter_count()], false)),
    ] {
        assert!(fault.contains("a workspace of another model"), "{fault}");
    }
    other.clone().forward(&mut ws);
}

#[test]
fn nothing_to_pass_is_refused() {
    let model = model(1);
    let fault = Workspace::for_steps(&model, 0, 1, Mode::Infer).unwrap_err().to_string();
    assert_eq!(fault, "`steps`: found 0, expected at least 1");
    let mut ws = Workspace::new(&model, 3, Mode::Infer);
    let fault = panic_of(|| ws.set_input(values((0, 4, 3)).view()));
    assert!(fault.contains("found a batch of 0 samples"), "{fault}");
}

#[test]
fn a_stream_survives_a_bad_step() -> Result<()> {
    let model: Model = Model::builder(Shape::new(5, 1))
        .layer("embedding", Embedding::new(3, 2))
        .layer("lstm", Lstm::new(4))
        .build(1)?;
    let mut stream = model.session()?;
    let mut whole = model.session()?;
    let first = stream.push(&[2.0]).to_vec();
    assert_eq!(whole.push(&[2.0]), first);
    let fault = stream.try_push(&[3.0]).unwrap_err().to_string();
    assert!(fault.starts_with("layer `embedding`: a step: found 3, expected an index"), "{fault}");
    let fault = stream.try_push(&[1.0, 1.0]).unwrap_err().to_string();
    assert_eq!(fault, "a step: found 2 features, expected 1");
    assert!(panic_of(|| drop(stream.push(&[f32::NAN]).to_vec())).contains("found NaN"));
    assert_eq!(stream.push(&[1.0]), whole.push(&[1.0]), "the state is as it was");
    Ok(())
}
