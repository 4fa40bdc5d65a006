//! Convolution, pooling of windows, and batch normalisation: operators whose second axis is that of the channels.

use super::axes::{self, Atom, Axis};
use super::fold::{ints, tensor};
use super::ops::{Outcome, decimal, vector};
use super::reader::{Data, Reader, Value, attribute, float, int};
use super::stage::{Over, Span, StageKind};
use super::tensor::moved;
use crate::Shape;
use crate::onnx_graph::proto::NodeProto;

/// Where rows and columns of an image are among the axes, and how many columns and channels there are.
#[derive(Clone, Copy)]
struct Grid {
    /// Whether the axis of the columns comes before that of the rows.
    turned: bool,
    columns: usize,
    channels: usize,
}

impl Reader<'_> {
    /// Data as a convolution or a pool reads them: steps of features, or of columns · channels.
    fn grid(&mut self, node: &NodeProto, data: Data) -> Result<(Data, Grid), String> {
        let fault = |data: &Data| {
            format!("the axes {}, expected batch, channels, steps and columns", axes::show(&data.axes))
        };
        if !matches!(data.axes.first().map(Vec::as_slice), Some([Atom::Batch(_)])) {
            return Err(fault(&data));
        }
        if data.axes.len() == 3 {
            let data = self.arranged(node, data, 1)?;
            let grid = Grid { turned: false, columns: 1, channels: data.shape.f };
            return if data.axes[2] == axes::time(data.shape.t) {
                Ok((data, grid))
            } else {
                Err(fault(&data))
            };
        }
        if data.axes.len() != 4 {
            return Err(fault(&data));
        }
        let data = self.stepped(node, data, 2)?;
        let Shape { t, f } = data.shape;
        let channels = axes::width(&data.axes[1]).filter(|&channels| f.is_multiple_of(channels));
        let channels = channels.ok_or_else(|| fault(&data))?;
        let rest = [axes::time(t), axes::features(f / channels, channels)];
        let turned = data.axes[2] == rest[1] && data.axes[3] == rest[0];
        if data.axes[1] != axes::features(channels, 1) || !(turned || data.axes[2..] == rest) {
            return Err(fault(&data));
        }
        // If both are the same, there is one row and one column.
        let turned = turned && data.axes[2..] != rest;
        Ok((data, Grid { turned, columns: f / channels, channels }))
    }

    pub(super) fn conv(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let (data, padding) = self.unpadded(&inputs[0])?;
        let weight = tensor(inputs.get(1).unwrap_or(&Value::Absent), "weights")?;
        let image = data.axes.len() == 4;
        if int(node, "group", 1) != 1 {
            return Err(format!("group {}", int(node, "group", 1)));
        }
        let (data, grid) = self.grid(node, data)?;
        let [out, channels, kernel @ ..] = &weight.dims[..] else { return Err("weights of two axes".into()) };
        let spans = spans(node, kernel, [data.shape.t, grid.columns], grid.turned)?;
        let [rows, columns] = [0, 1].map(|i| {
            let ([before, after], span) = (padding[i], spans[i]);
            Span { before: span.before + before, after: span.after + after, ..span }
        });
        if kernel.len() != data.axes.len() - 2
            || *channels != grid.channels
            || *out == 0
            || kernel.contains(&0)
        {
            return Err(format!("weights of shape {:?} for {} channels", weight.dims, grid.channels));
        }
        if (rows.before != rows.after && !rows.is_causal()) || columns.before != columns.after {
            let pads = [rows.before, columns.before, rows.after, columns.after];
            return Err(format!(
                "pads {pads:?}, expected as many zeros on both sides, or all before the first row"
            ));
        }
        let weight = if grid.turned { weight.transposed(&[0, 1, 3, 2])? } else { (*weight).clone() };
        let order = if image { (0..*channels).collect() } else { axes::order(&data.axes[1]) };
        let mut tensors = vec![("weight".to_owned(), moved(&weight.values, &order, kernel.iter().product()))];
        let bias = match inputs.get(2) {
            None | Some(Value::Absent) => None,
            Some(bias) => Some(vector(bias, *out)?),
        };
        let has_bias = bias.is_some();
        tensors.extend(bias.map(|bias| ("bias".to_owned(), bias)));
        let over_time =
            grid.columns == 1 && columns == Span { size: 1, stride: columns.stride, before: 0, after: 0 };
        let kind = match over_time {
            true => StageKind::Conv1d { outputs: *out, window: rows, bias: has_bias },
            false => {
                StageKind::Conv2d { channels: [*channels, *out], windows: [rows, columns], bias: has_bias }
            }
        };
        let data = self.push(node, data, (kind, "conv"), tensors)?;
        moved_over(data, Grid { channels: *out, ..grid }, [rows, columns])
    }

    /// The data before the padding, if there is one, and how much that is before and after rows and columns.
    fn unpadded(&self, value: &Value) -> Result<(Data, [[usize; 2]; 2]), String> {
        let data = self.data(value)?;
        match data.at.checked_sub(1).map(|i| &self.stages[i]) {
            Some(stage) => match stage.kind {
                StageKind::Pad(rows) => {
                    let t = data.shape.t - rows[0] - rows[1];
                    let mut axes = data.axes;
                    axes.iter_mut().filter(|axis| axis[..] == [Atom::Time(data.shape.t)]).for_each(|axis| {
                        *axis = axes::time(t);
                    });
                    let shape = Shape::new(t, data.shape.f);
                    Ok((Data { axes, shape, at: stage.from, last: false }, [rows, [0; 2]]))
                }
                _ => Ok((data, [[0; 2]; 2])),
            },
            None => Ok((data, [[0; 2]; 2])),
        }
    }

    /// Zeros before and after the steps, which the convolution after it takes.
    pub(super) fn pad(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let data = self.data(&inputs[0])?;
        let mode = attribute(node, "mode").and_then(|mode| mode.s.as_deref()).unwrap_or(b"constant");
        let zero = match inputs.get(2) {
            Some(Value::Tensor(value)) => value.is_zero(),
            _ => float(node, "value", 0.0) == 0.0,
        };
        if mode != b"constant" || !zero || inputs.get(3).is_some_and(|axes| !matches!(axes, Value::Absent)) {
            return Err("a padding other than zeros of all axes".into());
        }
        let pads = ints(node, "pads", inputs.get(1))?;
        let (before, after) = pads.split_at(pads.len() / 2);
        if before.len() != data.axes.len() || after.len() != before.len() {
            return Err(format!("pads {pads:?}"));
        }
        let mut rows = [0; 2];
        for ((axis, &before), &after) in data.axes.iter().zip(before).zip(after) {
            match (matches!(axis[..], [Atom::Time(_)]), [before, after].map(span)) {
                (_, [Some(0), Some(0)]) => {}
                (true, [Some(before), Some(after)]) => rows = [before, after],
                _ => return Err(format!("pads {pads:?} of {}", axes::show(&data.axes))),
            }
        }
        let mut data = self.push(node, data, (StageKind::Pad(rows), "pad"), Vec::new())?;
        let (old, new) = (axes::time(data.shape.t), data.shape.t + rows[0] + rows[1]);
        data.axes.iter_mut().filter(|axis| **axis == old).for_each(|axis| *axis = axes::time(new));
        data.shape.t = new;
        Ok(vec![Value::Data(data)])
    }

    pub(super) fn pool_windows(&mut self, node: &NodeProto, value: &Value) -> Outcome {
        let data = self.data(value)?;
        let kernel: Vec<usize> = ints(node, "kernel_shape", None)?
            .iter()
            .map(|&size| span(size).filter(|&size| size > 0).ok_or_else(|| format!("kernel_shape {size}")))
            .collect::<Result<_, _>>()?;
        let (data, grid) = self.grid(node, data)?;
        if kernel.len() != data.axes.len() - 2 {
            return Err(format!("kernel_shape {kernel:?}"));
        }
        let sizes = [data.shape.t, grid.columns];
        let windows = spans(node, &kernel, sizes, grid.turned)?;
        for (window, n) in windows.into_iter().zip(sizes) {
            if window.before + window.after > 0 {
                return Err("a pool with padding".into());
            }
            if int(node, "ceil_mode", 0) != 0 && n.saturating_sub(window.size) % window.stride.max(1) != 0 {
                return Err("ceil_mode, where windows are cut off".into());
            }
        }
        let over = if node.op_type == "MaxPool" { Over::Max } else { Over::Mean };
        let kind = StageKind::Pool2d { over, channels: grid.channels, windows: Some(windows) };
        let data = self.push(node, data, (kind, "pool"), Vec::new())?;
        moved_over(data, grid, windows)
    }

    pub(super) fn pool_all(&mut self, node: &NodeProto, value: &Value) -> Outcome {
        let data = self.data(value)?;
        let (data, _) = self.grid(node, data)?;
        let over = if node.op_type == "GlobalMaxPool" { Over::Max } else { Over::Mean };
        let axes: Vec<usize> = (2..data.axes.len()).collect();
        self.pooled(node, data, (&axes, over), true)
    }

    pub(super) fn batch_norm(&mut self, node: &NodeProto, inputs: &[Value]) -> Outcome {
        let mut data = self.data(&inputs[0])?;
        if int(node, "training_mode", 0) != 0 {
            return Err("training_mode".into());
        }
        let axis = data.axes.get(1).ok_or("an input of one axis")?;
        let size = axes::width(axis);
        let channels = size
            .filter(|&n| *axis == axes::features(n, 1) && n < data.shape.f && data.shape.f.is_multiple_of(n));
        if channels.is_none() {
            data = self.arranged(node, data, 1)?;
        }
        let size = channels.unwrap_or(data.shape.f);
        let order = if channels.is_some() { (0..size).collect() } else { axes::order(&data.axes[1]) };
        let values = |i: usize| {
            let values = vector(inputs.get(i).unwrap_or(&Value::Absent), size)?;
            Ok::<_, String>(moved(&values, &order, 1))
        };
        let [weight, bias, mean, var] = [values(1)?, values(2)?, values(3)?, values(4)?];
        let affine = weight.iter().any(|&x| x != 1.0) || bias.iter().any(|&x| x != 0.0);
        let eps = decimal(float(node, "epsilon", 1e-5));
        // What of 1 - 0.9 is rounding is left out.
        let momentum = ((1.0 - decimal(float(node, "momentum", 0.9))) * 1e6).round() / 1e6;
        let mut tensors = vec![("running_mean".to_owned(), mean), ("running_var".to_owned(), var)];
        if affine {
            tensors.splice(0..0, [("weight".to_owned(), weight), ("bias".to_owned(), bias)]);
        }
        let kind = StageKind::BatchNorm { channels, eps, momentum, affine };
        Ok(vec![Value::Data(self.push(node, data, (kind, "norm"), tensors)?)])
    }
}

