//! Rows and columns exchanged.

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use super::conv::export;
use super::conv::window;
use super::{Backward, Build, Built, Context, Description, Features, Forward, Layer, Wiring};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::{Error, Real, Result, Shape};

/// Exchanges rows, which are time steps, and columns: a recurrent layer above reads the columns of an image.
///
/// y[q, t] = x[t, q], for each channel
///
/// The F features of a step are columns × channels, channels last. The number of rows is fixed, because it becomes the number
/// of features. Of a sequence that ends early, the missing rows are 0.
///
/// # Shapes
/// x `[rows, columns · channels, B]` → y `[columns, rows · channels, B]`
/// # Parameters
/// None.
/// # Saved
/// Nothing.
/// # Source
/// Visin et al. 2015, "ReNet: a recurrent neural network based alternative to convolutional networks".
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Transpose};
///
/// let model: Model = Model::builder(Shape::new(2, 3)).layer("turn", Transpose::new(2, 1)).build(1)?;
/// let x = ndarray::array![[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]];
/// assert_eq!(model.predict(&x)?, ndarray::array![[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    channels: usize,
    rows: usize,
}

impl Transpose {
    /// For inputs of `rows` rows, whose pixels have `channels` values.
    pub fn new(rows: usize, channels: usize) -> Self {
        Self { channels, rows }
    }

    /// Calls `f` with where each pixel of x begins, where it begins in y, and its row.
    fn each_pixel(&self, input: Shape, lanes: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (columns, pixel) = (input.f / self.channels, self.channels * lanes);
        for t in 0..input.t {
            for q in 0..columns {
                f((t * columns + q) * pixel, (q * input.t + t) * pixel, t);
            }
        }
    }

    /// Sets a pixel to 0 in the lanes whose sequences have ended before row `t`.
    fn clear<R: Real>(cx: &Context<'_, R>, t: usize, lanes: usize, pixel: &mut [R]) {
        let ended = cx.lens.unwrap_or_default().iter().enumerate().filter(|&(_, &len)| len as usize <= t);
        for (lane, _) in ended {
            pixel.iter_mut().skip(lane).step_by(lanes).for_each(|value| *value = R::ZERO);
        }
    }
}

impl<R: Real> Layer<R> for Transpose {
    fn describe(&self) -> Description {
        Description::new("transpose", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let Features { shape, units } = build.input().clone();
        build.fix(&units);
        let columns = window::columns(shape.f, self.channels, "channels")?;
        if shape.t != self.rows {
            let fault = format!("found {}, expected {}, the steps of the input", self.rows, shape.t);
            return Err(Error::config("rows", fault));
        }
        let channels = window::channels(&units, self.channels);
        Ok(Built::new(Features::of(columns, channels.repeat(self.rows))))
    }

    fn length(&self, input: Shape, len: usize) -> usize {
        if len == 0 { 0 } else { input.f / self.channels }
    }

    /// The first column ends in the last row.
    fn streams(&self) -> bool {
        false
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
        let pixel = self.channels * x.lanes;
        self.each_pixel(x.shape, x.lanes, |from, to, t| {
            let to = &mut y.data[to..][..pixel];
            to.copy_from_slice(&x.data[from..][..pixel]);
            Self::clear(&cx, t, x.lanes, to);
        });
    }

    fn backward(&self, Backward { cx, x, dy, dx, .. }: Backward<'_, R>) {
        let Some(dx) = dx else { return };
        let pixel = self.channels * x.lanes;
        self.each_pixel(x.shape, x.lanes, |to, from, t| {
            let to = &mut dx.data[to..][..pixel];
            to.copy_from_slice(&dy.data[from..][..pixel]);
            Self::clear(&cx, t, x.lanes, to);
        });
    }

    /// Unchanged: channels are not cut.
    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        Ok(Wiring::unchanged(name, *self))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let columns = graph.input().f / self.channels;
        let x = match graph.mask(&x) {
            None => x,
            Some(mask) => {
                let zero = graph.scalar(R::ZERO);
                graph.node("Where", &[&mask, &x, &zero], &[])
            }
        };
        // [T, batch, columns · channels] → [T, batch, columns, channels] → [columns, batch, T, channels]
        let x = export::to_pixels(graph, &x, [columns, self.channels]);
        let x = graph.node("Transpose", &[&x], &[("perm", Attribute::Ints(&[2, 1, 0, 3]))]);
        let shape = graph.ints(&[0, 0, (self.rows * self.channels) as i64]);
        graph.set_lengths(columns, |graph, lengths| {
            let (zero, columns) = (graph.ints(&[0]), graph.ints(&[columns as i64]));
            let lengths = graph.cast_int64(&lengths);
            let lengths = graph.node("Mul", &[&lengths, &zero], &[]);
            graph.node("Add", &[&lengths, &columns], &[])
        });
        Ok(graph.node("Reshape", &[&x, &shape], &[]))
    }
}
