//! One step of a stream with nexus-inference: `nexus-lstm FILE`; see steps.rs.
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

fn main() {
    let path = std::env::args().nth(1).expect("a file");
    let bytes = std::fs::read(path).expect("a file that can be read");
    let [w, u, b, c] = tensors(&SafeTensors::deserialize(&bytes).expect("safetensors"));
    // [4H, H] of an LSTM with as many inputs as units, [3H, H] of a GRU.
    let units = w.len() / b.len();
    let out = vec![0.0; units];
    if b.len() == 4 * units {
        let model = TinyLstm::from_parts(units, units, 1, &w, &u, &b, &c, &out, &[0.0]);
        time(&mut model.expect("a model"), units);
    } else {
        let model = TinyGru::from_parts(units, units, 1, &w, &u, &b, &c, &out, &[0.0]);
        time(&mut model.expect("a model"), units);
    }
}
