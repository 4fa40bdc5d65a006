//! Recurrent layers in ONNX: an operator for each layer of the stack, both directions in one.

use super::cell::Cell;
use super::plan::Plan;
use super::recurrent::Recurrent;
use crate::onnx::{Attribute, Graph, Value};
use crate::{Real, Result};

impl<C: Cell> Recurrent<C> {
    /// `x` is `[T, batch, I]`, as ONNX has it; what goes out is `[T, batch, directions · H]`, or one step of it.
    pub(super) fn export<R: Real>(&self, graph: &mut Graph<'_, R>, mut x: Value) -> Result<Value> {
        let plan = Plan::new(self, graph.input());
        let operator = self.cell.operator();
        let directions = ["forward", "bidirectional"][plan.directions - 1];
        let activations = [operator.activation.unwrap_or_default(); 2];
        let mut settings = operator.settings.to_vec();
        settings.push(("direction", Attribute::Text(directions)));
        settings.push(("hidden_size", Attribute::Int(plan.h as i64)));
        if operator.activation.is_some() {
            settings.push(("activations", Attribute::Texts(&activations[..plan.directions])));
        }
        let lengths = graph.lengths(&x).unwrap_or(Value::absent());
        let h0 = graph.state("h0", plan.parts(), plan.h);
        let c0 = if C::HAS_CELL { graph.state("c0", plan.parts(), plan.h) } else { None };
        let (mut hn, mut cn) = (Vec::new(), Vec::new());
        for k in 0..plan.layers {
            let [w, r, b] = weights::<R, C>(graph, &plan, k, operator.gates);
            let [h0, c0] = [&h0, &c0].map(|state| initial(graph, &plan, k, state.as_ref()));
            let inputs = [&x, &w, &r, &b, &lengths, &h0, &c0];
            let y;
            if C::HAS_CELL {
                let [all, h, c] = graph.nodes(operator.name, &inputs, &settings);
                (y, hn, cn) = (all, push(hn, h), push(cn, c));
            } else {
                let [all, h] = graph.nodes(operator.name, &inputs, &settings);
                (y, hn) = (all, push(hn, h));
            }
            x = if self.last && k + 1 == plan.layers {
                last_step(graph, &plan, &hn[k])
            } else {
                all_steps(graph, &plan, &y)
            };
        }
        for (name, states) in [("hn", hn), ("cn", cn)] {
            if !states.is_empty() && h0.is_some() {
                let state = concatenate(graph, states);
                graph.final_state(name, &state, plan.parts(), plan.h);
            }
        }
        Ok(x)
    }
}

fn push(mut states: Vec<Value>, state: Value) -> Vec<Value> {
    states.push(state);
    states
}

/// W `[directions, gates · H, I]`, R `[directions, gates · H, H]` and B `[directions, 2 · gates · H]` of a layer.
fn weights<R: Real, C: Cell>(graph: &mut Graph<'_, R>, plan: &Plan, k: usize, gates: &[usize]) -> [Value; 3] {
    let params = graph.params();
    let parts = (0..plan.directions).map(|d| plan.split_params(k, &params[plan.params(k, d)]));
    let (mut w, mut r, mut b) = (Vec::new(), Vec::new(), Vec::new());
    let reorder = |to: &mut Vec<R>, from: &[R]| {
        let block = from.len() / C::GATES;
        gates.iter().for_each(|gate| to.extend_from_slice(&from[gate * block..][..block]));
    };
    for [w_ih, w_hh, b_ih, b_hh] in parts {
        reorder(&mut w, w_ih);
        reorder(&mut r, w_hh);
        reorder(&mut b, b_ih);
        reorder(&mut b, b_hh);
    }
    let (d, rows) = (plan.directions, plan.weight_rows());
    [
        graph.tensor(&format!("weight_ih_l{k}"), &[d, rows, plan.features(k)], &w),
        graph.tensor(&format!("weight_hh_l{k}"), &[d, rows, plan.h], &r),
        graph.tensor(&format!("bias_l{k}"), &[d, 2 * rows], &b),
    ]
}

/// The initial state of layer `k` of those of all, `[directions, batch, H]`.
fn initial<R: Real>(graph: &mut Graph<'_, R>, plan: &Plan, k: usize, all: Option<&Value>) -> Value {
    match all {
        None => Value::absent(),
        Some(all) if plan.layers == 1 => all.clone(),
        Some(all) => {
            let bounds = [k * plan.directions, (k + 1) * plan.directions, 0];
            let [from, to, axis] = bounds.map(|number| graph.ints(&[number as i64]));
            graph.node("Slice", &[all, &from, &to, &axis], &[])
        }
    }
}

/// `[layers · directions, batch, H]` of what each layer has.
fn concatenate<R: Real>(graph: &mut Graph<'_, R>, states: Vec<Value>) -> Value {
    match &states[..] {
        [state] => state.clone(),
        all => graph.node("Concat", &all.iter().collect::<Vec<_>>(), &[("axis", Attribute::Int(0))]),
    }
}

/// `[T, directions, batch, H]` → `[T, batch, directions · H]`
fn all_steps<R: Real>(graph: &mut Graph<'_, R>, plan: &Plan, y: &Value) -> Value {
    if plan.directions == 1 {
        let axis = graph.ints(&[1]);
        return graph.node("Squeeze", &[y, &axis], &[]);
    }
    let y = graph.node("Transpose", &[y], &[("perm", Attribute::Ints(&[0, 2, 1, 3]))]);
    // 0 leaves an axis as it is.
    let shape = graph.ints(&[0, 0, (plan.directions * plan.h) as i64]);
    graph.node("Reshape", &[&y, &shape], &[])
}

/// `[directions, batch, H]` → `[1, batch, directions · H]`
fn last_step<R: Real>(graph: &mut Graph<'_, R>, plan: &Plan, h: &Value) -> Value {
    if plan.directions == 1 {
        return h.clone();
    }
    let h = graph.node("Transpose", &[h], &[("perm", Attribute::Ints(&[1, 0, 2]))]);
    let shape = graph.ints(&[1, -1, (plan.directions * plan.h) as i64]);
    graph.node("Reshape", &[&h, &shape], &[])
}
