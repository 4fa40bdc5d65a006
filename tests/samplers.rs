//! What an epoch draws, seen through training: balance, weights, losses that come back, and runs that go on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use bptt::data::{
    Arrays, Balanced, Batch, Dataset, Draw, Population, Sampler, SequentialStreams, Shuffled, WeightedRandom,
};
use bptt::loss::{CrossEntropy, Mse};
use bptt::nn::{Linear, Lstm};
use bptt::optim::{Adam, Sgd};
use bptt::train::schedule::{Clock, OneCycle, Unit};
use bptt::train::{Callback, Progress, Schedule};
use bptt::{Error, Init, Model, Result, Trainer, rng};
use ndarray::{Array1, Array3};

/// `n` sequences, of which every tenth is of the second class.
fn data(n: usize) -> Arrays {
    let mut values = vec![0.0; n * 4 * 2];
    Init::Uniform(1.0).fill(&mut values, rng::key(&[n as u64]));
    let x = Array3::from_shape_vec((n, 4, 2), values).unwrap();
    Arrays::classes(x, &Array1::from_shape_fn(n, |i| usize::from(i % 10 == 0)), ["many", "few"]).unwrap()
}

fn model(data: &Arrays) -> Model {
    let lstm = Lstm::new(4).last();
    Model::builder(data.shape()).layer("lstm", lstm).layer("linear", Linear::new(2)).build(1).unwrap()
}

fn trainer() -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(4).batch_size(16).tile(4).seed(3)
}

/// What each epoch of a sampler draws.
fn draws(mut sampler: impl Sampler, population: &Population, epochs: usize) -> Vec<Vec<Draw>> {
    sampler.start(population).unwrap();
    (1..=epochs)
        .map(|epoch| {
            let mut draws = Vec::new();
            sampler.draw(epoch, &mut draws).unwrap();
            if let Some(expected) = sampler.draws() {
                assert_eq!(draws.len(), expected);
            }
            draws
        })
        .collect()
}

#[test]
fn the_default_is_shuffled_and_streams_are_sequential() {
    let data = data(90);
    let fit = |mut trainer: Trainer| {
        let mut model = model(&data);
        trainer.fit(&mut model, &data, None).unwrap();
        model.params().as_slice().to_vec()
    };
    assert_eq!(fit(trainer()), fit(trainer().sampler(Shuffled::new())));
    assert_eq!(fit(trainer().stateful()), fit(trainer().stateful().sampler(SequentialStreams::new())));
    // In order, but with no state carried.
    assert_ne!(fit(trainer().sampler(SequentialStreams::new())), fit(trainer().stateful()));
    let error =
        trainer().stateful().sampler(Shuffled::new()).fit(&mut model(&data), &data, None).unwrap_err();
    assert!(error.to_string().starts_with("`sampler`: found Shuffled"), "{error}");
}

#[test]
fn balanced_draws() {
    let classes: Vec<i64> = (0..100).map(|i| [0, 1, 2, -1][[0, 0, 0, 0, 0, 0, 1, 1, 2, 3][i % 10]]).collect();
    for (sampler, all) in
        [(Balanced::new(), 90), (Balanced::new().draws(31), 31), (Balanced::new().draws(2), 2)]
    {
        for draws in draws(sampler, &Population::new(100, 7).seed(5).classes(classes.clone()), 3) {
            assert_eq!(draws.len(), all);
            let count = |class| draws.iter().filter(|d| classes[d.index as usize] == class).count();
            let counts = [0, 1, 2].map(count);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            // Within a class, samples are drawn equally often.
            let of = |i: usize| draws.iter().filter(|d| d.index as usize == i).count();
            let few: Vec<usize> = (0..100).filter(|&i| classes[i] == 2).map(of).collect();
            assert!(few.iter().max().unwrap() - few.iter().min().unwrap() <= 1, "{few:?}");
        }
    }
    let epochs = draws(Balanced::new(), &Population::new(100, 7).classes(classes.clone()), 2);
    assert_ne!(epochs[0], epochs[1]);
    // The classes come mixed, not one after another.
    let first: Vec<i64> = epochs[0][..30].iter().map(|d| classes[d.index as usize]).collect();
    assert!([0, 1, 2].iter().all(|class| first.contains(class)), "{first:?}");
    let none = Balanced::new().start(&Population::new(2, 1).classes([-1, -100])).unwrap_err().to_string();
    assert_eq!(none, "balanced sampler: found no sample that has a class, expected at least one");
}

