//! A layer without a model, called on tiles of every kind.

use std::ops::Range;

use crate::nn::{Backward, Context, Forward, Layer, Mode};
use crate::{Model, Real, Result, Seq, SeqMut, Shape, rng};

/// What is in the buffers before a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stale {
    Nothing,
    Output,
    Cache,
    InputGradient,
}

/// One pass: its samples, and everything that must not affect their results.
#[derive(Clone, Debug)]
pub(super) struct Case<'a> {
    pub samples: Range<usize>,
    /// The step of the samples that the pass begins with.
    pub first: usize,
    /// Each sample's length, where they differ.
    pub lens: Option<&'a [usize]>,
    /// Each sample's initial state, where it is not the default.
    pub states: Option<&'a [Vec<f64>]>,
    pub mode: Mode,
    /// Whether a single sample has a single lane.
    pub alone: bool,
    /// Which buffer is filled with NaN at first.
    pub stale: Stale,
    /// What is in pads and in padding.
    pub pad: f64,
    /// What the gradients are at first.
    pub grads: f64,
    /// Whether the gradient with respect to the input is computed.
    pub input_gradient: bool,
}

impl Case<'_> {
    pub fn new(samples: Range<usize>, mode: Mode) -> Self {
        Self {
            samples,
            first: 0,
            lens: None,
            states: None,
            mode,
            alone: false,
            stale: Stale::Nothing,
            pad: 0.0,
            grads: 0.0,
            input_gradient: true,
        }
    }

    fn stale<R: Real>(&self, buffer: Stale) -> R {
        R::from_f64(if self.stale == buffer { f64::NAN } else { 0.0 })
    }
}

/// What a pass computed, sample by sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// As many steps as the sample's length has after the layer.
    pub y: Vec<Vec<f64>>,
    pub state: Vec<Vec<f64>>,
    /// As many steps as the sample has.
    pub dx: Vec<Vec<f64>>,
    pub dstate: Vec<Vec<f64>>,
    pub grads: Vec<f64>,
    /// dx of lanes without a sample.
    pub dx_of_pads: Vec<f64>,
    /// dx of steps beyond a sample's length.
    pub dx_of_padding: Vec<f64>,
}

/// A layer as it was built for an input.
pub(super) struct Subject<R> {
    pub model: Model<R>,
    pub seed: u64,
    pub indices: Option<usize>,
}

/// The purpose of a random value.
#[derive(Clone, Copy)]
enum Draw {
    Input,
    State,
    OutputGradient,
    StateGradient,
    Key,
}

impl<R: Real> Subject<R> {
    /// The layer, with parameters that differ from its initial ones.
    pub fn new(layer: Box<dyn Layer<R>>, input: Shape, seed: u64, indices: Option<usize>) -> Result<Self> {
        let mut model = Model::builder(input).boxed("layer", layer).build(seed)?;
        let mut noise = vec![R::ZERO; model.parameter_count()];
        crate::Init::Uniform(0.3).fill(&mut noise, rng::key(&[seed, 0x6e_6f69_7365]));
        model.params_mut().as_mut_slice().iter_mut().zip(noise).for_each(|(p, n)| *p += n);
        Ok(Self { model, seed, indices })
    }

    /// The same layer and parameters for another input, if it can be built for one; a model of other parameters if it
    /// has others there.
    pub fn reshaped(&self, layer: Box<dyn Layer<R>>, input: Shape) -> Option<Self> {
        let mut model = Model::builder(input).boxed("layer", layer).build(self.seed).ok()?;
        if model.parameter_count() == self.model.parameter_count() {
            model.params_mut().as_mut_slice().copy_from_slice(self.model.params().as_slice());
        }
        Some(Self { model, ..*self })
    }

    pub fn layer(&self) -> &dyn Layer<R> {
        &*self.model.slots()[0].layer
    }

    /// The length of a sequence of `len` steps after the layer.
    pub fn length(&self, len: usize) -> usize {
        self.layer().length(self.model.input_shape(), len)
    }

