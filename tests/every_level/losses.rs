//! Every loss against PyTorch, in f64 and f32; places without a target; what is
//! extreme, and what is refused; at every SIMD level that the machine has.

use bptt::data::TargetShape;
use bptt::gradcheck::GradCheck;
use bptt::loss::{
    BceWithLogits, CrossEntropy, Huber, L1, Loss, Mse, MultiMargin, Nll, SmoothL1, Tally, Targets, Tile,
};
use bptt::nn::{LogSoftmax, Mode, Workspace};
use bptt::{Model, Real, Result, Seq, SeqMut, Shape, rng};
use ndarray::{Array, Array1, Array3, ArrayD, Axis, Dimension, IxDyn, array, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::common::{Fixture, assert_close};

/// A loss for both scalars.
trait AnyLoss: Loss<f32> + Loss<f64> {}
impl<L: Loss<f32> + Loss<f64>> AnyLoss for L {}

/// Every loss, plain and with all of its settings for outputs of [`FEATURES`], with the class that it ignores if its
/// targets are classes.
fn losses() -> Vec<(Option<i64>, Box<dyn AnyLoss>)> {
    let weight = [0.5, 2.0, 1.0, 0.25, 3.0];
    vec![
        (Some(-100), Box::new(CrossEntropy::default())),
        (Some(2), Box::new(CrossEntropy::default().weight(weight).label_smoothing(0.2).ignore_index(2))),
        (Some(-100), Box::new(Nll::default())),
        (Some(2), Box::new(Nll::default().weight(weight).ignore_index(2))),
        (Some(-100), Box::new(MultiMargin::default())),
        (Some(2), Box::new(MultiMargin::default().p(2).margin(0.7).weight(weight).ignore_index(2))),
        (None, Box::new(Mse)),
        (None, Box::new(L1)),
        (None, Box::new(Huber::default())),
        (None, Box::new(Huber::default().delta(0.4))),
        (None, Box::new(SmoothL1::default())),
        (None, Box::new(SmoothL1::default().beta(0.4))),
        (None, Box::new(SmoothL1::default().beta(0.0))),
        (None, Box::new(BceWithLogits::default())),
        (None, Box::new(BceWithLogits::default().pos_weight([3.0]))),
        (None, Box::new(BceWithLogits::default().pos_weight(weight))),
    ]
}

const FEATURES: usize = 5;

/// Targets, batch first.
#[derive(Clone)]
enum Truth {
    /// `[batch, T, 1]`
    Classes(Array3<i64>),
    /// `[batch, T, F]`
    Values(Array3<f64>),
}

impl Truth {
    /// The first steps of these targets.
    fn steps(&self, t: usize) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(classes.slice(s![.., ..t, ..]).to_owned()),
            Self::Values(values) => Self::Values(values.slice(s![.., ..t, ..]).to_owned()),
        }
    }
}

/// The loss of a batch in one tile, and its gradient. All that stands in a pad is absurd, and so is what the gradient
/// is to overwrite.
fn evaluate<R: Real>(loss: &dyn Loss<R>, y: &Array3<f64>, truth: &Truth) -> (Tally, Array3<f64>) {
    let (batch, t, f) = y.dim();
    let (shape, lanes) = (Shape::new(t, f), (batch + 1).next_multiple_of(R::QUANTUM));
    let y = tile(y, lanes, 1e30).mapv(R::from_f64).into_raw_vec_and_offset().0;
    let mut dy = vec![R::from_f64(f64::NAN); y.len()];
    let place = SeqMut::new(&mut dy, shape, lanes);
    let mut tallies = vec![Tally::default(); lanes];
    match truth {
        Truth::Classes(classes) => {
            loss.check(shape, TargetShape::Classes { t }).expect("classes fit");
            let classes = tile(classes, lanes, 1 << 40).into_raw_vec_and_offset().0;
            let y = Seq::new(&y, shape, lanes);
            loss.tile(Tile::new(y, Targets::Classes(&classes), batch, place, &mut tallies));
        }
        Truth::Values(values) => {
            loss.check(shape, TargetShape::Values(shape)).expect("values fit");
            let values = tile(values, lanes, -1e30).mapv(R::from_f64).into_raw_vec_and_offset().0;
            let targets = Targets::Values(Seq::new(&values, shape, lanes));
            loss.tile(Tile::new(Seq::new(&y, shape, lanes), targets, batch, place, &mut tallies));
        }
    }
    let tally = tallies.into_iter().sum();
    let dy = Seq::new(&dy, shape, lanes).collect(lanes).mapv(|dy| dy.to_f64());
    let (dy, pads) = dy.view().split_at(Axis(0), batch);
    assert!(pads.iter().all(|&dy| dy == 0.0), "{loss:?}: the gradient of a pad");
    (tally, dy.to_owned())
}

