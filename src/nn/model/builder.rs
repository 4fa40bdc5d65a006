//! Building a model.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use super::workspace::workspace_bytes;
use super::{LayerSlot, Model, check_classes, check_units};
use crate::data::Normalize;
use crate::kernels::Aligned;
use crate::nn::{Build, Built, Features, Layer, Mode};
use crate::params::Layout;
use crate::{Arena, Error, Init, Real, Result, Shape, memory, names};

/// Collects the layers of a model. Nothing is checked before [`build`](ModelBuilder::build).
#[derive(Debug)]
pub struct ModelBuilder<R> {
    input: Shape,
    pub(super) layers: Vec<(String, Box<dyn Layer<R>>)>,
    normalize: Normalize,
    pub(super) normalize_targets: Option<Normalize>,
    classes: Vec<String>,
    inits: Vec<(String, Init)>,
}

impl<R: Real> ModelBuilder<R> {
    pub(super) fn new(input: Shape) -> Self {
        Self {
            input,
            layers: Vec::new(),
            normalize: Normalize::identity(),
            normalize_targets: None,
            classes: Vec::new(),
            inits: Vec::new(),
        }
    }

    /// Appends a layer. Its tensors are named `name.…`, like those of a PyTorch module with this name.
    pub fn layer(self, name: &str, layer: impl Layer<R> + 'static) -> Self {
        self.boxed(name, Box::new(layer))
    }

    /// Appends a boxed layer.
    pub fn boxed(mut self, name: &str, layer: Box<dyn Layer<R>>) -> Self {
        self.layers.push((name.to_owned(), layer));
        self
    }

    /// Sets how samples are normalised before the first layer; by default they are not.
    pub fn normalize(mut self, normalize: Normalize) -> Self {
        self.normalize = normalize;
        self
    }

    /// Standardises targets that are values: the model learns (y − mean) / sd, and whatever predicts with it, streams too,
    /// returns sd · output + mean, in the units of the data. Mean and sd are saved with the model.
    ///
    /// [`DatasetExt::target_mean_sd`](crate::data::DatasetExt::target_mean_sd) and
    /// [`target_mean_sd_per_feature`](crate::data::DatasetExt::target_mean_sd_per_feature) measure them. Losses, in training and
    /// in evaluation, are those of standardised targets; for errors in the units of the data, use the
    /// [`metrics`](crate::metrics) on what [`Model::predict`] returns. A [`Workspace`](crate::nn::Workspace) has outputs on the
    /// standardised scale.
    ///
    /// # Examples
    /// ```
    /// use bptt::ndarray::{Array2, Array3};
    /// use bptt::prelude::*;
    ///
    /// // Prices of the order of 10,000.
    /// let x = Array3::from_shape_fn((64, 5, 1), |(i, t, _)| ((i + t) as f32 / 5.0).sin());
    /// let y = Array2::from_shape_fn((64, 1), |(i, _)| 10_000.0 + 500.0 * ((i + 5) as f32 / 5.0).sin());
    /// let data = Arrays::vectors(x.clone(), y)?;
    /// let mut model = Model::builder(data.shape())
    ///     .normalize_targets(data.target_mean_sd()?)
    ///     .layer("lstm", Lstm::new(8).last())
    ///     .layer("linear", Linear::new(1))
    ///     .build(1)?;
    /// Trainer::new(Mse, Adam::new(0.02)).epochs(5).batch_size(16).fit(&mut model, &data, None)?;
    /// let loaded: Model = Model::from_bytes(&model.to_bytes()?)?;
    /// assert!(loaded.predict(&x)?.iter().all(|price| (9_000.0..11_000.0).contains(price)));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    #[doc(alias = "TransformedTargetRegressor")]
    pub fn normalize_targets(mut self, normalize: Normalize) -> Self {
        self.normalize_targets = Some(normalize);
        self
    }

    /// Names the classes, in the order of their indices; those of a dataset by `.classes(data.class_names())`.
    pub fn classes<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.classes = names.into_iter().map(Into::into).collect();
        self
    }

    /// Initialises the tensors whose names match `pattern`, in which `*` matches any run of characters, by `init` rather
    /// than by the rules of their layers. Of several that match, the last one applies. See [`Init`].
    pub fn init(mut self, pattern: &str, init: Init) -> Self {
        self.inits.push((pattern.to_owned(), init));
        self
    }

    /// Builds the model and initialises its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer and the setting, or a rule of [`init`](Self::init) that matches nothing or
    /// does not fit; [`Error::Mismatch`] if a normalisation or the class names do not fit.
    pub fn build(mut self, seed: u64) -> Result<Model<R>> {
        let inits = std::mem::take(&mut self.inits);
        let mut model = self.build_checked(|_| Ok(()))?;
        model.params = Arena::initialised(model.params.layout().clone(), seed);
        model.pack();
        inits.iter().try_for_each(|(pattern, init)| model.init(pattern, *init, seed))?;
        Ok(model)
    }

    /// Builds the model with all parameters 0 and nothing packed; `room` is called with their number before memory is
    /// allocated.
    pub(super) fn build_checked(self, room: impl FnOnce(usize) -> Result<()>) -> Result<Model<R>> {
        if self.layers.is_empty() {
            return Err(Error::config("layers", "found none, expected at least one"));
        }
        self.input.check("input")?;
        self.normalize.check(self.input.f)?;
        let mut names = HashSet::new();
        let (mut layout, mut packed, mut features) = (Layout::default(), 0, Features::new(self.input));
        let mut layers: Vec<LayerSlot<R>> = Vec::with_capacity(self.layers.len());
        for (name, layer) in self.layers {
            names::check("layer name", &name)?;
            if name.is_empty() || !names.insert(name.clone()) {
                let fault = format!("found `{name}`, expected a name that no other layer has");
                return Err(Error::config("layer name", fault));
            }
            let start = layout.len();
            let mut build = Build::new(&features, &mut layout, &name);
            let Built { output, sizes, waits } = layer.build(&mut build).map_err(|e| e.within(&name))?;
            output.shape.check("output").map_err(|e| e.within(&name))?;
            let params = start..layout.len();
            let own = packed..sizes.packed.saturating_add(packed);
            packed = own.end;
            let input = features.shape;
            features = output.clone();
            let waits = super::waits::ranges(&waits);
            layers.push(LayerSlot { name, layer, input, output, sizes, waits, params, packed: own });
        }
        layout.fix(&features.units);
        let shape = features.shape;
        check_classes(&self.classes, shape)?;
        check_units(&self.classes, self.normalize_targets.as_ref())?;
        self.normalize_targets.iter().try_for_each(|targets| targets.check(shape.f))?;
        room(layout.len())?;
        let buffers = layers.iter().map(|slot| (slot.output.shape, slot.sizes));
        if workspace_bytes::<R>(self.input, buffers, 1, Mode::Train).is_none() {
            return Err(Error::config(
                "memory",
                "found a model whose buffers have more bytes than can be addressed",
            ));
        }
        memory::check("parameters", memory::bytes::<R>(&[layout.len()]))?;
        memory::check("weights, laid out for the kernels,", memory::bytes::<R>(&[packed]))?;
        let packed = Aligned::zeros(packed);
        Ok(Model {
            layers: layers.into(),
            params: Arena::zeros(Arc::new(layout)),
            mask: None,
            packed,
            plans: OnceLock::new(),
            normalize: self.normalize,
            normalize_targets: self.normalize_targets.filter(|targets| !targets.is_identity()),
            classes: self.classes,
        })
    }
}
