//! Streams: states that are handed on from step to step in training, and from push to push in a session.

use bptt::data::{Arrays, Batch, Batches, Dataset, Draw};
use bptt::loss::{CrossEntropy, Mse};
use bptt::ndarray::{Array1, Array2, Array3, ArrayView2, Axis, s};
use bptt::nn::{Dropout, Gru, Linear, Lstm, Mode, Pool, Workspace};
use bptt::optim::{Adam, Sgd};
use bptt::train::{Callback, Clip, Progress};
use bptt::{Model, Real, Shape, Trainer, rng};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::{Bernoulli, Uniform};

const T: usize = 5;

/// `n` windows that follow one another, of noise and of what it was three steps before.
fn data<R: Real>(n: usize) -> Arrays<R> {
    let uniform = Uniform::new(-1.0, 1.0).unwrap();
    let x = Array3::random_using((n, T, 2), uniform, &mut rng::rng(3)).mapv(R::from_f64);
    let at = |i: usize| x[[i / T, i % T, 0]] + x[[i / T, i % T, 1]];
    let y = Array3::from_shape_fn((n, T, 1), |(i, t, _)| at((i * T + t).saturating_sub(3)));
    Arrays::values(x, y).unwrap()
}

fn model<R: Real>() -> Model<R> {
    Model::builder(Shape::new(T, 2))
        .layer("lstm", Lstm::new(6).layers(2))
        .layer("dropout", Dropout::new(0.1))
        .layer("gru", Gru::new(5))
        .layer("linear", Linear::new(1))
        .build(2)
        .unwrap()
}

fn stateless_trainer() -> Trainer {
    Trainer::new(Mse, Adam::new(0.01)).epochs(3).batch_size(40).tile(8).clip(Clip::Norm(1.0)).ema(0.9)
}

fn trainer() -> Trainer {
    stateless_trainer().stateful()
}

/// Window `step` of each of `streams` streams, `[streams, T, F]`: what a step of training sees.
fn windows(data: &Arrays<f64>, streams: usize, step: usize) -> (Array3<f64>, Array3<f64>) {
    let steps = data.len() / streams;
    let (mut x, mut y) = (Array3::zeros((streams, T, 2)), Array3::zeros((streams, T, 1)));
    for stream in 0..streams {
        let sample = bptt::data::Sample::plain(stream * steps + step);
        data.read(sample, x.index_axis_mut(Axis(0), stream).as_slice_mut().unwrap());
        data.values(sample, y.index_axis_mut(Axis(0), stream).as_slice_mut().unwrap());
    }
    (x, y)
}

/// The gradient of a later step is that of its own window from the state that the windows before it left, by central
/// differences over a pass that is put together by hand.
#[test]
fn gradients_begin_where_the_step_before_ended() {
    const STREAMS: usize = 3;
    let data = data::<f64>(12);
    let build = || {
        Model::<f64>::builder(Shape::new(T, 2))
            .layer("lstm", Lstm::new(3).layers(2))
            .layer("gru", Gru::new(2))
            .layer("linear", Linear::new(1))
            .build(2)
            .unwrap()
    };
    let mut model = build();
    let trainer = Trainer::new(Mse, Sgd::new(0.0)).batch_size(STREAMS).stateful();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    let mut batches = Batches::streams(data.len(), STREAMS).unwrap();
    let batches: Vec<_> = batches.epoch(1).unwrap().collect();
    let mut ws = Workspace::new(&model, STREAMS, Mode::Eval);
    let mut states: Option<Vec<Array2<f64>>> = None;
    for (step, &batch) in batches.iter().enumerate() {
        stepper.gradients(&model, &data, batch).unwrap();
        let (x, y) = windows(&data, STREAMS, step);
        let mut loss = |model: &Model<f64>| {
            ws.set_input(x.view());
            for (layer, state) in states.iter().flatten().enumerate() {
                ws.set_state(layer, state.view());
            }
            model.forward(&mut ws);
            (&ws.output() - &y).mapv(|d| d * d).mean().unwrap()
        };
        let h = 1e-5;
        for i in (0..model.parameter_count()).step_by(7) {
            let mut at = |by: f64| {
                let mut moved = model.clone();
                moved.params_mut().as_mut_slice()[i] += by;
                loss(&moved)
            };
            let (numeric, found) = ((at(h) - at(-h)) / (2.0 * h), stepper.grads().as_slice()[i]);
            assert!(
                (numeric - found).abs() < 1e-8,
                "step {step}, parameter {i}: {found}, expected {numeric}"
            );
        }
        loss(&model);
        states = Some((0..3).map(|layer| ws.state(layer)).collect());
    }
    // What was compared is not what a step without a past gives.
    stepper.gradients(&model, &data, batches[3]).unwrap();
    let carried = stepper.grads().as_slice().to_vec();
    let plain = Trainer::new(Mse, Sgd::new(0.0)).batch_size(STREAMS);
    let mut stepper = plain.stepper(&model, &data).unwrap();
    stepper.gradients(&model, &data, batches[3]).unwrap();
    assert_ne!(stepper.grads().as_slice(), carried);
    model.params_mut();
}

