//! Convolution in ONNX, whose operators read `[batch, channels, rows, columns]`.

use super::Convolution;
use super::window::Window;
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Real, Result};

impl Convolution {
    /// `x` is `[T, batch, columns · in]`; returns `[T', batch, columns' · out]`.
    pub(super) fn export<R: Real>(&self, graph: &mut Graph<'_, R>, x: Value, bias: bool) -> Result<Value> {
        let (params, [rows, columns]) = (graph.params(), self.windows);
        let [channels, out] = self.channels;
        let shape = [out, channels, rows.size, columns.size];
        let weight = graph.tensor("weight", &shape, &params[..self.weights()]);
        let bias = if bias { graph.param("bias")? } else { Value::absent() };
        let masked = match graph.mask(&x) {
            None => x,
            Some(mask) => {
                let zero = graph.scalar(R::ZERO);
                graph.node("Where", &[&mask, &x, &zero], &[])
            }
        };
        let (x, before) = self.with_state(graph, masked);
        let x = to_images(graph, &x, [self.columns(), channels]);
        let pads = [before, columns.before, rows.after, columns.after].map(|n| n as i64);
        let [kernel, strides] =
            [[rows.size, columns.size], [rows.stride, columns.stride]].map(|both| both.map(|n| n as i64));
        let settings = [
            ("kernel_shape", Attribute::Ints(&kernel)),
            ("strides", Attribute::Ints(&strides)),
            ("pads", Attribute::Ints(&pads)),
        ];
        let y = graph.node("Conv", &[&x, &weight, &bias], &settings);
        set_lengths(graph, rows);
        let width = columns.positions(self.columns()) * out;
        Ok(from_images(graph, &y, width))
    }

    /// The state, if it is an input of the graph, followed by `x`; and the rows of zeros that are left to put before it.
    fn with_state<R: Real>(&self, graph: &mut Graph<'_, R>, x: Value) -> (Value, usize) {
        let (before, f) = (self.windows[0].before, self.input.f);
        let state = if self.state() > 0 { graph.state("h0", before, f) } else { None };
        let Some(state) = state else { return (x, before) };
        let lengths = graph.lengths(&x);
        let all = graph.node("Concat", &[&state, &x], &[("axis", Attribute::Int(0))]);
        let last = match lengths {
            None => {
                let [from, to, axis] = [-(before as i64), i64::MAX, 0].map(|number| graph.ints(&[number]));
                graph.node("Slice", &[&all, &from, &to, &axis], &[])
            }
            Some(lengths) => {
                // Row length + i of each sample.
                let lengths = graph.cast_int64(&lengths);
                let steps = graph.ints(&(0..before as i64).collect::<Vec<_>>());
                let [sides, right] = [[0, 2], [1, 2]].map(|axes| graph.ints(&axes));
                let lengths = graph.node("Unsqueeze", &[&lengths, &sides], &[]);
                let steps = graph.node("Unsqueeze", &[&steps, &right], &[]);
                let rows = graph.node("Add", &[&lengths, &steps], &[]);
                let shape = graph.ints(&[1, 1, f as i64]);
                let rows = graph.node("Expand", &[&rows, &shape], &[]);
                graph.node("GatherElements", &[&all, &rows], &[("axis", Attribute::Int(0))])
            }
        };
        graph.final_state("hn", &last, before, f);
        (all, 0)
    }
}

/// `[T, batch, columns · channels]` → `[batch, channels, T, columns]`
pub fn to_images<R: Real>(graph: &mut Graph<'_, R>, x: &Value, sizes: [usize; 2]) -> Value {
    let x = to_pixels(graph, x, sizes);
    graph.node("Transpose", &[&x], &[("perm", Attribute::Ints(&[1, 3, 0, 2]))])
}

/// `[T, batch, columns · channels]` → `[T, batch, columns, channels]`
pub fn to_pixels<R: Real>(graph: &mut Graph<'_, R>, x: &Value, [columns, channels]: [usize; 2]) -> Value {
    // 0 leaves an axis as it is.
    let shape = graph.ints(&[0, 0, columns as i64, channels as i64]);
    graph.node("Reshape", &[x, &shape], &[])
}

/// `[batch, channels, T, columns]` → `[T, batch, columns · channels]`, which is `width`
pub fn from_images<R: Real>(graph: &mut Graph<'_, R>, y: &Value, width: usize) -> Value {
    let y = graph.node("Transpose", &[y], &[("perm", Attribute::Ints(&[2, 0, 3, 1]))]);
    let shape = graph.ints(&[0, 0, width as i64]);
    graph.node("Reshape", &[&y, &shape], &[])
}

/// Sets the lengths after a layer that moves this window over time.
pub fn set_lengths<R: Real>(graph: &mut Graph<'_, R>, window: Window) {
    let Window { size, stride, before, after: after_last } = window;
    let (positions, shift) =
        (window.positions(graph.input().t), (before + after_last + stride) as i64 - size as i64);
    graph.set_lengths(positions, |graph, lengths| {
        let [shift, zero, stride] = [shift, 0, stride as i64].map(|number| graph.ints(&[number]));
        let lengths = graph.cast_int64(&lengths);
        let shifted = graph.node("Add", &[&lengths, &shift], &[]);
        let shifted = graph.node("Max", &[&shifted, &zero], &[]);
        let after = graph.node("Div", &[&shifted, &stride], &[]);
        if before + after_last == 0 {
            return after;
        }
        // Of nothing, padding makes nothing.
        let one = graph.ints(&[1]);
        let any = graph.node("Min", &[&lengths, &one], &[]);
        graph.node("Mul", &[&after, &any], &[])
    });
}