/// `[batch, T, F]` → `[T, F, lanes]`, with `pad` in the lanes left.
fn tile<A: Copy>(x: &Array3<A>, lanes: usize, pad: A) -> Array3<A> {
    let (batch, t, f) = x.dim();
    Array3::from_shape_fn((t, f, lanes), |(t, f, lane)| if lane < batch { x[[lane, t, f]] } else { pad })
}

/// Reproducible values from −2 to 2.
fn numbers(shape: (usize, usize, usize), salt: usize) -> Array3<f64> {
    let uniform = Uniform::new(-2.0, 2.0).expect("a range");
    Array3::random_using(shape, uniform, &mut rng::rng(salt as u64))
}

/// Reproducible targets for outputs `[batch, t, FEATURES]`, none of them missing.
fn truth(classes: bool, batch: usize, t: usize) -> Truth {
    if classes {
        let class = |(i, t, _)| [0, 4, 1, 3][(3 * i + t) % 4];
        return Truth::Classes(Array3::from_shape_fn((batch, t, 1), class));
    }
    Truth::Values(numbers((batch, t, FEATURES), 3).mapv(|x| 0.5 + 0.25 * x))
}

// --- PyTorch's fixtures ---

/// Case, the tensor in it that is the output, and the loss.
fn cases() -> Vec<(&'static str, &'static str, Box<dyn AnyLoss>)> {
    let plain = CrossEntropy::default;
    let full = |case: &str| plain().weight(Fixture::open(case).values("weight")).label_smoothing(0.1);
    vec![
        ("cross_entropy_0", "input", Box::new(plain())),
        ("cross_entropy_1", "input", Box::new(plain())),
        ("cross_entropy_2", "input", Box::new(full("cross_entropy_2"))),
        ("cross_entropy_3", "input", Box::new(plain())),
        ("cross_entropy_4", "input", Box::new(full("cross_entropy_4").ignore_index(2))),
        ("nll_loss_0", "log_probs", Box::new(Nll::default())),
        ("multi_margin_loss_0", "input", Box::new(MultiMargin::default())),
        ("mse_0", "input", Box::new(Mse)),
        ("l1_0", "input", Box::new(L1)),
        ("huber_0", "input", Box::new(Huber::default())),
        ("huber_1", "input", Box::new(Huber::default().delta(0.5))),
        ("smooth_l1_0", "input", Box::new(SmoothL1::default())),
        ("smooth_l1_1", "input", Box::new(SmoothL1::default().beta(0.5))),
        ("bce_with_logits_0", "input", Box::new(BceWithLogits::default())),
        ("bce_with_logits_1", "input", Box::new(BceWithLogits::default())),
    ]
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    for (name, input, loss) in cases() {
        fixture::<f64>(name, input, &*loss, 1e-12);
        fixture::<f32>(name, input, &*loss, 1e-5);
    }
}

#[test]
fn no_case_is_left_out() {
    let mut listed: Vec<_> = cases().into_iter().map(|(name, ..)| name.to_owned()).collect();
    listed.sort();
    assert_eq!(listed, Fixture::all("loss"));
}

