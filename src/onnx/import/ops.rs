//! What each operator does to a value.

use std::rc::Rc;

use super::axes::{self, Axis, Kind, index};
use super::reader::{Data, Reader, Value, attribute, float, int};
use super::stage::{Stage, StageKind};
use super::tensor::Tensor;
use crate::onnx_graph::proto::NodeProto;

/// The operators that are read.
const KNOWN: [&str; 44] = [
    "LSTM",
    "GRU",
    "RNN",
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Relu",
    "Tanh",
    "Sigmoid",
    "Softmax",
    "LogSoftmax",
    "LayerNormalization",
    "Gather",
    "Slice",
    "Concat",
    "ReduceMean",
    "ReduceMax",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Flatten",
    "Identity",
    "Cast",
    "Dropout",
    "Constant",
    "ConstantOfShape",
    "Shape",
    "Expand",
    "Size",
    "Range",
    "Equal",
    "Less",
    "Where",
    "Min",
    "Max",
    "ReduceProd",
    "Floor",
    "Neg",
    "Split",
    "CastLike",
];

type Outcome = Result<Vec<Value>, String>;

impl Reader<'_> {
    /// The outputs of a node; an empty error if an input was not understood.
    pub(super) fn apply(&mut self, node: &NodeProto) -> Outcome {
        let op = node.op_type.as_str();
        if !KNOWN.contains(&op) || !["", "ai.onnx"].contains(&node.domain.as_str()) {
            return Err("an operator that is not read".into());
        }
        let inputs: Vec<Value> = node.input.iter().map(|name| self.value(name)).collect();
        if inputs.iter().any(|value| matches!(value, Value::Failed)) {
            return Err(String::new());
        }
        if inputs.is_empty() && op != "Constant" {
            return Err("no input".into());
        }
        let first = inputs.first().cloned().unwrap_or(Value::Absent);
        if matches!(op, "LSTM" | "GRU" | "RNN") {
            return self.recurrent(node, &inputs);
        }
        if let Some(value) = constant(node, &inputs)? {
            return Ok(vec![value]);
        }
        let one = |value: Value| Ok(vec![value]);
        match op {
            "Identity" | "Cast" | "CastLike" | "Dropout" => one(first),
            "Concat" => self.concat(node, &inputs),
            "Gather" => self.gather(node, &inputs),
            "Gemm" | "MatMul" => self.linear(node, &inputs),
            "Add" | "Sub" | "Div" => self.arithmetic(node, &inputs),
            "Relu" => self.plain(node, &first, StageKind::Relu),
            "Tanh" => self.plain(node, &first, StageKind::Tanh),
            "Sigmoid" => self.plain(node, &first, StageKind::Sigmoid),
            "LogSoftmax" | "Softmax" => self.softmax(node, &first),
            "LayerNormalization" => self.layer_norm(node, &inputs),
            "ReduceMean" | "ReduceMax" => self.pool(node, &inputs),
            "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => self.rearrange(node, &inputs),
            "Slice" => self.slice(node, &inputs),
            _ => Err(format!("{} in it", first.what())),
        }
    }

    fn rearrange(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let mut data = self.data(&inputs[0])?;
        let own = &data.axes;
        data.axes = match node.op_type.as_str() {
            "Transpose" => axes::transpose(own, attribute(node, "perm").map_or(&[][..], |perm| &perm.ints))?,
            "Squeeze" => axes::squeeze(own, &ints(node, "axes", inputs.get(1))?)?,
            "Unsqueeze" => axes::unsqueeze(own, &ints(node, "axes", inputs.get(1))?)?,
            "Flatten" if int(node, "axis", 1) == 1 => axes::reshape(own, &[0, -1])?,
            "Reshape" => axes::reshape(own, &ints(node, "shape", inputs.get(1))?)?,
            _ => return Err("an axis other than 1".into()),
        };
        Ok(vec![Value::Data(data)])
    }

    /// A layer that keeps the shape.
    fn plain(&mut self, node: &NodeProto, value: &Value, kind: StageKind) -> Outcome {
        let data = self.data(value)?;
        let features = features(&data)?;
        self.layer(node, data, (kind, features), Vec::new())
    }

    fn layer(
        &mut self,
        node: &NodeProto,
        data: Data,
        (kind, features): (StageKind, usize),
        tensors: Vec<(String, Vec<f64>)>,
    ) -> Outcome {
        let name = match kind {
            StageKind::Linear { .. } => "linear",
            StageKind::LayerNorm { .. } => "norm",
            StageKind::Embedding { .. } => "embedding",
            _ => "activation",
        };
        let stage = Stage { name: self.layer_name(node, name), kind, last: false, tensors };
        Ok(vec![Value::Data(self.push(data, stage, features)?)])
    }

    fn softmax(&mut self, node: &NodeProto, value: &Value) -> Outcome {
        let data = self.data(value)?;
        let axis = index(int(node, "axis", -1), data.axes.len())?;
        if data.axes[axis].kind != Kind::Feature {
            return Err("an axis other than that of the features".into());
        }
        if node.op_type == "LogSoftmax" {
            return self.plain(node, value, StageKind::LogSoftmax);
        }
        self.softmax = true;
        Ok(vec![Value::Data(data)])
    }

    fn linear(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let [x, weight, ..] = inputs else { return Err("too few inputs".into()) };
        let data = self.data(x)?;
        let mut weight = tensor(weight, "weights")?;
        if node.op_type == "Gemm" {
            let scaled = [float(node, "alpha", 1.0), float(node, "beta", 1.0)] != [1.0; 2];
            if scaled || int(node, "transA", 0) != 0 {
                return Err("alpha, beta or transA".into());
            }
        }
        if node.op_type == "MatMul" || int(node, "transB", 0) == 0 {
            weight = Rc::new(weight.transposed()?);
        }
        let [outputs, columns] = weight.dims[..] else {
            return Err(format!("weights of shape {:?}", weight.dims));
        };
        if features(&data)? != columns {
            return Err(format!("weights of shape {:?} for {} features", weight.dims, features(&data)?));
        }
        let mut tensors = vec![("weight".to_owned(), weight.values.clone())];
        let bias = match inputs.get(2) {
            None | Some(Value::Absent) => None,
            Some(bias) => Some(vector(bias, outputs)?),
        };
        let kind = StageKind::Linear { outputs, bias: bias.is_some() };
        tensors.extend(bias.map(|bias| ("bias".to_owned(), bias)));
        self.layer(node, data, (kind, outputs), tensors)
    }

    /// A bias after a product, or the normalisation of the input.
    fn arithmetic(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let [a, b] = inputs else { return Err("other than two inputs".into()) };
        let (x, constant) = match (a, b) {
            (Value::Tensor(_), x) if node.op_type == "Add" => (x, a),
            _ => (a, b),
        };
        let data = self.data(x)?;
        let size = features(&data)?;
        let values = vector(constant, size)?;
        match (node.op_type.as_str(), self.stages.last_mut()) {
            ("Add", Some(Stage { kind: StageKind::Linear { bias: bias @ false, .. }, tensors, .. })) => {
                *bias = true;
                tensors.push(("bias".into(), values));
            }
            ("Sub", None) if self.mean.is_none() && self.sd.is_none() => self.mean = Some(values),
            ("Div", None) if self.sd.is_none() => self.sd = Some(values),
            _ => {
                return Err(
                    "arithmetic other than a bias after a product, or a normalisation of the input".into()
                );
            }
        }
        Ok(vec![Value::Data(data)])
    }

    fn layer_norm(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let data = self.data(&inputs[0])?;
        let size = features(&data)?;
        let axis = index(int(node, "axis", -1), data.axes.len())?;
        if axis + 1 != data.axes.len() {
            return Err("an axis other than the last".into());
        }
        let scale = inputs.get(1).map_or(Ok(vec![1.0; size]), |scale| vector(scale, size))?;
        let shift = match inputs.get(2) {
            None | Some(Value::Absent) => vec![0.0; size],
            Some(shift) => vector(shift, size)?,
        };
        let affine = scale.iter().any(|&x| x != 1.0) || shift.iter().any(|&x| x != 0.0);
        // As decimal digits say it: 1e-5 in f32 is 1e-5 and not its neighbour in f64.
        let eps = float(node, "epsilon", 1e-5).to_string().parse().map_err(|e| format!("epsilon: {e}"))?;
        let tensors = match affine {
            true => vec![("weight".to_owned(), scale), ("bias".to_owned(), shift)],
            false => Vec::new(),
        };
        self.layer(node, data, (StageKind::LayerNorm { eps, affine }, size), tensors)
    }

    fn pool(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let data = self.data(&inputs[0])?;
        let over = ints(node, "axes", inputs.get(1))?;
        let [axis] = over[..] else { return Err(format!("axes {over:?}")) };
        let axis = index(axis, data.axes.len())?;
        let kind = if node.op_type == "ReduceMean" { StageKind::Mean } else { StageKind::Max };
        self.over_time(node, data, (axis, kind), int(node, "keepdims", 1) != 0)
    }

    /// Pools over the axis of time, and removes it or leaves it with one step.
    fn over_time(
        &mut self,
        node: &NodeProto,
        data: Data,
        (axis, kind): (usize, StageKind),
        keep: bool,
    ) -> Outcome {
        let own = data.axes[axis];
        let mut out = if own.is_idle() {
            data
        } else if own.kind == Kind::Time {
            let features = features(&data)?;
            let stage = Stage { name: self.layer_name(node, "pool"), kind, last: false, tensors: Vec::new() };
            self.push(data, stage, features)?
        } else {
            return Err(format!("the axis {own:?} reduced"));
        };
        if keep {
            out.axes[axis] = Axis::new(Kind::Time, 1);
        } else {
            out.axes.remove(axis);
        }
        Ok(vec![Value::Data(out)])
    }

    fn gather(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let [from, at] = inputs else { return Err("other than two inputs".into()) };
        let axis = int(node, "axis", 0);
        match (from, at) {
            (Value::Tensor(table), Value::Data(_)) if axis == 0 => {
                let mut data = self.data(at)?;
                let [rows, width] = table.dims[..] else {
                    return Err(format!("a table of shape {:?}", table.dims));
                };
                data.axes.push(Axis::new(Kind::Feature, 1));
                let tensors = vec![("weight".to_owned(), table.values.clone())];
                self.layer(node, data, (StageKind::Embedding { rows, width }, width), tensors)
            }
            (Value::Pieces(pieces, units), Value::Tensor(at)) if axis == 0 && at.values.len() == 1 => {
                let piece = pieces[index(at.ints()[0], pieces.len())?];
                match at.dims.len() {
                    0 => Ok(vec![Value::Piece(piece, *units)]),
                    _ => Ok(vec![Value::Pieces(vec![piece], *units)]),
                }
            }
            (_, Value::Tensor(at)) if at.dims.is_empty() && at.values.len() == 1 => {
                let mut data = self.data(from)?;
                let axis = index(axis, data.axes.len())?;
                let own = data.axes[axis];
                let last = |size: usize| at.ints()[0].saturating_add(1) == size as i64 || at.ints()[0] == -1;
                if own.size == Some(1) && own.kind != Kind::Batch {
                    data.axes.remove(axis);
                    return Ok(vec![Value::Data(data)]);
                }
                if !last(own.size.unwrap_or(0)) {
                    return Err(format!("element {} of the axis {own:?}", at.ints()[0]));
                }
                self.over_time(node, data, (axis, StageKind::LastStep), false)
            }
            _ => Err(format!("{} at {}", from.what(), at.what())),
        }
    }

    fn slice(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let starts = ints(node, "starts", inputs.get(1))?;
        let ends = ints(node, "ends", inputs.get(2))?;
        let axes = ints(node, "axes", inputs.get(3)).unwrap_or_else(|_| (0..starts.len() as i64).collect());
        let steps = ints(node, "steps", inputs.get(4)).unwrap_or_else(|_| vec![1; starts.len()]);
        let ([start], [end], [axis], [1]) = (&starts[..], &ends[..], &axes[..], &steps[..]) else {
            return Err("other than a range of one axis".into());
        };
        if let (Value::Pieces(pieces, units), 0) = (&inputs[0], *axis) {
            let count = pieces.len() as i64;
            let place = |at: i64| (if at < 0 { at + count } else { at }).clamp(0, count) as usize;
            let part = pieces.get(place(*start)..place(*end)).unwrap_or_default();
            return Ok(vec![Value::Pieces(part.to_vec(), *units)]);
        }
        let data = self.data(&inputs[0])?;
        let axis = index(*axis, data.axes.len())?;
        let size = data.axes[axis].size.map_or(i64::MAX, |size| size as i64);
        match (*start, *end) {
            (0, end) if end >= size => Ok(vec![Value::Data(data)]),
            (start, end) if (start == -1 || start == size - 1) && end >= size => {
                self.over_time(node, data, (axis, StageKind::LastStep), true)
            }
            _ => Err(format!("the range {start} to {end} of the axis {:?}", data.axes[axis])),
        }
    }

    /// Final states joined: those of several layers, or of both directions of one.
    fn concat(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let (mut pieces, mut units, mut whole) = (Vec::new(), 0, true);
        for value in inputs {
            match value {
                Value::Pieces(own, size) => (units, _) = (*size, pieces.extend(own)),
                Value::Piece(piece, size) => {
                    whole = false;
                    (units, _) = (*size, pieces.push(*piece));
                }
                other => return Err(format!("{} joined with others: a branch", other.what())),
            }
        }
        let axis = int(node, "axis", 0);
        match whole {
            true if axis == 0 => Ok(vec![Value::Pieces(pieces, units)]),
            false if axis == 1 || axis == -1 => Ok(vec![Value::Data(self.both(&pieces, units)?)]),
            _ => Err(format!("final states joined along axis {axis}")),
        }
    }
}

