//! Pooling over rows and columns.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::conv::export;
use super::conv::window::{self, Window};
use super::pool::Over;
use super::{Backward, Build, Built, Description, Features, Forward, Layer, Wiring};
use crate::kernels::{Windows, pool};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Real, Result, Shape};

/// Reduces what a window covers of each channel to its largest value or its mean; or all rows and columns, if it is
/// global.
///
/// max: y[t, q] = max over i, j of x[s₀ t + i, s₁ q + j]; mean: y[t, q] = Σᵢ Σⱼ x[s₀ t + i, s₁ q + j] / (k₀ k₁)
///
/// The F features of a step are columns × channels, channels last, as [`Conv2d`](super::Conv2d) returns them. What is left
/// over of rows and columns beyond the last whole window is not read. The gradient of a maximum goes to the first of those
/// that are largest, row by row.
///
/// # Shapes
/// x `[T, columns · channels, B]` → y `[⌊(T − k₀) / s₀⌋ + 1, (⌊(columns − k₁) / s₁⌋ + 1) · channels, B]`, or
/// `[1, channels, B]` if it is global
/// # Parameters
/// None.
/// # Saved
/// Nothing: backward reads x and y again.
/// # Source
/// PyTorch's `MaxPool2d`, `AvgPool2d`, `AdaptiveMaxPool2d(1)` and `AdaptiveAvgPool2d(1)`, without padding and dilation.
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Pool2d};
/// # fn main() -> bptt::Result<()> {
/// // One channel: two rows of four columns.
/// let x = ndarray::array![[[1.0, 5.0, 0.0, 2.0], [4.0, 2.0, 6.0, 0.0]]];
/// for (pool, y) in [
///     (Pool2d::max(1, [2, 2]), vec![5.0, 6.0]),
///     (Pool2d::mean(1, [2, 2]), vec![3.0, 2.0]),
///     (Pool2d::max(1, [2, 2]).stride([1, 1]), vec![5.0, 6.0, 6.0]),
///     (Pool2d::global_mean(1), vec![2.5]),
/// ] {
///     let model: Model = Model::builder(Shape::new(2, 4)).layer("pool", pool).build(1)?;
///     assert_eq!(model.predict(&x)?.into_raw_vec_and_offset().0, y);
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "MaxPool2d")]
#[doc(alias = "AvgPool2d")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    channels: usize,
    /// None if all rows and columns are one window.
    kernel_size: Option<[usize; 2]>,
    over: Over,
    /// The kernel's size by default.
    stride: Option<[usize; 2]>,
}

impl Pool2d {
    /// The largest value of each channel in windows of so many rows and columns; NaN if any value is.
    pub fn max(channels: usize, kernel_size: [usize; 2]) -> Self {
        Self { channels, kernel_size: Some(kernel_size), over: Over::Max, stride: None }
    }

    /// The mean of each channel in windows of so many rows and columns.
    pub fn mean(channels: usize, kernel_size: [usize; 2]) -> Self {
        Self { over: Over::Mean, ..Self::max(channels, kernel_size) }
    }

    /// The largest value of each channel in all rows and columns.
    pub fn global_max(channels: usize) -> Self {
        Self { channels, kernel_size: None, over: Over::Max, stride: None }
    }

    /// The mean of each channel over all rows and columns.
    pub fn global_mean(channels: usize) -> Self {
        Self { over: Over::Mean, ..Self::global_max(channels) }
    }

    /// How far windows move over rows and over columns; by default as far as they are large, so that they do not overlap.
    /// A global layer has only one.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.stride = Some(stride);
        self
    }

    /// Over rows and over columns; none if it is global.
    fn windows(&self) -> Option<[Window; 2]> {
        let size = self.kernel_size?;
        let stride = self.stride.unwrap_or(size);
        Some([0, 1].map(|i| Window::new(size[i], stride[i])))
    }

    /// The windows over an input with rows of `f` features, as the kernels see them.
    fn on(&self, windows: [Window; 2], f: usize, lanes: usize) -> Windows {
        let columns = f / self.channels;
        Windows {
            size: windows.map(|window| window.size),
            stride: windows.map(|window| window.stride),
            columns: [columns, windows[1].positions(columns)],
            pixel: self.channels * lanes,
        }
    }
}

impl<R: Real> Layer<R> for Pool2d {
    fn describe(&self) -> Description {
        Description::new("pool2d", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let Features { shape, units } = build.input().clone();
        build.fix(&units);
        let columns = window::columns(shape.f, self.channels, "channels")?;
        let channels = window::channels(&units, self.channels);
        let output = |t: usize, columns: usize| Built::new(Features::of(t, channels.repeat(columns)));
        let Some(windows) = self.windows() else { return Ok(output(1, 1)) };
        window::check_fit(windows, [shape.t, columns])?;
        Ok(output(windows[0].positions(shape.t), windows[1].positions(columns)))
    }

    fn length(&self, _input: Shape, len: usize) -> usize {
        self.windows().map_or(1, |[rows, _]| rows.positions(len))
    }

    /// Only if each step makes one.
    fn streams(&self) -> bool {
        self.windows().is_some_and(|[rows, _]| rows == Window::new(1, 1))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
        match self.windows() {
            None => self.over.forward(&cx, x, y.data, x.shape.f / self.channels),
            Some(windows) => {
                R::pool_windows(self.over.keep(), self.on(windows, x.shape.f, x.lanes), x.data, y.data);
            }
        }
    }

    fn backward(&self, pass: Backward<'_, R>) {
        let Some(windows) = self.windows() else {
            let columns = pass.x.shape.f / self.channels;
            return self.over.backward(pass, columns);
        };
        let Backward { x, y, dy, dx, .. } = pass;
        let Some(dx) = dx else { return };
        let windows = self.on(windows, x.shape.f, x.lanes);
        let pass = pool::Backward { x: x.data, y: y.data, dy: dy.data, dx: dx.data };
        R::pool_windows_backward(self.over.keep(), windows, pass);
    }

    /// Unchanged: channels are not cut.
    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, *self))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let f = graph.input().f;
        let Some(windows) = self.windows() else {
            // Columns first: each step has as many.
            let x = export::to_pixels(graph, &x, [f / self.channels, self.channels]);
            let op = if self.over == Over::Max { "ReduceMax" } else { "ReduceMean" };
            let attributes = [("axes", Attribute::Ints(&[2])), ("keepdims", Attribute::Int(0))];
            let x = graph.node(op, &[&x], &attributes);
            return Ok(self.over.export(graph, x));
        };
        let x = export::to_images(graph, &x, [f / self.channels, self.channels]);
        let op = if self.over == Over::Max { "MaxPool" } else { "AveragePool" };
        let [kernel, strides] = [windows.map(|w| w.size as i64), windows.map(|w| w.stride as i64)];
        let settings = [("kernel_shape", Attribute::Ints(&kernel)), ("strides", Attribute::Ints(&strides))];
        let y = graph.node(op, &[&x], &settings);
        export::set_lengths(graph, windows[0]);
        Ok(export::from_images(graph, &y, windows[1].positions(f / self.channels) * self.channels))
    }
}
