//! Steps of streams with nexus-inference: `nexus-lstm FILE STREAMS`; see steps.rs.
//!
//! It has an output layer after the recurrent one always; here it has one output, of weights 0, and the units' values are
//! what is used.

include!("../../steps.rs");

use nexus_inference::{TinyGru, TinyLstm};
use safetensors::SafeTensors;

/// The tensors of the one recurrent layer: W, U and both biases.
fn tensors(file: &SafeTensors<'_>) -> [Vec<f32>; 4] {
    ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|name| {
        let tensor = file.tensor(&format!("rnn.{name}_l0")).expect("a tensor of PyTorch's name");
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
    })
}

impl Stream for TinyLstm {
    fn step(&mut self, x: &[f32]) -> &[f32] {
        self.predict(x);
        self.hidden_state()
    }
}

impl Stream for TinyGru {
    fn step(&mut self, x: &[f32]) -> &[f32] {
        self.predict(x);
        self.hidden_state()
    }
}

/// Many streams: as many models, each with its own weights, since the state is in the model.
struct Many<S> {
    all: Vec<S>,
    output: Vec<f32>,
}

impl<S: Stream> Stream for Many<S> {
    fn step(&mut self, x: &[f32]) -> &[f32] {
        let units = x.len() / self.all.len();
        let pieces = x.chunks_exact(units).zip(self.output.chunks_exact_mut(units));
        self.all.iter_mut().zip(pieces).for_each(|(one, (x, y))| y.copy_from_slice(one.step(x)));
        &self.output
    }
}

fn run<S: Stream + Clone>(mut model: S, units: usize, streams: usize) {
    if streams == 1 {
        return time(&mut model, units, 1);
    }
    time(&mut Many { all: vec![model; streams], output: vec![0.0; units * streams] }, units, streams);
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, streams] = &args[..] else { panic!("expected FILE and STREAMS") };
    let (bytes, streams) = (std::fs::read(path).expect("a file"), streams.parse().expect("a number"));
    let [w, u, b, c] = tensors(&SafeTensors::deserialize(&bytes).expect("safetensors"));
    // [4H, H] of an LSTM with as many inputs as units, [3H, H] of a GRU.
    let units = w.len() / b.len();
    let out = vec![0.0; units];
    if b.len() == 4 * units {
        let model = TinyLstm::from_parts(units, units, 1, &w, &u, &b, &c, &out, &[0.0]);
        run(model.expect("a model"), units, streams);
    } else {
        let model = TinyGru::from_parts(units, units, 1, &w, &u, &b, &c, &out, &[0.0]);
        run(model.expect("a model"), units, streams);
    }
}
