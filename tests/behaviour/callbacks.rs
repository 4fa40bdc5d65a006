//! Callbacks, parameter groups, frozen parameters, averaged weights and clipping, each seen to act.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bptt::data::{Arrays, Batch, Draw, shuffle};
use bptt::loss::CrossEntropy;
use bptt::nn::{Linear, Lstm};
use bptt::optim::{Adam, Optimizer, Sgd, Update};
use bptt::train::schedule::{Clock, Constant};
use bptt::train::{
    Callback, Checkpoint, Clip, CsvLog, EarlyStopping, Epoch, EpochEnd, Flow, Group, History, JsonLog,
    Monitor, Schedule, Score,
};
use bptt::{Error, Model, Real, Result, Shape, Trainer, rng};
use ndarray::{Array1, Array3};

use crate::common::Fixture;

/// A number from −1 to 1 that these two name.
fn noise(i: usize, j: usize) -> f64 {
    2.0 * (rng::key(&[i as u64, j as u64]) >> 11) as f64 / (1u64 << 53) as f64 - 1.0
}

/// Sequences of 3 steps of 2 features, whose class is the sign of a noisy sum.
fn data<R: Real>(seed: usize, n: usize) -> Arrays<R> {
    let x = |i: usize, t: usize, f: usize| noise(1000 * seed + i, 2 * t + f);
    let class =
        |i| usize::from((0..3).map(|t| x(i, t, 0)).sum::<f64>() + 2.0 * noise(1000 * seed + i, 99) > 0.0);
    let values = Array3::from_shape_fn((n, 3, 2), |(i, t, f)| R::from_f64(x(i, t, f)));
    Arrays::classes(values, &Array1::from_shape_fn(n, class), ["falls", "rises"]).unwrap()
}

fn model<R: Real>() -> Model<R> {
    let lstm = Lstm::new(3).last();
    Model::builder(Shape::new(3, 2)).layer("lstm", lstm).layer("linear", Linear::new(2)).build(1).unwrap()
}

fn params<R: Real>(model: &Model<R>) -> Vec<R> {
    model.params().as_slice().to_vec()
}

/// Epochs, and the parameters after each.
type Record<R> = Vec<(Epoch, Vec<R>)>;

/// Writes down what each epoch brought, and the parameters after it.
#[derive(Clone)]
struct Recorder<R>(Arc<Mutex<Record<R>>>);

impl<R: Real> Recorder<R> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn epochs(&self) -> Record<R> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl<R: Real> Callback<R> for Recorder<R> {
    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        self.0.lock().unwrap().push((*end.epoch, params(end.model)));
        Ok(Flow::Continue)
    }
}

/// Learns for three epochs, and unlearns from then on: so the best epoch is neither the first nor the last.
#[derive(Debug)]
struct UpAndDown;

impl Schedule for UpAndDown {
    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        if clock.done < 3 { base } else { -base }
    }
}

fn up_and_down() -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.03)).epochs(12).batch_size(16).schedule(UpAndDown)
}

/// The first epoch (from 0) that has the best score, and how many epochs run with this patience.
fn expected(scores: &[f64], rises: bool, min_delta: f64, patience: usize) -> (usize, usize) {
    let mut best = 0;
    for i in 1..scores.len() {
        let gain = if rises { scores[i] - scores[best] } else { scores[best] - scores[i] };
        if gain > min_delta {
            best = i;
        } else if i - best >= patience.max(1) {
            return (best, i + 1);
        }
    }
    (best, scores.len())
}

