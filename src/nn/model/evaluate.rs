//! A model put to use, on datasets; an array is one.

use ndarray::{Array1, Array3, ArrayView2, Axis};

use super::{MAX_LANES, Model, Workspace};
use crate::data::{Dataset, Sample, TargetShape};
use crate::loss::{Loss, Tally};
use crate::metrics::ConfusionMatrix;
use crate::nn::Mode;
use crate::{Error, Real, Result, Shape, par};

/// Fewer samples than this pass one by one.
const FEW: usize = 8;

/// Shares that an evaluation is cut into, at the most, each a run of tiles: a fixed number, added up in order, so that
/// the sum is the same at any thread count.
const SHARES: usize = 16;

/// What came of an evaluation on a dataset.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// None where there was no loss to measure.
    tally: Option<Tally>,
    confusion: Option<ConfusionMatrix>,
}

impl Evaluation {
    /// The mean loss; NaN where none was asked for, as in [`Model::evaluate`].
    pub fn loss(&self) -> f64 {
        self.tally.map_or(f64::NAN, Tally::mean)
    }

    /// The share of right classes; NaN where the targets are no classes: for values, [`loss`](Self::loss) or the
    /// [`metrics`](crate::metrics) of what [`Model::predict`] gives say how good they are.
    pub fn accuracy(&self) -> f64 {
        self.confusion.as_ref().map_or(f64::NAN, ConfusionMatrix::accuracy)
    }

    /// True against predicted classes.
    ///
    /// # Panics
    /// If the targets are no classes.
    #[track_caller]
    pub fn confusion(&self) -> &ConfusionMatrix {
        self.confusion.as_ref().expect("a confusion matrix belongs to targets that are classes")
    }

    pub(crate) fn has_classes(&self) -> bool {
        self.confusion.is_some()
    }
}

/// One thread's share of an evaluation.
struct Share<R> {
    ws: Workspace<R>,
    tally: Tally,
    confusion: Option<ConfusionMatrix>,
}

