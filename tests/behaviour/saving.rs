//! Models in files: what is saved comes back. Files that are wrong are in `tests/malformed.rs`.

use bptt::nn::rnn::{Cell, CellStep, CellStepBack, CellTensor, Recurrent};
use bptt::nn::{
    Backward, Build, Built, Description, Forward, Gru, Layer, LayerNormLstm, Linear, Lstm, PeepholeLstm, Rnn,
};
use bptt::{Init, Model, Real, Result, Shape};
use ndarray::Array3;
use safetensors::{Dtype, SafeTensors};

use crate::models::{everything, place};

fn x<R: Real>() -> Array3<R> {
    Array3::from_shape_fn((5, 4, 3), |(i, t, f)| R::from_f64((i * 12 + t * 3 + f) as f64 / 30.0 - 1.0))
}

// --- what is saved comes back ---

fn comes_back<R: Real>() {
    let (folder, path) = place();
    let model = everything::<R>();
    model.save(&path).unwrap();
    let loaded = Model::<R>::load(&path).unwrap();
    assert_eq!(loaded.predict(&x()).unwrap(), model.predict(&x()).unwrap());
    assert_eq!(loaded.params().as_slice(), model.params().as_slice());
    assert_eq!(loaded.params().layout(), model.params().layout());
    assert_eq!((loaded.input_shape(), loaded.output_shape()), (Shape::new(4, 3), Shape::new(1, 2)));
    assert_eq!(loaded.classes(), ["no", "yes"]);
    assert_eq!(loaded.normalization(), model.normalization());
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
    everything::<f32>().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.tensors().into_iter();
    let mut found: Vec<_> = views.map(|(name, view)| (name, view.dtype(), view.shape().to_vec())).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
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
    let single = everything::<f32>();
    single.save(&path).unwrap();
    let double = Model::<f64>::load(&path).unwrap();
    let widened: Vec<f64> = single.params().as_slice().iter().map(|&p| f64::from(p)).collect();
    assert_eq!(double.params().as_slice(), widened);

    let double = everything::<f64>();
    double.save(&path).unwrap();
    let single = Model::<f32>::load(&path).unwrap();
    let rounded: Vec<f32> = double.params().as_slice().iter().map(|&p| p as f32).collect();
    assert_eq!(single.params().as_slice(), rounded);
}

#[test]
fn saving_replaces_what_was_there() {
    let (_folder, path) = place();
    std::fs::write(&path, "an older file").unwrap();
    everything::<f32>().save(&path).unwrap();
    Model::<f32>::load(&path).unwrap();
    // A path that cannot be written is named, and leaves nothing behind.
    let nowhere = path.with_file_name("missing").join("model.safetensors");
    let message = everything::<f32>().save(&nowhere).unwrap_err().to_string();
    assert!(message.starts_with(&nowhere.display().to_string()), "{message}");
}

// --- recurrent layers ---

/// The model of one layer, its description as JSON, and the names and shapes of its tensors.
fn recurrent(layer: impl Layer<f32> + 'static) -> (Model, String, Vec<(String, Vec<usize>)>) {
    let json = serde_json::to_string(&layer.describe()).unwrap();
    let model: Model = Model::builder(Shape::new(4, 3)).layer("r", layer).build(1).unwrap();
    let layout = model.params().layout();
    let tensors =
        layout.tensors().iter().map(|tensor| (tensor.name.replace("r.", ""), tensor.shape())).collect();
    (model, json, tensors)
}

#[test]
fn recurrent_layers_with_every_setting_come_back() {
    let (_folder, path) = place();
    let layers: [Box<dyn Layer<f32>>; 8] = [
        Box::new(PeepholeLstm::new(5).layers(2).bidirectional()),
        Box::new(PeepholeLstm::new(5).proj_size(2).bias(false)),
        Box::new(LayerNormLstm::new(5).layers(2).bidirectional()),
        Box::new(LayerNormLstm::new(5).eps(0.1).bias(true).last()),
        Box::new(Lstm::new(5).proj_size(2).layers(2).bidirectional()),
        Box::new(Gru::new(5).reset_after(false).layers(2)),
        Box::new(Rnn::new(5).bias(false)),
        Box::new(Linear::new(5).bias(false)),
    ];
    for layer in layers {
        let model: Model = Model::builder(Shape::new(4, 3)).boxed("layer", layer).build(7).unwrap();
        model.save(&path).unwrap();
        let loaded = Model::<f32>::load(&path).unwrap();
        assert_eq!(loaded.predict(&x()).unwrap(), model.predict(&x()).unwrap(), "{model}");
        assert_eq!(loaded.params().layout(), model.params().layout(), "{model}");
    }
}

