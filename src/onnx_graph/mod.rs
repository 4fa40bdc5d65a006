//! What an export is written into: the graph of operators, and ONNX's messages. [`onnx`](crate::onnx) is the public module, which
//! also imports models, and so uses layers; these use what is here.

mod graph;
pub(crate) mod proto;

use serde::{Deserialize, Serialize};

pub(crate) use graph::Dimension;
pub use graph::{Attribute, Graph, Value};

/// The version of ONNX's operators.
pub const OPSET: i64 = 17;
/// The input with the length of each sequence.
const LENGTHS: &str = "lengths";
/// What the names of the constants by which the scale of targets is undone begin with.
pub(crate) const TARGETS: &str = "normalize_targets.";

/// What an exported graph has in addition to input and output.
///
/// # Source
/// ONNX 1.12 (opset 17), `docs/Operators.md` and `docs/IR.md` of the standard.
/// # Examples
/// ```
/// use bptt::onnx::Export;
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
///
/// let model: Model = Model::builder(Shape::new(28, 28))
///     .layer("lstm", Lstm::new(5).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let folder = std::env::temp_dir().join(format!("bptt-onnx-{}", std::process::id()));
/// std::fs::create_dir_all(&folder).unwrap();
/// model.export_onnx(folder.join("model.onnx"))?;
/// Export::new().states().write(&model, folder.join("stream.onnx"))?;
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    pub(crate) lengths: bool,
    pub(crate) states: bool,
}

impl Export {
    /// Only input and output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the input `lengths`: how many steps of each sequence count, 1 to T, as for a
    /// [dataset](crate::data::Dataset::length) with sequences of different lengths. Without it, all steps count.
    pub fn lengths(mut self) -> Self {
        self.lengths = true;
        self
    }

    /// Adds the initial states of recurrent layers as inputs and their final states as outputs, and leaves T open.
    pub fn states(mut self) -> Self {
        self.states = true;
        self
    }
}