#[test]
fn early_stopping_restores_the_best() {
    let (train, valid) = (data(1, 80), data(2, 40));
    let recorder = Recorder::new();
    up_and_down().callback(recorder.clone()).fit(&mut model(), &train, Some(&valid)).unwrap();
    let all = recorder.epochs();
    assert_eq!(all.len(), 12);
    for (monitor, min_delta, patience, validation) in [
        (Monitor::ValidLoss, 0.0, 2, true),
        (Monitor::ValidAccuracy, 0.0, 3, true),
        (Monitor::TrainLoss, 0.0, 2, true),
        (Monitor::TrainAccuracy, 0.0, 1, true),
        (Monitor::ValidLoss, 0.0, 0, true),
        (Monitor::ValidLoss, 0.05, 3, true),
        (Monitor::ValidAccuracy, 0.1, 4, true),
        (Monitor::ValidLoss, 0.0, 2, false),
    ] {
        let score = |(epoch, _): &(Epoch, _)| {
            let score = match monitor {
                Monitor::ValidLoss | Monitor::ValidAccuracy if validation => epoch.valid.unwrap(),
                _ => epoch.train,
            };
            if monitor.rises() { score.accuracy.unwrap() } else { score.loss.unwrap() }
        };
        let scores: Vec<f64> = all.iter().map(score).collect();
        let (best, epochs) = expected(&scores, monitor.rises(), min_delta, patience);
        let what = format!("{monitor:?}, {min_delta}, {patience}: {scores:?}");
        assert!(epochs < all.len() && best + 1 < epochs, "this case shows nothing: {what}");

        for restore in [true, false] {
            let stopping = EarlyStopping::new(patience).monitor(monitor).min_delta(min_delta);
            let stopping = if restore { stopping } else { stopping.restore_best_weights(false) };
            let mut trainer = up_and_down().callback(stopping);
            // The second run begins afresh.
            for _ in 0..2 {
                let mut model = model();
                let valid = validation.then_some(&valid as _);
                let history = trainer.fit(&mut model, &train, valid).unwrap();
                assert_eq!(history.epochs.len(), epochs, "{what}");
                let from = if restore { best } else { epochs - 1 };
                assert_eq!(params(&model), all[from].1, "{what}");
            }
        }
    }
}

/// Nothing stops the run, and still the best epoch is what is left.
#[test]
fn early_stopping_restores_after_the_last_epoch() {
    let (train, recorder) = (data(1, 80), Recorder::new());
    let mut model = model();
    let mut trainer = up_and_down().epochs(5).callback(recorder.clone()).callback(EarlyStopping::new(9));
    let history = trainer.fit(&mut model, &train, None).unwrap();
    let all = recorder.epochs();
    let best = history.best().unwrap().epoch;
    assert_eq!((all.len(), history.epochs.len()), (5, 5));
    assert!((2..5).contains(&best));
    assert_eq!(params(&model), all[best - 1].1);
    // What the model computes follows its parameters.
    let loss = |model: &Model| model.evaluate_with(&train, &CrossEntropy::default()).unwrap().loss();
    let mut copy = self::model();
    copy.params_mut().as_mut_slice().copy_from_slice(&all[best - 1].1);
    assert_eq!(loss(&model), loss(&copy));
}

#[test]
fn checkpoints_of_the_best_and_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (train, valid, recorder) = (data(1, 80), data(2, 40), Recorder::new());
    let mut model = model();
    let history = up_and_down()
        .epochs(8)
        .callback(recorder.clone())
        .callback(Checkpoint::new(path("last")))
        .callback(Checkpoint::new(path("best")).best_only())
        .callback(Checkpoint::new(path("accurate")).best_only().monitor(Monitor::TrainAccuracy))
        .fit(&mut model, &train, Some(&valid))
        .unwrap();
    let all = recorder.epochs();
    let losses: Vec<_> = history.epochs.iter().map(|epoch| epoch.valid.unwrap().loss.unwrap()).collect();
    let accuracies: Vec<_> = history.epochs.iter().map(|epoch| epoch.train.accuracy.unwrap()).collect();
    let best = expected(&losses, false, 0.0, 99).0;
    let accurate = expected(&accuracies, true, 0.0, 99).0;
    assert!(best != 7 && accurate != 7 && best != accurate, "{losses:?} {accuracies:?}");
    for (name, epoch) in [("last", 7), ("best", best), ("accurate", accurate)] {
        let loaded: Model = Model::load(path(name)).unwrap();
        assert_eq!(params(&loaded), all[epoch].1, "{name}");
        model.params_mut().as_mut_slice().copy_from_slice(&all[epoch].1);
        model.save(path("again")).unwrap();
        let read = |name| std::fs::read(path(name)).unwrap();
        assert!(read(name) == read("again"), "{name}: not the bytes of a saved model");
    }
}

