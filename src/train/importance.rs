//! How much each unit matters to the loss.

use super::Trainer;
use crate::data::{Batches, Dataset};
use crate::prune::UnitScores;
use crate::{Error, Model, Real, Result};

impl<R: Real> Trainer<R> {
    /// The importance of each unit for the loss on `data`, to first order: the sum over batches of (Σₜ hₜ ∂L/∂hₜ)²,
    /// where h is the unit's output. It is computed from the gradients with respect to the weights by which the unit is
    /// read, one epoch of forward and backward passes, without an update.
    ///
    /// L is the mean loss of a batch, so smaller batches tell more: the squares of samples that pull in opposite directions add
    /// up only if they are in different batches.
    ///
    /// # Errors
    /// Those of [`Stepper::gradients`](super::Stepper::gradients); and [`Error::Config`] if the trainer is
    /// [stateful](Self::stateful).
    /// # Source
    /// Molchanov et al. 2019, "Importance estimation for neural network pruning": (Σ g w)² over the weights of a gate.
    /// # Examples
    /// ```
    /// use bptt::prelude::*;
    /// use bptt::prune::Units;
    /// # use bptt::ndarray::{Array1, Array3};
    /// # let x = Array3::from_shape_fn((60, 6, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 5.0 - t as f32 });
    /// # let data = Arrays::classes(x, &Array1::from_shape_fn(60, |i| i % 2), ["up", "down"])?;
    ///
    /// let linear = Linear::new(2);
    /// let mut model =
    ///     Model::builder(data.shape()).layer("lstm", Lstm::new(16).last()).layer("linear", linear).build(1)?;
    /// let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.02)).epochs(4).batch_size(10);
    /// trainer.fit(&mut model, &data, None)?;
    /// for share in [0.25, 0.5, 0.75] {
    ///     let importance = trainer.unit_importance(&model, &data)?;
    ///     model.prune(Units::share(share).by(importance))?;
    ///     trainer.fit(&mut model, &data, None)?;
    /// }
    /// let small = model.compact()?;
    /// assert_eq!(small.params().get("lstm.weight_hh_l0").unwrap().shape(), [4 * 4, 4]);
    /// assert!(small.evaluate(&data)?.accuracy() > Some(0.9));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn unit_importance(&self, model: &Model<R>, data: &dyn Dataset<Elem = R>) -> Result<UnitScores> {
        if self.settings.stateful {
            let fault = "found a stateful trainer, expected one that carries no states from step to step";
            return Err(Error::config("unit_importance", fault));
        }
        let mut stepper = self.stepper(model, data)?;
        stepper.measure();
        let mut scores = UnitScores::zeros(model.params().layout());
        let mut batches = Batches::new(data.len(), self.settings.batch_size, self.settings.seed)?;
        for batch in batches.epoch(1)? {
            stepper.gradients(model, data, batch)?;
            scores.add_taylor(model.params(), stepper.grads())?;
        }
        Ok(scores)
    }
}
