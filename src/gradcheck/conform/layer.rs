//! What a layer must keep.

use super::subject::{Case, Outcome, Stale, Subject};
use super::{Conform, Conformance};
use crate::nn::{Layer, Mode, Workspace};
use crate::{Model, Real, Result, Scalar, Shape};

/// Makes the layer again.
type Make<'a, R> = &'a dyn Fn() -> Box<dyn Layer<R>>;

/// The checks of a layer for one scalar type.
pub(super) struct LayerCheck<'a, R> {
    conform: &'a Conform,
    make: Make<'a, R>,
    input: Shape,
    subject: Subject<R>,
}

impl LayerCheck<'_, f64> {
    pub(super) fn lengths(&self, held: &mut Conformance) -> Result<()> {
        for t in 1..=self.input.t {
            // A layer may refuse to be built for so few steps.
            let Some(own) = self.of_steps(t) else { continue };
            let (found, expected) = (self.subject.length(t), own.model.output_shape().t);
            if found != expected {
                let expected = format!("{expected}, as many steps as its output has when built for {t}");
                let place = format!("of {t} of {} steps", self.input.t);
                return Err(held.fault("length", &place, found, expected));
            }
            held.count("length", 1);
        }
        Ok(())
    }

    pub(super) fn gradients(&self, held: &mut Conformance) -> Result<()> {
        let (conform, Shape { t, f }) = (self.conform, self.input);
        let (plain, ragged) = (conform.check, conform.check.ragged());
        // Some samples, one alone, more than there are lanes in a vector, one step, and an odd number of features.
        let cases = [
            (plain, t, f, 3),
            (ragged, t, f, 3),
            (plain, t, f, 1),
            (ragged, t, f, f64::QUANTUM + 1),
            (plain, 1, f, 2),
            (plain, t, f | 1, 2),
        ];
        for (check, t, f, batch) in cases {
            let shape = Shape::new(t, f);
            // A layer need not accept one step, or another number of features; its input it has accepted.
            let Ok(Subject { mut model, .. }) = self.build(shape) else { continue };
            let mut check = check.batch(batch);
            if let Some(n) = conform.indices {
                check = check.indices(n);
            }
            let report = check.model(&mut model);
            held.gradients(&format!("{batch} samples {shape}"), &report, conform.tolerance)?;
        }
        Ok(())
    }

    pub(super) fn saving(&self, held: &mut Conformance) -> Result<()> {
        let model = Model::from_bytes_with(&self.subject.model.to_bytes()?, self.conform.load)
            .map_err(|fault| held.fault("saving", "loading", fault, "a model"))?;
        let loaded = Subject { model, ..self.subject };
        let (found, expected) = (loaded.layer().describe(), (self.make)().describe());
        if found != expected {
            let place = "the description of the loaded layer";
            return Err(held.fault("saving", place, format!("{found:?}"), format!("{expected:?}")));
        }
        for mode in [Mode::Train, Mode::Infer] {
            let case = Case::new(0..3, mode);
            let (found, expected) = (loaded.run(&case), self.subject.run(&case));
            same_samples("saving", &format!("{mode:?}"), (&found, &expected), 0.0, held)?;
        }
        Ok(())
    }
}

/// Outputs, states and their gradients, sample by sample.
fn same_samples(
    property: &'static str,
    place: &str,
    (found, expected): (&Outcome, &Outcome),
    tolerance: f64,
    held: &mut Conformance,
) -> Result<()> {
    let parts = |outcome: &Outcome| {
        [outcome.y.concat(), outcome.state.concat(), outcome.dx.concat(), outcome.dstate.concat()]
    };
    let names = ["output", "final state", "gradient of the input", "gradient of the initial state"];
    for ((name, found), expected) in names.into_iter().zip(parts(found)).zip(parts(expected)) {
        held.same(property, &format!("{place}: {name}"), (&found, &expected), tolerance)?;
    }
    Ok(())
}

/// Everything that a pass computes.
fn same_pass(
    property: &'static str,
    place: &str,
    (found, expected): (&Outcome, &Outcome),
    tolerance: f64,
    held: &mut Conformance,
) -> Result<()> {
    same_samples(property, place, (found, expected), tolerance, held)?;
    let place = format!("{place}: parameters' gradients");
    held.same(property, &place, (&found.grads, &expected.grads), tolerance)
}

/// The tolerance for sums of gradients whose order may differ, relative to values of the order of 1.
fn rounding<R: Real>() -> f64 {
    if size_of::<R>() == 4 { 1e-3 } else { 1e-10 }
}

impl<'a, R: Real> LayerCheck<'a, R> {
    /// More samples than lanes of a vector: the last tile has pads.
    const SAMPLES: usize = R::QUANTUM + 3;

