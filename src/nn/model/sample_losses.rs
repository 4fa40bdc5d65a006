//! The loss of each sample by itself.

use ndarray::Array1;

use super::tiles::Tiles;
use super::{Model, Workspace};
use crate::data::{Dataset, Sample};
use crate::loss::Loss;
use crate::nn::Mode;
use crate::{Error, Real, Result, par};

impl<R: Real> Model<R> {
    /// The loss of each sample: what [`evaluate_with`](Model::evaluate_with) would give for it alone, unweighted.
    ///
    /// The numbers do not depend on the number of threads. [`ByLoss`](crate::data::ByLoss) selects samples by them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the dataset does not fit the model or the loss, or no target of a sample counts.
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
    /// let losses = model.sample_losses(&data, &CrossEntropy::default())?;
    /// assert!(losses.iter().all(|loss| (loss - 2f64.ln()).abs() < 1e-12));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn sample_losses(&self, data: &dyn Dataset<Elem = R>, loss: &dyn Loss<R>) -> Result<Vec<f64>> {
        loss.check(self.check_data("losses", data)?, data.target_shape())?;
        let n = data.len();
        let tiles = Tiles::for_losses::<R>(n);
        let mut losses = Array1::zeros(n);
        par::for_each(&mut tiles.split(losses.view_mut()), |i, losses| {
            let mut ws = Workspace::for_steps(self, data.shape().t, tiles.size, Mode::Infer)?;
            ws.expect_targets(data.target_shape(), Some(loss));
            let mut dsts = losses.iter_mut();
            for tile in tiles.share(i) {
                ws.gather(self, data, Some(loss), tile.clone().map(Sample::plain))?;
                self.forward(&mut ws);
                ws.measure(loss);
                for ((sample, tally), dst) in tile.zip(ws.tallies()).zip(&mut dsts) {
                    *dst = tally.mean().ok_or_else(|| {
                        let what = format!("sample {sample}: targets");
                        Error::mismatch(what, "none that counts", "at least one that counts")
                    })?;
                }
            }
            Ok(())
        })?;
        Ok(losses.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use ndarray_rand::RandomExt;
    use ndarray_rand::rand_distr::Uniform;

    use super::*;
    use crate::data::{Arrays, DatasetExt};
    use crate::loss::{CrossEntropy, Mse};
    use crate::nn::{Linear, Lstm};
    use crate::{Shape, rng};

    /// Each sample evaluated alone, which shares neither tiles nor copies with the whole.
    fn agree(data: &Arrays<f64>, loss: &dyn Loss<f64>, n: u32) {
        let model = Model::builder(data.shape()).layer("lstm", Lstm::new(4)).layer("linear", Linear::new(3));
        let model = model.build(1).unwrap();
        let losses = model.sample_losses(data, loss).unwrap();
        assert_eq!(losses.len(), n as usize);
        for (i, &found) in (0..n).zip(&losses) {
            let alone = model.evaluate_with(&data.subset(vec![i]).unwrap(), loss).unwrap().loss();
            let alone = alone.unwrap();
            assert!((found - alone).abs() < 1e-12 * alone.abs().max(1.0), "{i}: {found}, expected {alone}");
        }
        assert!(losses.iter().any(|&loss| loss != losses[0]));
        for threads in [1, 3] {
            let again = par::within(Some(threads), || model.sample_losses(data, loss).unwrap()).unwrap();
            assert_eq!(again, losses);
        }
    }

    #[test]
    fn each_is_what_evaluation_gives() {
        for n in [1, 7, 33, 150] {
            let noise = |features| {
                let uniform = Uniform::new(-1.0, 1.0).unwrap();
                Array3::random_using((n, 2, features), uniform, &mut rng::rng(features as u64))
            };
            let x = noise(2);
            let classes = Array2::from_shape_fn((n, 2), |(i, t)| {
                if i % 4 == 1 && t == 0 { Arrays::<f64>::NO_CLASS } else { ((i + t) % 3) as i64 }
            });
            let steps = Arrays::step_classes(x.clone(), classes, ["a", "b", "c"]).unwrap();
            if n > 1 {
                agree(&steps, &CrossEntropy::default().weight([1.0, 2.0, 3.0]), n as u32);
                let y = noise(3);
                agree(&Arrays::values(x, y).unwrap(), &Mse, n as u32);
            }
        }
    }

    #[test]
    fn data_must_fit() {
        let data = Arrays::classes(Array3::<f64>::ones((2, 1, 1)), &Array1::zeros(2), ["a"]).unwrap();
        let model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(2)).build(1).unwrap();
        assert!(model.sample_losses(&data, &CrossEntropy::default()).is_err());
    }
}
