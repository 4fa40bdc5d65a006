//! Steps made features, and features made steps, where a layer reads other axes than the one before it wrote.

use super::axes::{self, Atom, Axis};
use super::reader::{Data, Reader};
use super::stage::StageKind;
use crate::Shape;
use crate::onnx_graph::proto::NodeProto;

impl Reader<'_> {
    /// Transposes steps and features so that axis `i` holds all features, and nothing else.
    pub(super) fn arranged(&mut self, node: &NodeProto, data: Data, i: usize) -> Result<Data, String> {
        let Shape { t, f } = data.shape;
        let steps = data.axes[i].iter().any(|atom| matches!(atom, Atom::Time(_)));
        let inside: Axis =
            data.axes[i].iter().filter(|atom| matches!(atom, Atom::Feature { .. })).copied().collect();
        let size = axes::width(&inside).unwrap_or(0);
        let alone = inside.len() + usize::from(steps) == data.axes[i].len();
        if !steps && alone && size == f {
            return Ok(data);
        }
        // All of a step, or the last features of it.
        let last = axes::order(&inside).iter().max().is_some_and(|&largest| largest < size);
        if !alone || !last || (!steps && t > 1) {
            return Err(format!("the axes {}, expected all features along axis {i}", axes::show(&data.axes)));
        }
        self.turned(node, data, size)
    }

    /// Exchanges steps and what is beyond the last `channels` features of a step.
    fn turned(&mut self, node: &NodeProto, data: Data, channels: usize) -> Result<Data, String> {
        let Shape { t, f } = data.shape;
        let columns = f / channels;
        let whole = axes::features(columns, channels);
        if columns > 1 && !data.axes.contains(&whole) {
            return Err(format!("the axes {}, expected steps along one of them", axes::show(&data.axes)));
        }
        let mut data =
            self.push(node, data, (StageKind::Transpose { rows: t, channels }, "transpose"), vec![])?;
        for axis in &mut data.axes {
            if columns > 1 && *axis == whole {
                *axis = axes::time(columns);
            } else {
                axis.iter_mut().filter(|atom| matches!(atom, Atom::Time(_))).for_each(|atom| {
                    *atom = Atom::Feature { size: t, stride: channels };
                });
            }
        }
        data.shape = Shape::new(columns, t * channels);
        data.axes = data.axes.iter().map(|axis| axes::joined(axis.iter().copied())).collect();
        Ok(data)
    }

    /// Makes steps of axis `i`, where there is one step and that axis is the outermost of its features.
    pub(super) fn stepped(&mut self, node: &NodeProto, data: Data, i: usize) -> Result<Data, String> {
        match (data.shape.t, &data.axes[i][..]) {
            (1, &[Atom::Feature { size, stride }]) if size * stride == data.shape.f => {
                self.turned(node, data, stride)
            }
            _ => Ok(data),
        }
    }
}