/// The numbers of a CSV file under a header, empty ones left out.
fn parse_csv(csv: &str) -> (Vec<String>, Vec<Vec<Option<f64>>>) {
    let mut lines = csv.lines().map(|line| line.split(','));
    let header = lines.next().unwrap().map(String::from).collect();
    let number = |field: &str| (!field.is_empty()).then(|| field.parse().unwrap());
    (header, lines.map(|line| line.map(number).collect()).collect())
}

#[test]
fn logs_hold_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, json) = (folder.path().join("log.csv"), folder.path().join("log.json"));
    let (train, valid) = (data(1, 80), data(2, 40));
    let mut trainer = up_and_down().epochs(3).callback(CsvLog::new(&csv)).callback(JsonLog::new(&json));
    // The second run begins new files.
    for valid in [Some(&valid as _), None] {
        let history = trainer.fit(&mut model(), &train, valid).unwrap();
        assert_eq!(History::load(&json).unwrap(), history);
        let (header, rows) = parse_csv(&std::fs::read_to_string(&csv).unwrap());
        let names =
            ["epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "seconds"];
        assert_eq!(header, names);
        let expected = history.epochs.iter().map(|e| {
            let valid = (e.valid.and_then(|v| v.loss), e.valid.and_then(|v| v.accuracy));
            let (loss, accuracy) = (e.train.loss, e.train.accuracy);
            vec![Some(e.epoch as f64), loss, accuracy, valid.0, valid.1, Some(e.lr), Some(e.seconds)]
        });
        assert_eq!(rows, expected.collect::<Vec<_>>());
        assert_eq!(rows[0][3].is_some(), valid.is_some());
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nothing but the two files is left");
}

/// Ends a run with an error in this epoch.
struct Breaks(usize);

impl Callback<f32> for Breaks {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        if end.epoch.epoch == self.0 { Err(Error::config("breaks", "here")) } else { Ok(Flow::Continue) }
    }
}

#[test]
fn a_run_cut_short_leaves_its_logs() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, json) = (folder.path().join("log.csv"), folder.path().join("log.json"));
    for (breaks, rows) in [(1, 0), (3, 2)] {
        // What comes after the callback that breaks does not see the epoch.
        let trainer =
            up_and_down().callback(Breaks(breaks)).callback(CsvLog::new(&csv)).callback(JsonLog::new(&json));
        let error = { trainer }.fit(&mut model(), &data(1, 80), None).unwrap_err();
        assert_eq!(error.to_string(), "`breaks`: here");
        assert_eq!(parse_csv(&std::fs::read_to_string(&csv).unwrap()).1.len(), rows);
        assert_eq!(History::load(&json).unwrap().epochs.len(), rows);
    }
    // A place that cannot be written to is told before anything is learnt.
    let nowhere = folder.path().join("missing").join("log");
    for name in ["csv", "json"] {
        let path = nowhere.with_extension(name);
        let trainer = up_and_down();
        let trainer = if name == "csv" {
            trainer.callback(CsvLog::new(&path))
        } else {
            trainer.callback(JsonLog::new(&path))
        };
        let (mut model, before) = (model(), params(&model::<f32>()));
        let error = { trainer }.fit(&mut model, &data(1, 80), None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        assert_eq!(params(&model), before);
    }
}

#[test]
fn histories_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.json");
    // Numbers that a sloppy reader gets wrong in the last bit, and one that JSON does not have.
    let epoch = |epoch, loss| {
        let train = Score { loss: Some(loss), accuracy: Some(0.1 + 0.2) };
        Epoch {
            epoch,
            train,
            valid: Some(Score { loss: Some(1.0 / 3.0), accuracy: None }),
            lr: 5e-324,
            seconds: 1e23,
        }
    };
    let losses = (1..2000).map(|i| epoch(i, noise(i, 0) * 2f64.powi(i as i32 % 60 - 30)));
    let history = History { epochs: losses.collect() };
    history.save(&path).unwrap();
    assert_eq!(History::load(&path).unwrap(), history);
    History { epochs: vec![epoch(1, f64::INFINITY)] }.save(&path).unwrap();
    assert!(History::load(&path).unwrap().epochs[0].train.loss.is_none());

    for content in ["", "{", "[]", "{\"epochs\": [{}]}", "{\"epochs\": 1}"] {
        std::fs::write(&path, content).unwrap();
        let error = History::load(&path).unwrap_err().to_string();
        let start = format!("{}: found a history that cannot be read: ", path.display());
        assert!(error.starts_with(&start), "{error}");
    }
    let missing = Path::new("no/such/history.json");
    assert!(History::load(missing).unwrap_err().to_string().starts_with("no/such/history.json: "));

    // The best epoch has a loss: a NaN, of either sign, is none.
    let epochs = [f64::NAN, 2.0, 1.0, -f64::NAN].map(|loss| Epoch { valid: None, ..epoch(1, loss) });
    assert_eq!(History { epochs: epochs.to_vec() }.best().unwrap().train.loss, Some(1.0));
}