#[test]
fn balance_finds_the_few() {
    let data = data(400);
    // Nothing tells the classes apart, so what is predicted is what was drawn more often.
    let share = |mut trainer: Trainer| {
        let mut model = model(&data);
        trainer.fit(&mut model, &data, None).unwrap();
        model.predict_proba(&data).unwrap().index_axis(ndarray::Axis(2), 1).mean().unwrap()
    };
    let (shuffled, balanced) = (share(trainer()), share(trainer().sampler(Balanced::new())));
    assert!(shuffled < 0.2 && (0.4..0.6).contains(&balanced), "{shuffled} {balanced}");
}

#[test]
fn values_have_no_classes_to_balance() {
    let data = Arrays::values(Array3::<f32>::ones((8, 2, 1)), Array3::ones((8, 1, 1))).unwrap();
    let mut model = Model::builder(data.shape()).layer("lstm", Lstm::new(1).last()).build(1).unwrap();
    let mut trainer = Trainer::new(Mse, Sgd::new(0.1)).sampler(Balanced::new());
    let error = trainer.fit(&mut model, &data, None).unwrap_err().to_string();
    assert!(error.starts_with("sampler: found targets Values"), "{error}");
}

#[test]
fn weights_decide_how_often() {
    let weights = [0.0, 1.0, 2.0, 0.5, 0.0, 6.5, 0.0];
    let n = 20_000;
    let draws = draws(WeightedRandom::new(weights).draws(n), &Population::new(7, 10).seed(2), 1).remove(0);
    for (i, weight) in weights.into_iter().enumerate() {
        let count = draws.iter().filter(|d| d.index as usize == i).count() as f64;
        let (mean, sd) =
            (n as f64 * weight / 10.0, (n as f64 * weight / 10.0 * (1.0 - weight / 10.0)).sqrt());
        assert!((count - mean).abs() <= 5.0 * sd, "{i}: {count}, expected {mean}");
    }
    let refused =
        |sampler: WeightedRandom| sampler.clone().start(&Population::new(2, 1)).unwrap_err().to_string();
    let few = refused(WeightedRandom::new([1.0]));
    assert_eq!(few, "weighted sampler: found 1 weights, expected one for each of 2 samples");
    assert!(refused(WeightedRandom::new([1.0, f64::NAN])).starts_with("`weights`: found NaN"));
    assert!(refused(WeightedRandom::new([1.0, -1.0])).starts_with("`weights`: found -1"));
    assert!(refused(WeightedRandom::new([0.0, 0.0])).starts_with("`weights`: found a sum of 0"));
    assert!(refused(WeightedRandom::new([1.0, 1.0]).draws(0)).starts_with("`draws`: found 0"));
}

/// A draw's weight is a factor for its loss and gradient, and no part of the denominator.
#[test]
fn a_weight_is_a_factor() {
    let data = data(12);
    let model = model(&data);
    let trainer = trainer();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    stepper.keep_losses();
    let mut gradient = |draws: &[Draw]| {
        let report = stepper.gradients(&model, &data, Batch::new(draws, 1, 0)).unwrap();
        let losses: Vec<f64> = stepper.losses().iter().map(|loss| loss.unwrap()).collect();
        (report.tally, stepper.grads().as_slice().to_vec(), losses)
    };
    let (one, g_one, loss_one) = gradient(&Draw::all([3]));
    let (other, g_other, loss_other) = gradient(&Draw::all([10]));
    let (both, g_both, losses) = gradient(&[Draw::new(3).weight(2.0), Draw::new(10).weight(0.5)]);
    assert!((both.loss - (2.0 * one.loss + 0.5 * other.loss)).abs() < 1e-6);
    assert_eq!(both.weight, 2.0);
    assert_eq!(losses, [loss_one[0], loss_other[0]]);
    for ((both, a), b) in g_both.iter().zip(g_one).zip(g_other) {
        assert!((both - (2.0 * a + 0.5 * b) / 2.0).abs() < 1e-6);
    }
    let (none, g_none, _) = gradient(&[Draw::new(3).weight(0.0)]);
    assert!(none.loss == 0.0 && g_none.iter().all(|&g| g == 0.0));
}

/// The hardest samples, ever fewer, weighted for it; keeps what it saw, and writes down what it drew.
#[derive(Clone, Debug, Default)]
struct Hardest {
    losses: Vec<f64>,
    drawn: Arc<Mutex<Vec<Vec<u32>>>>,
}

