//! A model without its dead units has the same output, and trains on in the same way.

use bptt::data::{Arrays, Batches, Dataset};
use bptt::loss::{CrossEntropy, Mse};
use bptt::nn::rnn::Recurrent;
use bptt::nn::rnn::cell::{Cell, CellStep, CellStepBack, Coupling};
use bptt::nn::{
    Activation, AttentionPool, Backward, BatchNorm, Build, Built, Conv1d, Conv2d, Description, Dropout,
    EmbedColumns, Embedding, Forward, Gru, Layer, LayerNorm, LayerNormLstm, Linear, LogSoftmax, Lstm,
    ModelBuilder, PeepholeLstm, Pool, Pool2d, Rnn, Transpose,
};
use bptt::optim::{Adam, AdamW, RmsProp, Sgd};
use bptt::prune::{Mask, Random, UnitScores, Units};
use bptt::train::{GradualPruning, Group, GroupLasso};
use bptt::{Model, Real, Result, Shape, Trainer, rng};
use ndarray::{Array1, Array3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;
use rand::Rng;
use serde::{Deserialize, Serialize};

fn boxed<C: Cell>(stack: Recurrent<C>, (layers, both, last): (usize, bool, bool)) -> Box<dyn Layer<f32>> {
    let mut stack = stack.layers(layers);
    if both {
        stack = stack.bidirectional();
    }
    if last {
        stack = stack.last();
    }
    Box::new(stack)
}

/// Every cell that is built in, in stacks of this form.
fn stacks(form: (usize, bool, bool)) -> Vec<(&'static str, Box<dyn Layer<f32>>)> {
    vec![
        ("lstm", boxed(Lstm::new(7), form)),
        ("lstm without biases, with dropout", boxed(Lstm::new(7).bias(false).dropout(0.5), form)),
        ("projected lstm", boxed(Lstm::new(7).proj_size(4), form)),
        ("peephole lstm", boxed(PeepholeLstm::new(7), form)),
        ("projected peephole lstm", boxed(PeepholeLstm::new(6).proj_size(5), form)),
        ("lstm with layer normalisation", boxed(LayerNormLstm::new(7), form)),
        ("projected lstm with layer normalisation", boxed(LayerNormLstm::new(7).proj_size(4), form)),
        ("gru", boxed(Gru::new(7), form)),
        ("gru, reset before", boxed(Gru::new(7).reset_after(false), form)),
        ("rnn", boxed(Rnn::new(7), form)),
        ("rnn with relu", boxed(Rnn::new(7).relu().bias(false), form)),
    ]
}

/// What may be between the stack and the output.
fn head(kind: u64, builder: ModelBuilder<f32>) -> ModelBuilder<f32> {
    let hidden = || Linear::new(6);
    match kind {
        0 => builder,
        1 => builder.layer("linear", Linear::new(3)),
        2 => builder.layer("a", hidden()).layer("relu", Activation::relu()).layer("b", Linear::new(3)),
        3 => builder.layer("sigmoid", Activation::sigmoid()).layer("b", Linear::new(3)),
        4 => builder
            .layer("drop", Dropout::new(0.5))
            .layer("tanh", Activation::tanh())
            .layer("mean", Pool::mean())
            .layer("b", Linear::new(3).bias(false))
            .layer("log", LogSoftmax),
        5 => builder.layer("a", hidden()).layer("norm", LayerNorm::new()).layer("b", Linear::new(3)),
        _ => builder.layer("gru", Gru::new(5)).layer("max", Pool::max()).layer("b", Linear::new(3)),
    }
}

/// Prunes units at random, some whole, of some only what is read of them, of others only what enters them, and single weights.
fn prune(model: &mut Model<f32>, seed: u64) {
    let mut rng = rng::rng(rng::key(&[seed, 7]));
    let mut scores = UnitScores::zeros(model.params().layout());
    let groups: Vec<_> = scores.units().groups().iter().filter(|group| !group.fixed).cloned().collect();
    for group in &groups {
        scores.get_mut(&group.name).unwrap().fill_with(|| rng.random_range(0.0..1.0));
    }
    if !groups.is_empty() {
        model.prune(Units::share(rng.random_range(0.0..0.6)).global().by(scores)).unwrap();
    }
    let layout = model.params().layout().clone();
    let (units, mut mask) = (layout.units(), Mask::new(layout.clone()));
    let fate: Vec<_> = (0..units.len()).map(|_| rng.random_range(0..8)).collect();
    for tensor in layout.tensors() {
        units.visit(tensor, |i, axis, unit| {
            mask.as_mut_slice()[i] |= fate[unit] == 0 && axis > 0 || fate[unit] == 1 && axis == 0;
        });
    }
    model.prune(&mask).unwrap();
    model.prune(Random::share(rng.random_range(0.0..0.7)).seed(seed)).unwrap();
}

fn units(model: &Model<impl Real>) -> usize {
    model.params().layout().units().len()
}

#[test]
fn the_output_is_the_same() -> Result<()> {
    let (mut largest, mut cut, mut split, mut all) = (0.0f32, 0, 0, 0);
    let forms =
        [1, 2, 3].into_iter().flat_map(|layers| (0..4).map(move |i| (layers, i % 2 == 1, i / 2 == 1)));
    for (f, form) in forms.enumerate() {
        for (s, (name, stack)) in stacks(form).into_iter().enumerate() {
            let seed = (100 * f + s) as u64;
            let builder = Model::builder(Shape::new(6, 3)).boxed("stack", stack);
            let mut model = head(seed % 7, builder).build(seed)?;
            prune(&mut model, seed);
            let small = model.compact()?;
            let x = Array3::random_using((5, 6, 3), Uniform::new(-2.0f32, 2.0).unwrap(), &mut rng::rng(seed));
            for x in [x.clone(), x.slice_move(ndarray::s![..1, .., ..])] {
                let difference =
                    (model.predict(&x)? - small.predict(&x)?).fold(0.0, |max: f32, d| max.max(d.abs()));
                assert!(difference == 0.0, "{name}, {form:?}, head {}: {difference:e}", seed % 7);
                largest = largest.max(difference);
            }
            let again = small.compact()?;
            assert_eq!(again.params().as_slice().len(), small.params().as_slice().len(), "{name}, {form:?}");
            let loaded: Model = Model::from_bytes(&small.to_bytes()?)?;
            assert_eq!(
                (loaded.params().as_slice(), loaded.mask()),
                (small.params().as_slice(), small.mask())
            );
            cut += units(&model) - units(&small);
            split += usize::from(small.params().layout().tensors()[0].name.starts_with("stack.0."));
            all += units(&model);
        }
    }
    println!("132 models: {cut} of {all} units cut, {split} stacks split; largest difference {largest:e}");
    assert!(5 * cut > all && split > 20, "{cut} of {all} units cut, {split} stacks split");
    Ok(())
}

fn shapes(model: &Model<impl Real>) -> Vec<(&str, Vec<usize>)> {
    model.params().layout().tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.shape())).collect()
}

