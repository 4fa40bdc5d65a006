//! What each operator does to a value.

use super::axes::{self, Atom, index};
use super::fold::{constant, ints, tensor};
use super::reader::{Data, Reader, Value, Weights, attribute, float, int};
use super::stage::{Operation, StageKind};
use super::tensor::{Tensor, moved};
use crate::onnx_graph::TARGETS;
use crate::onnx_graph::proto::NodeProto;

/// The operators that are read, of which those of the second line only compute constants, shapes and zeros.
const KNOWN: &str = " LSTM GRU RNN Gemm MatMul Add Sub Mul Div Sum Relu Tanh Sigmoid Softmax LogSoftmax LayerNormalization \
     Conv BatchNormalization MaxPool AveragePool GlobalMaxPool GlobalAveragePool Pad ReduceMean ReduceMax ReduceSum Gather Slice \
     Concat Transpose Squeeze Unsqueeze Reshape Flatten Identity Cast CastLike Dropout \
     Constant ConstantOfShape Shape Expand Size Range Equal Less Not Where Min Max ReduceProd Floor Neg Split ";

pub(super) type Outcome = Result<Vec<Value>, String>;

impl Reader<'_> {
    /// The outputs of a node; an empty error if an input was not understood.
    pub(super) fn apply(&mut self, node: &NodeProto) -> Outcome {
        let op = node.op_type.as_str();
        let known = !op.is_empty() && KNOWN.contains(&format!(" {op} "));
        if !known || !["", "ai.onnx"].contains(&node.domain.as_str()) {
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
        match op {
            "Identity" | "Cast" | "CastLike" | "Dropout" => Ok(vec![first]),
            "Concat" => self.concat(node, &inputs),
            "Gather" => self.gather(node, &inputs),
            "Gemm" | "MatMul" => self.linear(node, &inputs),
            "Sum" => self.sum(node, &inputs),
            "Add" => self.arithmetic(node, &inputs, Operation::Add),
            "Sub" => self.arithmetic(node, &inputs, Operation::Sub),
            "Mul" => self.arithmetic(node, &inputs, Operation::Mul),
            "Div" => self.arithmetic(node, &inputs, Operation::Div),
            "Relu" => self.plain(node, &first, StageKind::Relu),
            "Tanh" => self.plain(node, &first, StageKind::Tanh),
            "Sigmoid" => self.plain(node, &first, StageKind::Sigmoid),
            "LogSoftmax" | "Softmax" => self.softmax(node, &first),
            "LayerNormalization" => self.layer_norm(node, &inputs),
            "Conv" => self.conv(node, &inputs),
            "BatchNormalization" => self.batch_norm(node, &inputs),
            "MaxPool" | "AveragePool" => self.pool_windows(node, &first),
            "GlobalMaxPool" | "GlobalAveragePool" => self.pool_all(node, &first),
            "Pad" => self.pad(node, &inputs),
            "ReduceMean" | "ReduceMax" | "ReduceSum" => self.reduce(node, &inputs),
            "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => self.rearrange(node, &inputs),
            "Slice" => self.slice(node, &inputs),
            "Less" if self.is_negative_index(&inputs) => Ok(vec![Value::Zeros]),
            _ => Err(format!("{} in it", first.what())),
        }
    }

    /// Whether it is asked for indices below 0, which count from the end elsewhere, and which no model here takes.
    fn is_negative_index(&self, inputs: &[Value]) -> bool {
        match inputs {
            [Value::Data(data), Value::Tensor(zero)] => self.indices && data.at == 0 && zero.is_zero(),
            _ => false,
        }
    }

    fn rearrange(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let own = |own: &[axes::Axis]| match node.op_type.as_str() {
            "Transpose" => axes::transpose(own, attribute(node, "perm").map_or(&[][..], |perm| &perm.ints)),
            "Squeeze" => axes::squeeze(own, &ints(node, "axes", inputs.get(1))?),
            "Unsqueeze" => axes::unsqueeze(own, &ints(node, "axes", inputs.get(1))?),
            "Flatten" => {
                let axis = index(int(node, "axis", 1), own.len())?;
                Ok(axes::merge(&axes::merge(own, axis, own.len()), 0, axis))
            }
            _ => {
                let shape = ints(node, "shape", inputs.get(1))?;
                if int(node, "allowzero", 0) != 0 && shape.contains(&0) {
                    return Err("an axis of size 0".into());
                }
                axes::reshape(own, &shape)
            }
        };
        match &inputs[0] {
            Value::Weights(weights) => {
                let axes = own(&weights.axes)?;
                return Ok(vec![Value::Weights(Box::new(Weights { axes, ..Weights::clone(weights) }))]);
            }
            Value::Direction(data, direction) => {
                let axes = own(&data.axes)?;
                let data = Data { axes, ..Data::clone(data) };
                return Ok(vec![Value::Direction(Box::new(data), *direction)]);
            }
            Value::Pieces(pieces, units) if pieces.len() == 1 && node.op_type == "Squeeze" => {
                return match ints(node, "axes", inputs.get(1))?[..] {
                    [0] => Ok(vec![Value::Piece(pieces[0], *units)]),
                    _ => Err("an axis of a final state removed".into()),
                };
            }
            _ => {}
        }
        let data = self.data(&inputs[0])?;
        Ok(vec![Value::Data(Data { axes: own(&data.axes)?, ..data })])
    }

    /// A layer that works on each value alone, or on a step in any order.
    fn plain(&mut self, node: &NodeProto, value: &Value, kind: StageKind) -> Outcome {
        let data = self.data(value)?;
        Ok(vec![Value::Data(self.push(node, data, (kind, "activation"), Vec::new())?)])
    }

    fn softmax(&mut self, node: &NodeProto, value: &Value) -> Outcome {
        let data = self.data(value)?;
        let axis = index(int(node, "axis", -1), data.axes.len())?;
        let over_steps = match data.axes[axis][..] {
            [Atom::Time(_)] => true,
            [] => axis + 1 != data.axes.len(),
            _ => false,
        };
        if over_steps && node.op_type == "Softmax" {
            return self.weights(data);
        }
        let data = self.arranged(node, data, axis)?;
        let kind = match node.op_type.as_str() {
            "LogSoftmax" => StageKind::LogSoftmax,
            _ => StageKind::Softmax,
        };
        Ok(vec![Value::Data(self.push(node, data, (kind, "softmax"), Vec::new())?)])
    }

    fn linear(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let [x, weight, ..] = inputs else { return Err("too few inputs".into()) };
        if let Value::Weights(weights) = x {
            return self.attend(node, weights, weight);
        }
        let (data, mut weight) = (self.data(x)?, Tensor::clone(&*tensor(weight, "weights")?));
        let whole = weight.dims.len() == 2;
        if weight.dims.len() == 1 {
            weight.dims.insert(0, 1);
        } else if node.op_type == "MatMul" || int(node, "transB", 0) == 0 {
            weight = weight.transposed(&[])?;
        }
        if node.op_type == "Gemm" {
            let scaled = [float(node, "alpha", 1.0), float(node, "beta", 1.0)] != [1.0; 2];
            if scaled || int(node, "transA", 0) != 0 || !whole || data.axes.len() != 2 {
                return Err("alpha, beta, transA, or other than two axes".into());
            }
        }
        let last = data.axes.len().checked_sub(1).ok_or("a number alone")?;
        let mut data = self.arranged(node, data, last)?;
        let [outputs, columns] = weight.dims[..] else {
            return Err(format!("weights of shape {:?}", weight.dims));
        };
        if data.shape.f != columns || outputs == 0 {
            return Err(format!("weights of shape {:?} for {} features", weight.dims, data.shape.f));
        }
        let order = axes::order(&data.axes[last]);
        let mut tensors = vec![("weight".to_owned(), moved(&weight.values, &order, 1))];
        let bias = match inputs.get(2) {
            None | Some(Value::Absent) => None,
            Some(bias) => Some(vector(bias, outputs)?),
        };
        let kind = StageKind::Linear { outputs, bias: bias.is_some() };
        tensors.extend(bias.map(|bias| ("bias".to_owned(), bias)));
        data = self.push(node, data, (kind, "linear"), tensors)?;
        data.shape.f = outputs;
        data.axes[last] = axes::features(outputs, 1);
        if !whole {
            data.axes.pop();
        }
        Ok(vec![Value::Data(data)])
    }

    /// Arithmetic with constants; the sum of two values; steps times their weights.
    fn arithmetic(&mut self, node: &NodeProto, inputs: &[Value], operation: Operation) -> Outcome {
        let (x, by) = match (inputs, operation) {
            ([x, Value::Tensor(by)], _) | ([Value::Tensor(by), x], Operation::Add | Operation::Mul) => {
                (x, by)
            }
            ([Value::Weights(weights), x] | [x, Value::Weights(weights)], Operation::Mul) => {
                return self.weighted(weights, x);
            }
            ([Value::Zeros, x] | [x, Value::Zeros], Operation::Add) => return Ok(vec![x.clone()]),
            ([Value::Zeros, _] | [_, Value::Zeros], Operation::Mul) => return Ok(vec![Value::Zeros]),
            ([_, _], Operation::Add) => return self.sum(node, inputs),
            ([a, b], _) => return Err(format!("{} with {}", a.what(), b.what())),
            _ => return Err("other than two inputs".into()),
        };
        let data = self.data(x)?;
        let nothing = if matches!(operation, Operation::Add | Operation::Sub) { 0.0 } else { 1.0 };
        let by = per_feature(&data, by)?;
        // What our own exports undo at the end has names, so that it is told from another scale.
        let own = node.input.iter().any(|name| name.starts_with(TARGETS));
        if !own && by.iter().all(|&by| by == nothing) {
            return Ok(vec![Value::Data(data)]);
        }
        let tensors = vec![(if own { TARGETS } else { "by" }.to_owned(), by)];
        let data = self.push(node, data, (StageKind::Arithmetic(operation), "scale"), tensors)?;
        Ok(vec![Value::Data(data)])
    }

    fn layer_norm(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let data = self.data(&inputs[0])?;
        let axis = index(int(node, "axis", -1), data.axes.len())?;
        if axis + 1 != data.axes.len() {
            return Err("an axis other than the last".into());
        }
        let data = self.arranged(node, data, axis)?;
        let (size, order) = (data.shape.f, axes::order(&data.axes[axis]));
        let scale = inputs.get(1).map_or(Ok(vec![1.0; size]), |scale| vector(scale, size))?;
        let shift = match inputs.get(2) {
            None | Some(Value::Absent) => vec![0.0; size],
            Some(shift) => vector(shift, size)?,
        };
        let affine = scale.iter().any(|&x| x != 1.0) || shift.iter().any(|&x| x != 0.0);
        let eps = decimal(float(node, "epsilon", 1e-5));
        let tensors = match affine {
            true => vec![
                ("weight".to_owned(), moved(&scale, &order, 1)),
                ("bias".to_owned(), moved(&shift, &order, 1)),
            ],
            false => Vec::new(),
        };
        Ok(vec![Value::Data(self.push(
            node,
            data,
            (StageKind::LayerNorm { eps, affine }, "norm"),
            tensors,
        )?)])
    }
}

