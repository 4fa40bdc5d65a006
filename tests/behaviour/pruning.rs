//! Masks bind everything: what is pruned is exactly 0 after any training, under every optimizer, with averages and
//! restored weights, and in files.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bptt::data::{Arrays, Batch, DatasetExt, Draw};
use bptt::loss::CrossEntropy;
use bptt::nn::{Gru, Layer, Linear, Lstm, Session};
use bptt::optim::{Adam, AdamW, Adamax, Muon, Optimizer, RmsProp, Sgd};
use bptt::prune::{Blocks, Custom, Magnitude, Mask, Random};
use bptt::train::{Callback, Clip, EarlyStopping, EpochEnd, Flow, GradualPruning, Group};
use bptt::{Error, Model, Real, Result, Shape, Trainer};
use ndarray::{Array1, Array3};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Whether a sequence rises or falls.
fn data<R: Real>() -> Arrays<R> {
    let y = Array1::from_shape_fn(90, |i| i % 2);
    let x = Array3::from_shape_fn((90, 6, 2), |(i, t, f)| {
        let slope = if y[i] == 0 { 0.2 } else { -0.2 };
        R::from_f64((i * 7 % 20) as f64 / 10.0 - 1.0 + slope * (t + f) as f64)
    });
    Arrays::classes(x, &y, ["rising", "falling"]).unwrap()
}

fn model<R: Real>() -> Model<R> {
    let lstm = Lstm::new(6).layers(2).last();
    Model::builder(Shape::new(6, 2)).layer("lstm", lstm).layer("linear", Linear::new(2)).build(1).unwrap()
}

fn trainer<R: Real>(optimizer: impl Optimizer<R> + 'static) -> Trainer<R> {
    Trainer::new(CrossEntropy::default(), optimizer).epochs(3).batch_size(32).clip(Clip::Norm(0.5))
}

/// Every rule in the crate, with every kind of moment and decay that it has.
fn optimizers<R: Real>() -> Vec<Box<dyn Fn() -> Trainer<R>>>
where
    Adam: Optimizer<R>,
    AdamW: Optimizer<R>,
    Adamax: Optimizer<R>,
    RmsProp: Optimizer<R>,
    Sgd: Optimizer<R>,
{
    vec![
        Box::new(|| trainer(Adam::new(0.01))),
        Box::new(|| trainer(Adam::new(0.01).amsgrad().weight_decay(0.1))),
        Box::new(|| trainer(AdamW::new(0.01).weight_decay(0.1))),
        Box::new(|| trainer(AdamW::new(0.01).amsgrad())),
        Box::new(|| trainer(Adamax::new(0.01))),
        Box::new(|| trainer(Adamax::new(0.01).weight_decay(0.1))),
        Box::new(|| trainer(RmsProp::new(0.01))),
        Box::new(|| trainer(RmsProp::new(0.01).centered().momentum(0.9).weight_decay(0.1))),
        Box::new(|| trainer(Sgd::new(0.1))),
        Box::new(|| trainer(Sgd::new(0.1).momentum(0.9).dampening(0.1).weight_decay(0.1))),
        Box::new(|| trainer(Sgd::new(0.1).momentum(0.9).nesterov().weight_decay(0.1))),
    ]
}

/// Exactly +0 wherever the mask says so; and there is one.
#[track_caller]
fn assert_bound<R: Real>(model: &Model<R>) {
    let mask = model.mask().expect("a mask");
    assert!(mask.count() > 0);
    for (&x, _) in model.params().as_slice().iter().zip(mask.as_slice()).filter(|&(_, &pruned)| pruned) {
        assert_eq!(x, R::ZERO);
        assert!(R::ONE / x > R::ZERO, "a negative zero");
    }
}

// --- nothing revives what is pruned ---

