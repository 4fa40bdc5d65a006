//! Exported models, run by tract, against what bptt itself returns.
#![cfg(test)]

#[path = "../common/onnx_models.rs"]
mod models;

use std::sync::Arc;

use bptt::onnx::Export;
use models::{Case, Run, cases};
use ndarray::Array3;
use tract_onnx::prelude::*;

/// How far a value may be off, relative to max(1, |expected|).
const LARGEST: f32 = 1e-5;

/// A model as tract runs it; where `inputs` are given, tract is told their shapes.
fn optimized(onnx: &[u8], inputs: &[TValue]) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &*onnx)?;
    for (i, input) in inputs.iter().enumerate() {
        model.set_input_fact(i, input.datum_type().fact(input.shape()).into())?;
    }
    model.into_optimized()?.into_runnable()
}

/// What goes in, in the order of the graph's inputs.
fn inputs(run: &Run<f32>, with_lengths: bool) -> Vec<TValue> {
    let tensor = |x: &Array3<f32>| Tensor::from_shape(x.shape(), &x.iter().copied().collect::<Vec<_>>());
    let mut inputs: Vec<TValue> = run.inputs.iter().map(|(_, x)| tensor(x).unwrap().into()).collect();
    if with_lengths {
        inputs.insert(1, Tensor::from_shape(&[run.lengths.len()], &run.lengths).unwrap().into());
    }
    inputs
}

/// What is known to be wrong in the version of tract that the lock file names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The activation of an RNN is not read: it is tanh.
    Tanh,
    /// The fused GRU fails on one feature, from four steps on.
    OneFeature,
    /// A transposition needs the number of steps: it fails where that is left open.
    OpenSteps,
}

fn fault(case: &Case<f32>) -> Option<Fault> {
    let input = case.model.input_shape();
    if case.name.starts_with("rnn_relu") {
        return Some(Fault::Tanh);
    }
    if ["branches", "transpose"].contains(&&*case.name) {
        return Some(Fault::OpenSteps);
    }
    (case.name.starts_with("gru") && input.f == 1 && input.t >= 4).then_some(Fault::OneFeature)
}

/// Whether operators of the model take the lengths. The states of "causal" are those of convolutions.
fn takes_lengths(case: &Case<f32>) -> bool {
    case.recurrent() > 0 && case.name != "causal"
}

/// The largest difference of what comes out to what bptt returns.
fn difference(what: &str, outputs: &[TValue], run: &Run<f32>) -> f32 {
    assert_eq!(outputs.len(), run.outputs.len(), "{what}: outputs");
    let mut largest = 0f32;
    for (found, (name, expected)) in outputs.iter().zip(&run.outputs) {
        assert_eq!(found.shape(), expected.shape(), "{what}: {name}");
        for (found, expected) in found.to_plain_array_view::<f32>().unwrap().iter().zip(expected) {
            let error = (found - expected).abs() / expected.abs().max(1.0);
            assert!(error.is_finite(), "{what}: {name}: found {found}, expected {expected}");
            largest = largest.max(error);
        }
    }
    largest
}

/// Runs the model and asserts that it returns what bptt does, or fails as is known; the largest difference.
fn compare(
    what: &str,
    model: &Arc<TypedRunnableModel>,
    run: &Run<f32>,
    inputs: Vec<TValue>,
    fault: Option<Fault>,
) -> f32 {
    let outputs = model.run(inputs.into_iter().collect());
    if fault == Some(Fault::OneFeature) {
        let error = format!("{:?}", outputs.expect_err("tract can do it now"));
        assert!(error.contains("xw not contiguous"), "{what}: {error}");
        return 0.0;
    }
    let outputs = outputs.unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let difference = difference(what, &outputs, run);
    if fault == Some(Fault::Tanh) {
        assert!(difference > LARGEST, "{what}: tract can do it now");
        return 0.0;
    }
    assert!(difference <= LARGEST, "{what}: {difference}");
    difference
}

#[test]
fn every_kind_of_layer() {
    let (mut largest, mut count) = (0f32, 0);
    for case in cases::<f32>() {
        let onnx = Export::new().to_bytes(&case.model).unwrap();
        for batch in [1, 64] {
            let (run, what) = (case.plain(batch), format!("{}, batch of {batch}", case.name));
            let inputs = inputs(&run, false);
            let model = optimized(&onnx, &inputs).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            largest = largest.max(compare(&what, &model, &run, inputs, fault(&case)));
            count += usize::from(fault(&case).is_none());
        }
    }
    println!("{count} models and batches, largest difference {largest:e}");
}