#[test]
fn layers_of_different_sizes_are_one_layer_after_another() -> Result<()> {
    let lstm = Lstm::new(6).layers(2).bidirectional().dropout(0.2).last();
    let builder = Model::builder(Shape::new(4, 3)).layer("lstm", lstm).layer("linear", Linear::new(2));
    let mut model: Model = builder.classes(["no", "yes"]).build(1)?;
    model.prune(Units::share(0.5).only("lstm.l0*"))?;
    model.prune(Units::share(1.0 / 3.0).only("lstm.l1"))?;
    let small = model.compact()?;
    let found = shapes(&small);
    assert_eq!(found[0], ("lstm.0.weight_ih_l0", vec![4 * 3, 3]));
    assert_eq!(found[5], ("lstm.0.weight_hh_l0_reverse", vec![4 * 3, 3]));
    // Both directions keep as many units as the larger one.
    assert_eq!(found[8], ("lstm.1.weight_ih_l0", vec![4 * 6, 2 * 3]));
    assert_eq!(found[16], ("linear.weight", vec![2, 2 * 6]));
    let kinds: Vec<_> =
        small.to_string().lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["layer", "input", "lstm.0", "lstm.0.dropout", "lstm.1", "linear", "total"]);
    assert_eq!(small.classes(), ["no", "yes"]);
    // What is left of the mask are the units that stay for the other direction's sake.
    assert_eq!(small.sparsity().get("lstm.1.bias_ih_l0").unwrap().pruned, 4 * 2);

    model.prune(Units::share(0.5))?;
    let small = model.compact()?;
    assert_eq!(shapes(&small)[8], ("lstm.weight_ih_l1", vec![4 * 3, 2 * 3]));
    assert_eq!(small.mask(), None);
    // No layer is ever empty.
    model.prune(Random::share(1.0).with_biases())?;
    assert_eq!(shapes(&model.compact()?)[16], ("linear.weight", vec![2, 2]));
    Ok(())
}

