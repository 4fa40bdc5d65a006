//! L0 regularisation: a gate for each unit, which learns whether the unit is needed.

use super::unit_weights::UnitWeights;
use crate::math::{exp, ln};
use crate::{Arena, Error, Model, Real, Result, rng};

/// β, γ and ζ of the paper: the temperature, and the ends to which the concrete distribution is stretched.
const BETA: f64 = 2.0 / 3.0;
const GAMMA: f64 = -0.1;
const ZETA: f64 = 1.1;
/// Those of Adam, which moves the gates.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// A penalty λ · E‖w‖₀, the expected number of weights that are not 0, learned by a gate z for each unit, which multiplies the
/// weights by which the unit is read.
///
/// A gate is drawn for each step from a hard concrete distribution, which is 0 and 1 with positive probability and has a
/// parameter a, the paper's log α:
///
/// s = σ((ln u − ln(1 − u) + a) / β), &nbsp; z = min(1, max(0, s (ζ − γ) + γ)), &nbsp; u uniform,
///
/// with β = ⅔, γ = −0.1 and ζ = 1.1. The penalty is λ Σ n σ(a − β ln(−γ/ζ)) over units, where n weights read the unit. The
/// gradient with respect to a comes through s, where 0 < z < 1, and from the penalty. Adam moves a. In the end z is
/// σ(a) (ζ − γ) + γ, limited to 0 and 1, and [`settle`](Gates::settle) multiplies the weights by it;
/// [`Model::compact`] then cuts units whose gate is 0.
///
/// The gates belong to a custom loop: see the example. They need an optimizer that may see weights with noise. Where
/// [`GroupLasso`](super::GroupLasso) shrinks all weights, gates leave open units as they are.
///
/// # Source
/// Louizos, Welling & Kingma 2018, "Learning sparse neural networks through L0 regularization", equations 10 to 13.
/// # Examples
/// ```
/// use bptt::data::Batches;
/// use bptt::prelude::*;
/// use bptt::train::L0Gates;
/// # use bptt::ndarray::{Array1, Array3};
/// # let x = Array3::from_shape_fn((60, 6, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 5.0 - t as f32 });
/// # let data = Arrays::classes(x, &Array1::from_shape_fn(60, |i| i % 2), ["up", "down"])?;
/// # let linear = Linear::new(2);
///
/// let mut model =
///     Model::builder(data.shape()).layer("lstm", Lstm::new(12).last()).layer("linear", linear).build(1)?;
/// let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).batch_size(20);
/// let mut stepper = trainer.stepper(&model, &data)?;
/// let mut gates = L0Gates::new(1e-3).lr(0.1).start(&model, 1)?;
/// let mut batches = Batches::new(data.len(), 20, 1)?;
/// for epoch in 1..=40 {
///     for batch in batches.epoch(epoch)? {
///         gates.draw(&mut model)?;
///         stepper.gradients(&model, &data, batch)?;
///         gates.update(&mut model, stepper.grads_mut())?;
///         stepper.update(&mut model);
///     }
/// }
/// let open = gates.settle(&mut model)?;
/// let small = model.compact()?;
/// assert_eq!(small.params().get("linear.weight").unwrap().shape(), [2, open]);
/// assert!(open < 12 && small.evaluate(&data)?.accuracy() > Some(0.9));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct L0Gates {
    lambda: f64,
    lr: f64,
    open: f64,
    patterns: Vec<String>,
}

impl L0Gates {
    /// A penalty of this weight λ for each weight. Gates begin with probability 0.9 of not being 0, and move at a rate of 0.01.
    pub fn new(lambda: f64) -> Self {
        Self { lambda, lr: 0.01, open: 0.9, patterns: Vec::new() }
    }

    /// The learning rate of the gates.
    pub fn lr(self, lr: f64) -> Self {
        Self { lr, ..self }
    }

    /// The probability, above 0 and below 1, with which a gate is not 0 at first.
    pub fn open(self, open: f64) -> Self {
        Self { open, ..self }
    }

    /// Restricts the gates to groups of units whose names match `pattern`, in which `*` matches any run of characters:
    /// `lstm.l0`, `lstm.*`. A second call adds others.
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// Gates for the units of a model, drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is invalid, or a pattern fits no units.
    pub fn start<R: Real>(&self, model: &Model<R>, seed: u64) -> Result<Gates<R>> {
        let bad = |field: &str, found: f64, expected: &str| {
            Err(Error::config(field, format!("found {found}, expected {expected}")))
        };
        if !(0.0..f64::INFINITY).contains(&self.lambda) {
            return bad("lambda", self.lambda, "a number of at least 0");
        }
        if !(0.0..f64::INFINITY).contains(&self.lr) {
            return bad("lr", self.lr, "a number of at least 0");
        }
        if !(self.open > 0.0 && self.open < 1.0) {
            return bad("open", self.open, "a probability above 0 and below 1");
        }
        let units = UnitWeights::of(model.params().layout(), &self.patterns, &[], "l0_gates")?;
        // The inverse of the probability that a gate is not 0.
        let a = ln(self.open) - ln(1.0 - self.open) + shift();
        Ok(Gates {
            lambda: self.lambda,
            lr: self.lr,
            seed,
            steps: 0,
            parameters: model.parameter_count(),
            gates: vec![Gate { a, ..Gate::default() }; units.len()],
            weights: vec![R::ZERO; units.weights()],
            drawn: false,
            units,
        })
    }
}

