//! Parts of a value: one step, some features, or what is made of all of them.

use std::rc::Rc;

use super::axes::{self, Atom, Axis, index};
use super::fold::ints;
use super::ops::Outcome;
use super::reader::{Data, Piece, Reader, Value, int};
use super::stage::{Over, StageKind};
use crate::onnx_graph::proto::NodeProto;

impl Reader<'_> {
    /// Mean, maximum or weighted sum over steps, columns, or both.
    pub(super) fn reduce(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let over = ints(node, "axes", inputs.get(1))?;
        let keep = int(node, "keepdims", 1) != 0;
        if let Value::Weighted(data, query) = &inputs[0] {
            let [axis] = over[..] else { return Err(format!("axes {over:?}")) };
            let axis = index(axis, data.axes.len())?;
            if data.axes[axis] != axes::time(data.shape.t) {
                return Err("a sum other than over the steps".into());
            }
            let (data, query) = (Data::clone(data), Rc::clone(query));
            let data = self.attention(node, data, &query)?;
            return Ok(vec![Value::Data(without(data, &[axis], keep))]);
        }
        let data = self.data(&inputs[0])?;
        let kind = match node.op_type.as_str() {
            "ReduceMean" => Over::Mean,
            "ReduceMax" => Over::Max,
            _ => return Err("a sum other than of weighted steps".into()),
        };
        let over = over.iter().map(|&axis| index(axis, data.axes.len())).collect::<Result<Vec<_>, _>>()?;
        self.pooled(node, data, (&over, kind), keep)
    }

    /// Pools over steps, over columns, or over both, and removes these axes or leaves them with size 1.
    pub(super) fn pooled(
        &mut self,
        node: &NodeProto,
        data: Data,
        (over, kind): (&[usize], Over),
        keep: bool,
    ) -> Outcome {
        let f = data.shape.f;
        let (mut steps, mut columns) = (false, None);
        for &axis in over {
            match data.axes[axis][..] {
                [] => {}
                [Atom::Time(_)] => steps = true,
                [Atom::Feature { size, stride }] if columns.is_none() && size * stride == f => {
                    columns = Some((size, stride));
                }
                _ => return Err(format!("axis {axis} of {} reduced", axes::show(&data.axes))),
            }
        }
        let stage = match (steps, columns) {
            (false, None) => return Ok(vec![Value::Data(without(data, over, keep))]),
            (true, None) => StageKind::Pool(kind),
            (_, Some(_)) if kind == Over::Last => return Err("the last column".into()),
            (true, Some((_, channels))) => StageKind::Pool2d { over: kind, channels, windows: None },
            (false, Some((columns, channels))) => StageKind::Columns { over: kind, channels, columns },
        };
        let mut data = self.push(node, data, (stage, "pool"), Vec::new())?;
        data.shape.t = if steps { 1 } else { data.shape.t };
        data.shape.f = columns.map_or(f, |(_, channels)| channels);
        Ok(vec![Value::Data(without(data, over, keep))])
    }

    pub(super) fn gather(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let [from, at] = inputs else { return Err("other than two inputs".into()) };
        let axis = int(node, "axis", 0);
        match (from, at) {
            (Value::Tensor(table), Value::Data(_)) if axis == 0 => {
                let data = self.data(at)?;
                let [rows, width] = table.dims[..] else {
                    return Err(format!("a table of shape {:?}", table.dims));
                };
                if data.shape.f != 1 {
                    return Err(format!("indices of {} features", data.shape.f));
                }
                let tensors = vec![("weight".to_owned(), table.values.clone())];
                let kind = StageKind::Embedding { rows, width };
                let mut data = self.push(node, data, (kind, "embedding"), tensors)?;
                data.shape.f = width;
                data.axes.push(axes::features(width, 1));
                Ok(vec![Value::Data(data)])
            }
            (Value::Pieces(pieces, units), Value::Tensor(at)) if axis == 0 && at.values.len() == 1 => {
                let piece = pieces[index(at.ints()[0], pieces.len())?];
                match at.dims.len() {
                    0 => Ok(vec![Value::Piece(piece, *units)]),
                    _ => Ok(vec![Value::Pieces(vec![piece], *units)]),
                }
            }
            (_, Value::Tensor(at)) if at.dims.is_empty() && at.values.len() == 1 => {
                let data = self.data(from)?;
                let axis = index(axis, data.axes.len())?;
                let steps = data.shape.t as i64;
                match (&data.axes[axis][..], at.ints()[0]) {
                    ([], 0 | -1) => Ok(vec![Value::Data(without(data, &[axis], false))]),
                    ([Atom::Time(_)], last) if last == -1 || last == steps - 1 => {
                        self.pooled(node, data, (&[axis], Over::Last), false)
                    }
                    (_, at) => Err(format!("element {at} of axis {axis} of {}", axes::show(&data.axes))),
                }
            }
            _ => Err(format!("{} at {}", from.what(), at.what())),
        }
    }

    pub(super) fn slice(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let starts = ints(node, "starts", inputs.get(1))?;
        let ends = ints(node, "ends", inputs.get(2))?;
        let axes = ints(node, "axes", inputs.get(3)).unwrap_or_else(|_| (0..starts.len() as i64).collect());
        let steps = ints(node, "steps", inputs.get(4)).unwrap_or_else(|_| vec![1; starts.len()]);
        if starts.len() != ends.len() || starts.len() != axes.len() || steps.iter().any(|&step| step != 1) {
            return Err("other than ranges of axes".into());
        }
        if let (Value::Pieces(pieces, units), &[start], &[end], [0]) =
            (&inputs[0], &starts[..], &ends[..], &axes[..])
        {
            let count = pieces.len() as i64;
            let place =
                |at: i64| (if at < 0 { at.saturating_add(count) } else { at }).clamp(0, count) as usize;
            let part = pieces.get(place(start)..place(end)).unwrap_or_default();
            return Ok(vec![Value::Pieces(part.to_vec(), *units)]);
        }
        if let ([start], [end], [axis]) = (&starts[..], &ends[..], &axes[..])
            && let Some(value) = self.of_direction(&inputs[0], [*start, *end], *axis)
        {
            return Ok(vec![value]);
        }
        let mut data = self.data(&inputs[0])?;
        for ((&start, &end), &axis) in starts.iter().zip(&ends).zip(&axes) {
            let axis = index(axis, data.axes.len())?;
            let size = axes::size(&data.axes[axis]);
            match (start, end) {
                (0, end) if size.map_or(end == i64::MAX, |size| end >= size) => {}
                (start, end)
                    if data.axes[axis] == axes::time(data.shape.t)
                        && (start == -1 || start == data.shape.t as i64 - 1)
                        && end >= data.shape.t as i64 =>
                {
                    match self.pooled(node, data.clone(), (&[axis], Over::Last), true)?.pop() {
                        Some(Value::Data(last)) => data = last,
                        _ => return Err("no last step".into()),
                    }
                }
                _ => {
                    return Err(format!(
                        "the range {start} to {end} of axis {axis} of {}",
                        axes::show(&data.axes)
                    ));
                }
            }
        }
        Ok(vec![Value::Data(data)])
    }
}

