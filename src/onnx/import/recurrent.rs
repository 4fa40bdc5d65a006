//! LSTM, GRU and RNN.

use std::rc::Rc;

use super::axes::{self, Atom, Axis};
use super::fold::tensor;
use super::reader::{Data, Piece, Reader, Value, attribute, int};
use super::stage::{CellKind, StageKind};
use super::tensor::{Tensor, moved};
use crate::Shape;
use crate::onnx_graph::proto::NodeProto;

impl Reader<'_> {
    pub(super) fn recurrent(&mut self, node: &NodeProto, inputs: &[Value]) -> Result<Vec<Value>, String> {
        let input = |i: usize| inputs.get(i).unwrap_or(&Value::Absent);
        let data = self.data(input(0))?;
        let both = direction(node)?;
        let peepholes = match (node.op_type.as_str(), input(7)) {
            ("LSTM", value @ Value::Tensor(_)) => Some(tensor(value, "P")?),
            _ => None,
        };
        let cell = cell(node, both, peepholes.is_some())?;
        let batch_first = int(node, "layout", 0) != 0;
        let [b, t] = if batch_first { [0, 1] } else { [1, 0] };
        in_order(&data.axes, b)?;
        let data = self.arranged(node, data, 2)?;
        if data.axes[t] != axes::time(data.shape.t) {
            return Err(format!("the axes {}, expected steps along axis {t}", axes::show(&data.axes)));
        }
        self.beginnings(node, inputs, data.shape.t)?;
        let weights = Weights {
            w: tensor(input(1), "W")?,
            r: tensor(input(2), "R")?,
            b: bias(input(3))?,
            p: peepholes,
        };
        let (directions, units) = (1 + usize::from(both), weights.r.dims.last().copied().unwrap_or(0));
        weights.check(directions, cell.gates() * units, data.shape.f)?;
        let columns = axes::order(&data.axes[2]);
        let mut tensors = Vec::new();
        for (direction, suffix) in ["_l0", "_l0_reverse"].into_iter().take(directions).enumerate() {
            let own = weights.of(direction, directions, cell.order(), &columns);
            tensors.extend(own.into_iter().map(|(name, values)| (format!("{name}{suffix}"), values)));
        }
        let kind = StageKind::Recurrent { cell, units, both, bias: weights.b.is_some() };
        let data = self.push(node, data, (kind, &node.op_type.to_lowercase()), tensors)?;
        let (batch, time) = (data.axes[b].clone(), data.axes[t].clone());
        let (pair, out) = (axes::features(directions, units), axes::features(units, 1));
        let axes = match batch_first {
            true => vec![batch.clone(), time, pair.clone(), out.clone()],
            false => vec![time, pair.clone(), batch.clone(), out.clone()],
        };
        let shape = Shape::new(data.shape.t, directions * units);
        let y = Value::Data(Data { axes, shape, ..data });
        let stage = data.at - 1;
        let h = match batch_first {
            false => {
                Value::Pieces((0..directions).map(|direction| Piece { stage, direction }).collect(), units)
            }
            true => {
                let (axes, shape) = (vec![batch, pair, out], Shape::new(1, directions * units));
                Value::Data(Data { axes, shape, at: data.at, last: true })
            }
        };
        Ok(vec![y, h, Value::Unusable("the final state c")])
    }

    /// Lengths and initial states: inputs of the graph, or as if they were not there.
    fn beginnings(&mut self, node: &NodeProto, inputs: &[Value], steps: usize) -> Result<(), String> {
        for (i, what) in [(4, "lengths"), (5, "initial state h"), (6, "initial state c")] {
            match inputs.get(i) {
                None | Some(Value::Absent | Value::Zeros) => {}
                Some(Value::Tensor(state)) if i > 4 && state.is_zero() => {}
                Some(Value::Tensor(lengths))
                    if i == 4 && lengths.ints().iter().all(|&t| t == steps as i64) => {}
                Some(Value::Input) => {
                    self.notes
                        .push(format!("`{}`: {what} come from outside, with each batch.", node.input[i]));
                }
                Some(other) => return Err(format!("{what}: {}", other.what())),
            }
        }
        Ok(())
    }
}

/// The constants of a node.
struct Weights {
    w: Rc<Tensor>,
    r: Rc<Tensor>,
    b: Option<Rc<Tensor>>,
    p: Option<Rc<Tensor>>,
}

