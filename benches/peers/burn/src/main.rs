//! One epoch of a stacked LSTM with Burn on its CPU backend `flex`; prints its seconds.

include!("../../work.rs");

use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, Lstm, LstmConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::{Int, TensorData};

#[derive(Module, Debug)]
struct RowLstm {
    lstm: Vec<Lstm>,
    linear: Linear,
}

impl RowLstm {
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let (top, below) = self.lstm.split_last().expect("a layer");
        let x = below.iter().fold(x, |x, layer| layer.forward(x, None).0);
        self.linear.forward(top.forward(x, None).1.hidden)
    }
}

fn main() {
    let work = Work::from_args();
    let device = Device::flex().autodiff();
    let layer = |k| LstmConfig::new(if k == 0 { 28 } else { work.hidden }, work.hidden, true).init(&device);
    let lstm = (0..work.layers).map(layer).collect();
    let mut model = Some(RowLstm { lstm, linear: LinearConfig::new(work.hidden, 10).init(&device) });
    let mut optimizer = AdamConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    work.time(|first, n| {
        let images = work.images[first * 784..(first + n) * 784].to_vec();
        let labels: Vec<i32> = work.labels[first..first + n].iter().map(|&label| i32::from(label)).collect();
        let x = Tensor::<3>::from_data(TensorData::new(images, [n, 28, 28]), &device);
        let y = Tensor::<1, Int>::from_data(TensorData::new(labels, [n]), &device);
        let current = model.take().expect("the model");
        let value = loss.forward(current.forward(x), y);
        let grads = GradientsParams::from_grads(value.backward(), &current);
        model = Some(optimizer.step(1e-3, current, grads));
        assert!(value.into_scalar::<f32>().is_finite());
    });
}