    /// A value in (−1, 1) that depends on sample and element alone: any cut into tiles finds the same.
    fn draw(&self, what: Draw, sample: usize, i: usize) -> f64 {
        let key = rng::key(&[self.seed, what as u64, sample as u64, i as u64]);
        let value = (key >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        match (what, self.indices) {
            (Draw::Input, Some(n)) => ((value + 1.0) / 2.0 * n as f64).floor().min(n as f64 - 1.0),
            _ => value,
        }
    }

    /// `[rows, lanes]` by `value(sample, row)`, and `pad` where that has none.
    fn tile(
        &self,
        case: &Case<'_>,
        rows: usize,
        pad: f64,
        value: impl Fn(usize, usize) -> Option<f64>,
    ) -> Vec<R> {
        let lanes = Self::lanes(case);
        let at = |i: usize| {
            let (row, lane) = (i / lanes, i % lanes);
            let value = if lane < case.samples.len() { value(lane, row) } else { None };
            R::from_f64(value.unwrap_or(pad))
        };
        (0..rows * lanes).map(at).collect()
    }

    fn lanes(case: &Case<'_>) -> usize {
        if case.alone { 1 } else { case.samples.len().next_multiple_of(R::QUANTUM) }
    }

    /// The length of the sample in `lane`, before the layer and after it.
    fn lens(&self, case: &Case<'_>, lane: usize) -> (usize, usize) {
        let (t, output) = (self.model.input_shape().t, self.model.output_shape());
        match case.lens.map_or(t, |lens| lens[lane]) {
            len if len < t => (len, self.length(len)),
            len => (len, output.t),
        }
    }

    /// Passes the samples through the layer, and back if the mode keeps what the backward pass needs.
    pub fn run(&self, case: &Case<'_>) -> Outcome {
        let (slot, lanes, n) = (&self.model.slots()[0], Self::lanes(case), case.samples.len());
        let (input, output, sizes) = (slot.input, slot.output.shape, slot.sizes);
        let sample = |lane: usize| case.samples.start + lane;
        let x = self.tile(case, input.size(), case.pad, |lane, i| {
            let within = i / input.f < self.lens(case, lane).0;
            within.then(|| self.draw(Draw::Input, sample(lane), case.first * input.f + i))
        });
        let mut state = self.tile(case, sizes.state, 0.0, |lane, i| match case.states {
            Some(states) => Some(states[lane][i]),
            None => Some(self.draw(Draw::State, sample(lane), i)),
        });
        let lens: Vec<u32> = (0..n).map(|lane| self.lens(case, lane).0 as u32).collect();
        let short = lens.iter().any(|&len| (len as usize) < input.t).then_some(&*lens);
        let key = |lane| rng::key(&[self.seed, Draw::Key as u64, sample(lane) as u64]);
        let keys: Vec<u64> = (0..lanes).map(key).collect();
        let cx =
            self.model.context(0, Context { lens: short, keys: &keys, ..Context::new(&[], case.mode, n) });
        let back = case.mode.keeps_history();
        let mut y = vec![case.stale::<R>(Stale::Output); output.size() * lanes];
        let cache = if back { sizes.cache } else { sizes.infer_cache };
        let mut cache = vec![case.stale::<R>(Stale::Cache); cache * lanes];
        let pass = Forward::new(cx, Seq::new(&x, input, lanes), SeqMut::new(&mut y, output, lanes));
        slot.layer.forward(pass.state(&mut state).cache(&mut cache));

        let mut outcome = Outcome {
            y: parts(&y, lanes, n, |lane| 0..self.lens(case, lane).1 * output.f),
            state: parts(&state, lanes, n, |_| 0..sizes.state),
            ..Outcome::default()
        };
        if back {
            let (x, y) = (Seq::new(&x, input, lanes), Seq::new(&y, output, lanes));
            self.back(case, Backward::new(cx, x, y, y).cache(&mut cache), &mut outcome);
        }
        outcome
    }

    /// The backward pass, for which the forward pass has left everything but the gradients.
    fn back(&self, case: &Case<'_>, pass: Backward<'_, R>, outcome: &mut Outcome) {
        let (slot, lanes, n) = (&self.model.slots()[0], Self::lanes(case), case.samples.len());
        let (input, output, sizes) = (slot.input, slot.output.shape, slot.sizes);
        let sample = |lane: usize| case.samples.start + lane;
        let dy = self.tile(case, output.size(), 0.0, |lane, i| {
            let within = i / output.f < self.lens(case, lane).1;
            within.then(|| self.draw(Draw::OutputGradient, sample(lane), i))
        });
        let mut dstate = self
            .tile(case, sizes.state, 0.0, |lane, i| Some(self.draw(Draw::StateGradient, sample(lane), i)));
        let mut dx = vec![case.stale::<R>(Stale::InputGradient); input.size() * lanes];
        let mut grads = vec![R::from_f64(case.grads); self.model.parameter_count()];
        let to = case.input_gradient.then(|| SeqMut::new(&mut dx, input, lanes));
        let pass = Backward { dy: Seq::new(&dy, output, lanes), dx: to, ..pass };
        slot.layer.backward(pass.dstate(&mut dstate).grads(&mut grads));

        outcome.dx = parts(&dx, lanes, n, |lane| 0..self.lens(case, lane).0 * input.f);
        outcome.dx_of_padding =
            parts(&dx, lanes, n, |lane| self.lens(case, lane).0 * input.f..input.size()).concat();
        let pads = dx.iter().enumerate().filter(|(i, _)| i % lanes >= n);
        outcome.dx_of_pads = pads.map(|(_, dx)| dx.to_f64()).collect();
        outcome.dstate = parts(&dstate, lanes, n, |_| 0..sizes.state);
        outcome.grads = grads.into_iter().map(R::to_f64).collect();
    }
}

/// The values of some rows of each of `n` lanes.
fn parts<R: Real>(data: &[R], lanes: usize, n: usize, rows: impl Fn(usize) -> Range<usize>) -> Vec<Vec<f64>> {
    let part = |lane: usize| rows(lane).map(|row| data[row * lanes + lane].to_f64()).collect();
    (0..n).map(part).collect()
}
