//! Sequences of different lengths in one batch, chunks of time, and both directions.

use bptt::data::{Arrays, DatasetExt};
use bptt::loss::CrossEntropy;
use bptt::nn::{
    Activation, AttentionPool, BatchNorm, Branches, Chain, Conv1d, Dropout, EmbedColumns, Gru, Layer,
    LayerNorm, LayerNormLstm, Linear, LogSoftmax, Lstm, Mode, PeepholeLstm, Pool, Rnn, Session, Transpose,
    Workspace,
};
use bptt::optim::Sgd;
use bptt::train::Trainer;
use bptt::{Model, Result, Shape, rng};
use ndarray::{Array3, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

fn values(shape: (usize, usize, usize)) -> Array3<f64> {
    Array3::random_using(shape, Uniform::new(-1.0, 1.0).expect("a range"), &mut rng::rng(1))
}

fn layers() -> Vec<Box<dyn Layer<f64>>> {
    vec![
        Box::new(Lstm::new(3).layers(2)),
        Box::new(Lstm::new(3).layers(2).bidirectional()),
        Box::new(Gru::new(4).layers(2)),
        Box::new(Gru::new(4).layers(2).bidirectional().last()),
        Box::new(Rnn::new(5).last()),
        Box::new(PeepholeLstm::new(3).layers(2)),
        Box::new(PeepholeLstm::new(4).bidirectional()),
        Box::new(LayerNormLstm::new(3).layers(2)),
        Box::new(LayerNormLstm::new(4).bidirectional().last()),
        Box::new(Lstm::new(5).layers(2).proj_size(3)),
        Box::new(Lstm::new(5).layers(2).proj_size(3).bidirectional()),
        Box::new(Lstm::new(3).layers(2).bias(false)),
        Box::new(Gru::new(4).layers(2).reset_after(false)),
        Box::new(Gru::new(4).reset_after(false).bidirectional()),
    ]
}

/// In one batch or each on its own, cut to its length: the same outputs, the same final states, bit for bit.
#[test]
fn a_ragged_batch_equals_its_sequences_one_by_one() -> Result<()> {
    let (t, f, lens) = (6, 2, [6, 1, 3, 5, 2, 4, 6, 1, 2]);
    let x = values((lens.len(), t, f));
    for layer in layers() {
        for mode in [Mode::Infer, Mode::Eval] {
            let kind = layer.describe();
            let model = build(&kind, Shape::new(t, f))?;
            let mut ws = Workspace::new(&model, lens.len(), mode);
            ws.set_input(x.view());
            ws.set_lengths(&lens);
            model.forward(&mut ws);
            let (y, state) = (ws.output(), ws.state(0));
            for (i, &len) in lens.iter().enumerate() {
                let alone = build(&kind, Shape::new(len, f))?;
                let mut ws = Workspace::new(&alone, 1, mode);
                ws.set_input(x.slice(s![i..=i, ..len, ..]));
                alone.forward(&mut ws);
                let steps = ws.output().dim().1;
                assert_eq!(
                    y.slice(s![i, ..steps, ..]),
                    ws.output().slice(s![0, .., ..]),
                    "{kind:?}, sequence {i}"
                );
                assert!(
                    y.slice(s![i, steps.., ..]).iter().all(|&y| y == 0.0),
                    "{kind:?}: outputs beyond the end"
                );
                assert_eq!(state.row(i), ws.state(0).row(0), "{kind:?}, final state of sequence {i}");
            }
        }
    }
    Ok(())
}

/// Inference keeps no history; what comes out of a sequence of many chunks is the same as with it.
#[test]
fn inference_without_history_is_the_same() -> Result<()> {
    let (t, f) = (77, 2);
    let x = values((3, t, f));
    for layer in layers() {
        let model = build(&layer.describe(), Shape::new(t, f))?;
        let [(y, state), (y_kept, state_kept)] = [Mode::Infer, Mode::Eval].map(|mode| {
            let mut ws = Workspace::new(&model, 3, mode);
            ws.set_input(x.view());
            model.forward(&mut ws);
            (ws.output(), ws.state(0))
        });
        assert_eq!(y, y_kept, "{model}");
        assert_eq!(state, state_kept, "{model}");
    }
    Ok(())
}

/// Step by step or all at once, in more than one chunk: the same outputs bit for bit.
#[test]
fn a_stream_equals_the_whole_sequence() -> Result<()> {
    let (t, f) = (77, 2);
    let x = values((1, t, f));
    let layers: [Box<dyn Layer<f64>>; 8] = [
        Box::new(Lstm::new(3).layers(2)),
        Box::new(Lstm::new(20)),
        Box::new(Gru::new(20)),
        Box::new(Gru::new(20).reset_after(false)),
        Box::new(PeepholeLstm::new(20).layers(2)),
        Box::new(LayerNormLstm::new(20).layers(2)),
        Box::new(Lstm::new(20).layers(2).proj_size(11)),
        Box::new(Rnn::new(20).bias(false)),
    ];
    for layer in layers {
        let normalize = bptt::data::Normalize::per_feature(vec![0.1, -0.2], vec![0.5, 2.0])?;
        let model: Model<f64> =
            Model::builder(Shape::new(t, f)).normalize(normalize).boxed("layer", layer).build(3)?;
        let whole = model.predict(&x)?;
        // Many samples lie side by side, one alone has its units side by side.
        let batch = ndarray::concatenate(ndarray::Axis(0), &vec![x.view(); 9]).expect("samples of one shape");
        let many = model.predict(&batch)?;
        assert!(many.outer_iter().all(|sample| sample == whole.slice(s![0, .., ..])), "{model}");
        let mut streams = [model.session()?, Session::new(&model)?];
        for step in 0..t {
            for stream in &mut streams {
                let y = stream.push(x.slice(s![0, step, ..]).as_slice().expect("a row"));
                assert_eq!(y, whole.slice(s![0, step, ..]).as_slice().expect("a row"), "step {step}");
            }
        }
    }
    let both_ways: Model<f64> =
        Model::builder(Shape::new(t, f)).layer("lstm", Lstm::new(3).bidirectional()).build(3)?;
    assert!(both_ways.session().unwrap_err().to_string().contains("`lstm`"));
    Ok(())
}

/// The same layer, with the same weights, for another length.
fn build(kind: &bptt::nn::Description, shape: Shape) -> Result<Model<f64>> {
    let layer = layers().into_iter().find(|layer| layer.describe() == *kind).expect("one of the list");
    Model::builder(shape).boxed("layer", layer).build(3)
}

/// Models whose layers take any number of steps, built for `t`.
fn for_any_length(t: usize) -> Vec<Model> {
    let builder = || Model::builder(Shape::new(t, 3));
    let skip = Chain::new().layer("norm", LayerNorm::new()).layer("lstm", Lstm::new(3));
    let models = [
        builder().layer("lstm", Lstm::new(4).layers(2).bidirectional()).layer("linear", Linear::new(2)),
        builder()
            .layer("gru", Gru::new(4).last())
            .layer("dropout", Dropout::new(0.5))
            .layer("linear", Linear::new(2)),
        builder().layer("rnn", Rnn::new(4)).layer("tanh", Activation::tanh()).layer("mean", Pool::mean()),
        builder()
            .layer("norm", BatchNorm::new())
            .layer("lstm", PeepholeLstm::new(3))
            .layer("last", Pool::last()),
        builder().layer("lstm", LayerNormLstm::new(4)).layer("attention", AttentionPool::new()),
        builder().layer("columns", EmbedColumns::new().column(1, 5, 2)).layer("log_softmax", LogSoftmax),
        builder().layer("conv", Conv1d::new(4, 3).stride(2)).layer("max", Pool::max()),
        builder().layer("both", Branches::residual("f", skip)).layer("linear", Linear::new(2)),
    ];
    models.into_iter().map(|builder| builder.build(7).expect("a model")).collect()
}

/// As if it had been built for as many steps, to the bit, by whichever way.
#[test]
fn another_number_of_steps() -> Result<()> {
    for t in [4, 9, 40] {
        for (model, other) in for_any_length(9).into_iter().zip(for_any_length(t)) {
            let x = Array3::from_shape_fn((21, t, 3), |(i, t, f)| match f {
                1 => ((i + t) % 5) as f32,
                _ => (0.7 * (i * t + f) as f32).sin(),
            });
            let y = other.predict(&x)?;
            assert_eq!(model.predict(&x)?, y, "{model}");
            assert_eq!(model.output_shape_for(t)?, other.output_shape());
            let mut predictor = model.predictor()?;
            for n in [21, 2] {
                let built_for = Array3::zeros((n, 9, 3));
                assert_eq!(predictor.predict(x.slice(s![..n, .., ..]))?, y.slice(s![..n, .., ..]), "{model}");
                assert_eq!(predictor.predict(&built_for)?, model.predict(&built_for)?);
            }
            let lengths: Vec<_> = (0..21).map(|i| 3 + i % (t - 2)).collect();
            let steps = other.output_shape().t;
            let classes = ndarray::Array2::from_shape_fn((21, steps), |(i, t)| ((i + t) % 2) as i64);
            let data = match steps == t {
                true => Arrays::step_classes(x, classes, ["a", "b"])?.lengths(lengths)?,
                false => Arrays::classes(x, &classes.column(0).mapv(|class| class as usize), ["a", "b"])?,
            };
            assert_eq!(model.predict(&data)?, other.predict(&data)?);
            if steps == t || steps == 1 {
                assert_eq!(model.predict_classes(&data)?, other.predict_classes(&data)?);
                let loss = CrossEntropy::default();
                assert_eq!(
                    model.evaluate_with(&data, &loss)?.loss(),
                    other.evaluate_with(&data, &loss)?.loss()
                );
                assert_eq!(model.sample_losses(&data, &loss)?, other.sample_losses(&data, &loss)?);
            }
        }
    }
    Ok(())
}

/// Validation may be on other lengths than training, which is on those that the model was built for.
#[test]
fn validation_on_longer_sequences() -> Result<()> {
    let data = |t| {
        let x = Array3::from_shape_fn((12, t, 1), |(i, t, _)| ((i * t) as f32).sin());
        Arrays::classes(x, &[0, 1].repeat(6), ["a", "b"])
    };
    let (train, valid) = (data(4)?, data(11)?);
    let build = |t| {
        Model::builder(Shape::new(t, 1))
            .layer("gru", Gru::new(3).last())
            .layer("linear", Linear::new(2))
            .build(1)
    };
    let mut model: Model = build(4)?;
    let mut trainer = Trainer::new(CrossEntropy::default(), Sgd::new(0.1)).epochs(1).batch_size(4);
    let history = trainer.fit(&mut model, &train, Some(&valid))?;
    let mut longer: Model = build(11)?;
    longer.params_mut().as_mut_slice().copy_from_slice(model.params().as_slice());
    assert_eq!(history.epochs[0].valid.unwrap().accuracy, longer.evaluate(&valid)?.accuracy());
    Ok(())
}

#[test]
fn layers_of_one_length_say_so() -> Result<()> {
    let turned: Model = Model::builder(Shape::new(5, 3)).layer("turn", Transpose::new(5, 1)).build(1)?;
    let fault = turned.predict(&Array3::zeros((2, 4, 3))).unwrap_err().to_string();
    let rows = "`turn: rows`: found 5, expected 4, the steps of the input";
    assert_eq!(fault, format!("samples: found [2, 4, 3], expected [_, 5, 3]; {rows}"));
    let conv: Model = Model::builder(Shape::new(5, 3)).layer("conv", Conv1d::new(2, 3)).build(1)?;
    let fault = conv.predict(&Array3::zeros((2, 2, 3))).unwrap_err().to_string();
    assert!(fault.starts_with("samples: found [2, 2, 3], expected [_, 5, 3]; `conv: "), "{fault}");
    // What a layer above reads is as wide as there are steps.
    let wide = Model::builder(Shape::new(5, 3))
        .layer("turn", Branches::concat().branch("a", Chain::new().layer("turn", Transpose::new(5, 1))));
    let wide: Model = wide.layer("linear", Linear::new(2)).build(1)?;
    let data = Arrays::unlabelled(Array3::zeros((1, 6, 3)))?;
    assert!(wide.predict(&data).unwrap_err().to_string().contains("`turn: a: turn: rows`"));
    assert!(wide.evaluate(&Arrays::classes(Array3::zeros((1, 6, 3)), &[0], ["a"])?.first(1)?).is_err());
    Ok(())
}
