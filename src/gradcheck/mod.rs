//! Checks that a backward pass is the derivative of its forward pass.
//!
//! Everything is checked in f64 against central differences of fourth order,
//! (8 (L(x + h) − L(x − h)) − (L(x + 2h) − L(x − 2h))) / 12 h, of L = Σ w ⊙ output + Σ v ⊙ final state with random w
//! and v: with respect to every parameter, the input and the initial state. The code that is checked is the code that
//! trains in f32: only the scalar type differs.
//!
//! [`conform`] also checks everything else that a layer must keep.
//!
//! # Examples
//! ```
//! use bptt::{Shape, gradcheck::GradCheck, nn::Lstm};
//! # fn main() -> bptt::Result<()> {
//! let report = GradCheck::default().layer(Lstm::new(3).layers(2), Shape::new(4, 2))?;
//! report.assert_below(1e-6);
//! println!("{report}");
//! # Ok(())
//! # }
//! ```

mod conform;
mod report;

use ndarray::{Array2, Array3};
use rand::RngCore;
use serde::{Deserialize, Serialize};

pub use conform::{Conform, Conformance, conform};
pub use report::{Entry, Report};

use crate::data::TargetShape;
use crate::loss::{Loss, Tally, Targets, Tile};
use crate::nn::{Layer, Mode, Workspace};
use crate::shape::MAX_LANES;
use crate::{Error, Model, Result, Scalar, Seq, SeqMut, Shape, rng};

/// A gradient check and its settings. The defaults suit layers whose values are of the order of 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradCheck {
    batch: usize,
    seed: u64,
    step: f64,
    floor: f64,
    input: bool,
    indices: Option<usize>,
    ragged: bool,
}

impl Default for GradCheck {
    /// Batches of 3, seed 1, steps of 2e-4, errors relative to at least 1e-4, the input included.
    fn default() -> Self {
        Self { batch: 3, seed: 1, step: 2e-4, floor: 1e-4, input: true, indices: None, ragged: false }
    }
}

impl GradCheck {
    /// How many samples the batch has, 1 to 64.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// The seed of parameters, inputs, states and weights of the sum.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// h, the step of the differences. It should be well below the distance to the nearest kink.
    pub fn step(mut self, step: f64) -> Self {
        self.step = step;
        self
    }

    /// The floor f of an error |a − n| / max(|a|, |n|, f).
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// Leaves out the gradient with respect to the input, for layers whose input is discrete, such as an index.
    pub fn without_input(mut self) -> Self {
        self.input = false;
        self
    }

    /// Draws integer inputs in `0..n`, and leaves out the gradient with respect to them.
    pub fn indices(mut self, n: usize) -> Self {
        self.indices = Some(n);
        self.without_input()
    }

    /// Gives the samples different lengths, from 1 to T.
    pub fn ragged(mut self) -> Self {
        self.ragged = true;
        self
    }

    /// Checks one layer.
    ///
    /// # Errors
    /// If the layer refuses the input's shape, or the batch is not 1 to 64.
    pub fn layer(&self, layer: impl Layer<f64> + 'static, input: Shape) -> Result<Report> {
        if !(1..=MAX_LANES).contains(&self.batch) {
            return Err(Error::config("batch", format!("found {}, expected 1 to {MAX_LANES}", self.batch)));
        }
        let mut model = Model::builder(input).layer("layer", layer).build(self.seed)?;
        Ok(self.model(&mut model))
    }

