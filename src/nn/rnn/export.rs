//! Recurrent layers in ONNX: an operator for each layer of the stack, both directions in one.

use super::cell::{Cell, Operator};
use super::layout::{Part, StackLayout};
use super::packing::Weights;
use super::recurrent::Recurrent;
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Error, Real, Result};

impl<C: Cell> Recurrent<C> {
    /// `x` is `[T, batch, I]`, as in ONNX; returns `[T, batch, directions · H]`, or one step of it.
    pub(super) fn export<R: Real>(&self, graph: &mut Graph<'_, R>, mut x: Value) -> Result<Value> {
        let layout = StackLayout::new(self, graph.input());
        let operator = self.cell.operator()?;
        if let Some(size) = self.proj_size {
            let fault = format!("found {size}, expected none: the LSTM of ONNX has no projection");
            return Err(Error::config("proj_size", fault));
        }
        let lengths = graph.lengths(&x).unwrap_or(Value::absent());
        let h0 = graph.state("h0", layout.part_count(), layout.width);
        let c0 = if C::HAS_CELL { graph.state("c0", layout.part_count(), layout.cell) } else { None };
        let (mut hn, mut cn) = (Vec::new(), Vec::new());
        for layer in 0..layout.layers {
            let [w, r, b, p] = weights::<R, C>(graph, &layout, layer, &operator);
            let [h0, c0] = [&h0, &c0].map(|state| initial(graph, &layout, layer, state.as_ref()));
            let inputs = [&x, &w, &r, &b, &lengths, &h0, &c0, &p];
            let [y, h, c] = node::<R, C>(graph, &layout, &operator, &inputs);
            hn.push(h);
            cn.extend(C::HAS_CELL.then_some(c));
            x = if self.last && layer + 1 == layout.layers {
                last_step(graph, &layout, &hn[layer])
            } else {
                all_steps(graph, &layout, &y)
            };
        }
        for (name, states, size) in [("hn", hn, layout.width), ("cn", cn, layout.cell)] {
            if !states.is_empty() && h0.is_some() {
                let state = concatenate(graph, states);
                graph.final_state(name, &state, layout.part_count(), size);
            }
        }
        Ok(x)
    }
}

/// One layer: all its outputs, its final h, and its final c if it has one.
fn node<R: Real, C: Cell>(
    graph: &mut Graph<'_, R>,
    layout: &StackLayout,
    operator: &Operator,
    inputs: &[&Value],
) -> [Value; 3] {
    let directions = layout.directions().len();
    let direction = if directions == 1 { "forward" } else { "bidirectional" };
    let activations = [operator.activation.unwrap_or_default(); 2];
    let mut settings = operator.settings.to_vec();
    settings.push(("direction", Attribute::Text(direction)));
    settings.push(("hidden_size", Attribute::Int(layout.units as i64)));
    if operator.activation.is_some() {
        settings.push(("activations", Attribute::Texts(&activations[..directions])));
    }
    if C::HAS_CELL {
        graph.nodes(operator.name, inputs, &settings)
    } else {
        let [y, h] = graph.nodes(operator.name, inputs, &settings);
        [y, h, Value::absent()]
    }
}

/// W `[directions, gates · H, I]`, R `[directions, gates · H, H]`, B `[directions, 2 · gates · H]` and, with peepholes, P
/// `[directions, 3H]` of a layer.
fn weights<R: Real, C: Cell>(
    graph: &mut Graph<'_, R>,
    layout: &StackLayout,
    layer: usize,
    operator: &Operator,
) -> [Value; 4] {
    let (mut w, mut r, mut b, mut p) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let reorder = |to: &mut Vec<R>, from: &[R], order: &[usize], block: usize| {
        order.iter().for_each(|i| to.extend_from_slice(&from[i * block..][..block]));
    };
    let gates = |to: &mut Vec<R>, from: &[R]| reorder(to, from, operator.gates, from.len() / C::GATES);
    for &direction in layout.directions() {
        let part = Weights::new(layout, Part { layer, direction }, graph.params());
        gates(&mut w, part.ih);
        gates(&mut r, part.hh);
        gates(&mut b, part.b_ih);
        gates(&mut b, part.b_hh);
        reorder(&mut p, part.own, operator.peepholes, layout.units);
    }
    let (d, rows) = (layout.directions().len(), layout.weight_rows());
    let mut tensor = |name: &str, rows: &[usize], values: &[R]| match values {
        [] => Value::absent(),
        _ => graph.tensor(&format!("{name}_l{layer}"), &[&[d], rows].concat(), values),
    };
    [
        tensor("weight_ih", &[rows, layout.features(layer)], &w),
        tensor("weight_hh", &[rows, layout.width], &r),
        tensor("bias", &[2 * rows], &b),
        tensor("peephole", &[3 * layout.units], &p),
    ]
}

/// The initial state of a layer out of those of all, `[directions, batch, H]`.
fn initial<R: Real>(
    graph: &mut Graph<'_, R>,
    layout: &StackLayout,
    layer: usize,
    all: Option<&Value>,
) -> Value {
    match all {
        None => Value::absent(),
        Some(all) if layout.layers == 1 => all.clone(),
        Some(all) => {
            let directions = layout.directions().len();
            let bounds = [layer * directions, (layer + 1) * directions, 0];
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
fn all_steps<R: Real>(graph: &mut Graph<'_, R>, layout: &StackLayout, y: &Value) -> Value {
    if layout.directions().len() == 1 {
        let axis = graph.ints(&[1]);
        return graph.node("Squeeze", &[y, &axis], &[]);
    }
    let y = graph.node("Transpose", &[y], &[("perm", Attribute::Ints(&[0, 2, 1, 3]))]);
    // 0 leaves an axis as it is.
    let shape = graph.ints(&[0, 0, layout.outputs() as i64]);
    graph.node("Reshape", &[&y, &shape], &[])
}

/// `[directions, batch, H]` → `[1, batch, directions · H]`
fn last_step<R: Real>(graph: &mut Graph<'_, R>, layout: &StackLayout, h: &Value) -> Value {
    if layout.directions().len() == 1 {
        return h.clone();
    }
    let h = graph.node("Transpose", &[h], &[("perm", Attribute::Ints(&[1, 0, 2]))]);
    let shape = graph.ints(&[1, -1, layout.outputs() as i64]);
    graph.node("Reshape", &[&h, &shape], &[])
}
