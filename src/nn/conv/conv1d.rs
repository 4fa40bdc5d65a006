//! Convolution over time.

use serde::{Deserialize, Serialize};

use super::Convolution;
use super::window::{self, Window};
use crate::nn::{Backward, Build, Built, Description, Features, Forward, Layer, Wiring};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::{Error, Real, Result, Shape};

/// Convolution over time: all features of some steps make those of one.
///
/// y_t = b + Σᵢ Wᵢ x_(s t + i − p), with 0 for what lies outside of x and Wᵢ `[out, in]`
///
/// The output has T' = ⌊(T + 2 p − k) / s⌋ + 1 steps. With [`causal`](Self::causal), all padding comes before the first
/// step: step t reads no later one. Such a layer of stride 1 also runs step by step, in a
/// [`Session`](crate::nn::Session); its state is the last k − 1 steps.
///
/// # Shapes
/// x `[T, in, B]` → y `[T', out, B]`; state `[(k − 1) · in, B]` if causal and of stride 1
/// # Parameters
/// `weight [out, in, k]`, `bias [out]`; both U(±1/√(in · k)), as in PyTorch; no bias after [`bias(false)`](Self::bias)
/// # Saved
/// x with its border, where it has padding or sequences end early; otherwise nothing: backward reads x again.
/// # Source
/// Waibel et al. 1989, "Phoneme recognition using time-delay neural networks"; PyTorch's `Conv1d`, without groups and
/// dilation.
/// # Examples
/// ```
/// use bptt::nn::{Conv1d, Gru};
/// use bptt::{Model, Shape};
///
/// let model: Model = Model::builder(Shape::new(50, 3))
///     .layer("conv", Conv1d::new(8, 5).causal())
///     .layer("gru", Gru::new(16))
///     .build(1)?;
/// assert_eq!(model.params().get("conv.weight").unwrap().shape(), [8, 3, 5]);
/// assert_eq!(model.session()?.push(&[0.5; 3]).len(), 16); // step by step
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv1d {
    bias: bool,
    causal: bool,
    kernel_size: usize,
    out_channels: usize,
    padding: usize,
    stride: usize,
}

impl Conv1d {
    /// A convolution to `out_channels` features by a kernel of `kernel_size` steps, with stride 1 and without padding; the
    /// number of input features is inferred from the preceding layer.
    pub fn new(out_channels: usize, kernel_size: usize) -> Self {
        Self { bias: true, causal: false, kernel_size, out_channels, padding: 0, stride: 1 }
    }

    /// How far the kernel moves; 1 by default.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Steps of zeros before and after the input, less than the kernel has; 0 by default.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// Puts all padding before the first step: k − 1 steps of it.
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// Whether there is a bias; true by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Over time, and over the only column.
    fn windows(&self) -> [Window; 2] {
        let padding = self.padding;
        let time = Window { before: padding, after: padding, ..Window::new(self.kernel_size, self.stride) };
        [if self.causal { time.causal() } else { time }, Window::new(1, 1)]
    }

    fn on(&self, input: Shape) -> Convolution {
        let carries = self.causal && self.stride == 1;
        Convolution { input, channels: [input.f, self.out_channels], windows: self.windows(), carries }
    }
}

impl<R: Real> Layer<R> for Conv1d {
    fn describe(&self) -> Description {
        Description::new("conv1d", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let Features { shape, units } = build.input();
        if self.causal && self.padding != 0 {
            let fault = format!("found {}, expected 0: `causal` sets it", self.padding);
            return Err(Error::config("padding", fault));
        }
        window::check_fit(self.windows(), [shape.t, 1])?;
        let axes = [units.clone(), self.kernel_size.into()];
        self.on(*shape).declare::<R>(build, axes, self.bias)
    }

    fn length(&self, _input: Shape, len: usize) -> usize {
        self.windows()[0].positions(len)
    }

    fn streams(&self) -> bool {
        self.on(Shape::new(1, 1)).streams()
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn accepts_everything(&self) -> bool {
        true
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        self.on(input).pack(params, packed);
    }

    fn forward(&self, pass: Forward<'_, R>) {
        self.on(pass.x.shape).forward(pass);
    }

    fn backward(&self, pass: Backward<'_, R>) {
        self.on(pass.x.shape).backward(pass);
    }

    /// Unchanged: channels are not cut.
    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, self.clone()))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        self.on(graph.input()).export(graph, x, self.bias)
    }
}