#[test]
fn what_an_embedding_or_a_head_no_longer_has() -> Result<()> {
    let mut model: Model = Model::builder(Shape::new(5, 1))
        .layer("words", Embedding::new(9, 8))
        .layer("gru", Gru::new(4).last())
        .layer("hidden", Linear::new(6))
        .layer("relu", Activation::relu())
        .layer("linear", Linear::new(2))
        .build(1)?;
    model.prune(Units::share(0.25).only("words"))?;
    model.prune(Units::share(0.5).only("hidden"))?;
    let small = model.compact()?;
    let found = shapes(&small);
    assert_eq!([&found[0], &found[5]], [&("words.weight", vec![9, 6]), &("hidden.weight", vec![3, 4])]);
    let x = Array3::from_shape_fn((3, 5, 1), |(i, t, _)| ((3 * i + t) % 9) as f32);
    assert_eq!(small.predict(&x)?, model.predict(&x)?);
    Ok(())
}

/// Channels stay; what is above and below them is cut.
#[test]
fn a_model_with_convolutions() -> Result<()> {
    let mut model: Model = Model::builder(Shape::new(6, 8))
        .layer("conv", Conv2d::new(2, 3, [3, 3]).padding([1, 1]))
        .layer("pool", Pool2d::max(3, [2, 1]))
        .layer("norm", BatchNorm::channels(3))
        .layer("turn", Transpose::new(3, 3))
        .layer("lstm", Lstm::new(8).bidirectional())
        .layer("conv1d", Conv1d::new(4, 2))
        .layer("gru", Gru::new(6))
        .layer("attention", AttentionPool::new())
        .layer("linear", Linear::new(2))
        .build(1)?;
    model.prune(Units::share(0.5))?;
    let small = model.compact()?;
    let found = shapes(&small);
    let shape = |name: &str| &found.iter().find(|(found, _)| *found == name).unwrap().1;
    assert_eq!(shape("conv.weight"), &[3, 2, 3, 3]);
    // What a convolution reads stays too.
    assert_eq!(shape("lstm.weight_hh_l0"), &[32, 8]);
    assert_eq!((shape("gru.weight_ih_l0"), shape("attention.query")), (&vec![9, 4], &vec![3]));
    let x = Array3::random_using((5, 6, 8), Uniform::new(-2.0f32, 2.0).unwrap(), &mut rng::rng(1));
    assert_eq!(small.predict(&x)?, model.predict(&x)?);
    Ok(())
}

#[test]
fn what_tables_of_columns_no_longer_have() -> Result<()> {
    let mut model: Model = Model::builder(Shape::new(5, 3))
        .layer("tables", EmbedColumns::new().column(1, 9, 8).column(0, 7, 3))
        .layer("linear", Linear::new(2))
        .build(1)?;
    model.prune(Units::share(0.25).only("tables.0"))?;
    let small = model.compact()?;
    let expected = [("tables.0.weight", vec![9, 6]), ("tables.1.weight", vec![7, 3])];
    assert_eq!(shapes(&small)[..2], expected);
    let x = Array3::from_shape_fn((3, 5, 3), |(i, t, _)| ((3 * i + t) % 7) as f32);
    assert_eq!(small.predict(&x)?, model.predict(&x)?);
    Ok(())
}

// --- custom layers and cells ---

/// y = x, in any number of features.
#[derive(Clone, Debug)]
struct Same;

