//! Models from ONNX files that others wrote: the graph is followed from the input to the first output, and each operator
//! becomes a layer, or changes what is known about the axes of the value that passes through.

mod axes;
mod ops;
mod reader;
mod recurrent;
mod stage;
mod tensor;

use std::path::Path;

use prost::Message;
use reader::Reader;

use crate::data::Normalize;
use crate::error::{BYTES, shorten};
use crate::onnx_graph::proto::ModelProto;
use crate::{Error, Model, Real, Result};

/// The newest version of the operators whose definitions this module knows.
const NEWEST_OPSET: i64 = 25;
/// The most faults that an error lists.
const SHOWN: usize = 20;

/// Reads a model from an ONNX file: of PyTorch (both exporters), Keras (by tf2onnx), [`Export`](super::Export), or of
/// anything else that is a chain of the following operators.
///
/// | operators | become |
/// |---|---|
/// | LSTM, GRU, RNN | [`Lstm`](crate::nn::Lstm), [`PeepholeLstm`](crate::nn::PeepholeLstm), [`Gru`](crate::nn::Gru) with either reset, [`Rnn`](crate::nn::Rnn) with tanh or ReLU; forward or in both directions, layout 0 or 1. `sequence_lens` and initial states that are inputs of the graph are a matter of the data here |
/// | Gemm, MatMul, Add | [`Linear`](crate::nn::Linear) |
/// | Relu, Tanh, Sigmoid, LogSoftmax | [`Activation`](crate::nn::Activation), [`LogSoftmax`](crate::nn::LogSoftmax) |
/// | LayerNormalization | [`LayerNorm`](crate::nn::LayerNorm) |
/// | Gather from a table | [`Embedding`](crate::nn::Embedding) |
/// | Gather or Slice of the last step, ReduceMean and ReduceMax over time | [`Pool`](crate::nn::Pool) |
/// | Sub and Div of the input by constants | the model's normalisation |
/// | Softmax at the end | nothing, with a [note](Imported::notes): [`predict_proba`](Model::predict_proba) applies it |
/// | Transpose, Squeeze, Unsqueeze, Reshape, Flatten, Concat, Slice, Gather, Identity, Cast, Dropout, and what computes shapes | nothing: they rearrange |
///
/// PyTorch's dynamo exporter writes an `nn.RNN` step by step, which is not read; `dynamo=False` writes the operator.
///
/// What is not understood is an error that names it, all of it at once. Layers have the names of the nodes' scopes; stacked
/// layers become one layer each. The numbers that come out are those of the file's graph up to rounding, and of an
/// export of this crate to the bit.
///
/// # Examples
/// ```
/// use bptt::onnx::{Export, Import};
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
/// use ndarray::Array3;
///
/// let model: Model = Model::builder(Shape::new(28, 3))
///     .layer("lstm", Lstm::new(5).layers(2).last())
///     .layer("linear", Linear::new(2))
///     .classes(["a", "b"])
///     .build(1)?;
/// let imported = Import::new().from_bytes::<f32>(&Export::new().to_bytes(&model)?)?;
/// println!("{}", imported.model);
/// let x = Array3::from_elem((4, 28, 3), 0.5);
/// assert_eq!(imported.model.predict(&x)?, model.predict(&x)?);
/// assert_eq!(imported.model.classes(), ["a", "b"]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Import {
    steps: Option<usize>,
}

/// A model from an ONNX file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Imported<R: Real = f32> {
    /// The model.
    pub model: Model<R>,
    /// What the file says that the model does not do by itself, a sentence each.
    pub notes: Vec<String>,
}

impl Import {
    /// As the file says.
    pub fn new() -> Self {
        Self::default()
    }

    /// T of the model, for files that leave the number of steps open.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Reads a file. Tensors may be in another file in the same folder.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`] naming the file, with everything in it that is not understood.
    pub fn read<R: Real>(&self, path: impl AsRef<Path>) -> Result<Imported<R>> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        self.parse(&bytes, Some(folder)).map_err(|fault| Error::file(path, fault))
    }

    /// As [`read`](Self::read), of a file's content.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn from_bytes<R: Real>(&self, bytes: &[u8]) -> Result<Imported<R>> {
        self.parse(bytes, None).map_err(|fault| Error::file(BYTES, fault))
    }

    fn parse<R: Real>(&self, bytes: &[u8], folder: Option<&Path>) -> Result<Imported<R>, String> {
        let file = ModelProto::decode(bytes)
            .map_err(|e| format!("found bytes that are no ONNX model: {}", shorten(&e.to_string())))?;
        let opset = file.opset_import.iter().find(|set| ["", "ai.onnx"].contains(&&*set.domain));
        match opset.map(|set| set.version) {
            Some(1..=NEWEST_OPSET) => {}
            Some(other) => return Err(format!("found opset {other}, expected at most {NEWEST_OPSET}")),
            None => return Err("found no opset, and so no ONNX model".into()),
        }
        // Whether samples or steps come first is said nowhere, but only one of them fits recurrent layers.
        let read = |time_first| Reader::read(&file.graph, folder, self.steps, time_first);
        let reader = read(false).or_else(|first| {
            read(true).map_err(|second| if second.is_better(&first) { second } else { first })
        });
        let reader = reader.map_err(|faults| faults.to_string())?;
        build(reader, &file).map_err(|e| format!("found a graph that makes no model: {e}"))
    }
}

/// Builds the model that a reader found, and sets its parameters.
fn build<R: Real>(reader: Reader<'_>, file: &ModelProto) -> Result<Imported<R>> {
    let mut builder = Model::<R>::builder(reader.input);
    for stage in &reader.stages {
        builder = builder.boxed(&stage.name, stage.layer());
    }
    if let Some(mean) = reader.mean.clone().or(reader.sd.as_ref().map(|sd| vec![0.0; sd.len()])) {
        let sd = reader.sd.clone().unwrap_or_else(|| vec![1.0; mean.len()]);
        builder = builder.normalize(Normalize::per_feature(mean, sd)?);
    }
    let classes = file.metadata_props.iter().find(|entry| entry.key == "classes");
    let classes: Option<Vec<String>> = classes.and_then(|entry| serde_json::from_str(&entry.value).ok());
    let mut model = builder.classes(classes.unwrap_or_default()).build(1)?;
    let mut params = model.params_mut();
    for stage in &reader.stages {
        for (name, values) in &stage.tensors {
            let name = format!("{}.{name}", stage.name);
            let mut to =
                params.get_mut(&name).ok_or_else(|| Error::config(&name, "found no such parameter"))?;
            if to.len() != values.len() {
                return Err(Error::mismatch(name, format!("{} values", values.len()), to.len()));
            }
            to.iter_mut().zip(values).for_each(|(to, &value)| *to = R::from_f64(value));
        }
    }
    drop(params);
    Ok(Imported { model, notes: reader.notes })
}

/// What was not understood.
#[derive(Debug)]
struct Faults(Vec<String>);

impl Faults {
    /// Whether this is of an input that steps come first in, and only that made a difference: in `other`, where samples come
    /// first, a recurrent layer had the wrong axes.
    fn is_better(&self, other: &Self) -> bool {
        let axes = |faults: &Self| faults.0.iter().any(|fault| fault.ends_with(recurrent::EXPECTED_AXES));
        axes(other) && !axes(self)
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "found what this crate does not read: {}", self.0[..self.0.len().min(SHOWN)].join("; "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