#[test]
fn a_closure_is_a_callback() {
    let stop = |epoch: &Epoch| if epoch.epoch == 2 { Flow::Stop } else { Flow::Continue };
    let history = up_and_down().callback(stop).fit(&mut model(), &data(1, 80), None).unwrap();
    assert_eq!(history.epochs.len(), 2);
}

/// The names whose values two models share, to the bit.
fn same<R: Real>(a: &Model<R>, b: &Model<R>) -> Vec<String> {
    let tensors = a.params().iter().zip(b.params().iter());
    tensors.filter(|((_, a), (_, b))| a == b).map(|((name, _), _)| name.to_owned()).collect()
}

#[test]
fn frozen_parameters_stay_to_the_bit() {
    let train = data(1, 80);
    for average in [false, true] {
        let (mut model, before) = (model(), model());
        let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.1).weight_decay(0.1))
            .epochs(3)
            .freeze("lstm.weight_h*")
            .freeze("linear.bias")
            .clip(Clip::Norm(0.1));
        if average {
            trainer = trainer.ema(0.9);
        }
        trainer.fit(&mut model, &train, None).unwrap();
        assert_eq!(same(&model, &before), ["lstm.weight_hh_l0", "linear.bias"]);
        // And to the bit of their sign.
        let bits = |model: &Model| {
            model.params().get("lstm.weight_hh_l0").unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&model), bits(&before));
    }
}

#[test]
fn frozen_gradients_are_left_out_of_the_norm() {
    let (train, model, batch) = (data::<f64>(1, 80), model::<f64>(), Draw::all(0..64));
    let gradients = |trainer: Trainer<f64>| {
        let mut stepper = trainer.stepper(&model, &train).unwrap();
        let report = stepper.gradients(&model, &train, Batch::new(&batch, 1, 0)).unwrap();
        (report.grad_norm, stepper.grads().clone())
    };
    let trainer = || Trainer::new(CrossEntropy::default(), Sgd::new(0.1));
    let (whole, all) = gradients(trainer());
    let linear: f64 =
        ["linear.weight", "linear.bias"].iter().flat_map(|n| all.get(n).unwrap()).map(|g| g * g).sum();
    let (norm, free) = gradients(trainer().freeze("lstm.*"));
    assert!((norm - linear.sqrt()).abs() < 1e-12 && norm < 0.999 * whole, "{norm} of {whole}");
    let max = norm / 2.0;
    let (_, clipped) = gradients(trainer().freeze("lstm.*").clip(Clip::Norm(max)));
    for ((name, clipped), (_, free)) in clipped.iter().zip(free.iter()) {
        assert_eq!(name.starts_with("lstm."), clipped.iter().all(|&g| g == 0.0), "{name}");
        let factor = max / (norm + 1e-6);
        assert!(clipped.iter().zip(free).all(|(c, f)| (c - f * factor).abs() < 1e-15), "{name}");
    }
}