fn fixture<R: Real>(name: &str, input: &str, loss: &dyn Loss<R>, tolerance: f64) {
    let case = Fixture::open(name);
    let target: ArrayD<f64> = case.get("target");
    let output: ArrayD<f64> = case.get(input);
    let truth = if target.ndim() < output.ndim() {
        let axes = target.ndim();
        Truth::Classes(batch_first(target.insert_axis(Axis(axes))).mapv(|class| class as i64))
    } else {
        Truth::Values(batch_first(target))
    };
    let (tally, dy) = evaluate(loss, &batch_first(output), &truth);
    let what = format!("{name} in {:?}", R::DTYPE);
    assert_close(&what, &[tally.mean().unwrap()], &case.values("loss"), tolerance);
    let expected = case.values(&format!("grad.{input}"));
    assert_close(&what, &values(&(dy / tally.weight)), &expected, tolerance);
}

/// `[batch, F]` has one step.
fn batch_first(x: ArrayD<f64>) -> Array3<f64> {
    let x = if x.ndim() == 2 { x.insert_axis(Axis(1)) } else { x };
    x.into_dimensionality().expect("two axes or three")
}

fn values<D: Dimension>(x: &Array<f64, D>) -> Vec<f64> {
    x.iter().copied().collect()
}

#[test]
fn log_softmax_with_nll_is_pytorchs() -> Result<()> {
    log_softmax::<f64>(1e-12)?;
    log_softmax::<f32>(1e-5)
}

/// The layer's output, the loss on it, and the gradient back through both.
fn log_softmax<R: Real>(tolerance: f64) -> Result<()> {
    let case = Fixture::open("nll_loss_0");
    let x = batch_first(case.get("input")).mapv(R::from_f64);
    let (batch, t, f) = x.dim();
    let model: Model<R> = Model::builder(Shape::new(t, f)).layer("log_softmax", LogSoftmax).build(1)?;
    let mut ws = Workspace::new(&model, batch, Mode::Train);
    ws.set_input(x.view());
    model.forward(&mut ws);
    let y = ws.output().mapv(|y| y.to_f64());
    assert_close("log_probs", &values(&y), &case.values("log_probs"), tolerance);

    let classes = case.get::<IxDyn>("target").mapv(|class| class as i64);
    let truth = Truth::Classes(classes.into_shape_with_order((batch, 1, 1)).expect("a class for each"));
    let (tally, dy) = evaluate(&Nll::default() as &dyn Loss<R>, &y, &truth);
    assert_close("loss", &[tally.mean().unwrap()], &case.values("loss"), tolerance);
    ws.set_output_gradient((dy / tally.weight).mapv(R::from_f64).view());
    model.backward(&mut ws, &mut [], true);
    let dx = ws.input_gradient().mapv(|dx| dx.to_f64());
    assert_close("gradient", &values(&dx), &case.values("grad.input"), tolerance);
    Ok(())
}

// --- PyTorch's values for settings that the fixtures lack ---

