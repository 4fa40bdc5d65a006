//! Prediction and evaluation on datasets; an array is a dataset too.

use ndarray::{Array1, Array3, ArrayView2, Axis};

use super::tiles::Tiles;
use super::{Model, Workspace};
use crate::data::{Dataset, Sample, TargetShape};
use crate::loss::{Loss, Tally, has_accuracy};
use crate::metrics::ConfusionMatrix;
use crate::nn::Mode;
use crate::{Error, Real, Result, memory, par, unoptimised};

/// The result of an evaluation on a dataset.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// `None` where no loss was measured.
    tally: Option<Tally>,
    confusion: Option<ConfusionMatrix>,
}

impl Evaluation {
    /// The mean loss; `None` where none was measured, as by [`Model::evaluate`], or no target counted.
    pub fn loss(&self) -> Option<f64> {
        self.tally.and_then(Tally::mean)
    }

    /// The share of correct classes, or of values on the right side of the loss's [threshold](Loss::threshold); `None` where
    /// there is neither, or none counts: for other values, use [`loss`](Self::loss), or the [`metrics`](crate::metrics) on what
    /// [`Model::predict`] returns.
    pub fn accuracy(&self) -> Option<f64> {
        self.confusion.as_ref().filter(|matrix| matrix.total() > 0).map(ConfusionMatrix::accuracy)
    }

    /// True and predicted classes; of values by a loss with a [threshold](Loss::threshold), 0 for negative ones and 1 for
    /// positive ones. `None` where there is neither.
    pub fn confusion(&self) -> Option<&ConfusionMatrix> {
        self.confusion.as_ref()
    }
}

/// Some shares of an evaluation.
pub(crate) struct PartOfEvaluation {
    /// The number of the first of these shares.
    pub(crate) first: usize,
    /// Loss and weight of each share; their sum, in order, is that of the evaluation.
    pub(crate) tallies: Vec<Tally>,
    /// Of all these shares; `None` where the targets are not classes.
    pub(crate) confusion: Option<ConfusionMatrix>,
}

/// One thread's share of an evaluation.
struct Share<R> {
    ws: Workspace<R>,
    tally: Tally,
    confusion: Option<ConfusionMatrix>,
}