/// A size or a stride of a window, or a padding; more than this is a mistake, or a malicious file.
fn span(size: i64) -> Option<usize> {
    usize::try_from(size).ok().filter(|&size| size <= 1 << 20)
}

/// The windows of a node over steps and columns, of which there are `sizes`.
fn spans(node: &NodeProto, kernel: &[usize], sizes: [usize; 2], turned: bool) -> Result<[Span; 2], String> {
    let n = kernel.len();
    let setting = |name: &str, count: usize, default: usize| -> Result<Vec<usize>, String> {
        let Some(found) = attribute(node, name) else { return Ok(vec![default; count]) };
        let sizes = found.ints.iter().map(|&size| span(size)).collect::<Option<Vec<_>>>();
        sizes.filter(|sizes| sizes.len() == count).ok_or_else(|| format!("{name} {:?}", found.ints))
    };
    let (strides, mut pads) = (setting("strides", n, 1)?, setting("pads", 2 * n, 0)?);
    let dilations = setting("dilations", n, 1)?;
    if dilations.iter().zip(kernel).any(|(&dilation, &size)| dilation != 1 && size != 1) {
        return Err(format!("dilations {dilations:?}"));
    }
    let place = |i: usize| if turned { 1 - i } else { i };
    match attribute(node, "auto_pad").and_then(|auto| auto.s.as_deref()) {
        None | Some(b"NOTSET" | b"VALID") => {}
        Some(auto @ (b"SAME_UPPER" | b"SAME_LOWER")) => {
            for i in 0..n {
                let positions = sizes[place(i)].div_ceil(strides[i].max(1)).saturating_sub(1);
                let all = (positions * strides[i] + kernel[i]).saturating_sub(sizes[place(i)]);
                let less = all / 2;
                let both = if auto == b"SAME_UPPER" { [less, all - less] } else { [all - less, less] };
                [pads[i], pads[n + i]] = both;
            }
        }
        Some(other) => return Err(format!("auto_pad `{}`", other.escape_ascii())),
    }
    let mut spans = [Span { size: 1, stride: 1, before: 0, after: 0 }; 2];
    for i in 0..n {
        spans[place(i)] = Span { size: kernel[i], stride: strides[i], before: pads[i], after: pads[n + i] };
    }
    Ok(spans)
}

/// The data that windows moved over rows and columns leave.
fn moved_over(mut data: Data, grid: Grid, windows: [Span; 2]) -> Outcome {
    let none = || format!("windows larger than the input {}", axes::show(&data.axes));
    let t = windows[0].positions(data.shape.t).ok_or_else(none)?;
    let columns = windows[1].positions(grid.columns).ok_or_else(none)?;
    data.shape = Shape::new(t, columns * grid.channels);
    let (rows, wide) = (axes::time(t), axes::features(columns, grid.channels));
    let image: Vec<Axis> = if grid.turned { vec![wide, rows] } else { vec![rows, wide] };
    let spatial = data.axes.len() - 2;
    data.axes[1] = axes::features(grid.channels, 1);
    for (axis, new) in data.axes[2..].iter_mut().zip(image.into_iter().take(spatial)) {
        *axis = new;
    }
    Ok(vec![Value::Data(data)])
}
