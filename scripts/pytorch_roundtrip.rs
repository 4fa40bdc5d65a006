//! The Rust half of `scripts/pytorch_roundtrip.py`: for each case in the folder given, loads what PyTorch saved and says
//! what comes out of it, and saves parameters of its own with what comes out of those.

use std::error::Error;
use std::path::{Path, PathBuf};

use bptt::nn::{Embedding, Gru, Layer, LayerNorm, Linear, Lstm, Rnn};
use bptt::params::StateDict;
use bptt::{Model, Real, Shape};
use ndarray::Array3;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: pytorch_roundtrip <folder>")?);
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    for case in &cases {
        match case["scalar"].as_str() {
            Some("f32") => round::<f32>(&folder, case)?,
            Some("f64") => round::<f64>(&folder, case)?,
            other => return Err(format!("found scalar {other:?}, expected f32 or f64").into()),
        }
    }
    Ok(())
}

fn round<R: Real>(folder: &Path, case: &Value) -> Result<()> {
    let file =
        |what: &str| folder.join(format!("{}.{what}.safetensors", case["name"].as_str().unwrap_or("?")));
    // What the modules are called there and here.
    let renames = case["renames"].as_object().ok_or("found no renames")?;
    let names = renames.iter().fold(StateDict::new(), |names, (theirs, ours)| {
        names.rename(theirs, ours.as_str().unwrap_or_default())
    });
    let x = read::<R>(&file("x"))?;

    let mut model = build::<R>(case, x.dim(), 1)?;
    model.load_state_dict(file("torch"), &names)?;
    write(&file("loaded"), &model.predict(&x)?)?;

    let own = build::<R>(case, x.dim(), 2)?;
    own.save_state_dict(file("bptt"), &names)?;
    write(&file("own"), &own.predict(&x)?)
}

fn build<R: Real>(case: &Value, (_, t, f): (usize, usize, usize), seed: u64) -> bptt::Result<Model<R>> {
    let size = |name: &str| case[name].as_u64().map(|size| size as usize);
    let mut builder = Model::builder(Shape::new(t, f));
    if let Some(words) = size("words") {
        builder = builder.layer("embedding", Embedding::new(words, size("input").unwrap_or(0)));
    }
    builder = builder.boxed("rnn", recurrent(case, size("hidden").unwrap_or(0), size("layers").unwrap_or(0)));
    if case["norm"] == true {
        builder = builder.layer("norm", LayerNorm::new());
    }
    builder.layer("linear", Linear::new(size("output").unwrap_or(0))).build(seed)
}

fn recurrent<R: Real>(case: &Value, hidden: usize, layers: usize) -> Box<dyn Layer<R>> {
    let both = case["bidirectional"] == true;
    macro_rules! boxed {
        ($layer:expr) => {{
            let layer = $layer.layers(layers);
            Box::new(if both { layer.bidirectional() } else { layer })
        }};
    }
    match case["cell"].as_str() {
        Some("lstm") => boxed!(Lstm::new(hidden)),
        Some("gru") => boxed!(Gru::new(hidden)),
        Some("rnn_relu") => boxed!(Rnn::new(hidden).relu()),
        _ => boxed!(Rnn::new(hidden)),
    }
}

/// The tensor `x` of a file.
fn read<R: Real>(path: &Path) -> Result<Array3<R>> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let x = file.tensor("x")?;
    let &[batch, t, f] = x.shape() else { return Err(format!("found x {:?}", x.shape()).into()) };
    if x.dtype() != R::DTYPE {
        return Err(format!("found x in {:?}, expected {:?}", x.dtype(), R::DTYPE).into());
    }
    Ok(Array3::from_shape_vec((batch, t, f), R::read_le(x.data()).collect())?)
}

fn write<R: Real>(path: &Path, y: &Array3<R>) -> Result<()> {
    let mut bytes = Vec::new();
    y.iter().for_each(|y| y.push_le(&mut bytes));
    let dtype: Dtype = R::DTYPE;
    let view = TensorView::new(dtype, y.shape().to_vec(), &bytes)?;
    Ok(std::fs::write(path, safetensors::serialize([("y", view)], None)?)?)
}
