//! Follows a graph from its input to its first output.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::Faults;
use super::axes::{Axis, Kind};
use super::stage::{Stage, StageKind};
use super::tensor::Tensor;
use crate::Shape;
use crate::error::shorten;
use crate::onnx_graph::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

/// What is known about a value of the graph.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Tensor(Rc<Tensor>),
    /// The output of the layers so far.
    Data(Data),
    /// Final states h of recurrent layers, `[pieces, batch, H]`.
    Pieces(Vec<Piece>, usize),
    /// One of them, `[batch, H]`.
    Piece(Piece, usize),
    /// Computed from shapes.
    Shape,
    /// Zeros, of whatever shape.
    Zeros,
    /// Another input of the graph, or something made of one: states and lengths.
    Input,
    /// What cannot be used, and why.
    Unusable(&'static str),
    /// What came out of a node that was not understood.
    Failed,
    Absent,
}

/// A value that flows through the layers.
#[derive(Clone, Debug)]
pub(super) struct Data {
    pub(super) axes: Vec<Axis>,
    /// How many layers it has passed.
    pub(super) at: usize,
    /// Whether it is the last step of the recurrent layer that made it.
    pub(super) last: bool,
}

/// The final state of a recurrent layer in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) stage: usize,
    pub(super) direction: usize,
}

/// What was found on the way.
pub(super) struct Reader<'a> {
    values: HashMap<&'a str, Value>,
    pub(super) stages: Vec<Stage>,
    pub(super) input: Shape,
    pub(super) mean: Option<Vec<f64>>,
    pub(super) sd: Option<Vec<f64>>,
    pub(super) notes: Vec<String>,
    /// Whether a softmax was the last operator.
    pub(super) softmax: bool,
    faults: Vec<String>,
    /// The names of the layers.
    names: HashSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn read(
        graph: &'a GraphProto,
        folder: Option<&Path>,
        steps: Option<usize>,
        time_first: bool,
    ) -> Result<Self, Faults> {
        let mut reader = Self {
            values: HashMap::new(),
            stages: Vec::new(),
            input: Shape::new(0, 0),
            mean: None,
            sd: None,
            notes: Vec::new(),
            softmax: false,
            faults: Vec::new(),
            names: HashSet::new(),
        };
        let Some(output) = graph.output.first() else { return Err(Faults(vec!["no output".into()])) };
        let needed = needed(graph, &output.name);
        for tensor in graph.initializer.iter().filter(|tensor| needed.contains(tensor.name.as_str())) {
            let value = match Tensor::read(tensor, folder) {
                Ok(tensor) => Value::Tensor(Rc::new(tensor)),
                Err(fault) => reader.fault(format!("tensor `{}`: {fault}", shorten(&tensor.name))),
            };
            reader.values.insert(&tensor.name, value);
        }
        if let Err(fault) = reader.inputs(graph, steps, time_first) {
            return Err(Faults(vec![fault]));
        }
        for node in graph.node.iter().filter(|node| node.output.iter().any(|o| needed.contains(o.as_str()))) {
            reader.node(node);
        }
        let end = reader.value(&output.name);
        if let Err(fault) = reader.end(&end)
            && reader.faults.is_empty()
        {
            reader.fault(format!("output `{}`: {fault}", shorten(&output.name)));
        }
        if reader.faults.is_empty() { Ok(reader) } else { Err(Faults(reader.faults)) }
    }

    fn fault(&mut self, fault: String) -> Value {
        self.faults.push(fault);
        Value::Failed
    }

    /// The first input is the data; others are states or lengths.
    fn inputs(
        &mut self,
        graph: &'a GraphProto,
        steps: Option<usize>,
        time_first: bool,
    ) -> Result<(), String> {
        // Old files list initializers among the inputs.
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
        let first = inputs.next().ok_or("no input")?;
        let (sizes, whole_numbers) =
            sizes(first).ok_or_else(|| format!("input `{}`", shorten(&first.name)))?;
        let [batch, time] = if time_first { [1, 0] } else { [0, 1] };
        let (t, features) = match (sizes.len(), whole_numbers) {
            (3, false) => (sizes[time], sizes[2]),
            (2, true) => (sizes[time], Some(1)),
            (2, false) => (Some(1), sizes[1]),
            _ => return Err(format!("an input of {} axes", sizes.len())),
        };
        let t = steps.or(t).ok_or("an open number of steps: set it by `Import::steps`")?;
        let features = features.ok_or("an open number of features")?;
        self.input = Shape::new(t, features);
        let mut axes =
            vec![Axis::new(Kind::Batch, sizes[if sizes.len() == 2 && !whole_numbers { 0 } else { batch }])];
        if sizes.len() == 3 || whole_numbers {
            axes.insert(time, Axis::new(Kind::Time, t));
        }
        if !whole_numbers {
            axes.push(Axis::new(Kind::Feature, features));
        }
        self.values.insert(&first.name, Value::Data(Data { axes, at: 0, last: false }));
        for input in inputs {
            self.values.insert(&input.name, Value::Input);
        }
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto) {
        let outputs = match self.apply(node) {
            Ok(outputs) => outputs,
            Err(fault) => {
                if !fault.is_empty() {
                    self.fault(format!("{} `{}`: {fault}", shorten(&node.op_type), shorten(&node.name)));
                }
                vec![Value::Failed; node.output.len()]
            }
        };
        let missing = std::iter::repeat(Value::Unusable("an output that is not read"));
        for (name, value) in node.output.iter().zip(outputs.into_iter().chain(missing)) {
            self.values.insert(name, value);
        }
    }

    pub(super) fn value(&self, name: &str) -> Value {
        match name {
            "" => Value::Absent,
            name => {
                self.values.get(name).cloned().unwrap_or(Value::Unusable("a value that nothing computes"))
            }
        }
    }

    /// The value as data that the next layer can take.
    pub(super) fn data(&self, value: &Value) -> Result<Data, String> {
        match value {
            Value::Data(data) if data.at == self.stages.len() => Ok(data.clone()),
            Value::Data(_) => Err("a branch: the value was used by an earlier layer, too".into()),
            Value::Pieces(pieces, units) => self.last_step(pieces, *units, true),
            Value::Piece(piece, units) => self.last_step(&[*piece], *units, false),
            Value::Unusable(what) => Err((*what).into()),
            Value::Failed => Err(String::new()),
            other => Err(format!("{} in place of data", other.what())),
        }
    }

    /// All directions of the newest layer's final state as data, with an axis of directions or without.
    fn last_step(&self, pieces: &[Piece], units: usize, directions: bool) -> Result<Data, String> {
        let stage = self.stages.len().wrapping_sub(1);
        let count = match self.stages.last().map(|stage| stage.kind) {
            Some(StageKind::Recurrent { both, .. }) => 1 + usize::from(both),
            _ => 0,
        };
        if !pieces.iter().copied().eq((0..count).map(|direction| Piece { stage, direction })) {
            return Err("final states other than all directions of the last recurrent layer".into());
        }
        let mut axes = vec![Axis::new(Kind::Batch, None), Axis::new(Kind::Feature, units)];
        if directions {
            axes.insert(0, Axis::new(Kind::Direction, count));
        }
        Ok(Data { axes, at: self.stages.len(), last: true })
    }

    /// Both directions of the newest layer, side by side.
    pub(super) fn both(&self, pieces: &[Piece], units: usize) -> Result<Data, String> {
        self.last_step(pieces, units, true)?;
        let axes = vec![Axis::new(Kind::Batch, None), Axis::new(Kind::Feature, pieces.len() * units)];
        Ok(Data { axes, at: self.stages.len(), last: true })
    }

    /// Appends a layer that takes `data`; its output has `features` features, which come last.
    pub(super) fn push(&mut self, data: Data, stage: Stage, features: usize) -> Result<Data, String> {
        let Data { mut axes, last, .. } = data;
        match axes.last_mut() {
            Some(axis) if axis.kind == Kind::Feature => axis.size = Some(features),
            _ => return Err(format!("features that are not the last axis: {axes:?}")),
        }
        if self.softmax {
            return Err("a layer after a softmax".into());
        }
        self.settle(last);
        self.names.insert(stage.name.clone());
        self.stages.push(stage);
        Ok(Data { axes, at: self.stages.len(), last: false })
    }

    /// Notes whether the newest layer's last step is all that is used.
    pub(super) fn settle(&mut self, last: bool) {
        if let Some(stage) = self.stages.last_mut() {
            stage.last |= last;
        }
    }

    fn end(&mut self, value: &Value) -> Result<(), String> {
        let data = self.data(value)?;
        if data.axes.last().is_none_or(|axis| axis.kind != Kind::Feature)
            || data.axes.iter().filter(|axis| axis.kind == Kind::Direction && axis.size != Some(1)).count()
                > 0
        {
            return Err(format!("the axes {:?}", data.axes));
        }
        self.settle(data.last);
        if self.stages.is_empty() {
            return Err("no layer".into());
        }
        if self.softmax {
            self.notes.push("The softmax at the end is left out: `predict_proba` applies it.".into());
        }
        Ok(())
    }

    /// A name for a layer: the scope of its node, or what it is.
    pub(super) fn layer_name(&self, node: &NodeProto, kind: &str) -> String {
        let parts: Vec<&str> = node.name.split('/').filter(|part| !part.is_empty()).collect();
        let scope = parts[..parts.len().saturating_sub(1)].join("_");
        let plain: String = scope
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
            .take(64)
            .collect();
        let base = if plain.is_empty() { kind } else { &plain };
        let (mut name, mut number) = (base.to_owned(), self.stages.len());
        while self.names.contains(&name) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }
}

