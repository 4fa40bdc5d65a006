//! What depends on no data: constants, shapes, and zeros.

use std::rc::Rc;

use super::axes::{self, Atom, Axis, BATCH, index};
use super::reader::{Value, attribute, int};
use super::tensor::Tensor;
use crate::onnx_graph::proto::NodeProto;

/// What a node makes that depends on no data; `None` if it depends on them.
pub(super) fn constant(node: &NodeProto, inputs: &[Value]) -> Result<Option<Value>, String> {
    let any = |which: fn(&Value) -> bool| inputs.iter().any(which);
    let op = node.op_type.as_str();
    if op == "Constant" {
        return constant_of(node).map(Some);
    }
    if op == "ConstantOfShape" {
        let zero = match attribute(node, "value").and_then(|value| value.t.as_ref()) {
            Some(value) => Tensor::read(value, None)?.is_zero(),
            None => true,
        };
        return Ok(Some(if zero { Value::Zeros } else { Value::Shape }));
    }
    if matches!(op, "Shape" | "Size") {
        return Ok(Some(shape_of(node, &inputs[0])));
    }
    let zeros =
        |value: &Value| matches!(value, Value::Zeros) || matches!(value, Value::Tensor(t) if t.is_zero());
    if op == "Expand" && inputs.first().is_some_and(zeros) {
        return Ok(Some(Value::Zeros));
    }
    if any(|value| {
        matches!(
            value,
            Value::Data(_)
                | Value::Pieces(..)
                | Value::Piece(..)
                | Value::Direction(..)
                | Value::Weights(_)
                | Value::Weighted(..)
                | Value::Unusable(_)
        )
    }) {
        return Ok(None);
    }
    if op == "Not" && any(|value| matches!(value, Value::Zeros)) {
        return Ok(Some(Value::Tensor(Rc::new(Tensor { dims: Vec::new(), values: vec![1.0] }))));
    }
    if any(|value| matches!(value, Value::Zeros)) && !matches!(op, "Add" | "Sub" | "Where" | "Equal" | "Less")
    {
        return Ok(Some(Value::Zeros));
    }
    if any(|value| matches!(value, Value::Input)) {
        return Ok(Some(Value::Input));
    }
    if any(|value| matches!(value, Value::Shape | Value::Sizes(_))) {
        return Ok(Some(of_sizes(node, inputs).unwrap_or(Value::Shape)));
    }
    fold(node, inputs).map(|tensor| Some(Value::Tensor(Rc::new(tensor))))
}

/// The sizes of a value's axes.
fn shape_of(node: &NodeProto, value: &Value) -> Value {
    let size = |axis: &Axis| match axis[..] {
        [Atom::Batch(size)] => Some(size.map(|size| size as i64)),
        _ => axes::size(axis).map(Some),
    };
    let sizes: Option<Vec<Option<i64>>> = match value {
        Value::Data(data) => data.axes.iter().map(size).collect(),
        Value::Tensor(tensor) => Some(tensor.dims.iter().map(|&size| Some(size as i64)).collect()),
        _ => None,
    };
    let Some(sizes) = sizes.filter(|_| node.op_type == "Shape") else { return Value::Shape };
    let count = sizes.len() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(count) } else { at }).clamp(0, count) as usize;
    let range = place(int(node, "start", 0))..place(int(node, "end", count));
    known(sizes.get(range).unwrap_or_default().to_vec(), false)
}

/// Sizes, as a constant if all are known.
fn known(sizes: Vec<Option<i64>>, alone: bool) -> Value {
    match sizes.iter().map(|size| size.map(|size| size as f64)).collect::<Option<Vec<_>>>() {
        Some(values) => {
            let dims = if alone { Vec::new() } else { vec![values.len()] };
            Value::Tensor(Rc::new(Tensor { dims, values }))
        }
        None => Value::Sizes(sizes),
    }
}

/// The product of sizes; with the batch among them, what is left of the other axes in a reshape.
fn product(sizes: &[Option<i64>]) -> i64 {
    sizes.iter().try_fold(1_i64, |product, size| product.checked_mul((*size)?)).unwrap_or(-1)
}

/// What a node makes of sizes, as far as it is still sizes.
fn of_sizes(node: &NodeProto, inputs: &[Value]) -> Option<Value> {
    let sizes = |value: &Value| match value {
        Value::Sizes(sizes) => Some(sizes.clone()),
        Value::Tensor(tensor) => Some(tensor.ints().into_iter().map(Some).collect::<Vec<_>>()),
        _ => None,
    };
    let first = sizes(inputs.first()?)?;
    Some(match node.op_type.as_str() {
        "Identity" | "Cast" => inputs[0].clone(),
        "ReduceProd" => known(vec![Some(product(&first))], int(node, "keepdims", 1) == 0),
        "Unsqueeze" | "Reshape" => known(first, false),
        "Squeeze" if first.len() == 1 => known(first, true),
        "Gather" => match inputs.get(1)? {
            Value::Tensor(at) => {
                let places = at.ints().into_iter().map(|at| index(at, first.len()).ok());
                let picked = places.map(|at| Some(first[at?])).collect::<Option<Vec<_>>>()?;
                known(picked, at.dims.is_empty())
            }
            _ => return None,
        },
        "Slice" => {
            let at = |i: usize, name: &str| ints(node, name, inputs.get(i)).ok()?.first().copied();
            let count = first.len() as i64;
            let place =
                |at: i64| (if at < 0 { at.saturating_add(count) } else { at }).clamp(0, count) as usize;
            known(first.get(place(at(1, "starts")?)..place(at(2, "ends")?))?.to_vec(), false)
        }
        "Concat" => {
            let parts = inputs.iter().map(sizes).collect::<Option<Vec<_>>>()?;
            known(parts.concat(), false)
        }
        _ => return None,
    })
}