/// One step of SGD by hand: p − lr_scale · lr · g.
#[test]
fn a_group_has_its_factor() {
    let (train, before) = (data::<f64>(1, 64), model::<f64>());
    let mut after = before.clone();
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.5))
        .epochs(1)
        .group("linear.*", Group::new().lr_scale(0.1))
        .group("lstm.bias*", Group::new().lr_scale(0.0))
        .schedule(Constant::new(0.25));
    let history = trainer.fit(&mut after, &train, None).unwrap();
    assert_eq!(history.epochs[0].lr, 0.125);
    let plain = Trainer::new(CrossEntropy::default(), Sgd::new(0.5));
    let mut stepper = plain.stepper(&before, &train).unwrap();
    stepper.gradients(&before, &train, Batch::new(&Draw::all(shuffle(64, 1, 1)), 1, 0)).unwrap();
    for ((name, p), (_, g)) in before.params().iter().zip(stepper.grads().iter()) {
        let lr = match name {
            "linear.weight" | "linear.bias" => 0.1 * 0.125,
            "lstm.bias_ih_l0" | "lstm.bias_hh_l0" => 0.0,
            _ => 0.125,
        };
        let expected: Vec<_> = p.iter().zip(g).map(|(p, g)| p - lr * g).collect();
        let found: Vec<_> = after.params().get(name).unwrap().iter().copied().collect();
        crate::common::assert_close(name, &found, &expected, 1e-15);
    }
}

/// Adam in a trainer whose own rule is SGD with momentum: as if each had its parameters to itself.
#[test]
fn a_group_has_its_optimizer() {
    let (train, mut model) = (data::<f64>(1, 64), model::<f64>());
    let (sgd, adam) = (Sgd::new(0.1).momentum(0.9), Adam::new(0.01).weight_decay(0.1));
    let trainer = Trainer::new(CrossEntropy::default(), sgd.clone())
        .group("lstm.weight_hh_l0", Group::new().optimizer(adam.clone()))
        .group("linear.bias", Group::new().optimizer(adam.clone()).lr_scale(0.5));
    let mut stepper = trainer.stepper(&model, &train).unwrap();
    let mut by_hand: Vec<_> = model
        .params()
        .iter()
        .map(|(name, p)| (name.to_owned(), p.to_vec(), [(); 3].map(|()| vec![0.0; p.len()])))
        .collect();
    for step in 1..=4 {
        // From the second step on by a schedule, which changes the rates of both; then only the trainer's own.
        let mut rates = (0.1, 0.01);
        if step == 2 {
            stepper.follow(&Constant::new(0.5), Clock::new(0, 0));
            rates = (0.05, 0.005);
        } else if step > 2 {
            stepper.set_lr(0.2);
            rates = (0.2, 0.005);
        }
        assert_eq!(stepper.lr(), rates.0);
        let batch = Draw::all(0..64);
        stepper.step(&mut model, &train, Batch::new(&batch, 1, 0)).unwrap();
        for (name, p, moments) in &mut by_hand {
            let g: Vec<_> = stepper.grads().get(name).unwrap().iter().copied().collect();
            let [m, v, w] = moments;
            let rest = &mut [][..];
            let (rule, lr, moments): (&dyn Optimizer<f64>, _, _) = match name.as_str() {
                "lstm.weight_hh_l0" => (&adam, rates.1, [&mut m[..], v, w]),
                "linear.bias" => (&adam, 0.5 * rates.1, [&mut m[..], v, w]),
                _ => (&sgd, rates.0, [&mut m[..], rest, &mut []]),
            };
            rule.update(Update::new(lr, p, &g).step(step).moments(moments));
            let found = model.params().get(name).unwrap();
            assert!(found.iter().eq(p.iter()), "{name}, step {step}");
        }
    }
}

/// How many parameters a rule was handed, and how many of each moment.
type Lengths = (usize, [usize; 3]);

/// Takes note of what it is handed.
#[derive(Clone, Debug, Default)]
struct Probe(Arc<Mutex<Vec<Lengths>>>);

impl Optimizer<f32> for Probe {
    fn lr(&self) -> f64 {
        0.1
    }

