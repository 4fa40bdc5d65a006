//! Recurrent layers in ONNX: an operator for each layer of the stack, both directions in one.

use super::cell::{Cell, Operator};
use super::layout::{Part, StackLayout};
use super::packing::Weights;
use super::recurrent::Recurrent;
use crate::onnx::{Attribute, Graph, Value};
use crate::{Real, Result};

impl<C: Cell> Recurrent<C> {
    /// `x` is `[T, batch, I]`, as in ONNX; returns `[T, batch, directions · H]`, or one step of it.
    pub(super) fn export<R: Real>(&self, graph: &mut Graph<'_, R>, mut x: Value) -> Result<Value> {
        let layout = StackLayout::new(self, graph.input());
        let operator = self.cell.operator();
        let lengths = graph.lengths(&x).unwrap_or(Value::absent());
        let h0 = graph.state("h0", layout.part_count(), layout.width);
        let c0 = if C::HAS_CELL { graph.state("c0", layout.part_count(), layout.cell) } else { None };
        let (mut hn, mut cn) = (Vec::new(), Vec::new());
        for layer in 0..layout.layers {
            let [w, r, b] = weights::<R, C>(graph, &layout, layer, &operator);
            let [h0, c0] = [&h0, &c0].map(|state| initial(graph, &layout, layer, state.as_ref()));
            let inputs = [&x, &w, &r, &b, &lengths, &h0, &c0];
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

/// W `[directions, gates · H, I]`, R `[directions, gates · H, H]` and B `[directions, 2 · gates · H]` of a layer.
fn weights<R: Real, C: Cell>(
    graph: &mut Graph<'_, R>,
    layout: &StackLayout,
    layer: usize,
    operator: &Operator,
) -> [Value; 3] {
    let (mut w, mut r, mut b) = (Vec::new(), Vec::new(), Vec::new());
    let reorder = |to: &mut Vec<R>, from: &[R]| {
        let block = from.len() / C::GATES;
        operator.gates.iter().for_each(|gate| to.extend_from_slice(&from[gate * block..][..block]));
    };
    for &direction in layout.directions() {
        let Weights { ih, hh, b_ih, b_hh } = Weights::new(layout, Part { layer, direction }, graph.params());
        reorder(&mut w, ih);
        reorder(&mut r, hh);
        reorder(&mut b, b_ih);
        reorder(&mut b, b_hh);
    }
    let (d, rows) = (layout.directions().len(), layout.weight_rows());
    [
        graph.tensor(&format!("weight_ih_l{layer}"), &[d, rows, layout.features(layer)], &w),
        graph.tensor(&format!("weight_hh_l{layer}"), &[d, rows, layout.width], &r),
        graph.tensor(&format!("bias_l{layer}"), &[d, 2 * rows], &b),
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
