//! Models in files: tensors under PyTorch's names, and a description of the model in the metadata.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Model, ModelBuilder};
use crate::data::Normalize;
use crate::error::{BYTES, shorten};
use crate::nn::{Description, Layer, registry};
use crate::params::{IncompatibleKeys, StateDict, read_tensors, tensors_to_bytes};
use crate::prune::Mask;
use crate::{Error, Real, Result, Shape, atomic_write};

/// The only key of the metadata.
const KEY: &str = "bptt";
/// The version of the description's form.
const VERSION: u32 = 1;

/// All of a model but its values. Keys are in alphabetical order, here and in the settings of every layer, so that the
/// JSON does not depend on whether it is sorted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    classes: Vec<String>,
    input: Shape,
    layers: Vec<NamedLayer>,
    /// Where the model is pruned: for each tensor, the lengths of alternating runs of kept and pruned values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<BTreeMap<String, Vec<usize>>>,
    normalize: Normalize,
    // Absent where targets are not standardised, as in files from before they could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    normalize_targets: Option<Normalize>,
    version: u32,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct ModelVersion {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedLayer {
    layer: Description,
    name: String,
}

impl Header {
    fn read(path: &Path, json: &str) -> Result<Self> {
        let bad = |e: serde_json::Error| {
            let fault = format!("found a description that cannot be read: {}", shorten(&e.to_string()));
            Error::file(path, fault)
        };
        // Before anything else: a later version may have other fields.
        let ModelVersion { version } = serde_json::from_str(json).map_err(bad)?;
        if version != VERSION {
            return Err(Error::file(path, format!("found version {version}, expected {VERSION}")));
        }
        serde_json::from_str(json).map_err(bad)
    }
}

/// Makes the layers that it knows from their descriptions.
type Custom<'a, R> = &'a dyn Fn(&Description) -> Option<Box<dyn Layer<R>>>;

/// Makes a layer and those within it: by `custom`, or those that are built in.
fn make<R: Real>(description: Description, custom: Custom<'_, R>) -> Result<Box<dyn Layer<R>>> {
    let own = custom(&description);
    own.map_or_else(|| registry::layer(description, &|inner| make(inner, custom)), Ok)
}

impl<R: Real> Model<R> {
    /// Saves the model: tensors under PyTorch's names, and in the metadata all that [`load`](Model::load) needs.
    ///
    /// The same model gives the same bytes. The file is written by [`atomic_write`](crate::atomic_write).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        atomic_write(path, self.bytes(path)?)
    }

    /// The bytes that [`save`](Self::save) writes.
    ///
    /// # Errors
    /// [`Error::File`] as for `save`; it names `<bytes>` instead of a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.bytes(Path::new(BYTES))
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>> {
        if let Some(tensor) = self.params.first_not_finite() {
            let fault = format!(
                "found a value of `{tensor}` that is not finite, expected a model that can be loaded"
            );
            return Err(Error::file(path, fault));
        }
        let layers = self.slots().iter();
        let header = Header {
            classes: self.classes.clone(),
            input: self.input_shape(),
            layers: layers.map(|p| NamedLayer { layer: p.layer.describe(), name: p.name.clone() }).collect(),
            mask: self.mask().filter(|mask| mask.count() > 0).map(Mask::runs),
            normalize: self.normalize.clone(),
            normalize_targets: self.normalize_targets.clone(),
            version: VERSION,
        };
        let json = serde_json::to_string(&header).map_err(|e| Error::file(path, e.to_string()))?;
        tensors_to_bytes(path, &self.params, &StateDict::new(), Some((KEY, json)))
    }

    /// Loads a model that [`save`](Model::save) wrote; only the file is needed.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file and every fault in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, |_| None)
    }

    /// Loads a model with custom layers: `layer` makes those that it knows from their descriptions.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file and every fault in it.
    pub fn load_with(
        path: impl AsRef<Path>,
        layer: impl Fn(&Description) -> Option<Box<dyn Layer<R>>>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::read(path, &bytes, layer)
    }

    /// Loads a model from the bytes of a file that [`save`](Model::save) wrote, for example from `include_bytes!`.
    ///
    /// # Errors
    /// As for [`load`](Self::load); the error names `<bytes>` instead of a file.
    ///
    /// # Examples
    /// ```
    /// use bptt::{Model, Shape, nn::Linear};
    ///
    /// let model: Model = Model::builder(Shape::new(1, 3)).layer("linear", Linear::new(2)).build(1)?;
    /// let loaded: Model = Model::from_bytes(&model.to_bytes()?)?;
    /// assert_eq!(loaded.params().as_slice(), model.params().as_slice());
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_with(bytes, |_| None)
    }

    /// Loads a model with custom layers from bytes: `layer` makes those that it knows from their descriptions.
    ///
    /// # Errors
    /// As for [`load_with`](Self::load_with); the error names `<bytes>` instead of a file.
    pub fn from_bytes_with(
        bytes: &[u8],
        layer: impl Fn(&Description) -> Option<Box<dyn Layer<R>>>,
    ) -> Result<Self> {
        Self::read(Path::new(BYTES), bytes, layer)
    }

    fn read(
        path: &Path,
        bytes: &[u8],
        layer: impl Fn(&Description) -> Option<Box<dyn Layer<R>>>,
    ) -> Result<Self> {
        let file = read_tensors(path, bytes, KEY)?;
        let at = |e: Error| match e {
            named @ Error::File { .. } => named,
            other => Error::file(path, other.to_string()),
        };
        let header = Header::read(path, file.metadata()?)?;
        let mut builder = ModelBuilder::new(header.input).normalize(header.normalize).classes(header.classes);
        builder.normalize_targets = header.normalize_targets;
        for NamedLayer { name, layer: description } in header.layers {
            let layer = make(description, &layer).map_err(at)?;
            builder = builder.boxed(&name, layer);
        }
        // Memory is allocated only for what the file really holds.
        let mut model = builder.build_checked(|len| file.check_room(len)).map_err(at)?;
        let _none = file.load_into(&mut model.params, &StateDict::new(), false)?;
        model.pack();
        if let Some(runs) = &header.mask {
            let mask = Mask::from_runs(model.params.layout().clone(), runs);
            mask.and_then(|mask| model.restore_mask(mask)).map_err(|fault| Error::file(path, fault))?;
        }
        Ok(model)
    }

    /// Saves only the tensors, under the names that a PyTorch module has for them: `safetensors.torch.load_file` turns
    /// the file into a state dict for its `load_state_dict`. [`Model::load`] needs more; see [`Model::save`].
    ///
    /// # Errors
    /// [`Error::Config`] if the renames are invalid; [`Error::Io`] or [`Error::File`] naming the file.
    pub fn save_state_dict(&self, path: impl AsRef<Path>, names: &StateDict) -> Result<()> {
        let path = path.as_ref();
        atomic_write(path, tensors_to_bytes(path, &self.params, names, None)?)
    }

    /// Loads the tensors of a PyTorch module from a safetensors file into this model; [`StateDict`] gives their names in
    /// the file. f64, f32, f16 and bf16 are converted to the model's type; what is pruned stays 0.
    ///
    /// File and model must have the same tensors; to load some of them, see
    /// [`load_state_dict_lenient`](Self::load_state_dict_lenient).
    ///
    /// # Errors
    /// [`Error::Config`] if the renames are invalid; [`Error::Io`] or [`Error::File`] naming the file and the faults in
    /// it: tensors missing or unexpected (with renames that would fit, if there are any), of a wrong shape or type, or
    /// with values that are not finite or too large for the model's type. A model with NaN in its weights is useless; to
    /// inspect such a file, read it with the crate `safetensors`. After an error the model is unchanged.
    pub fn load_state_dict(&mut self, path: impl AsRef<Path>, names: &StateDict) -> Result<()> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let _none = self.read_state_dict(path, &bytes, names, false)?;
        Ok(())
    }

    /// Loads the tensors that file and model have in common, as PyTorch's `strict=False` does, and returns what is in only
    /// one of them. Tensors missing from the file keep their values, which in a new model are random.
    ///
    /// # Errors
    /// As for [`load_state_dict`](Self::load_state_dict), except for tensors missing or unexpected; but it is an error if
    /// the file has none of the model's tensors.
    pub fn load_state_dict_lenient(
        &mut self,
        path: impl AsRef<Path>,
        names: &StateDict,
    ) -> Result<IncompatibleKeys> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        self.read_state_dict(path, &bytes, names, true)
    }

    /// [`load_state_dict`](Self::load_state_dict) from the bytes of a file.
    ///
    /// # Errors
    /// As for `load_state_dict`; the error names `<bytes>` instead of a file.
    pub fn load_state_dict_bytes(&mut self, bytes: &[u8], names: &StateDict) -> Result<()> {
        let _none = self.read_state_dict(Path::new(BYTES), bytes, names, false)?;
        Ok(())
    }

    fn read_state_dict(
        &mut self,
        path: &Path,
        bytes: &[u8],
        names: &StateDict,
        lenient: bool,
    ) -> Result<IncompatibleKeys> {
        read_tensors(path, bytes, KEY)?.load_into(&mut self.params_mut(), names, lenient)
    }
}
