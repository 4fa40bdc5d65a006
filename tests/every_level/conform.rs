//! Every layer, loss and optimizer held to what it must keep; and what breaks one of these properties is found, under
//! its name.

use bptt::data::TargetShape;
use bptt::gradcheck::{Conform, conform};
use bptt::loss::{
    BceWithLogits, CrossEntropy, Ctc, Huber, L1, Loss, Mse, MultiMargin, Nll, SmoothL1, Tile, WeightedMean,
};
use bptt::nn::{
    Activation, AttentionPool, Backward, BatchNorm, Branches, Build, Built, Chain, Conv1d, Conv2d,
    Description, Dropout, EmbedColumns, Embedding, Forward, Gru, Layer, LayerNorm, LayerNormLstm, Linear,
    LogSoftmax, Lstm, Mode, PeepholeLstm, Pool, Pool2d, Rnn, Transpose,
};
use bptt::optim::{Adam, AdamW, Adamax, Muon, Optimizer, RmsProp, Sgd, Update};
use bptt::{Init, Real, Result, Shape};

/// Some steps of an even number of features.
const INPUT: Shape = Shape::new(5, 4);

/// Fewer, for layers of many parameters: each is moved four times for each of the gradients' checks.
const FEW: Shape = Shape::new(4, 2);

#[test]
fn recurrent_layers() -> Result<()> {
    conform(|| Lstm::new(3), FEW)?;
    conform(|| Lstm::new(3).layers(2).last(), FEW)?;
    conform(|| Lstm::new(3).layers(2).bidirectional().dropout(0.4), FEW)?;
    conform(|| Lstm::new(2).bidirectional().last(), FEW)?;
    conform(|| Gru::new(3).layers(2), FEW)?;
    conform(|| Gru::new(13).last(), FEW)?;
    conform(|| Gru::new(3).layers(2).bidirectional(), FEW)?;
    conform(|| Gru::new(3).layers(2).reset_after(false).dropout(0.3), FEW)?;
    conform(|| Gru::new(3).reset_after(false).bidirectional().last(), FEW)?;
    conform(|| PeepholeLstm::new(3).layers(2).dropout(0.3), FEW)?;
    conform(|| PeepholeLstm::new(3).layers(2).bidirectional().last(), FEW)?;
    conform(|| LayerNormLstm::new(5).eps(0.1).layers(2).dropout(0.3), FEW)?;
    conform(|| LayerNormLstm::new(5).eps(0.1).bidirectional().last(), FEW)?;
    conform(|| Lstm::new(4).proj_size(2).layers(3).dropout(0.3), FEW)?;
    conform(|| Lstm::new(4).proj_size(3).layers(2).bidirectional().bias(false), FEW)?;
    conform(|| Lstm::new(3).bias(false).layers(2), FEW)?;
    conform(|| Rnn::new(3).layers(3).dropout(0.3), FEW)?;
    conform(|| Rnn::new(3).bidirectional().last(), FEW)?;
    Conform::default().kinks().layer(|| Rnn::new(3).layers(2).relu(), INPUT)?;
    Ok(())
}

#[test]
fn recurrent_layers_of_other_kinds() -> Result<()> {
    conform(|| Gru::new(3).reset_after(false), FEW)?;
    conform(|| Lstm::new(4).layers(2).proj_size(3).bidirectional(), FEW)?;
    conform(|| Lstm::new(3).bias(false), FEW)?;
    conform(|| PeepholeLstm::new(3).layers(2), FEW)?;
    conform(|| PeepholeLstm::new(3).bidirectional().last(), FEW)?;
    conform(|| LayerNormLstm::new(3).layers(2), FEW)?;
    conform(|| LayerNormLstm::new(3).bidirectional().last(), FEW)?;
    Ok(())
}

/// Longer than what a pass takes at a time, which is 32 steps.
#[test]
fn recurrent_layers_over_many_steps() -> Result<()> {
    let long = Shape::new(35, 1);
    conform(|| Lstm::new(2).layers(2), long)?;
    conform(|| Gru::new(2).layers(2).last(), long)?;
    conform(|| Rnn::new(2).layers(2).bidirectional(), long)?;
    conform(|| Gru::new(2).layers(2).reset_after(false), long)?;
    conform(|| PeepholeLstm::new(2).layers(2), long)?;
    conform(|| LayerNormLstm::new(3).eps(0.1).layers(2), long)?;
    conform(|| Lstm::new(3).proj_size(2).layers(2), long)?;
    Ok(())
}

