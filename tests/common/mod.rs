//! What the integration tests share: the fixtures that `tests/fixtures/make_fixtures.py` made with PyTorch.
#![allow(dead_code)] // each test uses its part

use std::path::Path;

use ndarray::{Array, ArrayD, Dimension};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One case: its tensors, and what the script says of it.
pub struct Fixture {
    bytes: Vec<u8>,
    /// The case as JSON: `name`, `kind` and arguments.
    pub case: Value,
}

impl Fixture {
    /// Opens `tests/fixtures/<name>.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let case =
            metadata.metadata().as_ref().and_then(|map| map.get("case")).expect("a case in the metadata");
        let case = serde_json::from_str(case).expect("a case in JSON");
        Self { bytes, case }
    }

    /// Names of all tensors that begin with `prefix`, without it.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let mut names: Vec<_> =
            file.names().into_iter().filter_map(|n| n.strip_prefix(prefix)).map(String::from).collect();
        names.sort();
        names
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names("").iter().any(|n| n == name)
    }

    /// The names of all cases of a kind, sorted.
    pub fn all(kind: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let paths = files.map(|file| file.expect("a file of the folder").path());
        let cases = paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        let stems = cases.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        let mut names: Vec<_> = stems.filter(|name| Self::open(name).case["kind"] == kind).collect();
        names.sort();
        names
    }

    /// A tensor of numbers, as f64.
    pub fn get<D: Dimension>(&self, name: &str) -> Array<f64, D> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let data: Vec<f64> = match view.dtype() {
            Dtype::F64 => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => panic!("{name}: {other:?}"),
        };
        let array = ArrayD::from_shape_vec(view.shape(), data).expect("as many values as the shape has");
        array.into_dimensionality().unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A tensor's values in their order.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.get::<ndarray::IxDyn>(name).iter().copied().collect()
    }

    /// A number among the case's arguments.
    pub fn number(&self, pointer: &str) -> f64 {
        self.case
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{pointer} in {}", self.case))
    }
}

/// Asserts |found − expected| ≤ tolerance · max(1, |expected|), element by element.
#[track_caller]
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: element {i} is {a}, expected {b}");
    }
}
