//! Connectionist temporal classification.

use serde::{Deserialize, Serialize};

use super::{Loss, Tile};
use crate::data::TargetShape;
use crate::math::{exp, ln, ln_1p};
use crate::{Description, Error, Real, Result, Shape};

/// Connectionist temporal classification: the targets are sequences of labels, shorter than the outputs and not aligned
/// with them; PyTorch's `CTCLoss` on logits.
///
/// Each step's outputs are logits over the labels and a *blank*. A path, one class per step, reads as the labels that are
/// left when repetitions and then blanks are removed. The loss is −ln p, with p the sum of the probabilities of all paths
/// that read as the target:
///
/// - α_t(s) = ln Σ of the paths that have read the first s of blank, l₁, blank, l₂, …, blank by step t; β_t(s) of those that
///   read the rest after it
/// - γ_t(k) = Σ_{s of class k} e^(α_t(s) + β_t(s) − ln p), the share of paths that are in class k at step t
/// - dy_t(k) = softmax(y_t)(k) − γ_t(k)
///
/// all in f64. As with PyTorch's `reduction='mean'`, each sample's loss is divided by its number of labels, at least 1, and
/// the mean is over samples; [`sum_over_labels`](Self::sum_over_labels) leaves the first out.
///
/// [`greedy`](Self::greedy) and [`beam`](Self::beam) read labels from outputs.
///
/// # Shapes
/// y `[T, C, B]`; up to `most` labels for each sample, [`TargetShape::Labels`], of any number, 0 included. Steps beyond a
/// sample's length do not count.
/// # Panics
/// If a label is the blank or not one of the classes: data are checked when they are read.
/// # Source
/// Graves et al. 2006, equations 5 to 16.
/// # Examples
/// ```
/// use bptt::data::Arrays;
/// use bptt::loss::Ctc;
/// use bptt::prelude::*;
/// use ndarray::{Array3, Axis};
///
/// // Two blips: which of them, and in which order, but not where.
/// let x = Array3::from_shape_fn((40, 9, 2), |(i, t, f)| match (t, f) {
///     (2, _) => f32::from(u8::from(i % 2 == f)),
///     (6, _) => f32::from(u8::from(i / 2 % 2 == f)),
///     _ => 0.0,
/// });
/// let labels = (0..40).map(|i| [1 + i % 2, 1 + i / 2 % 2]);
/// let data = Arrays::labels(x, labels, ["blank", "low", "high"])?;
///
/// let mut model: Model = Model::builder(data.shape())
///     .layer("lstm", Lstm::new(12).bidirectional())
///     .layer("linear", Linear::new(3))
///     .build(1)?;
/// let ctc = Ctc::new();
/// Trainer::new(ctc.clone(), Adam::new(0.03)).epochs(60).batch_size(10).fit(&mut model, &data, None)?;
///
/// let y = model.predict(&data)?;
/// assert_eq!(ctc.greedy(&y.index_axis(Axis(0), 1)), [2, 1]);
/// let (labels, probability) = &ctc.beam(&y.index_axis(Axis(0), 3), 10)[0];
/// assert_eq!(labels, &[2, 2]);
/// assert!(probability.exp() > 0.5);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[doc(alias = "CTCLoss")]
#[serde(deny_unknown_fields)]
pub struct Ctc {
    blank: usize,
    zero_infinity: bool,
    sum_over_labels: bool,
}

impl Ctc {
    /// With blank 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The class that means "no label here"; 0 by default.
    pub fn blank(mut self, blank: usize) -> Self {
        self.blank = blank;
        self
    }

    /// Sets loss and gradient to 0 for samples that have too few steps for their labels. Without it their loss is infinite,
    /// which ends a training with an error; their gradient is 0 in either case.
    pub fn zero_infinity(mut self) -> Self {
        self.zero_infinity = true;
        self
    }

    /// Leaves out the division by the number of labels, so that long sequences weigh more than short ones.
    pub fn sum_over_labels(mut self) -> Self {
        self.sum_over_labels = true;
        self
    }

    /// The class that means "no label here".
    pub(super) fn blank_class(&self) -> usize {
        self.blank
    }
}

impl<R: Real> Loss<R> for Ctc {
    fn describe(&self) -> Description {
        Description::new("Ctc", self)
    }