/// What a node makes that depends on no data; `None` if it depends on them.
fn constant(node: &NodeProto, inputs: &[Value]) -> Result<Option<Value>, String> {
    let any = |which: fn(&Value) -> bool| inputs.iter().any(which);
    let op = node.op_type.as_str();
    if op == "Constant" {
        return constant_of(node).map(Some);
    }
    if op == "ConstantOfShape" {
        let zero = match attribute(node, "value").and_then(|value| value.t.as_ref()) {
            Some(value) => Tensor::read(value, None)?.is_zero(),
            None => true,
        };
        return Ok(Some(if zero { Value::Zeros } else { Value::Shape }));
    }
    if matches!(op, "Shape" | "Size") {
        return Ok(Some(Value::Shape));
    }
    let zeros =
        |value: &Value| matches!(value, Value::Zeros) || matches!(value, Value::Tensor(t) if t.is_zero());
    if op == "Expand" && inputs.first().is_some_and(zeros) {
        return Ok(Some(Value::Zeros));
    }
    if any(|value| {
        matches!(value, Value::Data(_) | Value::Pieces(..) | Value::Piece(..) | Value::Unusable(_))
    }) {
        return Ok(None);
    }
    if any(|value| matches!(value, Value::Zeros)) && !matches!(op, "Add" | "Sub" | "Where" | "Equal" | "Less")
    {
        return Ok(Some(Value::Zeros));
    }
    if any(|value| matches!(value, Value::Input)) {
        return Ok(Some(Value::Input));
    }
    if any(|value| matches!(value, Value::Shape)) {
        return Ok(Some(Value::Shape));
    }
    fold(node, inputs).map(|tensor| Some(Value::Tensor(Rc::new(tensor))))
}