impl Sampler for Hardest {
    fn start(&mut self, population: &Population) -> Result<()> {
        self.losses = vec![100.0; population.len];
        Ok(())
    }
    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let mut order: Vec<u32> = (0..self.losses.len() as u32).collect();
        order.sort_by(|&a, &b| self.losses[b as usize].total_cmp(&self.losses[a as usize]));
        order.truncate(order.len() * 2 / (epoch + 1));
        self.drawn.lock().unwrap().push(order.clone());
        draws.extend(order.into_iter().map(|i| Draw::new(i).weight((epoch + 1) as f64 / 2.0)));
        Ok(())
    }
    fn observes(&self) -> bool {
        true
    }
    fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        assert_eq!(batch.len(), losses.len());
        batch.indices().zip(losses).for_each(|(i, loss)| self.losses[i as usize] = loss.unwrap());
    }
    fn save_state(&self) -> Option<serde_json::Value> {
        Some(self.losses.clone().into())
    }
    fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
        self.losses = serde_json::from_value(state).map_err(|e| Error::config("hardest", e.to_string()))?;
        Ok(())
    }
}

struct PanicAt(usize);

impl Callback<f32> for PanicAt {
    fn on_step(&mut self, at: &Progress) {
        if at.epoch * 100 + at.step == self.0 {
            resume_unwind(Box::new("stopped"));
        }
    }
}

#[test]
fn what_a_sampler_sees_comes_back() {
    let data = data(120);
    let one_cycle = || OneCycle::new(0.05);
    let run = |threads: usize| {
        let (sampler, mut model) = (Hardest::default(), model(&data));
        let mut trainer = trainer().threads(threads).sampler(sampler.clone()).schedule(one_cycle());
        let history = trainer.fit(&mut model, &data, None).unwrap();
        let rates: Vec<_> = history.epochs.iter().map(|epoch| (epoch.lr, epoch.train.loss)).collect();
        let drawn = std::mem::take(&mut *sampler.drawn.lock().unwrap());
        (model.params().as_slice().to_vec(), rates, drawn)
    };
    let expected = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == expected));
    let sizes: Vec<_> = expected.2.iter().map(Vec::len).collect();
    assert_eq!(sizes, [120, 80, 60, 48]);
    assert!(
        expected.1[3].0 < 1e-6,
        "the last rate is the cycle's, though epochs grow shorter: {:?}",
        expected.1
    );

    // Stopped anywhere, within epochs and between, and resumed.
    for stop in [101, 103, 108, 201, 202, 205, 301, 304, 401, 402, 403] {
        let folder = tempfile::tempdir().unwrap();
        let with_file = || {
            let path = folder.path().join("run");
            let trainer = trainer().sampler(Hardest::default()).schedule(one_cycle());
            trainer.run_file(path).run_file_every(1 + stop % 2).resume(true)
        };
        let mut first = with_file().callback(PanicAt(stop));
        let stopped = catch_unwind(AssertUnwindSafe(|| drop(first.fit(&mut model(&data), &data, None))));
        assert!(stopped.is_err(), "{stop}");
        let mut model = model(&data);
        let history = with_file().fit(&mut model, &data, None).unwrap();
        let rates: Vec<_> = history.epochs.iter().map(|epoch| (epoch.lr, epoch.train.loss)).collect();
        assert!(model.params().as_slice() == expected.0 && rates == expected.1, "stopped at {stop}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    trainer().epochs(1).run_file(&path).fit(&mut model(&data), &data, None).unwrap();
    let mut other = trainer().sampler(Balanced::new()).run_file(&path).resume(true);
    let error = other.fit(&mut model(&data), &data, None).unwrap_err().to_string();
    assert!(error.contains("`sampler`: ") && error.contains("found Shuffled, expected Balanced"), "{error}");
}

/// The share of the run that is done, of steps in epochs that differ in length.
#[test]
fn fractions_of_a_run() {
    #[derive(Debug)]
    struct Note(Arc<Mutex<Vec<(usize, f64)>>>);
    impl Schedule for Note {
        fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
            self.0.lock().unwrap().push((clock.done, clock.fraction));
            base
        }
        fn unit(&self) -> Unit {
            Unit::Step
        }
    }
    let (data, notes) = (data(120), Arc::default());
    let mut trainer = trainer().epochs(2).sampler(Hardest::default()).schedule(Note(Arc::clone(&notes)));
    trainer.fit(&mut model(&data), &data, None).unwrap();
    let mut notes = std::mem::take(&mut *notes.lock().unwrap());
    // The trainer asks for itself and for each optimizer.
    notes.dedup();
    // Eight steps of 16 draws, then five.
    let expected = (0..8).map(|i| (i, i as f64 / 16.0)).chain((0..5).map(|i| (8 + i, (5 + i) as f64 / 10.0)));
    assert_eq!(notes, expected.collect::<Vec<_>>());
}
