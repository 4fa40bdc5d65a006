//! State dicts of PyTorch's: modules renamed both ways, strict and lenient loading, and every fault named at once. Models of
//! Keras, converted.

use std::path::{Path, PathBuf};

use bptt::nn::{Linear, Lstm};
use bptt::params::StateDict;
use bptt::{Model, Real, Shape};
use ndarray::Array3;
use safetensors::Dtype;
use serde_json::Value;

use crate::tensors::{Tensors, file, parts, zeros};

/// A folder that is gone at the end, and the path of a file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}

/// The tensors of a file.
fn tensors(path: &Path) -> Tensors {
    parts(&std::fs::read(path).unwrap(), "").0
}

fn x() -> Array3<f32> {
    Array3::from_shape_fn((5, 4, 3), |(i, t, f)| (i * 12 + t * 3 + f) as f32 / 30.0 - 1.0)
}

/// An LSTM and a linear layer, and what PyTorch calls them in these tests.
fn chain<R: Real>(seed: u64) -> Model<R> {
    let builder = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(5).last());
    builder.layer("linear", Linear::new(2)).build(seed).unwrap()
}

fn names() -> StateDict {
    StateDict::new().rename("module.encoder", "lstm").rename("module.fc", "linear")
}

/// What [`chain`] with seed 1 saves under [`names`], altered; and a model of seed 2 that it is for.
fn altered(alter: impl FnOnce(&mut Tensors)) -> (tempfile::TempDir, PathBuf, Model) {
    let (folder, path) = place();
    chain::<f32>(1).save_state_dict(&path, &names()).unwrap();
    let mut tensors = tensors(&path);
    alter(&mut tensors);
    std::fs::write(&path, file(&tensors, "", None)).unwrap();
    (folder, path, chain(2))
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

    ours.load_state_dict(&path, &names()).unwrap();
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
    let keys = model.load_state_dict_lenient(&path, &alone).unwrap();
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
    model.load_state_dict(&path, &alone.clone().only_renamed()).unwrap();
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
        tensors.insert("module.encoder.bias_hh_l0".into(), zeros(Dtype::I8, &[20]));
        tensors.insert("module.norm.running_mean".into(), zeros(Dtype::F32, &[5]));
    });
    let message = model.load_state_dict(&path, &names()).unwrap_err().to_string();
    let faults = [
        "tensor `module.encoder.bias_hh_l0` (here `lstm.bias_hh_l0`): found type I8, expected F32, F64, F16 or BF16",
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
    let keys = model.load_state_dict_lenient(&path, &names()).unwrap();
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
    for wrong in [zeros(Dtype::F32, &[2, 6]), zeros(Dtype::F32, &[10]), zeros(Dtype::I64, &[2, 5])] {
        let (_folder, path, mut model) = altered(|tensors| {
            tensors.remove("module.fc.bias");
            tensors.insert("module.fc.weight".into(), wrong);
        });
        let message = model.load_state_dict_lenient(&path, &names()).unwrap_err().to_string();
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
        (names().rename("b", "linear"), "`rename`: found `linear` twice, expected it once"),
    ] {
        assert_eq!(model.load_state_dict(&path, &names).unwrap_err().to_string(), message);
        assert_eq!(model.save_state_dict(&path, &names).unwrap_err().to_string(), message);
    }
    // Two that become one.
    let clash = StateDict::new().rename("lstm.bias_hh_l0", "linear.bias");
    let message = model.save_state_dict(&path, &clash).unwrap_err().to_string();
    assert!(
        message.ends_with("found two different tensors named `lstm.bias_hh_l0`, expected one"),
        "{message}"
    );
    assert!(before == std::fs::read(&path).unwrap(), "the file is as it was");

    let (_folder, path, mut model) = altered(|tensors| {
        tensors.insert("linear.bias".into(), zeros(Dtype::F32, &[2]));
    });
    for load in [Model::load_state_dict, |model: &mut Model, path, names: &StateDict| {
        model.load_state_dict_lenient(path, names).map(drop)
    }] {
        let message = load(&mut model, &path, &names()).unwrap_err().to_string();
        let fault = "tensors `linear.bias` and `module.fc.bias`: found both for `linear.bias`, expected one";
        assert!(message.ends_with(fault), "{message}");
    }
}