impl<R: Real> Layer<R> for Same {
    fn describe(&self) -> Description {
        Description::new("same", ())
    }
    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        Ok(Built::new(build.input().clone()))
    }
    fn forward(&self, pass: Forward<'_, R>) {
        pass.y.data.copy_from_slice(pass.x.data);
    }
    fn backward(&self, _: Backward<'_, R>) {}
}

/// h' = a, with or without a word on how units depend on one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plain<const SAYS: bool>;

impl<const SAYS: bool> Cell for Plain<SAYS> {
    const KIND: &'static str = "plain";
    const GATES: usize = 1;
    const HAS_CELL: bool = false;
    const COUPLING: Coupling = if SAYS { Coupling::Own { rest: &[0] } } else { Coupling::Unknown };

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        step.h.copy_from_slice(step.gates);
    }
    fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
        step.gates.copy_from_slice(step.dh);
    }
}

#[test]
fn custom_layers_take_part_or_are_named() -> Result<()> {
    let model = |layer: Box<dyn Layer<f32>>| {
        let builder = Model::builder(Shape::new(3, 2)).boxed("custom", layer).layer("rnn", Rnn::new(4));
        builder.layer("linear", Linear::new(1)).build(1)
    };
    let fault = model(Box::new(Same))?.compact().unwrap_err().to_string();
    let expected = "found a layer of kind `same`, expected one that has `Layer::wiring`";
    assert_eq!(fault, format!("`custom: compact`: {expected}"));
    let unknown = model(Box::new(Recurrent::with_cell(Plain::<false>, 6)))?;
    let fault = unknown.compact().unwrap_err().to_string();
    assert!(
        fault.ends_with("found a cell of kind `plain`, expected one that has `Cell::COUPLING`"),
        "{fault}"
    );
    let mut model = model(Box::new(Recurrent::with_cell(Plain::<true>, 6)))?;
    model.prune(Units::share(0.5))?;
    let small = model.compact()?;
    assert_eq!(shapes(&small)[0], ("custom.weight_ih_l0", vec![3, 2]));
    let x = Array3::ones((2, 3, 2));
    assert_eq!(small.predict(&x)?, model.predict(&x)?);
    Ok(())
}

// --- training ---

fn data() -> Arrays<f32> {
    let y = Array1::from_shape_fn(90, |i| i % 2);
    let x = Array3::from_shape_fn((90, 6, 2), |(i, t, f)| {
        let slope = if y[i] == 0 { 0.2 } else { -0.2 };
        ((i * 7 % 20) as f64 / 10.0 - 1.0 + slope * (t + f) as f64) as f32
    });
    Arrays::classes(x, &y, ["rising", "falling"]).unwrap()
}

fn model() -> Model {
    let builder = Model::builder(Shape::new(6, 2)).layer("lstm", Lstm::new(8).layers(2).last());
    builder.layer("linear", Linear::new(2)).build(1).unwrap()
}

/// Four epochs, units pruned after two of them. The weights and their averages at the end, of the smaller model.
fn trained(trainer: &Trainer, compact: bool) -> Result<(Vec<f32>, Vec<f32>)> {
    let (data, mut model) = (data(), model());
    let mut stepper = trainer.stepper(&model, &data)?;
    let mut batches = Batches::new(data.len(), 32, 1)?;
    for epoch in 1..=4 {
        for batch in batches.epoch(epoch)? {
            stepper.step(&mut model, &data, batch)?;
        }
        if epoch == 2 {
            model.prune(Units::share(0.25).only("lstm.l0"))?;
            model.prune(Units::share(0.5).only("lstm.l1"))?;
            if compact {
                stepper.compact(&mut model)?;
                let expected =
                    [("lstm.0.weight_ih_l0", vec![4 * 6, 2]), ("lstm.1.weight_ih_l0", vec![4 * 4, 6])];
                assert_eq!([&shapes(&model)[0], &shapes(&model)[4]], [&expected[0], &expected[1]]);
            }
        }
    }
    let last = model.compact()?.params().as_slice().to_vec();
    stepper.swap_average(&mut model);
    Ok((last, model.compact()?.params().as_slice().to_vec()))
}