#[test]
fn other_layers() -> Result<()> {
    for out in [1, 5, 12] {
        conform(|| Linear::new(out), INPUT)?;
        conform(|| Linear::new(out).bias(false), INPUT)?;
    }
    conform(Activation::tanh, INPUT)?;
    conform(Activation::sigmoid, INPUT)?;
    Conform::default().kinks().layer(Activation::relu, INPUT)?;
    conform(|| LogSoftmax, INPUT)?;
    for p in [0.0, 0.3, 1.0] {
        conform(|| Dropout::new(p), INPUT)?;
        conform(|| Dropout::new(p).locked(), INPUT)?;
    }
    conform(LayerNorm::new, INPUT)?;
    conform(|| LayerNorm::new().eps(0.1).elementwise_affine(false), INPUT)?;
    conform(|| BatchNorm::new().eps(0.1), INPUT)?;
    conform(|| BatchNorm::channels(2).eps(0.1).affine(false), INPUT)?;
    conform(Pool::last, INPUT)?;
    conform(Pool::mean, INPUT)?;
    Conform::default().kinks().layer(Pool::max, INPUT)?;
    Conform::default().indices(6).layer(|| Embedding::new(6, 3), Shape::new(5, 1))?;
    let some = || EmbedColumns::new().column(2, 6, 3).column(0, 7, 1);
    Conform::default().indices(6).layer(some, Shape::new(5, 4))?;
    Conform::default().indices(6).layer(|| EmbedColumns::new().column(0, 6, 2), Shape::new(5, 1))?;
    Ok(())
}

#[test]
fn convolutions() -> Result<()> {
    conform(|| Conv1d::new(3, 1), INPUT)?;
    conform(|| Conv1d::new(3, 3), INPUT)?;
    conform(|| Conv1d::new(2, 4).stride(2).padding(2), INPUT)?;
    conform(|| Conv1d::new(2, 5).padding(4).bias(false), FEW)?;
    conform(|| Conv1d::new(3, 2).causal().stride(2), INPUT)?;
    // One channel, two, and one for each feature.
    conform(|| Conv2d::new(1, 3, [2, 2]), INPUT)?;
    conform(|| Conv2d::new(2, 3, [3, 2]).padding([1, 1]), INPUT)?;
    conform(|| Conv2d::new(4, 5, [2, 1]).stride([2, 1]).bias(false), INPUT)?;
    conform(|| Conv2d::new(1, 2, [5, 3]).padding([2, 2]).stride([3, 2]), Shape::new(7, 5))?;
    for held in [
        conform(|| Conv1d::new(3, 3).causal(), INPUT)?,
        conform(|| Conv1d::new(2, 6).causal(), INPUT)?,
        conform(|| Conv2d::new(2, 2, [4, 3]).causal().padding([0, 1]).stride([1, 2]), Shape::new(5, 6))?,
        conform(|| Conv2d::new(2, 3, [1, 2]), INPUT)?,
    ] {
        assert!(held.properties().any(|name| name == "stream"), "{held}");
    }
    Ok(())
}

#[test]
fn pooling_of_pixels() -> Result<()> {
    let input = Shape::new(5, 6);
    for pool in [Pool2d::max, Pool2d::mean] {
        Conform::default().kinks().layer(|| pool(2, [2, 2]), input)?;
        Conform::default().kinks().layer(|| pool(1, [3, 2]).stride([1, 1]), input)?;
    }
    Conform::default().kinks().layer(|| Pool2d::max(2, [1, 3]), input)?;
    Conform::default().kinks().layer(|| Pool2d::global_max(3), input)?;
    conform(|| Pool2d::global_mean(3), input)?;
    Ok(())
}

#[test]
fn transposition_and_attention() -> Result<()> {
    conform(|| Transpose::new(5, 1), INPUT)?;
    conform(|| Transpose::new(5, 2), INPUT)?;
    conform(AttentionPool::new, INPUT)?;
    Ok(())
}