/// Losses of all steps, and the parameters in the end.
struct Losses(std::sync::Arc<std::sync::Mutex<Vec<f64>>>);

impl<R: Real> Callback<R> for Losses {
    fn on_step(&mut self, at: &Progress) {
        self.0.lock().unwrap().push(at.score.loss.unwrap());
    }
}

/// With a rate of 0 every epoch is the first one again: states begin at 0 each time.
#[test]
fn each_epoch_begins_at_zero() {
    let data = data::<f32>(400);
    let losses = std::sync::Arc::default();
    let mut trainer = Trainer::new(Mse, Sgd::new(0.0)).epochs(2).batch_size(40).stateful();
    trainer = trainer.callback(Losses(std::sync::Arc::clone(&losses)));
    let mut model = Model::builder(data.shape())
        .layer("lstm", Lstm::new(6))
        .layer("linear", Linear::new(1))
        .build(2)
        .unwrap();
    let history = trainer.fit(&mut model, &data, None).unwrap();
    let losses = losses.lock().unwrap();
    assert_eq!(losses.len(), 20);
    assert_eq!(losses[..10], losses[10..]);
    // The same windows, each from 0: another loss.
    let whole = model.evaluate_with(&data, &Mse).unwrap().loss().unwrap();
    assert!((whole - history.epochs[0].train.loss.unwrap()).abs() > 1e-4);
}

/// 300 streams in tiles of 8 are 38: more than there are slots, and a last tile that is not full.
#[test]
fn the_same_bits_at_any_number_of_threads() {
    let data = data::<f32>(1237);
    let run = |threads: usize| {
        let mut model = model();
        trainer().batch_size(300).threads(threads).fit(&mut model, &data, None).unwrap();
        model.params().as_slice().to_vec()
    };
    let one = run(1);
    assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
    let mut stateless = model();
    stateless_trainer().batch_size(300).fit(&mut stateless, &data, None).unwrap();
    assert!(stateless.params().as_slice() != one);
}

/// A run that is cut short anywhere goes on with the states that it had.
#[test]
fn resumed_within_an_epoch() {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    struct PanicAt(usize);
    impl Callback<f32> for PanicAt {
        fn on_step(&mut self, at: &Progress) {
            if (at.epoch - 1) * at.steps + at.step == self.0 {
                resume_unwind(Box::new("stopped"));
            }
        }
    }
    let data = data::<f32>(330);
    let mut whole = model();
    trainer().fit(&mut whole, &data, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.ckpt");
    for stop in [1, 4, 8, 9, 13, 20] {
        let with_file = |threads| trainer().run_file(&path).run_file_every(1).resume(true).threads(threads);
        let mut first = with_file(2).resume(false).callback(PanicAt(stop));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(first.fit(&mut model(), &data, None)))).is_err());
        let mut resumed = model();
        with_file(1).fit(&mut resumed, &data, None).unwrap();
        assert!(resumed.params().as_slice() == whole.params().as_slice(), "stopped at {stop}");
        let mut other = stateless_trainer().run_file(&path).resume(true);
        let error = other.fit(&mut model(), &data, None).unwrap_err().to_string();
        assert!(error.contains("`stateful`: found true, expected false"), "{error}");
    }
}