#[test]
fn numbers_of_16_bits_are_widened() {
    // 1, −2, 0.5 and the smallest number of the type.
    for (dtype, bits, smallest) in [
        (Dtype::F16, [0x3c00u16, 0xc000, 0x3800, 1], 2f32.powi(-24)),
        // By its bits: unoptimised, `powi` divides 1 by 2¹³³, which is infinite.
        (Dtype::BF16, [0x3f80, 0xc000, 0x3f00, 1], f32::from_bits(1 << 16)),
    ] {
        let (_folder, path, mut model) = altered(|tensors| {
            for tensor in tensors.values_mut() {
                let n = tensor.data.len() / 4;
                tensor.dtype = dtype;
                tensor.data = bits.iter().cycle().take(n).flat_map(|bits| bits.to_le_bytes()).collect();
            }
        });
        model.load_state_dict(&path, &names()).unwrap();
        for (name, values) in model.params().iter() {
            let expected = [1.0, -2.0, 0.5, smallest].into_iter().cycle();
            assert!(values.iter().zip(expected).all(|(&x, expected)| x == expected), "{name} {values:?}");
        }
    }
}

/// `bias=False` in PyTorch: there are no tensors for it, and both sides must say so.
#[test]
fn modules_without_biases() {
    let (_folder, path) = place();
    let plain = |seed| -> Model {
        let builder = Model::builder(Shape::new(4, 3)).layer("lstm", Lstm::new(5).bias(false).last());
        builder.layer("linear", Linear::new(2).bias(false)).build(seed).unwrap()
    };
    plain(1).save_state_dict(&path, &names()).unwrap();
    let mut model = plain(2);
    model.load_state_dict(&path, &names()).unwrap();
    assert_eq!(model.params().as_slice(), plain(1).params().as_slice());
    let message = chain::<f32>(2).load_state_dict(&path, &names()).unwrap_err().to_string();
    let faults = [
        "missing tensor `module.encoder.bias_ih_l0` (here `lstm.bias_ih_l0`) [20]",
        "missing tensor `module.encoder.bias_hh_l0` (here `lstm.bias_hh_l0`) [20]",
        "missing tensor `module.fc.bias` (here `linear.bias`) [2]",
    ];
    assert_eq!(message, format!("{}: {}", path.display(), faults.join("; ")));
    chain::<f32>(1).save_state_dict(&path, &names()).unwrap();
    let message = plain(2).load_state_dict(&path, &names()).unwrap_err().to_string();
    assert!(message.contains("unexpected tensor `module.encoder.bias_ih_l0`"), "{message}");
}

#[test]
fn values_that_are_not_finite_or_do_not_fit_are_refused() {
    for (value, fault) in [
        (f64::NAN, "found NaN at index 1, expected a finite number"),
        (f64::NEG_INFINITY, "found -inf at index 1, expected a finite number"),
        (1e300, "found 1e300 at index 1, expected what an F32 can hold"),
    ] {
        let (_folder, path, mut model) = altered(|tensors| {
            let mut bias = zeros(Dtype::F64, &[2]);
            bias.data[8..].copy_from_slice(&value.to_le_bytes());
            tensors.insert("module.fc.bias".into(), bias);
        });
        let before = model.params().as_slice().to_vec();
        let message = model.load_state_dict(&path, &names()).unwrap_err().to_string();
        let place = "tensor `module.fc.bias` (here `linear.bias`): ";
        assert!(message.ends_with(&format!("{place}{fault}")), "{message}");
        assert!(model.load_state_dict_lenient(&path, &names()).is_err());
        assert_eq!(model.params().as_slice(), before);
        let double = chain::<f64>(2).load_state_dict(&path, &names());
        assert_eq!(double.is_ok(), value == 1e300, "an f64 holds 1e300");
    }
}

