//! A saved model and its outputs, without files, clock, threads or randomness of the system.

use std::sync::OnceLock;

use bptt::Model;
use bptt::ndarray::{Array3, s};

/// One of every layer that there was when it was saved: see tests/behaviour/old_files.rs.
const MODEL: &[u8] = include_bytes!("../../fixtures/old/model.safetensors");

/// The outputs of a batch of three sequences.
///
/// # Errors
/// None, unless the model cannot be read.
fn outputs() -> bptt::Result<Vec<f32>> {
    let model: Model = Model::from_bytes(MODEL)?;
    let x = Array3::from_shape_fn((3, 4, 3), |(i, t, f)| (i * 12 + t * 3 + f) as f32 / 20.0 - 1.0);
    let batch = model.predict(&x)?;
    let alone = model.predict(&x.slice_move(s![..1, .., ..]))?;
    Ok(batch.into_iter().chain(alone).collect())
}

/// The bits of output `i`; those of NaN if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn output(i: usize) -> u32 {
    static OUTPUTS: OnceLock<Vec<f32>> = OnceLock::new();
    let outputs = OUTPUTS.get_or_init(|| outputs().unwrap_or_default());
    outputs.get(i).copied().unwrap_or(f32::NAN).to_bits()
}
