//! Checks that a backward pass is the derivative of its forward pass.
//!
//! Everything is checked in f64 against central differences of fourth order,
//! (8 (L(x + h) − L(x − h)) − (L(x + 2h) − L(x − 2h))) / 12 h, of L = Σ w ⊙ output + Σ v ⊙ final state with random w
//! and v: with respect to every parameter, the input and the initial state. The code that is checked is the code that
//! trains in f32: only the scalar type differs.
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

use std::fmt;

use serde::{Deserialize, Serialize};

use ndarray::{Array2, Array3};
use rand::RngCore;

use crate::data::TargetShape;
use crate::loss::{Loss, Tally, Targets, Tile};
use crate::nn::{Layer, Mode, Workspace};
use crate::{Model, Result, Scalar, Seq, SeqMut, Shape, rng};

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
    /// If the layer refuses the input's shape.
    pub fn layer(&self, layer: impl Layer<f64> + 'static, input: Shape) -> Result<Report> {
        let mut model = Model::builder(input).layer("layer", layer).build(self.seed)?;
        Ok(self.model(&mut model))
    }

    /// Checks a chain of layers at its present parameters.
    ///
    /// # Panics
    /// If the batch is not 1 to 64.
    pub fn model(&self, model: &mut Model<f64>) -> Report {
        let shape = |s: Shape| (self.batch, s.t, s.f);
        let mut stream = 0;
        let mut random = |len: usize| {
            stream += 1;
            uniform(len, rng::key(&[self.seed, 0x67_7261_6463, stream]))
        };
        let array = |shape: (usize, usize, usize), data: Vec<f64>| {
            Array3::from_shape_vec(shape, data).expect("as many values as the shape has")
        };
        let mut ws = Workspace::new(model, self.batch, Mode::Train);
        let input = shape(model.input_shape());
        let mut probe = Probe {
            x: array(input, random(input.0 * input.1 * input.2)),
            dy: array(shape(model.output_shape()), random(self.batch * model.output_shape().size())),
            states: Vec::new(),
            dstates: Vec::new(),
            lens: self.ragged.then(|| (0..self.batch).map(|i| 1 + (i + 1) % model.input_shape().t).collect()),
        };
        if let Some(n) = self.indices {
            probe.x.mapv_inplace(|x| ((x + 1.0) / 2.0 * n as f64).floor());
        }
        for place in model.places() {
            let shape = (self.batch, place.sizes.state);
            let mut state =
                || Array2::from_shape_vec(shape, random(shape.0 * shape.1)).expect("as many values");
            probe.states.push(state());
            probe.dstates.push(state());
        }

        let mut grads = vec![0.0; model.parameter_count()];
        probe.loss(model, &mut ws);
        probe.hand_in(&mut ws);
        model.backward(&mut ws, &mut grads, true);
        let dx = ws.input_gradient();
        let dstates: Vec<_> = (0..model.places().len()).map(|i| ws.state_gradient(i)).collect();

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
        if self.input {
            let dx: Vec<f64> = dx.iter().copied().collect();
            report.entry("input", &dx, self, |i, delta| {
                let mut moved = probe.clone();
                if let Some(x) = moved.x.iter_mut().nth(i) {
                    *x += delta;
                }
                moved.loss(model, &mut ws)
            });
        }
        for (k, dstate) in dstates.iter().enumerate().filter(|(_, dstate)| !dstate.is_empty()) {
            let name = format!("{}: initial state", model.places()[k].name);
            let dstate: Vec<f64> = dstate.iter().copied().collect();
            report.entry(&name, &dstate, self, |i, delta| {
                let mut moved = probe.clone();
                if let Some(x) = moved.states[k].iter_mut().nth(i) {
                    *x += delta;
                }
                moved.loss(model, &mut ws)
            });
        }
        report
    }

    /// Checks a loss on random outputs and targets.
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
            TargetShape::None => (Vec::new(), Vec::new(), output),
            TargetShape::Values(shape) => (Vec::new(), uniform(shape.size() * lanes, key(3)), shape),
        };
        let targets = match targets {
            TargetShape::Classes { .. } | TargetShape::None => Targets::Classes(&classes),
            TargetShape::Values(_) => Targets::Values(Seq::new(&values, shape, lanes)),
        };
        let mut dy = vec![0.0; y.len()];
        let at = |y: &[f64], dy: &mut [f64]| {
            let mut tallies = vec![Tally::default(); lanes];
            let dy = SeqMut::new(dy, output, lanes);
            loss.tile(Tile::new(Seq::new(y, output, lanes), targets, self.batch, dy, &mut tallies));
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

    fn hand_in(&self, ws: &mut Workspace<f64>) {
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

/// The check of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The tensor: a parameter's name, `input`, `output`, or `…: initial state`.
    pub name: String,
    /// The number of derivatives that were checked.
    pub count: usize,
    /// The largest error |a − n| / max(|a|, |n|, floor) among them.
    pub error: f64,
    /// The element with this error.
    pub index: usize,
    /// Its derivative, from the backward pass.
    pub analytic: f64,
    /// Its derivative, from differences.
    pub numeric: f64,
}

/// The result of a check, by tensor; prints as a table, the worst first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// One for each tensor.
    pub entries: Vec<Entry>,
}

impl Report {
    fn entry(
        &mut self,
        name: &str,
        analytic: &[f64],
        check: &GradCheck,
        mut loss: impl FnMut(usize, f64) -> f64,
    ) {
        let mut worst = Entry {
            name: name.to_owned(),
            count: analytic.len(),
            error: -1.0,
            index: 0,
            analytic: 0.0,
            numeric: 0.0,
        };
        let h = check.step;
        for (index, &analytic) in analytic.iter().enumerate() {
            let near = loss(index, h) - loss(index, -h);
            let far = loss(index, 2.0 * h) - loss(index, -2.0 * h);
            let numeric = (8.0 * near - far) / (12.0 * h);
            let error = (analytic - numeric).abs() / analytic.abs().max(numeric.abs()).max(check.floor);
            // NaN is worse than any number.
            if error > worst.error || error.is_nan() {
                worst = Entry { error, index, analytic, numeric, ..worst };
            }
        }
        self.entries.push(worst);
    }

    /// The tensor with the largest error.
    pub fn worst(&self) -> Option<&Entry> {
        let key = |error: f64| if error.is_nan() { f64::INFINITY } else { error };
        self.entries.iter().max_by(|a, b| key(a.error).total_cmp(&key(b.error)))
    }

    /// The largest error; NaN if any is.
    pub fn max_error(&self) -> f64 {
        self.worst().map_or(0.0, |worst| worst.error)
    }

    /// Asserts that no error reaches `tolerance`.
    ///
    /// # Panics
    /// If one does, with the whole report.
    #[track_caller]
    pub fn assert_below(&self, tolerance: f64) {
        let error = self.max_error();
        assert!(
            error < tolerance,
            "gradients are off by {error:.1e}, expected below {tolerance:.0e}:\n{self}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|a, b| b.error.total_cmp(&a.error));
        let width = entries.iter().map(|e| e.name.chars().count()).max().unwrap_or(0).max(6);
        writeln!(
            f,
            "{:width$}  {:>7}  {:>8}  {:>6}  {:>14}  {:>14}",
            "tensor", "checked", "error", "at", "backward", "differences"
        )?;
        for Entry { name, count, error, index, analytic, numeric } in entries {
            writeln!(
                f,
                "{name:width$}  {count:>7}  {error:>8.1e}  {index:>6}  {analytic:>14.7e}  {numeric:>14.7e}"
            )?;
        }
        Ok(())
    }
}