/// β ln(−γ/ζ): a gate is not 0 with probability σ(a − this).
fn shift() -> f64 {
    BETA * ln(-GAMMA / ZETA)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// The gates of [`L0Gates`] while a model is trained.
pub struct Gates<R> {
    lambda: f64,
    lr: f64,
    seed: u64,
    steps: u64,
    parameters: usize,
    gates: Vec<Gate>,
    units: UnitWeights,
    /// The weights of the units, while the model has them multiplied by what was drawn.
    weights: Vec<R>,
    drawn: bool,
}

impl<R> std::fmt::Debug for Gates<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gates")
            .field("steps", &self.steps)
            .field("gates", &self.gates)
            .finish_non_exhaustive()
    }
}

/// The gate of a unit.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// The parameter, the paper's log α.
    a: f64,
    /// The moments of its gradient.
    moments: [f64; 2],
    /// What was drawn, and its derivative with respect to a.
    z: f64,
    dz: f64,
}

impl Gate {
    /// Draws z from a uniform number between 0 and 1.
    fn draw(&mut self, u: f64) {
        let s = sigmoid((ln(u) - ln(1.0 - u) + self.a) / BETA);
        let stretched = s * (ZETA - GAMMA) + GAMMA;
        self.z = stretched.clamp(0.0, 1.0);
        let inside = stretched > 0.0 && stretched < 1.0;
        self.dz = if inside { (ZETA - GAMMA) * s * (1.0 - s) / BETA } else { 0.0 };
    }

    /// The probability that z is not 0.
    fn open(&self) -> f64 {
        sigmoid(self.a - shift())
    }

    /// z without noise.
    fn settled(&self) -> f64 {
        (sigmoid(self.a) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)
    }

    /// A step of Adam.
    fn step(&mut self, gradient: f64, lr: f64, step: u64) {
        let powers = [gradient, gradient * gradient];
        let mut unbiased = [0.0; 2];
        for i in 0..2 {
            self.moments[i] = BETAS[i] * self.moments[i] + (1.0 - BETAS[i]) * powers[i];
            unbiased[i] = self.moments[i] / (1.0 - crate::math::power(BETAS[i], step));
        }
        self.a -= lr * unbiased[0] / (unbiased[1].sqrt() + EPS);
    }
}

impl<R: Real> Gates<R> {
    /// Draws the gates of a step, and multiplies the model's weights by them until [`update`](Self::update).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the model has another number of parameters, or gates were drawn already.
    pub fn draw(&mut self, model: &mut Model<R>) -> Result<()> {
        self.check(model, false)?;
        let mut params = model.params_mut();
        let params = params.as_mut_slice();
        let mut kept = self.weights.iter_mut();
        for (unit, (gate, weights)) in self.gates.iter_mut().zip(self.units.units()).enumerate() {
            gate.draw(rng::unit(&mut rng::rng(rng::key(&[self.seed, self.steps, unit as u64]))));
            let z = R::from_f64(gate.z);
            for (&i, kept) in weights.iter().zip(&mut kept) {
                *kept = params[i];
                params[i] *= z;
            }
        }
        self.drawn = true;
        Ok(())
    }

    /// Gives the model its weights back, turns `grads`, which is with respect to the weights times the gates, into the
    /// gradient with respect to the weights, and moves the gates.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the model has another number of parameters, or no gates were drawn.
    pub fn update(&mut self, model: &mut Model<R>, grads: &mut Arena<R>) -> Result<()> {
        self.check(model, true)?;
        self.steps += 1;
        let mut params = model.params_mut();
        let (params, grads) = (params.as_mut_slice(), grads.as_mut_slice());
        let mut kept = self.weights.iter();
        for (gate, weights) in self.gates.iter_mut().zip(self.units.units()) {
            let (z, mut with_respect_to_z) = (R::from_f64(gate.z), 0.0);
            for (&i, &kept) in weights.iter().zip(&mut kept) {
                with_respect_to_z += grads[i].to_f64() * kept.to_f64();
                params[i] = kept;
                grads[i] *= z;
            }
            let open = gate.open();
            let penalty = self.lambda * weights.len() as f64 * open * (1.0 - open);
            gate.step(with_respect_to_z * gate.dz + penalty, self.lr, self.steps);
        }
        self.drawn = false;
        Ok(())
    }

    /// Multiplies the model's weights by the gates without noise, which ends the training of the gates, and returns how many
    /// units are open. [`Model::compact`] cuts the others.
    ///
    /// # Errors
    /// As for [`draw`](Self::draw).
    pub fn settle(self, model: &mut Model<R>) -> Result<usize> {
        self.check(model, false)?;
        let mut params = model.params_mut();
        for (gate, weights) in self.gates.iter().zip(self.units.units()) {
            let z = R::from_f64(gate.settled());
            weights.iter().for_each(|&i| params.as_mut_slice()[i] *= z);
        }
        Ok(self.open())
    }