/// The value of a node of constants.
fn fold(node: &NodeProto, inputs: &[Value]) -> Result<Tensor, String> {
    let first = tensor(inputs.first().unwrap_or(&Value::Absent), "input")?;
    let which = || ints(node, "axes", inputs.get(1));
    match node.op_type.as_str() {
        "Identity" | "Cast" => Ok(Tensor::clone(&first)),
        "Transpose" => first.transposed(),
        "Squeeze" | "Unsqueeze" | "Reshape" => {
            let dims = match node.op_type.as_str() {
                "Reshape" => {
                    let shape = ints(node, "shape", inputs.get(1))?;
                    let sizes =
                        shape.iter().filter_map(|&size| usize::try_from(size).ok().filter(|&size| size > 0));
                    let known = sizes.fold(1_usize, usize::saturating_mul);
                    let open = first.values.len().checked_div(known).unwrap_or(0);
                    shape.iter().map(|&size| usize::try_from(size).unwrap_or(open)).collect()
                }
                "Squeeze" => first.dims.iter().copied().filter(|&size| size != 1).collect(),
                _ => {
                    let mut dims = first.dims.clone();
                    for axis in which()? {
                        dims.insert(index(axis, dims.len() + 1)?, 1);
                    }
                    dims
                }
            };
            let size = dims.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
            if size != Some(first.values.len()) {
                return Err(format!("{dims:?} made of {:?}", first.dims));
            }
            Ok(first.with_dims(dims))
        }
        "Concat" => {
            let parts = inputs.iter().map(|value| tensor(value, "part")).collect::<Result<Vec<_>, _>>()?;
            if parts.iter().any(|part| part.dims.len() != 1) {
                return Err("constants of several axes joined".into());
            }
            Ok(Tensor::vector(parts.iter().flat_map(|part| part.values.iter().copied()).collect()))
        }
        _ => Err("constants only: fold them before the import".into()),
    }
}