impl Reader<'_> {
    /// What a range of one element is of a recurrent layer in both directions: one of these, or the final state of one, which is
    /// its last step forwards and the first one backwards.
    fn of_direction(&self, value: &Value, [start, end]: [i64; 2], axis: i64) -> Option<Value> {
        let recurrent = |data: &Data| {
            let stage = &self.stages[data.at.checked_sub(1)?];
            match stage.kind {
                StageKind::Recurrent { both: true, units, .. } => Some(units),
                _ => None,
            }
        };
        match value {
            Value::Data(data) => {
                let (units, axis) = (recurrent(data)?, index(axis, data.axes.len()).ok()?);
                let direction = usize::try_from(start).ok().filter(|&direction| direction < 2)?;
                if data.axes[axis] != axes::features(2, units) || end.min(2) != start + 1 {
                    return None;
                }
                let mut data = data.clone();
                data.axes[axis].clear();
                Some(Value::Direction(Box::new(data), direction))
            }
            Value::Direction(data, direction) => {
                let (units, steps) = (recurrent(data)?, data.shape.t as i64);
                let final_one = match direction {
                    0 => (start == -1 || start == steps - 1) && end >= steps,
                    _ => start == 0 && end == 1,
                };
                let whole =
                    data.axes.first().is_some_and(|axis| *axis == axes::time(data.shape.t)) && axis == 0;
                let piece = Piece { stage: data.at - 1, direction: *direction };
                (final_one && whole && data.axes.len() == 3).then(|| Value::Pieces(vec![piece], units))
            }
            _ => None,
        }
    }
}

/// The data without these axes, or with size 1 along them.
fn without(mut data: Data, over: &[usize], keep: bool) -> Data {
    for &axis in over {
        data.axes[axis] = Axis::new();
    }
    let mut i = 0;
    data.axes.retain(|_| {
        i += 1;
        keep || !over.contains(&(i - 1))
    });
    data
}