impl<R: Real> Model<R> {
    /// The outputs for raw samples, `[n, T', F']`: logits if the last layer is linear; in the units of the targets, if these
    /// are [standardised](crate::nn::ModelBuilder::normalize_targets).
    ///
    /// Samples may have other numbers of steps than the model was built for, where its layers
    /// [take them](Self::output_shape_for); the outputs are those of a model that was built for as many.
    ///
    /// The samples are an array `[n, T, F]`, given as `&x` or a view of it, or any [`Dataset`], whose targets are ignored.
    /// [`predict_proba`](Self::predict_proba) and [`predict_classes`](Self::predict_classes) take the same.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the samples do not have as many features as the model's input, or a layer, which is named, does
    /// not take as many steps.
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
    /// assert_eq!(model.predict(&Array3::zeros((1, 12, 2)))?.dim(), (1, 1, 3));
    /// let data = Arrays::classes(x, &[0; 20], ["a", "b", "c"])?;
    /// assert_eq!(model.predict(&data)?, y);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn predict(&self, samples: impl Dataset<Elem = R>) -> Result<Array3<R>> {
        self.outputs(&samples)
    }

    fn outputs(&self, data: &dyn Dataset<Elem = R>) -> Result<Array3<R>> {
        unoptimised::advise();
        let output = self.check_samples(data)?;
        let (n, steps) = (data.len(), data.shape().t);
        let zeros = memory::zeros("outputs", &[n, output.t, output.f])?;
        let mut out =
            Array3::from_shape_vec((n, output.t, output.f), zeros).expect("as many values as the shape has");
        let tiles = Tiles::for_inference::<R>(n);
        par::for_each(&mut tiles.split(out.view_mut()), |i, out| {
            let mut ws = Workspace::for_steps(self, steps, tiles.size, Mode::Infer)?;
            let mut rest = out.view_mut();
            for tile in tiles.share(i) {
                let (out, others) = rest.split_at(Axis(0), tile.len());
                ws.gather(self, data, None, tile.map(Sample::plain))?;
                self.forward(&mut ws);
                ws.output_seq().collect_into(out);
                rest = others;
            }
            Ok(())
        })?;
        self.undo_targets(out.view_mut());
        Ok(out)
    }

    /// The class of each sample, `[n]`: that with the largest output at the sample's last step.
    ///
    /// # Errors
    /// [`Error::Mismatch`] as for [`predict`](Self::predict), or if targets are standardised, or an output is NaN, which a NaN
    /// in the sample causes.
    pub fn predict_classes(&self, samples: impl Dataset<Elem = R>) -> Result<Array1<usize>> {
        self.check_not_values("predict_classes")?;
        let y = self.outputs(&samples)?;
        let last = y.dim().1 - 1;
        let class = |(i, y): (usize, ArrayView2<'_, R>)| {
            // Where there is an output for each step, use the sample's last one.
            let len = samples.length(Sample::plain(i)).filter(|_| last + 1 == samples.shape().t);
            let step = len.map_or(last, |len| len.saturating_sub(1).min(last));
            argmax(y.row(step).iter().copied()).ok_or_else(|| no_number(i))
        };
        y.outer_iter().enumerate().map(class).collect()
    }

    /// The probability of each class, softmax over the outputs: `[n, T', C]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] as for [`predict`](Self::predict), or if targets are standardised.
    pub fn predict_proba(&self, samples: impl Dataset<Elem = R>) -> Result<Array3<R>> {
        self.check_not_values("predict_proba")?;
        let mut y = self.outputs(&samples)?;
        for mut row in y.rows_mut() {
            let max = row.iter().copied().fold(R::NEG_INFINITY, |a, b| if b > a { b } else { a });
            row.mapv_inplace(|y| (y - max).exp());
            let sum: R = row.iter().copied().sum();
            row.mapv_inplace(|p| p / sum);
        }
        Ok(y)
    }

    /// Accuracy and confusion matrix on a dataset whose targets are classes; negative ones do not count.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the dataset does not fit the model, or an output is NaN.
    pub fn evaluate(&self, data: &dyn Dataset<Elem = R>) -> Result<Evaluation> {
        let found = match data.target_shape() {
            TargetShape::Classes { .. } => return self.evaluate_loss(data, None),
            TargetShape::Values(shape) => format!("values {shape}"),
            TargetShape::Labels { .. } => "labels".to_owned(),
            TargetShape::None => "none".to_owned(),
        };
        Err(Error::mismatch("evaluation without a loss: targets", found, "classes"))
    }

    /// The mean of a loss on a dataset, on the scale of [standardised](crate::nn::ModelBuilder::normalize_targets) targets if
    /// the model has one, and the confusion matrix of the classes that count where the targets are
    /// classes, or values of a loss with a [threshold](Loss::threshold).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the dataset does not fit the model or the loss, or an output is NaN.
    pub fn evaluate_with(&self, data: &dyn Dataset<Elem = R>, loss: &dyn Loss<R>) -> Result<Evaluation> {
        self.evaluate_loss(data, Some(loss))
    }

    fn evaluate_loss(&self, data: &dyn Dataset<Elem = R>, loss: Option<&dyn Loss<R>>) -> Result<Evaluation> {
        let PartOfEvaluation { tallies, confusion, .. } = self.evaluate_part(data, loss, (0, 1))?;
        Ok(Evaluation { tally: loss.map(|_| tallies.into_iter().sum()), confusion })
    }

    /// As [`evaluate_with`](Self::evaluate_with), but only the share of one of several ranks.
    pub(crate) fn evaluate_share(
        &self,
        data: &dyn Dataset<Elem = R>,
        loss: &dyn Loss<R>,
        rank_of: (usize, usize),
    ) -> Result<PartOfEvaluation> {
        self.evaluate_part(data, Some(loss), rank_of)
    }

    fn evaluate_part(
        &self,
        data: &dyn Dataset<Elem = R>,
        loss: Option<&dyn Loss<R>>,
        (rank, ranks): (usize, usize),
    ) -> Result<PartOfEvaluation> {
        let output = self.check_data("evaluation", data)?;
        loss.map_or(Ok(()), |loss| loss.check(output, data.target_shape()))?;
        let tiles = Tiles::for_losses::<R>(data.len());
        let own = rank * tiles.shares / ranks..(rank + 1) * tiles.shares / ranks;
        let mut confusion = match data.target_shape() {
            TargetShape::Classes { .. } => {
                let classes = output.f;
                memory::check(
                    "confusion matrices",
                    memory::bytes::<u64>(&[classes, classes, own.len() + 1]),
                )?;
                Some(ConfusionMatrix::new(classes).with_names(self.classes.iter().cloned())?)
            }
            // Values are negative or positive, whatever the names of the outputs.
            targets => has_accuracy(loss, targets).then(|| ConfusionMatrix::new(2)),
        };
        let mut work: Vec<_> = own
            .clone()
            .map(|_| {
                let mut ws = Workspace::for_steps(self, data.shape().t, tiles.size, Mode::Infer)?;
                ws.expect_targets(data.target_shape(), loss);
                Ok(Share { ws, tally: Tally::default(), confusion: confusion.clone() })
            })
            .collect::<Result<_>>()?;
        par::for_each(&mut work, |i, share| {
            tiles.share(own.start + i).try_for_each(|tile| share.tile(self, data, loss, tile))
        })?;
        if let Some(all) = &mut confusion {
            work.iter().filter_map(|share| share.confusion.as_ref()).for_each(|part| all.merge(part));
        }
        let tallies = work.iter().map(|share| share.tally).collect();
        Ok(PartOfEvaluation { first: own.start, tallies, confusion })
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
        ws.gather(model, data, loss, range.map(Sample::plain))?;
        model.forward(ws);
        if let Some(confusion) = &mut self.confusion {
            let mut fault = None;
            ws.each_class(loss, |sample, truth, predicted| match predicted {
                Some(predicted) => confusion.add(truth, predicted),
                None => fault = fault.take().or(Some(no_number(sample.index))),
            });
            fault.map_or(Ok(()), Err)?;
        }
        if let Some(loss) = loss {
            self.tally += ws.measure(loss);
        }
        Ok(())
    }
}

/// The index of the largest value, the first of equals; `None` if any value is NaN.
pub(super) fn argmax<R: Real>(values: impl Iterator<Item = R>) -> Option<usize> {
    let (mut best, mut largest, mut numbers) = (0, R::NEG_INFINITY, true);
    for (i, value) in values.enumerate() {
        numbers &= value.partial_cmp(&value).is_some();
        if value > largest {
            (best, largest) = (i, value);
        }
    }
    numbers.then_some(best)
}

fn no_number(sample: usize) -> Error {
    let expected = "numbers: look for NaN in the sample, or in the model's parameters";
    Error::mismatch(format!("sample {sample}: outputs"), "NaN", expected)
}
