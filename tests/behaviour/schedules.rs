//! Learning-rate schedules against PyTorch's, and through the trainer.

use std::sync::{Arc, Mutex};

use bptt::data::{Arrays, Batch, Draw, TargetShape};
use bptt::loss::{CrossEntropy, Loss, Tile};
use bptt::nn::Linear;
use bptt::optim::Sgd;
use bptt::train::schedule::{
    Clock, Constant, CosineAnnealing, Exponential, LinearWarmUp, MultiStep, OneCycle, Plateau,
    ReduceOnPlateau, Sequential, StepDecay, Threshold, Unit,
};
use bptt::train::{Callback, Epoch, Monitor, Progress, Schedule, Score};
use bptt::{Error, Model, Shape, Trainer};
use ndarray::{Array1, Array3};
use serde_json::Value;

use crate::common::Fixture;

/// The number of that name among a schedule's arguments.
fn number(args: &Value, name: &str) -> f64 {
    args[name].as_f64().unwrap_or_else(|| panic!("{name} in {args}"))
}

fn count(args: &Value, name: &str) -> usize {
    number(args, name) as usize
}

fn one_cycle(args: &Value) -> OneCycle {
    let schedule = OneCycle::new(number(args, "max_lr"))
        .pct_start(number(args, "pct_start"))
        .div_factor(number(args, "div_factor"))
        .final_div_factor(number(args, "final_div_factor"));
    let schedule = if args["anneal_strategy"] == "linear" { schedule.linear() } else { schedule };
    if args["three_phase"] == true { schedule.three_phase() } else { schedule }
}

/// What the script describes, built here.
fn schedule(case: &Value) -> Box<dyn Schedule> {
    let args = &case["args"];
    match case["class"].as_str().unwrap() {
        "StepLR" => Box::new(StepDecay::new(count(args, "step_size")).gamma(number(args, "gamma"))),
        "MultiStepLR" => {
            let milestones = args["milestones"].as_array().unwrap().iter();
            let milestones: Vec<_> = milestones.map(|m| m.as_u64().unwrap() as usize).collect();
            Box::new(MultiStep::new(milestones).gamma(number(args, "gamma")))
        }
        "ExponentialLR" => Box::new(Exponential::new(number(args, "gamma"))),
        "CosineAnnealingLR" => Box::new(cosine(args)),
        "OneCycleLR" => Box::new(one_cycle(args)),
        "LinearLR" => Box::new(warm_up(args)),
        "SequentialLR" => {
            let parts = &case["parts"];
            assert_eq!(
                (&parts[0]["class"], &parts[1]["class"]),
                (&"LinearLR".into(), &"CosineAnnealingLR".into())
            );
            let milestone = case["milestones"][0].as_u64().unwrap() as usize;
            Box::new(Sequential::new(warm_up(&parts[0]["args"])).at(milestone, cosine(&parts[1]["args"])))
        }
        "ReduceLROnPlateau" => Box::new(plateau(args)),
        other => panic!("{other}"),
    }
}

fn cosine(args: &Value) -> CosineAnnealing {
    CosineAnnealing::new(count(args, "T_max")).eta_min(number(args, "eta_min"))
}

fn warm_up(args: &Value) -> LinearWarmUp {
    LinearWarmUp::new(count(args, "total_iters"))
        .start_factor(number(args, "start_factor"))
        .end_factor(number(args, "end_factor"))
}

fn plateau(args: &Value) -> ReduceOnPlateau {
    ReduceOnPlateau::new()
        .factor(number(args, "factor"))
        .patience(count(args, "patience"))
        .threshold(Threshold::Rel(number(args, "threshold")))
        .cooldown(count(args, "cooldown"))
        .min_lr(number(args, "min_lr"))
        .eps(number(args, "eps"))
}

fn epoch(epoch: usize, train: f64, valid: f64) -> Epoch {
    let score = |loss| Score { loss: Some(loss), accuracy: None };
    Epoch { epoch, train: score(train), valid: Some(score(valid)), lr: 0.0, seconds: 0.0 }
}

#[test]
fn rates_are_pytorchs() {
    let fixture = Fixture::open("schedules");
    let (base, steps) = (fixture.number("/base_lr"), fixture.number("/steps") as usize);
    // Reduce-on-plateau is to look at the validation loss and not at the training loss, which only falls.
    let metric = fixture.values("metric");
    let history: Vec<_> = (1..).zip(&metric).map(|(i, &m)| epoch(i, -(i as f64), m)).collect();
    let cases = fixture.case["schedules"].as_object().unwrap();
    assert_eq!((cases.len(), steps), (11, 100));
    for (name, case) in cases {
        let schedule = schedule(case);
        schedule.check().unwrap();
        assert_eq!(schedule.unit(), if name.starts_with("one_cycle") { Unit::Step } else { Unit::Epoch });
        let expected = fixture.values(name);
        assert_eq!(expected.len(), steps, "{name}");
        for (done, expected) in expected.into_iter().enumerate() {
            let clock = Clock::new(done, steps).history(&history[..done]);
            let found = schedule.lr(base, clock);
            let error = (found - expected).abs();
            assert!(error <= 1e-12 * expected.abs(), "{name}: {found} at {done}, expected {expected}");
        }
    }
}

