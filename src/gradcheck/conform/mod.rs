//! Checks that a layer, a loss or an optimizer keeps everything that the rest of the crate relies on.

mod layer;
mod loss;
mod optimizer;
mod subject;

use std::fmt;

use layer::LayerCheck;

use super::{GradCheck, Report};
use crate::data::TargetShape;
use crate::loss::Loss;
use crate::nn::{Description, Layer};
use crate::optim::Optimizer;
use crate::{Error, Result, Shape};

/// Checks everything that a layer must keep, with default settings; see [`Conform::layer`].
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) naming the property that does not hold.
///
/// # Examples
/// ```
/// use bptt::{Shape, gradcheck::conform, nn::Gru};
///
/// let held = conform(|| Gru::new(3).layers(2), Shape::new(5, 4))?;
/// assert!(held.properties().any(|name| name == "stream"));
/// println!("{held}");
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn conform<L>(make: impl Fn() -> L, input: Shape) -> Result<Conformance>
where
    L: Layer<f32> + Layer<f64> + 'static,
{
    Conform::default().layer(make, input)
}

/// Makes a layer from its description, as for [`Model::load_with`](crate::Model::load_with).
type Load = fn(&Description) -> Option<Box<dyn Layer<f64>>>;

/// A check of all properties, and its settings.
///
/// # Examples
/// ```
/// use bptt::data::TargetShape;
/// use bptt::gradcheck::Conform;
/// use bptt::{Shape, loss::Mse, nn::Embedding, optim::Adam};
///
/// // An embedding reads indices, whole numbers below 7.
/// Conform::default().indices(7).layer(|| Embedding::new(7, 3), Shape::new(4, 1))?;
///
/// let output = Shape::new(3, 2);
/// Conform::default().loss(&Mse, output, TargetShape::Values(output))?;
/// Conform::default().optimizer(&Adam::new(0.01))?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Conform {
    check: GradCheck,
    tolerance: f64,
    seed: u64,
    indices: Option<usize>,
    load: Load,
}

impl Default for Conform {
    /// Gradients by the default [`GradCheck`], to 1e-6; seed 1; inputs in (−1, 1); built-in layers.
    fn default() -> Self {
        Self { check: GradCheck::default(), tolerance: 1e-6, seed: 1, indices: None, load: |_| None }
    }
}

impl Conform {
    /// How gradients are checked; batch and lengths are set by the check itself.
    pub fn gradients(mut self, check: GradCheck) -> Self {
        self.check = check;
        self
    }

    /// Uses steps so short that hardly any value crosses a kink, for layers that have kinks, such as a ReLU.
    pub fn kinks(self) -> Self {
        self.gradients(GradCheck::default().step(1e-5).floor(1e-2))
    }

    /// The seed of parameters, inputs, states and gradients.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Draws integer inputs in `0..n`, with respect to which there is no gradient.
    pub fn indices(mut self, n: usize) -> Self {
        self.indices = Some(n);
        self
    }

    /// Makes a custom layer from its description when it is loaded.
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// Checks everything that a layer, or a stack of a cell, must keep. `make` returns the same layer each time; `input`
    /// should have at least three steps, if the layer works on time steps.
    ///
    /// In the order in which they are checked:
    ///
    /// - `length`: what `build` says of the output agrees with `Layer::length`, for `input` and for shorter sequences;
    /// - `output overwritten`, `cache`, `input gradient overwritten`: the earlier content of the buffers changes nothing;
    /// - `gradients added`: parameters' gradients are added to the content of their buffer, whether or not the gradient with
    ///   respect to the input is computed;
    /// - `pads`: lanes without a sample change nothing, and their gradient is 0;
    /// - `padding`: steps after a sample's length change nothing, even if they are NaN, and their gradient is 0; a short
    ///   sequence has the same outputs, states and gradients as by itself;
    /// - `tiles`: a sample has the same bits in any tile;
    /// - `inference`: a pass that keeps no history has the same bits;
    /// - `one lane`: a single sample has the same bits, if the layer [takes one lane](Layer::takes_one_lane);
    /// - `stream`: single steps have the same bits, if the layer [streams](Layer::streams);
    /// - `gradients`: they agree with central differences in f64, for one step, one sample, more samples than lanes, an
    ///   odd number of features, and sequences of different lengths;
    /// - `saving`: the layer made from its description is the same in training and inference.
    ///
    /// Everything that must hold to the bit is checked in f64 and f32.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) naming the first property that does not hold, what was found and what
    /// was expected; or the layer's own error if it refuses `input`.
    pub fn layer<L>(&self, make: impl Fn() -> L, input: Shape) -> Result<Conformance>
    where
        L: Layer<f32> + Layer<f64> + 'static,
    {
        self.boxed_layer(&|| Box::new(make()), &|| Box::new(make()), input)
    }

