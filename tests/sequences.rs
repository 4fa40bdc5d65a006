//! Sequences of different lengths in one batch, chunks of time, and both directions.

use bptt::nn::{Gru, Layer, LayerNormLstm, Lstm, Mode, PeepholeLstm, Rnn, Session, Workspace};
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
