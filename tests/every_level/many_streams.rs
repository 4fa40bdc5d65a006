//! Streams alone and side by side: step by step the bits of a pass over whole sequences, in any company.

use bptt::data::Normalize;
use bptt::nn::{
    Activation, Dropout, Embedding, Gru, Layer, LayerNorm, LayerNormLstm, Linear, LogSoftmax, Lstm,
    PeepholeLstm, Rnn, Session, Streams,
};
use bptt::{Model, Real, Shape, rng};
use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

const T: usize = 7;
const F: usize = 3;

/// Each cell, with each setting that changes a step: in few units and many, that fill vectors and that do not.
fn layers<R: Real>() -> Vec<Box<dyn Layer<R>>> {
    vec![
        Box::new(Lstm::new(8)),
        Box::new(Lstm::new(16)),
        Box::new(Lstm::new(33).bias(false)),
        Box::new(Lstm::new(5).layers(3)),
        Box::new(Lstm::new(20).layers(2).proj_size(11).last()),
        Box::new(Gru::new(8)),
        Box::new(Gru::new(32)),
        Box::new(Gru::new(13).layers(2).bias(false)),
        Box::new(Gru::new(9).layers(2).reset_after(false)),
        Box::new(Rnn::new(24)),
        Box::new(Rnn::new(7).layers(2).relu()),
        Box::new(PeepholeLstm::new(8).layers(2)),
        Box::new(PeepholeLstm::new(11).proj_size(4)),
        Box::new(LayerNormLstm::new(8).layers(2)),
        Box::new(LayerNormLstm::new(19).proj_size(6).bias(true)),
    ]
}

fn models<R: Real>() -> Vec<Model<R>> {
    let normalize = || Normalize::per_feature(vec![0.1, -0.2, 0.3], vec![0.5, 2.0, 1.0]).unwrap();
    let mut models: Vec<Model<R>> = layers()
        .into_iter()
        .enumerate()
        .map(|(i, layer)| {
            let builder = Model::builder(Shape::new(T, F));
            let builder = if i % 2 == 0 { builder } else { builder.normalize(normalize()) };
            builder.boxed("layer", layer).build(3).unwrap()
        })
        .collect();
    models.push(
        Model::builder(Shape::new(T, F))
            .layer("norm", LayerNorm::new())
            .layer("gru", Gru::new(10))
            .layer("dropout", Dropout::new(0.5))
            .layer("tanh", Activation::tanh())
            .layer("lstm", Lstm::new(6))
            .layer("linear", Linear::new(4))
            .layer("softmax", LogSoftmax)
            .build(4)
            .unwrap(),
    );
    models
}

/// `[n, T, F]`
fn sequences<R: Real>(n: usize) -> Array3<R> {
    let uniform = Uniform::new(-1.0, 1.0).unwrap();
    Array3::random_using((n, T, F), uniform, &mut rng::rng(n as u64)).mapv(R::from_f64)
}

/// Step `t` of each sequence, `[n, F]`.
fn step<R>(x: &Array3<R>, t: usize) -> ArrayView2<'_, R> {
    x.index_axis(Axis(1), t)
}

/// What each stream returned at each step, `[n, T, F']`, and the states of the first layer, `[n, state]`.
fn alone<R: Real>(model: &Model<R>, x: &Array3<R>) -> (Array3<R>, Vec<Vec<R>>) {
    let mut y = Array3::from_elem((x.dim().0, T, model.output_shape().f), R::ZERO);
    let mut states = Vec::new();
    for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
        let mut session = model.session().unwrap();
        for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
            y.assign(&ndarray::aview1(session.push(x.as_slice().unwrap())));
        }
        states.push(session.state(0));
    }
    (y, states)
}

fn streams_are_sequences<R: Real>() {
    for model in models::<R>() {
        let x = sequences::<R>(80);
        let (y, states) = alone(&model, &x);
        let whole = model.predict(&x).unwrap();
        let last = whole.dim().1 == 1;
        assert!(if last { whole == y.slice(s![.., T - 1.., ..]) } else { whole == y }, "{model}");
        // Alone, in whole vectors and in parts of them, in one tile and in several, with a rest that passes one by one.
        for n in [1, 2, 7, 8, 15, 16, 17, 33, 64, 65, 80] {
            let mut streams = model.streams(n).unwrap();
            assert_eq!(streams.count(), n);
            let x = x.slice(s![..n, .., ..]).to_owned();
            for t in 0..T {
                assert_eq!(
                    streams.push(step(&x, t)),
                    y.slice(s![..n, t, ..]),
                    "{n} streams, step {t}: {model}"
                );
            }
            assert!((0..n).all(|i| streams.state(i, 0) == states[i]), "{n} streams: {model}");
        }
    }
}

#[test]
fn streams_are_sequences_in_f32() {
    streams_are_sequences::<f32>();
}

#[test]
fn streams_are_sequences_in_f64() {
    streams_are_sequences::<f64>();
}