fn stays_pruned<R: Real>(make: &dyn Fn() -> Trainer<R>) {
    let data = data::<R>();
    let (train, valid) = data.hold_out(30, 1).unwrap();
    let mut model = model::<R>();
    // Trained, pruned, retrained in several ways, pruned further, retrained.
    make().fit(&mut model, &train, None).unwrap();
    model.prune(Magnitude::share(0.4).with_biases()).unwrap();
    assert_bound(&model);
    let before = model.params().as_slice().to_vec();
    make().fit(&mut model, &train, None).unwrap();
    assert_bound(&model);
    let mask = model.mask().unwrap().as_slice();
    let moved = before.iter().zip(model.params().as_slice()).filter(|(a, b)| a != b).count();
    assert!(
        moved * 10 > mask.iter().filter(|&&pruned| !pruned).count() * 9,
        "the others are trained: {moved}"
    );

    make().ema(0.9).fit(&mut model, &train, Some(&valid)).unwrap();
    assert_bound(&model);
    let stopping = || EarlyStopping::new(1);
    make().ema(0.9).callback(stopping()).fit(&mut model, &train, Some(&valid)).unwrap();
    assert_bound(&model);
    let gradual = GradualPruning::new(0.7).until_epoch(2).global();
    make().epochs(4).callback(gradual).callback(stopping()).fit(&mut model, &train, Some(&valid)).unwrap();
    assert_bound(&model);
    assert!(model.sparsity().share() > 0.6);
    make()
        .group("lstm.*", Group::new().lr_scale(2.0))
        .freeze("linear.*")
        .fit(&mut model, &train, None)
        .unwrap();
    assert_bound(&model);
}

#[test]
fn what_is_pruned_stays_pruned_under_every_optimizer() {
    optimizers::<f32>().iter().for_each(|make| stays_pruned(make));
    optimizers::<f64>().iter().for_each(|make| stays_pruned(make));
    // Its steps move whole matrices, so that what is said below of moments does not hold for it.
    stays_pruned::<f32>(&|| trainer(Muon::new(0.01)));
}

/// Moments from before a pruning are gone: with the mask off and no gradient, nothing moves.
#[test]
fn moments_and_averages_are_masked() {
    for make in optimizers::<f32>() {
        let (data, trainer, mut model) = (data(), make().ema(0.9), model());
        let batch = Draw::all(0..32);
        let mut stepper = trainer.stepper(&model, &data).unwrap();
        for _ in 0..3 {
            stepper.step(&mut model, &data, Batch::new(&batch, 1, 0)).unwrap();
        }
        model.prune(Random::share(0.5)).unwrap();
        stepper.step(&mut model, &data, Batch::new(&batch, 1, 0)).unwrap();
        let mask = model.unmask().unwrap();
        let zero = |model: &Model| {
            let values = model.params().as_slice().iter().zip(mask.as_slice());
            values.filter(|&(_, &pruned)| pruned).all(|(&x, _)| x == 0.0)
        };
        stepper.swap_average(&mut model);
        assert!(zero(&model), "averages");
        stepper.swap_average(&mut model);
        stepper.grads_mut().as_mut_slice().fill(0.0);
        stepper.update(&mut model);
        assert!(zero(&model), "moments of {trainer:?}");
        // Off is off.
        stepper.step(&mut model, &data, Batch::new(&batch, 1, 0)).unwrap();
        assert!(!zero(&model));
    }
}

#[test]
fn gradients_are_masked_before_their_norm() {
    let (data, mut model) = (data::<f64>(), model());
    model.prune(Magnitude::share(0.8)).unwrap();
    let mask = model.mask().unwrap().clone();
    let trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).batch_size(32);
    let batch = Draw::all(0..32);
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    let report = stepper.gradients(&model, &data, Batch::new(&batch, 1, 0)).unwrap();
    let mut masked = stepper.grads().as_slice().to_vec();
    assert!(masked.iter().zip(mask.as_slice()).all(|(&g, &pruned)| (g == 0.0) == pruned));
    let norm = |grads: &[f64]| grads.iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!((report.grad_norm - norm(&masked)).abs() < 1e-12);

    // The same weights without a mask: the same gradient elsewhere, and a larger norm.
    model.unmask();
    let free = stepper.gradients(&model, &data, Batch::new(&batch, 1, 0)).unwrap();
    assert!(free.grad_norm > report.grad_norm);
    let mut grads = stepper.grads().as_slice().to_vec();
    mask.apply(&mut grads);
    mask.apply(&mut masked);
    assert_eq!(grads, masked);
}