fn constant_of(node: &NodeProto) -> Result<Value, String> {
    let vector = |values: Vec<f64>| Ok(Value::Tensor(Rc::new(Tensor::vector(values))));
    let [attribute] = &node.attribute[..] else { return Err("other than one attribute".into()) };
    match (attribute.name.as_str(), &attribute.t) {
        ("value", Some(value)) => Ok(Value::Tensor(Rc::new(Tensor::read(value, None)?))),
        ("value_ints", _) => vector(attribute.ints.iter().map(|&x| x as f64).collect()),
        ("value_int", _) => {
            let values = vec![attribute.i.unwrap_or(0) as f64];
            Ok(Value::Tensor(Rc::new(Tensor { dims: Vec::new(), values })))
        }
        ("value_float", _) => {
            let values = vec![f64::from(attribute.f.unwrap_or(0.0))];
            Ok(Value::Tensor(Rc::new(Tensor { dims: Vec::new(), values })))
        }
        (other, _) => Err(format!("the attribute `{other}`")),
    }
}

/// Whole numbers that are an attribute, or in newer opsets a constant input.
fn ints(node: &NodeProto, name: &str, input: Option<&Value>) -> Result<Vec<i64>, String> {
    match (attribute(node, name), input) {
        (Some(attribute), _) => Ok(attribute.ints.clone()),
        (None, Some(Value::Tensor(tensor))) => Ok(tensor.ints()),
        (None, found) => {
            Err(format!("`{name}` is {}, expected a constant", found.map_or("nothing", Value::what)))
        }
    }
}

pub(super) fn tensor(value: &Value, what: &str) -> Result<Rc<Tensor>, String> {
    match value {
        Value::Tensor(tensor) => Ok(Rc::clone(tensor)),
        other => Err(format!("{what}: {}, expected a constant", other.what())),
    }
}

/// A constant for each of `size` features; one number is repeated.
fn vector(value: &Value, size: usize) -> Result<Vec<f64>, String> {
    let tensor = tensor(value, "operand")?;
    let outer = tensor.dims.split_last().is_none_or(|(_, outer)| outer.iter().all(|&size| size == 1));
    match tensor.values.len() {
        1 => Ok(vec![tensor.values[0]; size]),
        n if n == size && outer => Ok(tensor.values.clone()),
        _ => Err(format!("a constant of shape {:?} for {size} features", tensor.dims)),
    }
}

/// The size of the last axis, which holds the features.
pub(super) fn features(data: &Data) -> Result<usize, String> {
    match data.axes.last() {
        Some(Axis { kind: Kind::Feature, size: Some(size) }) => Ok(*size),
        _ => Err(format!("features that are not the last axis: {:?}", data.axes)),
    }
}
