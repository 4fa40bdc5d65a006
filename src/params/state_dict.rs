//! Tensors in and out of safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Arena, Error, Real, Result, files};

/// How a PyTorch state dict in a safetensors file is read and written: what its modules are called there, and how
/// strictly its keys are taken.
///
/// Without a [`rename`](StateDict::rename), keys are the names of the model's tensors. Where several renames fit a key,
/// that of the longest name counts, in whatever order they were given; keys that none fits stay as they are.
///
/// # Source
/// PyTorch's `Module.load_state_dict`; files as `safetensors.torch.save_file` writes them.
/// # Examples
/// ```
/// use bptt::params::StateDict;
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
///
/// let build = |seed| -> bptt::Result<Model> {
///     let model = Model::builder(Shape::new(7, 3)).layer("lstm", Lstm::new(5).last());
///     model.layer("linear", Linear::new(2)).build(seed)
/// };
/// let file = std::env::temp_dir().join(format!("bptt-state-dict-{}.safetensors", std::process::id()));
///
/// // The PyTorch module calls its parts `module.encoder` and `module.fc`.
/// let names = StateDict::new().rename("module.encoder", "lstm").rename("module.fc", "linear");
/// build(1)?.save_state_dict(&file, &names)?; // for `module.load_state_dict(load_file(…))`
/// let mut model = build(2)?;
/// model.load_state_dict(&file, &names)?;
/// assert_eq!(model.params().as_slice(), build(1)?.params().as_slice());
///
/// // The LSTM alone; what else there is in file and model is told, and left as it is.
/// let lstm = StateDict::new().rename("module.encoder", "lstm").lenient();
/// let keys = model.load_state_dict(&file, &lstm)?;
/// assert_eq!(keys.missing, ["linear.weight", "linear.bias"]);
/// assert_eq!(keys.unexpected, ["module.fc.bias", "module.fc.weight"]);
///
/// // A file for, or of, an `nn.LSTM` on its own, whose keys have no prefix.
/// let alone = StateDict::new().rename("", "lstm").only_renamed();
/// model.save_state_dict(&file, &alone)?;
/// model.load_state_dict(&file, &alone)?;
/// # std::fs::remove_file(&file).unwrap();
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateDict {
    lenient: bool,
    only_renamed: bool,
    /// What a module is called in the file, and in the model.
    renames: Vec<[String; 2]>,
}

/// What a state dict and a model have not in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncompatibleKeys {
    /// Tensors that the model has and the file has not, by their names in the model and in its order.
    pub missing: Vec<String>,
    /// Tensors that the file has and the model has not, by their keys in the file, sorted.
    pub unexpected: Vec<String>,
}

impl StateDict {
    /// Keys as the model names its tensors, strictly.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the module (or single tensor) `theirs` of the file is `ours` in the model.
    ///
    /// Whole names between dots are meant: `rename("fc", "linear")` takes `fc.weight` for `linear.weight`, and leaves
    /// `fc2.weight` alone. An empty name stands for no prefix: `rename("", "lstm")` is for the state dict of an
    /// `nn.LSTM` on its own, and `rename("module", "")` for that of a model within `nn.DataParallel`.
    pub fn rename(mut self, theirs: impl Into<String>, ours: impl Into<String>) -> Self {
        self.renames.push([theirs.into(), ours.into()]);
        self
    }

    /// Leaves out, on either way, what no rename fits: a part of the model for a part of the file.
    pub fn only_renamed(mut self) -> Self {
        self.only_renamed = true;
        self
    }

    /// Loads what fits and leaves the rest, as `strict=False` does. What is there under a right name must still have
    /// the right shape and be f32 or f64.
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Checks the names as far as they can be without a file.
    fn check(&self) -> Result<()> {
        for (i, pair) in self.renames.iter().enumerate() {
            if let Some(name) = pair.iter().find(|name| name.starts_with('.') || name.ends_with('.')) {
                let fault = format!("found `{name}`, expected a name without a dot at its ends");
                return Err(Error::config("rename", fault));
            }
            for (side, name) in pair.iter().enumerate() {
                if self.renames[..i].iter().any(|before| before[side] == *name) {
                    return Err(Error::config("rename", format!("found `{name}` twice, expected it once")));
                }
            }
        }
        Ok(())
    }