/// Prunes once, after an epoch.
struct PruneAfter(usize);

impl Callback<f32> for PruneAfter {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        if end.epoch.epoch == self.0 {
            end.model.prune(Magnitude::share(0.9))?;
        }
        Ok(Flow::Continue)
    }
}

/// Notes whether the model is pruned, and its parameters.
#[derive(Clone, Default)]
struct Snapshots(Arc<Mutex<Vec<Vec<f32>>>>);

impl Callback<f32> for Snapshots {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        self.0.lock().unwrap().push(end.model.params().as_slice().to_vec());
        Ok(Flow::Continue)
    }
}

/// The best epoch of all lies before the pruning; the one restored lies after it.
#[test]
fn the_best_weights_are_those_of_the_model_as_it_is_pruned() {
    for prunes_first in [true, false] {
        let data = data::<f32>();
        let (train, valid) = data.hold_out(30, 1).unwrap();
        let (mut model, snapshots) = (model(), Snapshots::default());
        let trainer = trainer(Adam::new(0.01)).epochs(14).callback(snapshots.clone());
        let stopping = || EarlyStopping::new(100);
        let mut trainer = if prunes_first {
            trainer.callback(PruneAfter(10)).callback(stopping())
        } else {
            trainer.callback(stopping()).callback(PruneAfter(10))
        };
        let history = trainer.fit(&mut model, &train, Some(&valid)).unwrap();
        assert_bound(&model);
        let losses: Vec<_> = history.epochs.iter().map(|epoch| epoch.valid.unwrap().loss.unwrap()).collect();
        assert!(losses[10..].iter().all(|loss| *loss > losses[9]), "{losses:?}");
        let place = snapshots.0.lock().unwrap().iter().position(|p| p == model.params().as_slice());
        assert!(place.is_some_and(|epoch| epoch >= 10), "restored {place:?} of {losses:?}");
    }
}

// --- pruning little by little ---

struct Shares(Arc<Mutex<Vec<f64>>>);

impl Callback<f32> for Shares {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        self.0.lock().unwrap().push(end.model.sparsity().get("lstm.weight_hh_l0").unwrap().share());
        Ok(Flow::Continue)
    }
}

#[test]
fn gradual_pruning_follows_the_cubic_schedule() {
    let (data, shares) = (data(), Arc::new(Mutex::new(Vec::new())));
    let gradual = GradualPruning::new(0.75).from_epoch(2).until_epoch(4).only("lstm.*");
    let mut trainer = trainer(Adam::new(0.01)).epochs(6).callback(gradual).callback(Shares(shares.clone()));
    let mut model = model();
    trainer.fit(&mut model, &data, None).unwrap();
    // Of 144 weights: 0.75 (1 − (2/3)³) 144 = 76, 0.75 (1 − (1/3)³) 144 = 104, 0.75 · 144 = 108.
    let expected = [0, 76, 104, 108, 108, 108].map(|n| f64::from(n) / 144.0);
    assert_eq!(*shares.lock().unwrap(), expected);
    assert_bound(&model);
    assert_eq!(model.sparsity().get("linear.weight").unwrap().pruned, 0);
    // Once more from the beginning: nothing comes back.
    shares.lock().unwrap().clear();
    trainer.fit(&mut model, &data, None).unwrap();
    assert_eq!(*shares.lock().unwrap(), [expected[5]; 6]);
}

#[test]
fn gradual_pruning_that_cannot_be() {
    let fault = |gradual: GradualPruning| {
        trainer::<f32>(Sgd::new(0.1))
            .callback(gradual)
            .fit(&mut model(), &data(), None)
            .unwrap_err()
            .to_string()
    };
    let epochs = fault(GradualPruning::new(0.5).from_epoch(3).until_epoch(2));
    assert!(epochs.starts_with("`epochs of gradual pruning`: found 3 to 2"), "{epochs}");
    assert!(fault(GradualPruning::new(0.5).from_epoch(0)).contains("found 0 to 10"));
    assert!(fault(GradualPruning::new(1.5)).starts_with("`share`: found 1.5"));
    assert!(fault(GradualPruning::new(0.5).only("gru.*")).starts_with("`only`: found no tensor"));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |threads| {
        let mut model = model::<f32>();
        let gradual = GradualPruning::new(0.5).until_epoch(2);
        trainer(Adam::new(0.01))
            .tile(8)
            .threads(threads)
            .callback(gradual)
            .fit(&mut model, &data(), None)
            .unwrap();
        (model.params().as_slice().to_vec(), model.mask().cloned())
    };
    let one = run(1);
    assert!([2, 3, 8].map(run).iter().all(|other| *other == one));
}