impl<R: Real> Model<R> {
    /// The outputs for raw samples, `[n, T', F']`: logits if the last layer is linear.
    ///
    /// The samples are those of an array `[n, T, F]`, `&x` or a view of it, or of any [`Dataset`], whose targets do not
    /// matter. [`predict_proba`](Self::predict_proba), [`predict_classes`](Self::predict_classes) take the same.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples' shape is not the model's input.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::Arrays;
    /// use bptt::{Model, Shape, nn::{Linear, Lstm}};
    /// use ndarray::{Array3, s};
    ///
    /// let model: Model = Model::builder(Shape::new(5, 2))
    ///     .layer("lstm", Lstm::new(4).last())
    ///     .layer("linear", Linear::new(3))
    ///     .build(1)?;
    /// let x = Array3::from_shape_fn((20, 5, 2), |(i, t, f)| (i + t + f) as f32 / 20.0);
    /// let y = model.predict(&x)?;
    /// assert_eq!(y.dim(), (20, 1, 3));
    /// assert_eq!(model.predict(x.slice(s![..10, .., ..]))?, y.slice(s![..10, .., ..]));
    /// let data = Arrays::classes(x, &[0; 20], ["a", "b", "c"])?;
    /// assert_eq!(model.predict(&data)?, y);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn predict(&self, samples: impl Dataset<Elem = R>) -> Result<Array3<R>> {
        self.outputs(&samples)
    }

    fn outputs(&self, data: &dyn Dataset<Elem = R>) -> Result<Array3<R>> {
        let (n, Shape { t, f }, expected) = (data.len(), data.shape(), self.input());
        if data.shape() != expected {
            let expected = format!("[_, {}, {}]", expected.t, expected.f);
            return Err(Error::mismatch("samples", format!("[{n}, {t}, {f}]"), expected));
        }
        let mut out = Array3::from_elem((n, self.output().t, self.output().f), R::ZERO);
        let tile = self.inference_tile(n);
        // Each share is a run of tiles.
        let share = n.div_ceil(tile).div_ceil(SHARES).max(1) * tile;
        par::for_each(&mut out.axis_chunks_iter_mut(Axis(0), share).collect::<Vec<_>>(), |i, out| {
            let mut ws = Workspace::new(self, tile, Mode::Infer);
            for (k, mut out) in out.axis_chunks_iter_mut(Axis(0), tile).enumerate() {
                let first = i * share + k * tile;
                ws.gather(self, data, (first..first + out.dim().0).map(Sample::plain))?;
                self.forward(&mut ws);
                out.assign(&ws.output());
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// The class of each sample, `[n]`: where the output of its last step is largest.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples' shape is not the model's input.
    pub fn predict_classes(&self, samples: impl Dataset<Elem = R>) -> Result<Array1<usize>> {
        let y = self.outputs(&samples)?;
        let last = self.output().t - 1;
        let class = |(i, y): (usize, ArrayView2<'_, R>)| {
            // Where there is an output for each step, that of the sample's own last one.
            let len = samples.length(Sample::plain(i)).filter(|_| last + 1 == self.input().t);
            argmax(y.row(len.map_or(last, |len| len.saturating_sub(1).min(last))).iter().copied())
        };
        Ok(y.outer_iter().enumerate().map(class).collect())
    }

    /// The probability of each class, softmax over the outputs: `[n, T', C]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples' shape is not the model's input.
    pub fn predict_proba(&self, samples: impl Dataset<Elem = R>) -> Result<Array3<R>> {
        let mut y = self.outputs(&samples)?;
        for mut row in y.rows_mut() {
            let max = row.iter().copied().fold(R::NEG_INFINITY, |a, b| if b > a { b } else { a });
            row.mapv_inplace(|y| (y - max).exp());
            let sum: R = row.iter().copied().sum();
            row.mapv_inplace(|p| p / sum);
        }
        Ok(y)
    }

    /// Accuracy and confusion matrix on a dataset whose targets are classes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the dataset does not fit the model.
    pub fn evaluate(&self, data: &dyn Dataset<Elem = R>) -> Result<Evaluation> {
        let found = match data.target_shape() {
            TargetShape::Classes { .. } => return self.evaluate_loss(data, None),
            TargetShape::Values(shape) => format!("values {shape}"),
            TargetShape::None => "none".to_owned(),
        };
        Err(Error::mismatch("evaluation without a loss: targets", found, "classes"))
    }

    /// The mean of a loss on a dataset, and the confusion matrix where the targets are classes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the dataset does not fit the model or the loss.
    pub fn evaluate_with(&self, data: &dyn Dataset<Elem = R>, loss: &dyn Loss<R>) -> Result<Evaluation> {
        loss.check(self.output(), data.target_shape())?;
        self.evaluate_loss(data, Some(loss))
    }

    fn evaluate_loss(&self, data: &dyn Dataset<Elem = R>, loss: Option<&dyn Loss<R>>) -> Result<Evaluation> {
        self.check_data("evaluation", data)?;
        let n = data.len();
        // Losses work on whole vectors.
        let tile = self.inference_tile(n).max(R::QUANTUM);
        let tiles = n.div_ceil(tile);
        let shares = tiles.min(SHARES);
        let confusion = match data.target_shape() {
            TargetShape::Classes { .. } => {
                Some(ConfusionMatrix::new(self.output().f).with_names(self.classes.iter().cloned())?)
            }
            _ => None,
        };
        let mut work: Vec<_> = (0..shares)
            .map(|_| {
                let mut ws = Workspace::new(self, tile, Mode::Infer);
                ws.expect_targets(data.target_shape());
                Share { ws, tally: Tally::default(), confusion: confusion.clone() }
            })
            .collect();
        par::for_each(&mut work, |i, share| {
            let mut tiles = i * tiles / shares..(i + 1) * tiles / shares;
            tiles.try_for_each(|t| share.tile(self, data, loss, t * tile..n.min((t + 1) * tile)))
        })?;
        let (mut tally, mut confusion) = (Tally::default(), confusion);
        for share in work {
            tally += share.tally;
            if let (Some(all), Some(part)) = (&mut confusion, &share.confusion) {
                all.merge(part);
            }
        }
        Ok(Evaluation { tally: loss.map(|_| tally), confusion })
    }

    /// Checks that a dataset has samples, and of the shape that this model takes.
    pub(crate) fn check_data(&self, what: &str, data: &dyn Dataset<Elem = R>) -> Result<()> {
        if data.is_empty() {
            return Err(Error::mismatch(what, "a dataset of no samples", "at least one"));
        }
        if data.shape() != self.input() {
            let found = format!("samples {}", data.shape());
            return Err(Error::mismatch(what, found, format!("the model's input {}", self.input())));
        }
        if let TargetShape::Classes { t } = data.target_shape() {
            let (output, names) = (self.output(), data.class_names().len());
            if t != output.t || names > output.f {
                let found = format!("{names} classes at {t} steps");
                return Err(Error::mismatch(what, found, format!("at most what the output {output} has")));
            }
        }
        Ok(())
    }

    /// Samples of a tile in inference: as many as fill the registers twice, unless there are fewer; and each alone
    /// where there are so few that most lanes would be empty.
    pub(super) fn inference_tile(&self, samples: usize) -> usize {
        if samples < FEW {
            1
        } else {
            (4 * R::QUANTUM).min(MAX_LANES).min(samples.next_multiple_of(R::QUANTUM))
        }
    }
}

impl<R: Real> Share<R> {
    fn tile(
        &mut self,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        loss: Option<&dyn Loss<R>>,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        let ws = &mut self.ws;
        ws.gather(model, data, range.map(Sample::plain))?;
        model.forward(ws);
        if let Some(confusion) = &mut self.confusion {
            ws.each_class(|truth, predicted| confusion.add(truth, predicted));
        }
        if let Some(loss) = loss {
            let valid = ws.valid();
            let (y, targets, dy) = ws.for_loss();
            self.tally += loss.tile(y, targets, valid, dy);
        }
        Ok(())
    }
}

/// The first place of the largest value; a NaN is never the largest.
pub(super) fn argmax<R: Real>(values: impl Iterator<Item = R>) -> usize {
    let mut best = (0, R::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}