    fn check(&self, output: Shape, targets: TargetShape) -> Result<()> {
        if !matches!(targets, TargetShape::Labels { .. }) {
            return Err(Error::mismatch("CTC: targets", format!("{targets:?}"), "sequences of labels"));
        }
        if self.blank >= output.f {
            let fault = format!("found {}, expected one of the output's {} classes", self.blank, output.f);
            return Err(Error::config("blank", fault));
        }
        Ok(())
    }

    fn counts(&self, class: i64) -> bool {
        class >= 0 && class != self.blank as i64
    }

    fn scratch(&self, output: Shape, targets: TargetShape) -> usize {
        let TargetShape::Labels { most } = targets else { return 0 };
        Sizes { steps: output.t, classes: output.f, states: 2 * most + 1 }.values()
    }

    fn tile(&self, tile: Tile<'_, R>) {
        let Tile { y, targets, valid, lens, dy, tallies, scratch } = tile;
        let (labels, lanes) = (targets.labels(), y.lanes);
        let most = labels.len() / lanes;
        dy.data.fill(R::ZERO);
        for lane in 0..valid {
            let label = |i: usize| labels[i * lanes + lane];
            let count = (0..most).take_while(|&i| label(i) >= 0).count();
            let steps = lens.map_or(y.shape.t, |lens| lens[lane] as usize);
            let sizes = Sizes { steps, classes: y.shape.f, states: 2 * count + 1 };
            let mut lattice = Lattice::new(sizes, scratch);
            let class = |s: usize| if s.is_multiple_of(2) { self.blank } else { label(s / 2) as usize };
            let at = |t: usize, k: usize| (t * y.shape.f + k) * lanes + lane;
            lattice.normalize(|t, k| y.data[at(t, k)].to_f64());
            let loss = lattice.forward(class);
            let feasible = loss < f64::INFINITY;
            let share = if self.sum_over_labels { 1.0 } else { 1.0 / count.max(1) as f64 };
            tallies[lane].weight += 1.0;
            if feasible || !self.zero_infinity {
                tallies[lane].loss += share * loss;
            }
            if feasible {
                lattice.backward(class, loss, |t, k, d| dy.data[at(t, k)] = R::from_f64(share * d));
            }
        }
    }
}

/// The sizes of one sample's [`Lattice`].
#[derive(Clone, Copy, Debug)]
struct Sizes {
    steps: usize,
    classes: usize,
    /// Blank, label, blank, …, label, blank.
    states: usize,
}

impl Sizes {
    fn values(self) -> usize {
        let Self { steps, classes, states } = self;
        steps * (classes + states) + states + classes
    }
}

/// The paths of one sample. States of even number are the blank; a step leads to the same state, the next one, or the one
/// after that if both are labels and differ.
struct Lattice<'a> {
    sizes: Sizes,
    /// ln softmax(y), `[steps, classes]`
    log_p: &'a mut [f64],
    /// α, `[steps, states]`
    alpha: &'a mut [f64],
    /// β of one step, `[states]`
    beta: &'a mut [f64],
    /// γ of one step, `[classes]`
    gamma: &'a mut [f64],
}

impl<'a> Lattice<'a> {
    fn new(sizes: Sizes, scratch: &'a mut [f64]) -> Self {
        let (log_p, rest) = scratch.split_at_mut(sizes.steps * sizes.classes);
        let (alpha, rest) = rest.split_at_mut(sizes.steps * sizes.states);
        let (beta, rest) = rest.split_at_mut(sizes.states);
        Self { sizes, log_p, alpha, beta, gamma: &mut rest[..sizes.classes] }
    }

    fn normalize(&mut self, y: impl Fn(usize, usize) -> f64) {
        for (t, row) in self.log_p.chunks_exact_mut(self.sizes.classes).enumerate() {
            row.iter_mut().enumerate().for_each(|(k, log_p)| *log_p = y(t, k));
            log_softmax(row);
        }
    }

    /// Computes α, and returns −ln p.
    fn forward(&mut self, class: impl Fn(usize) -> usize) -> f64 {
        let Sizes { steps, classes, states } = self.sizes;
        if steps == 0 {
            return if states == 1 { 0.0 } else { f64::INFINITY };
        }
        for t in 0..steps {
            let (before, now) = self.alpha.split_at_mut(t * states);
            let (before, log_p) =
                (before.rchunks_exact(states).next(), &self.log_p[t * classes..][..classes]);
            for s in 0..states {
                let came = match before {
                    None if s < 2 => 0.0,
                    None => f64::NEG_INFINITY,
                    Some(before) => {
                        let skip = s >= 2 && skips(&class, s);
                        log_sum([
                            before[s],
                            if s >= 1 { before[s - 1] } else { f64::NEG_INFINITY },
                            if skip { before[s - 2] } else { f64::NEG_INFINITY },
                        ])
                    }
                };
                now[s] = came + log_p[class(s)];
            }
        }
        let last = &self.alpha[(steps - 1) * states..][..states];
        let label = if states >= 2 { last[states - 2] } else { f64::NEG_INFINITY };
        -log_sum([last[states - 1], label, f64::NEG_INFINITY])
    }