// --- files ---

fn saved(model: &Model, name: &Path) -> Vec<u8> {
    model.save(name).unwrap();
    std::fs::read(name).unwrap()
}

fn description(bytes: &[u8]) -> Value {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    serde_json::from_str(&metadata.metadata().as_ref().unwrap()["bptt"]).unwrap()
}

#[test]
fn the_mask_is_saved_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let mut model = model::<f32>();
    let plain = saved(&model, &path);
    assert_eq!(description(&plain).get("mask"), None);
    assert_eq!(Model::<f32>::load(&path).unwrap().mask(), None);

    model.prune(Magnitude::share(0.6)).unwrap();
    let bytes = saved(&model, &path);
    let names = |bytes: &[u8]| {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(names(&bytes), names(&plain), "PyTorch finds what it knows, and nothing else");
    let mut loaded = Model::<f32>::load(&path).unwrap();
    assert_eq!(loaded.mask(), model.mask());
    assert_eq!(loaded.params().as_slice(), model.params().as_slice());
    assert!(saved(&loaded, &again) == bytes, "the same bytes again");
    assert_eq!(Model::<f64>::load(&path).unwrap().mask(), model.mask());

    trainer(Adam::new(0.01)).fit(&mut loaded, &data(), None).unwrap();
    assert_bound(&loaded);
    assert_eq!(loaded.mask(), model.mask());

    // Without its mask it is a model like any other.
    model.unmask();
    assert_eq!(description(&saved(&model, &path)).get("mask"), None);
}

#[test]
fn runs_are_written_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model: Model = Model::builder(Shape::new(1, 3)).layer("linear", Linear::new(2)).build(1).unwrap();
    model.params_mut().as_mut_slice().copy_from_slice(&[0.1, 3.0, 0.2, 0.3, 3.0, 3.0, 0.1, 3.0]);
    model.prune(Magnitude::below(1.0).with_biases()).unwrap();
    let found = description(&saved(&model, &path));
    assert_eq!(found["mask"], json!({ "linear.bias": [0, 1, 1], "linear.weight": [0, 1, 1, 2, 2] }));
}

