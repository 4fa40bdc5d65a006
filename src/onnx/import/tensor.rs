//! Constants of a file.

use std::path::Path;

use crate::onnx_graph::proto::TensorProto;
use crate::params::halves;

/// A constant: numbers of any type of the file, as f64, which holds all of them but large whole numbers.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

impl Tensor {
    /// Reads a tensor; `folder` is where files with its data are, `None` if there are none.
    pub(super) fn read(proto: &TensorProto, folder: Option<&Path>) -> Result<Self, String> {
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|&size| usize::try_from(size).ok()).collect();
        let dims = dims.ok_or("a negative size")?;
        let outside = if proto.data_location == 1 { Some(external(proto, folder)?) } else { None };
        let raw = outside.as_deref().unwrap_or(&proto.raw_data);
        let values = values(proto, raw).ok_or_else(|| format!("elements of type {}", proto.data_type))?;
        let expected = dims.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        if expected != Some(values.len()) {
            return Err(format!("{} values in a tensor of shape {dims:?}", values.len()));
        }
        Ok(Self { dims, values })
    }

    pub(super) fn vector(values: Vec<f64>) -> Self {
        Self { dims: vec![values.len()], values }
    }

    /// The values as whole numbers.
    pub(super) fn ints(&self) -> Vec<i64> {
        self.values.iter().map(|&value| value as i64).collect()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.values.iter().all(|&value| value == 0.0)
    }

    /// Another shape with as many values, the sizes that are 1 left out or added.
    pub(super) fn with_dims(&self, dims: Vec<usize>) -> Self {
        Self { dims, values: self.values.clone() }
    }

    /// With its axes in another order.
    pub(super) fn transposed(&self, perm: &[i64]) -> Result<Self, String> {
        let axes: Vec<usize> = (0..self.dims.len()).collect();
        let axes = super::axes::transpose(&axes, perm)?;
        let dims: Vec<usize> = axes.iter().map(|&axis| self.dims[axis]).collect();
        let mut strides = vec![1; dims.len()];
        for i in (1..dims.len()).rev() {
            strides[i - 1] = strides[i] * self.dims[i];
        }
        // Where the values of each index along the axes begin, axis after axis.
        let mut places = vec![0];
        for (&axis, &size) in axes.iter().zip(&dims) {
            places = places
                .iter()
                .flat_map(|&at| (0..size).map(move |i| (at, i)))
                .map(|(at, i)| at + i * strides[axis])
                .collect();
        }
        Ok(Self { dims, values: places.into_iter().map(|at| self.values[at]).collect() })
    }
}

/// Runs of `run` values moved, in each row of as many as there are in `order`: run k goes to place `order[k]`.
pub(super) fn moved(values: &[f64], order: &[usize], run: usize) -> Vec<f64> {
    let mut ours = vec![0.0; values.len()];
    for (theirs, ours) in values.chunks_exact(order.len() * run).zip(ours.chunks_exact_mut(order.len() * run))
    {
        for (from, &to) in theirs.chunks_exact(run).zip(order) {
            ours[to * run..][..run].copy_from_slice(from);
        }
    }
    ours
}

fn values(proto: &TensorProto, raw: &[u8]) -> Option<Vec<f64>> {
    let wide = |bits: &dyn Fn(u16) -> f64| -> Vec<f64> {
        if raw.is_empty() {
            proto.int32_data.iter().map(|&x| bits(x as u16)).collect()
        } else {
            halves::read(raw).map(bits).collect()
        }
    };
    let of_ints = || proto.int32_data.iter().map(|&x| f64::from(x)).collect();
    Some(match (proto.data_type, raw.is_empty()) {
        (1, true) => proto.float_data.iter().map(|&x| f64::from(x)).collect(),
        (1, false) => raw.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        (11, true) => proto.double_data.clone(),
        (11, false) => raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        (7, true) => proto.int64_data.iter().map(|&x| x as f64).collect(),
        (7, false) => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        (6, true) => of_ints(),
        (6, false) => raw.as_chunks().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
        (9, true) => of_ints(),
        (9, false) => raw.iter().map(|&b| f64::from(b)).collect(),
        (10, _) => wide(&halves::f16),
        (16, _) => wide(&halves::bf16),
        _ => return None,
    })
}

/// The bytes of a tensor that are in a file beside the model's.
fn external(proto: &TensorProto, folder: Option<&Path>) -> Result<Vec<u8>, String> {
    use std::io::{Read, Seek, SeekFrom};
    let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let name = entry("location").unwrap_or_default();
    let plain = !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    let folder = folder.filter(|_| plain).ok_or_else(|| format!("data in the file `{name}`"))?;
    let number = |key: &str| entry(key).map_or(Ok(None), |text| text.parse::<u64>().map(Some));
    let (offset, length) = number("offset")
        .and_then(|offset| Ok((offset.unwrap_or(0), number("length")?)))
        .map_err(|e| format!("a place in the file `{name}`: {e}"))?;
    let read = || {
        let mut file = std::fs::File::open(folder.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length.unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().map_err(|e| format!("data in the file `{name}`: {e}"))
}