/// Settings that came later are absent where they are as before: the same model gives the same file.
#[test]
fn descriptions_of_earlier_settings_are_as_they_were() {
    let rest = r#""bidirectional":false,"cell":null,"dropout":0.0,"hidden_size":5,"last":false,"layers":1}}"#;
    assert_eq!(recurrent(Lstm::new(5)).1, format!("{{\"kind\":\"lstm\",\"config\":{{{rest}"));
    assert_eq!(recurrent(Gru::new(5)).1, format!("{{\"kind\":\"gru\",\"config\":{{{rest}"));
    assert!(recurrent(Gru::new(5).reset_after(false)).1.contains(r#""cell":{"reset_after":false}"#));
    let rnn = recurrent(Rnn::new(5)).1;
    assert_eq!(rnn, format!("{{\"kind\":\"rnn\",\"config\":{{{}", rest.replace("null", "\"tanh\"")));
    assert_eq!(recurrent(Linear::new(5)).1, r#"{"kind":"linear","config":{"out_features":5}}"#);
}

#[test]
fn tensors_of_further_recurrent_layers() {
    let named = |tensors: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> {
        tensors.iter().map(|&(name, shape)| (name.to_owned(), shape.to_vec())).collect()
    };
    // As torch.nn.LSTM(3, 5, proj_size=2) has them.
    let (_, _, tensors) = recurrent(Lstm::new(5).proj_size(2));
    let projected: [(&str, &[usize]); 5] = [
        ("weight_ih_l0", &[20, 3]),
        ("weight_hh_l0", &[20, 2]),
        ("bias_ih_l0", &[20]),
        ("bias_hh_l0", &[20]),
        ("weight_hr_l0", &[2, 5]),
    ];
    assert_eq!(tensors, named(&projected));
    // As torch.nn.GRU(3, 5, bias=False) has them.
    let (_, _, tensors) = recurrent(Gru::new(5).bias(false));
    assert_eq!(tensors, named(&[("weight_ih_l0", &[15, 3]), ("weight_hh_l0", &[15, 5])]));
    let (_, _, tensors) = recurrent(Linear::new(5).bias(false));
    assert_eq!(tensors, named(&[("weight", &[5, 3])]));
    let (_, _, tensors) = recurrent(PeepholeLstm::new(5).bias(false));
    let peepholes: [(&str, &[usize]); 5] = [
        ("weight_ih_l0", &[20, 3]),
        ("weight_hh_l0", &[20, 5]),
        ("weight_pi_l0", &[5]),
        ("weight_pf_l0", &[5]),
        ("weight_po_l0", &[5]),
    ];
    assert_eq!(tensors, named(&peepholes));
    let (model, _, tensors) = recurrent(LayerNormLstm::new(5));
    let norms: [(&str, &[usize]); 8] = [
        ("weight_ih_l0", &[20, 3]),
        ("weight_hh_l0", &[20, 5]),
        ("weight_ln_ih_l0", &[20]),
        ("bias_ln_ih_l0", &[20]),
        ("weight_ln_hh_l0", &[20]),
        ("bias_ln_hh_l0", &[20]),
        ("weight_ln_c_l0", &[5]),
        ("bias_ln_c_l0", &[5]),
    ];
    assert_eq!(tensors, named(&norms));
    assert!(model.params().get("r.weight_ln_ih_l0").unwrap().iter().all(|&gain| gain == 1.0));
    assert!(model.params().get("r.bias_ln_c_l0").unwrap().iter().all(|&bias| bias == 0.0));
}

#[test]
fn projections_that_cannot_be_are_refused() {
    fn fault(layer: impl Layer<f32> + 'static) -> String {
        Model::<f32>::builder(Shape::new(4, 3)).layer("r", layer).build(1).unwrap_err().to_string()
    }
    let range = "expected at least 1 and less than hidden_size, 5";
    assert_eq!(fault(Lstm::new(5).proj_size(5)), format!("`r: proj_size`: found 5, {range}"));
    assert_eq!(fault(Lstm::new(5).proj_size(0)), format!("`r: proj_size`: found 0, {range}"));
    assert_eq!(
        fault(Gru::new(5).proj_size(2)),
        "`r: proj_size`: found 2 for a layer of kind `gru`, expected it for an LSTM"
    );
    assert!(fault(Rnn::new(5).proj_size(2)).contains("kind `rnn`"));
    assert_eq!(fault(LayerNormLstm::new(5).eps(0.0)), "`r: eps`: found 0, expected a positive number");
}

/// A custom cell: h' = tanh(a) + s ⊙ h.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Skip;

impl Cell for Skip {
    const KIND: &'static str = "skip";
    const GATES: usize = 1;
    const HAS_CELL: bool = false;
    const TENSORS: &'static [CellTensor] =
        &[CellTensor { name: "weight_skip", blocks: 1, init: |_| Init::Uniform(0.5) }];

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        bptt::nn::rnn::cell::tanh(step.gates);
        for (i, h) in step.h.iter_mut().enumerate() {
            *h = step.gates[i] + step.params[i / step.lanes] * step.h_prev[i];
        }
    }

    fn backward<R: Real>(&self, _: CellStepBack<'_, R>) {
        unreachable!("saving takes no gradients")
    }
}

#[test]
fn custom_cells_come_back() {
    let (_folder, path) = place();
    let stack = Recurrent::with_cell(Skip, 5).layers(2).bidirectional();
    let model: Model = Model::builder(Shape::new(4, 3)).layer("skip", stack).build(1).unwrap();
    assert_eq!(model.params().get("skip.weight_skip_l1_reverse").unwrap().shape(), [5]);
    model.save(&path).unwrap();
    let loaded = Model::<f32>::load_with(&path, Recurrent::<Skip>::from_description).unwrap();
    assert_eq!(loaded.predict(&x()).unwrap(), model.predict(&x()).unwrap());
    assert!(Model::<f32>::load(&path).unwrap_err().to_string().contains("`skip`"));
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

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        build.tensor("gain", [build.input().units.clone()], Init::Uniform(1.0))?;
        Ok(Built::new(build.input().clone()))
    }

    fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
        let (lanes, f) = (x.lanes, x.shape.f);
        for (i, (y, &x)) in y.data.iter_mut().zip(x.data).enumerate() {
            *y = cx.params[i / lanes % f] * x;
        }
    }

    fn backward(&self, _: Backward<'_, R>) {
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
