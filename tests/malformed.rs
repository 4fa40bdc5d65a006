//! Files that are short, wrong or absurd, models' and runs': each is an error that names the file and the fault, takes no
//! memory to speak of, and changes nothing.
//!
//! `cargo test --test malformed -- --nocapture` prints the list.

#[path = "common/models.rs"]
mod models;
#[path = "common/tensors.rs"]
mod tensors;

use std::alloc::{GlobalAlloc, System};
use std::path::Path;

use bptt::data::{Arrays, Dataset};
use bptt::loss::CrossEntropy;
use bptt::nn::{Activation, Linear, Lstm};
use bptt::optim::Adam;
use bptt::prune::Magnitude;
use bptt::train::EarlyStopping;
use bptt::{Error, Model, Shape, Trainer};
use models::{everything, place};
use ndarray::Array3;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tensors::{Tensor, Tensors, check, file, parts, run_file, run_parts, zeros};

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

/// A model with something of everything, and a quarter of its weights pruned.
fn model() -> Model {
    let mut model = everything();
    model.prune(Magnitude::share(0.25)).unwrap();
    model
}

fn saved() -> Vec<u8> {
    let (_folder, path) = place();
    model().save(&path).unwrap();
    std::fs::read(path).unwrap()
}

/// A file, and words of the fault that must be told of it.
struct Case {
    what: String,
    bytes: Vec<u8>,
    fault: String,
}

fn case(what: impl Into<String>, bytes: impl Into<Vec<u8>>, fault: impl Into<String>) -> Case {
    Case { what: what.into(), bytes: bytes.into(), fault: fault.into() }
}

/// Puts a file where another may be. A new one: some file systems flush one that is written over, thousands of times here.
fn put(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}

/// Asserts that `open` refuses each case by an error that names the file and the fault, and prints the list.
fn assert_refused(cases: &[Case], open: impl Fn(&Path) -> Result<String, Error>) {
    let (_folder, path) = place();
    for (i, Case { what, bytes, fault }) in cases.iter().enumerate() {
        put(&path, bytes);
        let error = open(&path).expect_err(what);
        assert!(matches!(error, Error::File { .. }), "{what}: {error:?}");
        let message = error.to_string();
        let told = message
            .strip_prefix(&format!("{}: ", path.display()))
            .unwrap_or_else(|| panic!("{what}: {message}"));
        assert!(told.contains(fault), "{what}: `{told}` does not say `{fault}`");
        let short: String = told.chars().take(150).collect();
        println!("{:>3}  {what}: {short}{}", i + 1, if told.chars().count() > 150 { "…" } else { "" });
    }
    println!("{} files, {} faults told\n", cases.len(), cases.len());
}

fn load(path: &Path) -> Result<String, Error> {
    Model::<f32>::load(path).map(|model| model.to_string())
}

// --- the format ---

/// A safetensors file of these parts, right or wrong.
fn raw(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes(), header, &vec![0; data]].concat()
}