    fn moments(&self) -> usize {
        1
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn update(&self, Update { params, moments, .. }: Update<'_, f32>) {
        self.0.lock().unwrap().push((params.len(), moments.map(|moment| moment.len())));
    }
}

/// A rule gets the moments that it keeps, whatever others there are, and neighbours in one piece.
#[test]
fn a_rule_gets_its_own_moments() {
    let (train, probe) = (data(1, 80), Probe::default());
    let trainer = Trainer::new(CrossEntropy::default(), probe.clone())
        .group("linear.bias", Group::new().optimizer(Adam::new(0.1)))
        .freeze("lstm.bias_ih_l0");
    let mut model = model();
    trainer
        .stepper(&model, &train)
        .unwrap()
        .step(&mut model, &train, Batch::new(&Draw::all([1, 2, 3]), 1, 0))
        .unwrap();
    // weight_ih [12, 2] and weight_hh [12, 3]; bias_hh [12] and linear.weight [2, 3]
    assert_eq!(*probe.0.lock().unwrap(), [(60, [60, 0, 0]), (18, [18, 0, 0])]);
}

#[test]
fn patterns_that_match_nothing() {
    let names =
        "lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0, linear.weight, linear.bias";
    let fault = |trainer: Trainer| {
        let (mut model, before) = (model(), model());
        let error = { trainer }.fit(&mut model, &data(1, 80), None).unwrap_err();
        assert_eq!(same(&model, &before).len(), 6);
        error.to_string()
    };
    assert_eq!(
        fault(up_and_down().freeze("lstm2.*")),
        format!("`freeze`: found no parameter for `lstm2.*`, expected one of {names}")
    );
    assert_eq!(
        fault(up_and_down().group("lstm", Group::new())),
        format!("`group`: found no parameter for `lstm`, expected one of {names}")
    );
    assert_eq!(fault(up_and_down().ema(1.5)), "`ema`: found 1.5, expected a number from 0 to 1");
    assert!(fault(up_and_down().ema(f64::NAN)).starts_with("`ema`: found NaN"));
}

#[test]
fn averages_are_those_by_hand() {
    let (train, valid) = (data::<f64>(1, 80), data::<f64>(2, 40));
    let (decay, epochs) = (0.7, 3);
    let trainer =
        || Trainer::new(CrossEntropy::default(), Adam::new(0.03)).epochs(epochs).batch_size(32).seed(5);

    // Step by step, without averages; 80 samples are 3 steps.
    let (mut raw, mut average, mut at_epochs) = (model::<f64>(), Vec::new(), Vec::new());
    let plain = trainer();
    let mut stepper = plain.stepper(&raw, &train).unwrap();
    for epoch in 1..=epochs {
        let order = Draw::all(shuffle(80, 5, epoch as u64));
        for (i, batch) in order.chunks(32).enumerate() {
            stepper.step(&mut raw, &train, Batch::new(batch, epoch, 32 * i)).unwrap();
            let p = params(&raw);
            average = if average.is_empty() {
                p
            } else {
                average.iter().zip(&p).map(|(a, p)| decay * a + (1.0 - decay) * p).collect()
            };
        }
        at_epochs.push(average.clone());
    }
    let unaveraged = trainer().fit(&mut model(), &train, Some(&valid)).unwrap();

    let (mut model, recorder) = (model::<f64>(), Recorder::new());
    let history =
        trainer().ema(decay).callback(recorder.clone()).fit(&mut model, &train, Some(&valid)).unwrap();
    // Callbacks see the averages, and the model ends as the last of them.
    let seen = recorder.epochs();
    for ((_, seen), by_hand) in seen.iter().zip(&at_epochs) {
        crate::common::assert_close("average", seen, by_hand, 1e-14);
    }
    assert_eq!((params(&model), seen.len()), (seen[2].1.clone(), 3));
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(distance(&params(&model), &params(&raw)) > 1e-3);
    for (with, without) in history.epochs.iter().zip(&unaveraged.epochs) {
        // Training goes on from the raw parameters; validation is of the averages.
        assert_eq!(with.train, without.train);
        assert_ne!(with.valid, without.valid);
    }
    let evaluation = model.evaluate_with(&valid, &CrossEntropy::default()).unwrap();
    assert_eq!(evaluation.loss(), history.epochs[2].valid.unwrap().loss);
}

/// In loops of one's own, too; and there and back again.
#[test]
fn averages_are_swapped() {
    let (train, mut model) = (data::<f32>(1, 80), model::<f32>());
    let trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.5)).ema(0.5);
    let mut stepper = trainer.stepper(&model, &train).unwrap();
    let first = params(&model);
    stepper.swap_average(&mut model);
    assert_eq!(params(&model), first, "there are no averages before the first step");
    let batch = Draw::all(0..64);
    stepper.step(&mut model, &train, Batch::new(&batch, 1, 0)).unwrap();
    let second = params(&model);
    stepper.swap_average(&mut model);
    assert_eq!(params(&model), second, "the first average is a copy");
    stepper.swap_average(&mut model);
    stepper.step(&mut model, &train, Batch::new(&batch, 1, 0)).unwrap();
    let third = params(&model);
    stepper.swap_average(&mut model);
    let half: Vec<_> = second.iter().zip(&third).map(|(a, p)| a + 0.5 * (p - a)).collect();
    assert_eq!(params(&model), half);
    stepper.swap_average(&mut model);
    assert_eq!(params(&model), third);
}