impl Value {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "a constant",
            Self::Data(_) => "data",
            Self::Pieces(..) | Self::Piece(..) => "a final state",
            Self::Shape => "something computed from shapes",
            Self::Zeros => "zeros",
            Self::Input => "another input of the graph",
            Self::Unusable(what) => what,
            Self::Failed => "what was not understood",
            Self::Absent => "nothing",
        }
    }
}

/// The names that a value is computed from, itself included.
fn needed<'a>(graph: &'a GraphProto, output: &'a str) -> HashSet<&'a str> {
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &graph.node {
        makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), node)));
    }
    let (mut needed, mut open) = (HashSet::new(), vec![output]);
    while let Some(name) = open.pop() {
        if needed.insert(name)
            && let Some(node) = makers.get(name)
        {
            open.extend(node.input.iter().map(String::as_str));
        }
    }
    needed
}

/// The sizes of an input's axes, and whether it holds whole numbers; `None` if it holds neither these nor numbers.
fn sizes(input: &ValueInfoProto) -> Option<(Vec<Option<usize>>, bool)> {
    let tensor = input.r#type.as_ref()?.tensor_type.as_ref()?;
    let whole_numbers = match tensor.elem_type {
        1 | 10 | 11 | 16 => false,
        6 | 7 => true,
        _ => return None,
    };
    let size =
        |value: Option<i64>| value.and_then(|value| usize::try_from(value).ok()).filter(|&size| size > 0);
    let dims = &tensor.shape.as_ref()?.dim;
    Some((dims.iter().map(|dim| size(dim.dim_value)).collect(), whole_numbers))
}

/// An attribute of a node.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|attribute| attribute.i).unwrap_or(default)
}

pub(super) fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    attribute(node, name).and_then(|attribute| attribute.f).unwrap_or(default)
}