/// ```python
/// x = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75], [-2.0, 1.0, 0.0], [0.1, 0.2, 0.3]], requires_grad=True)
/// w = torch.tensor([0.5, 2.0, 3.0])
/// y, z = torch.tensor([2, 0, -100, 1]), torch.tensor([2, 0, 1, 1])
/// t = torch.tensor([[0, 1, 0.25], [1, 0, 0], [0.5, 1, 1], [0, 0, 1]])
/// loss = …  # the comment at each case
/// loss.backward(); print(loss, x.grad)  # torch 2.15.0, float64
/// ```
#[test]
fn settings_are_pytorchs() {
    let weight = [0.5, 2.0, 3.0];
    let classes = |classes: [i64; 4]| {
        Truth::Classes(Array1::from(classes.to_vec()).to_shape((4, 1, 1)).unwrap().into_owned())
    };
    let target = array![[[0.0, 1.0, 0.25]], [[1.0, 0.0, 0.0]], [[0.5, 1.0, 1.0]], [[0.0, 0.0, 1.0]]];
    // F.nll_loss(x, y, weight=w)
    #[rustfmt::skip]
    close_to(Nll::default().weight(weight), classes([2, 0, -100, 1]), -1.3, [
        0.0, 0.0, -0.5454545454545454,
        -0.09090909090909091, 0.0, 0.0,
        0.0, 0.0, 0.0,
        0.0, -0.36363636363636365, 0.0,
    ]);
    // F.multi_margin_loss(x, z, p=1, margin=1.75, weight=w)
    let margin = MultiMargin::default().margin(1.75).weight(weight);
    #[rustfmt::skip]
    close_to(margin.clone(), classes([2, 0, 1, 1]), 0.7916666666666667, [
        0.25, 0.0, -0.25,
        -0.041666666666666664, 0.041666666666666664, 0.0,
        0.0, -0.16666666666666666, 0.16666666666666666,
        0.16666666666666666, -0.3333333333333333, 0.16666666666666666,
    ]);
    // F.multi_margin_loss(x, z, p=2, margin=1.75, weight=w)
    #[rustfmt::skip]
    close_to(margin.p(2), classes([2, 0, 1, 1]), 1.1439583333333336, [
        0.125, 0.0, -0.125,
        -0.041666666666666664, 0.041666666666666664, 0.0,
        0.0, -0.25, 0.25,
        0.55, -1.1666666666666667, 0.6166666666666667,
    ]);
    // F.smooth_l1_loss(x, t, beta=0)
    let twelfth = 1.0 / 12.0;
    #[rustfmt::skip]
    close_to(SmoothL1::default().beta(0.0), Truth::Values(target.clone()), 0.8541666666666666, [
        twelfth, -twelfth, twelfth,
        twelfth, twelfth, -twelfth,
        -twelfth, 0.0, -twelfth,
        twelfth, twelfth, -twelfth,
    ]);
    // F.binary_cross_entropy_with_logits(x, t, pos_weight=w)
    let bce = BceWithLogits::default();
    #[rustfmt::skip]
    close_to(bce.clone().pos_weight(weight), Truth::Values(target.clone()), 1.0926059690521155, [
        0.05187161093348788, -0.12184309643833414, 0.047599634747235296,
        -0.0076010634919315145, 0.046848041740483175, 0.026735108402050584,
        -0.013383150706950987, -0.04482357022833252, -0.125,
        0.043748265623245, 0.04581949977603983, -0.10638937079708526,
    ]);
    // F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor([3.0]))
    #[rustfmt::skip]
    close_to(bce.pos_weight([3.0]), Truth::Values(target), 1.4916656843685356, [
        0.05187161093348788, -0.18276464465750122, 0.047599634747235296,
        -0.04560638095158909, 0.046848041740483175, 0.026735108402050584,
        -0.10513284632964708, -0.06723535534249876, -0.125,
        0.043748265623245, 0.04581949977603983, -0.10638937079708526,
    ]);
}

/// The mean of a loss of fixed outputs, and its gradient.
#[track_caller]
fn close_to(loss: impl AnyLoss, truth: Truth, mean: f64, gradient: [f64; 12]) {
    let y = array![[[0.5, -1.0, 2.0]], [[1.5, 0.25, -0.75]], [[-2.0, 1.0, 0.0]], [[0.1, 0.2, 0.3]]];
    let what = format!("{loss:?}");
    let runs = [evaluate::<f64>(&loss, &y, &truth), evaluate::<f32>(&loss, &y, &truth)];
    for ((tally, dy), tolerance) in runs.into_iter().zip([1e-14, 1e-6]) {
        assert_close(&what, &[tally.mean().unwrap()], &[mean], tolerance);
        assert_close(&what, &values(&(dy / tally.weight)), &gradient, tolerance);
    }
}

// --- gradients ---

#[test]
fn log_softmax_gradient_is_the_derivative() -> Result<()> {
    for (t, f, batch) in [(1, 1, 1), (1, 3, 2), (4, 2, 1), (5, 3, 9), (3, 7, 17)] {
        let report = GradCheck::default().batch(batch).layer(LogSoftmax, Shape::new(t, f))?;
        report.assert_below(1e-6);
        assert_eq!(report.entries.len(), 1, "the input and nothing else");
    }
    Ok(())
}

// --- places without a target ---

/// Marks all steps from `from` on as padding.
fn pad(truth: &Truth, from: usize, ignored: Option<i64>) -> Truth {
    let mut padded = truth.clone();
    match &mut padded {
        Truth::Classes(classes) => classes.slice_mut(s![.., from.., ..]).fill(ignored.expect("a class")),
        Truth::Values(values) => values.slice_mut(s![.., from.., ..]).fill(f64::NAN),
    }
    padded
}

