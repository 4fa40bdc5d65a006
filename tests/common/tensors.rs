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
