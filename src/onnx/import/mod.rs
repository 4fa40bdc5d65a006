//! Models from ONNX files that others wrote: the graph is followed from the input to the first output, and each operator
//! becomes a layer, or changes what is known about the axes of the value that passes through.

mod arrange;
mod axes;
mod fold;
mod image;
mod joins;
mod links;
mod ops;
mod reader;
mod recurrent;
mod select;
mod stage;
mod tensor;

use std::path::Path;

use links::Links;
use prost::Message;
use reader::{Order, Reader};

use crate::data::Normalize;
use crate::error::{BYTES, shorten};
use crate::onnx_graph::proto::ModelProto;
use crate::{Error, Model, Real, Result};

/// The newest version of the operators whose definitions this module knows.
const NEWEST_OPSET: i64 = 25;
/// The most faults that an error lists.
const SHOWN: usize = 20;
/// How the fault of a layer begins that expects other axes.
const AXES: &str = "the axes [";

/// Reads a model from an ONNX file: of PyTorch (both exporters), Keras (by tf2onnx), [`Export`](super::Export), or of
/// anything else that consists of the following operators.
///
/// | operators | become |
/// |---|---|
/// | LSTM, GRU, RNN | [`Lstm`](crate::nn::Lstm), [`PeepholeLstm`](crate::nn::PeepholeLstm), [`Gru`](crate::nn::Gru) with either reset, [`Rnn`](crate::nn::Rnn) with tanh or ReLU; forward or in both directions, layout 0 or 1. `sequence_lens` and initial states that are inputs of the graph are a matter of the data here |
/// | Gemm, MatMul, Add | [`Linear`](crate::nn::Linear) |
/// | Conv, with one group, after Pad or not | [`Conv1d`](crate::nn::Conv1d), [`Conv2d`](crate::nn::Conv2d) |
/// | MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool | [`Pool2d`](crate::nn::Pool2d), [`Pool`](crate::nn::Pool) |
/// | BatchNormalization; arithmetic with constants | [`BatchNorm`](crate::nn::BatchNorm) |
/// | Relu, Tanh, Sigmoid, LogSoftmax | [`Activation`](crate::nn::Activation), [`LogSoftmax`](crate::nn::LogSoftmax) |
/// | LayerNormalization | [`LayerNorm`](crate::nn::LayerNorm) |
/// | Gather from a table | [`Embedding`](crate::nn::Embedding) |
/// | Gather or Slice of the last step, ReduceMean and ReduceMax over steps, pixels, or both | [`Pool`](crate::nn::Pool), [`Pool2d`](crate::nn::Pool2d) |
/// | Add, Sum or Concat of several values | [`Branches`](crate::nn::Branches) |
/// | MatMul, Softmax over the steps, and the sum of the steps by these weights | [`AttentionPool`](crate::nn::AttentionPool) |
/// | Transpose, Reshape or Flatten that make features of steps | [`Transpose`](crate::nn::Transpose) |
/// | Sub and Div of the input by constants | the model's normalisation |
/// | Mul and then Add of the output by constants that are called as in an export of this crate | the normalisation of the model's targets |
/// | Softmax at the end | nothing, with a [note](Imported::notes): [`predict_proba`](Model::predict_proba) applies it |
/// | Transpose, Squeeze, Unsqueeze, Reshape, Flatten, Concat, Slice, Gather, Identity, Cast, Dropout, and what computes shapes | nothing: they rearrange |
///
/// An image is `[batch, rows, columns · channels]` here, channels last. Where a file flattens it in another order, the columns of
/// the weights that follow are put into this one.
///
/// PyTorch's dynamo exporter writes an `nn.RNN` step by step, which is not read; `dynamo=False` writes the operator. tf2onnx
/// writes Keras's GRU and SimpleRNN as loops, which are not read either; `scripts/keras_to_bptt.py` converts these models.
///
/// What is not understood is an error that names it, all of it at once. Layers have the names of the nodes' scopes; stacked
/// layers become one layer each.
///
/// # Measured
/// The largest difference from what the maker computed, relative to max(1, |value|), in f32:
///
/// | made by | layers | models | largest difference | command |
/// |---|---|---|---|---|
/// | this crate's [`Export`](super::Export) | every kind that can be exported, but for `EmbedColumns` | 83 | none: the same bits | `cargo test --test onnx` |
/// | PyTorch 2.15, `dynamo=False` | embedding, LSTM, GRU, RNN, layer normalisation, linear | 13 | 3.3e-7 | `cargo test --test onnx -- --nocapture` |
/// | PyTorch 2.15, `dynamo=True` | the same, without RNN | 7 | 1.4e-7 | the same |
/// | PyTorch 2.15, four by each | convolution, batch normalisation, pool, LSTM, linear | 8 | 6.0e-8 | the same |
/// | PyTorch 2.15, five by each | images flattened, frequencies before steps, attention, residual connections and branches | 10 | 1.2e-7 | the same |
/// | the ONNX project's tests of LSTM, GRU and RNN | the operator, with lengths, biases, peepholes, both layouts | 15, and 3 refused: backwards only | 8.9e-8 | the same |
/// | single operators, by ONNX's reference | the operator, all of its steps | 7 | 1.2e-7 | the same |
/// | Keras 3.15 by tf2onnx 1.17 | embedding, convolution, batch normalisation, LSTM in one direction and both, pools, dense | 20, and 2 refused: GRU and SimpleRNN | 1.2e-7 | `python scripts/keras_onnx_check.py` |
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
        // What order the axes of the input have is said nowhere, but only one of them fits the layers.
        let mut best: Option<Faults> = None;
        for order in [Order::Samples, Order::Steps, Order::Channels] {
            match Reader::read(&file.graph, folder, self.steps, order) {
                Ok(reader) => return built(reader, &file),
                Err(faults) if best.as_ref().is_none_or(|best| faults.is_better(best)) => best = Some(faults),
                Err(_) => {}
            }
        }
        Err(best.map_or_else(String::new, |faults| faults.to_string()))
    }
}