#[test]
fn one_cycle_with_a_total_of_its_own() {
    let (whole, own) = (OneCycle::new(0.1), OneCycle::new(0.1).total_steps(50));
    for done in 0..50 {
        assert_eq!(own.lr(9.0, Clock::new(done, 70)), whole.lr(0.1, Clock::new(done, 50)));
    }
    // After its end the last rate stays.
    assert_eq!(own.lr(9.0, Clock::new(69, 70)), own.lr(9.0, Clock::new(49, 70)));
    // A rise of one step is at its end from the start, and the smallest cycles have a rate, too.
    assert_eq!(OneCycle::new(0.1).pct_start(0.5).lr(0.0, Clock::new(0, 2)), 0.1);
    for total in 1..4 {
        assert!(
            (0..total).all(|done| own.clone().total_steps(total).lr(1.0, Clock::new(done, 0)).is_finite())
        );
    }
}

#[test]
fn a_constant_is_a_factor() {
    assert_eq!(Constant::new(0.5).lr(0.3, Clock::new(7, 9)), 0.15);
    let parts = Sequential::new(Constant::new(0.5)).at(5, Constant::new(2.0)).at(6, Constant::new(3.0));
    let lrs = (4..8).map(|done| parts.lr(1.0, Clock::new(done, 9)));
    assert_eq!(lrs.collect::<Vec<_>>(), [0.5, 2.0, 3.0, 3.0]);
}

/// Observed one by one with the state through JSON in between, or told from the history: the same rate.
#[test]
fn a_plateau_is_a_value() {
    let fixture = Fixture::open("schedules");
    let (expected, metric) = (fixture.values("reduce_on_plateau"), fixture.values("metric"));
    let schedule = plateau(&fixture.case["schedules"]["reduce_on_plateau"]["args"]);
    let mut state = Plateau::default();
    for (metric, expected) in metric.iter().zip(&expected) {
        assert!((schedule.reduced(0.1, &state) - expected).abs() <= 1e-12 * expected);
        schedule.observe(&mut state, *metric);
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    }
    assert!(state.reductions > 3, "{state:?}");
}

#[test]
fn a_plateau_of_a_score_that_rises() {
    let schedule = ReduceOnPlateau::new()
        .monitor(Monitor::TrainAccuracy)
        .threshold(Threshold::Abs(0.1))
        .patience(0)
        .factor(0.5);
    // 0.7 is better by 0.1 than 0.5, 0.75 is not better by 0.1 than 0.7, and nothing is better for being NaN.
    for (scores, reductions) in
        [(&[0.5, 0.7][..], 0), (&[0.5, 0.7, 0.75], 1), (&[0.5, 0.4, 0.3], 2), (&[0.5, f64::NAN], 1)]
    {
        let mut state = Plateau::default();
        scores.iter().for_each(|&score| schedule.observe(&mut state, score));
        assert_eq!(state.reductions, reductions, "{scores:?}");
        let history: Vec<_> = scores
            .iter()
            .map(|&score| Epoch {
                train: Score { loss: Some(1.0), accuracy: Some(score) },
                ..epoch(1, 0.0, 0.0)
            })
            .collect();
        let lr = schedule.lr(1.0, Clock::new(scores.len(), 9).history(&history));
        assert_eq!(lr, 0.5f64.powi(reductions as i32), "{scores:?}");
    }
}

fn data() -> Arrays {
    let x = Array3::from_shape_fn((30, 1, 2), |(i, _, f)| if i % 2 == f { 1.0 } else { 0.0 });
    Arrays::classes(x, &Array1::from_shape_fn(30, |i| i % 2), ["even", "odd"]).unwrap()
}

fn model() -> Model {
    Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1).unwrap()
}

/// Writes down the rate of each step.
#[derive(Clone, Default)]
struct Rates(Arc<Mutex<Vec<f64>>>);

impl Callback<f32> for Rates {
    fn on_step(&mut self, progress: &Progress) {
        self.0.lock().unwrap().push(progress.lr);
    }
}

/// The rates of the steps and of the epochs' records: 3 epochs of 3 steps.
fn rates(schedule: impl Schedule + 'static) -> (Vec<f64>, Vec<f64>) {
    let steps = Rates::default();
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.8)).epochs(3).batch_size(10);
    trainer = trainer.schedule(schedule).callback(steps.clone());
    let history = trainer.fit(&mut model(), &data(), None).unwrap();
    let steps = steps.0.lock().unwrap().clone();
    (steps, history.epochs.iter().map(|epoch| epoch.lr).collect())
}

