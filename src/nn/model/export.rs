//! A model as an ONNX file: its layers write themselves into a graph, one after another.

use std::path::Path;

use prost::Message;

use super::Model;
use crate::nn::{Build, Features};
use crate::onnx_graph::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::onnx_graph::{Attribute, Dimension, Export, Graph, OPSET, TARGETS};
use crate::params::Layout;
use crate::{Error, Real, Result, Shape, atomic_write};

/// The version of the file format.
const IR_VERSION: i64 = 8;
/// The most bytes that protocol buffers can hold.
const MAX_BYTES: usize = i32::MAX as usize;

impl Export {
    /// The content of an ONNX file. The same model gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer and its kind if one cannot be exported, and if the model is larger than the
    /// 2 GB that such a file holds.
    pub fn to_bytes<R: Real>(&self, model: &Model<R>) -> Result<Vec<u8>> {
        let mut metadata_props = Vec::new();
        if !model.classes().is_empty() {
            let value = serde_json::to_string(model.classes()).map_err(|e| {
                Error::config("classes", format!("found names that cannot be written as JSON: {e}"))
            })?;
            metadata_props.push(StringStringEntryProto { key: "classes".into(), value });
        }
        let file = ModelProto {
            ir_version: IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: self.graph(model)?,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props,
        };
        let size = file.encoded_len();
        if size > MAX_BYTES {
            let fault = format!("found a model of {size} bytes, expected at most {MAX_BYTES}");
            return Err(Error::config("onnx", fault));
        }
        Ok(file.encode_to_vec())
    }

    /// Writes an ONNX file, by [`atomic_write`].
    ///
    /// # Errors
    /// As for [`to_bytes`](Self::to_bytes), and [`Error::Io`] naming the file.
    pub fn write<R: Real>(&self, model: &Model<R>, path: impl AsRef<Path>) -> Result<()> {
        atomic_write(path, self.to_bytes(model)?)
    }

    fn graph<R: Real>(&self, model: &Model<R>) -> Result<GraphProto> {
        // Batch first outside; time first inside, as in ONNX's recurrent operators.
        let swap = [("perm", Attribute::Ints(&[1, 0, 2]))];
        let batch = Dimension::Named("batch");
        let shape = |t: Dimension, f: usize| [batch, t, Dimension::Fixed(f)];
        let mut graph = Graph::new(model.params(), model.input_shape().t, self);
        // What comes before the first layer is named after it.
        graph.enter(&model.slots()[0].name, model.input_shape(), 0..0);
        let (input, output) = (model.input_shape(), model.output_shape());
        let time = if self.states { Dimension::Named("time") } else { Dimension::Fixed(input.t) };
        let mut x = graph.add_input("input".into(), shape(time, input.f));
        if self.lengths {
            graph.add_lengths();
        }
        if !model.normalization().is_identity() {
            for (op, name, values) in
                [("Sub", "mean", model.normalization().mean()), ("Div", "sd", model.normalization().sd())]
            {
                let values: Vec<R> = values.iter().map(|&value| R::from_f64(value)).collect();
                let values = graph.constant(format!("normalize.{name}"), &[values.len()], &values);
                x = graph.node(op, &[&x, &values], &[]);
            }
        }
        x = graph.node("Transpose", &[&x], &swap);
        for slot in model.slots() {
            graph.enter(&slot.name, slot.input, slot.params.clone());
            x = slot.layer.export_onnx(&mut graph, x).map_err(|e| e.within(&slot.name))?;
        }
        if let Some(targets) = model.target_normalization() {
            for (op, name, values) in [("Mul", "sd", targets.sd()), ("Add", "mean", targets.mean())] {
                let values: Vec<R> = values.iter().map(|&value| R::from_f64(value)).collect();
                let values = graph.constant(format!("{TARGETS}{name}"), &[values.len()], &values);
                x = graph.node(op, &[&x, &values], &[]);
            }
        }
        let time = if self.states { steps_out(model)? } else { Dimension::Fixed(output.t) };
        // The output of the model comes before the states.
        let states = std::mem::take(&mut graph.proto.output);
        graph.add_output("output".into(), ("Transpose", &swap), &x, shape(time, output.f));
        graph.proto.output.extend(states);
        Ok(graph.proto)
    }
}

/// The number of output steps where the number of input steps is open.
fn steps_out<R: Real>(model: &Model<R>) -> Result<Dimension> {
    let of = |t: usize| {
        let input = Shape::new(t, model.input_shape().f);
        let (mut features, mut layout) = (Features::new(input), Layout::default());
        for slot in model.slots() {
            let mut build = Build::new(&features, &mut layout, &slot.name);
            features = slot.layer.build(&mut build).map_err(|e| e.within(&slot.name))?.output;
        }
        Ok(features.shape.t)
    };
    let t = model.input_shape().t;
    // A layer may accept only as many steps as there are.
    let now = of(t)?;
    let Ok(more) = of(t + 1) else { return Ok(Dimension::Fixed(now)) };
    Ok(match [now, more] {
        [now, more] if now == more => Dimension::Fixed(now),
        [now, more] if now == t && more == t + 1 => Dimension::Named("time"),
        _ => Dimension::Unknown,
    })
}

impl<R: Real> Model<R> {
    /// Writes the model as an ONNX file, from `input` `[batch, T, F]` to `output` `[batch, T', F']`; see
    /// [`onnx`](crate::onnx).
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer and its kind if one cannot be exported; [`Error::Io`] naming the file.
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        Export::new().write(self, path)
    }
}