/// A layer that is generic in what it holds is made for each scalar type.
macro_rules! conform_boxed {
    ($make:expr) => {
        Conform::default().boxed_layer(&|| Box::new($make), &|| Box::new($make), FEW)
    };
}

#[test]
fn layers_that_hold_layers() -> Result<()> {
    // One lane, and streams.
    let held = conform_boxed!(
        Branches::concat()
            .branch("lstm", Chain::new().layer("norm", LayerNorm::new().eps(0.1)).layer("lstm", Lstm::new(3)))
            .branch("same", Chain::new())
            .branch(
                "conv",
                Chain::new().layer("conv", Conv1d::new(2, 3).causal()).layer("tanh", Activation::tanh())
            )
    )?;
    assert!(held.properties().any(|name| name == "stream"), "{held}");
    // Lengths that change, masks, and branches within a branch.
    conform_boxed!(
        Branches::concat()
            .branch("a", Chain::new().layer("conv", Conv1d::new(3, 2)).layer("drop", Dropout::new(0.4)))
            .branch("b", Chain::new().layer("drop", Dropout::new(0.4)).layer("conv", Conv1d::new(2, 2)))
            .branch(
                "c",
                Chain::new()
                    .layer("residual", Branches::residual("f", Chain::new().layer("linear", Linear::new(2))))
                    .layer("conv", Conv1d::new(1, 2))
            )
    )?;
    conform_boxed!(Branches::residual(
        "gru",
        Chain::new().layer("gru", Gru::new(2)).layer("sigmoid", Activation::sigmoid())
    ))?;
    conform_boxed!(Branches::residual(
        "norm",
        Chain::new().layer("linear", Linear::new(2)).layer("norm", BatchNorm::new().eps(0.1))
    ))?;
    let held = conform_boxed!(
        Branches::concat().branch("rows", Chain::new().layer("lstm", Lstm::new(2).last())).branch(
            "columns",
            Chain::new().layer("turn", Transpose::new(4, 1)).layer("lstm", Lstm::new(2).last())
        )
    )?;
    assert!(held.properties().any(|name| name == "one lane"), "{held}");
    Ok(())
}

#[test]
fn the_report_names_what_was_checked() -> Result<()> {
    let all = [
        "length",
        "output overwritten",
        "cache",
        "input gradient overwritten",
        "gradients added",
        "pads",
        "padding",
        "tiles",
        "inference",
    ];
    let properties = |held: bptt::gradcheck::Conformance| held.properties().collect::<Vec<_>>();
    let last = ["gradients", "saving"];
    let found = properties(conform(|| Lstm::new(3).bidirectional(), INPUT)?);
    assert_eq!(found, [&all[..], &["one lane"], &last].concat());
    let held = conform(|| Lstm::new(3), INPUT)?;
    assert!(held.to_string().starts_with("layer `lstm` keeps\n  length"), "{held}");
    assert!(held.held.iter().all(|&(_, values)| values > 0), "{held}");
    assert_eq!(properties(held), [&all[..], &["one lane", "stream"], &last].concat());
    Ok(())
}

/// A property that a layer breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Break {
    Nothing,
    Length,
    Sign,
    Saving,
    Output,
    Cache,
    InputGradient,
    Gradients,
    WithoutInputGradient,
    Pads,
    Padding,
    Tiles,
    Inference,
    OneLane,
    State,
}

/// sₜ = w ⊙ xₜ + decay sₜ₋₁, and y = s: plain loops, which do one thing wrong.
#[derive(Clone, Copy, Debug)]
struct Sum {
    decay: f64,
    wrong: Break,
}

impl Sum {
    fn len<R: Real>(&self, cx: &bptt::nn::Context<'_, R>, t: usize, lane: usize) -> usize {
        match cx.lens {
            Some(lens) if lane < cx.valid && self.wrong != Break::Padding => lens[lane] as usize,
            _ => t,
        }
    }
}

impl<R: Real> Layer<R> for Sum {
    fn describe(&self) -> Description {
        Description::new("sum", if self.wrong == Break::Saving { 0.5 } else { self.decay })
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        build.tensor("weight", [build.input().units.clone()], Init::Uniform(1.0))?;
        Ok(Built::new(build.input().clone()).state(build.input().shape.f).cache(1).infer_cache(1))
    }

