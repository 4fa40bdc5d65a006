//! Models as ONNX files: what is in the file, and what cannot be one. That other runtimes compute from these files what
//! we do is the subject of `tests/tract` and of `scripts/onnx_check.py`.

#[path = "common/onnx_models.rs"]
mod models;
#[allow(dead_code, missing_docs)]
#[path = "../src/onnx_graph/proto.rs"]
mod proto;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bptt::data::Arrays;
use bptt::nn::{
    Backward, Branches, Build, Built, Chain, Conv2d, Description, Dropout, Embedding, Forward, Gru, Layer,
    LayerNorm, LayerNormLstm, Linear, Lstm, Pool2d,
};
use bptt::onnx::{Export, Graph, Import, OPSET, Value};
use bptt::prune::Magnitude;
use bptt::{Init, Model, Real, Result, Shape};
use models::{Run, cases};
use prost::Message;
use proto::{DimensionProto, GraphProto, ModelProto, TensorProto, ValueInfoProto};

fn decoded<R: Real>(export: &Export, model: &Model<R>) -> ModelProto {
    ModelProto::decode(&export.to_bytes(model).unwrap()[..]).unwrap()
}

fn exports() -> [Export; 4] {
    [Export::new(), Export::new().states(), Export::new().lengths(), Export::new().lengths().states()]
}

// --- every kind ---

/// A kind that the registry knows and no case has is a kind that was forgotten.
#[test]
fn every_kind_of_layer_is_among_the_cases() {
    let registry = include_str!("../src/nn/registry.rs");
    let arms = registry.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    let known: BTreeSet<_> = arms.map(|(kind, _)| kind).collect();
    assert!(known.len() >= 10 && known.contains("lstm"), "{known:?}");
    let tables: Vec<_> = cases::<f32>().iter().map(|case| case.model.to_string()).collect();
    // The rows of a model's summary, of which the second column is the kind.
    let rows = tables.iter().flat_map(|table| table.lines());
    let found: BTreeSet<_> = rows.filter_map(|row| row.split_whitespace().nth(1)).collect();
    // What ONNX has no operator for is refused below.
    let forgotten: Vec<_> = known.difference(&found).filter(|&&kind| kind != "layer_norm_lstm").collect();
    assert!(forgotten.is_empty(), "not exported by any case: {forgotten:?}");
}

#[test]
fn graphs_hold_together() {
    for case in cases::<f32>() {
        for export in exports() {
            graph_holds_together(&format!("{} {export:?}", case.name), &decoded(&export, &case.model));
        }
    }
    for case in cases::<f64>() {
        let file = decoded(&Export::new(), &case.model);
        graph_holds_together(&case.name, &file);
        let types = file.graph.input.iter().chain(&file.graph.output).map(element_type);
        assert!(types.into_iter().all(|element| element == 11), "{}: all in double precision", case.name);
    }
}

/// What is used was defined before, once, and what is defined is used or handed out.
fn graph_holds_together(what: &str, file: &ModelProto) {
    let graph = &file.graph;
    assert_eq!((file.ir_version, file.producer_name.as_str()), (8, "bptt"), "{what}");
    assert_eq!(file.producer_version, env!("CARGO_PKG_VERSION"));
    let opsets: Vec<_> = file.opset_import.iter().map(|o| (o.domain.as_str(), o.version)).collect();
    assert_eq!(opsets, [("", OPSET)], "{what}");
    let mut defined = BTreeSet::new();
    let given = graph.input.iter().map(|input| &input.name);
    for name in given.chain(graph.initializer.iter().map(|tensor| &tensor.name)) {
        assert!(defined.insert(name.as_str()), "{what}: {name} twice");
    }
    let (mut used, mut names) = (BTreeSet::new(), BTreeSet::new());
    for node in &graph.node {
        assert!(names.insert(&node.name), "{what}: node {} twice", node.name);
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            assert!(defined.contains(name.as_str()), "{what}: {name} is used and not defined");
            used.insert(name.as_str());
        }
        for name in &node.output {
            assert!(!name.is_empty() && defined.insert(name), "{what}: {name} twice");
        }
    }
    for output in &graph.output {
        assert!(defined.contains(output.name.as_str()), "{what}: {} is no value", output.name);
    }
    for tensor in &graph.initializer {
        assert!(used.contains(tensor.name.as_str()), "{what}: {} is not used", tensor.name);
        let size = match tensor.data_type {
            1 | 6 => 4,
            7 | 11 => 8,
            other => panic!("{what}: {} is of type {other}", tensor.name),
        };
        let len = tensor.dims.iter().product::<i64>() as usize;
        assert_eq!(tensor.raw_data.len(), len * size, "{what}: {}", tensor.name);
    }
}

