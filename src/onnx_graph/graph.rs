//! The graph into which layers write themselves.

use std::ops::Range;

use super::Export;
use super::proto::{
    AttributeProto, DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};
use crate::{Arena, Error, Real, Result, Shape};

/// ONNX's numbers of element types.
const INT32: i32 = 6;
const INT64: i32 = 7;

/// A value that flows through a [`Graph`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(pub(super) String);

impl Value {
    /// The placeholder for an optional input that is not given.
    pub fn absent() -> Self {
        Self(String::new())
    }
}

/// A setting of an operator.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attribute<'a> {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f32),
    /// A string.
    Text(&'a str),
    /// Whole numbers.
    Ints(&'a [i64]),
    /// Strings.
    Texts(&'a [&'a str]),
}

/// The length of an axis of an input or output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dimension {
    Fixed(usize),
    Named(&'static str),
    Unknown,
}

/// An ONNX graph under construction, as seen by the layer that is being exported.
///
/// Values that go from layer to layer are `[T, batch, F]`; T may be unknown until the graph is run, and the batch always
/// is. Operators are those of opset [`OPSET`](super::OPSET) in ONNX's default domain.
///
/// # Examples
/// The export of a custom layer, y = g ⊙ x; `gain` is the tensor that its `build` declares.
///
/// ```
/// use bptt::onnx::{Graph, Value};
/// use bptt::{Real, Result};
///
/// fn export_onnx<R: Real>(graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
///     let gain = graph.param("gain")?;
///     Ok(graph.node("Mul", &[&gain, &x], &[]))
/// }
/// ```
#[derive(Debug)]
pub struct Graph<'a, R> {
    params: &'a Arena<R>,
    /// T of the model's input, or of the last layer that set the lengths.
    steps: usize,
    /// The lengths that the last of these layers set.
    lengths: Option<Value>,
    export: &'a Export,
    layer: String,
    input: Shape,
    /// The layer's own among `params`.
    range: Range<usize>,
    pub(crate) proto: GraphProto,
}

impl<'a, R: Real> Graph<'a, R> {
    /// An empty graph for a model with these parameters, whose input has `steps` steps.
    pub(crate) fn new(params: &'a Arena<R>, steps: usize, export: &'a Export) -> Self {
        let proto = GraphProto { name: "bptt".into(), ..GraphProto::default() };
        Self {
            params,
            steps,
            lengths: None,
            export,
            layer: String::new(),
            input: Shape::new(steps, 0),
            range: 0..0,
            proto,
        }
    }

    /// Begins the export of another layer: its name, the shape of its input, and which parameters are its own.
    pub(crate) fn enter(&mut self, layer: &str, input: Shape, range: Range<usize>) {
        (self.layer, self.input, self.range) = (layer.to_owned(), input, range);
    }

    /// Exports a layer within this one, which is called `layer.name`: what a layer that holds others does for each. With it
    /// come the shape of its input, and which of this layer's parameters are its own.
    ///
    /// # Errors
    /// As `export`, which says the name.
    pub fn within(
        &mut self,
        name: &str,
        (input, range): (Shape, Range<usize>),
        export: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        let outer = (self.layer.clone(), self.input, self.range.clone());
        let first = self.range.start;
        self.enter(&format!("{}.{name}", outer.0), input, first + range.start..first + range.end);
        let value = export(self).map_err(|e| e.within(name));
        (self.layer, self.input, self.range) = outer;
        value
    }

    /// The lengths as they are now, so that each branch begins with them.
    pub(crate) fn lengths_before(&self) -> (usize, Option<Value>) {
        (self.steps, self.lengths.clone())
    }

    /// Sets the lengths to what they were.
    pub(crate) fn restore_lengths(&mut self, (steps, lengths): (usize, Option<Value>)) {
        (self.steps, self.lengths) = (steps, lengths);
    }

