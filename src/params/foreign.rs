//! Files of other formats, recognised by their first bytes.

use std::path::Path;

/// What a file is that is not a safetensors file, and the line that converts it; `None` if that is not known.
///
/// It is called only for files that are known not to be safetensors: the first bytes alone cannot decide that.
pub(super) fn recognise(bytes: &[u8], path: &Path) -> Option<String> {
    let file = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    // The name goes into a Python string.
    let file = if file.contains(['"', '\'', '\\', '\n']) || file.len() > 255 { "FILE".into() } else { file };
    let (what, line) = match kind(bytes)? {
        Kind::Torch => (
            "a file of PyTorch's `torch.save`",
            format!(
                "import torch, safetensors.torch as s; s.save_file({{k: v.clone().contiguous() for k, v in \
                 torch.load('{file}', map_location='cpu', weights_only=True).items()}}, 'model.safetensors')"
            ),
        ),
        Kind::Keras => {
            // A line does not do: gates have another order, kernels are transposed.
            return Some(format!(
                "it is a file of Keras; the script `scripts/keras_to_bptt.py` of bptt's repository converts it: python \
                 keras_to_bptt.py '{file}' model.safetensors"
            ));
        }
        Kind::Numpy => (
            "a file of NumPy's `savez`",
            format!(
                "import numpy, safetensors.numpy as s; s.save_file(dict(numpy.load('{file}')), 'model.safetensors')"
            ),
        ),
        Kind::Onnx => (
            "an ONNX model",
            format!(
                "import onnx, onnx.numpy_helper as h, safetensors.numpy as s; s.save_file({{t.name: h.to_array(t) for t \
                 in onnx.load('{file}').graph.initializer}}, 'model.safetensors')"
            ),
        ),
        Kind::Index => (
            "the index of a model in several files",
            format!(
                "import json, safetensors.torch as s; s.save_file({{k: v for f in \
                 set(json.load(open('{file}'))['weight_map'].values()) for k, v in s.load_file(f).items()}}, \
                 'model.safetensors')"
            ),
        ),
        Kind::LfsPointer => {
            return Some(
                "it is a pointer of Git LFS to the file; `git lfs pull` in its repository fetches it".into(),
            );
        }
    };
    Some(format!("it is {what}; this line of Python converts it to a safetensors file: {line}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Torch,
    Keras,
    Numpy,
    Onnx,
    Index,
    LfsPointer,
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => zipped(bytes),
        // A pickle of protocol 2 to 5, as `torch.save` wrote before its ZIP files.
        [0x80, 2..=5, ..] => Some(Kind::Torch),
        [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Kind::Keras),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some(Kind::Numpy),
        // Protocol buffers: field 1, the version of the format, then a string: producer, domain, or the graph.
        [8, 1..=30, 0x12 | 0x1a | 0x22 | 0x3a, ..] => Some(Kind::Onnx),
        _ if bytes.starts_with(b"version https://git-lfs") => Some(Kind::LfsPointer),
        _ => {
            let start = bytes.trim_ascii_start();
            let found = start.windows(12).any(|word| word == b"\"weight_map\"");
            (start.first() == Some(&b'{') && found).then_some(Kind::Index)
        }
    }
}

/// What a ZIP archive is, by the name of its first entry.
fn zipped(bytes: &[u8]) -> Option<Kind> {
    let length = usize::from(u16::from_le_bytes(*bytes.get(26..28)?.first_chunk()?));
    let name = bytes.get(30..30 + length)?;
    if name.ends_with(b".npy") {
        Some(Kind::Numpy)
    } else if [&b"metadata.json"[..], b"config.json", b"model.weights.h5"].contains(&name) {
        Some(Kind::Keras)
    } else {
        // PyTorch's archives have a folder, and `data.pkl` or, as TorchScript, `constants.pkl` and code in it.
        name.contains(&b'/').then_some(Kind::Torch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zip(entry: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(26, 0);
        bytes.extend((entry.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(entry.as_bytes());
        bytes
    }

    #[test]
    fn first_bytes_tell() {
        let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
        for (bytes, expected) in [
            (zip("archive/data.pkl"), Some(Kind::Torch)),
            (zip("model/version"), Some(Kind::Torch)),
            (legacy.to_vec(), Some(Kind::Torch)),
            (zip("metadata.json"), Some(Kind::Keras)),
            (b"\x89HDF\r\n\x1a\n\0\0".to_vec(), Some(Kind::Keras)),
            (zip("weight.npy"), Some(Kind::Numpy)),
            (b"\x93NUMPY\x01\0".to_vec(), Some(Kind::Numpy)),
            (b"\x08\x08\x12\x07pytorch\x1a\x052.9.0".to_vec(), Some(Kind::Onnx)),
            (b"\x08\x0a\x3a\x80\x10".to_vec(), Some(Kind::Onnx)),
            (b"{\n \"metadata\": {},\n \"weight_map\": {}}".to_vec(), Some(Kind::Index)),
            (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), Some(Kind::LfsPointer)),
            (b"PK\x03\x04".to_vec(), None),
            (zip("readme"), None),
            (b"{\"a\": 1}".to_vec(), None),
            (b"weights = 1".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(kind(&bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_line_names_the_file_unless_that_would_break_it() {
        let line = recognise(&zip("archive/data.pkl"), Path::new("/some/where/lstm.pt")).unwrap();
        assert!(line.contains("torch.load('lstm.pt', map_location='cpu'"), "{line}");
        let line = recognise(&zip("archive/data.pkl"), Path::new("it's.pt")).unwrap();
        assert!(line.contains("torch.load('FILE'"), "{line}");
    }
}