    fn length(&self, _: Shape, len: usize) -> usize {
        if self.wrong == Break::Length { len.div_ceil(2) } else { len }
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, y, state, cache, .. }: Forward<'_, R>) {
        let (f, lanes) = (x.shape.f, x.lanes);
        for (i, state) in state.iter_mut().enumerate() {
            let (row, lane) = (i / lanes, i % lanes);
            let mut s = *state;
            for t in 0..x.shape.t {
                let at = t * f * lanes + i;
                let before = if self.wrong == Break::Output { y.data[at] } else { R::ZERO };
                if t >= self.len(&cx, x.shape.t, lane) {
                    y.data[at] = R::ZERO;
                    continue;
                }
                s = cx.params[row] * x.data[at] + R::from_f64(self.decay) * s;
                y.data[at] = before + s;
                match self.wrong {
                    Break::Cache => y.data[at] += cache[lane] * R::ZERO,
                    Break::Tiles => y.data[at] += R::from_f64(lane as f64),
                    Break::Inference if cx.mode == Mode::Infer => y.data[at] += R::ONE,
                    Break::OneLane if lanes == 1 => y.data[at] += R::ONE,
                    _ => {}
                }
            }
            if self.wrong != Break::State {
                *state = s;
            }
        }
    }

    fn backward(&self, Backward { cx, x, dy, mut dx, dstate, grads, .. }: Backward<'_, R>) {
        let (f, lanes) = (x.shape.f, x.lanes);
        if self.wrong == Break::Gradients || (self.wrong == Break::WithoutInputGradient && dx.is_none()) {
            grads.fill(R::ZERO);
        }
        for (i, dstate) in dstate.iter_mut().enumerate() {
            let (row, lane) = (i / lanes, i % lanes);
            let (mut ds, kept) =
                if self.wrong == Break::State { (R::ZERO, *dstate) } else { (*dstate, R::ZERO) };
            for t in (0..x.shape.t).rev() {
                let at = t * f * lanes + i;
                let mut to = R::ZERO;
                if t < self.len(&cx, x.shape.t, lane) {
                    ds += dy.data[at];
                    grads[row] += ds * x.data[at];
                    to = if self.wrong == Break::Sign { -ds } else { ds } * cx.params[row];
                    ds = R::from_f64(self.decay) * ds;
                }
                match &mut dx {
                    Some(dx) if self.wrong == Break::InputGradient => dx.data[at] += to,
                    Some(_) if self.wrong == Break::Pads && lane >= cx.valid => {}
                    Some(dx) => dx.data[at] = to,
                    None => {}
                }
                if let Some(dx) = dx.as_mut().filter(|_| self.wrong == Break::Pads && lane >= cx.valid) {
                    dx.data[at] = x.data[at];
                }
            }
            *dstate = ds + kept;
        }
    }
}

fn conform_sum(wrong: Break) -> Result<bptt::gradcheck::Conformance> {
    let load = |description: &Description| -> Option<Box<dyn Layer<f64>>> {
        let decay = description.config.as_f64()?;
        (description.kind == "sum").then(|| Box::new(Sum { decay, wrong: Break::Nothing }) as _)
    };
    Conform::default().load(load).layer(|| Sum { decay: 0.25, wrong }, INPUT)
}

#[test]
fn broken_layers_are_found() -> Result<()> {
    conform_sum(Break::Nothing)?;
    let unknown = conform(|| Sum { decay: 0.25, wrong: Break::Nothing }, INPUT).unwrap_err().to_string();
    assert!(unknown.starts_with("layer `sum`: saving: loading: found"), "{unknown}");
    for (wrong, property) in [
        (Break::Length, "length"),
        (Break::Sign, "gradients"),
        (Break::Saving, "saving"),
        (Break::Output, "output overwritten"),
        (Break::Cache, "cache"),
        (Break::InputGradient, "input gradient overwritten"),
        (Break::Gradients, "gradients added"),
        (Break::WithoutInputGradient, "gradients added"),
        (Break::Pads, "pads"),
        (Break::Padding, "padding"),
        (Break::Tiles, "tiles"),
        (Break::Inference, "inference"),
        (Break::OneLane, "one lane"),
        (Break::State, "stream"),
    ] {
        let Err(fault) = conform_sum(wrong) else { panic!("{wrong:?} was not found") };
        let message = fault.to_string();
        assert!(message.starts_with(&format!("layer `sum`: {property}: ")), "{wrong:?}: {message}");
        assert!(message.contains("found ") && message.contains("expected "), "{message}");
    }
    Ok(())
}