/// The best epoch of a run with averages is the best average.
#[test]
fn early_stopping_restores_averages() {
    let (train, valid, recorder) = (data(1, 80), data(2, 40), Recorder::new());
    let mut model = model();
    let mut trainer = up_and_down().ema(0.8).callback(recorder.clone()).callback(EarlyStopping::new(2));
    let history = trainer.fit(&mut model, &train, Some(&valid)).unwrap();
    let best = history.best().unwrap();
    assert!((2..12).contains(&history.epochs.len()) && best.epoch < history.epochs.len());
    assert_eq!(params(&model), recorder.epochs()[best.epoch - 1].1);
    let evaluation = model.evaluate_with(&valid, &CrossEntropy::default()).unwrap();
    assert_eq!(evaluation.loss(), best.valid.unwrap().loss);
}

#[test]
fn clipping_is_pytorchs() {
    for (name, clips) in [("clip_grad_norm", true), ("clip_grad_norm_under", false)] {
        let fixture = Fixture::open(name);
        let all =
            |what: &str| (0..3).flat_map(|i| fixture.values(&format!("{what}.{i}"))).collect::<Vec<_>>();
        let (before, mut grads, expected) = (all("grad"), all("grad"), all("clipped"));
        let norm = fixture.values("norm")[0];
        let found = grads.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((found - norm).abs() <= 1e-14 * norm, "{found} {norm}");
        Clip::Norm(fixture.values("max_norm")[0]).apply(&mut grads, found);
        crate::common::assert_close(name, &grads, &expected, 1e-15);
        assert_eq!(before != grads, clips, "{name}");

        // By value: clamp, as PyTorch's definition has it.
        let mut grads = before.clone();
        Clip::Value(0.5).apply(&mut grads, norm);
        assert_eq!(grads, before.iter().map(|g| g.clamp(-0.5, 0.5)).collect::<Vec<_>>());
        assert!(grads.contains(&0.5) && grads.contains(&-0.5) && grads.iter().any(|g| g.abs() < 0.5));
    }
}

/// The trainer clips the gradient of the whole model, before the optimizer sees it.
#[test]
fn a_trainer_clips() {
    let (train, before) = (data::<f64>(1, 64), model::<f64>());
    let gradients = |clip| {
        let trainer = Trainer::new(CrossEntropy::default(), Sgd::new(1.0)).clip(clip);
        let mut stepper = trainer.stepper(&before, &train).unwrap();
        let mut after = before.clone();
        let batch = Draw::all(0..64);
        let report = stepper.step(&mut after, &train, Batch::new(&batch, 1, 0)).unwrap();
        let moved: Vec<_> = params(&before).iter().zip(params(&after)).map(|(b, a)| b - a).collect();
        crate::common::assert_close("a step of rate 1", &moved, stepper.grads().as_slice(), 1e-15);
        (report.grad_norm, stepper.grads().as_slice().to_vec())
    };
    let (norm, free) = gradients(Clip::None);
    let (reported, by_norm) = gradients(Clip::Norm(norm / 3.0));
    assert_eq!(reported, norm);
    let factor = norm / 3.0 / (norm + 1e-6);
    crate::common::assert_close(
        "norm",
        &by_norm,
        &free.iter().map(|g| factor * g).collect::<Vec<_>>(),
        1e-15,
    );
    let max = free.iter().fold(0.0f64, |max, g| max.max(g.abs())) / 2.0;
    let (_, by_value) = gradients(Clip::Value(max));
    assert_eq!(by_value, free.iter().map(|g| g.clamp(-max, max)).collect::<Vec<_>>());
}

