//! Models in files: what is saved comes back, and a file that is short, wrong or absurd is an error that names it.

use std::alloc::{GlobalAlloc, System};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use bptt::data::Normalize;
use bptt::nn::{Activation, Context, Declare, Description, Layer, Linear, Lstm, Rnn, Sizes};
use bptt::params::StateDict;
use bptt::{Error, Init, Model, Real, Result, Seq, SeqMut, Shape};
use ndarray::Array3;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// The system's allocator, out of memory for whoever asks for more than 64 MB at once: these models are small, and
/// a file must not talk anyone into more.
struct Limited;

// SAFETY: every call goes on to the system's allocator as it came, or fails.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        if layout.size() > 1 << 26 { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: std::alloc::Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// A model with something of everything.
fn model<R: Real>() -> Model<R> {
    Model::builder(Shape::new(4, 3))
        .normalize(Normalize::per_feature(vec![0.1, -0.2, 0.3], vec![0.5, 1.0, 1.0 / 3.0]).unwrap())
        .layer("rnn", Rnn::new(4).relu())
        .layer("lstm", Lstm::new(5).layers(2).last())
        .layer("tanh", Activation::tanh())
        .layer("linear", Linear::new(2))
        .classes(["no", "yes"])
        .build(7)
        .unwrap()
}

fn x<R: Real>() -> Array3<R> {
    Array3::from_shape_fn((5, 4, 3), |(i, t, f)| R::from_f64((i * 12 + t * 3 + f) as f64 / 30.0 - 1.0))
}

/// A folder that is gone at the end, and the path of a file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}

// --- what is saved comes back ---

fn comes_back<R: Real>() {
    let (folder, path) = place();
    let model = model::<R>();
    model.save(&path).unwrap();
    let loaded = Model::<R>::load(&path).unwrap();
    assert_eq!(loaded.predict(&x()).unwrap(), model.predict(&x()).unwrap());
    assert_eq!(loaded.params().as_slice(), model.params().as_slice());
    assert_eq!(loaded.params().layout(), model.params().layout());
    assert_eq!((loaded.input(), loaded.output()), (Shape::new(4, 3), Shape::new(1, 2)));
    assert_eq!(loaded.classes(), ["no", "yes"]);
    assert_eq!(loaded.normalize(), model.normalize());
    assert_eq!(loaded.to_string(), model.to_string());

    let again = folder.path().join("again.safetensors");
    loaded.save(&again).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap(), "the same bytes again");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside the files");
}

#[test]
fn what_is_saved_comes_back() {
    comes_back::<f32>();
    comes_back::<f64>();
}

#[test]
fn tensors_have_the_names_and_shapes_of_pytorch() {
    let (_folder, path) = place();
    model::<f32>().save(&path).unwrap();
    let found: Vec<_> =
        tensors(&path).into_iter().map(|(name, tensor)| (name, tensor.dtype, tensor.shape)).collect();
    // As torch.nn.RNN(3, 4), torch.nn.LSTM(4, 5, 2) and torch.nn.Linear(5, 2) name them in a state dict.
    let expected: [(&str, &[usize]); 14] = [
        ("linear.bias", &[2]),
        ("linear.weight", &[2, 5]),
        ("lstm.bias_hh_l0", &[20]),
        ("lstm.bias_hh_l1", &[20]),
        ("lstm.bias_ih_l0", &[20]),
        ("lstm.bias_ih_l1", &[20]),
        ("lstm.weight_hh_l0", &[20, 5]),
        ("lstm.weight_hh_l1", &[20, 5]),
        ("lstm.weight_ih_l0", &[20, 4]),
        ("lstm.weight_ih_l1", &[20, 5]),
        ("rnn.bias_hh_l0", &[4]),
        ("rnn.bias_ih_l0", &[4]),
        ("rnn.weight_hh_l0", &[4, 4]),
        ("rnn.weight_ih_l0", &[4, 3]),
    ];
    assert_eq!(found, expected.map(|(name, shape)| (name.to_owned(), Dtype::F32, shape.to_vec())));
}

