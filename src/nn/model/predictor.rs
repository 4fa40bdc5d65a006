//! Repeated prediction with the same buffers.

use std::ops::Deref;

use ndarray::{ArrayView3, ArrayViewMut3, Axis};

use super::tiles::Tiles;
use super::{Model, Workspace};
use crate::data::{Dataset, Sample};
use crate::nn::Mode;
use crate::{Error, Real, Result, Shape};

/// A model and the buffers of its predictions, kept from call to call, for servers.
///
/// [`predict`](Self::predict) returns the same bits as [`Model::predict`]. It works only on the caller's thread, and allocates
/// nothing once it has seen as many samples, while their number of steps stays the same. Any number of predictors can share one
/// model, on any threads: `M` is a `&Model` or an `Arc<Model>`. For streams, step by step, use [`Session`](super::Session).
///
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
/// use ndarray::Array3;
///
/// let model: Model = Model::builder(Shape::new(5, 2))
///     .layer("lstm", Lstm::new(4).last())
///     .layer("linear", Linear::new(3))
///     .build(1)?;
/// let mut predictor = model.predictor()?;
/// for n in [1, 20, 3] {
///     let x = Array3::from_elem((n, 5, 2), n as f32);
///     assert_eq!(predictor.predict(&x)?, model.predict(&x)?);
/// }
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Predictor<M, R> {
    model: M,
    /// The number of steps of the samples that the workspaces are for.
    steps: usize,
    /// The workspace for one sample.
    alone: Workspace<R>,
    /// The workspace for as many samples as a tile can have.
    tile: Workspace<R>,
    /// `[n, T', F']` of the largest n so far.
    output: Vec<R>,
}

impl<R: Real> Model<R> {
    /// A predictor that borrows this model; see [`Predictor`].
    ///
    /// # Errors
    /// [`Error::Config`] if the buffers do not fit in memory.
    pub fn predictor(&self) -> Result<Predictor<&Self, R>> {
        Predictor::new(self)
    }
}

impl<R: Real, M: Deref<Target = Model<R>>> Predictor<M, R> {
    /// The buffers for a model.
    ///
    /// # Errors
    /// [`Error::Config`] if they do not fit in memory.
    pub fn new(model: M) -> Result<Self> {
        let steps = model.input_shape().t;
        let [alone, tile] = workspaces(&model, steps)?;
        Ok(Self { model, steps, alone, tile, output: Vec::new() })
    }

    /// The outputs for raw samples, `[n, T', F']`, as [`Model::predict`] returns them.
    ///
    /// # Errors
    /// As for [`Model::predict`], or [`Error::Config`] if buffers for as many steps do not fit in memory.
    pub fn predict(&mut self, samples: impl Dataset<Elem = R>) -> Result<ArrayView3<'_, R>> {
        let n = samples.len();
        let output = self.fit(&samples)?;
        let len = n * output.size();
        self.output.resize(self.output.len().max(len), R::ZERO);
        let tiles = Tiles::for_inference::<R>(n);
        let ws = if tiles.size == 1 { &mut self.alone } else { &mut self.tile };
        let mut out = ArrayViewMut3::from_shape((n, output.t, output.f), &mut self.output[..len])
            .map_err(|e| Error::mismatch("outputs", e, "an array that fits in memory"))?;
        for i in 0..tiles.shares {
            for tile in tiles.share(i) {
                ws.gather(&self.model, &samples, None, tile.clone().map(Sample::plain))?;
                self.model.forward(ws);
                ws.output_seq().collect_into(out.slice_axis_mut(Axis(0), tile.into()));
            }
        }
        self.model.undo_targets(out);
        ArrayView3::from_shape((n, output.t, output.f), &self.output[..len])
            .map_err(|e| Error::mismatch("outputs", e, "an array that fits in memory"))
    }

    /// Checks samples, makes workspaces for as many steps as they have, and returns the shape of an output.
    fn fit(&mut self, samples: &dyn Dataset<Elem = R>) -> Result<Shape> {
        let Shape { t, f } = samples.shape();
        if (t, f) != (self.steps, self.model.input_shape().f) {
            self.model.check_samples(samples)?;
            [self.alone, self.tile] = workspaces(&self.model, t)?;
            self.steps = t;
        }
        Ok(self.tile.output_seq().shape)
    }
}

/// For one sample of `steps` steps, and for a tile of them.
fn workspaces<R: Real>(model: &Model<R>, steps: usize) -> Result<[Workspace<R>; 2]> {
    let tile = Tiles::for_inference::<R>(usize::MAX).size;
    let [alone, tile] = [1, tile].map(|samples| Workspace::for_steps(model, steps, samples, Mode::Infer));
    Ok([alone?, tile?])
}
