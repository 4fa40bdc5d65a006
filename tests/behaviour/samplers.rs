//! What an epoch draws, seen through training: balance, weights, losses that come back, and runs that go on; and the
//! dynamics of a training.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use bptt::data::{
    Arrays, Balanced, Batch, Batches, Dataset, Draw, HardestShare, InfoBatch, Population, RandomShare,
    Sampler, SequentialStreams, Shuffled, WeightedRandom,
};
use bptt::loss::{CrossEntropy, Mse};
use bptt::nn::{Linear, Lstm};
use bptt::optim::{Adam, Sgd};
use bptt::prune::Units;
use bptt::train::schedule::{Clock, OneCycle, Unit};
use bptt::train::{Callback, Dynamics, Progress, RecordDynamics, Schedule};
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

/// Stops a run anywhere, within epochs and between, and resumes it from its file: the model and the history, but for its
/// clock, are those of a run that was not stopped.
fn comes_back<S: Sampler + 'static>(sampler: impl Fn() -> S) {
    let data = data(120);
    let left = |trainer: Trainer| {
        let mut model = model(&data);
        let history = { trainer }.fit(&mut model, &data, None).unwrap();
        let rates: Vec<_> = history.epochs.iter().map(|epoch| (epoch.lr, epoch.train.loss)).collect();
        (model.params().as_slice().to_vec(), rates)
    };
    let new = || trainer().sampler(sampler()).schedule(OneCycle::new(0.05));
    let expected = left(new().threads(1));
    assert!([2, 3].into_iter().all(|threads| left(new().threads(threads)) == expected));
    for stop in [101, 103, 108, 201, 202, 205, 301, 304, 401, 402, 403] {
        let folder = tempfile::tempdir().unwrap();
        let with_file =
            || new().run_file(folder.path().join("run")).run_file_every(1 + stop % 2).resume(true);
        let mut first = with_file().callback(PanicAt(stop));
        // An epoch may have fewer steps than this.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(first.fit(&mut model(&data), &data, None))));
        assert!(left(with_file()) == expected, "{:?} stopped at {stop}", sampler());
    }
}

#[test]
fn choices_come_back() {
    comes_back(InfoBatch::new);
    comes_back(|| HardestShare::new(0.5));
    comes_back(|| RandomShare::new(0.5));
}

/// The draws of one epoch, given the losses of all samples before it.
fn next(mut sampler: impl Sampler, epoch: usize, losses: &[f64]) -> Vec<Draw> {
    let n = losses.len();
    sampler.start(&Population::new(n, 10).seed(4).epochs(20)).unwrap();
    let all = Draw::all(0..n as u32);
    sampler.observe(Batch::new(&all, 1, 0), &losses.iter().copied().map(Some).collect::<Vec<_>>());
    let mut draws = Vec::new();
    sampler.draw(epoch, &mut draws).unwrap();
    draws
}

/// Losses of which a sixth is above the mean.
fn losses(n: usize) -> Vec<f64> {
    (0..n).map(|i| if i % 6 == 2 { 3.0 + i as f64 / n as f64 } else { (i % 7) as f64 / 10.0 }).collect()
}

#[test]
fn learned_samples_are_drawn_less_often() {
    let n = 90;
    let losses = losses(n);
    let mean = losses.iter().sum::<f64>() / n as f64;
    let learned = |draw: &Draw| losses[draw.index as usize] < mean;
    let mut times = vec![0; n];
    for epoch in 2..=18 {
        let draws = next(InfoBatch::new().ratio(0.75), epoch, &losses);
        let (few, all): (Vec<Draw>, Vec<Draw>) = draws.iter().partition(|draw| learned(draw));
        // 75 are below the mean, and a quarter of them is 18.75.
        assert_eq!((few.len(), all.len()), (18, 15));
        assert!(few.iter().all(|draw| draw.weight == 4.0) && all.iter().all(|draw| draw.weight == 1.0));
        assert!(!draws.is_sorted_by_key(|draw| draw.index), "the draws are shuffled");
        draws.iter().for_each(|draw| times[draw.index as usize] += 1);
    }
    assert!(times.iter().zip(&losses).all(|(&times, &loss)| (times == 17) == (loss >= mean)));
    // A quarter of 75 samples in each of 17 epochs: 75 · 0.75¹⁷ = 0.6 are left out of all.
    assert!(times.iter().filter(|&&times| times == 0).count() <= 5, "{times:?}");
    // δ · 20 = 17.5 epochs choose, which makes 18; before the first, no loss is known.
    for draws in [
        next(InfoBatch::new(), 19, &losses),
        next(InfoBatch::new(), 20, &losses),
        next(InfoBatch::new().ratio(0.0), 5, &losses),
        next(InfoBatch::new(), 5, &[0.5; 90]),
        draws(InfoBatch::new(), &Population::new(n, 10).epochs(20), 1).remove(0),
    ] {
        let mut all = draws;
        all.sort_by_key(|draw| draw.index);
        assert_eq!(all, Draw::all(0..90));
    }
    // The weights of an epoch sum to about the samples.
    let sum: f64 = next(InfoBatch::new(), 3, &losses).iter().map(|draw| draw.weight).sum();
    assert_eq!(sum, 2.0 * 37.0 + 15.0);
}