#[test]
fn losses() -> Result<()> {
    let output = Shape::new(3, 5);
    let weight = [0.5, 2.0, 1.0, 0.25, 3.0];
    let of_classes: [Box<dyn Loss<f64>>; 7] = [
        Box::new(CrossEntropy::default()),
        Box::new(CrossEntropy::default().weight(weight).label_smoothing(0.2).ignore_index(2)),
        Box::new(Nll::default()),
        Box::new(Nll::default().weight(weight).ignore_index(2)),
        Box::new(MultiMargin::default()),
        Box::new(MultiMargin::default().p(2).margin(0.7).weight(weight).ignore_index(2)),
        Box::new(WeightedMean::new(CrossEntropy::default())),
    ];
    for loss in of_classes {
        Conform::default().kinks().loss(&*loss, output, TargetShape::Classes { t: 3 })?;
        Conform::default().kinks().loss(&*loss, Shape::new(1, 5), TargetShape::Classes { t: 1 })?;
    }
    // Steps enough for the labels or not.
    for (loss, most) in
        [(Ctc::new().zero_infinity(), 0), (Ctc::new().zero_infinity().blank(2).sum_over_labels(), 3)]
    {
        Conform::default().loss(&loss, Shape::new(7, 4), TargetShape::Labels { most })?;
    }
    let of_values: [Box<dyn Loss<f64>>; 6] = [
        Box::new(Mse),
        Box::new(L1),
        Box::new(Huber::default().delta(0.4)),
        Box::new(SmoothL1::default().beta(0.4)),
        Box::new(BceWithLogits::default()),
        Box::new(BceWithLogits::default().pos_weight(weight)),
    ];
    for loss in of_values {
        let held = Conform::default().kinks().loss(&*loss, output, TargetShape::Values(output))?;
        assert_eq!(held.properties().count(), 7, "{held}");
    }
    Ok(())
}