#[test]
fn a_smaller_model_trains_on_as_the_pruned_one() -> Result<()> {
    let trainer = |optimizer| Trainer::new(CrossEntropy::default(), optimizer).batch_size(32);
    let frozen = || {
        let own = Group::new().lr_scale(0.3).optimizer(Sgd::new(0.1).momentum(0.9));
        let trainer = Trainer::new(CrossEntropy::default(), AdamW::new(0.01).amsgrad()).batch_size(32);
        trainer.freeze("lstm.weight_hh_l0").freeze("lstm.bias*l1").group("linear.*", own).ema(0.8)
    };
    let momentum = RmsProp::new(0.01).centered().momentum(0.9).weight_decay(0.1);
    let mut largest = 0.0f32;
    for trainer in [
        trainer(Adam::new(0.02)),
        frozen(),
        Trainer::new(CrossEntropy::default(), momentum).batch_size(32).ema(0.5),
    ] {
        let (large, small) = (trained(&trainer, false)?, trained(&trainer, true)?);
        for (large, small) in [(large.0, small.0), (large.1, small.1)] {
            assert_eq!(large.len(), small.len());
            let difference = large.iter().zip(&small).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(difference, 0.0);
            largest = largest.max(difference);
        }
    }
    println!("largest difference of a weight or average after two epochs: {largest:e}");
    let mut other = Model::builder(Shape::new(6, 2)).layer("linear", Linear::new(2)).build(1)?;
    let trainer = trainer(Adam::new(0.02));
    let mut stepper = trainer.stepper(&model(), &data())?;
    assert!(stepper.compact(&mut other).unwrap_err().to_string().starts_with("a step: found a model of"));
    Ok(())
}

/// The derivative of the loss with respect to a factor of a unit's output, by central differences.
#[test]
fn importance_is_a_derivative() -> Result<()> {
    let x = Array3::random_using((4, 5, 2), Uniform::new(-1.0, 1.0).unwrap(), &mut rng::rng(1));
    let y = Array3::from_shape_fn((4, 1, 1), |(i, ..)| [0.5, -0.25, 1.0, 0.0][i]);
    let data = Arrays::values(x, y)?;
    let lstm = Lstm::new(3).layers(2).last();
    let mut model = Model::<f64>::builder(Shape::new(5, 2))
        .layer("lstm", lstm)
        .layer("linear", Linear::new(1))
        .build(1)?;
    let trainer = Trainer::new(Mse, Adam::new(0.1)).batch_size(4).freeze("linear.*");
    let scores = trainer.unit_importance(&model, &data)?;
    let (layout, before) = (model.params().layout().clone(), model.params().as_slice().to_vec());
    let units = layout.units();
    for group in units.groups().iter().filter(|group| !group.fixed) {
        for (k, unit) in group.units.clone().enumerate() {
            let mut loss = |factor: f64| {
                let mut params = model.params_mut();
                params.as_mut_slice().copy_from_slice(&before);
                for tensor in layout.tensors() {
                    units.visit_weights(tensor, |i, _, read| {
                        if read == unit {
                            params.as_mut_slice()[i] *= factor;
                        }
                    });
                }
                drop(params);
                model.evaluate_with(&data, &Mse).map(|evaluation| evaluation.loss().unwrap())
            };
            let slope = (loss(1.0 + 1e-5)? - loss(1.0 - 1e-5)?) / 2e-5;
            let found = scores.get(&group.name).unwrap()[k];
            assert!(
                (found - slope * slope).abs() < 1e-8 * (1.0 + found),
                "{}, {k}: {found} {slope}",
                group.name
            );
            assert!(found > 0.0);
        }
    }
    Ok(())
}