    /// The name here of the file's `key`; nothing if it is left out.
    fn ours(&self, key: &str) -> Option<String> {
        self.renamed(key, |[theirs, ours]| (theirs, ours))
    }

    /// The key in the file of the tensor `name`; nothing if it is left out.
    fn theirs(&self, name: &str) -> Option<String> {
        self.renamed(name, |[theirs, ours]| (ours, theirs))
    }

    fn renamed<'a>(
        &'a self,
        name: &str,
        direction: impl Fn(&'a [String; 2]) -> (&'a String, &'a String),
    ) -> Option<String> {
        let fitting = self.renames.iter().map(direction).filter_map(|(from, to)| {
            let rest = if from.is_empty() { Some(name) } else { after(name, from) };
            Some((from.len(), to, rest?))
        });
        match fitting.max_by_key(|&(len, ..)| len) {
            None => (!self.only_renamed).then(|| name.to_owned()),
            Some((_, to, rest)) if to.is_empty() || rest.is_empty() => Some(format!("{to}{rest}")),
            Some((_, to, rest)) => Some(format!("{to}.{rest}")),
        }
    }
}

/// What follows `module` and a dot in `name`; nothing if that is all of it.
fn after<'a>(name: &'a str, module: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(module)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

/// Writes an arena's tensors under the names that `names` gives them, and `metadata`, a key and its text.
///
/// One key, because safetensors keeps metadata in a hash map, whose order would not be the same twice.
///
/// # Errors
/// [`Error::Config`] if the renames cannot be, [`Error::Io`], or [`Error::File`] if two tensors come to have one name
/// or the format refuses.
pub(crate) fn write_tensors<R: Real>(
    path: &Path,
    arena: &Arena<R>,
    names: &StateDict,
    metadata: Option<(&str, String)>,
) -> Result<()> {
    names.check()?;
    let mut bytes = Vec::with_capacity(size_of_val(arena.as_slice()));
    arena.as_slice().iter().for_each(|x| x.push_le(&mut bytes));
    let mut views = BTreeMap::new();
    for tensor in arena.layout().tensors() {
        let Some(key) = names.theirs(&tensor.name) else { continue };
        let range = tensor.range();
        let data = &bytes[range.start * size_of::<R>()..range.end * size_of::<R>()];
        let view = TensorView::new(R::DTYPE, tensor.shape(), data)
            .map_err(|e| Error::file(path, format!("{}: {e}", tensor.name)))?;
        if views.contains_key(&key) {
            return Err(Error::file(path, format!("found two tensors to be named `{key}`, expected one")));
        }
        views.insert(key, view);
    }
    let metadata = metadata.map(|(key, text)| [(key.to_owned(), text)].into_iter().collect());
    let bytes = safetensors::serialize(views, metadata).map_err(|e| Error::file(path, e.to_string()))?;
    files::write(path, &bytes)
}

/// A safetensors file, checked.
pub(crate) struct TensorFile<'a> {
    pub(super) path: &'a Path,
    pub(super) tensors: SafeTensors<'a>,
    pub(super) metadata: Option<String>,
}

/// Looks at `bytes`, the content of `path`, as a safetensors file; `key` names the metadata wanted.
///
/// # Errors
/// [`Error::File`] if it is none.
pub(crate) fn read_tensors<'a>(path: &'a Path, bytes: &'a [u8], key: &str) -> Result<TensorFile<'a>> {
    let bad = |e| Error::file(path, format!("found {} bytes that are no safetensors file: {e}", bytes.len()));
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(bad)?;
    let metadata = metadata.metadata().as_ref().and_then(|map| map.get(key)).cloned();
    // Of two tensors of one name the format's own reader takes the last, and says nothing.
    if let Err(twice) = serde_json::from_slice::<Once>(&bytes[LENGTH..LENGTH + header]) {
        return Err(Error::file(path, format!("found a header that cannot be read: {twice}")));
    }
    Ok(TensorFile { path, tensors: SafeTensors::deserialize(bytes).map_err(bad)?, metadata })
}