    /// The layer's name.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// The shape of the layer's input for one sample; the graph may be run on sequences of another length.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The layer's parameters, tensor after tensor in the order declared.
    pub fn params(&self) -> &'a [R] {
        &self.params.as_slice()[self.range.clone()]
    }

    /// A tensor that the layer declared, under its full name and in its shape.
    ///
    /// # Errors
    /// [`Error::Config`] if it declared none with this name.
    pub fn param(&mut self, name: &str) -> Result<Value> {
        let params = self.params;
        let full = format!("{}.{name}", self.layer());
        let tensor = params.layout().get(&full).filter(|t| self.range.contains(&t.offset));
        let tensor = tensor.ok_or_else(|| {
            Error::config(name, "found no parameter of this name, expected one that `build` declares")
        })?;
        Ok(self.tensor(name, &tensor.shape(), &params.as_slice()[tensor.range()]))
    }

    /// A tensor of constants, under a name within the layer; of two with the same name, the first is used.
    ///
    /// # Panics
    /// If there are not as many values as the shape says.
    #[track_caller]
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: &[R]) -> Value {
        let name = format!("{}.{name}", self.layer());
        self.constant(name, shape, values)
    }

    /// A constant that is one number, of shape `[]`.
    pub fn scalar(&mut self, x: R) -> Value {
        let name = self.name("value");
        self.constant(name, &[], &[x])
    }

    /// A tensor of constants under a full name.
    pub(crate) fn constant(&mut self, name: String, shape: &[usize], values: &[R]) -> Value {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of the tensor {name}");
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|x| x.push_le(&mut bytes));
        self.initializer(name, element_type::<R>(), shape, bytes)
    }

    /// Constant whole numbers (64 bits), `[n]`: axes or shapes.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let name = self.name("ints");
        self.initializer(name, INT64, &[values.len()], bytes)
    }

    fn initializer(&mut self, name: String, data_type: i32, shape: &[usize], raw_data: Vec<u8>) -> Value {
        if !self.proto.initializer.iter().any(|tensor| tensor.name == name) {
            let dims = shape.iter().map(|&size| size as i64).collect();
            let name = name.clone();
            self.proto.initializer.push(TensorProto {
                dims,
                data_type,
                name,
                raw_data,
                ..TensorProto::default()
            });
        }
        Value(name)
    }

    /// Appends an operator with one output.
    pub fn node(&mut self, op: &str, inputs: &[&Value], attributes: &[(&str, Attribute<'_>)]) -> Value {
        let [output] = self.nodes(op, inputs, attributes);
        output
    }

    /// Appends an operator with `N` outputs.
    pub fn nodes<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) -> [Value; N] {
        let name = self.name(op);
        let outputs = std::array::from_fn(|i| match N {
            1 => Value(name.clone()),
            _ => Value(format!("{name}_{i}")),
        });
        self.proto.node.push(node(name, op, inputs, attributes, &outputs));
        outputs
    }

    /// The initial state `[parts, batch, size]` as an input of the graph, `layer.name`; `None` if the export is without
    /// states, so that the state is 0.
    pub fn state(&mut self, name: &str, parts: usize, size: usize) -> Option<Value> {
        self.export.states.then(|| self.add_input(format!("{}.{name}", self.layer()), state(parts, size)))
    }

    /// The final state `[parts, batch, size]` as an output of the graph, `layer.name`, where the export has states.
    pub fn final_state(&mut self, name: &str, value: &Value, parts: usize, size: usize) {
        if self.export.states {
            self.add_output(format!("{}.{name}", self.layer()), ("Identity", &[]), value, state(parts, size));
        }
    }

    /// How many steps of `x`, `[T, batch, F]`, count: whole numbers (32 bits), `[batch]`; `None` if all do.
    pub fn lengths(&mut self, x: &Value) -> Option<Value> {
        if !self.export.lengths {
            return None;
        }
        let lengths = self.lengths.clone().unwrap_or(Value(super::LENGTHS.into()));
        if self.input.t == self.steps {
            return Some(lengths);
        }
        // After a layer that left fewer steps, no more than these count.
        let steps = self.steps(x);
        let steps = self.node("Cast", &[&steps], &[("to", Attribute::Int(INT32.into()))]);
        Some(self.node("Min", &[&lengths, &steps], &[]))
    }

    /// Sets how many steps count after this layer, which returns `steps` of them: what `f` makes of the lengths before it,
    /// whole numbers (32 or 64 bits), `[batch]`. Without it, as many count as before, or as there are if these are fewer.
    pub fn set_lengths(&mut self, steps: usize, f: impl FnOnce(&mut Self, Value) -> Value) {
        if self.export.lengths {
            let before = self.lengths.clone().unwrap_or(Value(super::LENGTHS.into()));
            let after = f(self, before);
            self.lengths = Some(self.node("Cast", &[&after], &[("to", Attribute::Int(INT32.into()))]));
            self.steps = steps;
        }
    }

    /// Whether a step of `x`, `[T, batch, F]`, counts: truth values, `[T, batch, 1]`; `None` if all do.
    pub fn mask(&mut self, x: &Value) -> Option<Value> {
        let lengths = self.lengths(x)?;
        let [first, last] = [0, -1].map(|axis| self.ints(&[axis]));
        // In 64 bits, the type of shapes: readers that infer shapes expect it of Range.
        let [zero, one] = [0, 1].map(|number| self.int(number));
        let steps = self.steps(x);
        let steps = self.node("Squeeze", &[&steps, &first], &[]);
        let numbers = self.node("Range", &[&zero, &steps, &one], &[]);
        let numbers = self.node("Cast", &[&numbers], &[("to", Attribute::Int(INT32.into()))]);
        let numbers = self.node("Unsqueeze", &[&numbers, &last], &[]);
        let counts = self.node("Less", &[&numbers, &lengths], &[]);
        Some(self.node("Unsqueeze", &[&counts, &last], &[]))
    }

    /// A constant whole number (64 bits), `[]`.
    pub fn int(&mut self, x: i64) -> Value {
        let name = self.name("int");
        self.initializer(name, INT64, &[], x.to_le_bytes().into())
    }

    /// T, `[1]`, in 64 bits.
    fn steps(&mut self, x: &Value) -> Value {
        self.node("Shape", &[x], &[("start", Attribute::Int(0)), ("end", Attribute::Int(1))])
    }

    /// `x` as whole numbers of 64 bits.
    pub(crate) fn cast_int64(&mut self, x: &Value) -> Value {
        self.node("Cast", &[x], &[("to", Attribute::Int(INT64.into()))])
    }

    /// `x` as numbers of the model's scalar type.
    pub(crate) fn cast_real(&mut self, x: &Value) -> Value {
        self.node("Cast", &[x], &[("to", Attribute::Int(element_type::<R>().into()))])
    }

    /// A name that is not in use yet.
    fn name(&self, what: &str) -> String {
        format!("{}/{what}_{}", self.layer(), self.proto.node.len() + self.proto.initializer.len())
    }

    pub(crate) fn add_input(&mut self, name: String, shape: [Dimension; 3]) -> Value {
        self.proto.input.push(value_info(&name, element_type::<R>(), &shape));
        Value(name)
    }

    pub(crate) fn add_lengths(&mut self) {
        self.proto.input.push(value_info(super::LENGTHS, INT32, &[Dimension::Named("batch")]));
    }

    /// An output of the graph, which `op` computes from `value`.
    pub(crate) fn add_output(
        &mut self,
        name: String,
        (op, attributes): (&str, &[(&str, Attribute<'_>)]),
        value: &Value,
        shape: [Dimension; 3],
    ) {
        self.proto.output.push(value_info(&name, element_type::<R>(), &shape));
        let outputs = [Value(name.clone())];
        self.proto.node.push(node(name, op, &[value], attributes, &outputs));
    }
}

fn node(
    name: String,
    op: &str,
    inputs: &[&Value],
    attributes: &[(&str, Attribute<'_>)],
    outputs: &[Value],
) -> NodeProto {
    let mut input: Vec<_> = inputs.iter().map(|value| value.0.clone()).collect();
    while input.last().is_some_and(String::is_empty) {
        input.pop();
    }
    NodeProto {
        input,
        output: outputs.iter().map(|value| value.0.clone()).collect(),
        name,
        op_type: op.to_owned(),
        attribute: attributes.iter().map(|&(name, value)| value.named(name)).collect(),
        domain: String::new(),
    }
}

fn state(parts: usize, size: usize) -> [Dimension; 3] {
    [Dimension::Fixed(parts), Dimension::Named("batch"), Dimension::Fixed(size)]
}

/// ONNX's number of the model's scalar type, FLOAT or DOUBLE.
fn element_type<R: Real>() -> i32 {
    if R::DTYPE == safetensors::Dtype::F32 { 1 } else { 11 }
}

fn value_info(name: &str, elem_type: i32, shape: &[Dimension]) -> ValueInfoProto {
    let dimension = |&dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => DimensionProto { dim_value: Some(size as i64), dim_param: None },
        Dimension::Named(name) => DimensionProto { dim_value: None, dim_param: Some(name.to_owned()) },
        Dimension::Unknown => DimensionProto::default(),
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(shape) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

impl Attribute<'_> {
    fn named(self, name: &str) -> AttributeProto {
        let attribute = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        let bytes = |text: &str| text.as_bytes().to_vec();
        match self {
            Self::Float(f) => AttributeProto { f: Some(f), r#type: 1, ..attribute },
            Self::Int(i) => AttributeProto { i: Some(i), r#type: 2, ..attribute },
            Self::Text(text) => AttributeProto { s: Some(bytes(text)), r#type: 3, ..attribute },
            Self::Ints(ints) => AttributeProto { ints: ints.to_vec(), r#type: 7, ..attribute },
            Self::Texts(texts) => {
                let strings = texts.iter().map(|text| bytes(text)).collect();
                AttributeProto { strings, r#type: 8, ..attribute }
            }
        }
    }
}