#[test]
fn masks_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1).unwrap();
    model.prune(Custom::new(|_, _| true).only("linear.weight")).unwrap();
    let bytes = saved(&model, &path);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let fault = |mask: Value| {
        let mut json = description(&bytes);
        json["mask"] = mask;
        let metadata = Some([("bptt".to_owned(), json.to_string())].into_iter().collect());
        std::fs::write(&path, safetensors::serialize(tensors.iter(), metadata).unwrap()).unwrap();
        match Model::<f32>::load(&path) {
            Ok(_) => "none".to_owned(),
            Err(Error::File { path: named, fault }) => {
                assert_eq!(named, path);
                fault
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(fault(json!({ "linear.weight": [0, 4] })), "none");
    assert_eq!(fault(Value::Null), "none");
    assert_eq!(
        fault(json!({ "linear.weight": [0, 3] })),
        "mask of `linear.weight`: found 3 values, expected 4"
    );
    assert_eq!(
        fault(json!({ "linear.weight": [0, 5] })),
        "mask of `linear.weight`: found 5 values, expected 4"
    );
    assert!(fault(json!({ "linear.weight": [1, u64::MAX] })).contains("far too many"));
    assert!(fault(json!({ "linear.weight": [4] })).contains("found an empty run"));
    assert!(fault(json!({ "linear.weight": [2, 1, 0, 1] })).contains("found an empty run"));
    assert!(fault(json!({ "linear.weight": [-1, 5] })).contains("cannot be read"));
    assert!(fault(json!({ "linear.weight": "0,4" })).contains("cannot be read"));
    assert!(fault(json!({ "lstm.weight": [0, 4] })).contains("found `lstm.weight`, expected a tensor"));
    assert!(fault(json!({})).contains("found no tensors"));
    let wrong = fault(json!({ "linear.bias": [0, 2], "linear.weight": [0, 4] }));
    assert_eq!(wrong, "tensor `linear.bias`: found 2 pruned values that are not 0");
}

#[test]
fn a_mask_goes_from_model_to_model() {
    let (mut first, mut second) = (model::<f32>(), model::<f64>());
    first.prune(Random::share(0.5)).unwrap();
    second.prune(first.mask().unwrap()).unwrap();
    assert_eq!(first.mask().map(Mask::as_slice), second.mask().map(Mask::as_slice));
    assert_bound(&second);
}

// --- blocks, which a step of a stream skips ---

/// What a stream returns for each step of a sequence `[T, F]`, and a whole pass `[T, F']`.
#[track_caller]
fn assert_streams<R: Real>(model: &Model<R>, x: &Array3<R>) {
    let (whole, mut session) = (model.predict(x).unwrap(), model.session().unwrap());
    for (x, whole) in x.outer_iter().zip(whole.outer_iter()) {
        session.reset();
        let found = session.push_all(x).mapv(R::to_f64);
        let same =
            |(a, b): (&f64, &R)| a.to_bits() == b.to_f64().to_bits() || a.is_nan() && b.to_f64().is_nan();
        assert!(found.iter().zip(&whole).all(same), "{found}, expected {whole}");
    }
}

fn blocks_stream<R: Real>(layer: impl Layer<R> + 'static) {
    let mut model = Model::<R>::builder(Shape::new(4, 64)).layer("a", layer).build(1).unwrap();
    let value = |(i, t, f)| R::from_f64(((i * 31 + t * 17 + f * 7) % 41) as f64 / 20.0 - 1.0);
    let mut x = Array3::from_shape_fn((3, 4, 64), value);
    for share in [0.0, 0.3, 0.6, 0.9, 1.0] {
        model.prune(Blocks::share(share)).unwrap();
        let pruned = model.sparsity();
        assert!((pruned.pruned() as f64 / pruned.len() as f64 - share).abs() < 0.02, "{pruned}");
        assert_streams(&model, &x);
    }
    // No block is left, until weights come back.
    model.unmask();
    model
        .params_mut()
        .as_mut_slice()
        .iter_mut()
        .enumerate()
        .for_each(|(i, w)| *w = R::from_f64((i % 7) as f64 / 7.0));
    assert_streams(&model, &x);
    // A zero times infinity is not zero.
    model.prune(Blocks::share(0.6)).unwrap();
    x[[1, 1, 5]] = R::ONE / R::ZERO;
    assert_streams(&model, &x);
}

#[test]
fn streams_skip_pruned_blocks_and_keep_the_bits() {
    blocks_stream::<f32>(Lstm::new(128));
    blocks_stream::<f64>(Lstm::new(96).layers(2));
    blocks_stream::<f32>(Gru::new(128).layers(2));
    // Blocks that lie across gates.
    blocks_stream::<f32>(Lstm::new(101));
    blocks_stream::<f64>(Gru::new(77));
}

/// The one of two models that is current.
struct Current<'a>(&'a [Model; 2], &'a Cell<usize>);

impl Deref for Current<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0[self.1.get()]
    }
}

#[test]
fn a_stream_reads_the_weights_of_its_model() {
    let model: Model = Model::builder(Shape::new(4, 64)).layer("lstm", Lstm::new(64)).build(1).unwrap();
    let mut models = [model.clone(), model];
    for (model, share) in models.iter_mut().zip([0.5, 0.9]) {
        model.prune(Blocks::share(share)).unwrap();
    }
    let (x, current) = ([0.5; 64], Cell::new(0));
    let mut stream = Session::new(Current(&models, &current)).unwrap();
    for i in [0, 1, 0] {
        current.set(i);
        stream.reset();
        assert_eq!(stream.push(&x), models[i].session().unwrap().push(&x), "model {i}");
    }
}
