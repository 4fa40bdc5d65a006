//! Recurrent layers of many sizes, long sequences and chains against central differences in f64, at every SIMD level that
//! the machine has. Every layer by itself, and every loss, is in `conform.rs`.

#[path = "common/simd_levels.rs"]
mod simd_levels;

use bptt::gradcheck::GradCheck;
use bptt::nn::rnn::{Cell, Recurrent};
use bptt::nn::{Activation, Gru, Layer, LayerNormLstm, Linear, Lstm, PeepholeLstm, Rnn};
use bptt::{Model, Result, Shape};

const TOLERANCE: f64 = 1e-6;

/// Shapes, batches: one step, one sample, a batch of one more than the lanes.
fn shapes() -> impl Iterator<Item = (Shape, usize)> {
    [(1, 1, 1), (1, 3, 2), (4, 2, 1), (5, 3, 9)].into_iter().map(|(t, f, batch)| (Shape::new(t, f), batch))
}

fn check(layer: impl Fn() -> Box<dyn Layer<f64>>) -> Result<()> {
    check_by(GradCheck::default(), layer)
}

/// With steps so short that none of these seeds' values crosses a kink.
fn check_with_kinks(layer: impl Fn() -> Box<dyn Layer<f64>>) -> Result<()> {
    check_by(GradCheck::default().step(1e-5).floor(1e-2), layer)
}

fn check_by(check: GradCheck, layer: impl Fn() -> Box<dyn Layer<f64>>) -> Result<()> {
    for (shape, batch) in shapes() {
        let mut model = Model::builder(shape).boxed("layer", layer()).build(7)?;
        check.batch(batch).model(&mut model).assert_below(TOLERANCE);
    }
    Ok(())
}

#[test]
fn lstm() -> Result<()> {
    for (hidden, layers) in [(1, 1), (3, 2), (5, 3), (13, 1)] {
        check(|| Box::new(Lstm::new(hidden).layers(layers)))?;
        check(|| Box::new(Lstm::new(hidden).layers(layers).last()))?;
    }
    Ok(())
}

#[test]
fn rnn() -> Result<()> {
    for (hidden, layers) in [(1, 1), (3, 2), (13, 2)] {
        check(|| Box::new(Rnn::new(hidden).layers(layers)))?;
        check(|| Box::new(Rnn::new(hidden).layers(layers).last()))?;
        check_with_kinks(|| Box::new(Rnn::new(hidden).layers(layers).relu()))?;
    }
    Ok(())
}

#[test]
fn gru() -> Result<()> {
    for (hidden, layers) in [(1, 1), (3, 2), (13, 2)] {
        check(|| Box::new(Gru::new(hidden).layers(layers)))?;
        check(|| Box::new(Gru::new(hidden).layers(layers).last()))?;
    }
    Ok(())
}

/// Several layers, one direction and both, the last state alone, sequences of different lengths, and of many chunks.
fn in_every_way<C: Cell>(make: impl Fn(usize) -> Recurrent<C>) -> Result<()> {
    for (hidden, layers) in [(2, 1), (3, 2)] {
        let stack = || make(hidden).layers(layers);
        check(|| Box::new(stack()))?;
        check(|| Box::new(stack().last()))?;
        check(|| Box::new(stack().bidirectional()))?;
        for check in [GradCheck::default(), GradCheck::default().ragged()] {
            check_by(check, || Box::new(stack()))?;
            check_by(check, || Box::new(stack().bidirectional().last()))?;
        }
    }
    // More units than a vector has lanes.
    GradCheck::default().layer(make(17), Shape::new(3, 2))?.assert_below(TOLERANCE);
    for stack in [make(3).layers(2), make(2).layers(2).bidirectional()] {
        let mut model = Model::builder(Shape::new(67, 2)).layer("layer", stack).build(7)?;
        GradCheck::default().batch(3).ragged().model(&mut model).assert_below(TOLERANCE);
    }
    Ok(())
}

#[test]
fn peephole_lstm() -> Result<()> {
    check(|| Box::new(PeepholeLstm::new(1)))?;
    in_every_way(PeepholeLstm::new)
}

#[test]
fn layer_norm_lstm() -> Result<()> {
    // Of values as close as the few of a small layer can be, the norm is steep; ε keeps the differences' own error down.
    in_every_way(|hidden| LayerNormLstm::new(hidden).eps(0.1))?;
    check(|| Box::new(LayerNormLstm::new(3).eps(0.1).bias(true).layers(2)))
}

#[test]
fn projections() -> Result<()> {
    check(|| Box::new(Lstm::new(3).proj_size(1).layers(2)))?;
    in_every_way(|hidden| Lstm::new(hidden + 2).proj_size(hidden))?;
    check(|| Box::new(PeepholeLstm::new(4).proj_size(3)))?;
    check(|| Box::new(LayerNormLstm::new(4).eps(0.1).proj_size(3)))
}

#[test]
fn gru_with_the_reset_gate_before_the_product() -> Result<()> {
    check(|| Box::new(Gru::new(1).reset_after(false)))?;
    in_every_way(|hidden| Gru::new(hidden).reset_after(false))
}

#[test]
fn without_biases() -> Result<()> {
    check(|| Box::new(Linear::new(5).bias(false)))?;
    in_every_way(|hidden| Lstm::new(hidden).bias(false))?;
    check(|| Box::new(Gru::new(3).layers(2).bias(false)))?;
    check(|| Box::new(Gru::new(3).layers(2).reset_after(false).bias(false)))?;
    check(|| Box::new(Rnn::new(3).layers(2).bias(false)))
}

/// Longer than what a pass back takes at a time.
#[test]
fn long_sequences() -> Result<()> {
    let (whole, ragged) = (GradCheck::default().batch(3), GradCheck::default().batch(3).ragged());
    for check in [whole, ragged] {
        let layers: [Box<dyn Layer<f64>>; 5] = [
            Box::new(Lstm::new(3).layers(2)),
            Box::new(Lstm::new(3).layers(2).last()),
            Box::new(Lstm::new(2).layers(2).bidirectional()),
            Box::new(Gru::new(3).layers(2)),
            Box::new(Rnn::new(3).layers(2).last()),
        ];
        for layer in layers {
            let mut model = Model::builder(Shape::new(67, 2)).boxed("layer", layer).build(7)?;
            check.model(&mut model).assert_below(TOLERANCE);
        }
    }
    Ok(())
}

#[test]
fn a_chain_of_layers() -> Result<()> {
    let mut model = Model::builder(Shape::new(4, 3))
        .layer("rnn", Rnn::new(4))
        .layer("tanh", Activation::tanh())
        .layer("lstm", Lstm::new(5).layers(2).last())
        .layer("linear", Linear::new(3))
        .build(3)?;
    let report = GradCheck::default().batch(9).model(&mut model);
    report.assert_below(TOLERANCE);
    assert_eq!(report.entries.len(), 4 + 8 + 2 + 1 + 2, "every tensor, the input and two initial states");
    Ok(())
}