/// As decimal digits say it: 1e-5 in f32 is 1e-5 and not its neighbour in f64.
pub(super) fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// A constant for each of `size` features; one number is repeated.
pub(super) fn vector(value: &Value, size: usize) -> Result<Vec<f64>, String> {
    let tensor = tensor(value, "operand")?;
    let outer = tensor.dims.split_last().is_none_or(|(_, outer)| outer.iter().all(|&size| size == 1));
    match tensor.values.len() {
        1 => Ok(vec![tensor.values[0]; size]),
        n if n == size && outer => Ok(tensor.values.clone()),
        _ => Err(format!("a constant of shape {:?} for {size} features", tensor.dims)),
    }
}

/// A constant that arithmetic takes to each feature, or each channel, in the order that they have here.
fn per_feature(data: &Data, constant: &Tensor) -> Result<Vec<f64>, String> {
    let fault = || format!("a constant of shape {:?} for {}", constant.dims, axes::show(&data.axes));
    if let [value] = constant.values[..] {
        return Ok(vec![value; data.shape.f]);
    }
    let from_end = constant.dims.iter().rev().position(|&size| size != 1).ok_or_else(fault)?;
    let place = data.axes.len().checked_sub(from_end + 1).ok_or_else(fault)?;
    let size = constant.dims[constant.dims.len() - 1 - from_end];
    if size != constant.values.len() || axes::width(&data.axes[place]) != Some(size) {
        return Err(fault());
    }
    let order = axes::order(&data.axes[place]);
    let channels = order.iter().copied().eq(0..size) && data.shape.f.is_multiple_of(size);
    match size == data.shape.f {
        true => Ok(moved(&constant.values, &order, 1)),
        false if channels => Ok(constant.values.clone()),
        false => Err(fault()),
    }
}
