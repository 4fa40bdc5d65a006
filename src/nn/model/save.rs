//! Models in files: `model.safetensors` with PyTorch's tensor names, and the description in its metadata.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Model, ModelBuilder};
use crate::data::Normalize;
use crate::nn::{Description, Layer, registry};
use crate::params::{IncompatibleKeys, StateDict, read_tensors, write_tensors};
use crate::prune::Mask;
use crate::{Error, Real, Result, Shape};

/// The metadata's one key.
const KEY: &str = "bptt";
/// The version of the description's form.
const VERSION: u32 = 1;

/// Everything of a model but its values. Keys in alphabetical order, here and in every layer's settings, so that the
/// JSON is the same however it is sorted.
#[derive(Serialize, Deserialize)]
struct Header {
    classes: Vec<String>,
    input: Shape,
    layers: Vec<Named>,
    /// Where the model is pruned: for each tensor the lengths of the runs of values kept and pruned, in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<BTreeMap<String, Vec<usize>>>,
    normalize: Normalize,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Named {
    layer: Description,
    name: String,
}

impl<R: Real> Model<R> {
    /// Saves the model: tensors under PyTorch's names, and in the metadata all that [`load`](Model::load) needs.
    ///
    /// The same model gives the same bytes. The file is written beside its place and renamed.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let layers = self.places().iter();
        let header = Header {
            classes: self.classes.clone(),
            input: self.input_shape(),
            layers: layers.map(|p| Named { layer: p.layer.describe(), name: p.name.clone() }).collect(),
            mask: self.mask().filter(|mask| mask.count() > 0).map(Mask::runs),
            normalize: self.normalize.clone(),
            version: VERSION,
        };
        let json = serde_json::to_string(&header).map_err(|e| Error::file(path, e.to_string()))?;
        write_tensors(path, &self.params, &StateDict::new(), Some((KEY, json)))
    }

    /// Loads a model that [`save`](Model::save) wrote; nothing but the file is needed.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file and every fault in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, |_| None)
    }

    /// Loads a model with layers of one's own: `layer` builds those that it knows from their descriptions.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file and every fault in it.
    pub fn load_with(
        path: impl AsRef<Path>,
        layer: impl Fn(&Description) -> Option<Box<dyn Layer<R>>>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let file = read_tensors(path, &bytes, KEY)?;
        let at = |e: Error| match e {
            named @ Error::File { .. } => named,
            other => Error::file(path, other.to_string()),
        };
        let bad =
            |e: serde_json::Error| Error::file(path, format!("found a description that cannot be read: {e}"));
        let header: Header = serde_json::from_str(file.metadata()?).map_err(bad)?;
        if header.version != VERSION {
            return Err(Error::file(path, format!("found version {}, expected {VERSION}", header.version)));
        }
        let (mean, sd) = (header.normalize.mean().to_vec(), header.normalize.sd().to_vec());
        let normalize = Normalize::per_feature(mean, sd).map_err(at)?;
        let mut builder = ModelBuilder::new(header.input).normalize(normalize).classes(header.classes);
        for Named { name, layer: description } in header.layers {
            let own = layer(&description);
            let layer = own.map_or_else(|| registry::layer(description), Ok).map_err(at)?;
            builder = builder.boxed(&name, layer);
        }
        // What the description promises must be in the file before room is made for it.
        let mut model = builder.build_checked(|len| file.check_room(len)).map_err(at)?;
        file.load_into(&mut model.params, &StateDict::new())?;
        model.pack();
        if let Some(runs) = &header.mask {
            let mask = Mask::from_runs(model.params.layout().clone(), runs);
            mask.and_then(|mask| model.restore_mask(mask)).map_err(|fault| Error::file(path, fault))?;
        }
        Ok(model)
    }

    /// Saves the tensors alone, under the names that a PyTorch module has for them: what `safetensors.torch.load_file`
    /// makes of the file is a state dict for its `load_state_dict`. [`Model::load`] needs more; see [`Model::save`].
    ///
    /// # Errors
    /// [`Error::Config`] if the renames cannot be; [`Error::Io`] or [`Error::File`] naming the file.
    pub fn save_state_dict(&self, path: impl AsRef<Path>, names: &StateDict) -> Result<()> {
        write_tensors(path.as_ref(), &self.params, names, None)
    }

    /// Loads the tensors of a PyTorch module from a safetensors file into this model; [`StateDict`] says what they are
    /// called there. f32 and f64 convert into one another; what is pruned stays 0.
    ///
    /// Hands out what file and model have not in common, which is nothing unless `names` is
    /// [lenient](StateDict::lenient); what is missing keeps the values that it has.
    ///
    /// # Errors
    /// [`Error::Config`] if the renames cannot be; [`Error::Io`] or [`Error::File`] naming the file and every fault in
    /// it: tensors missing, unexpected, of a wrong shape or type. The model is as it was then.
    pub fn load_state_dict(&mut self, path: impl AsRef<Path>, names: &StateDict) -> Result<IncompatibleKeys> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        read_tensors(path, &bytes, KEY)?.load_into(&mut self.params_mut(), names)
    }
}