/// The value of a node of constants.
fn fold(node: &NodeProto, inputs: &[Value]) -> Result<Tensor, String> {
    let first = tensor(inputs.first().unwrap_or(&Value::Absent), "input")?;
    let which = || ints(node, "axes", inputs.get(1));
    match node.op_type.as_str() {
        "Identity" | "Cast" => Ok(Tensor::clone(&first)),
        "Transpose" => first.transposed(attribute(node, "perm").map_or(&[][..], |perm| &perm.ints)),
        "Squeeze" | "Unsqueeze" | "Reshape" => {
            let dims = match node.op_type.as_str() {
                "Reshape" => {
                    let shape = ints(node, "shape", inputs.get(1))?;
                    let sizes =
                        shape.iter().filter_map(|&size| usize::try_from(size).ok().filter(|&size| size > 0));
                    let known = sizes.fold(1_usize, usize::saturating_mul);
                    let open = first.values.len().checked_div(known).unwrap_or(0);
                    shape.iter().map(|&size| usize::try_from(size).unwrap_or(open)).collect()
                }
                "Squeeze" => first.dims.iter().copied().filter(|&size| size != 1).collect(),
                _ => {
                    let mut dims = first.dims.clone();
                    for axis in which()? {
                        dims.insert(index(axis, dims.len() + 1)?, 1);
                    }
                    dims
                }
            };
            let size = dims.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
            if size != Some(first.values.len()) {
                return Err(format!("{dims:?} made of {:?}", first.dims));
            }
            Ok(first.with_dims(dims))
        }
        "Concat" => {
            let parts = inputs.iter().map(|value| tensor(value, "part")).collect::<Result<Vec<_>, _>>()?;
            if parts.iter().any(|part| part.dims.len() != 1) {
                return Err("constants of several axes joined".into());
            }
            Ok(Tensor::vector(parts.iter().flat_map(|part| part.values.iter().copied()).collect()))
        }
        "Add" | "Sub" | "Mul" | "Div" => {
            let second = tensor(inputs.get(1).unwrap_or(&Value::Absent), "input")?;
            elementwise(node, &first, &second)
        }
        _ => match of_sizes(node, inputs).filter(|_| first.dims.len() < 2) {
            Some(Value::Tensor(tensor)) => Ok(Tensor::clone(&tensor)),
            _ => Err("constants only: fold them before the import".into()),
        },
    }
}

/// Arithmetic of constants of the same shape, or with a number.
fn elementwise(node: &NodeProto, a: &Tensor, b: &Tensor) -> Result<Tensor, String> {
    let f: fn(f64, f64) -> f64 = match node.op_type.as_str() {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        _ => |a, b| a / b,
    };
    let dims = if a.values.len() >= b.values.len() { &a.dims } else { &b.dims };
    let values = match (&a.values[..], &b.values[..]) {
        (a, &[b]) => a.iter().map(|&a| f(a, b)).collect(),
        (&[a], b) => b.iter().map(|&b| f(a, b)).collect(),
        (x, y) if a.dims == b.dims => x.iter().zip(y).map(|(&a, &b)| f(a, b)).collect(),
        _ => return Err(format!("constants of shapes {:?} and {:?}", a.dims, b.dims)),
    };
    Ok(Tensor { dims: dims.clone(), values })
}

fn constant_of(node: &NodeProto) -> Result<Value, String> {
    let vector = |values: Vec<f64>| Ok(Value::Tensor(Rc::new(Tensor::vector(values))));
    let [attribute] = &node.attribute[..] else { return Err("other than one attribute".into()) };
    match (attribute.name.as_str(), &attribute.t) {
        ("value", Some(value)) => Ok(Value::Tensor(Rc::new(Tensor::read(value, None)?))),
        ("value_ints", _) => vector(attribute.ints.iter().map(|&x| x as f64).collect()),
        ("value_int", _) => {
            let values = vec![attribute.i.unwrap_or(0) as f64];
            Ok(Value::Tensor(Rc::new(Tensor { dims: Vec::new(), values })))
        }
        ("value_float", _) => {
            let values = vec![f64::from(attribute.f.unwrap_or(0.0))];
            Ok(Value::Tensor(Rc::new(Tensor { dims: Vec::new(), values })))
        }
        (other, _) => Err(format!("the attribute `{other}`")),
    }
}

/// Whole numbers that are an attribute, or in newer opsets a constant input.
pub(super) fn ints(node: &NodeProto, name: &str, input: Option<&Value>) -> Result<Vec<i64>, String> {
    match (attribute(node, name), input) {
        (Some(attribute), _) => Ok(attribute.ints.clone()),
        (None, Some(Value::Tensor(tensor))) => Ok(tensor.ints()),
        (None, Some(Value::Sizes(sizes))) => Ok(sizes.iter().map(|size| size.unwrap_or(BATCH)).collect()),
        (None, found) => {
            Err(format!("`{name}` is {}, expected a constant", found.map_or("nothing", Value::what)))
        }
    }
}

pub(super) fn tensor(value: &Value, what: &str) -> Result<Rc<Tensor>, String> {
    match value {
        Value::Tensor(tensor) => Ok(Rc::clone(tensor)),
        other => Err(format!("{what}: {}, expected a constant", other.what())),
    }
}
