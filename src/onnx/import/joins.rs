//! Values that are joined: branches, both directions of a final state, and steps with their weights.

use std::collections::HashSet;
use std::rc::Rc;

use super::axes::{self, index};
use super::links::path;
use super::ops::Outcome;
use super::reader::{Data, Reader, Value, Weights, int};
use super::stage::{Operation, StageKind};
use crate::onnx_graph::proto::NodeProto;

impl Reader<'_> {
    /// Final states joined: those of several layers, or of both directions of one. Or features side by side.
    pub(super) fn concat(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let (mut pieces, mut units, mut whole) = (Vec::new(), 0, true);
        for value in inputs {
            match value {
                Value::Pieces(own, size) => (units, _) = (*size, pieces.extend(own)),
                Value::Piece(piece, size) => {
                    whole = false;
                    (units, _) = (*size, pieces.push(*piece));
                }
                _ => return self.side_by_side(node, inputs),
            }
        }
        let axis = int(node, "axis", 0);
        match whole {
            true if axis == 0 => Ok(vec![Value::Pieces(pieces, units)]),
            false if axis == 1 || axis == -1 => match self.both(&pieces, units) {
                Ok(data) => Ok(vec![Value::Data(data)]),
                Err(fault) => self.side_by_side(node, inputs).map_err(|_| fault),
            },
            _ => Err(format!("final states joined along axis {axis}")),
        }
    }

    /// Branches whose features are concatenated.
    fn side_by_side(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        if let Some(both) = directions(node, inputs) {
            return Ok(vec![both]);
        }
        let mut parts = inputs.iter().map(|value| self.data(value)).collect::<Result<Vec<_>, _>>()?;
        let axis = index(int(node, "axis", 0), parts[0].axes.len())?;
        for part in &mut parts {
            if part.axes.len() <= axis {
                return Err("values of different axes joined".into());
            }
            *part = self.arranged(node, part.clone(), axis)?;
        }
        let others = |part: &Data| {
            let mut axes = part.axes.clone();
            axes[axis].clear();
            axes
        };
        let first = parts[0].clone();
        for part in &parts {
            let in_order = part.axes[axis] == axes::features(part.shape.f, 1);
            if !in_order || !alike(&others(part), &others(&first)) || part.shape.t != first.shape.t {
                return Err(format!("{} beside {}", axes::show(&part.axes), axes::show(&first.axes)));
            }
        }
        let mut data = self.join(node, &parts, false)?;
        data.shape.f = parts.iter().map(|part| part.shape.f).sum();
        data.axes[axis] = axes::features(data.shape.f, 1);
        Ok(vec![Value::Data(data)])
    }

    /// Branches that are added.
    pub(super) fn sum(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let parts = inputs.iter().map(|value| self.data(value)).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) =
            parts.iter().find(|part| !alike(&part.axes, &parts[0].axes) || part.shape != parts[0].shape)
        {
            return Err(format!("{} added to {}", axes::show(&other.axes), axes::show(&parts[0].axes)));
        }
        Ok(vec![Value::Data(self.join(node, &parts, true)?)])
    }

    /// Makes a layer of the branches that end in `parts`, from where they part.
    fn join(&mut self, node: &NodeProto, parts: &[Data], sum: bool) -> Result<Data, String> {
        for part in parts {
            self.settle(part)?;
        }
        let paths: Vec<_> = parts.iter().map(|part| path(&self.stages, 0, part.at)).collect();
        let same = |i: usize| paths.iter().all(|path| path.get(i).is_some_and(|stage| *stage == paths[0][i]));
        let common = (0..).take_while(|&i| i < paths[0].len() && same(i)).count();
        let chains: Vec<Vec<usize>> = paths.iter().map(|path| path[common..].to_vec()).collect();
        let mut seen = HashSet::new();
        if !chains.iter().flatten().all(|&stage| seen.insert(stage)) {
            return Err("branches that have a layer in common".into());
        }
        chains.iter().flatten().for_each(|&stage| self.stages[stage].within = true);
        let from = common.checked_sub(1).map_or(0, |i| paths[0][i] + 1);
        let at = self.append(node, from, (StageKind::Branches { sum, chains }, "branches"), Vec::new());
        Ok(Data { at, last: false, ..parts[0].clone() })
    }

    /// The softmax over the steps of one score each.
    pub(super) fn weights(&mut self, data: Data) -> Outcome {
        let mut at = data.at;
        // A bias is added to all scores alike, and makes no difference.
        while let Some(i) = at.checked_sub(1)
            && matches!(self.stages[i].kind, StageKind::Arithmetic(Operation::Add | Operation::Sub))
        {
            self.stages[i].within = true;
            at = self.stages[i].from;
        }
        let stage = at.checked_sub(1).map(|i| &mut self.stages[i]);
        let Some(stage) = stage.filter(|stage| matches!(stage.kind, StageKind::Linear { outputs: 1, .. }))
        else {
            return Err("a softmax over the steps, other than of one product for each".into());
        };
        stage.within = true;
        let query = stage.tensors.iter().find(|(name, _)| name == "weight").map(|(_, query)| query.clone());
        let query = Rc::new(query.unwrap_or_default());
        Ok(vec![Value::Weights(Box::new(Weights { axes: data.axes, at: stage.from, query }))])
    }

    /// Steps times their weights.
    pub(super) fn weighted(&mut self, weights: &Weights, x: &Value) -> Outcome {
        let data = self.data(x)?;
        let mut without = data.axes.clone();
        without.iter_mut().filter(|axis| axes::width(axis).is_some()).for_each(Vec::clear);
        if data.at != weights.at || !alike(&without, &weights.axes) {
            return Err("weights of other steps".into());
        }
        Ok(vec![Value::Weighted(Box::new(data), Rc::clone(&weights.query))])
    }

    /// The product of weights, `[batch, 1, T]`, and steps, `[batch, T, F]`.
    pub(super) fn attend(&mut self, node: &NodeProto, weights: &Weights, x: &Value) -> Outcome {
        let data = self.data(x)?;
        let turned = axes::transpose(&weights.axes, &[0, 2, 1])?;
        let data = match &self.weighted(&Weights { axes: turned, ..weights.clone() }, x)?[..] {
            [Value::Weighted(..)] if data.axes.len() == 3 => self.attention(node, data, &weights.query)?,
            _ => return Err("weights of other steps".into()),
        };
        let axes = vec![data.axes[0].clone(), axes::Axis::new(), data.axes[2].clone()];
        Ok(vec![Value::Data(Data { axes, ..data })])
    }

    /// The sum of weighted steps.
    pub(super) fn attention(&mut self, node: &NodeProto, data: Data, query: &[f64]) -> Result<Data, String> {
        let tensors = vec![("query".to_owned(), query.to_vec())];
        let mut data = self.push(node, data, (StageKind::Attention, "attention"), tensors)?;
        data.shape.t = 1;
        Ok(data)
    }
}

/// Both directions of a recurrent layer, side by side again.
fn directions(node: &NodeProto, inputs: &[Value]) -> Option<Value> {
    let [Value::Direction(forwards, 0), Value::Direction(backwards, 1)] = inputs else { return None };
    let axis = index(int(node, "axis", 0), forwards.axes.len()).ok()?;
    if forwards != backwards || axes::width(&forwards.axes[axis])? * 2 != forwards.shape.f {
        return None;
    }
    let mut data = Data::clone(forwards);
    data.axes[axis] = axes::features(data.shape.f, 1);
    Some(Value::Data(data))
}

/// Whether axes are the same, where a batch of unknown size is like any other.
fn alike(a: &[axes::Axis], b: &[axes::Axis]) -> bool {
    let open = |axes: &[axes::Axis]| -> Vec<axes::Axis> {
        let atom = |atom: &axes::Atom| match atom {
            axes::Atom::Batch(_) => axes::Atom::Batch(None),
            other => *other,
        };
        axes.iter().map(|axis| axis.iter().map(atom).collect()).collect()
    };
    open(a) == open(b)
}
