//! Training as a whole: it learns, it stops when told to, what looks on hears of everything, and runs that should be
//! the same are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bptt::data::{Arrays, Batch, Batches, Dataset, DatasetExt, Draw, Normalize, Sample, TargetShape};
use bptt::loss::{BceWithLogits, CrossEntropy, Loss, Mse, WeightedMean};
use bptt::nn::{Linear, Lstm, Pool, Rnn};
use bptt::optim::{Adam, Optimizer, Sgd};
use bptt::train::{Callback, Clip, EarlyStopping, EpochEnd, Flow, History, Monitor, Progress};
use bptt::{Error, Model, Real, Result, Shape, Trainer, rng};
use ndarray::{Array1, Array2, Array3, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

const STEPS: usize = 20;

/// Noise with two blips in it, one on each of two features: which came first?
fn which_came_first<R: Real>(n: usize, seed: u64) -> Arrays<R> {
    let mut rng = rng::rng(rng::key(&[seed]));
    let noise = Uniform::new(-0.2, 0.2).unwrap();
    let mut x = Array3::random_using((n, STEPS, 2), noise, &mut rng).mapv(R::from_f64);
    let mut below = |n: u64| rng::below(&mut rng, n) as usize;
    let y = Array1::from_shape_fn(n, |i| {
        let early = below(STEPS as u64 - 1);
        let late = early + 1 + below((STEPS - early - 1) as u64);
        let first = below(2);
        x[[i, early, first]] += R::ONE;
        x[[i, late, 1 - first]] += R::ONE;
        first
    });
    Arrays::classes(x, &y, ["left", "right"]).unwrap()
}

fn model<R: Real>(data: &dyn Dataset<Elem = R>) -> Model<R> {
    Model::builder(data.shape())
        .layer("lstm", Lstm::new(12).last())
        .layer("linear", Linear::new(2))
        .classes(["left", "right"])
        .build(1)
        .unwrap()
}

fn trainer() -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(4).batch_size(32).seed(3)
}

// --- it learns ---

#[test]
fn learns_which_came_first() {
    learns::<f32>(Adam::new(0.01));
    learns::<f64>(Adam::new(0.01));
    learns::<f32>(Sgd::new(0.3).momentum(0.9));
}

fn learns<R: Real>(optimizer: impl Optimizer<R> + 'static) {
    let (train, valid) = (which_came_first::<R>(1500, 1), which_came_first::<R>(500, 2));
    let mut model = model(&train);
    let before = model.evaluate(&valid).unwrap().accuracy().unwrap();
    assert!((0.4..0.6).contains(&before), "untrained, it guesses: {before}");
    let mut trainer =
        Trainer::new(CrossEntropy::default(), optimizer).epochs(8).batch_size(32).clip(Clip::Norm(1.0));
    let history = trainer.fit(&mut model, &train, Some(&valid)).unwrap();
    let accuracy = model.evaluate(&valid).unwrap().accuracy().unwrap();
    assert!(accuracy > 0.95, "{accuracy} after {:?}", history.epochs);
    assert_eq!(history.epochs.last().unwrap().valid.unwrap().accuracy, Some(accuracy));
}

/// A class for each step: which blip came last, with no answer before the first. Steps without one count nowhere.
#[test]
fn learns_at_every_step() {
    let n = 600;
    let data = |seed: u64| {
        let mut rng = rng::rng(rng::key(&[seed]));
        let mut x = Array3::<f32>::zeros((n, STEPS, 2));
        let mut y = ndarray::Array2::from_elem((n, STEPS), Arrays::<f32>::NO_CLASS);
        for i in 0..n {
            let mut last = Arrays::<f32>::NO_CLASS;
            for t in 0..STEPS {
                let blip = rng::below(&mut rng, 6);
                if blip < 2 {
                    x[[i, t, blip as usize]] = 1.0;
                    last = blip as i64;
                }
                y[[i, t]] = last;
            }
        }
        Arrays::step_classes(x, y, ["left", "right"]).unwrap()
    };
    let (train, valid) = (data(1), data(2));
    let builder = Model::builder(train.shape()).layer("rnn", Rnn::new(10)).layer("linear", Linear::new(2));
    let mut model = builder.build(1).unwrap();
    trainer().epochs(8).fit(&mut model, &train, None).unwrap();
    let accuracy = model.evaluate(&valid).unwrap().accuracy().unwrap();
    assert!(accuracy > 0.95, "{accuracy}");
    assert!(
        model.evaluate(&valid).unwrap().confusion().unwrap().total() < (n * STEPS) as u64,
        "not all steps count"
    );
}