#[test]
fn the_hardest_share_is_by_loss() {
    let losses = losses(90);
    let indices = |sampler: HardestShare, epoch: usize, losses: &[f64]| {
        let draws = next(sampler, epoch, losses);
        assert!(draws.iter().all(|draw| draw.weight == 1.0) && !draws.is_sorted_by_key(|draw| draw.index));
        let mut indices: Vec<usize> = draws.iter().map(|draw| draw.index as usize).collect();
        indices.sort_unstable();
        indices
    };
    let mut order: Vec<usize> = (0..90).collect();
    order.sort_by(|&a, &b| losses[b].total_cmp(&losses[a]).then(b.cmp(&a)));
    let mut expected = order[..36].to_vec();
    expected.sort_unstable();
    assert_eq!(indices(HardestShare::new(0.4), 2, &losses), expected);
    assert_eq!(indices(HardestShare::new(0.4), 18, &losses), expected);
    let all: Vec<usize> = (0..90).collect();
    assert_eq!(indices(HardestShare::new(0.4), 1, &losses), all);
    assert_eq!(indices(HardestShare::new(0.4), 19, &losses), all);
    assert_eq!(indices(HardestShare::new(0.4).delta(0.5), 11, &losses), all);
    assert_eq!(indices(HardestShare::new(0.4).delta(0.5), 10, &losses), expected);
    assert_eq!(indices(HardestShare::new(1.0), 7, &losses), all);
    assert_eq!(indices(HardestShare::new(0.5), 7, &[1.0; 90]), (45..90).collect::<Vec<_>>());
}

#[test]
fn fresh_shares_go_through_all() {
    let population = Population::new(50, 8).seed(6);
    let all = draws(Shuffled::new(), &population, 4);
    assert_eq!(draws(RandomShare::new(1.0), &population, 4), all);
    // Three fifths: five epochs are three passes.
    let shares = draws(RandomShare::new(0.6), &population, 5);
    assert!(shares.iter().all(|draws| draws.len() == 30));
    assert_eq!(shares.concat(), all[..3].concat());
    // Each epoch can be drawn by itself.
    let mut sampler = RandomShare::new(0.6);
    sampler.start(&population).unwrap();
    let mut fourth = Vec::new();
    sampler.draw(4, &mut fourth).unwrap();
    assert_eq!(fourth, shares[3]);
    assert_eq!(Batches::of(RandomShare::new(0.6), &population).unwrap().steps(), Some(4));
}

#[test]
fn choices_that_cannot_be() {
    let known = Population::new(10, 2).epochs(8);
    let fault = |mut sampler: Box<dyn Sampler>, population: &Population| {
        sampler.start(population).unwrap_err().to_string()
    };
    for share in [0.0, 1.5, f64::NAN] {
        let faults = [
            fault(Box::new(RandomShare::new(share)), &known),
            fault(Box::new(HardestShare::new(share)), &known),
        ];
        assert!(
            faults.iter().all(|fault| fault.starts_with(&format!("`share`: found {share}"))),
            "{faults:?}"
        );
    }
    for bad in [-0.5, 1.0, f64::NAN] {
        let fault = fault(Box::new(InfoBatch::new().ratio(bad)), &known);
        assert!(fault.starts_with(&format!("`ratio`: found {bad}")), "{fault}");
    }
    for bad in [-0.5, 1.5, f64::NAN] {
        let faults = [
            fault(Box::new(InfoBatch::new().delta(bad)), &known),
            fault(Box::new(HardestShare::new(0.5).delta(bad)), &known),
        ];
        assert!(faults.iter().all(|fault| fault.starts_with(&format!("`delta`: found {bad}"))), "{faults:?}");
    }
    let unknown = Population::new(10, 2);
    let epochs = fault(Box::new(InfoBatch::new()), &unknown);
    assert!(epochs.starts_with("`population`: found no number of epochs"), "{epochs}");
    InfoBatch::new().delta(1.0).start(&unknown).unwrap();

    let mut sampler = InfoBatch::new();
    sampler.start(&known).unwrap();
    let mut fault = |state: serde_json::Value| sampler.load_state(state).unwrap_err().to_string();
    assert!(fault("x".into()).starts_with("`sampler`: found a state of something else"));
    assert_eq!(fault([0_u32; 3].as_slice().into()), "`sampler`: found losses of 3 samples, expected 10");
    let nan = fault([f32::NAN.to_bits(); 10].as_slice().into());
    assert_eq!(nan, "`sampler`: found NaN as the loss of sample 0, expected a number");
}