    /// Checks a chain of layers at its present parameters.
    ///
    /// # Panics
    /// If the batch is not 1 to 64.
    pub fn model(&self, model: &mut Model<f64>) -> Report {
        let mut ws = Workspace::new(model, self.batch, Mode::Train);
        let probe = Probe::new(self, model);
        let mut grads = vec![0.0; model.parameter_count()];
        probe.loss(model, &mut ws);
        probe.set_gradients(&mut ws);
        model.backward(&mut ws, &mut grads, true);
        let dx = ws.input_gradient();
        let dstates: Vec<_> = (0..model.slots().len()).map(|i| ws.state_gradient(i)).collect();

        let mut report = Report::default();
        let layout = model.params().layout().clone();
        for tensor in layout.tensors() {
            report.entry(&tensor.name, &grads[tensor.range()], self, |i, delta| {
                let i = tensor.offset + i;
                let before = model.params().as_slice()[i];
                model.params_mut().as_mut_slice()[i] = before + delta;
                let loss = probe.loss(model, &mut ws);
                model.params_mut().as_mut_slice()[i] = before;
                loss
            });
        }
        // The value that is changed in a copy of the probe.
        let mut by = |name: &str, gradient: Vec<f64>, at: &dyn Fn(&mut Probe, usize) -> Option<&mut f64>| {
            report.entry(name, &gradient, self, |i, delta| {
                let mut moved = probe.clone();
                if let Some(x) = at(&mut moved, i) {
                    *x += delta;
                }
                moved.loss(model, &mut ws)
            });
        };
        if self.input {
            by("input", dx.into_iter().collect(), &|probe, i| probe.x.iter_mut().nth(i));
        }
        for (k, dstate) in dstates.into_iter().enumerate().filter(|(_, dstate)| !dstate.is_empty()) {
            let name = format!("{}: initial state", model.slots()[k].name);
            by(&name, dstate.into_iter().collect(), &|probe, i| probe.states[k].iter_mut().nth(i));
        }
        report
    }

    /// Checks a loss on random outputs and targets. Targets that are values are in (−1, 1); of a loss with a
    /// [threshold](Loss::threshold) they are 0 and 1, some of each.
    ///
    /// # Errors
    /// If the loss refuses these shapes.
    pub fn loss(&self, loss: &dyn Loss<f64>, output: Shape, targets: TargetShape) -> Result<Report> {
        loss.check(output, targets)?;
        let lanes = self.batch.next_multiple_of(f64::QUANTUM);
        let key = |i: u64| rng::key(&[self.seed, 0x6c6f_7373, i]);
        let y = uniform(output.size() * lanes, key(1));
        let (classes, values, shape) = match targets {
            TargetShape::Classes { t } => {
                let mut rng = rng::rng(key(2));
                let class = |_| (rng.next_u64() % output.f as u64) as i64;
                ((0..t * lanes).map(class).collect(), Vec::new(), output)
            }
            TargetShape::Labels { most } => (self.labels(loss, (most, lanes, output.f)), Vec::new(), output),
            TargetShape::None => (Vec::new(), Vec::new(), output),
            TargetShape::Values(shape) => {
                let binary = |value: f64| if value > 0.0 { 1.0 } else { 0.0 };
                let values = uniform(shape.size() * lanes, key(3)).into_iter();
                let values =
                    values.map(|value| if loss.threshold().is_some() { binary(value) } else { value });
                (Vec::new(), values.collect(), shape)
            }
        };
        let mut scratch = vec![0.0; loss.scratch(output, targets)];
        let targets = match targets {
            TargetShape::Classes { .. } | TargetShape::None => Targets::Classes(&classes),
            TargetShape::Labels { .. } => Targets::Labels(&classes),
            TargetShape::Values(_) => Targets::Values(Seq::new(&values, shape, lanes)),
        };
        let mut dy = vec![0.0; y.len()];
        let mut at = |y: &[f64], dy: &mut [f64]| {
            let mut tallies = vec![Tally::default(); lanes];
            let dy = SeqMut::new(dy, output, lanes);
            let mut tile = Tile::new(Seq::new(y, output, lanes), targets, self.batch, dy, &mut tallies);
            tile.scratch = &mut scratch;
            loss.tile(tile);
            tallies.iter().map(|tally| tally.loss).sum()
        };
        at(&y, &mut dy);
        let mut report = Report::default();
        let (mut moved, mut unused) = (y.clone(), dy.clone());
        report.entry("output", &dy, self, |i, delta| {
            moved[i] = y[i] + delta;
            let loss = at(&moved, &mut unused);
            moved[i] = y[i];
            loss
        });
        Ok(report)
    }