    /// Computes β and γ from the last step to the first, and passes on step, class and gradient.
    fn backward(&mut self, class: impl Fn(usize) -> usize, loss: f64, mut dy: impl FnMut(usize, usize, f64)) {
        let Sizes { steps, classes, states } = self.sizes;
        for t in (0..steps).rev() {
            if t + 1 == steps {
                self.beta.fill(f64::NEG_INFINITY);
                self.beta[states.saturating_sub(2)..].fill(0.0);
            } else {
                // What a state leads to has a larger number: β of the next step is read before it is overwritten.
                let log_p = &self.log_p[(t + 1) * classes..][..classes];
                for s in 0..states {
                    let next = |to: usize, open: bool| match open && to < states {
                        true => self.beta[to] + log_p[class(to)],
                        false => f64::NEG_INFINITY,
                    };
                    let skip = s + 2 < states && skips(&class, s + 2);
                    self.beta[s] = log_sum([next(s, true), next(s + 1, true), next(s + 2, skip)]);
                }
            }
            self.gamma.fill(0.0);
            for s in 0..states {
                self.gamma[class(s)] += exp(self.alpha[t * states + s] + self.beta[s] + loss);
            }
            for k in 0..classes {
                dy(t, k, exp(self.log_p[t * classes + k]) - self.gamma[k]);
            }
        }
    }
}

/// Whether a path may come to state `s` from `s` − 2, without the blank between.
fn skips(class: &impl Fn(usize) -> usize, s: usize) -> bool {
    s % 2 == 1 && class(s) != class(s - 2)
}

/// y − ln Σ e^y
pub(super) fn log_softmax(y: &mut [f64]) {
    let largest = y.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = largest + ln(y.iter().map(|y| exp(y - largest)).sum());
    y.iter_mut().for_each(|y| *y -= total);
}

/// ln (e^a + e^b + e^c)
fn log_sum([a, b, c]: [f64; 3]) -> f64 {
    log_add(log_add(a, b), c)
}