/// A squared error that does one thing wrong, of those that begin with a property's name.
#[derive(Debug)]
struct Square(&'static str);

impl<R: Real> Loss<R> for Square {
    fn check(&self, _: Shape, _: TargetShape) -> Result<()> {
        Ok(())
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let (y, target, counts) = (tile.y, tile.targets.values(), tile.counted());
        let wrong = |name: &str| self.0 == name;
        let valid = tile.valid;
        for (i, dy) in tile.dy.data.iter_mut().enumerate() {
            let (t, lane) = (i / (y.shape.f * y.lanes), i % y.lanes);
            let counts = match self.0 {
                "pads" => lane >= valid || counts(t, lane),
                "padding" => lane < valid,
                _ => counts(t, lane),
            };
            let none = target.data[i].to_f64().is_nan() && !wrong("missing targets");
            let old = if wrong("gradient overwritten") { *dy } else { R::ZERO };
            *dy = R::ZERO;
            if !counts || none {
                continue;
            }
            let d = y.data[i] - target.data[i];
            *dy = old + if wrong("gradients") { d } else { d + d };
            let to = if wrong("tallies") { 0 } else { lane };
            let extra = if wrong("extreme outputs") { d.to_f64().abs().exp() * 0.0 } else { 0.0 };
            tile.tallies[to].loss += (d * d).to_f64() + extra;
            tile.tallies[to].weight += 1.0;
        }
    }
}

#[test]
fn broken_losses_are_found() -> Result<()> {
    let output = Shape::new(3, 2);
    let check = |name| Conform::default().loss(&Square(name), output, TargetShape::Values(output));
    check("nothing")?;
    for property in [
        "gradients",
        "gradient overwritten",
        "pads",
        "padding",
        "missing targets",
        "tallies",
        "extreme outputs",
    ] {
        let message = check(property).expect_err(property).to_string();
        assert!(message.starts_with(&format!("loss `Square(\"{property}\")`: {property}: ")), "{message}");
    }
    Ok(())
}

/// A logistic loss of targets that are 0 or 1 and nothing else, whose gradient is wrong where the target is `wrong`.
#[derive(Debug)]
struct Binary {
    wrong: Option<f64>,
}

impl<R: Real> Loss<R> for Binary {
    fn check(&self, _: Shape, _: TargetShape) -> Result<()> {
        Ok(())
    }

    fn threshold(&self) -> Option<f64> {
        Some(0.0)
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let (y, targets, counts) = (tile.y, tile.targets.values(), tile.counted());
        for (i, dy) in tile.dy.data.iter_mut().enumerate() {
            let (t, lane, target) = (i / (y.shape.f * y.lanes), i % y.lanes, targets.data[i].to_f64());
            *dy = R::ZERO;
            if !counts(t, lane) || target.is_nan() {
                continue;
            }
            assert!(target == 0.0 || target == 1.0, "found a target of {target}");
            let sign = 2.0 * target - 1.0;
            let z = sign * y.data[i].to_f64();
            let rest = (-z.abs()).exp();
            let wrong = if z > 0.0 { rest / (1.0 + rest) } else { 1.0 / (1.0 + rest) };
            tile.tallies[lane].loss += (-z).max(0.0) + rest.ln_1p();
            tile.tallies[lane].weight += 1.0;
            let factor = if self.wrong == Some(target) { 2.0 } else { 1.0 };
            *dy = R::from_f64(-sign * wrong * factor);
        }
    }
}

/// Real targets would leave half of such a loss unchecked, or none of it valid.
#[test]
fn targets_of_a_loss_with_a_threshold_are_0_and_1() -> Result<()> {
    let output = Shape::new(3, 2);
    let check = |wrong| Conform::default().loss(&Binary { wrong }, output, TargetShape::Values(output));
    check(None)?;
    for target in [0.0, 1.0] {
        let message = check(Some(target)).unwrap_err().to_string();
        assert!(message.contains(": gradients: "), "{message}");
    }
    Ok(())
}

#[test]
fn optimizers() -> Result<()> {
    let all: [Box<dyn Optimizer<f64>>; 8] = [
        Box::new(Sgd::new(0.1)),
        Box::new(Sgd::new(0.1).momentum(0.9).nesterov().weight_decay(0.01)),
        Box::new(Adam::new(0.01)),
        Box::new(Adam::new(0.01).amsgrad()),
        Box::new(AdamW::new(0.01)),
        Box::new(Adamax::new(0.01)),
        Box::new(Muon::new(0.01)),
        Box::new(RmsProp::new(0.01).momentum(0.9).centered()),
    ];
    for optimizer in all {
        assert_eq!(Conform::default().optimizer(&*optimizer)?.properties().count(), 4);
    }
    Ok(())
}

/// A plain descent that does one thing wrong.
#[derive(Debug)]
struct Descent(&'static str);

impl Optimizer<f64> for Descent {
    fn lr(&self) -> f64 {
        0.1
    }

    fn moments(&self) -> usize {
        if self.0 == "settings" { 4 } else { 1 }
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn update(&self, Update { lr, params, grads, moments, .. }: Update<'_, f64>) {
        let mean = grads.iter().sum::<f64>() / grads.len() as f64;
        for ((p, g), m) in params.iter_mut().zip(grads).zip(moments[0].iter_mut()) {
            *m += g * g;
            *p -= lr * g;
            match self.0 {
                "pieces" => *p -= lr * mean,
                "rate of 0" => *p *= 0.999,
                "finite" => *p -= lr * g / m.sqrt(),
                _ => {}
            }
        }
    }
}

#[test]
fn broken_optimizers_are_found() -> Result<()> {
    Conform::default().optimizer(&Descent("nothing"))?;
    for property in ["settings", "pieces", "rate of 0", "finite"] {
        let message = Conform::default().optimizer(&Descent(property)).expect_err(property).to_string();
        assert!(
            message.starts_with(&format!("optimizer `Descent(\"{property}\")`: {property}: ")),
            "{message}"
        );
    }
    Ok(())
}
