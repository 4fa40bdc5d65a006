//! Names of a model's tensors in PyTorch's state dicts.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Arena, Error, Real, Result};

/// The names of the modules of a PyTorch state dict, in its safetensors file and in the model.
///
/// Without a [`rename`](StateDict::rename), keys are the names of the model's tensors. Where several renames match a key,
/// the one with the longest name applies, regardless of their order; keys that none matches stay as they are.
///
/// [`Model::load_state_dict`](crate::Model::load_state_dict) loads strictly: file and model must have the same tensors.
/// [`Model::load_state_dict_lenient`](crate::Model::load_state_dict_lenient) is PyTorch's `strict=False`.
///
/// # Source
/// PyTorch's `Module.load_state_dict`; the files are those of `safetensors.torch.save_file`.
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
/// // The LSTM alone; everything else in file and model is reported and left unchanged.
/// let lstm = StateDict::new().rename("module.encoder", "lstm");
/// let keys = model.load_state_dict_lenient(&file, &lstm)?;
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
    /// Not used: which method loads decides it. It is in the JSON of earlier versions.
    #[serde(default, rename = "lenient", skip_serializing, deserialize_with = "ignored")]
    _lenient: (),
    only_renamed: bool,
    /// What a module is called in the file, and in the model.
    renames: Vec<[String; 2]>,
}

/// What is in only one of a state dict and a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "tensors that were missing from the file keep their values, random ones in a new model"]
pub struct IncompatibleKeys {
    /// Tensors of the model that are not in the file, by their names in the model and in its order: they keep the
    /// values that they had, random ones in a new model.
    pub missing: Vec<String>,
    /// Tensors of the file that are not in the model, by their keys in the file, sorted.
    pub unexpected: Vec<String>,
}

impl StateDict {
    /// Keys as the model names its tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the module (or single tensor) `theirs` in the file is `ours` in the model.
    ///
    /// Only whole names between dots match: `rename("fc", "linear")` makes `fc.weight` `linear.weight`, and does not
    /// affect `fc2.weight`. An empty name means no prefix: `rename("", "lstm")` is for the state dict of an `nn.LSTM`
    /// alone, and `rename("module", "")` for that of a model within `nn.DataParallel`.
    ///
    /// Tied weights are one tensor in the file and two in the model: give both renames, as in
    /// `rename("wte.weight", "embedding.weight").rename("wte.weight", "linear.weight")`. They are written as one if
    /// their values are equal.
    pub fn rename(mut self, theirs: impl Into<String>, ours: impl Into<String>) -> Self {
        self.renames.push([theirs.into(), ours.into()]);
        self
    }

    /// Leaves out, in loading and saving, what no rename matches, so that a part of the model is loaded from a part of
    /// the file.
    pub fn only_renamed(mut self) -> Self {
        self.only_renamed = true;
        self
    }

    /// Checks the names as far as possible without a file.
    pub(super) fn check(&self) -> Result<()> {
        for (i, pair) in self.renames.iter().enumerate() {
            if let Some(name) = pair.iter().find(|name| name.starts_with('.') || name.ends_with('.')) {
                let fault = format!("found `{name}`, expected a name without a dot at its ends");
                return Err(Error::config("rename", fault));
            }
            let [_, ours] = pair;
            if self.renames[..i].iter().any(|[_, before]| before == ours) {
                return Err(Error::config("rename", format!("found `{ours}` twice, expected it once")));
            }
        }
        Ok(())
    }

    /// The names in the model for `key` in the file: none if it is left out, several for tied weights.
    pub(super) fn ours(&self, key: &str) -> Vec<String> {
        self.renamed(key, |[theirs, ours]| (theirs, ours))
    }

    /// The key in the file of the tensor `name`; `None` if it is left out.
    pub(super) fn theirs(&self, name: &str) -> Option<String> {
        self.renamed(name, |[theirs, ours]| (ours, theirs)).pop()
    }

    fn renamed<'a>(
        &'a self,
        name: &str,
        direction: impl Fn(&'a [String; 2]) -> (&'a String, &'a String),
    ) -> Vec<String> {
        let fitting = || {
            self.renames.iter().map(&direction).filter_map(|(from, to)| {
                let rest = if from.is_empty() { Some(name) } else { after(name, from) };
                Some((from.len(), to, rest?))
            })
        };
        let Some(longest) = fitting().map(|(len, ..)| len).max() else {
            return if self.only_renamed { Vec::new() } else { vec![name.to_owned()] };
        };
        let longest = fitting().filter(|&(len, ..)| len == longest);
        let joined = longest.map(|(_, to, rest)| {
            if to.is_empty() || rest.is_empty() { format!("{to}{rest}") } else { format!("{to}.{rest}") }
        });
        joined.collect()
    }
}

fn ignored<'de, D: Deserializer<'de>>(json: D) -> Result<(), D::Error> {
    bool::deserialize(json).map(drop)
}

/// What follows `module` and a dot in `name`; empty if `name` is `module`.
fn after<'a>(name: &'a str, module: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(module)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

/// The bytes of a safetensors file with an arena's tensors, under the names that `names` gives them, and `metadata`, a
/// key and its text. `path` is for errors.
///
/// There is only one key, because safetensors keeps metadata in a hash map, whose order is not reproducible.
///
/// # Errors
/// [`Error::Config`] if the renames are invalid; [`Error::File`] if two tensors that differ would have the same name, or
/// the format cannot hold them.
pub(crate) fn tensors_to_bytes<R: Real>(
    path: &Path,
    arena: &Arena<R>,
    names: &StateDict,
    metadata: Option<(&str, String)>,
) -> Result<Vec<u8>> {
    names.check()?;
    let mut bytes = Vec::with_capacity(size_of_val(arena.as_slice()));
    arena.as_slice().iter().for_each(|x| x.push_le(&mut bytes));
    let mut views: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for tensor in arena.layout().tensors() {
        let Some(key) = names.theirs(&tensor.name) else { continue };
        let range = tensor.range();
        let data = &bytes[range.start * size_of::<R>()..range.end * size_of::<R>()];
        let view = TensorView::new(R::DTYPE, tensor.shape(), data)
            .map_err(|e| Error::file(path, format!("{}: {e}", tensor.name)))?;
        // Tied weights are one tensor.
        if let Some(other) = views.get(&key)
            && (other.shape(), other.data()) != (view.shape(), view.data())
        {
            let fault = format!("found two different tensors named `{key}`, expected one");
            return Err(Error::file(path, fault));
        }
        views.insert(key, view);
    }
    let metadata = metadata.map(|(key, text)| [(key.to_owned(), text)].into_iter().collect());
    safetensors::serialize(views, metadata).map_err(|e| Error::file(path, e.to_string()))
}
