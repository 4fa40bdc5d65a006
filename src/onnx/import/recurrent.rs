//! LSTM, GRU and RNN.

use std::rc::Rc;

use super::axes::{Axis, Kind};
use super::ops::{features, tensor};
use super::reader::{Data, Piece, Reader, Value, attribute, int};
use super::stage::{CellKind, Stage, StageKind};
use super::tensor::Tensor;
use crate::onnx_graph::proto::NodeProto;

/// How the fault of an input with other axes ends.
pub(super) const EXPECTED_AXES: &str = ", expected time, batch and features";

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
        in_order(&data.axes, b, t)?;
        self.beginnings(node, inputs)?;
        let weights = Weights {
            w: tensor(input(1), "W")?,
            r: tensor(input(2), "R")?,
            b: bias(input(3))?,
            p: peepholes,
        };
        let (directions, units) = (1 + usize::from(both), weights.r.dims.last().copied().unwrap_or(0));
        weights.check(directions, cell.gates() * units, features(&data)?)?;
        let mut tensors = Vec::new();
        for (direction, suffix) in ["_l0", "_l0_reverse"].into_iter().take(directions).enumerate() {
            let own = weights.of(direction, directions, cell.order());
            tensors.extend(own.into_iter().map(|(name, values)| (format!("{name}{suffix}"), values)));
        }
        let kind = StageKind::Recurrent { cell, units, both, bias: weights.b.is_some() };
        let name = self.layer_name(node, &node.op_type.to_lowercase());
        let Data { axes: before, .. } = data.clone();
        let at = self.stages.len();
        let Data { at: after, .. } =
            self.push(data, Stage { name, kind, last: false, tensors }, directions * units)?;
        let (batch, time) = (before[b], before[t]);
        let (pair, out) = (Axis::new(Kind::Direction, directions), Axis::new(Kind::Feature, units));
        let y = if batch_first { vec![batch, time, pair, out] } else { vec![time, pair, batch, out] };
        let pieces = (0..directions).map(|direction| Piece { stage: at, direction }).collect();
        let h = match batch_first {
            false => Value::Pieces(pieces, units),
            true => Value::Data(Data { axes: vec![batch, pair, out], at: after, last: true }),
        };
        let y = Value::Data(Data { axes: y, at: after, last: false });
        Ok(vec![y, h, Value::Unusable("the final state c")])
    }

    /// Lengths and initial states: inputs of the graph, or as if they were not there.
    fn beginnings(&mut self, node: &NodeProto, inputs: &[Value]) -> Result<(), String> {
        for (i, what) in [(4, "lengths"), (5, "initial state h"), (6, "initial state c")] {
            match inputs.get(i) {
                None | Some(Value::Absent | Value::Zeros) => {}
                Some(Value::Tensor(state)) if i > 4 && state.is_zero() => {}
                Some(Value::Tensor(lengths))
                    if i == 4 && lengths.ints().iter().all(|&t| t == self.input.t as i64) => {}
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

    /// The parameters of one direction.
    fn of(&self, direction: usize, directions: usize, order: &[usize]) -> Vec<(&'static str, Vec<f64>)> {
        let part = |tensor: &Tensor| {
            let size = tensor.values.len() / directions;
            tensor.values[direction * size..][..size].to_vec()
        };
        let mut own = vec![
            ("weight_ih", reorder(&part(&self.w), order)),
            ("weight_hh", reorder(&part(&self.r), order)),
        ];
        if let Some(biases) = self.b.as_deref().map(part) {
            let (ih, hh) = biases.split_at(biases.len() / 2);
            own.extend([("bias_ih", reorder(ih, order)), ("bias_hh", reorder(hh, order))]);
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

/// Checks that the axes are a batch at `b`, steps at `t`, and features.
fn in_order(axes: &[Axis], b: usize, t: usize) -> Result<(), String> {
    let kinds: Vec<_> = axes.iter().map(|axis| axis.kind).collect();
    let three = matches!(kinds[..], [_, _, Kind::Feature]);
    if three && kinds[b] == Kind::Batch && (kinds[t] == Kind::Time || axes[t].is_idle()) {
        return Ok(());
    }
    Err(format!("axes {kinds:?}{EXPECTED_AXES}"))
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

/// Blocks of gates in our order: block k of theirs is block `order[k]` of ours.
fn reorder(theirs: &[f64], order: &[usize]) -> Vec<f64> {
    let block = theirs.len() / order.len();
    let mut ours = vec![0.0; theirs.len()];
    for (&to, gate) in order.iter().zip(theirs.chunks_exact(block)) {
        ours[to * block..][..block].copy_from_slice(gate);
    }
    ours
}