#[test]
fn padding_counts_as_if_it_were_not_there() {
    for (ignored, loss) in losses() {
        padding::<f64>(&*loss, ignored);
        padding::<f32>(&*loss, ignored);
    }
}

fn padding<R: Real>(loss: &dyn Loss<R>, ignored: Option<i64>) {
    let (batch, t, cut) = (9, 5, 3);
    let y = numbers((batch, t, FEATURES), 1);
    let truth = truth(ignored.is_some(), batch, t);
    let (padded, dy) = evaluate(loss, &y, &pad(&truth, cut, ignored));
    let (short, short_dy) = evaluate(loss, &y.slice(s![.., ..cut, ..]).to_owned(), &truth.steps(cut));
    assert!(short.loss != 0.0 && short.weight > 0.0, "{loss:?}: {short:?}");
    assert_eq!(padded, short, "{loss:?}");
    assert_eq!(dy.slice(s![.., ..cut, ..]), short_dy, "{loss:?}");
    assert!(dy.slice(s![.., cut.., ..]).iter().all(|&dy| dy == 0.0), "{loss:?}: the gradient of padding");

    let (nothing, dy) = evaluate(loss, &y, &pad(&truth, 0, ignored));
    assert_eq!((nothing, nothing.mean()), (Tally::default(), None), "{loss:?}");
    assert!(dy.iter().all(|&dy| dy == 0.0), "{loss:?}: the gradient of nothing");
}

/// What the model makes of padding is no one's concern, even if it is no number.
#[test]
fn outputs_without_a_target_may_be_anything() {
    for (ignored, loss) in losses() {
        let mut y = numbers((3, 2, FEATURES), 1);
        let truth = pad(&truth(ignored.is_some(), 3, 2), 1, ignored);
        let before = evaluate::<f64>(&*loss, &y, &truth);
        y.slice_mut(s![.., 1, ..]).fill(f64::NAN);
        assert_eq!(evaluate::<f64>(&*loss, &y, &truth), before, "{loss:?}");
    }
}

#[test]
fn single_values_can_be_missing() {
    let y = array![[[1.0, 5.0]], [[2.0, 3.0]]];
    let truth = Truth::Values(array![[[0.0, f64::NAN]], [[f64::NAN, 1.0]]]);
    let (tally, dy) = evaluate::<f32>(&Mse, &y, &truth);
    assert_eq!(tally, Tally::new(1.0 + 4.0, 2.0));
    assert_eq!(dy, array![[[2.0, 0.0]], [[0.0, 4.0]]]);
}

// --- what is extreme ---

#[test]
fn outputs_that_are_no_number_show_in_the_loss() {
    for (ignored, loss) in losses() {
        let mut y = numbers((3, 1, FEATURES), 1);
        y.slice_mut(s![1, .., ..]).fill(f64::NAN);
        let truth = truth(ignored.is_some(), 3, 1);
        assert!(evaluate::<f64>(&*loss, &y, &truth).0.loss.is_nan(), "{loss:?}");
        assert!(evaluate::<f32>(&*loss, &y, &truth).0.loss.is_nan(), "{loss:?}");
    }
}

#[test]
fn extreme_logits_neither_overflow_nor_vanish() {
    let bce = BceWithLogits::default();
    let truth = Truth::Values(array![[[1.0]], [[0.0]], [[1.0]], [[0.0]]]);
    let (tally, dy) = evaluate::<f32>(&bce, &array![[[1e30]], [[-1e30]], [[-1000.0]], [[1000.0]]], &truth);
    assert_eq!(tally, Tally::new(2000.0, 4.0));
    assert_eq!(dy, array![[[0.0]], [[0.0]], [[-1.0]], [[1.0]]]);
    let sure = (-50f64).exp();
    for (y, target, slope) in [(50.0, 1.0, -sure), (-50.0, 0.0, sure)] {
        let (tally, dy) = evaluate::<f64>(&bce, &array![[[y]]], &Truth::Values(array![[[target]]]));
        assert_close(
            "a loss near 0 and its slope",
            &[tally.loss / sure, dy[[0, 0, 0]] / slope],
            &[1.0; 2],
            1e-12,
        );
    }

    let truth = Truth::Classes(array![[[0]], [[1]], [[2]]]);
    let y = array![[[1e30, -1e30, 0.0]], [[1e6, 1e6, 1e6]], [[5000.0, -5000.0, 4999.0]]];
    let (tally, dy) = evaluate::<f32>(&CrossEntropy::default(), &y, &truth);
    let last = (-1f64).exp();
    assert_close("cross-entropy", &[tally.loss], &[3f64.ln() + last.ln_1p() + 1.0], 1e-6);
    let (third, p) = (1.0 / 3.0, 1.0 / (1.0 + last));
    let expected = [0.0, 0.0, 0.0, third, -2.0 * third, third, p, 0.0, -p];
    assert_close("cross-entropy's gradient", &values(&dy), &expected, 1e-6);
}

