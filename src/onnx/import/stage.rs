//! The layers that a graph was found to consist of.

use crate::Real;
use crate::nn::{
    Activation, AttentionPool, BatchNorm, Branches, Chain, Conv1d, Conv2d, Embedding, Gru, Layer, LayerNorm,
    Linear, LogSoftmax, Lstm, PeepholeLstm, Pool, Pool2d, Rnn, Transpose,
};

/// The values of a tensor, by its name within the layer.
pub(super) type Tensors = Vec<(String, Vec<f64>)>;

/// A layer with its parameters, or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) kind: StageKind,
    pub(super) tensors: Tensors,
    /// How many stages there were before its input: 0 for the input of the graph, i + 1 for the output of stage i.
    pub(super) from: usize,
    /// Whether only the last step of a recurrent layer is used, once something uses it.
    pub(super) last: Option<bool>,
    /// Whether it is in a branch that has ended.
    pub(super) within: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum StageKind {
    Recurrent {
        cell: CellKind,
        units: usize,
        both: bool,
        bias: bool,
    },
    Linear {
        outputs: usize,
        bias: bool,
    },
    Conv1d {
        outputs: usize,
        window: Span,
        bias: bool,
    },
    Conv2d {
        channels: [usize; 2],
        windows: [Span; 2],
        bias: bool,
    },
    Relu,
    Tanh,
    Sigmoid,
    LogSoftmax,
    LayerNorm {
        eps: f64,
        affine: bool,
    },
    BatchNorm {
        channels: Option<usize>,
        eps: f64,
        momentum: f64,
        affine: bool,
    },
    Embedding {
        rows: usize,
        width: usize,
    },
    Pool(Over),
    Pool2d {
        over: Over,
        channels: usize,
        windows: Option<[Span; 2]>,
    },
    /// The mean or the largest value of each channel over all columns of a step: with a pool of the steps, a global one.
    Columns {
        over: Over,
        channels: usize,
        columns: usize,
    },
    Transpose {
        rows: usize,
        channels: usize,
    },
    Attention,
    /// What has the same input, each a list of stages.
    Branches {
        sum: bool,
        chains: Vec<Vec<usize>>,
    },
    /// Arithmetic with a constant for each feature, or each channel: a bias, the normalisation, or a scale and shift.
    Arithmetic(Operation),
    /// Zeros before and after the steps.
    Pad([usize; 2]),
    /// Softmax over the features, which only the end of a model may have.
    Softmax,
}

/// What is made of several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Mean,
    Max,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

/// A window that moves along an axis, and the zeros around that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) size: usize,
    pub(super) stride: usize,
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Span {
    /// How many positions it has along `n` values; `None` if none.
    pub(super) fn positions(self, n: usize) -> Option<usize> {
        let left = n.checked_add(self.before)?.checked_add(self.after)?.checked_sub(self.size)?;
        Some(left.checked_div(self.stride)? + 1)
    }

    /// Whether all zeros are before the first value, one less than the window has.
    pub(super) fn is_causal(self) -> bool {
        self.size > 1 && self.before == self.size - 1 && self.after == 0
    }
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

/// A layer with everything that belongs to it: what [`links`](super::links) makes of stages.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) kind: StageKind,
    pub(super) last: bool,
    pub(super) tensors: Tensors,
    /// Of branches: their names and layers.
    pub(super) branches: Vec<(String, Vec<Link>)>,
}