/// ln (e^a + e^b)
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY { large } else { large + ln_1p(exp(small - large)) }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use serde::Deserialize;

    use super::*;
    use crate::loss::{Tally, Targets};
    use crate::{Scalar, Seq, SeqMut};

    #[derive(Deserialize)]
    struct Case {
        name: String,
        blank: usize,
        zero_infinity: bool,
        /// `[batch][T][C]`
        logits: Vec<Vec<Vec<f64>>>,
        lengths: Vec<u32>,
        labels: Vec<Vec<i64>>,
        /// The mean by `reduction='mean'`, and its gradient.
        mean: f64,
        gradient: Vec<Vec<Vec<f64>>>,
        /// By `reduction='none'`; `None` where they are infinite.
        losses: Vec<Option<f64>>,
    }

    fn cases() -> Vec<Case> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ctc.json");
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        serde_json::from_value(file["cases"].clone()).unwrap()
    }

    /// The losses and the gradient of a case, in a tile with pads and scratch that are not 0.
    fn run(case: &Case, loss: &Ctc) -> (Vec<Tally>, Vec<Vec<Vec<f64>>>) {
        let (batch, t, c) = (case.logits.len(), case.logits[0].len(), case.logits[0][0].len());
        let (shape, lanes) = (Shape::new(t, c), (batch + 1).next_multiple_of(f64::QUANTUM));
        let mut y = vec![1e30; shape.size() * lanes];
        for (lane, sample) in case.logits.iter().enumerate() {
            let values = sample.iter().flatten();
            values.enumerate().for_each(|(i, &value)| y[i * lanes + lane] = value);
        }
        let most = case.labels.iter().map(Vec::len).max().unwrap() + 1;
        let mut labels = vec![-100; most * lanes];
        for (lane, own) in case.labels.iter().enumerate() {
            own.iter().enumerate().for_each(|(i, &label)| labels[i * lanes + lane] = label);
        }
        let (mut dy, mut tallies) = (vec![f64::NAN; y.len()], vec![Tally::default(); lanes]);
        let mut scratch = vec![f64::NAN; Loss::<f64>::scratch(loss, shape, TargetShape::Labels { most })];
        let place = SeqMut::new(&mut dy, shape, lanes);
        let y = Seq::new(&y, shape, lanes);
        let mut tile = Tile::new(y, Targets::Labels(&labels), batch, place, &mut tallies);
        tile.lens = Some(&case.lengths);
        tile.scratch = &mut scratch;
        loss.tile(tile);
        assert!(dy.iter().enumerate().all(|(i, &dy)| i % lanes < batch || dy == 0.0), "pads");
        let gradient = |lane: usize, t: usize| (0..c).map(|k| dy[(t * c + k) * lanes + lane]).collect();
        let gradients = (0..batch).map(|lane| (0..t).map(|t| gradient(lane, t)).collect()).collect();
        (tallies[..batch].to_vec(), gradients)
    }

    #[test]
    fn losses_and_gradients_are_pytorchs() {
        let cases = cases();
        assert_eq!(cases.len(), 4);
        for case in cases {
            let mut loss = Ctc::new().blank(case.blank);
            if case.zero_infinity {
                loss = loss.zero_infinity();
            }
            let (tallies, gradient) = run(&case, &loss);
            let tally: Tally = tallies.iter().copied().sum();
            if case.losses.iter().all(Option::is_some) || case.zero_infinity {
                assert_abs_diff_eq!(tally.mean().unwrap(), case.mean, epsilon = 1e-11);
            }
            let found = gradient.iter().flatten().flatten().map(|dy| dy / tally.weight);
            for (found, &expected) in found.zip(case.gradient.iter().flatten().flatten()) {
                assert!((found - expected).abs() < 1e-12, "{}: {found}, expected {expected}", case.name);
            }
            let (tallies, _) = run(&case, &loss.sum_over_labels());
            for (tally, expected) in tallies.iter().zip(&case.losses) {
                let expected = expected.unwrap_or(if case.zero_infinity { 0.0 } else { f64::INFINITY });
                assert!(tally.loss == expected || (tally.loss - expected).abs() < 1e-10, "{}", case.name);
            }
        }
    }

    /// All paths of four steps over three classes, counted one by one.
    #[test]
    fn the_sum_of_all_paths() {
        let y = |t: usize, k: usize| ((7 * t + 3 * k) % 5) as f64 / 2.0 - 1.0;
        let logits = vec![(0..4).map(|t| (0..3).map(|k| y(t, k)).collect()).collect::<Vec<Vec<f64>>>()];
        let total: f64 = (0..4).map(|t| (0..3).map(|k| y(t, k).exp()).sum::<f64>().ln()).sum();
        for labels in [vec![], vec![1], vec![2, 2], vec![1, 2, 1]] {
            let mut p = 0.0;
            for path in 0..81 {
                let path = [path % 3, path / 3 % 3, path / 9 % 3, path / 27];
                let mut read = path.to_vec();
                read.dedup();
                read.retain(|&class| class != 0);
                if read.iter().map(|&class| class as i64).eq(labels.iter().copied()) {
                    p += ((0..4).map(|t| y(t, path[t])).sum::<f64>() - total).exp();
                }
            }
            let case = Case {
                name: String::new(),
                blank: 0,
                zero_infinity: false,
                logits: logits.clone(),
                lengths: vec![4],
                labels: vec![labels],
                mean: 0.0,
                gradient: Vec::new(),
                losses: Vec::new(),
            };
            let (tallies, _) = run(&case, &Ctc::new().sum_over_labels());
            assert_abs_diff_eq!(tallies[0].loss, -f64::ln(p), epsilon = 1e-12);
        }
    }

    #[test]
    fn what_does_not_fit() {
        let check = |loss: Ctc, targets| Loss::<f64>::check(&loss, Shape::new(5, 3), targets);
        assert!(check(Ctc::new().blank(2), TargetShape::Labels { most: 9 }).is_ok());
        let blank = check(Ctc::new().blank(3), TargetShape::Labels { most: 1 }).unwrap_err().to_string();
        assert_eq!(blank, "`blank`: found 3, expected one of the output's 3 classes");
        assert!(check(Ctc::new(), TargetShape::Classes { t: 5 }).is_err());
    }
}