#[test]
fn a_trainer_follows_by_epoch_or_by_step() {
    let (steps, epochs) = rates(Exponential::new(0.5));
    assert_eq!(steps, [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2]);
    assert_eq!(epochs, [0.8, 0.4, 0.2]);

    let (steps, epochs) = rates(Exponential::new(0.5).per_step());
    assert_eq!(steps, (0..9).map(|i| 0.8 * 0.5f64.powi(i)).collect::<Vec<_>>());
    assert_eq!(epochs, [steps[2], steps[5], steps[8]]);

    // The run's own number of steps is the cycle's.
    let (steps, _) = rates(OneCycle::new(0.1));
    let cycle = OneCycle::new(0.1);
    assert_eq!(steps, (0..9).map(|i| cycle.lr(0.0, Clock::new(i, 9))).collect::<Vec<_>>());
}

/// The rate is what moves the parameters: two steps of SGD at given rates.
#[test]
fn the_rate_moves_the_parameters() {
    let data = data();
    let mut by_hand = model();
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.8)).batch_size(30).epochs(2).seed(1);
    {
        let plain = Trainer::new(CrossEntropy::default(), Sgd::new(0.8)).batch_size(30);
        let mut stepper = plain.stepper(&by_hand, &data).unwrap();
        for (epoch, lr) in [(1, 0.8), (2, 0.4)] {
            let order = Draw::all(bptt::data::shuffle(30, 1, epoch as u64));
            stepper.set_lr(lr);
            stepper.step(&mut by_hand, &data, Batch::new(&order, epoch, 0)).unwrap();
        }
    }
    trainer = trainer.schedule(StepDecay::new(1).gamma(0.5));
    let mut scheduled = model();
    trainer.fit(&mut scheduled, &data, None).unwrap();
    assert_eq!(scheduled.params().as_slice(), by_hand.params().as_slice());
}

/// Reduce-on-plateau within a run: a loss that never gets better lowers the rate in each epoch after the second.
#[test]
fn a_plateau_within_a_run() {
    let (_, epochs) = rates(ReduceOnPlateau::new().patience(0).factor(0.5).threshold(Threshold::Abs(1e9)));
    assert_eq!(epochs, [0.8, 0.8, 0.4]);
}

fn fault(schedule: impl Schedule + 'static) -> String {
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.8)).schedule(schedule);
    match trainer.fit(&mut model(), &data(), None).unwrap_err() {
        Error::Config { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn settings_that_cannot_be_used() {
    assert_eq!(fault(Constant::new(-1.0)), "factor");
    assert_eq!(fault(StepDecay::new(0)), "step_size");
    assert_eq!(fault(StepDecay::new(1).gamma(f64::NAN)), "gamma");
    assert_eq!(fault(MultiStep::new([1]).gamma(-0.5)), "gamma");
    assert_eq!(fault(Exponential::new(f64::INFINITY)), "gamma");
    assert_eq!(fault(CosineAnnealing::new(0)), "t_max");
    assert_eq!(fault(CosineAnnealing::new(1).eta_min(-1.0)), "eta_min");
    assert_eq!(fault(LinearWarmUp::new(0).per_step()), "total");
    assert_eq!(fault(LinearWarmUp::new(1).start_factor(-0.1)), "start_factor");
    assert_eq!(fault(OneCycle::new(-0.1)), "max_lr");
    assert_eq!(fault(OneCycle::new(0.1).pct_start(1.1)), "pct_start");
    assert_eq!(fault(OneCycle::new(0.1).pct_start(0.6).three_phase()), "pct_start");
    assert_eq!(fault(OneCycle::new(0.1).div_factor(0.0)), "div_factor");
    assert_eq!(fault(OneCycle::new(0.1).total_steps(0)), "total_steps");
    assert_eq!(fault(ReduceOnPlateau::new().factor(1.0)), "factor");
    assert_eq!(fault(ReduceOnPlateau::new().threshold(Threshold::Abs(-1.0))), "threshold");
    assert_eq!(fault(Sequential::new(Constant::new(1.0)).at(0, Constant::new(1.0))), "milestones");
    assert_eq!(fault(Sequential::new(Constant::new(1.0)).at(1, OneCycle::new(1.0))), "sequential");
    assert_eq!(fault(Sequential::new(Constant::new(1.0)).at(1, StepDecay::new(0))), "step_size");
}

/// Accuracy is no score of targets that are values.
#[test]
fn a_score_that_is_not_there() {
    #[derive(Debug)]
    struct Zero;
    impl Loss<f32> for Zero {
        fn check(&self, _: Shape, _: TargetShape) -> bptt::Result<()> {
            Ok(())
        }
        fn tile(&self, _: Tile<'_, f32>) {}
    }
    let data = Arrays::vectors(Array3::zeros((4, 1, 2)), ndarray::Array2::zeros((4, 2))).unwrap();
    let schedule = ReduceOnPlateau::new().monitor(Monitor::ValidAccuracy);
    let error =
        Trainer::new(Zero, Sgd::new(0.1)).schedule(schedule).fit(&mut model(), &data, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`monitor`: found ValidAccuracy of targets that are not classes, expected a loss"
    );
}
