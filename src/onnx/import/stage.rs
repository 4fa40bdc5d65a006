//! The layers that a graph was found to consist of.

use crate::Real;
use crate::nn::{
    Activation, Embedding, Gru, Layer, LayerNorm, Linear, LogSoftmax, Lstm, PeepholeLstm, Pool, Rnn,
};

/// A layer with its parameters.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) kind: StageKind,
    /// Whether only the last step of a recurrent layer is used.
    pub(super) last: bool,
    /// By their names within the layer.
    pub(super) tensors: Vec<(String, Vec<f64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StageKind {
    Recurrent { cell: CellKind, units: usize, both: bool, bias: bool },
    Linear { outputs: usize, bias: bool },
    Relu,
    Tanh,
    Sigmoid,
    LogSoftmax,
    LayerNorm { eps: f64, affine: bool },
    Embedding { rows: usize, width: usize },
    Mean,
    Max,
    LastStep,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CellKind {
    Lstm,
    Peephole,
    Gru { reset_after: bool },
    RnnTanh,
    RnnRelu,
}

impl CellKind {
    pub(super) const fn gates(self) -> usize {
        match self {
            Self::Lstm | Self::Peephole => 4,
            Self::Gru { .. } => 3,
            Self::RnnTanh | Self::RnnRelu => 1,
        }
    }

    /// Where ONNX's gates, in its order, are in ours.
    pub(super) const fn order(self) -> &'static [usize] {
        match self {
            // i, o, f, c there; i, f, g, o here.
            Self::Lstm | Self::Peephole => &[0, 3, 1, 2],
            // z, r, h there; r, z, n here.
            Self::Gru { .. } => &[1, 0, 2],
            Self::RnnTanh | Self::RnnRelu => &[0],
        }
    }
}

impl Stage {
    pub(super) fn layer<R: Real>(&self) -> Box<dyn Layer<R>> {
        macro_rules! recurrent {
            ($layer:expr, $both:expr) => {{
                let layer = $layer;
                let layer = if $both { layer.bidirectional() } else { layer };
                Box::new(if self.last { layer.last() } else { layer })
            }};
        }
        match self.kind {
            StageKind::Recurrent { cell, units, both, bias } => match cell {
                CellKind::Lstm => recurrent!(Lstm::new(units).bias(bias), both),
                CellKind::Peephole => recurrent!(PeepholeLstm::new(units).bias(bias), both),
                CellKind::Gru { reset_after } => {
                    recurrent!(Gru::new(units).reset_after(reset_after).bias(bias), both)
                }
                CellKind::RnnTanh => recurrent!(Rnn::new(units).bias(bias), both),
                CellKind::RnnRelu => recurrent!(Rnn::new(units).relu().bias(bias), both),
            },
            StageKind::Linear { outputs, bias } => Box::new(Linear::new(outputs).bias(bias)),
            StageKind::Relu => Box::new(Activation::relu()),
            StageKind::Tanh => Box::new(Activation::tanh()),
            StageKind::Sigmoid => Box::new(Activation::sigmoid()),
            StageKind::LogSoftmax => Box::new(LogSoftmax),
            StageKind::LayerNorm { eps, affine } => {
                Box::new(LayerNorm::new().eps(eps).elementwise_affine(affine))
            }
            StageKind::Embedding { rows, width } => Box::new(Embedding::new(rows, width)),
            StageKind::Mean => Box::new(Pool::mean()),
            StageKind::Max => Box::new(Pool::max()),
            StageKind::LastStep => Box::new(Pool::last()),
        }
    }
}