/// A header with one tensor of four bytes.
fn with_tensor(tensor: &str) -> String {
    format!(r#"{{"a":{tensor}}}"#)
}

/// Wrong before anyone asks what is in it; `metadata` goes into a good header.
fn wrong_formats(key: &str) -> Vec<Case> {
    let no = "not a safetensors file";
    let length = |length: u64| [&length.to_le_bytes()[..], &[b' '; 100]].concat();
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let both = |a: &str, b: &str| {
        let tensor = |at: &str| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":{at}}}"#);
        raw(format!(r#"{{"a":{},"b":{}}}"#, tensor(a), tensor(b)), 8)
    };
    let tensor = |text: &str| raw(with_tensor(text), 4);
    let offsets = |at: &str| tensor(&format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":{at}}}"#));
    let shape = |shape: &str| tensor(&format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[0,4]}}"#));
    let dtype = |dtype: &str| tensor(&format!(r#"{{"dtype":{dtype},"shape":[1],"data_offsets":[0,4]}}"#));
    let utf8 = [&br#"{"__metadata__":{""#[..], key.as_bytes(), b"\":\"\xff\xfe\"}}"].concat();
    let deep = "[".repeat(100_000);
    vec![
        case("an empty file", [], no),
        case("the beginning of a ZIP file", *b"PK\x03\x04", no),
        case("a text", *b"weights = 1\n", no),
        case("64 bytes of 255", [0xff; 64], no),
        case("64 bytes of 0", [0; 64], no),
        case("seven bytes", [1; 7], no),
        case("a header length of 2⁶⁴ − 1", length(u64::MAX), no),
        case("a header length of 2⁶³", length(1 << 63), no),
        case("a header length of 2⁴⁰", length(1 << 40), no),
        case("a header one byte longer than the file", length(101), no),
        case("a header of nothing", raw("", 0), no),
        case("a header of spaces", length(100), no),
        case("a header that is cut short", raw(r#"{"a":{"dtype":"F32""#, 4), no),
        case("a header that is an array", raw("[]", 0), no),
        case("a header that is no UTF-8", raw(b"{\"\xc3\x28\":1}", 0), no),
        case("metadata that are no UTF-8", raw(utf8, 0), no),
        case(
            "metadata of half a surrogate",
            raw(format!(r#"{{"__metadata__":{{"{key}":"\ud800"}}}}"#), 0),
            no,
        ),
        case("metadata that are numbers", raw(format!(r#"{{"__metadata__":{{"{key}":1}}}}"#), 0), no),
        case("metadata that are an array", raw(r#"{"__metadata__":[]}"#, 0), no),
        case("metadata twice", raw(r#"{"__metadata__":{"a":"1"},"__metadata__":{"b":"2"}}"#, 0), no),
        case(
            "a name twice in the metadata",
            raw(r#"{"__metadata__":{"a":"1","a":"1"}}"#, 0),
            "`a` appears twice",
        ),
        case("a header that is nested 100,000 deep", raw(&deep, 0), no),
        case("a tensor that is nested 100,000 deep", raw(with_tensor(&deep), 4), no),
        case("a tensor twice", raw(format!(r#"{{"a":{one},"a":{one}}}"#), 4), "`a` appears twice"),
        case("two tensors that overlap", both("[0,4]", "[2,6]"), no),
        case("two tensors in one place", both("[0,4]", "[0,4]"), no),
        case("a hole between two tensors", both("[0,3]", "[4,8]"), no),
        case("a tensor beyond the end", offsets("[0,8]"), no),
        case("a tensor that ends before it begins", offsets("[4,0]"), no),
        case("a negative offset", offsets("[-4,0]"), no),
        case("half an offset", offsets("[0.5,4.5]"), no),
        case("an offset of 2⁶⁴ − 1", offsets("[18446744073709551615,18446744073709551615]"), no),
        case("an offset of 10³⁰⁰", offsets("[0,1e300]"), no),
        case("one offset", offsets("[0]"), no),
        case("a negative size", shape("[-1]"), no),
        case("a size of 2⁶³", shape("[9223372036854775808]"), no),
        case("sizes that overflow", shape("[1099511627776,1099511627776]"), no),
        case("more values than bytes", shape("[2]"), no),
        case("a size of NaN", shape("[NaN]"), no),
        case("no shape", tensor(r#"{"dtype":"F32","data_offsets":[0,4]}"#), no),
        case("a type that there is not", dtype(r#""F31""#), no),
        case("a type that is a number", dtype("32"), no),
        case("a tensor that is a number", tensor("7"), no),
        case("bytes that no tensor has", raw(with_tensor(one), 5), no),
        case("no metadata", raw(with_tensor(one), 4), "in the metadata, expected one"),
    ]
}

// --- models ---

/// The saved model with one value of its description replaced, and its fault.
fn described(cases: &[(&str, Value, &str)]) -> Vec<Case> {
    let (tensors, text) = parts(&saved(), "bptt");
    let with = |(pointer, value, fault): &(&str, Value, &str)| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        // Where there is nothing yet, it is added.
        if let Some(place) = json.pointer_mut(pointer) {
            *place = value.clone();
        } else {
            let (map, key) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(map).expect(pointer)[key] = value.clone();
        }
        let short: String = value.to_string().chars().take(60).collect();
        case(format!("{pointer} is {short}"), file(&tensors, "bptt", Some(json.to_string())), *fault)
    };
    cases.iter().map(with).collect()
}

fn absurd_sizes() -> Vec<Case> {
    let many = json!(1u64 << 60);
    let size = "/layers/1/layer/config/hidden_size";
    let layers = "/layers/1/layer/config/layers";
    let out = "/layers/3/layer/config/out_features";
    described(&[
        (size, many.clone(), "lstm: hidden_size"),
        (size, json!(0), "lstm: hidden_size"),
        (size, json!(-1), "lstm"),
        (size, json!(1.5), "lstm"),
        (size, json!(u64::MAX), "lstm: hidden_size"),
        // Within what a layer may be, but not what this file holds.
        (size, json!(1 << 20), "values, expected"),
        (size, json!(6), "values, expected"),
        (size, json!(4), "shape"),
        (layers, many.clone(), "lstm: layers"),
        (layers, json!(1000), "values, expected"),
        (layers, json!(1), "unexpected tensor"),
        (out, many.clone(), "linear: out_features"),
        (out, json!(1 << 24), "2 names"),
        ("/input/t", many.clone(), "input"),
        ("/input/t", json!(0), "input"),
        ("/input/f", many, "input"),
        // Of no tensor's concern, and still beyond all reason.
        ("/input/t", json!(u64::MAX / 3), "input"),
        ("/input/t", json!(1u64 << 28), "values per sample"),
        ("/layers/0/layer/config/hidden_size", json!(1 << 20), "values, expected"),
        ("/input/f", json!(2), "means"),
    ])
}

fn wrong_descriptions() -> Vec<Case> {
    let linear = json!({"layer": {"kind": "linear", "config": {"out_features": 2}}, "name": "linear"});
    let mask = |runs: Value| json!({"linear.weight": runs});
    let mut cases = described(&[
        ("/version", json!(2), "version 2, expected 1"),
        ("/version", json!("1"), "description"),
        ("/input", json!({"t": 4, "f": 3, "g": 1}), "unknown field `g`"),
        ("/layers/3/layer/config/out", json!(1), "unknown field `out`"),
        ("/layers/3/layer/more", json!(1), "unknown field `more`"),
        ("/layers/3/more", json!(1), "unknown field `more`"),
        ("/more", json!(1), "unknown field `more`"),
        ("/normalize/more", json!(1), "unknown field `more`"),
        ("/layers", json!([]), "layers"),
        ("/layers", json!([linear, linear]), "linear"),
        ("/layers/0/name", json!(""), "layer name"),
        ("/layers/0/name", json!("lstm"), "`lstm`"),
        ("/layers/0/name", json!("n".repeat(70_000)), "of 70000 characters, expected at most 256"),
        ("/layers/0/name", json!("two\nlines"), "control characters"),
        ("/classes", json!(["no", "no"]), "found `no` twice"),
        ("/classes", json!(["no", "y\u{7}s"]), "control characters"),
        ("/layers/0/layer/kind", json!("convolution"), "`convolution`"),
        ("/layers/0/layer/config/cell", json!("gelu"), "rnn"),
        ("/layers/0/layer/config", json!({"hidden_size": 4, "sizes": 3}), "unknown field `sizes`"),
        ("/layers/1/layer/config", json!(null), "lstm"),
        ("/normalize/mean", json!([null, 0, 0]), "description"),
        ("/normalize/mean", json!([0, 0]), "2 means"),
        ("/normalize/sd", json!([1, 0, 1]), "sd"),
        ("/normalize/sd", json!([1, -1, 1]), "sd"),
        ("/normalize", json!({"mean": [], "sd": []}), "0 means"),
        ("/classes", json!(["one"]), "1 names"),
        ("/mask", json!({}), "mask: found no tensors"),
        ("/mask", json!({"gru.weight": [1, 2]}), "mask: found `gru.weight`"),
        ("/mask", mask(json!([4, 4])), "mask of `linear.weight`: found 8 values, expected 10"),
        ("/mask", mask(json!([4, 0, 6])), "found an empty run"),
        ("/mask", mask(json!([u64::MAX, u64::MAX])), "far too many"),
        ("/mask", mask(json!([-4, 14])), "description"),
        ("", json!([]), "description"),
    ]);
    let (tensors, text) = parts(&saved(), "bptt");
    let deep = "[".repeat(100_000);
    let nan = r#"{"classes":[],"input":{"f":NaN,"t":4},"layers":[],"normalize":{},"version":1}"#;
    let twice = text.replacen('{', r#"{"version":1,"#, 1);
    let texts = [
        ("no text", ""),
        ("half a text", &text[..text.len() / 2]),
        ("null", "null"),
        ("a NUL", "\u{0}"),
        ("a NaN", nan),
        ("a text nested 100,000 deep", &deep),
        ("a version twice", &twice),
        ("a text with more after it", &format!("{text} {{}}")),
    ]
    .map(|(what, text)| {
        let bytes = file(&tensors, "bptt", Some(text.to_owned()));
        case(format!("a description of {what}"), bytes, "description that cannot be read")
    });
    cases.extend(texts);
    cases
}

/// The saved model with one of its tensors in the header twice: the format's own reader takes the last.
fn named_twice() -> Case {
    let bytes = saved();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..data]).unwrap();
    let start = header.find(r#""linear.bias":"#).unwrap();
    let entry = &header[start..=start + header[start..].find('}').unwrap()];
    let header = header.replacen(entry, &format!("{entry},{entry}"), 1);
    let bytes = [raw(header, 0), bytes[data..].to_vec()].concat();
    SafeTensors::deserialize(&bytes).expect("what another reader lets pass");
    case("a tensor twice, all else as it was", bytes, "`linear.bias` appears twice")
}

fn wrong_tensors() -> Vec<Case> {
    let name = "linear.weight";
    let altered = |what: String, fault: &str, alter: &dyn Fn(&mut Tensors)| {
        let (mut tensors, text) = parts(&saved(), "bptt");
        alter(&mut tensors);
        case(what, file(&tensors, "bptt", Some(text)), fault)
    };
    let mut cases = vec![
        altered(
            "a tensor of another name".into(),
            "missing tensor `linear.weight` [2, 5]; unexpected tensor `other`",
            &|tensors| {
                let tensor = tensors.remove(name).unwrap();
                tensors.insert("other".into(), tensor);
            },
        ),
        altered("a tensor less".into(), "values, expected", &|tensors| drop(tensors.remove(name))),
        altered("a tensor more".into(), "unexpected tensor `more`", &|tensors| {
            tensors.insert("more".into(), zeros(Dtype::F32, &[3]));
        }),
    ];
    cases.push(named_twice());
    for shape in [&[5, 2][..], &[10], &[2, 5, 1], &[2, 6]] {
        let fault = format!("tensor `linear.weight`: found shape {shape:?}, expected [2, 5]");
        cases.push(altered(format!("a tensor of shape {shape:?}"), &fault, &|tensors| {
            tensors.insert(name.into(), zeros(Dtype::F32, shape));
        }));
    }
    for (value, fault) in [
        (f64::NAN, "tensor `linear.bias`: found NaN at index 1, expected a finite number"),
        (f64::INFINITY, "tensor `linear.bias`: found inf at index 1, expected a finite number"),
        (-1e300, "tensor `linear.bias`: found -1e300 at index 1, expected what an F32 can hold"),
    ] {
        cases.push(altered(format!("a bias of {value}"), fault, &|tensors| {
            let mut bias = zeros(Dtype::F64, &[2]);
            bias.data[8..].copy_from_slice(&value.to_le_bytes());
            tensors.insert("linear.bias".into(), bias);
        }));
    }
    for dtype in [Dtype::I64, Dtype::F8_E4M3, Dtype::BOOL] {
        let fault = format!("tensor `linear.weight`: found type {dtype:?}, expected F32, F64, F16 or BF16");
        cases.push(altered(format!("a tensor of type {dtype:?}"), &fault, &|tensors| {
            tensors.insert(name.into(), zeros(dtype, &[2, 5]));
        }));
    }
    cases
}

#[test]
fn models() {
    load_good();
    let mut cases = wrong_formats("bptt");
    cases.extend(absurd_sizes());
    cases.extend(wrong_descriptions());
    cases.extend(wrong_tensors());
    assert!(cases.len() >= 50);
    assert_refused(&cases, load);
}

/// What the cases are made of is a file that loads, taken apart and put together.
fn load_good() {
    let (_folder, path) = place();
    let (tensors, text) = parts(&saved(), "bptt");
    std::fs::write(&path, file(&tensors, "bptt", Some(text))).unwrap();
    load(&path).unwrap();
}

#[test]
fn no_file() {
    let (folder, path) = place();
    for path in [path.as_path(), folder.path()] {
        let error = load(path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_model_cut_short_anywhere() {
    let bytes = saved();
    let (_folder, path) = place();
    let longer = [&bytes[..], &[0]].concat();
    for wrong in (0..bytes.len()).map(|length| &bytes[..length]).chain([&longer[..]]) {
        put(&path, wrong);
        let error = load(&path).expect_err("a file of another length");
        assert!(
            matches!(&error, Error::File { path: at, .. } if *at == path),
            "{} bytes: {error}",
            wrong.len()
        );
    }
}

/// Whatever byte of the header is another: a model, or an error that names the file, but neither a panic nor huge
/// memory.
#[test]
fn a_model_with_any_byte_changed() {
    let mut bytes = saved();
    let (_folder, path) = place();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for i in 0..header {
        // Another digit or letter, and no text at all.
        for flip in [0x01, 0x80] {
            bytes[i] ^= flip;
            put(&path, &bytes);
            if let Err(error) = load(&path) {
                assert!(error.to_string().starts_with(&path.display().to_string()), "byte {i}: {error}");
            }
            bytes[i] ^= flip;
        }
    }
}

/// A file of a newer version says so, whatever else is in it.
#[test]
fn a_newer_version_is_named_before_anything_else() {
    let (tensors, _) = parts(&saved(), "bptt");
    let (_folder, path) = place();
    for text in [r#"{"version":2}"#, r#"{"version":7,"layers":"other","input":[1,2,3],"more":{}}"#] {
        std::fs::write(&path, file(&tensors, "bptt", Some(text.into()))).unwrap();
        let message = load(&path).unwrap_err().to_string();
        assert!(message.contains("found version ") && message.ends_with(", expected 1"), "{message}");
    }
}

/// A file of a few hundred bytes that asks for gigabytes loads, for it is a model; what works with it answers by an
/// error that names the size. [`Limited`] is what there is not enough of.
#[test]
fn a_small_file_of_a_large_model() {
    let wide =
        Model::<f32>::builder(Shape::new(1, 1 << 28)).layer("tanh", Activation::tanh()).build(1).unwrap();
    let bytes = wide.to_bytes().unwrap();
    assert!(bytes.len() < 300);
    let model = Model::<f32>::from_bytes(&bytes).unwrap();
    assert!(model.to_string().contains("[1, 268435456]"));
    let message = model.session().unwrap_err().to_string();
    let expected = "`memory`: found buffers for one stream of 2147483648 bytes, expected as many as";
    assert!(message.starts_with(expected), "{message}");
    // More layers than any sum can hold are refused when the model is built.
    let long =
        Model::<f32>::builder(Shape::new(1 << 28, 1)).layer("lstm", Lstm::new(1 << 20).layers(1 << 10));
    let message = long.build(1).unwrap_err().to_string();
    assert!(message.starts_with("`lstm: hidden_size`: found 1048576 for 1024 layers"), "{message}");
}

/// Time and memory of loading grow with the number of layers, not with its square.
#[test]
fn many_layers_load_in_no_time() {
    let seconds = |layers: usize| {
        let builder = (0..layers).fold(Model::<f32>::builder(Shape::new(1, 1)), |builder, i| {
            builder.layer(&format!("layer{i}"), Linear::new(1))
        });
        let bytes = builder.build(1).unwrap().to_bytes().unwrap();
        let once = || {
            let start = std::time::Instant::now();
            Model::<f32>::from_bytes(&bytes).unwrap();
            start.elapsed().as_secs_f64()
        };
        once().min(once()).min(once())
    };
    let (few, many) = (seconds(500).max(1e-4), seconds(8_000));
    // 16 times as many: 256 times as long where each was compared with each.
    assert!(many < 100.0 * few, "{few} s for 500 layers, {many} s for 8,000");
}

// --- runs ---

fn data() -> Arrays {
    let x = Array3::from_shape_fn((10, 4, 3), |(i, t, f)| ((i * 5 + t * 3 + f) % 7) as f32);
    Arrays::classes(x, &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1], ["no", "yes"]).unwrap()
}

/// Goes on from the file of a run; the model must stay as it is if that is refused.
fn resume(path: &Path) -> Result<String, Error> {
    let data = data();
    let untrained: Model = Model::builder(data.shape())
        .layer("lstm", Lstm::new(5).last())
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap();
    let mut model = untrained.clone();
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01))
        .epochs(3)
        .batch_size(4)
        .ema(0.9)
        .run_file(path)
        .resume(true)
        .callback(EarlyStopping::new(9));
    let result = trainer.fit(&mut model, &data, None);
    if result.is_err() {
        assert!(
            model.params().as_slice() == untrained.params().as_slice(),
            "a refused file changed the model"
        );
    }
    result.map(|history| history.to_csv())
}

#[test]
fn runs() {
    let (_folder, path) = place();
    resume(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let again = || run_parts(&good);
    let (tensors, content) = again();
    let (_, framed) = parts(&good, "bptt-run");
    assert!(run_file(&tensors, &content) == good, "the file comes out of its parts as it was");

    let mut cases = wrong_formats("bptt-run");
    cases.push(case(
        "a model's file",
        saved(),
        "found no state of a training run in the metadata, expected one",
    ));
    let none = "found no state of a training run";
    let value = |more: u64| format!("{:016x}", check(&tensors, &content).wrapping_add(more));
    for (what, text) in [
        ("no text", String::new()),
        ("a text of its own", "{}".into()),
        ("a check value that is no number", framed.replacen(r#""check":""#, r#""check":"x"#, 1)),
        ("no check value", format!(r#"{{"content":{content}}}"#)),
        ("no end", framed[..framed.len() - 1].to_owned() + "]"),
    ] {
        cases.push(case(format!("a state of {what}"), file(&tensors, "bptt-run", Some(text)), none));
    }
    cases.push(case(
        "another check value",
        file(&tensors, "bptt-run", Some(framed.replace(&value(0), &value(1)))),
        "the file is damaged",
    ));
    let (mut other, _) = again();
    other.get_mut("model.linear.bias").unwrap().data[0] ^= 1;
    cases.push(case(
        "another bit of a weight",
        file(&other, "bptt-run", Some(framed.clone())),
        "the file is damaged",
    ));

    // From here on the check value is that of the file: whoever made it meant it.
    let unread = "state of a training run that cannot be read";
    let deep = "[".repeat(100_000);
    for (what, text) in [
        ("half a text", &content[..content.len() / 2]),
        ("null", "null"),
        ("a number", "1e999"),
        ("nothing but a version", r#"{"version":1}"#),
        ("a version twice", &content.replacen('{', r#"{"version":1,"#, 1)),
        ("a text nested 100,000 deep", &deep),
    ] {
        cases.push(case(format!("a state of {what}"), run_file(&tensors, text), unread));
    }
    let no_run = "expected 3 steps per epoch";
    for (pointer, value, fault) in [
        ("/version", json!(3), "version 3, expected at most 2"),
        ("/version", json!(-1), unread),
        ("/steps", json!(10), no_run),
        ("/steps", json!(u64::MAX), no_run),
        ("/steps", json!(-1), unread),
        ("/steps", json!(1e300), unread),
        ("/position/step", json!(3), "expected at most 3 epochs"),
        ("/position/step", json!(u64::MAX), "expected at most 3 epochs"),
        ("/position/classes", json!([1, 2]), "counts that are not those of a run"),
        ("/position/classes", json!([u64::MAX, 0]), "counts that are not those of a run"),
        ("/position/loss", json!("zero"), unread),
        ("/position/loss", json!(null), unread),
        ("/history", json!([]), no_run),
        ("/history/1/epoch", json!(7), "epochs or counts that are not those of a run"),
        ("/history/0/lr", json!([1, 2]), unread),
        ("/history/0", json!({}), unread),
        ("/averaged", json!("yes"), unread),
        ("/settings/seed", json!("7"), "`seed`: found 7, expected 1"),
        ("/settings", json!({}), "`batch_size`: found nothing, expected 4"),
        ("/settings", json!([1]), unread),
        ("/callbacks", json!([]), "found states of 0 callbacks, expected 1"),
        ("/callbacks", json!([null, null]), "found states of 2 callbacks, expected 1"),
        ("/callbacks/0", json!(null), "state of callback 1"),
        ("/callbacks/0/since", json!(-1), "state of callback 1"),
    ] {
        let mut json: Value = serde_json::from_str(&content).unwrap();
        *json.pointer_mut(pointer).expect(pointer) = value.clone();
        cases.push(case(format!("{pointer} is {value}"), run_file(&tensors, &json.to_string()), fault));
    }
    for name in ["model.lstm.weight_hh_l0", "optimizer.1.linear.bias", "average.linear.weight", "callback.0"]
    {
        let (mut other, _) = again();
        let Tensor { shape, .. } = other.remove(name).unwrap();
        let fault = if name == "callback.0" {
            "state of callback 1".into()
        } else {
            format!("tensor `{name}`: found none")
        };
        cases.push(case(format!("no tensor `{name}`"), run_file(&other, &content), fault));
        let turned: Vec<usize> = shape.iter().copied().chain([2]).collect();
        for tensor in [zeros(Dtype::F32, &turned), zeros(Dtype::F64, &shape), zeros(Dtype::I32, &shape)] {
            let what = format!("`{name}` as {:?} {:?}", tensor.dtype, tensor.shape);
            let named = if name == "callback.0" { "callback" } else { name };
            other.insert(name.into(), tensor);
            cases.push(case(what, run_file(&other, &content), named));
        }
    }
    assert!(cases.len() >= 50);
    assert_refused(&cases, resume);
}