/// An embedding whose weight is the output layer's too.
#[test]
fn tied_weights_are_one_tensor_in_the_file_and_two_in_the_model() {
    let (_folder, path) = place();
    let build = |seed| -> Model {
        let builder = Model::builder(Shape::new(4, 1)).layer("embedding", bptt::nn::Embedding::new(6, 3));
        builder.layer("linear", Linear::new(6)).build(seed).unwrap()
    };
    let tied =
        StateDict::new().rename("wte.weight", "embedding.weight").rename("wte.weight", "linear.weight");
    let mut theirs = build(1);
    // As long as they differ, one tensor cannot be both.
    let message = theirs.save_state_dict(&path, &tied).unwrap_err().to_string();
    assert!(message.ends_with("found two different tensors named `wte.weight`, expected one"), "{message}");

    let weight = theirs.params().get("embedding.weight").unwrap().to_owned();
    theirs.params_mut().get_mut("linear.weight").unwrap().assign(&weight);
    theirs.save_state_dict(&path, &tied).unwrap();
    assert_eq!(tensors(&path).into_keys().collect::<Vec<_>>(), ["linear.bias", "wte.weight"]);
    let mut ours = build(2);
    ours.load_state_dict(&path, &tied).unwrap();
    assert_eq!(ours.params().as_slice(), theirs.params().as_slice());
}

#[test]
fn renames_that_would_fit_are_proposed() {
    let message = |alter: &dyn Fn(String) -> String| {
        let (_folder, path) = place();
        chain::<f32>(1).save_state_dict(&path, &StateDict::new()).unwrap();
        let tensors: Tensors =
            tensors(&path).into_iter().map(|(name, tensor)| (alter(name), tensor)).collect();
        std::fs::write(&path, file(&tensors, "", None)).unwrap();
        let strict = chain::<f32>(2).load_state_dict(&path, &StateDict::new()).unwrap_err().to_string();
        let lenient = chain::<f32>(2).load_state_dict_lenient(&path, &StateDict::new());
        // Nothing was loaded: that is an error, and says the same.
        assert_eq!(lenient.unwrap_err().to_string(), strict);
        strict
    };
    let hint = "these names would fit: `StateDict::new()";
    let prefix = message(&|name| format!("module.{name}"));
    assert!(prefix.ends_with(&format!("{hint}.rename(\"module\", \"\")`")), "{prefix}");
    let grouped =
        "missing 6 tensors: 2 in `linear` (`bias` [2], `weight` [2, 5]), 4 in `lstm` (`bias_hh_l0` [20], ";
    assert!(prefix.contains(grouped), "{prefix}");
    let renamed = message(&|name| name.replace("lstm", "net.encoder").replace("linear", "net.fc"));
    let calls = ".rename(\"net.fc\", \"linear\").rename(\"net.encoder\", \"lstm\")`";
    assert!(renamed.ends_with(&format!("{hint}{calls}")), "{renamed}");
    // Nothing fits: nothing is proposed.
    let other = message(&|name| name.replace("weight", "w").replace("bias", "b"));
    assert!(!other.contains("would fit"), "{other}");
}

/// Two modules that are alike may be either of two: nothing is guessed.
#[test]
fn ambiguous_renames_are_not_proposed() {
    let (_folder, path) = place();
    let build = |a: &str, b: &str| -> Model {
        let builder = Model::builder(Shape::new(4, 3)).layer(a, Linear::new(3)).layer(b, Linear::new(3));
        builder.layer("lstm", Lstm::new(2)).build(1).unwrap()
    };
    build("fc1", "fc2").save_state_dict(&path, &StateDict::new().rename("rnn", "lstm")).unwrap();
    let message = build("a", "b").load_state_dict(&path, &StateDict::new()).unwrap_err().to_string();
    assert!(
        message.ends_with("these names would fit: `StateDict::new().rename(\"rnn\", \"lstm\")`"),
        "{message}"
    );
}

#[test]
fn messages_are_of_bounded_length() {
    let (_folder, path, mut model) = altered(|tensors| {
        for i in 0..20_000 {
            tensors.insert(format!("layers.{i}.weight"), zeros(Dtype::F32, &[1]));
        }
        tensors.insert("long".repeat(5_000), zeros(Dtype::F32, &[1]));
    });
    let message = model.load_state_dict(&path, &StateDict::new()).unwrap_err().to_string();
    assert!(message.contains("unexpected 20007 tensors: 1 without a module ("), "{message}");
    assert!(message.contains(" other modules"), "{message}");
    assert!(message.len() < 2000, "{} bytes", message.len());
}