/// The model that a reader found.
fn built<R: Real>(reader: Reader<'_>, file: &ModelProto) -> Result<Imported<R>, String> {
    build(reader, file).map_err(|e| format!("found a graph that makes no model: {e}"))
}

fn build<R: Real>(reader: Reader<'_>, file: &ModelProto) -> Result<Imported<R>> {
    let Links { layers, mean, sd, targets, .. } = reader.links;
    let mut builder = Model::<R>::builder(reader.input);
    for link in &layers {
        builder = builder.boxed(&link.name, link.layer());
    }
    if let Some(size) = mean.as_ref().or(sd.as_ref()).map(Vec::len) {
        let (mean, sd) = (mean.unwrap_or_else(|| vec![0.0; size]), sd.unwrap_or_else(|| vec![1.0; size]));
        builder = builder.normalize(Normalize::per_feature(mean, sd)?);
    }
    if let Some([mean, sd]) = targets {
        builder = builder.normalize_targets(Normalize::per_feature(mean, sd)?);
    }
    let classes = file.metadata_props.iter().find(|entry| entry.key == "classes");
    let classes: Option<Vec<String>> = classes.and_then(|entry| serde_json::from_str(&entry.value).ok());
    let mut model = builder.classes(classes.unwrap_or_default()).build(1)?;
    let mut params = model.params_mut();
    for (name, values) in layers.iter().flat_map(|link| link.tensors("")) {
        let mut to = params.get_mut(&name).ok_or_else(|| Error::config(&name, "found no such parameter"))?;
        if to.len() != values.len() {
            return Err(Error::mismatch(name, format!("{} values", values.len()), to.len()));
        }
        to.iter_mut().zip(values).for_each(|(to, &value)| *to = R::from_f64(value));
    }
    drop(params);
    Ok(Imported { model, notes: reader.notes })
}

/// What was not understood.
#[derive(Debug)]
struct Faults {
    list: Vec<String>,
    /// Whether it is the input, so that nothing else was read.
    of_input: bool,
}

impl Faults {
    /// Whether these are the ones to name, rather than `other`, of a more common order of the input's axes: there are fewer. An
    /// order that the input cannot have is never better, nor one that has the axes of a layer wrong.
    fn is_better(&self, other: &Self) -> bool {
        let axes = self.list.iter().any(|fault| fault.contains(AXES));
        !self.of_input && if other.of_input { !axes } else { self.list.len() < other.list.len() }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "found what this crate does not read: {}",
            self.list[..self.list.len().min(SHOWN)].join("; ")
        )?;
        match self.list.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