/// A thousand streams, of which others are pushed in each round: each is as far as it was pushed, and no further.
#[test]
fn only_those_that_are_pushed_move() {
    const N: usize = 1000;
    let x = sequences::<f32>(N);
    for model in models::<f32>() {
        let (y, _) = alone(&model, &x);
        let (mut streams, mut done) = (model.streams(N).unwrap(), vec![1; N]);
        assert_eq!(streams.push(step(&x, 0)), y.index_axis(Axis(1), 0), "{model}");
        for (round, stride) in [1, 3, 2, 999, 170, 16, 1, 41, 5].into_iter().enumerate() {
            // Backwards, so that no stream is in the lane of its row.
            let which: Vec<usize> =
                (0..N).rev().skip(round).step_by(stride).filter(|&i| done[i] < T).collect();
            let rows =
                Array2::from_shape_fn((which.len(), F), |(row, f)| x[[which[row], done[which[row]], f]]);
            let out = streams.push_some(&which, &rows);
            for (row, &i) in which.iter().enumerate() {
                assert_eq!(out.row(row), y.slice(s![i, done[i], ..]), "stream {i} of round {round}: {model}");
                done[i] += 1;
            }
        }
        assert!(done.iter().min() < done.iter().max(), "a test of streams that are not equally far");
    }
}

/// No stream at all, and all of them in their order, are some of them.
#[test]
fn none_and_all_are_some() {
    let model = &models::<f32>()[3];
    let x = sequences::<f32>(20);
    let [mut streams, mut all] = [(); 2].map(|()| model.streams(20).unwrap());
    assert_eq!(streams.push_some(&[], &Array2::zeros((0, F))).dim(), (0, 5));
    let which: Vec<usize> = (0..20).collect();
    for t in 0..T {
        assert_eq!(streams.push_some(&which, step(&x, t)), all.push(step(&x, t)));
    }
}

#[test]
fn states_are_read_set_and_reset_by_stream() {
    let model = &models::<f64>()[3];
    let x = sequences::<f64>(70);
    let mut streams = model.streams(70).unwrap();
    let fresh = streams.push(step(&x, 0)).to_owned();
    let states: Vec<_> = (0..70).map(|i| streams.state(i, 0)).collect();
    assert_eq!(states[0].len(), 2 * 3 * 5);
    let second = streams.push(step(&x, 1)).to_owned();
    // Stream 66 passes alone, 3 in a tile: each goes back to a state, 3 to that of 66.
    streams.set_state(66, 0, &states[66]);
    streams.set_state(3, 0, &states[66]);
    streams.reset(5);
    let again = streams.push_some(
        &[3, 66, 5],
        &ndarray::stack![Axis(0), step(&x, 1).row(66), step(&x, 1).row(66), step(&x, 0).row(5)],
    );
    assert_eq!(again.row(0), second.row(66));
    assert_eq!(again.row(1), second.row(66));
    assert_eq!(again.row(2), fresh.row(5));
    streams.reset_all();
    assert_eq!(streams.push(step(&x, 0)), fresh);
    let mut copy = streams.clone();
    assert_eq!(copy.push(step(&x, 1)), streams.push(step(&x, 1)));
}

#[test]
fn invalid_pushes_change_nothing() {
    let model: Model<f32> = Model::builder(Shape::new(T, 1))
        .layer("embedding", Embedding::new(5, 3))
        .layer("lstm", Lstm::new(4))
        .build(1)
        .unwrap();
    let mut streams = model.streams(70).unwrap();
    let indices = |bad: usize| Array2::from_shape_fn((70, 1), |(i, _)| if i == bad { 5.0 } else { 1.0 });
    let good = indices(100);
    let before = model.streams(70).unwrap().push(&good).to_owned();
    for (bad, stream) in [(0, 0), (69, 69)] {
        let fault = streams.try_push(&indices(bad)).unwrap_err().to_string();
        assert_eq!(
            fault,
            format!(
                "layer `embedding`: stream {stream}: found 5, expected an index: a whole number of at least 0 and below 5"
            )
        );
    }
    let fault = |found: bptt::Result<ArrayView2<'_, f32>>| found.unwrap_err().to_string();
    let two = |a: f32, b: f32| ndarray::array![[a], [b]];
    assert_eq!(
        fault(streams.try_push_some(&[68, 3], &two(1.0, -1.0))),
        "layer `embedding`: stream 3: found -1, expected an index: a whole number of at least 0 and below 5"
    );
    assert_eq!(fault(streams.try_push(&two(1.0, 1.0))), "steps: found 2 of 1 features, expected 70 of 1");
    assert_eq!(
        fault(streams.try_push(&Array2::ones((70, 2)))),
        "steps: found 70 of 2 features, expected 70 of 1"
    );
    assert_eq!(
        fault(streams.try_push_some(&[1], &two(1.0, 1.0))),
        "steps: found 2 of 1 features, expected 1 of 1"
    );
    assert_eq!(
        fault(streams.try_push_some(&[7, 7], &two(1.0, 1.0))),
        "which: found stream 7 twice, expected each stream at most once"
    );
    assert_eq!(
        fault(streams.try_push_some(&[7, 70], &two(1.0, 1.0))),
        "which: found stream 70, expected one of 70 streams, counted from 0"
    );
    assert_eq!(streams.push(&good), before);
    // What was found twice was not remembered as pushed.
    assert_eq!(streams.push_some(&[7, 8], &two(1.0, 1.0)).dim(), (2, 4));

    assert_eq!(model.streams(0).unwrap_err().to_string(), "`streams`: found 0, expected at least 1");
    let fault = model.streams(usize::MAX / 8).unwrap_err().to_string();
    assert!(fault.starts_with("`memory`: found "), "{fault}");
    let both: Model =
        Model::builder(Shape::new(T, 1)).layer("both", Lstm::new(3).bidirectional()).build(1).unwrap();
    for fault in [Streams::new(&both, 2).err(), Session::new(&both).err()] {
        let fault = fault.unwrap().to_string();
        assert!(fault.starts_with("`both`: found a layer that needs the whole sequence"), "{fault}");
    }
}