impl Link {
    pub(super) fn layer<R: Real>(&self) -> Box<dyn Layer<R>> {
        match self.kind {
            StageKind::Recurrent { cell, units, both, bias } => self.recurrent(cell, units, both, bias),
            StageKind::Linear { outputs, bias } => Box::new(Linear::new(outputs).bias(bias)),
            StageKind::Conv1d { outputs, window, bias } => {
                let conv = Conv1d::new(outputs, window.size).stride(window.stride).bias(bias);
                Box::new(if window.is_causal() { conv.causal() } else { conv.padding(window.before) })
            }
            StageKind::Conv2d { channels: [from, to], windows: [rows, columns], bias } => {
                let conv = Conv2d::new(from, to, [rows.size, columns.size]).bias(bias);
                let conv = conv.stride([rows.stride, columns.stride]);
                Box::new(match rows.is_causal() {
                    true => conv.padding([0, columns.before]).causal(),
                    false => conv.padding([rows.before, columns.before]),
                })
            }
            StageKind::Relu => Box::new(Activation::relu()),
            StageKind::Tanh => Box::new(Activation::tanh()),
            StageKind::Sigmoid => Box::new(Activation::sigmoid()),
            StageKind::LayerNorm { eps, affine } => {
                Box::new(LayerNorm::new().eps(eps).elementwise_affine(affine))
            }
            StageKind::BatchNorm { channels, eps, momentum, affine } => {
                let norm = channels.map_or_else(BatchNorm::new, BatchNorm::channels);
                Box::new(norm.eps(eps).momentum(momentum).affine(affine))
            }
            StageKind::Embedding { rows, width } => Box::new(Embedding::new(rows, width)),
            StageKind::Pool(Over::Mean) => Box::new(Pool::mean()),
            StageKind::Pool(Over::Max) => Box::new(Pool::max()),
            StageKind::Pool(Over::Last) => Box::new(Pool::last()),
            StageKind::Columns { over, channels, columns } => {
                pool2d(over, channels, Some([1, columns]), None)
            }
            StageKind::Pool2d { over, channels, windows } => {
                let of = |f: fn(Span) -> usize| windows.map(|windows| windows.map(f));
                pool2d(over, channels, of(|window| window.size), of(|window| window.stride))
            }
            StageKind::Transpose { rows, channels } => Box::new(Transpose::new(rows, channels)),
            StageKind::Attention => Box::new(AttentionPool::new()),
            StageKind::Branches { sum, .. } => {
                let chain = |links: &[Link]| {
                    links.iter().fold(Chain::new(), |chain, link| chain.boxed(&link.name, link.layer()))
                };
                let join = if sum { Branches::sum() } else { Branches::concat() };
                let branches = self.branches.iter();
                Box::new(branches.fold(join, |all, (name, links)| all.branch(name, chain(links))))
            }
            StageKind::LogSoftmax => Box::new(LogSoftmax),
            StageKind::Arithmetic(_) | StageKind::Pad(_) | StageKind::Softmax => {
                unreachable!("links are made of stages without these")
            }
        }
    }

    fn recurrent<R: Real>(&self, cell: CellKind, units: usize, both: bool, bias: bool) -> Box<dyn Layer<R>> {
        macro_rules! boxed {
            ($layer:expr) => {{
                let layer = $layer.bias(bias);
                let layer = if both { layer.bidirectional() } else { layer };
                Box::new(if self.last { layer.last() } else { layer })
            }};
        }
        match cell {
            CellKind::Lstm => boxed!(Lstm::new(units)),
            CellKind::Peephole => boxed!(PeepholeLstm::new(units)),
            CellKind::Gru { reset_after } => boxed!(Gru::new(units).reset_after(reset_after)),
            CellKind::RnnTanh => boxed!(Rnn::new(units)),
            CellKind::RnnRelu => boxed!(Rnn::new(units).relu()),
        }
    }

    /// All tensors under their full names.
    pub(super) fn tensors(&self, prefix: &str) -> Vec<(String, &[f64])> {
        let own =
            self.tensors.iter().map(|(name, values)| (format!("{prefix}{}.{name}", self.name), &values[..]));
        let mut all: Vec<_> = own.collect();
        for (branch, links) in &self.branches {
            let prefix = format!("{prefix}{}.{branch}.", self.name);
            all.extend(links.iter().flat_map(|link| link.tensors(&prefix)));
        }
        all
    }
}

/// A layer that pools pixels: all of them, without a window.
fn pool2d<R: Real>(
    over: Over,
    channels: usize,
    size: Option<[usize; 2]>,
    stride: Option<[usize; 2]>,
) -> Box<dyn Layer<R>> {
    let pool = match (over, size) {
        (Over::Max, None) => Pool2d::global_max(channels),
        (_, None) => Pool2d::global_mean(channels),
        (Over::Max, Some(size)) => Pool2d::max(channels, size),
        (_, Some(size)) => Pool2d::mean(channels, size),
    };
    Box::new(match stride {
        None => pool,
        Some(stride) => pool.stride(stride),
    })
}