/// Bytes before the header: its length.
const LENGTH: usize = 8;

/// A header, and the metadata in it, in which no name stands twice.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(header: D) -> Result<Self, D::Error> {
        header.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<Self>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            if names.contains(&name) {
                return Err(A::Error::custom(format!("`{name}` stands there twice")));
            }
            names.insert(name);
        }
        Ok(Self)
    }
}

impl TensorFile<'_> {
    /// What stands under the key.
    ///
    /// # Errors
    /// [`Error::File`] if nothing does.
    pub(crate) fn metadata(&self) -> Result<&str> {
        let missing =
            || Error::file(self.path, "found no description of a model in the metadata, expected one");
        self.metadata.as_deref().ok_or_else(missing)
    }

    /// Checks that the file can hold `len` values.
    ///
    /// # Errors
    /// [`Error::File`] if it is too short for them.
    pub(crate) fn check_room(&self, len: usize) -> Result<()> {
        let found: usize = self.tensors.iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        if len > found {
            return Err(Error::file(
                self.path,
                format!("found {found} values, expected {len} by the description"),
            ));
        }
        Ok(())
    }

    /// Copies every tensor of the arena's layout out of the file, which calls them as `names` says. None may be of
    /// another shape or of another type, and unless `names` is lenient none missing or unexpected. f32 and f64
    /// convert into one another. After an error the arena is as it was.
    ///
    /// # Errors
    /// [`Error::Config`] if the renames cannot be; [`Error::File`] that names every fault at once.
    pub(crate) fn load_into<R: Real>(
        &self,
        arena: &mut Arena<R>,
        names: &StateDict,
    ) -> Result<IncompatibleKeys> {
        names.check()?;
        let layout = arena.layout().clone();
        let (mut faults, mut keys) = (Vec::new(), IncompatibleKeys::default());
        let mut theirs = self.tensors.names();
        theirs.sort_unstable();
        let mut found = BTreeMap::new();
        for key in theirs {
            let Some(ours) = names.ours(key) else { continue };
            if layout.get(&ours).is_none() {
                keys.unexpected.push(key.to_owned());
            } else if let Some(other) = found.insert(ours.clone(), key) {
                faults.push(format!("tensors `{other}` and `{key}`: found both for `{ours}`, expected one"));
            }
        }
        let mut fitting = Vec::new();
        for tensor in layout.tensors() {
            let Some(theirs) = names.theirs(&tensor.name) else { continue };
            let key = found.get(&tensor.name).map_or(theirs, |&key| key.to_owned());
            let label = if key == tensor.name {
                format!("`{key}`")
            } else {
                format!("`{key}` (here `{}`)", tensor.name)
            };
            let Some(view) = found.get(&tensor.name).and_then(|key| self.tensors.tensor(key).ok()) else {
                if !names.lenient {
                    faults.push(format!("missing tensor {label} {:?}", tensor.shape()));
                }
                keys.missing.push(tensor.name.clone());
                continue;
            };
            if view.shape() != tensor.shape() {
                let (found, expected) = (view.shape(), tensor.shape());
                faults.push(format!("tensor {label}: found shape {found:?}, expected {expected:?}"));
            } else if !matches!(view.dtype(), Dtype::F32 | Dtype::F64) {
                let found = view.dtype();
                faults.push(format!("tensor {label}: found type {found:?}, expected F32 or F64"));
            } else {
                fitting.push((tensor, view));
            }
        }
        if !names.lenient {
            faults.extend(keys.unexpected.iter().map(|key| format!("unexpected tensor `{key}`")));
        }
        if !faults.is_empty() {
            return Err(Error::file(self.path, faults.join("; ")));
        }
        for (tensor, view) in fitting {
            let place = arena.as_mut_slice()[tensor.range()].iter_mut();
            if view.dtype() == Dtype::F32 {
                place.zip(f32::read_le(view.data())).for_each(|(x, v)| *x = R::from_f64(v.to_f64()));
            } else {
                place.zip(f64::read_le(view.data())).for_each(|(x, v)| *x = R::from_f64(v));
            }
        }
        Ok(keys)
    }
}