// --- it stops ---

/// Sets a flag in the first step of the second epoch.
struct Interrupt(Arc<AtomicBool>);

impl Callback<f32> for Interrupt {
    fn on_step(&mut self, progress: &Progress) {
        if (progress.epoch, progress.step) == (2, 1) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn the_stop_flag_ends_the_run_after_its_epoch() {
    let data = which_came_first(100, 1);
    let flag = Arc::new(AtomicBool::new(false));
    let mut stopped = model(&data);
    let mut trainer = self::trainer().stop_on(flag.clone()).callback(Interrupt(flag));
    let history = trainer.fit(&mut stopped, &data, None).unwrap();
    assert_eq!(history.epochs.len(), 2);

    let mut whole = model(&data);
    self::trainer().epochs(2).fit(&mut whole, &data, None).unwrap();
    assert_eq!(stopped.params().as_slice(), whole.params().as_slice(), "its last epoch is a whole one");
}

// --- who looks on is told ---

/// Writes down what it is told.
struct Log {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
    fail_in: usize,
}

impl Log {
    fn note(&self, what: String) {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

impl Callback<f32> for Log {
    fn on_start(&mut self, _: &mut Model) -> Result<()> {
        self.note("start".into());
        Ok(())
    }

    fn on_step(&mut self, p: &Progress) {
        self.note(format!("step {}/{} of {}/{}", p.step, p.steps, p.epoch, p.epochs));
        assert!(p.score.loss > Some(0.0) && p.score.accuracy.is_some());
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        self.note(format!("epoch {}", end.epoch.epoch));
        if end.epoch.epoch == self.fail_in {
            return Err(Error::config("log", "the disk is full"));
        }
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.note("end".into());
        Ok(())
    }
}

/// What two callbacks write down over two epochs, and what came of it.
fn logged(fail_in: usize) -> (Vec<String>, Result<()>) {
    let data = which_came_first(70, 1);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (a, b) =
        (Log { name: "a", log: log.clone(), fail_in: 0 }, Log { name: "b", log: log.clone(), fail_in });
    let result =
        trainer().epochs(2).batch_size(40).callback(a).callback(b).fit(&mut model(&data), &data, None);
    let log = log.lock().unwrap().clone();
    (log, result.map(drop))
}

#[test]
fn callbacks_are_called_in_order() {
    let expected = "a start, b start, \
                    a step 1/2 of 1/2, b step 1/2 of 1/2, a step 2/2 of 1/2, b step 2/2 of 1/2, a epoch 1, b epoch 1, \
                    a step 1/2 of 2/2, b step 1/2 of 2/2, a step 2/2 of 2/2, b step 2/2 of 2/2, a epoch 2, b epoch 2, \
                    a end, b end";
    let (log, result) = logged(0);
    assert_eq!(log.join(", "), expected);
    result.unwrap();
}

#[test]
fn a_callback_that_fails_ends_the_run() {
    let (log, result) = logged(1);
    assert_eq!(result.unwrap_err().to_string(), "`log`: the disk is full");
    let last: Vec<&str> = log[log.len() - 3..].iter().map(String::as_str).collect();
    assert_eq!(last, ["b epoch 1", "a end", "b end"], "and all are asked to end");
}

#[test]
fn no_validation() {
    let data = which_came_first(100, 1);
    let history = trainer().fit(&mut model(&data), &data, None).unwrap();
    assert_eq!(history.epochs.len(), 4);
    for (i, epoch) in history.epochs.iter().enumerate() {
        assert_eq!((epoch.epoch, epoch.lr, epoch.valid), (i + 1, 0.01, None));
        assert!(epoch.seconds > 0.0 && epoch.train.accuracy.is_some());
    }
    let best = history.best().unwrap();
    assert!(history.epochs.iter().all(|epoch| epoch.train.loss >= best.train.loss));
}

// --- runs that must be the same ---

/// A dataset that adds to each draw of a sample what its key says.
struct Shaken<D>(D);

impl<D: Dataset<Elem = f32>> Dataset for Shaken<D> {
    type Elem = f32;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn target_shape(&self) -> TargetShape {
        self.0.target_shape()
    }

    fn read(&self, sample: Sample, x: &mut [f32]) {
        self.0.read(sample, x);
        let mut rng = rng::rng(sample.key);
        x.iter_mut().for_each(|x| *x += rng::below(&mut rng, 100) as f32 / 1000.0);
    }

    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        self.0.classes(sample, classes);
    }
}

/// A loop of one's own, with the batches and the stepper that the trainer uses, and the same random draws.
#[test]
fn a_loop_by_hand_is_the_trainers() {
    let data = which_came_first(200, 1);
    let (train, valid) = data.hold_out(30, 1).unwrap();
    let train = Shaken(train);
    let trainer = || trainer().clip(Clip::Norm(0.5));
    let mut by_trainer = model(&train);
    let history = trainer().fit(&mut by_trainer, &train, Some(&valid)).unwrap();

    let mut by_hand = model(&train);
    let trainer = trainer();
    let mut stepper = trainer.stepper(&by_hand, &train).unwrap();
    let mut batches = Batches::new(train.len(), 32, 3).unwrap();
    for epoch in 1..=4 {
        let (mut loss, mut weight) = (0.0, 0.0);
        for batch in batches.epoch(epoch).unwrap() {
            let report = stepper.step(&mut by_hand, &train, batch).unwrap();
            (loss, weight) = (loss + report.tally.loss, weight + report.tally.weight);
        }
        let evaluation = by_hand.evaluate_with(&valid, &CrossEntropy::default()).unwrap();
        assert_eq!(history.epochs[epoch - 1].train.loss, Some(loss / weight), "epoch {epoch}");
        assert_eq!(history.epochs[epoch - 1].valid.unwrap().loss, evaluation.loss(), "epoch {epoch}");
    }
    assert_eq!(by_hand.params().as_slice(), by_trainer.params().as_slice());
}

/// Gradients and update apart are a step; and what is done to the gradients in between counts.
#[test]
fn a_step_in_two_parts() {
    let data = which_came_first(20, 1);
    let trainer = trainer();
    let batch = Draw::all(0..20);
    let (mut whole, mut parts, mut changed) = (model(&data), model(&data), model(&data));
    trainer.stepper(&whole, &data).unwrap().step(&mut whole, &data, Batch::new(&batch, 1, 0)).unwrap();

    let mut stepper = trainer.stepper(&parts, &data).unwrap();
    let report = stepper.gradients(&parts, &data, Batch::new(&batch, 1, 0)).unwrap();
    let norm = stepper.grads().as_slice().iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
    assert!((report.grad_norm - norm).abs() < 1e-6 * norm, "{} and {norm}", report.grad_norm);
    stepper.update(&mut parts);
    assert_eq!(parts.params().as_slice(), whole.params().as_slice());

    let mut stepper = trainer.stepper(&changed, &data).unwrap();
    stepper.gradients(&changed, &data, Batch::new(&batch, 1, 0)).unwrap();
    stepper.grads_mut().as_mut_slice().fill(0.0);
    let before = changed.params().as_slice().to_vec();
    stepper.update(&mut changed);
    assert_eq!(changed.params().as_slice(), before, "no gradient, no step");
}

/// Nothing is carried over from one run of a trainer to the next.
#[test]
fn a_trainer_runs_twice_alike() {
    let (train, valid) = (which_came_first(100, 1), which_came_first(50, 2));
    let mut trainer = trainer().callback(EarlyStopping::new(2));
    let runs: [_; 2] = std::array::from_fn(|_| {
        let mut model = model(&train);
        let history = trainer.fit(&mut model, &train, Some(&valid)).unwrap();
        (history.epochs.len(), model.params().as_slice().to_vec())
    });
    assert_eq!(runs[0], runs[1]);
}

/// A learning rate of 0 moves nothing, and one set anew is the one in force.
#[test]
fn the_learning_rate_is_the_steppers() {
    let data = which_came_first(20, 1);
    let trainer = trainer();
    let mut model = model(&data);
    let before = model.params().as_slice().to_vec();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    assert_eq!(stepper.lr(), 0.01);
    stepper.set_lr(0.0);
    stepper.step(&mut model, &data, Batch::new(&Draw::all([0, 1]), 1, 0)).unwrap();
    assert_eq!(model.params().as_slice(), before);
    stepper.set_lr(0.5);
    stepper.step(&mut model, &data, Batch::new(&Draw::all([0, 1]), 1, 2)).unwrap();
    let moved = before.iter().zip(model.params().as_slice()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved > 0.1, "Adam moves by about the learning rate: {moved}");
}

/// One step on 24 samples, half of them without a target, is one step on the other half.
#[test]
fn values_that_are_missing_teach_nothing() -> Result<()> {
    let x = Array3::from_shape_fn((24, 3, 1), |(i, t, _)| ((i * 5 + t) % 7) as f64 / 7.0);
    let mut y = Array2::from_shape_fn((24, 2), |(i, f)| (i * 3 + f) as f64 / 24.0);
    y.slice_mut(s![12.., ..]).fill(f64::NAN);
    let fit = |n: usize| {
        let data = Arrays::vectors(x.slice(s![..n, .., ..]).to_owned(), y.slice(s![..n, ..]).to_owned())?;
        let mut model = Model::builder(data.shape())
            .layer("rnn", Rnn::new(4).last())
            .layer("linear", Linear::new(2))
            .build(1)?;
        let mut trainer = Trainer::new(Mse, Sgd::new(0.1)).epochs(1).batch_size(24);
        let history = trainer.fit(&mut model, &data, None)?;
        Ok::<_, Error>((model.params().as_slice().to_vec(), history.epochs[0].train.loss.unwrap()))
    };
    let ((all, loss), (half, half_loss)) = (fit(24)?, fit(12)?);
    assert!((loss - half_loss).abs() < 1e-12, "{loss} {half_loss}");
    for (a, b) in all.iter().zip(&half) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
    Ok(())
}

/// Targets of the order of 10,000, and 0.01, missing ones among them.
fn prices(n: usize) -> Arrays<f64> {
    let x = Array3::from_shape_fn((n, 6, 1), |(i, t, _)| ((i + t) as f64 / 3.0).sin());
    let y = Array2::from_shape_fn((n, 2), |(i, f)| match (i % 7, f) {
        (3, 1) => f64::NAN,
        (_, 0) => 10_000.0 + 500.0 * ((i + 6) as f64 / 3.0).sin(),
        _ => 0.01 * ((i + 6) as f64 / 3.0).cos(),
    });
    Arrays::vectors(x, y).unwrap()
}

fn forecaster(data: &dyn Dataset<Elem = f64>, targets: Option<Normalize>) -> Result<Model<f64>> {
    let builder = Model::builder(data.shape()).layer("rnn", Rnn::new(5)).layer("last", Pool::last());
    let builder = builder.layer("linear", Linear::new(2));
    match targets {
        Some(targets) => builder.normalize_targets(targets).build(1),
        None => builder.build(1),
    }
}

/// The same training as on targets that were standardised before, and predictions in the units of the data.
#[test]
fn standardised_targets() -> Result<()> {
    let data = prices(40);
    let targets = data.target_mean_sd_per_feature()?;
    let mut y = data.target_values()?;
    y.indexed_iter_mut().for_each(|((_, _, f), y)| *y = targets.apply(*y, f));
    let mut x = Array3::zeros((40, 6, 1));
    for (i, mut x) in x.outer_iter_mut().enumerate() {
        data.read(Sample::plain(i), x.as_slice_mut().unwrap());
    }
    let by_hand = Arrays::values(x.clone(), y)?;
    let trainer = || Trainer::new(Mse, Adam::new(0.01)).epochs(3).batch_size(8);
    let (mut model, mut expected) = (forecaster(&data, Some(targets.clone()))?, forecaster(&data, None)?);
    let history = trainer().fit(&mut model, &data, Some(&data))?;
    let standardised = trainer().fit(&mut expected, &by_hand, Some(&by_hand))?;
    assert_eq!(model.params().as_slice(), expected.params().as_slice());
    let scores = |history: &History| history.epochs.iter().map(|e| (e.train, e.valid)).collect::<Vec<_>>();
    assert_eq!(scores(&history), scores(&standardised));
    assert_eq!(model.sample_losses(&data, &Mse)?, expected.sample_losses(&by_hand, &Mse)?);

    let mut y = expected.predict(&x)?;
    y.indexed_iter_mut().for_each(|((_, _, f), y)| *y = targets.undo(*y, f));
    assert!(y.iter().step_by(2).all(|y| (8_000.0..12_000.0).contains(y)), "{y}");
    let loaded = Model::from_bytes(&model.to_bytes()?)?;
    assert_eq!(loaded.target_normalization(), Some(&targets));
    for model in [&model, &loaded, &model.compact()?] {
        assert_eq!(model.predict(&x)?, y);
        assert_eq!(model.predictor()?.predict(&x)?, y);
        assert_eq!(model.predict(x.slice(s![..1, .., ..]))?, y.slice(s![..1, .., ..]));
        let mut streams = model.streams(40)?;
        let mut stream = model.session()?;
        for t in 0..6 {
            stream.push(&[x[[0, t, 0]]]);
            streams.push(x.slice(s![.., t, ..]));
        }
        stream.reset();
        let all = stream.push_all(x.slice(s![0, .., ..]));
        assert_eq!(all.row(5), y.slice(s![0, 0, ..]));
    }
    let mut streams = model.streams(40)?;
    let last = (0..6).map(|t| streams.push(x.slice(s![.., t, ..])).to_owned()).last();
    assert_eq!(last.unwrap(), y.slice(s![.., 0, ..]));
    Ok(())
}

/// A run that goes on after each epoch is one that never stopped; another scale is another run.
#[test]
fn standardised_targets_are_resumed() -> Result<()> {
    let (data, folder) = (prices(40), tempfile::tempdir().unwrap());
    let file = folder.path().join("run.ckpt");
    let run = |epochs, scale| -> Result<Vec<f64>> {
        let mut model = forecaster(&data, Some(Normalize::scalar(5_000.0, scale)?))?;
        let trainer = Trainer::new(Mse, Adam::new(0.01)).epochs(epochs).batch_size(8);
        trainer.run_file(&file).resume(true).fit(&mut model, &data, None)?;
        Ok(model.params().as_slice().to_vec())
    };
    for epochs in 1..=3 {
        run(epochs, 3_000.0)?;
    }
    let stopped = run(3, 3_000.0)?;
    let fault = run(4, 2_000.0).unwrap_err().to_string();
    assert!(fault.contains("`normalize_targets`: ") && fault.contains("`sd`"), "{fault}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(run(3, 3_000.0)?, stopped);
    Ok(())
}

#[test]
fn classes_have_no_scale() -> Result<()> {
    let (data, scale) = (which_came_first::<f32>(20, 1), Normalize::scalar(0.0, 2.0)?);
    let builder =
        || Model::builder(data.shape()).layer("lstm", Lstm::new(2).last()).layer("linear", Linear::new(2));
    let fault = builder().normalize_targets(scale.clone()).classes(["left", "right"]).build(1).unwrap_err();
    let expected = "normalize_targets: found names of classes, expected a model whose targets are values";
    assert_eq!(fault.to_string(), expected);
    let mut model = builder().normalize_targets(scale).build(1)?;
    assert!(model.set_classes(["left", "right"]).is_err());
    let trained = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).fit(&mut model, &data, None);
    for fault in [trained.map(drop), model.evaluate(&data).map(drop), model.predict_classes(&data).map(drop)]
    {
        let fault = fault.unwrap_err().to_string();
        assert!(fault.ends_with("found classes, expected values, since targets are standardised"), "{fault}");
    }
    let wide = builder().normalize_targets(Normalize::per_feature(vec![0.0; 3], vec![1.5; 3])?).build(1);
    assert_eq!(wide.unwrap_err().to_string(), "normalize: found 3 means, expected 1 or 2");
    // A scale that changes nothing is none, in the file too.
    let plain = builder().build(1)?;
    let same = builder().normalize_targets(Normalize::identity()).build(1)?;
    assert_eq!(same.to_bytes()?, plain.to_bytes()?);
    Ok(())
}

/// A value for each step, 0 or 1, of sequences of different lengths, some of them without a target: counted by hand.
#[test]
fn values_that_are_0_or_1_have_an_accuracy() -> Result<()> {
    let (n, steps) = (70, 6);
    let x = Array3::from_shape_fn((n, steps, 2), |(i, t, f)| ((i * 7 + t * 5 + f) % 13) as f32 / 4.0 - 1.5);
    let y = Array3::from_shape_fn((n, steps, 2), |(i, t, f)| match (i * 3 + t + f) % 7 {
        0 => f32::NAN,
        k => (k % 2) as f32,
    });
    let lens: Vec<usize> = (0..n).map(|i| 1 + i % steps).collect();
    let data = Arrays::values(x.clone(), y.clone())?.lengths(lens.clone())?;
    // The outputs are the inputs.
    let mut model = Model::builder(data.shape()).layer("linear", Linear::new(2)).build(1)?;
    model.params_mut().as_mut_slice().copy_from_slice(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(model.predict(&x)?, x);

    let counts = |threshold: f32| {
        let mut counts = [[0_u64; 2]; 2];
        for (((i, t, _), &y), &x) in y.indexed_iter().zip(&x) {
            if t < lens[i] && !y.is_nan() {
                counts[usize::from(y > 0.5)][usize::from(x > threshold)] += 1;
            }
        }
        counts
    };
    let share = |[[no, wrong], [missed, yes]]: [[u64; 2]; 2]| {
        Some((no + yes) as f64 / (no + wrong + missed + yes) as f64)
    };
    // σ(0.8472978604) = 0.7.
    let strict = WeightedMean::new(BceWithLogits::default().threshold(0.7));
    let of_loss: [(&dyn Loss<f32>, f32); 2] = [(&BceWithLogits::default(), 0.0), (&strict, 0.847_297_9)];
    for (loss, threshold) in of_loss {
        let evaluation = model.evaluate_with(&data, loss)?;
        assert_eq!(evaluation.accuracy(), share(counts(threshold)));
        assert_eq!(evaluation.confusion().expect("a threshold").rows(), counts(threshold));
    }
    assert_ne!(counts(0.0), counts(0.847_297_9));

    let fit = |threads: usize, monitor: Monitor| {
        let trainer =
            Trainer::new(BceWithLogits::default(), Sgd::new(0.0)).epochs(1).batch_size(32).threads(threads);
        trainer.callback(EarlyStopping::new(5).monitor(monitor)).fit(&mut model.clone(), &data, Some(&data))
    };
    for threads in [1, 3] {
        let epoch = fit(threads, Monitor::ValidAccuracy)?.epochs[0];
        let expected = share(counts(0.0));
        assert_eq!((epoch.train.accuracy, epoch.valid.unwrap().accuracy), (expected, expected));
    }
    // Other values have none.
    assert!(model.evaluate_with(&data, &Mse)?.accuracy().is_none());
    let mut trainer =
        Trainer::new(Mse, Sgd::new(0.0)).callback(EarlyStopping::new(5).monitor(Monitor::TrainAccuracy));
    let message = trainer.fit(&mut model, &data, None).unwrap_err().to_string();
    assert!(message.contains("TrainAccuracy of targets that are not classes"), "{message}");
    Ok(())
}