fn element_type(value: &ValueInfoProto) -> i32 {
    value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type
}

/// Name and shape, as `batch,5,3`.
fn shapes(values: &[ValueInfoProto]) -> Vec<(&str, String)> {
    let axis = |axis: &DimensionProto| match (&axis.dim_value, &axis.dim_param) {
        (Some(size), None) => size.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => "?".into(),
        both => panic!("{both:?}"),
    };
    let shape = |value: &ValueInfoProto| {
        let shape = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
        shape.dim.iter().map(axis).collect::<Vec<_>>().join(",")
    };
    values.iter().map(|value| (value.name.as_str(), shape(value))).collect()
}

// --- inputs, outputs, metadata ---

#[test]
fn settings_come_back() {
    for export in exports() {
        let json = serde_json::to_string(&export).unwrap();
        assert_eq!(serde_json::from_str::<Export>(&json).unwrap(), export, "{json}");
    }
}

fn chain() -> Model {
    let lstm = Lstm::new(5).layers(2).bidirectional();
    let builder = Model::builder(Shape::new(4, 3)).layer("lstm", lstm).layer("gru", Gru::new(6).last());
    builder.layer("linear", Linear::new(2)).classes(["no", "\"yes\""]).build(1).unwrap()
}

#[test]
fn inputs_and_outputs_are_as_documented() {
    let strings = |shapes: &[(&'static str, &str)]| -> Vec<(&str, String)> {
        shapes.iter().map(|&(name, shape)| (name, shape.to_owned())).collect()
    };
    let file = decoded(&Export::new(), &chain());
    assert_eq!(shapes(&file.graph.input), strings(&[("input", "batch,4,3")]));
    assert_eq!(shapes(&file.graph.output), strings(&[("output", "batch,1,2")]));

    let file = decoded(&Export::new().states().lengths(), &chain());
    let (c, h) = ("lstm.c0", "lstm.h0");
    let inputs = [
        ("input", "batch,time,3"),
        ("lengths", "batch"),
        (h, "4,batch,5"),
        (c, "4,batch,5"),
        ("gru.h0", "1,batch,6"),
    ];
    assert_eq!(shapes(&file.graph.input), strings(&inputs));
    assert_eq!(file.graph.input.iter().map(element_type).collect::<Vec<_>>(), [1, 6, 1, 1, 1]);
    let states = [("lstm.hn", "4,batch,5"), ("lstm.cn", "4,batch,5"), ("gru.hn", "1,batch,6")];
    assert_eq!(shapes(&file.graph.output), strings(&[&[("output", "batch,1,2")][..], &states].concat()));

    // T is open on both sides where every step hands one out, even if the model was built for one step.
    for t in [1, 4] {
        let builder = Model::<f32>::builder(Shape::new(t, 3)).layer("gru", Gru::new(6));
        let file = decoded(&Export::new().states(), &builder.build(1).unwrap());
        assert_eq!(shapes(&file.graph.output)[0], ("output", "batch,time,6".into()));
    }
}

#[test]
fn classes_are_in_the_metadata() {
    let entries = |model: &Model| {
        let entries = decoded(&Export::new(), model).metadata_props;
        entries.into_iter().map(|entry| (entry.key, entry.value)).collect::<Vec<_>>()
    };
    assert_eq!(entries(&chain()), [("classes".to_owned(), r#"["no","\"yes\""]"#.to_owned())]);
    let nameless = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1).unwrap();
    assert_eq!(entries(&nameless), []);
}

// --- parameters ---

fn initializers(graph: &GraphProto) -> BTreeMap<&str, &TensorProto> {
    graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    assert_eq!(tensor.data_type, 1, "{}", tensor.name);
    tensor.raw_data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn parameters_keep_their_names_shapes_and_values() {
    let mut model: Model = Model::builder(Shape::new(4, 1))
        .layer("words", Embedding::new(7, 3))
        .layer("norm", LayerNorm::new())
        .layer("dropout", Dropout::new(0.5))
        .layer("head", Linear::new(2))
        .build(1)
        .unwrap();
    model.prune(Magnitude::share(0.5)).unwrap();
    let file = decoded(&Export::new(), &model);
    let found = initializers(&file.graph);
    for tensor in model.params().layout().tensors() {
        let initializer = found[tensor.name.as_str()];
        assert_eq!(initializer.dims, tensor.shape().iter().map(|&n| n as i64).collect::<Vec<_>>());
        assert_eq!(floats(initializer), &model.params().as_slice()[tensor.range()], "{}", tensor.name);
    }
    assert!(floats(found["head.weight"]).contains(&0.0), "what is pruned is 0");
}

/// By hand: one unit, one input, so that each gate is one number, and the parameters are 1, 2, 3, …
#[test]
fn gates_are_in_the_order_of_onnx() {
    fn numbered(layer: impl Layer<f32> + 'static) -> GraphProto {
        let mut model = Model::builder(Shape::new(2, 1)).layer("rnn", layer).build(1).unwrap();
        let mut params = model.params_mut();
        params.as_mut_slice().iter_mut().enumerate().for_each(|(i, p)| *p = 1.0 + i as f32);
        drop(params);
        decoded(&Export::new(), &model).graph
    }
    let check = |graph: &GraphProto, name: &str, dims: &[i64], values: &[f32]| {
        let tensor = initializers(graph)[name];
        assert_eq!((&tensor.dims[..], &floats(tensor)[..]), (dims, values), "{name}");
    };
    // i, f, g, o → i, o, f, c; forward has 1 to 16, backward 17 to 32.
    let lstm = numbered(Lstm::new(1).bidirectional());
    check(&lstm, "rnn.weight_ih_l0", &[2, 4, 1], &[1., 4., 2., 3., 17., 20., 18., 19.]);
    check(&lstm, "rnn.weight_hh_l0", &[2, 4, 1], &[5., 8., 6., 7., 21., 24., 22., 23.]);
    let bias = [9., 12., 10., 11., 13., 16., 14., 15., 25., 28., 26., 27., 29., 32., 30., 31.];
    check(&lstm, "rnn.bias_l0", &[2, 8], &bias);
    // r, z, n → z, r, h
    let gru = numbered(Gru::new(1));
    check(&gru, "rnn.weight_ih_l0", &[1, 3, 1], &[2., 1., 3.]);
    check(&gru, "rnn.weight_hh_l0", &[1, 3, 1], &[5., 4., 6.]);
    check(&gru, "rnn.bias_l0", &[1, 6], &[8., 7., 9., 11., 10., 12.]);
    let node = gru.node.iter().find(|node| node.op_type == "GRU").unwrap();
    let reset = node.attribute.iter().find(|a| a.name == "linear_before_reset").unwrap();
    assert_eq!(reset.i, Some(1), "as in PyTorch, the reset gate comes after the product");
}

// --- files ---

#[test]
fn the_same_model_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    chain().export_onnx(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == Export::new().to_bytes(&chain()).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    let nowhere = folder.path().join("missing").join("model.onnx");
    let message = chain().export_onnx(&nowhere).unwrap_err().to_string();
    assert!(message.starts_with(&nowhere.display().to_string()), "{message}");
}

// --- layers of one's own ---

/// y = g ⊙ x, which can be exported or not.
#[derive(Debug)]
struct Gain {
    exported: Option<&'static str>,
}

impl Layer<f32> for Gain {
    fn describe(&self) -> Description {
        Description::new("gain", ())
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        build.tensor("gain", [build.input().units.clone()], Init::Uniform(1.0))?;
        Ok(Built::new(build.input().clone()))
    }

    fn forward(&self, _: Forward<'_, f32>) {
        unreachable!("it is not run here")
    }

    fn backward(&self, _: Backward<'_, f32>) {
        unreachable!("it is not trained here")
    }

    fn export_onnx(&self, graph: &mut Graph<'_, f32>, x: Value) -> Result<Value> {
        match self.exported {
            Some(name) => {
                let gain = graph.param(name)?;
                Ok(graph.node("Mul", &[&gain, &x], &[]))
            }
            None => Plain.export_onnx(graph, x),
        }
    }
}

/// A layer that does not know of ONNX.
#[derive(Debug)]
struct Plain;

impl Layer<f32> for Plain {
    fn describe(&self) -> Description {
        Description::new("plain", ())
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        Ok(Built::new(build.input().clone()))
    }

    fn forward(&self, _: Forward<'_, f32>) {
        unreachable!("it is not run here")
    }

    fn backward(&self, _: Backward<'_, f32>) {
        unreachable!("it is not trained here")
    }
}

#[test]
fn layers_of_ones_own_export_themselves() {
    let model = |exported| {
        let builder = Model::builder(Shape::new(2, 3)).layer("own", Gain { exported });
        builder.layer("linear", Linear::new(2)).build(1).unwrap()
    };
    let file = decoded(&Export::new(), &model(Some("gain")));
    assert_eq!(floats(initializers(&file.graph)["own.gain"]), &model(None).params().as_slice()[..3]);
    graph_holds_together("own", &file);

    let message = Export::new().to_bytes(&model(Some("weight"))).unwrap_err().to_string();
    assert_eq!(message, "`own: weight`: found no parameter of this name, expected one that `build` declares");
}

#[test]
fn a_layer_that_cannot_be_exported_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let builder = Model::builder(Shape::new(2, 3)).layer("linear", Linear::new(2)).layer("mine", Plain);
    let message = builder.build(1).unwrap().export_onnx(&path).unwrap_err().to_string();
    let expected = "`mine: onnx`: found a layer of kind `plain`, expected one that has `Layer::export_onnx`";
    assert_eq!(message, expected);
    assert!(!path.exists());
}

// --- for other runtimes ---

/// Writes each case to `$BPTT_ONNX_CASES`: `<name>.onnx`, and what goes in and comes out in `<name>.<batch>.safetensors`.
#[test]
#[ignore = "run by scripts/onnx_check.py"]
fn write_cases() {
    let folder = PathBuf::from(std::env::var_os("BPTT_ONNX_CASES").expect("a folder in BPTT_ONNX_CASES"));
    write_cases_in::<f32>(&folder, "f32");
    write_cases_in::<f64>(&folder, "f64");
}

fn write_cases_in<R: Real>(folder: &Path, scalar: &str) {
    for case in cases::<R>() {
        let full = Export::new().states();
        for (kind, export) in
            [("plain", Export::new()), ("states", full.clone()), ("lengths", full.lengths())]
        {
            let name = format!("{}.{scalar}.{kind}", case.name);
            export.write(&case.model, folder.join(format!("{name}.onnx"))).unwrap();
            for batch in [1, 64] {
                let Run { inputs, lengths, outputs } = match kind {
                    "plain" => case.plain(batch),
                    _ => case.full(batch, kind == "lengths"),
                };
                let bytes = |values: &ndarray::Array3<R>| {
                    let mut bytes = Vec::new();
                    values.iter().for_each(|x| x.push_le(&mut bytes));
                    (R::DTYPE, values.shape().to_vec(), bytes)
                };
                let named = |group: &str, (name, values): &(String, ndarray::Array3<R>)| {
                    (format!("{group}/{name}"), bytes(values))
                };
                let mut tensors: Vec<_> = inputs.iter().map(|value| named("in", value)).collect();
                tensors.extend(outputs.iter().map(|value| named("out", value)));
                if kind == "lengths" {
                    let bytes = lengths.iter().flat_map(|len| len.to_le_bytes()).collect();
                    tensors.push(("in/lengths".into(), (safetensors::Dtype::I32, vec![batch], bytes)));
                }
                let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
                    (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
                });
                let bytes = safetensors::serialize(views, None).unwrap();
                std::fs::write(folder.join(format!("{name}.{batch}.safetensors")), bytes).unwrap();
            }
        }
    }
}

/// Recurrent layers that ONNX has no operator for.
#[test]
fn what_onnx_cannot_say_is_refused() {
    fn refused(layer: impl Layer<f32> + 'static) -> String {
        let model: Model = Model::builder(Shape::new(4, 3)).layer("lstm", layer).build(1).unwrap();
        Export::new().to_bytes(&model).unwrap_err().to_string()
    }
    assert_eq!(
        refused(LayerNormLstm::new(5)),
        "`lstm: onnx`: found an LSTM with layer normalisation, expected a cell that ONNX has an operator for"
    );
    assert_eq!(
        refused(Lstm::new(5).proj_size(3)),
        "`lstm: proj_size`: found 3, expected none: the LSTM of ONNX has no projection"
    );
}

// --- import ---

#[test]
fn our_own_exports_come_back_to_the_bit() {
    let mut count = 0;
    // A dropout alone leaves nothing in the graph.
    for case in cases::<f32>().into_iter().filter(|case| case.name != "dropout") {
        let bytes = Export::new().to_bytes(&case.model).unwrap();
        let imported = Import::new().from_bytes::<f32>(&bytes);
        if case.name == "embed_columns" {
            // Refused, never misread.
            let fault = imported.unwrap_err().to_string();
            assert!(fault.starts_with("<bytes>: found what this crate does not read: "), "{fault}");
            continue;
        }
        let imported = imported.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert!(imported.notes.is_empty(), "{}: {:?}", case.name, imported.notes);
        let run = case.plain(3);
        let found = imported.model.predict(&run.inputs[0].1).unwrap();
        assert_eq!(found, run.outputs[0].1, "{}", case.name);
        count += 1;
    }
    assert_eq!(count, 83, "as the documentation of `Import` says");
    let model: Model<f64> = Model::builder(Shape::new(4, 3))
        .layer("a.b", Gru::new(5).last())
        .layer("c", Linear::new(2))
        .build(3)
        .unwrap();
    let imported = Import::new().from_bytes::<f64>(&Export::new().to_bytes(&model).unwrap()).unwrap();
    let x = ndarray::Array3::from_shape_fn((2, 4, 3), |(i, t, f)| (3 * i + 2 * t + f) as f64 / 7.0);
    assert_eq!(imported.model.predict(&x).unwrap(), model.predict(&x).unwrap());
}

/// States and lengths that are inputs of the file are a matter of the data here.
#[test]
fn exports_with_states_come_back() {
    let model: Model = Model::builder(Shape::new(4, 3))
        .layer("lstm", Lstm::new(5).layers(2).bidirectional())
        .layer("linear", Linear::new(2))
        .build(3)
        .unwrap();
    let bytes = Export::new().states().to_bytes(&model).unwrap();
    let open = Import::new().from_bytes::<f32>(&bytes).unwrap_err().to_string();
    assert!(open.ends_with("an open number of steps: set it by `Import::steps`"), "{open}");
    let imported = Import::new().steps(4).from_bytes::<f32>(&bytes).unwrap();
    assert_eq!(imported.notes.len(), 4, "{:?}", imported.notes);
    let x = ndarray::Array3::from_shape_fn((2, 4, 3), |(i, t, f)| (3 * i + 2 * t + f) as f32 / 7.0);
    assert_eq!(imported.model.predict(&x).unwrap(), model.predict(&x).unwrap());
}

/// How many models of each maker there are, and the largest difference from what the maker computed.
type Makers = BTreeMap<String, (usize, f32)>;

/// Reads the models of `cases.json` in a folder and compares their outputs. A case may say what it is refused for: that
/// fault must be among those named. Panics with all differences above `tolerance`, relative to max(1, |expected|).
fn compare_models(folder: &Path, tolerance: f32) -> (Makers, usize) {
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let (mut faults, mut refused, mut makers) = (Vec::new(), 0, Makers::new());
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let read = Import::new().read::<f32>(folder.join(format!("{name}.onnx")));
        let imported = match (read, case["refused"].as_str()) {
            (Ok(imported), None) => imported,
            (Err(e), Some(fault)) if e.to_string().contains(fault) => {
                refused += 1;
                continue;
            }
            (read, _) => {
                faults.push(format!("{name}: {:?}", read.map(drop).map_err(|e| e.to_string())));
                continue;
            }
        };
        let Shape { t, f } = imported.model.input_shape();
        let x = numbers(&case["input"]);
        let x = ndarray::Array3::from_shape_vec((x.len() / (t * f), t, f), x).unwrap();
        let lengths: Option<Vec<usize>> = serde_json::from_value(case["lengths"].clone()).unwrap();
        let found = match lengths {
            None => imported.model.predict(&x).unwrap(),
            Some(lengths) => {
                assert!(imported.notes[0].starts_with("`sequence_lens`: lengths"), "{:?}", imported.notes);
                imported.model.predict(&Arrays::unlabelled(x).unwrap().lengths(lengths).unwrap()).unwrap()
            }
        };
        let expected = numbers(&case["output"]);
        let relative = |(a, b): (&f32, &f32)| (a - b).abs() / b.abs().max(1.0);
        let off = found.iter().zip(&expected).map(relative).fold(0.0, f32::max);
        println!("{name:38} largest difference {off:.1e}");
        if found.len() != expected.len() || off > tolerance {
            faults.push(format!("{name}: {} values of {}, {off:e} off", found.len(), expected.len()));
        }
        let parts: Vec<_> =
            name.split('_').take_while(|part| *part != "test" && part.parse::<u8>().is_err()).collect();
        let (count, largest) = makers.entry(parts.join("_")).or_default();
        (*count, *largest) = (*count + 1, off.max(*largest));
    }
    for (maker, (count, largest)) in &makers {
        println!("{maker}: {count} models, largest difference {largest:.1e}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    (makers, refused)
}

/// Models of PyTorch, by both exporters, single operators, and the ONNX project's own tests of LSTM, GRU and RNN, from
/// `tests/fixtures/make_onnx_fixtures.py`.
#[test]
fn models_of_others() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let (makers, refused) = compare_models(&folder, 2e-6);
    assert_eq!(makers.values().map(|(count, _)| count).sum::<usize>(), 60, "{makers:?}");
    assert_eq!(refused, 3, "the three operators backwards only");
}

/// Models of Keras, as tf2onnx writes them.
#[test]
#[ignore = "run by scripts/keras_onnx_check.py"]
fn models_in_a_folder() {
    let folder = PathBuf::from(std::env::var_os("BPTT_ONNX_MODELS").expect("a folder in BPTT_ONNX_MODELS"));
    assert!(!compare_models(&folder, 1e-5).0.is_empty());
}

/// The fault of a file that is changed like this.
fn fault_of(file: &ModelProto, change: impl Fn(&mut ModelProto)) -> String {
    let mut file = file.clone();
    change(&mut file);
    let error = Import::new().from_bytes::<f32>(&file.encode_to_vec()).unwrap_err().to_string();
    error.strip_prefix("<bytes>: ").unwrap_or(&error).to_owned()
}

/// Sets an attribute of the nodes of an operator.
fn set(file: &mut ModelProto, op: &str, name: &str, value: proto::AttributeProto) {
    for node in file.graph.node.iter_mut().filter(|node| node.op_type == op) {
        node.attribute.retain(|attribute| attribute.name != name);
        node.attribute.push(proto::AttributeProto { name: name.to_owned(), ..value.clone() });
    }
}

#[test]
fn all_that_is_not_understood_is_named() {
    let model: Model = Model::builder(Shape::new(4, 3))
        .layer("lstm", Lstm::new(5))
        .layer("linear", Linear::new(2))
        .build(3)
        .unwrap();
    let file = decoded(&Export::new(), &model);
    let fault = |change: &dyn Fn(&mut ModelProto)| fault_of(&file, change);
    let clip = proto::AttributeProto { f: Some(3.0), ..Default::default() };
    let clipped = fault(&|file| set(file, "LSTM", "clip", clip.clone()));
    assert!(clipped.contains("LSTM `") && clipped.contains("`: clip 3"), "{clipped}");
    let reverse = proto::AttributeProto { s: Some(b"reverse".to_vec()), ..Default::default() };
    assert!(fault(&|file| set(file, "LSTM", "direction", reverse.clone())).contains("direction `reverse`"));
    let hard = vec![b"HardSigmoid".to_vec(), b"Tanh".to_vec(), b"Tanh".to_vec()];
    let hard = proto::AttributeProto { strings: hard, ..Default::default() };
    assert!(
        fault(&|file| set(file, "LSTM", "activations", hard.clone()))
            .contains("activations [\"hardsigmoid\"")
    );
    // The first node that fails, and every unknown operator after it.
    let both = fault(&|file| {
        set(file, "LSTM", "clip", clip.clone());
        file.graph.node.iter_mut().filter(|n| n.op_type == "Add").for_each(|n| n.op_type = "Erf".into());
    });
    assert!(both.contains("clip 3") && both.contains("Erf `"), "{both}");
    assert!(fault(&|file| file.opset_import[0].version = 99).starts_with("found opset 99, expected at most"));
    assert!(fault(&|file| file.opset_import.clear()).contains("no opset"));
    assert!(fault(&|file| file.graph.output.clear()).contains("no output"));
    let short = fault(&|file| file.graph.initializer[0].raw_data.truncate(8));
    assert!(short.contains("2 values in a tensor of shape"), "{short}");
    let away = fault(&|file| file.graph.initializer[0].data_location = 1);
    assert!(away.contains("data in the file ``"), "{away}");
    assert!(Import::new().from_bytes::<f32>(b"no model").is_err());
}

#[test]
fn convolutions_and_pools_that_do_not_fit_are_named() {
    let model: Model = Model::builder(Shape::new(8, 6))
        .layer("conv", Conv2d::new(2, 3, [3, 2]).padding([1, 0]))
        .layer("pool", Pool2d::max(3, [2, 1]))
        .layer("gru", Gru::new(4).last())
        .layer("both", Branches::residual("f", Chain::new().layer("linear", Linear::new(4))))
        .build(3)
        .unwrap();
    let file = decoded(&Export::new(), &model);
    let ints = |ints: &[i64]| proto::AttributeProto { ints: ints.to_vec(), ..Default::default() };
    let int = |i| proto::AttributeProto { i: Some(i), ..Default::default() };
    let fault = |op: &str, name: &str, value: proto::AttributeProto| {
        let fault = fault_of(&file, |file| set(file, op, name, value.clone()));
        assert!(fault.contains(&format!("{op} `")), "{fault}");
        fault
    };
    assert!(fault("Conv", "group", int(2)).ends_with("group 2"));
    assert!(fault("Conv", "dilations", ints(&[2, 1])).ends_with("dilations [2, 1]"));
    let uneven = fault("Conv", "pads", ints(&[0, 0, 1, 0]));
    assert!(uneven.contains("pads [0, 0, 1, 0], expected as many zeros on both sides"), "{uneven}");
    assert!(fault("Conv", "pads", ints(&[1, 0])).ends_with("pads [1, 0]"));
    assert!(fault("Conv", "strides", ints(&[0, 1])).contains("windows larger than the input"));
    assert!(fault("MaxPool", "pads", ints(&[1, 0, 1, 0])).ends_with("a pool with padding"));
    // What is after a fault is looked at as well.
    let all = fault_of(&file, |file| {
        set(file, "Conv", "group", int(3));
        file.graph
            .node
            .iter_mut()
            .filter(|node| node.op_type == "Sum")
            .for_each(|n| n.op_type = "Erf".into());
    });
    assert!(all.contains("group 3; Erf `"), "{all}");
    // A layer whose output a branch has already added.
    let again = fault_of(&file, |file| {
        let nodes = &mut file.graph.node;
        let within = nodes.iter().rfind(|node| node.op_type == "Add").unwrap().output[0].clone();
        let last = nodes.last_mut().unwrap();
        (last.op_type, last.attribute) = ("Sum".into(), Vec::new());
        last.input.push(within);
    });
    assert!(again.contains("which is within a branch"), "{again}");
}

/// Bytes changed at random, a few at a time: an error or another model, but no panic.
#[test]
fn damaged_files_are_read_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    let mut refused = 0;
    for (i, file) in files.iter().enumerate() {
        let whole = std::fs::read(file).unwrap();
        for round in 0..40 {
            let mut bytes = whole.clone();
            for change in 0..1 + round % 4 {
                let key = bptt::rng::key(&[i as u64, round, change]);
                bytes[key as usize % whole.len()] = (key >> 40) as u8;
            }
            refused += usize::from(Import::new().from_bytes::<f32>(&bytes).is_err());
        }
    }
    assert!(refused > files.len(), "{refused} of {}", 40 * files.len());
}
