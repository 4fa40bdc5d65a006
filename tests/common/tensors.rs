//! Safetensors files taken apart and put together again, right or wrong.
#![allow(dead_code)] // each test uses its part

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// One tensor of a file.
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// Zeros.
pub fn zeros(dtype: Dtype, shape: &[usize]) -> Tensor {
    let data = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
    Tensor { dtype, shape: shape.to_vec(), data }
}

pub type Tensors = BTreeMap<String, Tensor>;

/// The tensors of a file, and what stands under its metadata's one key; nothing if there is none.
pub fn parts(bytes: &[u8], key: &str) -> (Tensors, String) {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let text = metadata.metadata().as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default();
    let tensor = |view: TensorView<'_>| Tensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        data: view.data().to_vec(),
    };
    let file = SafeTensors::deserialize(bytes).unwrap();
    (file.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect(), text)
}

/// A file of these, with a text under its metadata's one key or without.
pub fn file(tensors: &Tensors, key: &str, text: Option<String>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        (name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap())
    });
    safetensors::serialize(views, text.map(|text| [(key.to_owned(), text)].into())).unwrap()
}

/// The tensors of a run's file, and its content, without the check value.
pub fn run_parts(bytes: &[u8]) -> (Tensors, String) {
    let (tensors, framed) = parts(bytes, "bptt-run");
    let content = framed.split_once(r#""content":"#).and_then(|(_, rest)| rest.strip_suffix('}'));
    (tensors, content.expect("a state with a check value").to_owned())
}

/// A run's file of these parts, with the check value that belongs to them.
pub fn run_file(tensors: &Tensors, content: &str) -> Vec<u8> {
    let framed = format!(r#"{{"check":"{:016x}","content":{content}}}"#, check(tensors, content));
    file(tensors, "bptt-run", Some(framed))
}

/// The check value over a run's file, as `src/params/checked.rs` defines it: a key to all of it, text after text.
pub fn check(tensors: &Tensors, json: &str) -> u64 {
    fn text(words: &mut Vec<u64>, bytes: &[u8]) {
        words.push(bytes.len() as u64);
        let (eights, rest) = bytes.as_chunks();
        words.extend(eights.iter().map(|eight| u64::from_le_bytes(*eight)));
        words.extend(rest.iter().map(|&byte| u64::from(byte)));
    }
    let mut words = Vec::new();
    text(&mut words, json.as_bytes());
    for (name, tensor) in tensors {
        text(&mut words, name.as_bytes());
        words.extend(tensor.shape.iter().map(|&size| size as u64));
        text(&mut words, &tensor.data);
    }
    bptt::rng::key(&words)
}
