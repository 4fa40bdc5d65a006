//! Follows a graph from its input to its first output.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::Faults;
use super::axes::{self, Atom, Axis};
use super::links::Links;
use super::stage::{Stage, StageKind, Tensors};
use super::tensor::Tensor;
use crate::Shape;
use crate::error::shorten;
use crate::onnx_graph::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

/// What is known about a value of the graph.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Tensor(Rc<Tensor>),
    /// What a layer returns, or the input.
    Data(Data),
    /// Final states h of recurrent layers, `[pieces, batch, H]`.
    Pieces(Vec<Piece>, usize),
    /// One of them, `[batch, H]`.
    Piece(Piece, usize),
    /// All steps of one direction of a recurrent layer, whose axes and shape are otherwise as given.
    Direction(Box<Data>, usize),
    /// Softmax over the steps of the scores that a query gives them.
    Weights(Box<Weights>),
    /// The steps, each times the weight that this query gives it.
    Weighted(Box<Data>, Rc<Vec<f64>>),
    /// Sizes of axes; `None` is that of the batch.
    Sizes(Vec<Option<i64>>),
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
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Data {
    pub(super) axes: Vec<Axis>,
    /// As it is here.
    pub(super) shape: Shape,
    /// The stage that it comes from, as in [`Stage::from`].
    pub(super) at: usize,
    /// Whether it is the last step of the recurrent layer that made it.
    pub(super) last: bool,
}

/// The weights of steps.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) axes: Vec<Axis>,
    /// The stage that the steps come from.
    pub(super) at: usize,
    pub(super) query: Rc<Vec<f64>>,
}

/// The final state of a recurrent layer in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) stage: usize,
    pub(super) direction: usize,
}

/// What comes first among the axes of the input, which the file does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// Samples, then steps and features, or rows, columns and channels.
    Samples,
    /// Steps, then samples and features.
    Steps,
    /// Channels of a sample, then its rows and columns.
    Channels,
}