impl Weights {
    /// Checks the shapes for these directions, rows of all gates, and columns of W.
    fn check(&self, directions: usize, rows: usize, columns: usize) -> Result<(), String> {
        let units = self.r.dims.last().copied().unwrap_or(0);
        let fits = |tensor: &Option<Rc<Tensor>>, size: usize| {
            tensor.as_ref().is_none_or(|tensor| tensor.dims == [directions, size])
        };
        let whole = self.w.dims == [directions, rows, columns] && self.r.dims == [directions, rows, units];
        if whole && units > 0 && fits(&self.b, 2 * rows) && fits(&self.p, 3 * units) {
            return Ok(());
        }
        Err(format!("W of shape {:?} and R of shape {:?} for {columns} features", self.w.dims, self.r.dims))
    }

    /// The parameters of one direction: gates in our `order`, and of W the columns where they are here.
    fn of(
        &self,
        direction: usize,
        directions: usize,
        order: &[usize],
        columns: &[usize],
    ) -> Vec<(&'static str, Vec<f64>)> {
        let part = |tensor: &Tensor| {
            let size = tensor.values.len() / directions;
            tensor.values[direction * size..][..size].to_vec()
        };
        let gates = |theirs: &[f64]| moved(theirs, order, theirs.len() / order.len());
        let mut own = vec![
            ("weight_ih", moved(&gates(&part(&self.w)), columns, 1)),
            ("weight_hh", gates(&part(&self.r))),
        ];
        if let Some(biases) = self.b.as_deref().map(part) {
            let (ih, hh) = biases.split_at(biases.len() / 2);
            own.extend([("bias_ih", gates(ih)), ("bias_hh", gates(hh))]);
        }
        if let Some(peepholes) = self.p.as_deref().map(part) {
            let of_gates = peepholes.chunks_exact(peepholes.len() / 3).map(<[f64]>::to_vec);
            own.extend(["weight_pi", "weight_po", "weight_pf"].into_iter().zip(of_gates));
        }
        own
    }
}

fn bias(value: &Value) -> Result<Option<Rc<Tensor>>, String> {
    match value {
        Value::Absent => Ok(None),
        value => tensor(value, "B").map(Some),
    }
}

/// Checks that there are three axes, the batch along that at `b`.
fn in_order(axes: &[Axis], b: usize) -> Result<(), String> {
    match (axes.len(), axes.get(b).map(Vec::as_slice)) {
        (3, Some([Atom::Batch(_)])) => Ok(()),
        _ => Err(format!("the axes {}, expected time, batch and features", axes::show(axes))),
    }
}

/// Whether a node works in both directions.
fn direction(node: &NodeProto) -> Result<bool, String> {
    match attribute(node, "direction").and_then(|direction| direction.s.as_deref()) {
        None | Some(b"forward") => Ok(false),
        Some(b"bidirectional") => Ok(true),
        Some(other) => Err(format!("direction `{}`", other.escape_ascii())),
    }
}

/// The cell that a node's settings make.
fn cell(node: &NodeProto, both: bool, peepholes: bool) -> Result<CellKind, String> {
    if let Some(clip) = attribute(node, "clip").and_then(|clip| clip.f).filter(|&clip| clip != 0.0) {
        return Err(format!("clip {clip}"));
    }
    if int(node, "input_forget", 0) != 0 {
        return Err("input_forget".into());
    }
    let named = attribute(node, "activations").map_or(&[][..], |activations| &activations.strings);
    let names: Vec<String> =
        named.iter().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    let fits = |expected: &[&str]| {
        let all = if both { expected.repeat(2) } else { expected.to_vec() };
        names.is_empty() || names == all
    };
    match node.op_type.as_str() {
        "LSTM" if fits(&["sigmoid", "tanh", "tanh"]) => {
            Ok(if peepholes { CellKind::Peephole } else { CellKind::Lstm })
        }
        "GRU" if fits(&["sigmoid", "tanh"]) => {
            Ok(CellKind::Gru { reset_after: int(node, "linear_before_reset", 0) != 0 })
        }
        "RNN" if fits(&["tanh"]) => Ok(CellKind::RnnTanh),
        "RNN" if fits(&["relu"]) => Ok(CellKind::RnnRelu),
        _ => Err(format!("activations {names:?}")),
    }
}