#[test]
fn scalars_convert() {
    let (_folder, path) = place();
    let single = model::<f32>();
    single.save(&path).unwrap();
    let double = Model::<f64>::load(&path).unwrap();
    let widened: Vec<f64> = single.params().as_slice().iter().map(|&p| f64::from(p)).collect();
    assert_eq!(double.params().as_slice(), widened);

    let double = model::<f64>();
    double.save(&path).unwrap();
    let single = Model::<f32>::load(&path).unwrap();
    let rounded: Vec<f32> = double.params().as_slice().iter().map(|&p| p as f32).collect();
    assert_eq!(single.params().as_slice(), rounded);
}

#[test]
fn saving_replaces_what_was_there() {
    let (_folder, path) = place();
    std::fs::write(&path, "an older file").unwrap();
    model::<f32>().save(&path).unwrap();
    Model::<f32>::load(&path).unwrap();
    // A path that cannot be written is named, and leaves nothing behind.
    let nowhere = path.with_file_name("missing").join("model.safetensors");
    let message = model::<f32>().save(&nowhere).unwrap_err().to_string();
    assert!(message.starts_with(&nowhere.display().to_string()), "{message}");
}

// --- layers of one's own ---

/// A layer of one's own: y = g ⊙ x, with a gain for each feature.
#[derive(Debug)]
struct Gain;

impl Gain {
    const KIND: &str = "gain";
}

impl<R: Real> Layer<R> for Gain {
    fn describe(&self) -> Description {
        Description::new(Self::KIND, ())
    }

    fn build(&self, input: Shape, declare: &mut Declare<'_>) -> Result<(Shape, Sizes)> {
        declare.tensor("gain", [input.f.into()], Init::Uniform(1.0))?;
        Ok((input, Sizes::default()))
    }

    fn forward(&self, cx: &Context<'_, R>, x: Seq<'_, R>, _: &mut [R], y: SeqMut<'_, R>, _: &mut [R]) {
        let (lanes, f) = (x.lanes, x.shape.f);
        for (i, (y, &x)) in y.data.iter_mut().zip(x.data).enumerate() {
            *y = cx.params[i / lanes % f] * x;
        }
    }

    fn backward(
        &self,
        _: &Context<'_, R>,
        _: Seq<'_, R>,
        _: Seq<'_, R>,
        _: Seq<'_, R>,
        _: &mut [R],
        _: &mut [R],
        _: &mut [R],
        _: Option<SeqMut<'_, R>>,
    ) {
        unreachable!("saving takes no gradients")
    }
}

fn gain(description: &Description) -> Option<Box<dyn Layer<f32>>> {
    (description.kind == Gain::KIND).then(|| Box::new(Gain) as _)
}

