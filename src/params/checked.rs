//! Tensors and a text in a safetensors file, with a checksum of everything.

use std::path::Path;

use safetensors::tensor::TensorView;

use super::tensor_file::{TensorFile, read_tensors};
use crate::{Error, Real, Result, atomic_write, rng};

/// A name, a shape and the values.
pub(crate) type NamedTensor<'a, R> = (String, Vec<usize>, &'a [R]);

/// What precedes the check value in the metadata, and what separates it from the text.
const FRAME: [&str; 2] = ["{\"check\":\"", "\",\"content\":"];

/// Writes tensors, and under the only key of the metadata `json` with a check value of names, shapes, values and `json`.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if the format cannot hold them.
pub(crate) fn write_checked<R: Real>(
    path: &Path,
    mut tensors: Vec<NamedTensor<'_, R>>,
    key: &str,
    json: &str,
) -> Result<()> {
    let bad = |fault: String| Error::file(path, fault);
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut bytes = Vec::with_capacity(tensors.iter().map(|(.., values)| size_of_val(*values)).sum());
    tensors.iter().for_each(|(.., values)| values.iter().for_each(|x| x.push_le(&mut bytes)));
    let (mut views, mut rest, mut check) = (Vec::new(), &bytes[..], text(0, json));
    for (name, shape, values) in tensors {
        let (data, after) = rest.split_at(size_of_val(values));
        rest = after;
        check = tensor(check, &name, &shape, data);
        let view = TensorView::new(R::DTYPE, shape, data).map_err(|e| bad(format!("{name}: {e}")))?;
        views.push((name, view));
    }
    let [before, between] = FRAME;
    let metadata = [(key.to_owned(), format!("{before}{check:016x}{between}{json}}}"))].into_iter().collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| bad(e.to_string()))?;
    atomic_write(path, &bytes)
}

/// Reads `bytes`, the content of `path`, as a file that [`write_checked`] wrote under `key`; `what` says in errors what
/// it should be. The tensors and the text are as they were written.
///
/// # Errors
/// [`Error::File`] if it is not such a file, or is damaged.
pub(crate) fn read_checked<'a>(
    path: &'a Path,
    bytes: &'a [u8],
    key: &str,
    what: &str,
) -> Result<(TensorFile<'a>, String)> {
    let file = read_tensors(path, bytes, key)?;
    let [before, between] = FRAME;
    let framed = file.metadata.as_deref().and_then(|metadata| {
        let (check, rest) = metadata.strip_prefix(before)?.split_once(between)?;
        Some((u64::from_str_radix(check, 16).ok()?, rest.strip_suffix('}')?.to_owned()))
    });
    let Some((expected, json)) = framed else {
        return Err(Error::file(path, format!("found no {what} in the metadata, expected one")));
    };
    let mut names = file.tensors.names();
    names.sort_unstable();
    let views = names.into_iter().filter_map(|name| Some((name, file.tensors.tensor(name).ok()?)));
    let found =
        views.fold(text(0, &json), |check, (name, view)| tensor(check, name, view.shape(), view.data()));
    if found != expected {
        let fault = format!("found check value {found:016x}, expected {expected:016x}: the file is damaged");
        return Err(Error::file(path, fault));
    }
    Ok((file, json))
}

impl TensorFile<'_> {
    /// How many tensors there are.
    pub(crate) fn count(&self) -> usize {
        self.tensors.names().len()
    }

    /// How many values the tensor `name` has, if there is one.
    pub(crate) fn len_of(&self, name: &str) -> Option<usize> {
        self.tensors.tensor(name).ok().map(|view| view.shape().iter().product())
    }

    /// Copies the tensor `name`, of exactly this type and shape, out of the file.
    ///
    /// # Errors
    /// [`Error::File`] naming the tensor.
    pub(crate) fn read<R: Real>(&self, name: &str, shape: &[usize], into: &mut [R]) -> Result<()> {
        let bad = |found: String| {
            let fault = format!("tensor `{name}`: found {found}, expected {:?} {shape:?}", R::DTYPE);
            Error::file(self.path, fault)
        };
        let view = self.tensors.tensor(name).map_err(|_| bad("none".into()))?;
        if view.dtype() != R::DTYPE || view.shape() != shape {
            return Err(bad(format!("{:?} {:?}", view.dtype(), view.shape())));
        }
        into.iter_mut().zip(R::read_le(view.data())).for_each(|(x, value)| *x = value);
        Ok(())
    }
}

fn tensor(check: u64, name: &str, shape: &[usize], data: &[u8]) -> u64 {
    let shape = shape.iter().fold(text(check, name), |check, &size| rng::extend(check, size as u64));
    eights(shape, data)
}

fn text(check: u64, text: &str) -> u64 {
    eights(check, text.as_bytes())
}

/// Mixes in the length and the bytes, eight at a time.
fn eights(check: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let check = rng::extend(check, bytes.len() as u64);
    let check = words.iter().fold(check, |check, word| rng::extend(check, u64::from_le_bytes(*word)));
    rest.iter().fold(check, |check, &byte| rng::extend(check, u64::from(byte)))
}
