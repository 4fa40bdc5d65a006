//! A model: a named chain of layers, its parameters, and what it needs to know about its data.

mod builder;
mod compact;
mod compensate;
mod evaluate;
#[cfg(feature = "onnx")]
mod export;
mod fit;
mod init;
mod mask;
mod pass;
mod predictor;
mod sample_losses;
mod save;
mod session;
mod steps;
mod streams;
mod tiles;
mod waits;
mod workspace;

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, OnceLock};

pub use builder::ModelBuilder;
pub(crate) use compact::Compacted;
pub use evaluate::Evaluation;
pub(crate) use mask::same_mask;
pub use predictor::Predictor;
pub use session::Session;
pub use streams::Streams;
pub(crate) use tiles::SHARES;
pub(crate) use waits::Wait;
pub use workspace::Workspace;

use super::{Features, Layer, Plan, Sizes};
use crate::data::Normalize;
use crate::kernels::Aligned;
use crate::prune::Mask;
use crate::{Arena, Error, Real, Result, Shape, names};

/// A named chain of layers with its parameters.
///
/// A model knows the shape of its input, how to normalise it, and the names of its classes, so a saved model is complete.
/// Build one by [`Model::builder`], load one by [`Model::load`].
///
/// # Examples
/// ```
/// use bptt::prelude::*;
/// use bptt::ndarray::Array3;
///
/// let mut model: Model = Model::builder(Shape::new(28, 4))
///     .layer("lstm", Lstm::new(6).last())
///     .layer("linear", Linear::new(3))
///     .classes(["low", "middle", "high"])
///     .build(1)?;
/// assert_eq!(model.parameter_count(), 4 * 6 * (4 + 6 + 2) + 3 * (6 + 1));
/// model.params_mut().get_mut("linear.bias").unwrap().fill(0.0);
/// let y = model.predict_proba(&Array3::zeros((10, 28, 4)))?;
/// assert_eq!(y.dim(), (10, 1, 3));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model<R = f32> {
    layers: Arc<[LayerSlot<R>]>,
    params: Arena<R>,
    mask: Option<Arc<Mask>>,
    packed: Aligned<R>,
    /// What steps of streams through each layer need, which is known once the weights are: computed for the first stream.
    plans: OnceLock<Vec<Plan>>,
    normalize: Normalize,
    /// That of the targets, where they are standardised.
    normalize_targets: Option<Normalize>,
    classes: Vec<String>,
}

/// A layer in a model: its name, its input and output, and its ranges in the parameters.
#[derive(Debug)]
pub(crate) struct LayerSlot<R> {
    pub(crate) name: String,
    pub(crate) layer: Box<dyn Layer<R>>,
    pub(crate) input: Shape,
    pub(crate) output: Features,
    pub(crate) sizes: Sizes,
    /// Its sums over a batch for which the forward pass waits, one range for each point at which it does.
    pub(crate) waits: Vec<Range<usize>>,
    pub(crate) params: Range<usize>,
    pub(crate) packed: Range<usize>,
}

impl<R: Real> Model<R> {
    /// Begins a model for samples of this shape.
    pub fn builder(input: Shape) -> ModelBuilder<R> {
        ModelBuilder::new(input)
    }

    /// The shape of a sample.
    pub fn input_shape(&self) -> Shape {
        self.layers[0].input
    }

    /// The shape of a sample's output.
    pub fn output_shape(&self) -> Shape {
        self.layers[self.layers.len() - 1].output.shape
    }

    /// The parameters.
    pub fn params(&self) -> &Arena<R> {
        &self.params
    }