    /// How many units would be open without noise.
    pub fn open(&self) -> usize {
        self.gates.iter().filter(|gate| gate.settled() > 0.0).count()
    }

    /// E‖w‖₀: how many of the weights by which units are read are expected not to be 0.
    pub fn expected(&self) -> f64 {
        self.gates
            .iter()
            .zip(self.units.units())
            .map(|(gate, weights)| weights.len() as f64 * gate.open())
            .sum()
    }

    fn check(&self, model: &Model<R>, drawn: bool) -> Result<()> {
        let (found, expected) = (model.parameter_count(), self.parameters);
        if found != expected {
            let [found, expected] = [found, expected].map(|n| format!("a model of {n} parameters"));
            return Err(Error::mismatch("l0_gates", found, expected));
        }
        if self.drawn != drawn {
            let say = |drawn| if drawn { "gates that are drawn" } else { "no gates that are drawn" };
            return Err(Error::mismatch("l0_gates", say(self.drawn), say(drawn)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::nn::{Linear, Lstm};

    fn model() -> Model<f64> {
        let builder = Model::builder(Shape::new(3, 2)).layer("lstm", Lstm::new(3).last());
        builder.layer("linear", Linear::new(2)).build(5).unwrap()
    }

    /// Central differences of c · (w z(a)) + λ E‖w‖₀, a loss that is linear in the weights.
    #[test]
    fn gradients_of_gates() {
        let slope = |i: usize| ((7 * i) % 11) as f64 / 11.0 - 0.4;
        let (lambda, h) = (0.01, 1e-6);
        let mut checked = 0;
        for step in 0..20 {
            let mut model = model();
            let weights = model.params().as_slice().to_vec();
            let mut gates = L0Gates::new(lambda).lr(0.0).open(0.6).start(&model, 3).unwrap();
            gates.steps = step;
            gates.draw(&mut model).unwrap();
            let mut grads = Arena::zeros(model.params().layout().clone());
            grads.as_mut_slice().iter_mut().enumerate().for_each(|(i, g)| *g = slope(i));
            gates.update(&mut model, &mut grads).unwrap();
            assert_eq!(model.params().as_slice(), weights);
            for (unit, (gate, indices)) in gates.gates.iter().zip(gates.units.units()).enumerate() {
                // Away from the kinks at 0 and 1.
                if gate.z.min(1.0 - gate.z) < 1e-4 && gate.dz != 0.0 {
                    continue;
                }
                let u = rng::unit(&mut rng::rng(rng::key(&[3, step, unit as u64])));
                let loss = |a: f64| {
                    let mut gate = Gate { a, ..Gate::default() };
                    gate.draw(u);
                    let linear: f64 = indices.iter().map(|&i| slope(i) * weights[i] * gate.z).sum();
                    linear + lambda * indices.len() as f64 * gate.open()
                };
                let numeric = (loss(gate.a + h) - loss(gate.a - h)) / (2.0 * h);
                let moment = gate.moments[0] / (1.0 - BETAS[0]);
                assert!((moment - numeric).abs() < 1e-8, "{moment} and {numeric}");
                assert!(indices.iter().all(|&i| grads.as_slice()[i] == slope(i) * gate.z));
                checked += usize::from(gate.dz != 0.0);
            }
        }
        assert!(checked > 10, "{checked}");
    }

    /// By many draws, and by the formula.
    #[test]
    fn gates_are_zero_as_often_as_told() {
        let mut gate = Gate { a: ln(0.7 / 0.3) + shift(), ..Gate::default() };
        let mut rng = rng::rng(1);
        let zeros = (0..10_000).filter(|_| {
            gate.draw(rng::unit(&mut rng));
            gate.z == 0.0
        });
        let share = zeros.count() as f64 / 10_000.0;
        // sd: √(0.7 · 0.3 / 10,000) = 0.0046
        assert!((share - 0.3).abs() < 5.0 * 0.0046, "{share}");
        assert!((gate.open() - 0.7).abs() < 1e-12);
    }

    #[test]
    fn faults_are_named() {
        let mut model = model();
        let config = |gates: L0Gates| gates.start(&model, 1).unwrap_err().to_string();
        assert!(config(L0Gates::new(-1.0)).contains("`lambda`: found -1"));
        assert!(config(L0Gates::new(1.0).lr(f64::NAN)).contains("`lr`: found NaN"));
        assert!(config(L0Gates::new(1.0).open(1.0)).contains("`open`: found 1"));
        assert!(config(L0Gates::new(1.0).only("gru.*")).contains("gru.*"));
        let mut gates = L0Gates::new(1.0).start(&model, 1).unwrap();
        let mut grads = Arena::zeros(model.params().layout().clone());
        assert!(gates.update(&mut model, &mut grads).is_err());
        gates.draw(&mut model).unwrap();
        assert!(gates.draw(&mut model).is_err());
    }
}