    pub(super) fn new(conform: &'a Conform, make: Make<'a, R>, input: Shape) -> Result<Self> {
        let subject = Subject::new(make(), input, conform.seed, conform.indices)?;
        Ok(Self { conform, make, input, subject })
    }

    /// The layer built for another input.
    fn build(&self, input: Shape) -> Result<Subject<R>> {
        Subject::new((self.make)(), input, self.conform.seed, self.conform.indices)
    }

    /// The same layer and parameters for another number of steps, if it can be built for them.
    fn of_steps(&self, t: usize) -> Option<Subject<R>> {
        self.subject.reshaped((self.make)(), Shape::new(t, self.input.f))
    }

    /// Everything that must hold to the bit.
    pub(super) fn bits(&self, held: &mut Conformance) -> Result<()> {
        self.buffers(held)?;
        self.gradients_are_added(held)?;
        self.pads(held)?;
        self.padding(held)?;
        self.short_sequences(held)?;
        self.tiles(held)?;
        self.inference(held)?;
        self.one_lane(held)?;
        self.stream(held)
    }

    fn whole(&self) -> Case<'static> {
        Case::new(0..Self::SAMPLES, Mode::Train)
    }

    /// Lengths from 1 to T.
    fn lens(&self) -> Vec<usize> {
        (0..Self::SAMPLES).map(|i| 1 + (i + 1) % self.input.t).collect()
    }

    fn buffers(&self, held: &mut Conformance) -> Result<()> {
        let expected = self.subject.run(&self.whole());
        let buffers = [
            ("output overwritten", Stale::Output),
            ("cache", Stale::Cache),
            ("input gradient overwritten", Stale::InputGradient),
        ];
        for (property, stale) in buffers {
            let found = self.subject.run(&Case { stale, ..self.whole() });
            same_pass(property, "after NaN in its place", (&found, &expected), 0.0, held)?;
        }
        Ok(())
    }

    fn gradients_are_added(&self, held: &mut Conformance) -> Result<()> {
        let expected = self.subject.run(&self.whole()).grads;
        for input_gradient in [true, false] {
            let found = self.subject.run(&Case { grads: 1.0, input_gradient, ..self.whole() }).grads;
            let added: Vec<f64> = found.iter().map(|g| g - 1.0).collect();
            let place = if input_gradient { "to gradients of 1" } else { "without a gradient of the input" };
            held.same("gradients added", place, (&added, &expected), rounding::<R>())?;
        }
        Ok(())
    }

    fn pads(&self, held: &mut Conformance) -> Result<()> {
        let expected = self.subject.run(&self.whole());
        let found = self.subject.run(&Case { pad: 300.0, ..self.whole() });
        same_pass("pads", "with other values in them", (&found, &expected), 0.0, held)?;
        held.zero("pads", "their gradient", &found.dx_of_pads)
    }

    fn padding(&self, held: &mut Conformance) -> Result<()> {
        let lens = self.lens();
        let case = Case { lens: Some(&lens), ..self.whole() };
        let expected = self.subject.run(&case);
        let found = self.subject.run(&Case { pad: 300.0, ..case });
        same_pass("padding", "with other values in it", (&found, &expected), 0.0, held)?;
        held.zero("padding", "its gradient", &found.dx_of_padding)?;
        let [zeros, nans] = [0.0, f64::NAN].map(|pad| self.pass_in_a_model(&lens, R::from_f64(pad)));
        held.same("padding", "NaN in a model's input", (&nans, &zeros), 0.0)
    }

    /// Output, input gradient and parameters' gradients through a workspace, with `pad` after each length.
    fn pass_in_a_model(&self, lens: &[usize], pad: R) -> Vec<f64> {
        let model = &self.subject.model;
        let mut ws = Workspace::new(model, lens.len(), Mode::Train);
        let at = |(i, t, f): (usize, usize, usize)| {
            let value = R::from_f64(((3 * i + 5 * t + 7 * f) % 2) as f64);
            if t < lens[i] { value } else { pad }
        };
        ws.set_input(ndarray::Array3::from_shape_fn((lens.len(), self.input.t, self.input.f), at).view());
        ws.set_lengths(lens);
        model.forward(&mut ws);
        let y = ws.output();
        // No loss has a gradient beyond a sample's length.
        let dy = |(i, t, _): (usize, usize, usize)| {
            R::from_f64(if t < self.subject.length(lens[i]) { 1.0 } else { 0.0 })
        };
        ws.set_output_gradient(ndarray::Array3::from_shape_fn(y.dim(), dy).view());
        let mut grads = vec![R::ZERO; model.parameter_count()];
        model.backward(&mut ws, &mut grads, true);
        y.into_iter().chain(ws.input_gradient()).chain(grads).map(R::to_f64).collect()
    }

    fn short_sequences(&self, held: &mut Conformance) -> Result<()> {
        for len in 1..self.input.t {
            let Some(own) = self.of_steps(len) else { continue };
            let (found, expected) = (self.subject.model.parameter_count(), own.model.parameter_count());
            if found != expected {
                let expected = format!("{expected}, as for {len} steps");
                return Err(held.fault("padding", "parameters", found, expected));
            }
            // Dropout's masks may depend on T.
            let case = Case::new(0..1, Mode::Eval);
            let padded = self.subject.run(&Case { lens: Some(&[len]), ..case.clone() });
            let by_itself = own.run(&case);
            let place = format!("{len} of {} steps", self.input.t);
            for (name, found, expected) in
                [("output", &padded.y, &by_itself.y), ("final state", &padded.state, &by_itself.state)]
            {
                held.same("padding", &format!("{place}: {name}"), (&found[0], &expected[0]), 0.0)?;
            }
            // Chunks of a longer sequence may be cut elsewhere, so sums may run in another order.
            same_pass("padding", &place, (&padded, &by_itself), rounding::<R>(), held)?;
        }
        Ok(())
    }

    fn tiles(&self, held: &mut Conformance) -> Result<()> {
        let whole = self.subject.run(&self.whole());
        let mut parts = Outcome { grads: vec![0.0; whole.grads.len()], ..Outcome::default() };
        for samples in [0..2, 2..3, 3..Self::SAMPLES] {
            let part = self.subject.run(&Case::new(samples, Mode::Train));
            parts.y.extend(part.y);
            parts.state.extend(part.state);
            parts.dx.extend(part.dx);
            parts.dstate.extend(part.dstate);
            parts.grads.iter_mut().zip(part.grads).for_each(|(sum, g)| *sum += g);
        }
        same_samples("tiles", "in three rather than one", (&parts, &whole), 0.0, held)?;
        held.same("tiles", "parameters' gradients", (&parts.grads, &whole.grads), rounding::<R>())
    }

    fn inference(&self, held: &mut Conformance) -> Result<()> {
        let lens = self.lens();
        for lens in [None, Some(&*lens)] {
            let run = |mode| self.subject.run(&Case { lens, mode, ..self.whole() });
            let (found, expected) = (run(Mode::Infer), run(Mode::Eval));
            held.same("inference", "output", (&found.y.concat(), &expected.y.concat()), 0.0)?;
            held.same("inference", "final state", (&found.state.concat(), &expected.state.concat()), 0.0)?;
        }
        Ok(())
    }

    fn one_lane(&self, held: &mut Conformance) -> Result<()> {
        if !self.subject.layer().takes_one_lane() {
            return Ok(());
        }
        let together = self.subject.run(&Case::new(0..Self::SAMPLES, Mode::Infer));
        for i in [0, 1, Self::SAMPLES - 1] {
            let alone = self.subject.run(&Case { alone: true, ..Case::new(i..i + 1, Mode::Infer) });
            held.same("one lane", "output", (&alone.y[0], &together.y[i]), 0.0)?;
            held.same("one lane", "final state", (&alone.state[0], &together.state[i]), 0.0)?;
        }
        Ok(())
    }

    fn stream(&self, held: &mut Conformance) -> Result<()> {
        let subject = &self.subject;
        if !subject.layer().streams() {
            return Ok(());
        }
        let (t, f) = (self.input.t, subject.model.output_shape().f);
        let steps = match subject.model.output_shape().t {
            // If a layer returns only its last step, that one is compared.
            1 => t - 1..t,
            all if all == t => 0..t,
            other => return Err(held.fault("stream", "steps of the output", other, format!("1 or {t}"))),
        };
        let Some(step) = self.of_steps(1) else {
            return Err(held.fault("stream", "building for 1 step", "an error", "a layer that streams"));
        };
        let case = Case::new(0..3, Mode::Infer);
        let whole = subject.run(&case);
        let (mut ys, mut states) = (vec![Vec::new(); 3], None);
        for first in 0..t {
            let pass = step.run(&Case { first, states: states.as_deref(), ..case.clone() });
            if steps.contains(&first) {
                ys.iter_mut().zip(pass.y).for_each(|(all, y)| all.extend(y));
            }
            states = Some(pass.state);
        }
        let expected: Vec<f64> = whole.y.iter().flat_map(|y| &y[..steps.len() * f]).copied().collect();
        held.same("stream", "output", (&ys.concat(), &expected), 0.0)?;
        held.same("stream", "final state", (&states.unwrap_or_default().concat(), &whole.state.concat()), 0.0)
    }
}
