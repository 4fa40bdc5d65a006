//! One epoch of a stacked LSTM with candle on the CPU; prints its seconds.

include!("../../work.rs");

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::rnn::{LSTMConfig, RNN, lstm};
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, loss};

fn main() -> Result<()> {
    let work = Work::from_args();
    let device = Device::Cpu;
    let vars = VarMap::new();
    let build = VarBuilder::from_varmap(&vars, DType::F32, &device);
    let layers = (0..work.layers)
        .map(|k| {
            let input = if k == 0 { 28 } else { work.hidden };
            lstm(input, work.hidden, LSTMConfig::default(), build.pp(format!("l{k}")))
        })
        .collect::<Result<Vec<_>>>()?;
    let head = linear(work.hidden, 10, build.pp("linear"))?;
    let settings = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..Default::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), settings)?;
    let images = Tensor::from_slice(&work.images, (work.samples, 28, 28), &device)?;
    let labels: Vec<u32> = work.labels.iter().map(|&label| u32::from(label)).collect();
    let labels = Tensor::new(labels, &device)?;
    let mut step = |first, n| -> Result<f32> {
        let (mut x, y) = (images.narrow(0, first, n)?, labels.narrow(0, first, n)?);
        let mut last = None;
        for layer in &layers {
            let states = layer.seq(&x)?;
            x = layer.states_to_tensor(&states)?;
            last = states.last().map(|state| state.h().clone());
        }
        let value = loss::cross_entropy(&head.forward(&last.expect("a step"))?, &y)?;
        optimizer.backward_step(&value)?;
        value.to_scalar()
    };
    work.time(|first, n| assert!(step(first, n).expect("a step of candle").is_finite()));
    Ok(())
}
