//! Whether data fit a model, and what its layers are on sequences of another length than it was built for.

use ndarray::ArrayViewMut3;

use super::Model;
use crate::data::{Dataset, TargetShape};
use crate::nn::{Build, Features, Sizes};
use crate::params::Layout;
use crate::{Error, Real, Result, Shape};

impl<R: Real> Model<R> {
    /// The shape of the output for samples of `t` steps, which need not be as many as the model was built for.
    ///
    /// Recurrent layers, and all that work on each step by itself or pool over time, take sequences of any length.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer, if one does not take sequences of that length.
    ///
    /// # Examples
    /// ```
    /// use bptt::{Model, Shape, nn::{Linear, Lstm}};
    ///
    /// let builder = Model::builder(Shape::new(29, 12)).layer("lstm", Lstm::new(8)).layer("linear", Linear::new(2));
    /// let model: Model = builder.build(1)?;
    /// assert_eq!(model.output_shape_for(7)?, Shape::new(7, 2));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn output_shape_for(&self, t: usize) -> Result<Shape> {
        if t == self.input_shape().t {
            return Ok(self.output_shape());
        }
        let layers = self.sizes_for(t)?;
        Ok(layers.last().map_or(self.output_shape(), |(shape, _)| *shape))
    }

    /// The output and the buffers of each layer, for samples of `t` steps.
    pub(super) fn sizes_for(&self, t: usize) -> Result<Vec<(Shape, Sizes)>> {
        let input = Shape::new(t, self.input_shape().f);
        if input == self.input_shape() {
            return Ok(self.slots().iter().map(|slot| (slot.output.shape, slot.sizes)).collect());
        }
        input.check("steps")?;
        let (mut features, mut layout) = (Features::new(input), Layout::default());
        let mut layers = Vec::with_capacity(self.slots().len());
        for slot in self.slots() {
            let first = layout.tensors().len();
            let built = slot.layer.build(&mut Build::new(&features, &mut layout, &slot.name));
            let built = built.map_err(|e| e.within(&slot.name))?;
            built.output.shape.check("output").map_err(|e| e.within(&slot.name))?;
            let own = self.params.layout().tensors().iter().skip(first);
            let same = layout.tensors()[first..].iter().zip(own).all(|(new, own)| new.shape() == own.shape());
            let own = (layout.len(), built.sizes.packed, built.sizes.sums);
            if !same || own != (slot.params.end, slot.sizes.packed, slot.sizes.sums) {
                let fault = format!("found a layer whose weights depend on the number of steps, {t}");
                return Err(Error::config(&slot.name, fault));
            }
            layers.push((built.output.shape, built.sizes));
            features = built.output;
        }
        Ok(layers)
    }

    /// The shape of the output for samples of a shape, or what to say of the fault behind the input that was expected.
    fn fits(&self, samples: Shape) -> std::result::Result<Shape, String> {
        if samples.f != self.input_shape().f {
            return Err(String::new());
        }
        self.output_shape_for(samples.t).map_err(|fault| format!("; {fault}"))
    }

    /// Checks that samples have as many features as the model's input, and a number of steps that its layers take;
    /// returns the shape of the output.
    pub(super) fn check_samples(&self, data: &dyn Dataset<Elem = R>) -> Result<Shape> {
        self.fits(data.shape()).map_err(|fault| {
            let (found, expected) = (data.shape(), self.input_shape());
            let found = format!("[{}, {}, {}]", data.len(), found.t, found.f);
            Error::mismatch("samples", found, format!("[_, {}, {}]{fault}", expected.t, expected.f))
        })
    }

    /// Checks that a dataset has samples that fit the model, and that its targets do; returns the shape of the output.
    pub(crate) fn check_data(&self, what: &str, data: &dyn Dataset<Elem = R>) -> Result<Shape> {
        if data.is_empty() {
            return Err(Error::mismatch(what, "a dataset without samples", "at least one"));
        }
        let output = self.fits(data.shape()).map_err(|fault| {
            let expected = format!("the model's input {}{fault}", self.input_shape());
            Error::mismatch(what, format!("samples {}", data.shape()), expected)
        })?;
        match data.target_shape() {
            TargetShape::Classes { t } if t != output.t || data.class_names().len() > output.f => {
                let found = format!("{} classes at {t} steps", data.class_names().len());
                return Err(Error::mismatch(what, found, format!("at most what the output {output} has")));
            }
            TargetShape::Values(shape) => {
                self.target_normalization().map_or(Ok(()), |targets| targets.check(shape.f))?;
            }
            TargetShape::None => {}
            _ => self.check_not_values(what)?,
        }
        self.check_class_names(what, data.class_names())?;
        Ok(output)
    }

    /// As [`check_data`](Self::check_data), where samples must have as many steps as the model was built for.
    pub(crate) fn check_same_steps(&self, what: &str, data: &dyn Dataset<Elem = R>) -> Result<()> {
        self.check_data(what, data)?;
        if data.shape() != self.input_shape() {
            let found = format!("samples {}", data.shape());
            let expected = format!("the model's input {}", self.input_shape());
            return Err(Error::mismatch(what, found, expected));
        }
        Ok(())
    }

    /// Checks that the model has no scale of targets, which only values have.
    pub(super) fn check_not_values(&self, what: &str) -> Result<()> {
        match self.target_normalization() {
            None => Ok(()),
            Some(_) => Err(Error::mismatch(what, "classes", "values, since targets are standardised")),
        }
    }

    /// Checks that the classes of a dataset are the model's, in the same order, where both have names.
    fn check_class_names(&self, what: &str, names: &[String]) -> Result<()> {
        if self.classes.is_empty() || self.classes.starts_with(names) {
            return Ok(());
        }
        let expected = format!("the model's, {:?}", self.classes);
        Err(Error::mismatch(format!("{what}: class names"), format!("{names:?}"), expected))
    }

    /// Brings outputs `[n, T', F']` to the units of the targets.
    pub(super) fn undo_targets(&self, mut y: ArrayViewMut3<'_, R>) {
        let Some(targets) = self.target_normalization() else { return };
        y.indexed_iter_mut().for_each(|((_, _, f), y)| *y = targets.undo(*y, f));
    }

    /// Brings one output value to the units of the targets.
    pub(super) fn undo_target(&self, y: R, feature: usize) -> R {
        self.normalize_targets.as_ref().map_or(y, |targets| targets.undo(y, feature))
    }
}