/// Rates that are right for three epochs, and far too large from then on.
#[derive(Debug)]
struct Explodes;

impl Schedule for Explodes {
    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        if clock.done < 3 { base } else { 1e300 }
    }
}

/// After an error the model has the parameters of the last good step, never their averages; but callbacks are asked to
/// end, so that early stopping restores the best epoch.
#[test]
fn what_an_error_leaves_behind() {
    let train = data(1, 80);
    let mut raw = model();
    up_and_down().epochs(3).fit(&mut raw, &train, None).unwrap();
    let mut failed = model();
    let error = up_and_down().ema(0.8).callback(Breaks(3)).fit(&mut failed, &train, None).unwrap_err();
    assert_eq!((error.to_string(), params(&failed)), ("`breaks`: here".into(), params(&raw)));

    // A panic leaves no averages either.
    let panics = |epoch: &Epoch| if epoch.epoch == 3 { panic!("here") } else { Flow::Continue };
    let mut failed = model();
    let mut trainer = up_and_down().ema(0.8).callback(panics);
    let run = std::panic::AssertUnwindSafe(|| drop(trainer.fit(&mut failed, &train, None)));
    assert!(std::panic::catch_unwind(run).is_err());
    assert_eq!(params(&failed), params(&raw));

    let recorder = Recorder::new();
    let stopping = || EarlyStopping::new(99).monitor(Monitor::TrainLoss);
    let fails = |trainer: Trainer| {
        let mut model = model();
        let mut trainer =
            trainer.ema(0.8).callback(recorder.clone()).callback(stopping()).callback(Breaks(9));
        let error = trainer.fit(&mut model, &train, None).unwrap_err();
        let all = recorder.epochs();
        let loss = |(epoch, _): &&(Epoch, Vec<f32>)| epoch.train.loss.unwrap();
        let best = all.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
        assert_eq!(params(&model), best.1, "{error}");
        error
    };
    assert!(matches!(fails(up_and_down()), Error::Config { .. }));
    assert!(matches!(fails(up_and_down().schedule(Explodes)), Error::NonFinite { .. }));
}

/// Where no target counts there is no loss, and nothing takes its absence for the best there is.
#[test]
fn a_loss_of_no_targets_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    // All of a class that the loss ignores.
    let loss = || CrossEntropy::default().ignore_index(0);
    let none = |n: usize| {
        let x = Array3::from_elem((n, 3, 2), 0.5f32);
        Arrays::classes(x, &Array1::<usize>::zeros(n), ["falls", "rises"]).unwrap()
    };
    let best = folder.path().join("best");
    let mut model = model();
    let history = Trainer::new(loss(), Adam::new(0.03))
        .epochs(4)
        .schedule(bptt::train::schedule::ReduceOnPlateau::new().patience(0))
        .callback(EarlyStopping::new(1))
        .callback(Checkpoint::new(&best).best_only())
        .callback(JsonLog::new(folder.path().join("log")))
        .fit(&mut model, &data(1, 80), Some(&none(5)))
        .unwrap();
    assert_eq!(history.epochs.len(), 4, "early stopping took no loss for no improvement");
    for epoch in &history.epochs {
        assert_eq!(epoch.valid, Some(Score { loss: None, accuracy: None }));
        assert_eq!(Monitor::ValidLoss.of(epoch), None);
        assert!((epoch.lr, epoch.train.loss.is_some()) == (0.03, true));
    }
    assert_eq!(history.best(), None);
    assert!(!best.exists());
    assert_eq!(History::load(folder.path().join("log")).unwrap(), history);
    assert!(history.to_csv().lines().nth(1).unwrap().contains(",,,0.03,"));
    // A step without targets moves nothing.
    let before = params(&model);
    let history = Trainer::new(loss(), Sgd::new(0.5)).epochs(1).fit(&mut model, &none(9), None);
    assert_eq!((history.unwrap().epochs[0].train.loss, params(&model)), (None, before));
}