    /// As [`layer`](Self::layer), for a layer of another type in f32 than in f64, such as
    /// [`Branches`](crate::nn::Branches).
    ///
    /// # Errors
    /// As for [`layer`](Self::layer).
    pub fn boxed_layer(
        &self,
        single: &dyn Fn() -> Box<dyn Layer<f32>>,
        double: &dyn Fn() -> Box<dyn Layer<f64>>,
        input: Shape,
    ) -> Result<Conformance> {
        let mut held = Conformance::new("layer", double().describe().kind);
        let check = LayerCheck::<f64>::new(self, double, input)?;
        check.lengths(&mut held)?;
        check.bits(&mut held)?;
        LayerCheck::<f32>::new(self, single, input)?.bits(&mut held)?;
        check.gradients(&mut held)?;
        check.saving(&mut held)?;
        Ok(held)
    }

    /// Checks everything that a loss must keep, for outputs and targets of these shapes.
    ///
    /// - `gradients`: they agree with central differences, for one sample, some, and more than lanes;
    /// - `gradient overwritten`: the earlier content of its buffer changes nothing;
    /// - `pads`, `padding`: lanes without a sample, and steps after a sample's length, have no tally and a gradient of 0;
    /// - `tallies`: each lane's tally and gradient are those of the sample by itself;
    /// - `missing targets`: a value that is NaN, or a class that does not [count](Loss::counts), has neither;
    /// - `extreme outputs`: at 1000 and −1000, loss and gradient are finite.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) naming the first property that does not hold, what was found and what
    /// was expected; or the loss's own error if it refuses the shapes.
    pub fn loss(&self, loss: &dyn Loss<f64>, output: Shape, targets: TargetShape) -> Result<Conformance> {
        let mut held = Conformance::new("loss", format!("{loss:?}"));
        loss::check(self, loss, output, targets, &mut held)?;
        Ok(held)
    }

    /// Checks everything that an optimizer must keep.
    ///
    /// - `settings`: they are valid, and the moments at most [`MAX_MOMENTS`](crate::optim::MAX_MOMENTS);
    /// - `pieces`: parameters have the same bits, updated all at once or in pieces;
    /// - `rate of 0`: moves no parameter;
    /// - `finite`: gradients of 0, and of up to 1e6, leave parameters and moments finite.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) naming the first property that does not hold, what was found and what
    /// was expected; or the optimizer's own error if its settings are invalid.
    pub fn optimizer(&self, optimizer: &dyn Optimizer<f64>) -> Result<Conformance> {
        let mut held = Conformance::new("optimizer", format!("{optimizer:?}"));
        optimizer::check(self, optimizer, &mut held)?;
        Ok(held)
    }
}

/// The properties that hold; prints as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conformance {
    /// What was checked: `layer`, `loss` or `optimizer`, and which.
    pub subject: String,
    /// Each property, and how many values were compared for it.
    pub held: Vec<(&'static str, usize)>,
}

impl Conformance {
    fn new(what: &str, which: impl fmt::Display) -> Self {
        Self { subject: format!("{what} `{which}`"), held: Vec::new() }
    }

    /// The names of the properties that were checked.
    pub fn properties(&self) -> impl Iterator<Item = &'static str> {
        self.held.iter().map(|&(name, _)| name)
    }

    fn count(&mut self, property: &'static str, values: usize) {
        match self.held.iter_mut().find(|(name, _)| *name == property) {
            Some((_, count)) => *count += values,
            None => self.held.push((property, values)),
        }
    }

    fn fault(
        &self,
        property: &str,
        place: &str,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Error {
        Error::mismatch(format!("{}: {property}: {place}", self.subject), found, expected)
    }

    /// Checks that all gradients of a report agree with their differences.
    fn gradients(&mut self, place: &str, report: &Report, tolerance: f64) -> Result<()> {
        let off = |error: f64| error >= tolerance || error.is_nan();
        if let Some(worst) = report.worst().filter(|worst| off(worst.error)) {
            let place = format!("{place}: `{}`, value {}", worst.name, worst.index);
            let expected = format!("{}, by differences", worst.numeric);
            return Err(self.fault("gradients", &place, worst.analytic, expected));
        }
        self.count("gradients", report.entries.iter().map(|entry| entry.count).sum());
        Ok(())
    }

    /// Checks that two results are the same, to a relative tolerance or, if that is 0, to the bit. NaN is a fault.
    fn same(
        &mut self,
        property: &'static str,
        place: &str,
        pair: (&[f64], &[f64]),
        tolerance: f64,
    ) -> Result<()> {
        let (found, expected) = pair;
        if found.len() != expected.len() {
            let values = |n: usize| format!("{n} values");
            return Err(self.fault(property, place, values(found.len()), values(expected.len())));
        }
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            let near = a == b || (a - b).abs() <= tolerance * b.abs().max(1.0);
            if !near {
                return Err(self.fault(property, &format!("{place}, value {i}"), a, b));
            }
        }
        self.count(property, found.len());
        Ok(())
    }

    /// Checks that all values are 0.
    fn zero(&mut self, property: &'static str, place: &str, values: &[f64]) -> Result<()> {
        self.same(property, place, (values, &vec![0.0; values.len()]), 0.0)
    }
}

impl fmt::Display for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keeps", self.subject)?;
        let width = self.properties().map(str::len).max().unwrap_or(0);
        self.held.iter().try_for_each(|(name, count)| write!(f, "\n  {name:width$}  {count:>8} values"))
    }
}