#[test]
fn layers_of_ones_own_come_back() {
    let (_folder, path) = place();
    let builder = Model::builder(Shape::new(4, 3)).layer("gain", Gain).layer("linear", Linear::new(2));
    let model: Model = builder.build(1).unwrap();
    model.save(&path).unwrap();
    let loaded = Model::load_with(&path, gain).unwrap();
    assert_eq!(loaded.predict(&x()).unwrap(), model.predict(&x()).unwrap());

    let message = Model::<f32>::load(&path).unwrap_err().to_string();
    for part in ["model.safetensors", "`gain`", "not built in", "load_with"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

// --- files that are wrong ---

/// The error of loading a file with these bytes, which must name the file.
#[track_caller]
fn fault_of(what: &dyn Debug, bytes: &[u8]) -> String {
    let (_folder, path) = place();
    std::fs::write(&path, bytes).unwrap();
    let error = match Model::<f32>::load(&path) {
        Ok(model) => panic!("{what:?}: loaded as\n{model}"),
        Err(error) => error,
    };
    assert!(matches!(error, Error::File { .. }), "{what:?}: {error:?}");
    let message = error.to_string();
    assert!(message.starts_with(&path.display().to_string()), "{what:?}: {message}");
    message
}

fn saved() -> Vec<u8> {
    let (_folder, path) = place();
    model::<f32>().save(&path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn no_file() {
    let (folder, path) = place();
    for path in [path.as_path(), folder.path()] {
        let error = Model::<f32>::load(path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_file_cut_short_anywhere() {
    let bytes = saved();
    for length in 0..bytes.len() {
        fault_of(&length, &bytes[..length]);
    }
    let longer = [&bytes[..], &[0]].concat();
    fault_of(&"one byte too many", &longer);
}

/// Whatever byte of the header is another: a model, or an error that names the file, but neither a panic nor huge
/// memory.
#[test]
fn a_file_with_any_byte_changed() {
    let mut bytes = saved();
    let (_folder, path) = place();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for i in 0..header {
        // Another digit or letter, and no text at all.
        for flip in [0x01, 0x80] {
            bytes[i] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            if let Err(error) = Model::<f32>::load(&path) {
                assert!(error.to_string().starts_with(&path.display().to_string()), "byte {i}: {error}");
            }
            bytes[i] ^= flip;
        }
    }
}

#[test]
fn what_is_no_safetensors_file() {
    for bytes in [&b""[..], b"PK\x03\x04", b"weights = 1\n", &[0xff; 64], &[0; 64]] {
        let message = fault_of(&bytes, bytes);
        assert!(message.contains("no safetensors file"), "{message}");
    }
}

/// One tensor of a file.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: TensorView<'_>| Tensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        data: view.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect()
}

/// A safetensors file of these, with a description or without.
fn file_of(tensors: &BTreeMap<String, Tensor>, description: Option<String>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        (name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap())
    });
    let metadata = description.map(|text| [("bptt".to_owned(), text)].into());
    safetensors::serialize(views, metadata).unwrap()
}

/// The fault of the saved model with other tensors, or with another text for its description.
#[track_caller]
fn fault_of_altered(
    what: &dyn Debug,
    alter: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut Option<String>),
) -> String {
    let (_folder, path) = place();
    model::<f32>().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut description = Some(metadata.metadata().as_ref().unwrap()["bptt"].clone());
    let mut tensors = tensors(&path);
    alter(&mut tensors, &mut description);
    fault_of(what, &file_of(&tensors, description))
}

/// The fault of the saved model with one value of its description replaced.
#[track_caller]
fn fault_of_described(pointer: &str, value: Value) -> String {
    let what = format!("{pointer} = {value}");
    fault_of_altered(&what, |_, description| {
        let mut json: Value = serde_json::from_str(description.as_ref().unwrap()).unwrap();
        *json.pointer_mut(pointer).expect("a place in the description") = value;
        *description = Some(json.to_string());
    })
}

#[test]
fn sizes_that_are_absurd() {
    let lstm = "/layers/1/layer/config";
    let many = json!(1u64 << 60);
    for (pointer, value, part) in [
        (format!("{lstm}/hidden_size"), many.clone(), "lstm: hidden_size"),
        (format!("{lstm}/hidden_size"), json!(0), "lstm: hidden_size"),
        (format!("{lstm}/hidden_size"), json!(-1), "lstm"),
        (format!("{lstm}/hidden_size"), json!(1.5), "lstm"),
        (format!("{lstm}/hidden_size"), json!(u64::MAX), "lstm: hidden_size"),
        // Within what a layer may be, but not what this file holds.
        (format!("{lstm}/hidden_size"), json!(1 << 20), "values, expected"),
        (format!("{lstm}/hidden_size"), json!(6), "values, expected"),
        (format!("{lstm}/hidden_size"), json!(4), "shape"),
        (format!("{lstm}/layers"), many.clone(), "lstm: layers"),
        (format!("{lstm}/layers"), json!(1000), "values, expected"),
        (format!("{lstm}/layers"), json!(1), "unexpected tensor"),
        ("/layers/3/layer/config/out_features".into(), many.clone(), "linear: out_features"),
        ("/layers/3/layer/config/out_features".into(), json!(1 << 24), "2 names"),
        ("/input/t".into(), many.clone(), "input"),
        ("/input/t".into(), json!(0), "input"),
        ("/input/f".into(), many, "input"),
        ("/input/f".into(), json!(2), "means"),
    ] {
        let message = fault_of_described(&pointer, value);
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn descriptions_that_are_wrong() {
    let linear = json!({"layer": {"kind": "linear", "config": {"out_features": 2}}, "name": "linear"});
    for (pointer, value, part) in [
        ("/version", json!(2), "version 2, expected 1"),
        ("/version", json!("1"), "description"),
        ("/layers", json!([]), "layers"),
        ("/layers", json!([linear, linear]), "linear"),
        ("/layers/0/name", json!(""), "layer name"),
        ("/layers/0/name", json!("lstm"), "`lstm`"),
        ("/layers/0/layer/kind", json!("convolution"), "`convolution`"),
        ("/layers/0/layer/config/cell", json!("gelu"), "rnn"),
        ("/layers/1/layer/config", json!(null), "lstm"),
        ("/normalize/mean", json!([null, 0, 0]), "description"),
        ("/normalize/mean", json!([0, 0]), "2 means"),
        ("/normalize/sd", json!([1, 0, 1]), "sd"),
        ("/normalize/sd", json!([1, -1, 1]), "sd"),
        ("/normalize", json!({"mean": [], "sd": []}), "0 means"),
        ("/classes", json!(["one"]), "1 names"),
        ("", json!([]), "description"),
    ] {
        let message = fault_of_described(pointer, value);
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn descriptions_that_are_no_json() {
    let none = fault_of_altered(&"no description", |_, description| *description = None);
    assert!(none.contains("no description of a model"), "{none}");
    let deep = "[".repeat(100_000);
    let nan = r#"{"classes":[],"input":{"f":NaN,"t":4},"layers":[],"normalize":{},"version":1}"#;
    for text in ["", "{", "null", "\u{0}", nan, &deep] {
        let message = fault_of_altered(&text, |_, description| *description = Some(text.to_owned()));
        assert!(message.contains("description that cannot be read"), "{message}");
    }
}

#[test]
fn tensors_that_are_wrong() {
    let name = "linear.weight";
    let put = |tensor: Tensor, as_name: &'static str| {
        fault_of_altered(&(as_name, tensor.dtype, tensor.shape.clone()), |tensors, _| {
            tensors.insert(as_name.to_owned(), tensor);
        })
    };
    // Without it the file would be too short at all; so it is there under another name.
    let renamed = fault_of_altered(&"renamed", |tensors, _| {
        let tensor = tensors.remove(name).unwrap();
        tensors.insert("other.weight".into(), tensor);
    });
    assert!(renamed.contains("missing tensor `linear.weight` [2, 5]"), "{renamed}");
    assert!(renamed.contains("unexpected tensor `other.weight`"), "{renamed}");
    let missing = fault_of_altered(&"missing", |tensors, _| drop(tensors.remove(name)));
    assert!(missing.contains("values, expected"), "{missing}");
    let more = put(zeros(Dtype::F32, &[3]), "more");
    assert!(more.contains("unexpected tensor `more`"), "{more}");
    for shape in [&[5, 2][..], &[10], &[2, 5, 1], &[2, 6]] {
        let message = put(zeros(Dtype::F32, shape), name);
        let expected = format!("tensor `linear.weight`: found shape {shape:?}, expected [2, 5]");
        assert!(message.contains(&expected), "{message}");
    }
    for dtype in [Dtype::I64, Dtype::F16, Dtype::BOOL] {
        let message = put(zeros(dtype, &[2, 5]), name);
        let expected = format!("tensor `linear.weight`: found type {dtype:?}, expected F32 or F64");
        assert!(message.contains(&expected), "{message}");
    }
}

// --- state dicts ---

/// An LSTM and a linear layer, and what PyTorch calls them in these tests.
fn chain<R: Real>(seed: u64) -> Model<R> {
    let builder = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(5).last());
    builder.layer("linear", Linear::new(2)).build(seed).unwrap()
}

fn names() -> StateDict {
    StateDict::new().rename("module.encoder", "lstm").rename("module.fc", "linear")
}

/// What [`chain`] with seed 1 saves under [`names`], altered; and a model of seed 2 that it is for.
fn altered(alter: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> (tempfile::TempDir, PathBuf, Model) {
    let (folder, path) = place();
    chain::<f32>(1).save_state_dict(&path, &names()).unwrap();
    let mut tensors = tensors(&path);
    alter(&mut tensors);
    std::fs::write(&path, file_of(&tensors, None)).unwrap();
    (folder, path, chain(2))
}

fn zeros(dtype: Dtype, shape: &[usize]) -> Tensor {
    let data = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
    Tensor { dtype, shape: shape.to_vec(), data }
}

#[test]
fn modules_are_renamed_both_ways() {
    let (_folder, path) = place();
    let (theirs, mut ours) = (chain::<f32>(1), chain::<f32>(2));
    theirs.save_state_dict(&path, &names()).unwrap();
    let keys: Vec<_> = tensors(&path).into_keys().collect();
    let parts = ["bias_hh_l0", "bias_ih_l0", "weight_hh_l0", "weight_ih_l0"];
    let expected = parts.map(|part| format!("module.encoder.{part}")).into_iter();
    assert_eq!(
        keys,
        expected.chain(["module.fc.bias".into(), "module.fc.weight".into()]).collect::<Vec<_>>()
    );

    let loaded = ours.load_state_dict(&path, &names()).unwrap();
    assert!(loaded.missing.is_empty() && loaded.unexpected.is_empty());
    assert_eq!(ours.params().as_slice(), theirs.params().as_slice());
    // What the kernels use is renewed as well.
    assert_eq!(ours.predict(&x()).unwrap(), theirs.predict(&x()).unwrap());
}

#[test]
fn a_file_that_save_wrote_is_a_state_dict() {
    let (_folder, path) = place();
    chain::<f32>(1).save(&path).unwrap();
    let mut model = chain::<f32>(2);
    model.load_state_dict(&path, &StateDict::new()).unwrap();
    assert_eq!(model.params().as_slice(), chain::<f32>(1).params().as_slice());
    // But not the other way round: a model is more than its tensors.
    model.save_state_dict(&path, &StateDict::new()).unwrap();
    let message = Model::<f32>::load(&path).unwrap_err().to_string();
    assert!(message.contains("no description of a model"), "{message}");
}

#[test]
fn modules_without_a_prefix_and_within_another() {
    let (_folder, path) = place();
    let build = |seed| {
        let builder = Model::<f32>::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(5).last());
        builder.build(seed).unwrap()
    };
    for (names, first) in [
        (StateDict::new().rename("", "lstm"), "bias_hh_l0"),
        (StateDict::new().rename("module", ""), "module.lstm.bias_hh_l0"),
        // The longest name counts, in either order, and a tensor can have a name of its own.
        (StateDict::new().rename("module", "").rename("module.rnn", "lstm"), "module.rnn.bias_hh_l0"),
        (StateDict::new().rename("module.rnn", "lstm").rename("module", ""), "module.rnn.bias_hh_l0"),
        (StateDict::new().rename("a", "lstm.bias_hh_l0").rename("b", "lstm"), "a"),
        // Whole names only.
        (StateDict::new().rename("rnn", "lst").rename("bias", "lstm.bias"), "lstm.bias_hh_l0"),
    ] {
        build(1).save_state_dict(&path, &names).unwrap();
        assert_eq!(tensors(&path).into_keys().next().unwrap(), first, "{names:?}");
        let mut model = build(2);
        model.load_state_dict(&path, &names).unwrap();
        assert_eq!(model.params().as_slice(), build(1).params().as_slice(), "{names:?}");
    }
}

#[test]
fn a_part_of_the_model_for_a_module_alone() {
    let (_folder, path) = place();
    let alone = StateDict::new().rename("", "lstm");
    chain::<f32>(1).save_state_dict(&path, &alone.clone().only_renamed()).unwrap();
    // The keys of `nn.LSTM(3, 5).state_dict()`.
    let keys: Vec<_> = tensors(&path).into_keys().collect();
    assert_eq!(keys, ["bias_hh_l0", "bias_ih_l0", "weight_hh_l0", "weight_ih_l0"]);

    let mut model = chain::<f32>(2);
    let message = model.load_state_dict(&path, &alone).unwrap_err().to_string();
    assert!(message.ends_with("missing tensor `linear.weight` [2, 5]; missing tensor `linear.bias` [2]"));
    let keys = model.load_state_dict(&path, &alone.clone().lenient()).unwrap();
    assert_eq!(
        (&keys.missing[..], keys.unexpected.len()),
        (&["linear.weight", "linear.bias"].map(Into::into)[..], 0)
    );
    let mixed = model.params().as_slice().to_vec();
    let count = mixed.len() - 12;
    assert_eq!(mixed[..count], chain::<f32>(1).params().as_slice()[..count]);
    assert_eq!(mixed[count..], chain::<f32>(2).params().as_slice()[count..]);

    // Strict within the part.
    let mut model = chain::<f32>(2);
    let keys = model.load_state_dict(&path, &alone.clone().only_renamed()).unwrap();
    assert!(keys.missing.is_empty() && keys.unexpected.is_empty());
    assert_eq!(model.params().as_slice(), mixed);
    let linear = StateDict::new().rename("fc", "linear").only_renamed();
    let message = model.load_state_dict(&path, &linear).unwrap_err().to_string();
    assert!(message.ends_with("missing tensor `fc.bias` (here `linear.bias`) [2]"), "{message}");
}

#[test]
fn state_dicts_convert_scalars() {
    let (_folder, path) = place();
    chain::<f64>(1).save_state_dict(&path, &names()).unwrap();
    assert!(tensors(&path).values().all(|tensor| tensor.dtype == Dtype::F64));
    let (mut single, mut double) = (chain::<f32>(2), chain::<f64>(2));
    single.load_state_dict(&path, &names()).unwrap();
    double.load_state_dict(&path, &names()).unwrap();
    let exact = chain::<f64>(1).params().as_slice().to_vec();
    assert_eq!(double.params().as_slice(), exact);
    assert_eq!(single.params().as_slice(), exact.iter().map(|&p| p as f32).collect::<Vec<_>>());

    single.save_state_dict(&path, &names()).unwrap();
    double.load_state_dict(&path, &names()).unwrap();
    let widened: Vec<f64> = single.params().as_slice().iter().map(|&p| f64::from(p)).collect();
    assert_eq!(double.params().as_slice(), widened);
}

#[test]
fn every_fault_of_a_state_dict_is_named_at_once() {
    let (_folder, path, mut model) = altered(|tensors| {
        tensors.remove("module.fc.bias");
        tensors.insert("module.fc.weight".into(), zeros(Dtype::F32, &[2, 6]));
        tensors.insert("module.encoder.bias_hh_l0".into(), zeros(Dtype::F16, &[20]));
        tensors.insert("module.norm.running_mean".into(), zeros(Dtype::F32, &[5]));
    });
    let message = model.load_state_dict(&path, &names()).unwrap_err().to_string();
    let faults = [
        "tensor `module.encoder.bias_hh_l0` (here `lstm.bias_hh_l0`): found type F16, expected F32 or F64",
        "tensor `module.fc.weight` (here `linear.weight`): found shape [2, 6], expected [2, 5]",
        "missing tensor `module.fc.bias` (here `linear.bias`) [2]",
        "unexpected tensor `module.norm.running_mean`",
    ];
    assert_eq!(message, format!("{}: {}", path.display(), faults.join("; ")));
    assert_eq!(model.params().as_slice(), chain::<f32>(2).params().as_slice(), "nothing is changed");
}

#[test]
fn lenient_loading_says_what_was_not_there() {
    let (_folder, path, mut model) = altered(|tensors| {
        tensors.remove("module.fc.bias");
        tensors.insert("module.norm.running_mean".into(), zeros(Dtype::I64, &[5]));
        tensors.insert("a".into(), zeros(Dtype::F32, &[1]));
    });
    let keys = model.load_state_dict(&path, &names().lenient()).unwrap();
    assert_eq!(keys.missing, ["linear.bias"]);
    assert_eq!(keys.unexpected, ["a", "module.norm.running_mean"]);
    let (before, after) = (chain::<f32>(2), chain::<f32>(1));
    for ((name, found), (_, theirs)) in model.params().iter().zip(after.params().iter()) {
        let range = before.params().layout().get(name).unwrap().range();
        let expected = if name == "linear.bias" { &before.params().as_slice()[range] } else { theirs };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn lenient_loading_bears_no_wrong_shape() {
    for wrong in [zeros(Dtype::F32, &[2, 6]), zeros(Dtype::F32, &[10]), zeros(Dtype::BF16, &[2, 5])] {
        let (_folder, path, mut model) = altered(|tensors| {
            tensors.remove("module.fc.bias");
            tensors.insert("module.fc.weight".into(), wrong);
        });
        let message = model.load_state_dict(&path, &names().lenient()).unwrap_err().to_string();
        assert!(message.contains("tensor `module.fc.weight` (here `linear.weight`): found"), "{message}");
        assert!(!message.contains("missing"), "{message}");
        assert_eq!(model.params().as_slice(), chain::<f32>(2).params().as_slice());
    }
}

#[test]
fn renames_that_cannot_be() {
    let (_folder, path, mut model) = altered(|_| ());
    let before = std::fs::read(&path).unwrap();
    for (names, message) in [
        (names().rename("a.", "b"), "`rename`: found `a.`, expected a name without a dot at its ends"),
        (names().rename("a", ".b"), "`rename`: found `.b`, expected a name without a dot at its ends"),
        (names().rename("module.fc", "b"), "`rename`: found `module.fc` twice, expected it once"),
        (names().rename("b", "linear"), "`rename`: found `linear` twice, expected it once"),
    ] {
        assert_eq!(model.load_state_dict(&path, &names).unwrap_err().to_string(), message);
        assert_eq!(model.save_state_dict(&path, &names).unwrap_err().to_string(), message);
    }
    // Two that become one.
    let clash = StateDict::new().rename("lstm.bias_hh_l0", "linear.bias");
    let message = model.save_state_dict(&path, &clash).unwrap_err().to_string();
    assert!(message.ends_with("found two tensors to be named `lstm.bias_hh_l0`, expected one"), "{message}");
    assert!(before == std::fs::read(&path).unwrap(), "the file is as it was");

    let (_folder, path, mut model) = altered(|tensors| {
        tensors.insert("linear.bias".into(), zeros(Dtype::F32, &[2]));
    });
    for names in [names(), names().lenient()] {
        let message = model.load_state_dict(&path, &names).unwrap_err().to_string();
        let fault = "tensors `linear.bias` and `module.fc.bias`: found both for `linear.bias`, expected one";
        assert!(message.ends_with(fault), "{message}");
    }
}
