//! How much each unit matters.

use crate::params::{Layout, UnitGroups};
use crate::{Arena, Error, Real, Result};

/// A score for each unit of a model: the lower, the less it matters. For [`Units`](super::Units).
///
/// # Examples
/// ```
/// use bptt::prune::UnitScores;
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
///
/// let mut model: Model = Model::builder(Shape::new(5, 3))
///     .layer("lstm", Lstm::new(2).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// model.params_mut().as_mut_slice().fill(0.5);
/// // Of each unit: 4 · 3 and 4 · 2 weights of its rows, 8 · 2 of its columns, of which 4 are in both, 4 · 2 biases.
/// let weights = (12 + 8 + (8 - 4) + 2 + 8) as f64;
/// let scores = UnitScores::magnitude(model.params());
/// assert_eq!(scores.get("lstm.l0"), Some(&[weights.sqrt() * 0.5; 2][..]));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct UnitScores {
    units: UnitGroups,
    values: Vec<f64>,
    /// The sum over the outgoing weights of a unit, while one batch is added.
    sums: Vec<f64>,
}

impl UnitScores {
    /// All 0.
    pub fn zeros(layout: &Layout) -> Self {
        let units = layout.units();
        let zeros = vec![0.0; units.len()];
        Self { units, values: zeros.clone(), sums: zeros }
    }

    /// ‖w‖₂ over all parameters of a unit: its rows, columns and biases in all tensors.
    ///
    /// # Source
    /// Wen et al. 2018, "Learning intrinsic sparse structures within long short-term memory", whose groups of weights these are.
    pub fn magnitude<R: Real>(params: &Arena<R>) -> Self {
        let mut scores = Self::zeros(params.layout());
        let values = params.as_slice();
        for tensor in params.layout().tensors() {
            let (all, squares) = (&scores.units, &mut scores.values);
            let (rows, row) = (all.on(&tensor.axes[0]), tensor.len() / tensor.axes[0].size().max(1));
            all.visit(tensor, |i, axis, unit| {
                // A weight by which a unit reads itself counts once.
                let own = rows[(i - tensor.offset) / row].is_some_and(|(reader, _)| reader == unit);
                if axis == 0 || !own {
                    squares[unit] += values[i].to_f64() * values[i].to_f64();
                }
            });
        }
        scores.values.iter_mut().for_each(|square| *square = square.sqrt());
        scores
    }

    /// Adds the importance of each unit on one batch, to first order, given the gradient g of the batch's mean loss:
    ///
    /// I ← I + (Σ w g)², over the weights w by which other units, or the unit itself, read the unit
    ///
    /// Σ w g = Σₜ hₜ ∂L/∂hₜ, the change of the loss, to first order, if the unit's output h were 0.
    /// [`Trainer::unit_importance`](crate::Trainer::unit_importance) does this for a whole epoch.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if scores, parameters and gradients do not belong to the same model.
    /// # Source
    /// Molchanov et al. 2019, "Importance estimation for neural network pruning", the first-order score of a gate with all its
    /// weights; Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference", for outputs.
    pub fn add_taylor<R: Real>(&mut self, params: &Arena<R>, grads: &Arena<R>) -> Result<()> {
        let expected = self.values.len();
        let same = params.layout() == grads.layout() && params.layout().units().len() == expected;
        if !same {
            let found = format!("{} units", params.layout().units().len());
            return Err(Error::mismatch("scores", found, format!("the same model, of {expected}")));
        }
        self.sums.fill(0.0);
        for tensor in params.layout().tensors() {
            let sums = &mut self.sums;
            self.units.visit_weights(tensor, |i, _, read| {
                sums[read] += params.as_slice()[i].to_f64() * grads.as_slice()[i].to_f64();
            });
        }
        self.values.iter_mut().zip(&self.sums).for_each(|(score, sum)| *score += sum * sum);
        Ok(())
    }

    /// The scores of a group's units, such as `lstm.l0` or `lstm.l1_reverse`.
    pub fn get(&self, group: &str) -> Option<&[f64]> {
        self.units.get(group).map(|group| &self.values[group.units.clone()])
    }

    /// The scores of a group's units, mutable: for custom scores.
    pub fn get_mut(&mut self, group: &str) -> Option<&mut [f64]> {
        self.units.get(group).map(|group| &mut self.values[group.units.clone()])
    }

    /// The scores of all units, in the order of the groups.
    pub(super) fn as_slice(&self) -> &[f64] {
        &self.values
    }

    /// The groups.
    pub fn units(&self) -> &UnitGroups {
        &self.units
    }
}
