//! Convolution over rows and columns.

use serde::{Deserialize, Serialize};

use super::Convolution;
use super::window::{self, Window};
use crate::nn::{Backward, Build, Built, Description, Features, Forward, Layer, Wiring};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::params::Axis;
use crate::{Error, Real, Result, Shape};

/// Convolution over rows, which are time steps, and columns.
///
/// y[t, q] = b + Σᵢ Σⱼ W[.., .., i, j] x[s₀ t + i − p₀, s₁ q + j − p₁], with 0 for what lies outside of x
///
/// The F features of a step are columns × channels, channels last: an image of one channel is `[rows, columns]`. The output
/// is `[T', columns' · out]` in the same way, with T' = ⌊(T + 2 p₀ − k₀) / s₀⌋ + 1, and columns' likewise.
///
/// With [`causal`](Self::causal), all padding over time comes before the first step: step t reads no later one. Such a layer
/// of stride 1 also runs step by step, in a [`Session`](crate::nn::Session); its state is the last k₀ − 1 rows.
///
/// # Shapes
/// x `[T, columns · in, B]` → y `[T', columns' · out, B]`; state `[(k₀ − 1) · F, B]` if causal and of stride 1
/// # Parameters
/// `weight [out, in, k₀, k₁]`, `bias [out]`; both U(±1/√(in · k₀ · k₁)), as in PyTorch; no bias after
/// [`bias(false)`](Self::bias)
/// # Saved
/// x with its border, where it has padding or sequences end early; otherwise nothing: backward reads x again.
/// # Source
/// LeCun et al. 1998, "Gradient-based learning applied to document recognition"; PyTorch's `Conv2d`, without groups and
/// dilation.
/// # Examples
/// ```
/// use bptt::nn::{Activation, Conv2d, Lstm, Pool2d};
/// use bptt::{Model, Shape};
///
/// // Images of 28 rows and columns become 14 steps of 14 columns with 8 channels.
/// let model: Model = Model::builder(Shape::new(28, 28))
///     .layer("conv", Conv2d::new(1, 8, [3, 3]).padding([1, 1]))
///     .layer("relu", Activation::relu())
///     .layer("pool", Pool2d::max(8, [2, 2]))
///     .layer("lstm", Lstm::new(16).last())
///     .build(1)?;
/// assert_eq!(model.params().get("conv.weight").unwrap().shape(), [8, 1, 3, 3]);
/// assert_eq!(model.params().get("lstm.weight_ih_l0").unwrap().shape(), [64, 14 * 8]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    bias: bool,
    causal: bool,
    in_channels: usize,
    kernel_size: [usize; 2],
    out_channels: usize,
    padding: [usize; 2],
    stride: [usize; 2],
}

impl Conv2d {
    /// A convolution from `in_channels` to `out_channels` by a kernel of so many rows and columns, with stride 1 and
    /// without padding.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: [usize; 2]) -> Self {
        let (padding, stride) = ([0; 2], [1; 2]);
        Self { bias: true, causal: false, in_channels, kernel_size, out_channels, padding, stride }
    }

    /// How far the kernel moves over rows and over columns; 1 by default.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.stride = stride;
        self
    }

    /// Rows and columns of zeros on either side of the input, less than the kernel has; 0 by default.
    pub fn padding(mut self, padding: [usize; 2]) -> Self {
        self.padding = padding;
        self
    }

    /// Puts all padding over time before the first step: k₀ − 1 rows of it. That over columns stays as it is.
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// Whether there is a bias; true by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    fn windows(&self) -> [Window; 2] {
        let windows = [0, 1].map(|i| {
            let padding = self.padding[i];
            Window { before: padding, after: padding, ..Window::new(self.kernel_size[i], self.stride[i]) }
        });
        if self.causal { [windows[0].causal(), windows[1]] } else { windows }
    }

    fn on(&self, input: Shape) -> Convolution {
        let (channels, windows) = ([self.in_channels, self.out_channels], self.windows());
        Convolution { input, channels, windows, carries: self.causal && self.stride[0] == 1 }
    }
}

impl<R: Real> Layer<R> for Conv2d {
    fn describe(&self) -> Description {
        Description::new("conv2d", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let Features { shape, units } = build.input();
        let columns = window::columns(shape.f, self.in_channels, "in_channels")?;
        if self.causal && self.padding[0] != 0 {
            let fault = format!("found {} rows, expected 0: `causal` sets them", self.padding[0]);
            return Err(Error::config("padding", fault));
        }
        window::check_fit(self.windows(), [shape.t, columns])?;
        let [rows, columns] = self.kernel_size.map(Axis::from);
        let axes = [window::channels(units, self.in_channels), rows, columns];
        self.on(*shape).declare::<R>(build, axes, self.bias)
    }

    fn length(&self, _input: Shape, len: usize) -> usize {
        self.windows()[0].positions(len)
    }

    fn streams(&self) -> bool {
        self.on(Shape::new(1, self.in_channels)).streams()
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