#[test]
fn what_cannot_stream_is_refused() {
    let data = data::<f32>(90);
    let fit = |model: &mut Model| trainer().fit(model, &data, None).unwrap_err().to_string();
    let builder = || Model::builder(data.shape()).layer("lstm", Lstm::new(3));
    let mut both =
        Model::builder(data.shape()).layer("both", Lstm::new(3).bidirectional()).layer("out", Linear::new(1));
    assert!(
        fit(&mut both.build(1).unwrap()).starts_with("`both`: found a layer that needs the whole sequence")
    );
    both = builder().layer("mean", Pool::mean()).layer("out", Linear::new(1));
    let one = Arrays::values(Array3::ones((90, T, 2)), Array3::ones((90, 1, 1))).unwrap();
    let error = trainer().fit(&mut both.build(1).unwrap(), &one, None).unwrap_err().to_string();
    assert!(error.starts_with("`mean`: found a layer that needs the whole sequence"), "{error}");

    let mut model = builder().layer("out", Linear::new(1)).build(1).unwrap();
    let error = trainer().batch_size(91).fit(&mut model, &data, None).unwrap_err().to_string();
    assert_eq!(error, "dataset: found 90 samples, expected one for each of 91 streams");
    let trainer = trainer();
    let mut stepper = trainer.stepper(&model, &data).unwrap();
    let error =
        stepper.gradients(&model, &data, Batch::new(&Draw::all([0, 1]), 1, 0)).unwrap_err().to_string();
    assert_eq!(error, "a batch: found 2 samples, expected 40, one for each stream");
}

/// A sequence in pieces, by hand, is the sequence as a whole: outputs and final states, bit for bit.
#[test]
fn pieces_make_a_whole() {
    let model = model::<f64>();
    let data = data::<f64>(4);
    let (x, _) = windows(&data, 1, 0);
    let mut pieces = x;
    for step in 1..4 {
        pieces.append(Axis(1), windows(&data, 1, step).0.view()).unwrap();
    }
    let mut whole = Workspace::for_steps(&model, 4 * T, 1, Mode::Eval).unwrap();
    whole.set_input(pieces.view());
    model.forward(&mut whole);
    let mut ws = Workspace::new(&model, 1, Mode::Eval);
    let mut states: Vec<Array2<f64>> = Vec::new();
    for step in 0..4 {
        ws.set_input(pieces.slice(s![.., step * T..(step + 1) * T, ..]));
        states.iter().enumerate().for_each(|(layer, state): (usize, &Array2<f64>)| {
            let state: ArrayView2<'_, f64> = state.view();
            ws.set_state(layer, state);
        });
        model.forward(&mut ws);
        states = (0..4).map(|layer| ws.state(layer)).collect();
        assert_eq!(ws.output(), whole.output().slice(s![.., step * T..(step + 1) * T, ..]));
    }
    assert!((0..4).all(|layer| whole.state(layer) == states[layer]));
}

/// Classes of steps stream, too.
#[test]
fn classes_of_steps() {
    let bits = Array1::random_using(1600, Bernoulli::new(0.5).unwrap(), &mut rng::rng(1));
    let x = Array3::from_shape_fn((400, 4, 1), |(i, t, _)| f32::from(bits[4 * i + t]));
    let y = Array2::from_shape_fn((400, 4), |(i, t)| i64::from(bits[(4 * i + t).saturating_sub(1)]));
    let data = Arrays::step_classes(x, y, ["0", "1"]).unwrap();
    let fit = |stateful| {
        let mut model = Model::builder(data.shape())
            .layer("lstm", Lstm::new(8))
            .layer("linear", Linear::new(2))
            .build(1)
            .unwrap();
        let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(15).batch_size(10);
        if stateful {
            trainer = trainer.stateful();
        }
        trainer.fit(&mut model, &data, None).unwrap().epochs[14].train.accuracy.unwrap()
    };
    // Without the state of the sample before, its first step is a guess, of four.
    let (carried, forgotten) = (fit(true), fit(false));
    assert!(carried > 0.99 && forgotten < 0.93, "{carried} and {forgotten}");
}