#[test]
fn log_softmax_of_extreme_logits_is_exact() -> Result<()> {
    let model: Model = Model::builder(Shape::new(2, 3)).layer("log_softmax", LogSoftmax).build(1)?;
    let y = model.predict(&array![[[1e30, -1e30, 0.0], [5000.0, -5000.0, 5000.0]]])?;
    let half = 2f32.ln();
    assert_eq!(y, array![[[0.0, -2e30, -1e30], [-half, -10_000.0 - half, -half]]]);
    Ok(())
}

#[test]
fn slopes_at_the_kinks() {
    let y = array![[[0.0, 0.5, -0.5]]];
    let slopes =
        |loss: &dyn Loss<f64>| values(&evaluate(loss, &y, &Truth::Values(Array::zeros((1, 1, 3)))).1);
    assert_eq!(slopes(&L1), [0.0, 1.0, -1.0]);
    assert_eq!(slopes(&SmoothL1::default().beta(0.0)), [0.0, 1.0, -1.0]);
    assert_eq!(slopes(&SmoothL1::default().beta(0.5)), [0.0, 1.0, -1.0]);
    assert_eq!(slopes(&Huber::default().delta(0.5)), [0.0, 0.5, -0.5]);
    // Equal outputs with a margin of 0: no violation.
    let (tally, dy) = evaluate::<f64>(
        &MultiMargin::default().margin(0.0),
        &Array::zeros((1, 1, 3)),
        &Truth::Classes(array![[[1]]]),
    );
    assert_eq!((tally.loss, values(&dy)), (0.0, vec![0.0; 3]));
}

// --- what is refused ---