/// What was found on the way.
pub(super) struct Reader<'a> {
    values: HashMap<&'a str, Value>,
    pub(super) stages: Vec<Stage>,
    pub(super) input: Shape,
    /// Whether the input is whole numbers.
    pub(super) indices: bool,
    pub(super) links: Links,
    pub(super) notes: Vec<String>,
    faults: Vec<String>,
    /// The names of the layers.
    names: HashSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn read(
        graph: &'a GraphProto,
        folder: Option<&Path>,
        steps: Option<usize>,
        order: Order,
    ) -> Result<Self, Faults> {
        let mut reader = Self {
            values: HashMap::new(),
            stages: Vec::new(),
            input: Shape::new(0, 0),
            indices: false,
            links: Links::default(),
            notes: Vec::new(),
            faults: Vec::new(),
            names: HashSet::new(),
        };
        let faults = |fault: String| Faults { list: vec![fault], of_input: true };
        let output = graph.output.first().ok_or_else(|| faults("no output".into()))?;
        let needed = needed(graph, &output.name);
        for tensor in graph.initializer.iter().filter(|tensor| needed.contains(tensor.name.as_str())) {
            let value = match Tensor::read(tensor, folder) {
                Ok(tensor) => Value::Tensor(Rc::new(tensor)),
                Err(fault) => reader.fault(format!("tensor `{}`: {fault}", shorten(&tensor.name))),
            };
            reader.values.insert(&tensor.name, value);
        }
        reader.inputs(graph, steps, order).map_err(faults)?;
        for node in graph.node.iter().filter(|node| node.output.iter().any(|o| needed.contains(o.as_str()))) {
            reader.node(node);
        }
        let end = reader.value(&output.name);
        if let Err(fault) = reader.end(&end)
            && reader.faults.is_empty()
        {
            reader.fault(format!("output `{}`: {fault}", shorten(&output.name)));
        }
        match reader.faults.is_empty() {
            true => Ok(reader),
            false => Err(Faults { list: reader.faults, of_input: false }),
        }
    }

    fn fault(&mut self, fault: String) -> Value {
        self.faults.push(fault);
        Value::Failed
    }

    /// The first input is the data; others are states or lengths.
    fn inputs(&mut self, graph: &'a GraphProto, steps: Option<usize>, order: Order) -> Result<(), String> {
        // Old files list initializers among the inputs.
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
        let first = inputs.next().ok_or("no input")?;
        let (sizes, whole_numbers) =
            sizes(first).ok_or_else(|| format!("input `{}`", shorten(&first.name)))?;
        self.indices = whole_numbers;
        // Where samples, steps, columns and features are.
        let places = match (sizes.len(), whole_numbers, order) {
            (4, false, Order::Samples) => [Some(0), Some(1), Some(2), Some(3)],
            (4, false, Order::Channels) => [Some(0), Some(2), Some(3), Some(1)],
            (3, false, Order::Samples) => [Some(0), Some(1), None, Some(2)],
            (3, false, Order::Steps) => [Some(1), Some(0), None, Some(2)],
            (2, true, Order::Samples) => [Some(0), Some(1), None, None],
            (2, true, Order::Steps) => [Some(1), Some(0), None, None],
            (2, false, Order::Samples) => [Some(0), None, None, Some(1)],
            (n, ..) => return Err(format!("an input of {n} axes")),
        };
        let known = |place: Option<usize>| place.map_or(Some(1), |i| sizes[i]);
        let [_, t, columns, channels] = places.map(known);
        let t = steps.filter(|_| places[1].is_some()).or(t);
        let t = t.ok_or("an open number of steps: set it by `Import::steps`")?;
        let (columns, channels) = columns.zip(channels).ok_or("an open number of features")?;
        self.input = Shape::new(t, columns.checked_mul(channels).ok_or("too many features")?);
        self.input.check("input").map_err(|e| e.to_string())?;
        let mut axes = vec![Axis::new(); sizes.len()];
        let own = [
            vec![Atom::Batch(places[0].and_then(|i| sizes[i]))],
            axes::time(t),
            axes::features(columns, channels),
            axes::features(channels, 1),
        ];
        for (place, axis) in places.into_iter().zip(own) {
            place.into_iter().for_each(|i| axes[i].clone_from(&axis));
        }
        if order == Order::Channels && channels > 1 {
            self.notes.push(format!(
                "The input is [batch, {channels} channels, {t} rows, {columns} columns] in the file, and [batch, {t}, {columns} · \
                 {channels}], channels last, here."
            ));
        }
        self.values.insert(&first.name, Value::Data(Data { axes, shape: self.input, at: 0, last: false }));
        for input in inputs {
            self.values.insert(&input.name, Value::Input);
        }
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto) {
        let fits = |value: &Value| match value {
            Value::Data(data) => data.shape.check("output").map_err(|e| e.to_string()),
            _ => Ok(()),
        };
        let outputs =
            self.apply(node).and_then(|outputs| outputs.iter().try_for_each(fits).map(|()| outputs));
        let outputs = match outputs {
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
        let data = match value {
            Value::Data(data) => data.clone(),
            Value::Pieces(pieces, units) => self.last_step(pieces, *units, true)?,
            Value::Piece(piece, units) => self.last_step(&[*piece], *units, false)?,
            Value::Unusable(what) => return Err((*what).into()),
            Value::Failed => return Err(String::new()),
            other => return Err(format!("{} in place of data", other.what())),
        };
        match data.at.checked_sub(1).map(|i| &self.stages[i]) {
            Some(stage) if stage.within => {
                Err(format!("a use of `{}`, which is within a branch", stage.name))
            }
            Some(stage) if stage.kind == StageKind::Softmax => Err("a layer after a softmax".into()),
            _ => Ok(data),
        }
    }

    /// All directions of a recurrent layer's final state as data, with an axis of directions or without.
    fn last_step(&self, pieces: &[Piece], units: usize, directions: bool) -> Result<Data, String> {
        let stage = pieces.first().map_or(0, |piece| piece.stage);
        let count = match self.stages.get(stage).map(|stage| &stage.kind) {
            Some(StageKind::Recurrent { both, .. }) => 1 + usize::from(*both),
            _ => 0,
        };
        if !pieces.iter().copied().eq((0..count).map(|direction| Piece { stage, direction })) {
            return Err("final states other than all directions of one recurrent layer".into());
        }
        let mut axes = vec![vec![Atom::Batch(None)], axes::features(units, 1)];
        if directions {
            axes.insert(0, axes::features(count, units));
        }
        Ok(Data { axes, shape: Shape::new(1, count * units), at: stage + 1, last: true })
    }

    /// Both directions of a recurrent layer, side by side.
    pub(super) fn both(&self, pieces: &[Piece], units: usize) -> Result<Data, String> {
        let data = self.last_step(pieces, units, true)?;
        let axes = vec![vec![Atom::Batch(None)], axes::features(data.shape.f, 1)];
        Ok(Data { axes, ..data })
    }

    /// Appends a layer that takes `data`, and returns its output as if it had the same axes and shape.
    pub(super) fn push(
        &mut self,
        node: &NodeProto,
        data: Data,
        (kind, what): (StageKind, &str),
        tensors: Tensors,
    ) -> Result<Data, String> {
        self.settle(&data)?;
        let at = self.append(node, data.at, (kind, what), tensors);
        Ok(Data { at, last: false, ..data })
    }

    /// Appends a layer whose input is the output of `from`; returns where its own is, as in [`Stage::from`].
    pub(super) fn append(
        &mut self,
        node: &NodeProto,
        from: usize,
        (kind, what): (StageKind, &str),
        tensors: Tensors,
    ) -> usize {
        let name = self.layer_name(node, what);
        self.names.insert(name.clone());
        self.stages.push(Stage { name, kind, tensors, from, last: None, within: false });
        self.stages.len()
    }

    /// Notes whether a recurrent layer's last step is all that is used.
    pub(super) fn settle(&mut self, data: &Data) -> Result<(), String> {
        let Some(stage) = data.at.checked_sub(1).map(|i| &mut self.stages[i]) else { return Ok(()) };
        match *stage.last.get_or_insert(data.last) == data.last {
            true => Ok(()),
            false => Err(format!("both all steps and the final state of `{}` used", stage.name)),
        }
    }

    fn end(&mut self, value: &Value) -> Result<(), String> {
        let data = match value {
            Value::Data(data) => data.clone(),
            other => self.data(other)?,
        };
        // Steps, and features in the order that they have here.
        let mut features = data.axes.iter().flatten().filter(|atom| matches!(atom, Atom::Feature { .. }));
        let in_order = axes::order(&features.by_ref().copied().collect::<Vec<_>>());
        if !in_order.into_iter().eq(0..data.shape.f) {
            return Err(format!("the axes {}", axes::show(&data.axes)));
        }
        let split =
            data.axes.iter().filter(|axis| axis.iter().any(|a| matches!(a, Atom::Feature { .. }))).count();
        if split > 1 {
            let Shape { t, f } = data.shape;
            self.notes.push(format!(
                "The output is {} in the file, and [batch, {t}, {f}] here.",
                axes::show(&data.axes)
            ));
        }
        self.settle(&data)?;
        self.links = Links::new(&self.stages, data.at)?;
        if self.links.layers.is_empty() {
            return Err("no layer".into());
        }
        if self.links.softmax {
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
            Self::Direction(..) => "one direction of a recurrent layer",
            Self::Weights(_) | Self::Weighted(..) => "weights of steps",
            Self::Sizes(_) | Self::Shape => "something computed from shapes",
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
