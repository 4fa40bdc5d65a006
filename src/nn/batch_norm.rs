//! Batch normalisation.

use serde::{Deserialize, Serialize};

use super::conv::window;
use super::{Backward, Build, Built, Context, Description, Forward, Layer, Wiring};
use crate::kernels::batch_norm::{self, BLOCK, ChannelSums, Channels};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Seq, Shape};

/// Normalises each feature, or each channel, over all samples of the batch and their time steps.
///
/// y = w ⊙ x̂ + b; x̂ = (x − μ) / √(σ² + ε)
///
/// In training, μ and σ² are mean and variance over the batch: over all N values of a feature in all tiles, without padding,
/// however the batch is cut into tiles. Each update moves the running mean and variance towards them, r ← (1 − momentum) r +
/// momentum μ, the variance as Σ (x − μ)² / (N − 1); a batch with a single value leaves them. In inference, the running ones
/// are used.
///
/// dx = w (dy − mean(dy) − x̂ mean(dy ⊙ x̂)) / √(σ² + ε), means over the batch; dw = Σ dy ⊙ x̂; db = Σ dy
///
/// Running statistics are saved with the model, but are not trained: optimizers, weight decay, clipping, pruning and averages
/// leave them out; an averaged model has those of the last step. If a frozen pattern matches them, they stay as they are.
/// PyTorch's `num_batches_tracked` is ignored in state dicts, and not written, because neither side needs it.
///
/// The layer may be within [`Branches`](super::Branches). In a run of several [ranks](crate::train::AllReduce) the batch is that
/// of all of them, as for PyTorch's `SyncBatchNorm`: each layer adds two exchanges of 2 C + 1 numbers to a step.
///
/// # Shapes
/// x `[T, F, B]` → y `[T, F, B]`
/// # Parameters
/// C is F, or the number of [channels](BatchNorm::channels): `weight [C]`, all 1; `bias [C]`, all 0; neither after
/// [`affine(false)`](BatchNorm::affine). Statistics: `running_mean [C]`, 0 at first; `running_var [C]`, 1 at first.
/// # Saved
/// Nothing but its input.
/// # Source
/// Ioffe & Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate shift";
/// PyTorch's `BatchNorm1d` and `BatchNorm2d`.
/// # Examples
/// ```
/// use bptt::nn::{Activation, BatchNorm, Conv2d, Linear, Lstm};
/// use bptt::{Model, Shape};
///
/// let model: Model = Model::builder(Shape::new(28, 28))
///     .layer("conv", Conv2d::new(1, 8, [3, 3]).padding([1, 1]).bias(false))
///     .layer("norm", BatchNorm::channels(8))
///     .layer("relu", Activation::relu())
///     .layer("lstm", Lstm::new(16).last())
///     .layer("linear", Linear::new(10))
///     .build(1)?;
/// assert_eq!(model.params().get("norm.running_mean").unwrap().shape(), [8]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    affine: bool,
    channels: Option<usize>,
    eps: f64,
    momentum: f64,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self::new()
    }
}

/// Mean and 1 / √(σ² + ε) of a channel.
#[derive(Clone, Copy)]
struct Stats {
    mean: f64,
    inv: f64,
}

impl BatchNorm {
    /// Over each feature, as `BatchNorm1d`; with ε = 1e-5, a momentum of 0.1, weight and bias.
    pub fn new() -> Self {
        Self { affine: true, channels: None, eps: 1e-5, momentum: 0.1 }
    }

    /// Over each of so many channels, which are the last axis of the pixels of a row, as [`Conv2d`](super::Conv2d) returns
    /// them: `BatchNorm2d`. Columns are summed over, as rows are.
    pub fn channels(channels: usize) -> Self {
        Self { channels: Some(channels), ..Self::new() }
    }

    /// ε, which keeps the denominator away from 0.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The share of the batch in the running statistics; 0.1 by default.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether there are a weight and a bias; true by default.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    fn width(&self, features: usize) -> usize {
        self.channels.unwrap_or(features)
    }

    /// Weight and bias, if there are any, and the running mean and variance, of channel `c` of `n`.
    fn of<R: Real>(&self, params: &[R], c: usize, n: usize) -> ([f64; 2], [f64; 2]) {
        let at = |i: usize| params[i * n + c].to_f64();
        if self.affine { ([at(0), at(1)], [at(2), at(3)]) } else { ([1.0, 0.0], [at(0), at(1)]) }
    }

    /// N, mean and variance of the batch for channel `c` of `n`, given the running mean, about which the values were summed.
    fn of_batch(sums: &[f64], (c, n): (usize, usize), running_mean: f64) -> [f64; 3] {
        let count = sums[2 * n];
        let mean = sums[c] / count.max(1.0);
        let var = (sums[n + c] / count.max(1.0) - mean * mean).max(0.0);
        [count, running_mean + mean, var]
    }

    fn stats(&self, sums: &[f64], at: (usize, usize), [mean, var]: [f64; 2]) -> Stats {
        let [mean, var] = match sums {
            [] => [mean, var],
            sums => {
                let [_, mean, var] = Self::of_batch(sums, at, mean);
                [mean, var]
            }
        };
        Stats { mean, inv: 1.0 / (var + self.eps).sqrt() }
    }
}

