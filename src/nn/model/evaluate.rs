//! A model put to use: on arrays, and on whole datasets.

use ndarray::{Array1, Array3, ArrayView3, Axis};

use super::{MAX_LANES, Model, Workspace};
use crate::data::{Dataset, Sample, TargetShape};
use crate::loss::{Loss, Tally};
use crate::metrics::ConfusionMatrix;
use crate::nn::Mode;
use crate::{Error, Real, Result, Shape, par};

/// Fewer samples than this pass one by one.
const FEW: usize = 8;

/// What came of an evaluation on a dataset.
#[derive(Clone, Debug)]
pub struct Evaluation {
    tally: Tally,
    confusion: Option<ConfusionMatrix>,
}

impl Evaluation {
    /// The mean loss.
    pub fn loss(&self) -> f64 {
        self.tally.mean()
    }

    /// The share of right classes; 0 where the targets are no classes.
    pub fn accuracy(&self) -> f64 {
        self.confusion.as_ref().map_or(0.0, ConfusionMatrix::accuracy)
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
    /// The outputs for a batch `[batch, T, F]` of raw samples: `[batch, T', F']`, logits if the last layer is linear.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples' shape is not the model's input.
    pub fn predict<'a>(&self, x: impl Into<ArrayView3<'a, R>>) -> Result<Array3<R>> {
        let x = x.into();
        let (batch, t, f) = x.dim();
        let expected = self.input();
        if Shape::new(t, f) != expected {
            let expected = format!("[_, {}, {}]", expected.t, expected.f);
            return Err(Error::mismatch("samples", format!("[{batch}, {t}, {f}]"), expected));
        }
        let mut out = Array3::from_elem((batch, self.output().t, self.output().f), R::ZERO);
        let tile = self.inference_tile(batch);
        let views = x.axis_chunks_iter(Axis(0), tile).zip(out.axis_chunks_iter_mut(Axis(0), tile));
        par::for_each(&mut views.collect::<Vec<_>>(), |_, (x, out)| {
            let mut ws = Workspace::new(self, x.dim().0, Mode::Infer);
            let mut x = x.to_owned();
            for ((_, _, f), value) in x.indexed_iter_mut() {
                *value = self.normalize().apply(*value, f);
            }
            ws.set_input(x.view());
            self.forward(&mut ws);
            out.assign(&ws.output());
        });
        Ok(out)
    }

    /// The class of each sample of a batch `[batch, T, F]`: where the last step's output is largest.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples' shape is not the model's input.
    pub fn predict_classes<'a>(&self, x: impl Into<ArrayView3<'a, R>>) -> Result<Array1<usize>> {
        let y = self.predict(x)?;
        let last = y.index_axis(Axis(1), self.output().t - 1);
        Ok(last.rows().into_iter().map(|row| argmax(row.iter().copied())).collect())
    }

    /// The probability of each class, softmax over the outputs: `[batch, T', C]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples' shape is not the model's input.
    pub fn predict_proba<'a>(&self, x: impl Into<ArrayView3<'a, R>>) -> Result<Array3<R>> {
        let mut y = self.predict(x)?;
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
        if let TargetShape::Values(shape) = data.target_shape() {
            let found = format!("values {shape}");
            return Err(Error::mismatch("evaluation without a loss: targets", found, "classes"));
        }
        self.evaluate_loss(data, None)
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
        // A fixed number of shares, each a run of tiles, added up in order: the same sum at any thread count.
        let shares = tiles.min(16);
        let confusion = match data.target_shape() {
            TargetShape::Classes { .. } => {
                Some(ConfusionMatrix::new(self.output().f).with_names(self.classes.iter().cloned())?)
            }
            TargetShape::Values(_) => None,
        };
        let mut work: Vec<_> = (0..shares)
            .map(|_| {
                let mut ws = Workspace::new(self, tile, Mode::Infer);
                ws.expect_targets(data.target_shape());
                Share { ws, tally: Tally::default(), confusion: confusion.clone() }
            })
            .collect();
        par::for_each(&mut work, |i, share| {
            for t in i * tiles / shares..(i + 1) * tiles / shares {
                share.tile(self, data, loss, t * tile..n.min((t + 1) * tile));
            }
        });
        let mut total = Evaluation { tally: Tally::default(), confusion };
        for share in work {
            total.tally += share.tally;
            if let (Some(all), Some(part)) = (&mut total.confusion, &share.confusion) {
                all.merge(part);
            }
        }
        Ok(total)
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
    ) {
        let ws = &mut self.ws;
        ws.gather(model, data, range.map(Sample::plain));
        model.forward(ws);
        if let Some(confusion) = &mut self.confusion {
            ws.each_class(|truth, predicted| confusion.add(truth, predicted));
        }
        if let Some(loss) = loss {
            let valid = ws.valid();
            let (y, targets, dy) = ws.for_loss();
            self.tally += loss.tile(y, targets, valid, dy);
        }
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