#[test]
fn a_projection_is_named() {
    let (_folder, path, mut model) = altered(|tensors| {
        // `nn.LSTM(3, 5, proj_size=2)`
        tensors.insert("module.encoder.weight_hr_l0".into(), zeros(Dtype::F32, &[2, 5]));
        tensors.insert("module.encoder.weight_hh_l0".into(), zeros(Dtype::F32, &[20, 2]));
    });
    let message = model.load_state_dict(&path, &names()).unwrap_err().to_string();
    assert!(message.contains("found shape [20, 2], expected [20, 5]"), "{message}");
    let hint = "the file's LSTM has `proj_size` 2 (`module.encoder.weight_hr_l0`), the model's has none";
    assert!(message.ends_with(hint), "{message}");
}

#[test]
fn files_of_other_formats_are_named_with_a_way_out() {
    let (_folder, path) = place();
    let zip = |entry: &str| {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(26, 0);
        bytes.extend((entry.len() as u16).to_le_bytes());
        [&bytes[..], &[0, 0], entry.as_bytes()].concat()
    };
    for (bytes, word) in [
        (zip("archive/data.pkl"), "torch.load('model.safetensors'"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), "torch.load('model.safetensors'"),
        (zip("metadata.json"), "keras_to_bptt.py 'model.safetensors'"),
        (b"\x89HDF\r\n\x1a\n".to_vec(), "keras_to_bptt.py 'model.safetensors'"),
        (b"\x08\x08\x12\x07pytorch".to_vec(), "onnx.load('model.safetensors')"),
        (b"{\"metadata\": {}, \"weight_map\": {}}".to_vec(), "['weight_map']"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let loads = [
            Model::<f32>::load(&path).map(drop),
            chain::<f32>(1).load_state_dict(&path, &names()),
            chain::<f32>(1).load_state_dict_lenient(&path, &names()).map(drop),
        ];
        for load in loads {
            let message = load.unwrap_err().to_string();
            assert!(message.contains("not a safetensors file") && message.contains(word), "{message}");
        }
    }
    // A state dict is no model, but not far from one.
    chain::<f32>(1).save_state_dict(&path, &names()).unwrap();
    let message = Model::<f32>::load(&path).unwrap_err().to_string();
    assert!(message.contains("Model::load_state_dict"), "{message}");
}

/// Models that `scripts/keras_to_bptt.py` converted, against what Keras computed: those of `tests/fixtures/keras`, or of the
/// folder that `scripts/keras_check.py` names.
#[test]
fn models_of_keras() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keras");
    let folder = std::env::var_os("BPTT_KERAS_CASES").map_or(fixtures, PathBuf::from);
    let file: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let path = folder.join(format!("{name}.safetensors"));
        let (scalar, layers) = (case["scalar"].as_str().unwrap(), case["layers"].as_str().unwrap());
        let (off, most) = match scalar {
            "f32" => (off_from_keras::<f32>(&path, case), 1e-5),
            "f64" => (off_from_keras::<f64>(&path, case), 1e-12),
            other => panic!("{name}: {other}"),
        };
        println!("{name} {scalar} largest difference {off:.1e}: {layers}");
        assert!(off < most, "{name}: {off:e} off");
    }
    assert!(cases.len() >= 8, "found {} cases", cases.len());
}

/// The largest difference of a model's outputs from a case's, relative to max(1, |expected|).
fn off_from_keras<R: Real>(path: &Path, case: &Value) -> f64 {
    let numbers = |key: &str| case[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
    let model = Model::<R>::load(path).unwrap();
    let Shape { t, f, .. } = model.input_shape();
    let x: Vec<R> = numbers("x").map(R::from_f64).collect();
    let found = model.predict(&Array3::from_shape_vec((x.len() / (t * f), t, f), x).unwrap()).unwrap();
    assert_eq!(found.len(), numbers("y").len());
    let off = found.iter().zip(numbers("y")).map(|(y, expected)| {
        let off = (y.to_f64() - expected).abs() / expected.abs().max(1.0);
        // `max` would pass over it.
        if off.is_nan() { f64::INFINITY } else { off }
    });
    off.fold(0.0, f64::max)
}