    /// Sequences of 0 to `most` labels that the loss counts, `[most, lanes]`.
    fn labels(&self, loss: &dyn Loss<f64>, (most, lanes, classes): (usize, usize, usize)) -> Vec<i64> {
        let counted: Vec<i64> = (0..classes as i64).filter(|&class| loss.counts(class)).collect();
        let draw = |lane: usize, i: usize, n: usize| {
            rng::key(&[self.seed, 0x6c61_6265_6c73, lane as u64, i as u64]) as usize % n
        };
        let label = |i: usize, lane: usize| match i < draw(lane, most, most + 1) && !counted.is_empty() {
            true => counted[draw(lane, i, counted.len())],
            false => -1,
        };
        (0..most * lanes).map(|at| label(at / lanes, at % lanes)).collect()
    }
}

/// The inputs, and the weights by which the outputs are summed.
#[derive(Clone)]
struct Probe {
    x: Array3<f64>,
    dy: Array3<f64>,
    states: Vec<Array2<f64>>,
    dstates: Vec<Array2<f64>>,
    lens: Option<Vec<usize>>,
}

impl Probe {
    /// Random values for this model, for each tensor from a separate stream.
    fn new(check: &GradCheck, model: &Model<f64>) -> Self {
        let mut stream = 0;
        let mut random = |len: usize| {
            stream += 1;
            uniform(len, rng::key(&[check.seed, 0x67_7261_6463, stream]))
        };
        let mut sequences = |Shape { t, f }: Shape| {
            let data = random(check.batch * t * f);
            Array3::from_shape_vec((check.batch, t, f), data).expect("as many values as the shape has")
        };
        let (mut x, mut dy) = (sequences(model.input_shape()), sequences(model.output_shape()));
        if let Some(n) = check.indices {
            x.mapv_inplace(|x| ((x + 1.0) / 2.0 * n as f64).floor());
        }
        let lens: Vec<usize> = (0..check.batch).map(|i| 1 + (i + 1) % model.input_shape().t).collect();
        if check.ragged {
            // No loss has a gradient after a sample's length.
            for (mut dy, &len) in dy.outer_iter_mut().zip(&lens) {
                let after = model.slots().iter().fold(len, |len, slot| slot.layer.length(slot.input, len));
                dy.outer_iter_mut().skip(after).for_each(|mut step| step.fill(0.0));
            }
        }
        let lens = check.ragged.then_some(lens);
        let mut probe = Self { x, dy, states: Vec::new(), dstates: Vec::new(), lens };
        for slot in model.slots() {
            let shape = (check.batch, slot.sizes.state);
            let mut state =
                || Array2::from_shape_vec(shape, random(shape.0 * shape.1)).expect("as many values");
            probe.states.push(state());
            probe.dstates.push(state());
        }
        probe
    }

    fn loss(&self, model: &Model<f64>, ws: &mut Workspace<f64>) -> f64 {
        ws.set_input(self.x.view());
        // The same dropout masks at every point of a difference.
        ws.set_keys(&(0..self.x.dim().0 as u64).collect::<Vec<_>>());
        if let Some(lens) = &self.lens {
            ws.set_lengths(lens);
        }
        self.states.iter().enumerate().for_each(|(k, state)| ws.set_state(k, state.view()));
        model.forward(ws);
        let states = self.dstates.iter().enumerate().map(|(k, d)| (d * &ws.state(k)).sum());
        (&self.dy * &ws.output()).sum() + states.sum::<f64>()
    }

    fn set_gradients(&self, ws: &mut Workspace<f64>) {
        ws.set_output_gradient(self.dy.view());
        self.dstates.iter().enumerate().for_each(|(k, d)| ws.set_state_gradient(k, d.view()));
    }
}

/// Values in (−1, 1).
fn uniform(len: usize, key: u64) -> Vec<f64> {
    let mut values = vec![0.0; len];
    crate::Init::Uniform(1.0).fill(&mut values, key);
    values
}