#[test]
fn targets_of_another_kind_or_shape_are_refused() {
    let output = Shape::new(3, FEATURES);
    for (ignored, loss) in losses() {
        let check = |targets| Loss::<f32>::check(&*loss, output, targets);
        let wrong = if ignored.is_some() {
            assert!(check(TargetShape::Classes { t: 3 }).is_ok());
            vec![TargetShape::Classes { t: 1 }, TargetShape::Classes { t: 4 }, TargetShape::Values(output)]
        } else {
            assert!(check(TargetShape::Values(output)).is_ok());
            let shapes =
                [(1, FEATURES), (3, 1), (FEATURES, 3)].map(|(t, f)| TargetShape::Values(Shape::new(t, f)));
            shapes.into_iter().chain([TargetShape::Classes { t: 3 }]).collect()
        };
        for targets in wrong {
            let error = check(targets).expect_err("a mismatch").to_string();
            assert!(error.contains(": targets: found ") && error.contains("[3, 5]"), "{loss:?}: {error}");
        }
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let classes =
        |loss: &dyn AnyLoss| Loss::<f32>::check(loss, Shape::new(1, 3), TargetShape::Classes { t: 1 });
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    refused(classes(&CrossEntropy::default().label_smoothing(1.5)), "`label_smoothing`: found 1.5, expected");
    refused(classes(&CrossEntropy::default().label_smoothing(nan)), "`label_smoothing`: found NaN, expected");
    refused(classes(&CrossEntropy::default().weight([1.0])), "weight: found 1 weights, expected 3 classes");
    refused(classes(&Nll::default().weight([1.0; 4])), "weight: found 4 weights, expected 3 classes");
    refused(classes(&Nll::default().weight([1.0, -1.0, 1.0])), "`weight`: found -1, expected");
    refused(classes(&MultiMargin::default().weight([1.0, nan, 1.0])), "`weight`: found NaN, expected");
    refused(classes(&MultiMargin::default().p(0)), "`p`: found 0, expected 1 or 2");
    refused(classes(&MultiMargin::default().p(3)), "`p`: found 3, expected 1 or 2");
    refused(classes(&MultiMargin::default().margin(nan)), "`margin`: found NaN, expected");

    let shape = Shape::new(1, 3);
    let values = |loss: &dyn AnyLoss| Loss::<f32>::check(loss, shape, TargetShape::Values(shape));
    for delta in [0.0, -1.0, nan, infinity] {
        refused(values(&Huber::default().delta(delta)), &format!("`delta`: found {delta}, expected"));
    }
    for beta in [-1.0, nan, infinity] {
        refused(values(&SmoothL1::default().beta(beta)), &format!("`beta`: found {beta}, expected"));
    }
    refused(values(&BceWithLogits::default().pos_weight([1.0; 2])), "pos_weight: found 2, expected 1 or 3");
    refused(values(&BceWithLogits::default().pos_weight([-1.0])), "`pos_weight`: found -1, expected");
}

#[track_caller]
fn refused(found: Result<()>, message: &str) {
    let error = found.expect_err(message).to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
#[should_panic(expected = "found class 5, expected one of 5")]
fn a_class_that_the_output_has_not_panics() {
    evaluate::<f32>(&Nll::default(), &numbers((1, 1, FEATURES), 1), &Truth::Classes(array![[[5]]]));
}

#[test]
#[should_panic(expected = "found class -1, expected one of 5")]
fn a_negative_class_that_is_not_ignored_panics() {
    evaluate::<f32>(&CrossEntropy::default(), &numbers((1, 1, FEATURES), 1), &Truth::Classes(array![[[-1]]]));
}

#[test]
#[should_panic(expected = "targets have the shape of the output")]
fn a_tile_of_targets_in_another_shape_panics() {
    let (y, mut dy) = ([0.0f32; 6], [0.0; 6]);
    let targets = Targets::Values(Seq::new(&y, Shape::new(3, 2), 1));
    let (y, dy) = (Seq::new(&y, Shape::new(2, 3), 1), SeqMut::new(&mut dy, Shape::new(2, 3), 1));
    Mse.tile(Tile::new(y, targets, 1, dy, &mut [Tally::default()]));
}

// --- descriptions ---

#[test]
fn settings_survive_json() {
    fn survives<L: AnyLoss + PartialEq + Serialize + DeserializeOwned>(loss: L, json: &str) {
        assert_eq!(serde_json::to_string(&loss).expect("JSON"), json);
        assert_eq!(serde_json::from_str::<L>(json).expect("a loss"), loss);
    }
    survives(
        CrossEntropy::default().weight([0.5, 2.0]).label_smoothing(0.25),
        r#"{"weight":[0.5,2.0],"ignore_index":-100,"label_smoothing":0.25}"#,
    );
    survives(Nll::default().ignore_index(7), r#"{"weight":[],"ignore_index":7}"#);
    survives(MultiMargin::default().p(2), r#"{"weight":[],"ignore_index":-100,"p":2,"margin":1.0}"#);
    survives(Mse, "null");
    survives(L1, "null");
    survives(Huber::default().delta(0.5), r#"{"delta":0.5}"#);
    survives(SmoothL1::default().beta(0.5), r#"{"beta":0.5}"#);
    survives(BceWithLogits::default().pos_weight([3.0]), r#"{"pos_weight":[3.0]}"#);
    survives(BceWithLogits::default().threshold(0.75), r#"{"pos_weight":[],"threshold":0.75}"#);
}

#[test]
fn a_model_with_log_softmax_is_loaded_from_its_file() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let model: Model = Model::builder(Shape::new(2, 3)).layer("log_softmax", LogSoftmax).build(1)?;
    model.save(&path)?;
    let x = numbers((4, 2, 3), 1).mapv(|x| x as f32);
    assert_eq!(Model::load(&path)?.predict(&x)?, model.predict(&x)?);
    Ok(())
}

// --- all of them again ---
