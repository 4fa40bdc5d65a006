//! Reading safetensors files that may be malformed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::foreign::recognise;
use super::mismatch::{Faults, Label};
use super::{IncompatibleKeys, StateDict, Tensor, halves};
use crate::error::shorten;
use crate::{Arena, Error, Real, Result, Scalar};

/// A safetensors file, checked.
pub(crate) struct TensorFile<'a> {
    pub(super) path: &'a Path,
    pub(super) tensors: SafeTensors<'a>,
    pub(super) metadata: Option<String>,
}

/// Reads `bytes`, the content of `path`, as a safetensors file; `key` is that of the metadata to read.
///
/// # Errors
/// [`Error::File`] if it is not a safetensors file.
pub(crate) fn read_tensors<'a>(path: &'a Path, bytes: &'a [u8], key: &str) -> Result<TensorFile<'a>> {
    let bad = |e: safetensors::SafeTensorError| {
        let fault = format!("found {} bytes that are not a safetensors file: ", bytes.len());
        Error::file(path, fault + &recognise(bytes, path).unwrap_or_else(|| shorten(&e.to_string())))
    };
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(bad)?;
    let metadata = metadata.metadata().as_ref().and_then(|map| map.get(key)).cloned();
    // Of two tensors with the same name, the reader of the format silently takes the last.
    if let Err(twice) = serde_json::from_slice::<Once>(&bytes[LENGTH..LENGTH + header]) {
        return Err(Error::file(
            path,
            format!("found a header that cannot be read: {}", shorten(&twice.to_string())),
        ));
    }
    Ok(TensorFile { path, tensors: SafeTensors::deserialize(bytes).map_err(bad)?, metadata })
}

/// The number of bytes before the header, which hold its length.
const LENGTH: usize = 8;

/// A header, and the metadata in it, in which no name appears twice.
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
                return Err(A::Error::custom(format!("`{}` appears twice", shorten(&name))));
            }
            names.insert(name);
        }
        Ok(Self)
    }
}

impl TensorFile<'_> {
    /// The text of the metadata.
    ///
    /// # Errors
    /// [`Error::File`] if there is none.
    pub(crate) fn metadata(&self) -> Result<&str> {
        let missing = || {
            let fault = "found no description of a model in the metadata, expected one as `Model::save` writes it; to \
                         load the tensors alone, as of PyTorch, build the model and call `Model::load_state_dict`";
            Error::file(self.path, fault)
        };
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

    /// Copies every tensor of the arena's layout out of the file, where they have the names given by `names`.
    ///
    /// All must have the layout's shape and a floating-point type that converts, and hold finite numbers. Unless
    /// `lenient`, none may be missing or unexpected. After an error the arena is unchanged.
    ///
    /// # Errors
    /// [`Error::Config`] if the renames are invalid; [`Error::File`] with all faults at once, also if there was nothing
    /// to load.
    pub(crate) fn load_into<R: Real>(
        &self,
        arena: &mut Arena<R>,
        names: &StateDict,
        lenient: bool,
    ) -> Result<IncompatibleKeys> {
        names.check()?;
        let layout = arena.layout().clone();
        let mut faults = Faults::default();
        let (found, unexpected) = self.assign(|name| layout.get(name).is_some(), names, &mut faults);
        let (mut keys, mut fitting) = (IncompatibleKeys::default(), Vec::new());
        for tensor in layout.tensors() {
            let Some(theirs) = names.theirs(&tensor.name) else { continue };
            let view = found.get(&tensor.name).and_then(|&key| Some((key, self.tensors.tensor(key).ok()?)));
            let Some((key, view)) = view else {
                keys.missing.push(tensor.name.clone());
                faults.missing.push(Label { key: theirs, name: tensor.name.clone(), shape: tensor.shape() });
                continue;
            };
            let label = Label { key: key.to_owned(), name: tensor.name.clone(), shape: tensor.shape() };
            match fault_of::<R>(tensor, &view) {
                Some(fault) => faults.wrong.push(format!("tensor {label}: {fault}")),
                None => fitting.push((tensor, view)),
            }
        }
        for &key in &unexpected {
            let shape = self.tensors.tensor(key).map_or_else(|_| Vec::new(), |view| view.shape().to_vec());
            faults.unexpected.push(Label { key: key.to_owned(), name: key.to_owned(), shape });
        }
        let nothing = fitting.is_empty() && !keys.missing.is_empty();
        if !faults.wrong.is_empty() || (!lenient && faults.any()) || nothing {
            return Err(Error::file(self.path, faults.describe(lenient && !nothing)));
        }
        for (tensor, view) in fitting {
            let dst = arena.as_mut_slice()[tensor.range()].iter_mut();
            dst.zip(values(&view)).for_each(|(x, v)| *x = R::from_f64(v));
        }
        keys.unexpected = unexpected.into_iter().map(str::to_owned).collect();
        Ok(keys)
    }

    /// Which key of the file belongs to which name of the model, and the keys, sorted, that belong to none.
    fn assign(
        &self,
        has: impl Fn(&str) -> bool,
        names: &StateDict,
        faults: &mut Faults,
    ) -> (BTreeMap<String, &str>, Vec<&str>) {
        let mut keys = self.tensors.names();
        keys.sort_unstable();
        let (mut found, mut unexpected) = (BTreeMap::new(), Vec::new());
        for key in keys {
            let ours = names.ours(key);
            if !ours.is_empty() && !ours.iter().any(|name| has(name) || is_count(name, &has)) {
                unexpected.push(key);
            }
            for name in ours.into_iter().filter(|name| has(name)) {
                if let Some(other) = found.insert(name.clone(), key) {
                    let (other, key) = (shorten(other), shorten(key));
                    faults.wrong.push(format!(
                        "tensors `{other}` and `{key}`: found both for `{name}`, expected one"
                    ));
                }
            }
        }
        (found, unexpected)
    }
}

/// Whether this is PyTorch's count of the batches of a normalisation that the model has. No setting here depends on it, and
/// PyTorch does not require it in what it loads.
fn is_count(name: &str, has: impl Fn(&str) -> bool) -> bool {
    let module = name.strip_suffix("num_batches_tracked");
    module.is_some_and(|module| has(&format!("{module}running_mean")))
}

/// Why a tensor of the file cannot be loaded as that of the model.
fn fault_of<R: Real>(tensor: &Tensor, view: &TensorView<'_>) -> Option<String> {
    if view.shape() != tensor.shape() {
        return Some(format!("found shape {:?}, expected {:?}", view.shape(), tensor.shape()));
    }
    if !matches!(view.dtype(), Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16) {
        return Some(format!("found type {:?}, expected F32, F64, F16 or BF16", view.dtype()));
    }
    let (index, value) = values(view).enumerate().find(|&(_, value)| !R::from_f64(value).is_finite())?;
    let expected =
        if value.is_finite() { format!("what an {:?} can hold", R::DTYPE) } else { "a finite number".into() };
    Some(format!("found {value:e} at index {index}, expected {expected}"))
}

/// The values of a tensor of a type that [`fault_of`] accepts; each is exact in `f64`.
fn values<'a>(view: &TensorView<'a>) -> Box<dyn Iterator<Item = f64> + 'a> {
    let data = view.data();
    match view.dtype() {
        Dtype::F64 => Box::new(f64::read_le(data)),
        Dtype::F16 => Box::new(halves::read(data).map(halves::f16)),
        Dtype::BF16 => Box::new(halves::read(data).map(halves::bf16)),
        _ => Box::new(f32::read_le(data).map(f64::from)),
    }
}