/// The parameters after a run, and its dynamics.
fn recorded(trainer: Trainer) -> (Vec<f32>, Dynamics) {
    let (data, recorder) = (data(120), RecordDynamics::new());
    let mut model = model(&data);
    trainer.callback(recorder.clone()).fit(&mut model, &data, None).unwrap();
    (model.params().as_slice().to_vec(), recorder.dynamics())
}

/// What is recorded is what the model says of each batch just before its step.
#[test]
fn dynamics_are_what_the_steps_saw() {
    let data = data(120);
    let mut expected = model(&data);
    let (params, dynamics) = recorded(trainer().sampler(RandomShare::new(0.5)).threads(1));
    trainer().sampler(RandomShare::new(0.5)).fit(&mut expected, &data, None).unwrap();
    assert_eq!(params, expected.params().as_slice(), "recording changes nothing");
    for threads in [2, 3] {
        let again = recorded(trainer().sampler(RandomShare::new(0.5)).threads(threads)).1;
        let bits = |dynamics: &Dynamics| format!("{dynamics:?}");
        assert_eq!(bits(&again), bits(&dynamics));
    }

    let mut model = model(&data);
    let trainer = trainer();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    let population = Population::new(120, 16).seed(3);
    let mut batches = Batches::of(RandomShare::new(0.5), &population).unwrap();
    assert_eq!((dynamics.samples(), dynamics.epochs()), (120, 4));
    let mut recorded = 0;
    for epoch in 1..=4 {
        for batch in batches.epoch(epoch).unwrap() {
            let p = model.predict_proba(&data).unwrap();
            let losses = model.sample_losses(&data, &CrossEntropy::default()).unwrap();
            for index in batch.indices().map(|index| index as usize) {
                let class = usize::from(index % 10 == 0);
                let [own, other] = [class, 1 - class].map(|class| f64::from(p[[index, 0, class]]));
                let expected = [losses[index], own, own - other, 2f64.sqrt() * other];
                let found = dynamics.outcome(index, epoch).unwrap();
                let found = [found.loss, found.probability, found.margin, found.error];
                for (found, expected) in found.into_iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-6, "sample {index}: {found}, expected {expected}");
                }
                recorded += 1;
            }
            stepper.step(&mut model, &data, batch).unwrap();
        }
    }
    let all = (0..120).flat_map(|sample| (1..=4).map(move |epoch| (sample, epoch)));
    assert_eq!(all.filter(|&(sample, epoch)| dynamics.outcome(sample, epoch).is_some()).count(), recorded);
    assert_eq!(recorded, 4 * 60);
}

#[test]
fn dynamics_come_back() {
    let data = data(120);
    let expected = recorded(trainer());
    for stop in [101, 103, 108, 201, 205, 304, 401, 403] {
        let folder = tempfile::tempdir().unwrap();
        let with_file =
            || trainer().run_file(folder.path().join("run")).run_file_every(1 + stop % 2).resume(true);
        let mut first = with_file().callback(PanicAt(stop)).callback(RecordDynamics::new());
        let stopped = catch_unwind(AssertUnwindSafe(|| drop(first.fit(&mut model(&data), &data, None))));
        assert!(stopped.is_err(), "{stop}");
        assert!(recorded(with_file()) == expected, "stopped at {stop}");
    }
    // To the file, and back; the next run begins a new record.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dynamics.safetensors");
    let recorder = RecordDynamics::new().file(&path);
    let mut trainer = trainer().callback(recorder.clone());
    for _ in 0..2 {
        trainer.fit(&mut model(&data), &data, None).unwrap();
        assert_eq!(Dynamics::load(&path).unwrap(), expected.1);
        assert_eq!(recorder.dynamics(), expected.1);
    }
}

/// Also of a model whose units are cut on the way.
#[test]
fn a_smaller_model_is_observed() {
    let data = data(16);
    let (mut model, trainer) = (model(&data), trainer());
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    stepper.keep_outcomes();
    model.prune(Units::share(0.5)).unwrap();
    stepper.compact(&mut model).unwrap();
    stepper.step(&mut model, &data, Batch::new(&Draw::all(0..16), 1, 0)).unwrap();
    assert_eq!(stepper.outcomes().iter().flatten().count(), 16);
    let losses = stepper.outcomes().iter().map(|outcome| outcome.map(|outcome| outcome.loss));
    assert!(losses.eq(stepper.losses().iter().copied()));
}

#[test]
fn dynamics_are_of_one_class_a_sample() {
    let data = Arrays::values(Array3::<f32>::ones((8, 2, 1)), Array3::ones((8, 1, 1))).unwrap();
    let mut model = Model::builder(data.shape()).layer("lstm", Lstm::new(1).last()).build(1).unwrap();
    let mut trainer = Trainer::new(Mse, Sgd::new(0.1)).callback(RecordDynamics::new());
    let error = trainer.fit(&mut model, &data, None).unwrap_err().to_string();
    assert!(error.starts_with("a callback that observes: found targets Values"), "{error}");
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

    comes_back(Hardest::default);
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
