//! The loss of each pattern by itself.

use super::{Model, Workspace};
use crate::data::{Dataset, Sample, TargetShape};
use crate::loss::{Loss, Tally, Targets};
use crate::nn::Mode;
use crate::{Real, Result, Seq, SeqMut, Shape, par};

impl<R: Real> Model<R> {
    /// The loss of each sample: what [`evaluate_with`](Model::evaluate_with) would give for it alone.
    ///
    /// The same numbers at any number of threads. [`ByLoss`](crate::data::ByLoss) chooses samples by them.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if the dataset does not fit the model or the loss.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::{Arrays, Dataset};
    /// use bptt::{Init, Model, loss::CrossEntropy, nn::Linear};
    /// use ndarray::{Array3, array};
    ///
    /// let data = Arrays::classes(Array3::<f64>::ones((2, 1, 1)), &array![0, 1], ["a", "b"])?;
    /// let model = Model::builder(data.shape())
    ///     .layer("linear", Linear::new(2))
    ///     .init("*", Init::Constant(0.0))
    ///     .build(1)?;
    /// let losses = model.pattern_losses(&data, &CrossEntropy::default())?;
    /// assert!(losses.iter().all(|loss| (loss - 2f64.ln()).abs() < 1e-12));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn pattern_losses(&self, data: &dyn Dataset<Elem = R>, loss: &dyn Loss<R>) -> Result<Vec<f64>> {
        self.check_data("losses", data)?;
        loss.check(self.output(), data.target_shape())?;
        let n = data.len();
        let tile = self.inference_tile(n).max(R::QUANTUM);
        let tiles = n.div_ceil(tile);
        let mut losses = vec![0.0; n];
        // Whole tiles to each of a few parts, so that there are few workspaces.
        let part = tiles.div_ceil(16) * tile;
        par::for_each(&mut losses.chunks_mut(part).collect::<Vec<_>>(), |i, losses| {
            let mut ws = Workspace::new(self, tile, Mode::Infer);
            ws.expect_targets(data.target_shape());
            let mut alone = Alone::new(self.output(), data.target_shape());
            for (t, losses) in losses.chunks_mut(tile).enumerate() {
                let first = i * part + t * tile;
                ws.gather(self, data, (first..first + losses.len()).map(Sample::plain))?;
                self.forward(&mut ws);
                let (y, targets, _) = ws.for_loss();
                for (lane, place) in losses.iter_mut().enumerate() {
                    *place = alone.loss(loss, y, targets, lane).mean();
                }
            }
            Ok(())
        })?;
        Ok(losses)
    }
}

/// Room for one sample's output and target, in the first lane of as few as a loss may work on.
struct Alone<R> {
    y: Vec<R>,
    dy: Vec<R>,
    classes: Vec<i64>,
    values: Vec<R>,
}

impl<R: Real> Alone<R> {
    fn new(output: Shape, targets: TargetShape) -> Self {
        let (classes, values) = match targets {
            TargetShape::Classes { t } => (t, 0),
            TargetShape::Values(shape) => (0, shape.size()),
            TargetShape::None => (0, 0),
        };
        let zeros = |n: usize| vec![R::ZERO; n * R::QUANTUM];
        Self {
            y: zeros(output.size()),
            dy: zeros(output.size()),
            classes: vec![0; classes * R::QUANTUM],
            values: zeros(values),
        }
    }

    /// The loss of lane `lane`.
    fn loss(&mut self, loss: &dyn Loss<R>, y: Seq<'_, R>, targets: Targets<'_, R>, lane: usize) -> Tally {
        fn copy<T: Copy>(to: &mut [T], from: &[T], (lane, lanes, quantum): (usize, usize, usize)) {
            let to = to.iter_mut().step_by(quantum);
            to.zip(from[lane..].iter().step_by(lanes)).for_each(|(to, from)| *to = *from);
        }
        let place = (lane, y.lanes, R::QUANTUM);
        copy(&mut self.y, y.data, place);
        let targets = match targets {
            Targets::Classes(classes) => {
                copy(&mut self.classes, classes, place);
                Targets::Classes(&self.classes)
            }
            Targets::Values(values) => {
                copy(&mut self.values, values.data, place);
                Targets::Values(Seq::new(&self.values, values.shape, R::QUANTUM))
            }
        };
        let dy = SeqMut::new(&mut self.dy, y.shape, R::QUANTUM);
        loss.tile(Seq::new(&self.y, y.shape, R::QUANTUM), targets, 1, dy)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Array3};

    use super::*;
    use crate::data::{Arrays, DatasetExt};
    use crate::loss::{CrossEntropy, Mse};
    use crate::nn::{Linear, Lstm};

    /// Each sample evaluated alone, which shares neither tiles nor copies with the whole.
    fn agree(data: &Arrays<f64>, loss: &dyn Loss<f64>, n: u32) {
        let model = Model::builder(data.shape()).layer("lstm", Lstm::new(4)).layer("linear", Linear::new(3));
        let model = model.build(1).unwrap();
        let losses = model.pattern_losses(data, loss).unwrap();
        assert_eq!(losses.len(), n as usize);
        for (i, &found) in (0..n).zip(&losses) {
            let alone = model.evaluate_with(&data.subset(vec![i]).unwrap(), loss).unwrap().loss();
            assert!((found - alone).abs() < 1e-12 * alone.abs().max(1.0), "{i}: {found}, expected {alone}");
        }
        assert!(losses.iter().any(|&loss| loss != losses[0]));
        for threads in [1, 3] {
            let again = par::within(Some(threads), || model.pattern_losses(data, loss).unwrap()).unwrap();
            assert_eq!(again, losses);
        }
    }

    #[test]
    fn each_is_what_evaluation_gives() {
        for n in [1, 7, 33, 150] {
            let x = Array3::from_shape_fn((n, 2, 2), |(i, t, f)| ((i * 5 + t * 3 + f) as f64).sin());
            let classes = Array2::from_shape_fn((n, 2), |(i, t)| {
                if i % 4 == 1 && t == 0 { Arrays::<f64>::NO_CLASS } else { ((i + t) % 3) as i64 }
            });
            let steps = Arrays::step_classes(x.clone(), classes, ["a", "b", "c"]).unwrap();
            if n > 1 {
                agree(&steps, &CrossEntropy::default().weight([1.0, 2.0, 3.0]), n as u32);
                let y = Array3::from_shape_fn((n, 2, 3), |(i, t, f)| ((i + t * f) as f64).cos());
                agree(&Arrays::values(x, y).unwrap(), &Mse, n as u32);
            }
        }
    }

    #[test]
    fn data_must_fit() {
        let data = Arrays::classes(Array3::<f64>::ones((2, 1, 1)), &Array1::zeros(2), ["a"]).unwrap();
        let model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1).unwrap();
        assert!(model.pattern_losses(&data, &CrossEntropy::default()).is_err());
    }
}
