//! Tensors in and out of safetensors files.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Arena, Error, Real, Result, files};

/// Writes an arena's tensors under their names, and `metadata` under the one key `key`.
///
/// One key, because safetensors keeps metadata in a hash map, whose order would not be the same twice.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if the format refuses.
pub(crate) fn write_tensors<R: Real>(
    path: &Path,
    arena: &Arena<R>,
    key: &str,
    metadata: String,
) -> Result<()> {
    let mut bytes = Vec::with_capacity(size_of_val(arena.as_slice()));
    arena.as_slice().iter().for_each(|x| x.push_le(&mut bytes));
    let mut views = Vec::new();
    for tensor in arena.layout().tensors() {
        let range = tensor.range();
        let data = &bytes[range.start * size_of::<R>()..range.end * size_of::<R>()];
        let view = TensorView::new(R::DTYPE, tensor.shape(), data);
        views.push((
            tensor.name.as_str(),
            view.map_err(|e| Error::file(path, format!("{}: {e}", tensor.name)))?,
        ));
    }
    let metadata = [(key.to_owned(), metadata)].into_iter().collect();
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|e| Error::file(path, e.to_string()))?;
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

    /// Copies every tensor of the arena's layout out of the file, strictly: none may be missing, unexpected, of
    /// another shape or of another type. f32 and f64 convert into one another.
    ///
    /// # Errors
    /// [`Error::File`] that names every fault at once.
    pub(crate) fn load_into<R: Real>(&self, arena: &mut Arena<R>) -> Result<()> {
        let layout = arena.layout().clone();
        let mut faults = Vec::new();
        for tensor in layout.tensors() {
            let Ok(view) = self.tensors.tensor(&tensor.name) else {
                faults.push(format!("missing tensor `{}` {:?}", tensor.name, tensor.shape()));
                continue;
            };
            if view.shape() != tensor.shape() {
                let (found, expected) = (view.shape(), tensor.shape());
                faults
                    .push(format!("tensor `{}`: found shape {found:?}, expected {expected:?}", tensor.name));
                continue;
            }
            let place = arena.as_mut_slice()[tensor.range()].iter_mut();
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    place.zip(f32::read_le(view.data())).for_each(|(x, v)| *x = R::from_f64(v.to_f64()));
                }
                safetensors::Dtype::F64 => {
                    place.zip(f64::read_le(view.data())).for_each(|(x, v)| *x = R::from_f64(v));
                }
                other => {
                    faults
                        .push(format!("tensor `{}`: found type {other:?}, expected F32 or F64", tensor.name));
                }
            }
        }
        let mut unexpected: Vec<_> =
            self.tensors.names().into_iter().filter(|n| layout.get(n).is_none()).collect();
        unexpected.sort_unstable();
        faults.extend(unexpected.iter().map(|name| format!("unexpected tensor `{name}`")));
        if faults.is_empty() { Ok(()) } else { Err(Error::file(self.path, faults.join("; "))) }
    }
}