    /// The parameters, mutable. When the guard is dropped, pruned parameters become 0 again, and the kernels' packed copy
    /// is renewed.
    pub fn params_mut(&mut self) -> ParamsMut<'_, R> {
        ParamsMut { model: self }
    }

    /// The number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.params.as_slice().len()
    }

    /// The normalisation of samples before the first layer.
    pub fn normalization(&self) -> &Normalize {
        &self.normalize
    }

    /// The normalisation of targets, which predictions undo; `None` if they are used as they are.
    pub fn target_normalization(&self) -> Option<&Normalize> {
        self.normalize_targets.as_ref()
    }

    /// The names of the classes; empty if they have none.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Names the classes, in their order, or takes their names away if there are none: as of a loaded model.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if there is not one name for each output,
    /// [`Error::Config`](crate::Error::Config) if two are equal, or one has control characters or more than 256 characters;
    /// the model keeps its names then.
    ///
    /// # Examples
    /// ```
    /// use bptt::{Model, Shape, nn::Linear};
    ///
    /// let builder = Model::builder(Shape::new(1, 3)).layer("linear", Linear::new(2)).classes(["0", "1"]);
    /// let mut model: Model = builder.build(1)?;
    /// model.set_classes(["cat", "dog"])?;
    /// assert_eq!(model.classes(), ["cat", "dog"]);
    /// assert!(model.set_classes(["cat", "cat"]).is_err());
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn set_classes<S: Into<String>>(&mut self, names: impl IntoIterator<Item = S>) -> Result<()> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        check_classes(&names, self.output_shape())?;
        check_units(&names, self.normalize_targets.as_ref())?;
        self.classes = names;
        Ok(())
    }

    pub(crate) fn slots(&self) -> &[LayerSlot<R>] {
        &self.layers
    }

    /// The number of layers.
    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    fn pack(&mut self) {
        self.plans.take();
        for slot in self.layers.iter() {
            let params = &self.params.as_slice()[slot.params.clone()];
            slot.layer.pack(slot.input, params, &mut self.packed[slot.packed.clone()]);
        }
    }
}

/// Checks that there are no class names or one for each output, that no two are equal, and that they fit into a table.
fn check_classes(classes: &[String], output: Shape) -> Result<()> {
    if !classes.is_empty() && classes.len() != output.f {
        let found = format!("{} names", classes.len());
        return Err(Error::mismatch("classes", found, format!("one for each of {} outputs", output.f)));
    }
    names::check_classes(classes)
}

/// Checks that a model of classes has no scale of targets.
fn check_units(classes: &[String], targets: Option<&Normalize>) -> Result<()> {
    if targets.is_none() || classes.is_empty() {
        return Ok(());
    }
    Err(Error::mismatch("normalize_targets", "names of classes", "a model whose targets are values"))
}

/// A model's parameters, open for change.
#[derive(Debug)]
pub struct ParamsMut<'a, R: Real> {
    model: &'a mut Model<R>,
}

impl<R: Real> Deref for ParamsMut<'_, R> {
    type Target = Arena<R>;

    fn deref(&self) -> &Arena<R> {
        &self.model.params
    }
}

impl<R: Real> DerefMut for ParamsMut<'_, R> {
    fn deref_mut(&mut self) -> &mut Arena<R> {
        &mut self.model.params
    }
}

impl<R: Real> Drop for ParamsMut<'_, R> {
    fn drop(&mut self) {
        if let Some(mask) = &self.model.mask {
            mask.apply(self.model.params.as_mut_slice());
        }
        self.model.pack();
    }
}

/// A summary: one line for each layer, with its kind, output shape and parameters.
impl<R: Real> fmt::Display for Model<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["layer", "kind", "output [T, F]", "parameters"].map(String::from)];
        rows.push(["input".into(), String::new(), self.input_shape().to_string(), String::new()]);
        for slot in self.layers.iter() {
            let kind = slot.layer.describe().kind;
            rows.push([
                slot.name.clone(),
                kind,
                slot.output.shape.to_string(),
                slot.params.len().to_string(),
            ]);
        }
        rows.push(["total".into(), String::new(), String::new(), self.parameter_count().to_string()]);
        let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().map_or(0, names::column);
        let widths = [width(0), width(1), width(2), width(3)];
        for (n, row) in rows.iter().enumerate() {
            let [a, b, c, d] = widths;
            let end = if n + 1 == rows.len() { "" } else { "\n" };
            write!(f, "{:a$}  {:b$}  {:c$}  {:>d$}{end}", row[0], row[1], row[2], row[3])?;
        }
        Ok(())
    }
}