/// With states, tract can leave the batch open: one model for all batches, and any number of steps.
#[test]
fn states_go_in_and_out() {
    let (mut largest, mut count) = (0f32, 0);
    for case in cases::<f32>() {
        let onnx = Export::new().states().to_bytes(&case.model).unwrap();
        let open = optimized(&onnx, &[]);
        for batch in [1, 64] {
            let (run, what) = (case.full(batch, false), format!("{}, batch of {batch}", case.name));
            let inputs = inputs(&run, false);
            match &open {
                Err(e) if fault(&case) == Some(Fault::OpenSteps) => {
                    assert!(format!("{e:?}").contains("Reshape volume mismatch"), "{what}: {e:?}");
                }
                Err(e) => panic!("{what}: {e:?}"),
                Ok(open) => {
                    assert_ne!(fault(&case), Some(Fault::OpenSteps), "{what}: tract can do it now");
                    // Where tract does not know the number of steps, it takes the GRU apart, and can do it.
                    let fault_of_open = fault(&case).filter(|&fault| fault == Fault::Tanh);
                    largest = largest.max(compare(&what, open, &run, inputs.clone(), fault_of_open));
                }
            }
            let model = optimized(&onnx, &inputs).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            largest = largest.max(compare(&what, &model, &run, inputs, fault(&case)));
            count += usize::from(fault(&case).is_none());
        }
    }
    println!("{count} models and batches, largest difference {largest:e}");
}

/// Tract's recurrent operators take no lengths; all else does.
#[test]
fn lengths_where_tract_takes_them() {
    let (mut done, mut refused) = (0, 0);
    for case in cases::<f32>() {
        let onnx = Export::new().states().lengths().to_bytes(&case.model).unwrap();
        for batch in [1, 64] {
            let (run, what) = (case.full(batch, true), format!("{}, batch of {batch}", case.name));
            let inputs = inputs(&run, true);
            match optimized(&onnx, &inputs) {
                Ok(model) if !takes_lengths(&case) => {
                    compare(&what, &model, &run, inputs, None);
                    done += 1;
                }
                Err(e) if takes_lengths(&case) => {
                    let error = format!("{e:?}");
                    assert!(error.contains("Non constant seq_len is not supported"), "{what}: {error}");
                    refused += 1;
                }
                Ok(_) => panic!("{what}: tract can do it now"),
                Err(e) => panic!("{what}: {e:?}"),
            }
        }
    }
    println!("{done} models and batches compared, {refused} refused");
    assert!(done >= 20 && refused > 0, "{done} compared, {refused} refused");
}

/// A stream in pieces: the states that come out go in again.
#[test]
fn a_stream_in_pieces() {
    let find = |name: &str| cases::<f32>().into_iter().find(|case| case.name == name).unwrap();
    for name in ["lstm_2", "gru_3", "rnn_tanh_1"] {
        let case: Case<f32> = find(name);
        let onnx = Export::new().states().to_bytes(&case.model).unwrap();
        let whole = case.full(3, false);
        let all = inputs(&whole, false);
        let (x, mut states) = (&whole.inputs[0].1, all[1..].to_vec());
        for t in 0..x.dim().1 {
            let step = x.slice(ndarray::s![.., t..t + 1, ..]).to_owned();
            let step = Run { inputs: vec![("input".into(), step)], lengths: vec![], outputs: vec![] };
            let mut inputs = inputs(&step, false);
            inputs.append(&mut states);
            let model = optimized(&onnx, &inputs).unwrap();
            let mut outputs = model.run(inputs.into_iter().collect()).unwrap();
            let y = outputs.remove(0);
            let expected = whole.outputs[0].1.slice(ndarray::s![.., t..t + 1, ..]);
            for (found, expected) in y.to_plain_array_view::<f32>().unwrap().iter().zip(expected) {
                assert!((found - expected).abs() <= LARGEST, "{name}, step {t}: {found}, {expected}");
            }
            states = outputs.to_vec();
        }
    }
}