#[test]
fn a_lasso_empties_units() -> Result<()> {
    let fit = |lambda: f64, frozen: bool| {
        let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(60).batch_size(30);
        trainer = trainer.group_lasso(GroupLasso::new(lambda).only("lstm.l1"));
        if frozen {
            trainer = trainer.freeze("linear.weight");
        }
        let mut model = model();
        trainer.fit(&mut model, &data(), None)?;
        Ok::<_, bptt::Error>(model)
    };
    let large = fit(0.3, false)?;
    let small = large.compact()?;
    let found = shapes(&small);
    let left = found[found.len() - 2].1[1];
    assert!((1..8).contains(&left), "{left} units left");
    assert_eq!(shapes(&fit(0.0, false)?.compact()?), shapes(&model()));
    assert_eq!(small.evaluate(&data())?.loss(), large.evaluate(&data())?.loss());
    assert!(small.evaluate(&data())?.accuracy() > Some(0.9));
    let name = "linear.weight";
    assert_eq!(fit(0.3, true)?.params().get(name), model().params().get(name));
    let fault = |lasso| {
        let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.1)).group_lasso(lasso);
        trainer.fit(&mut model(), &data(), None).unwrap_err().to_string()
    };
    assert!(fault(GroupLasso::new(-1.0)).starts_with("`lambda`: found -1"));
    assert!(fault(GroupLasso::new(1.0).only("linear")).contains("expected one of lstm.l0, lstm.l1"));
    Ok(())
}

#[test]
fn units_go_gradually() -> Result<()> {
    let gradual = GradualPruning::units(0.75).from_epoch(2).until_epoch(4);
    let mut model = model();
    let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(20).batch_size(30);
    trainer.callback(gradual).fit(&mut model, &data(), None)?;
    let small = model.compact()?;
    assert_eq!(shapes(&small)[5], ("lstm.weight_hh_l1", vec![4 * 2, 2]));
    assert_eq!(small.evaluate(&data())?.loss(), model.evaluate(&data())?.loss());
    Ok(())
}

/// A unit whose output hardly changes is hardly missed, if its mean goes to the biases.
#[test]
fn biases_take_over_what_is_cut() -> Result<()> {
    for (kind, stack) in stacks((2, false, true)).into_iter().chain(stacks((2, true, false))) {
        let builder = Model::builder(Shape::new(12, 2)).boxed("stack", stack);
        let mut model = builder.layer("linear", Linear::new(2)).build(3)?;
        // So that the units of the first layer are nearly constant.
        for name in ["stack.weight_ih_l0", "stack.weight_hh_l0"] {
            model.params_mut().get_mut(name).unwrap().mapv_inplace(|w| 0.05 * w);
        }
        let x = Array3::random_using((40, 12, 2), Uniform::new(0.0f32, 1.0).unwrap(), &mut rng::rng(5));
        let before = model.predict(&x)?;
        let missed = |pruned: &Model| {
            let difference = pruned.predict(&x)? - &before;
            Ok::<_, bptt::Error>(difference.mapv(|d| f64::from(d * d)).sum().sqrt())
        };
        let group = model.params().layout().units().groups().iter().find(|group| !group.fixed).cloned();
        let Some(group) = group else {
            let fault = model.prune(Units::share(0.5)).unwrap_err().to_string();
            assert!(fault.ends_with("found none that can be cut, expected at least one"), "{kind}: {fault}");
            continue;
        };
        let rule = Units::share(0.5).only(&*group.name);
        let (mut plain, mut compensated) = (model.clone(), model.clone());
        let sparsity = plain.prune(&rule)?;
        assert_eq!(compensated.prune_compensated(&rule, &x)?, sparsity);
        assert_eq!(plain.mask(), compensated.mask());
        let (plain, compensated) = (missed(&plain)?, missed(&compensated)?);
        println!("{kind}: {plain:.4} without, {compensated:.4} with compensation");
        let biases = model.params().layout().get("stack.bias_ih_l0").is_some();
        // A projection has no bias to take anything over, and layer normalisation takes a constant out again.
        let skipped = ["normalisation", "projected", "reset before"].iter().any(|part| kind.contains(part));
        if biases && !skipped {
            assert!(compensated < 0.5 * plain, "{kind}: {compensated} with, {plain} without");
        }
        assert_eq!(model.clone().prune_compensated(Units::share(0.0), &x)?.pruned(), 0);
    }
    let mut other = model();
    assert!(other.prune_compensated(Units::share(0.5), &Array3::ones((1, 1, 2))).is_err());
    assert_eq!(other.mask(), None);
    Ok(())
}
