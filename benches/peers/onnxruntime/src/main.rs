//! Steps of streams with ONNX Runtime: `onnxruntime-lstm FILE`; see steps.rs. stream.py writes the file: inputs `x` and the
//! states, `h` and perhaps `c`, each `[1, streams, units]`, and outputs the states after them, `h1` and `c1`.

include!("../../steps.rs");

use ort::session::Session;
use ort::value::{DynValue, Tensor};

struct Runtime {
    session: Session,
    /// `x`, then the states.
    inputs: Vec<DynValue>,
    output: Vec<f32>,
}

impl Runtime {
    fn try_step(&mut self, x: &[f32]) -> ort::Result<()> {
        self.inputs[0].try_extract_tensor_mut::<f32>()?.1.copy_from_slice(x);
        let mut outputs = match &self.inputs[..] {
            [x, h] => self.session.run([x.into(), h.into()])?,
            [x, h, c] => self.session.run([x.into(), h.into(), c.into()])?,
            _ => unreachable!("a recurrent layer has one state or two"),
        };
        for (i, state) in self.inputs.iter_mut().enumerate().skip(1) {
            *state = outputs.remove(["h1", "c1"][i - 1]).expect("an output for each state");
        }
        self.output.copy_from_slice(self.inputs[1].try_extract_tensor::<f32>()?.1);
        Ok(())
    }
}

impl Stream for Runtime {
    fn step(&mut self, x: &[f32]) -> &[f32] {
        self.try_step(x).expect("a step");
        &self.output
    }
}

fn main() -> ort::Result<()> {
    let path = std::env::args().nth(1).expect("a file");
    let session = Session::builder()?.with_intra_threads(1)?.with_inter_threads(1)?.commit_from_file(path)?;
    let shape = session.inputs()[0].dtype().tensor_shape().expect("a tensor");
    let [_, streams, units] = shape[..] else { panic!("found the shape {shape:?}") };
    let len = (streams * units) as usize;
    let zeros = || Tensor::from_array(([1, streams, units], vec![0.0_f32; len])).map(Tensor::into_dyn);
    let inputs = session.inputs().iter().map(|_| zeros()).collect::<ort::Result<_>>()?;
    time(&mut Runtime { session, inputs, output: vec![0.0; len] }, units as usize, streams as usize);
    Ok(())
}