impl BatchNorm {
    /// Calls `f` with each channel and Σ dy and Σ dy ⊙ x̂ over its values in the tile.
    fn each_sum<R: Real>(
        &self,
        cx: &Context<'_, R>,
        (x, dy): (Seq<'_, R>, Seq<'_, R>),
        mut f: impl FnMut(usize, [f64; 2]),
    ) {
        let n = self.width(x.shape.f);
        for (channels, count) in blocks(cx, x, n) {
            let mut block = [ChannelSums::default(); BLOCK];
            for (c, channel) in (channels.first..).zip(&mut block[..count]) {
                let Stats { mean, inv } = self.stats(cx.sums, (c, n), self.of(cx.params, c, n).1);
                (channel.mean, channel.scale) = (mean, inv);
            }
            R::channel_sums(channels, x.data, Some(dy.data), &mut block[..count]);
            (channels.first..).zip(&block[..count]).for_each(|(c, channel)| f(c, channel.sums));
        }
    }
}

/// The channels of x, of which a pixel has `n`, in blocks, each with its size.
fn blocks<'a, R>(
    cx: &Context<'a, R>,
    x: Seq<'_, R>,
    n: usize,
) -> impl Iterator<Item = (Channels<'a>, usize)> + use<'a, R> {
    let (valid, lens, lanes, step) = (cx.valid, cx.lens, x.lanes, x.shape.f * x.lanes);
    let block = move |first| (Channels { first, of: n, step, lanes, valid, lens }, BLOCK.min(n - first));
    (0..n).step_by(BLOCK).map(block)
}

impl<R: Real> Layer<R> for BatchNorm {
    fn describe(&self) -> Description {
        Description::new("batch_norm", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(Error::config("eps", format!("found {}, expected a positive number", self.eps)));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            let fault = format!("found {}, expected a number from 0 to 1", self.momentum);
            return Err(Error::config("momentum", fault));
        }
        let input = build.input();
        let n = self.width(input.shape.f);
        window::columns(input.shape.f, n, "channels")?;
        // A unit that is always 0 does not stay 0.
        build.fix(&input.units);
        if self.affine {
            build.tensor("weight", [Axis::from(n)], Init::Constant(1.0))?;
            build.tensor("bias", [Axis::from(n)], Init::Constant(0.0))?;
        }
        build.statistic("running_mean", [Axis::from(n)], Init::Constant(0.0))?;
        build.statistic("running_var", [Axis::from(n)], Init::Constant(1.0))?;
        Ok(Built::new(input.clone()).packed(2 * n).sums(2 * n + 1))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn accepts_everything(&self) -> bool {
        true
    }

    /// Scale and shift of inference.
    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        let n = self.width(input.f);
        let (scales, shifts) = packed.split_at_mut(n);
        for (c, (scale, shift)) in scales.iter_mut().zip(shifts).enumerate() {
            let ([w, b], running) = self.of(params, c, n);
            let Stats { mean, inv } = self.stats(&[], (c, n), running);
            (*scale, *shift) = (R::from_f64(w * inv), R::from_f64(b - mean * w * inv));
        }
    }

    fn forward_sums(&self, Forward { cx, x, .. }: Forward<'_, R>, sums: &mut [f64]) {
        let n = self.width(x.shape.f);
        for (channels, count) in blocks(&cx, x, n) {
            let mut block = [ChannelSums::default(); BLOCK];
            for (i, channel) in block[..count].iter_mut().enumerate() {
                let (_, [about, _]) = self.of(cx.params, channels.first + i, n);
                (channel.mean, channel.scale) = (about, 1.0);
            }
            R::channel_sums(channels, x.data, None, &mut block[..count]);
            for (c, channel) in (channels.first..).zip(&block[..count]) {
                sums[c] += channel.sums[0];
                sums[n + c] += channel.sums[1];
            }
        }
        let counted = |t: usize| match cx.lens {
            None => cx.valid,
            Some(lens) => lens[..cx.valid].iter().filter(|&&len| t < len as usize).count(),
        };
        sums[2 * n] += ((0..x.shape.t).map(counted).sum::<usize>() * (x.shape.f / n)) as f64;
    }

    fn backward_sums(&self, Backward { cx, x, dy, grads, .. }: Backward<'_, R>, sums: &mut [f64]) {
        let n = self.width(x.shape.f);
        self.each_sum(&cx, (x, dy), |c, [sum, products]| {
            sums[c] += sum;
            sums[n + c] += products;
            if self.affine {
                grads[c] += R::from_f64(products);
                grads[n + c] += R::from_f64(sum);
            }
        });
    }

    fn track(&self, input: Shape, sums: &[f64], params: &mut [R]) {
        let n = self.width(input.f);
        let first = if self.affine { 2 * n } else { 0 };
        let (means, vars) = params[first..].split_at_mut(n);
        for (c, (running_mean, running_var)) in means.iter_mut().zip(vars).enumerate() {
            let [count, mean, var] = Self::of_batch(sums, (c, n), running_mean.to_f64());
            if count < 2.0 {
                return;
            }
            let step = |running: R, new: f64| {
                R::from_f64((1.0 - self.momentum) * running.to_f64() + self.momentum * new)
            };
            *running_mean = step(*running_mean, mean);
            *running_var = step(*running_var, var * count / (count - 1.0));
        }
    }

    fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
        let n = self.width(x.shape.f);
        let (scales, shifts) = cx.packed.split_at(n);
        if x.lanes == 1 {
            return R::scale_pixels(x.data, [scales, shifts], y.data);
        }
        for (channels, count) in blocks(&cx, x, n) {
            let mut block = [[R::ZERO; 3]; BLOCK];
            for (c, constants) in (channels.first..).zip(&mut block[..count]) {
                // (x − mean) scale + shift; in inference the mean is in the shift.
                *constants = if cx.sums.is_empty() {
                    [R::ZERO, scales[c], shifts[c]]
                } else {
                    let ([w, b], running) = self.of(cx.params, c, n);
                    let Stats { mean, inv } = self.stats(cx.sums, (c, n), running);
                    [mean, w * inv, b].map(R::from_f64)
                };
            }
            R::channel_forward(channels, &block[..count], x.data, y.data);
        }
    }

    fn backward(&self, Backward { cx, x, dy, dx, grads, .. }: Backward<'_, R>) {
        let n = self.width(x.shape.f);
        // In training the tile's share has been added with the sums.
        if self.affine && cx.sums.is_empty() {
            self.each_sum(&cx, (x, dy), |c, [sum, products]| {
                grads[c] += R::from_f64(products);
                grads[n + c] += R::from_f64(sum);
            });
        }
        let Some(dx) = dx else { return };
        let mean_of =
            |i: usize| if cx.sums.is_empty() { 0.0 } else { cx.backward_sums[i] / cx.sums[2 * n].max(1.0) };
        for (channels, count) in blocks(&cx, x, n) {
            let mut block = [[R::ZERO; 5]; BLOCK];
            for (c, constants) in (channels.first..).zip(&mut block[..count]) {
                let ([w, _], running) = self.of(cx.params, c, n);
                let Stats { mean, inv } = self.stats(cx.sums, (c, n), running);
                *constants = [mean, inv, w * inv, mean_of(c), mean_of(n + c)].map(R::from_f64);
            }
            let pass = batch_norm::Backward { x: x.data, dy: dy.data, dx: &mut *dx.data };
            R::channel_backward(channels, &block[..count], pass);
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, self.clone()))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let n = self.width(graph.input().f);
        let (weight, bias) = if self.affine {
            (graph.param("weight")?, graph.param("bias")?)
        } else {
            (graph.tensor("weight", &[n], &vec![R::ONE; n]), graph.tensor("bias", &[n], &vec![R::ZERO; n]))
        };
        let (mean, var) = (graph.param("running_mean")?, graph.param("running_var")?);
        // The operator has the channels on the second axis.
        let (shape, flat) = (graph.node("Shape", &[&x], &[]), graph.ints(&[-1, n as i64]));
        let x = graph.node("Reshape", &[&x, &flat], &[]);
        let settings = [
            ("epsilon", Attribute::Float(self.eps as f32)),
            ("momentum", Attribute::Float((1.0 - self.momentum) as f32)),
        ];
        let y = graph.node("BatchNormalization", &[&x, &weight, &bias, &mean, &var], &settings);
        Ok(graph.node("Reshape", &[&y, &shape], &[]))
    }
}
