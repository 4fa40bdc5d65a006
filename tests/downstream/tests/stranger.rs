//! What a stranger would see to first: it learns, it comes back from its file, and its gradients are right.

use bptt::data::{Arrays, TargetShape};
use bptt::gradcheck::{Conform, GradCheck};
use bptt::ndarray::{Axis, s};
use bptt::nn::rnn::Recurrent;
use bptt::nn::{Description, Linear, Lstm};
use bptt::{Model, Result, Shape};
use bptt_downstream::{Janet, LogCosh, Residual, Softsign, layers, learn, waves};

#[test]
fn learns_and_comes_back() -> Result<()> {
    let model = learn(12)?;
    let (x, y) = waves(500);
    let predicted = model.predict(&x)?;
    // The last hundred were not trained on.
    let errors = (&predicted.index_axis(Axis(1), 0) - &y).mapv(|d| d * d);
    let error = errors.slice(s![400.., ..]).mean().unwrap();
    assert!(error < 0.01, "the mean squared error is {error}; the waves' own variance is a half");
    let measured = model.evaluate_with(&Arrays::vectors(x.clone(), y)?, &LogCosh)?;
    let loss = measured.loss().unwrap();
    assert!(loss < 0.005, "{loss}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waves.safetensors");
    model.save(&path)?;
    let loaded = Model::<f32>::load_with(&path, layers)?;
    assert_eq!(loaded.predict(&x)?, predicted);
    let stranger = Model::<f32>::load(&path).unwrap_err().to_string();
    assert!(stranger.contains("downstream.softsign"), "{stranger}");
    Ok(())
}

/// Gradients, padding, streams, files and all else, by one call each.
#[test]
fn layers_and_losses_keep_what_they_must() -> Result<()> {
    Conform::default().load(layers).layer(|| Softsign, Shape::new(3, 4))?;
    let residual = |_: &Description| Some(Box::new(Residual(Lstm::new(4).layers(2))) as _);
    Conform::default().load(residual).layer(|| Residual(Lstm::new(4).layers(2)), Shape::new(3, 4))?;
    let residual = |_: &Description| Some(Box::new(Residual(Lstm::new(2).bidirectional())) as _);
    Conform::default().load(residual).layer(|| Residual(Lstm::new(2).bidirectional()), Shape::new(3, 4))?;
    let output = Shape::new(2, 3);
    Conform::default().loss(&LogCosh, output, TargetShape::Values(output))?;
    Ok(())
}

#[test]
fn gradients_of_a_chain_are_right() -> Result<()> {
    let mut model = Model::<f64>::builder(Shape::new(5, 2))
        .layer("lstm", Lstm::new(4).last())
        .layer("softsign", Softsign)
        .layer("linear", Linear::new(1))
        .build(1)?;
    GradCheck::default().model(&mut model).assert_below(1e-6);
    Ok(())
}

/// A custom cell with a parameter of its own, in every way that a stack runs it.
#[test]
fn a_custom_cell() -> Result<()> {
    let janet = || Recurrent::with_cell(Janet, 3).layers(2);
    let conform = Conform::default().load(layers);
    conform.layer(janet, Shape::new(5, 2))?;
    conform.layer(|| janet().last().bias(false), Shape::new(5, 2))?;
    conform.layer(|| janet().bidirectional(), Shape::new(5, 2))?;
    Ok(())
}

/// One sample at a time is not another result than all at once.
#[test]
fn sample_by_sample() -> Result<()> {
    let model = learn(1)?;
    let (x, _) = waves(20);
    let whole = model.predict(&x)?;
    for (x, y) in x.axis_chunks_iter(Axis(0), 1).zip(whole.axis_chunks_iter(Axis(0), 1)) {
        assert!((&model.predict(x)? - &y).iter().all(|d| d.abs() < 1e-6));
    }
    Ok(())
}

/// An own loss refuses what it cannot measure, as the crate's losses do.
#[test]
fn classes_are_refused() {
    let (x, _) = waves(3);
    let data = Arrays::classes(x, &[0, 0, 0], ["wave"]).unwrap();
    let message = learn(0).unwrap().evaluate_with(&data, &LogCosh).unwrap_err().to_string();
    assert_eq!(
        message,
        "log-cosh: targets: found Classes { t: 1 }, expected values of the output's shape, [1, 1]"
    );
}
