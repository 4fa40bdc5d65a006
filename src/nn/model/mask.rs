//! A model's mask.

use std::sync::Arc;

use super::Model;
use crate::prune::{Mask, Rule, Sparsity};
use crate::{Error, Real, Result};

impl<R: Real> Model<R> {
    /// Prunes the parameters that `rule` marks: they become exactly 0 and stay 0 in all training, with any optimizer,
    /// until [`unmask`](Model::unmask). What was pruned before stays pruned.
    ///
    /// # Errors
    /// Errors of the rule, such as invalid settings; nothing is pruned then.
    ///
    /// # Examples
    /// ```
    /// use bptt::prune::Magnitude;
    /// use bptt::{Model, Shape, nn::Linear};
    ///
    /// let mut model: Model = Model::builder(Shape::new(1, 8)).layer("linear", Linear::new(2)).build(1)?;
    /// let sparsity = model.prune(Magnitude::share(0.5))?;
    /// assert_eq!(sparsity.get("linear.weight").unwrap().share(), 0.5);
    /// model.params_mut().as_mut_slice().fill(1.0);
    /// assert_eq!(model.params().as_slice().iter().sum::<f32>(), 10.0);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn prune(&mut self, rule: impl Rule<R>) -> Result<Sparsity> {
        let mask = self.marked(rule)?;
        Ok(self.prune_marked(mask))
    }

    /// The mask with what `rule` marks, and what was pruned before.
    pub(super) fn marked(&self, rule: impl Rule<R>) -> Result<Mask> {
        let layout = self.params.layout();
        let old = self.mask.clone();
        let mut mask = old.as_deref().cloned().unwrap_or_else(|| Mask::new(layout.clone()));
        rule.mark(&self.params, &mut mask)?;
        if mask.layout() != layout {
            let found = format!("one of {} parameters", mask.as_slice().len());
            return Err(Error::mismatch("mask", found, format!("the model's own, of {}", layout.len())));
        }
        layout.statistics().for_each(|range| mask.as_mut_slice()[range].fill(false));
        if let Some(old) = &old {
            mask.join(old);
        }
        Ok(mask)
    }

    /// Prunes what is [marked](Self::marked).
    pub(super) fn prune_marked(&mut self, mask: Mask) -> Sparsity {
        let sparsity = mask.sparsity();
        // An equal mask keeps its identity, so that code that compares masks by `same_mask` sees no change.
        if sparsity.pruned() > self.mask.as_ref().map_or(0, |old| old.count()) {
            self.mask = Some(Arc::new(mask));
            drop(self.params_mut());
        }
        sparsity
    }

    /// Which parameters are pruned, if any are.
    pub fn mask(&self) -> Option<&Mask> {
        self.mask.as_deref()
    }

    /// How many parameters are pruned, by tensor and in total; prints as a table.
    pub fn sparsity(&self) -> Sparsity {
        let none = || Mask::new(self.params.layout().clone()).sparsity();
        self.mask().map_or_else(none, Mask::sparsity)
    }

    /// Removes the mask and returns it: what was pruned is still 0, but training may change it again.
    pub fn unmask(&mut self) -> Option<Mask> {
        self.mask.take().map(Arc::unwrap_or_clone)
    }

    /// The mask, shared, for code that must know whether it is still the same.
    pub(crate) fn shared_mask(&self) -> Option<&Arc<Mask>> {
        self.mask.as_ref()
    }

    /// Puts on this mask or none, and leaves the parameters as they are until they are next changed.
    pub(crate) fn set_mask(&mut self, mask: Option<Arc<Mask>>) {
        self.mask = mask;
    }

    /// Applies a mask from a file, or says which values it does not fit.
    pub(super) fn restore_mask(&mut self, mask: Mask) -> Result<(), String> {
        for tensor in mask.layout().tensors() {
            let values = self.params.as_slice()[tensor.range()].iter();
            let pruned = values.zip(&mask.as_slice()[tensor.range()]).filter(|&(_, &pruned)| pruned);
            let wrong = pruned.filter(|&(&value, _)| value != R::ZERO).count();
            if wrong > 0 {
                return Err(format!("tensor `{}`: found {wrong} pruned values that are not 0", tensor.name));
            }
        }
        self.mask = Some(Arc::new(mask));
        drop(self.params_mut());
        Ok(())
    }
}

/// Whether two masks are the same object, not merely equal.
pub(crate) fn same_mask(a: Option<&Arc<Mask>>, b: Option<&Arc<Mask>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::nn::{Linear, Lstm};
    use crate::prune::{Custom, Magnitude, Random};

    fn model() -> Model<f32> {
        let lstm = Lstm::new(5).last();
        Model::builder(Shape::new(4, 3)).layer("lstm", lstm).layer("linear", Linear::new(2)).build(1).unwrap()
    }

    #[test]
    fn pruned_weights_are_zero_in_what_the_kernels_use() {
        let x = ndarray::Array3::from_shape_fn((3, 4, 3), |(i, t, f)| (i + 2 * t + 3 * f) as f32 * 0.1 - 0.5);
        let mut pruned = model();
        let before = pruned.predict(&x).unwrap();
        pruned.prune(Magnitude::share(0.5)).unwrap();
        let mut zeroed = model();
        let mask = pruned.mask().unwrap().clone();
        mask.apply(zeroed.params_mut().as_mut_slice());
        assert_eq!(pruned.predict(&x).unwrap(), zeroed.predict(&x).unwrap());
        assert_ne!(pruned.predict(&x).unwrap(), before);
    }

    #[test]
    fn everything_written_is_masked() {
        let mut model = model();
        model.prune(Magnitude::share(0.5).with_biases()).unwrap();
        for value in [f32::NAN, -0.0, f32::INFINITY, -1.0] {
            model.params_mut().as_mut_slice().fill(value);
            let mask = model.mask().unwrap().as_slice();
            for (&x, &pruned) in model.params().as_slice().iter().zip(mask) {
                assert_eq!(x.to_bits(), if pruned { 0 } else { value.to_bits() });
            }
        }
        model.init("*", crate::Init::Constant(1.0), 1).unwrap();
        let zeros = model.params().as_slice().iter().filter(|&&x| x == 0.0).count();
        assert_eq!(zeros, model.sparsity().pruned());
    }

    #[test]
    fn masks_compose_and_come_off() {
        let mut model = model();
        assert_eq!((model.mask(), model.sparsity().pruned()), (None, 0));
        // A rule that finds nothing leaves no mask.
        model.prune(Magnitude::below(0.0)).unwrap();
        assert_eq!(model.mask(), None);

        let first = model.prune(Random::share(0.3).only("lstm.*")).unwrap();
        let mask = model.shared_mask().unwrap().clone();
        model.prune(Magnitude::share(0.3).only("lstm.weight_ih*")).unwrap();
        assert!(same_mask(model.shared_mask(), Some(&mask)), "nothing is new, so the mask is the same");
        let second = model.prune(Custom::new(|_, _| true).only("linear.*")).unwrap();
        assert_eq!(second.pruned(), first.pruned() + 10);
        assert!(mask.as_slice().iter().zip(model.mask().unwrap().as_slice()).all(|(old, new)| !old || *new));
        assert_eq!(model.sparsity(), second);

        let mask = model.unmask().unwrap();
        assert_eq!((mask.count(), model.mask()), (second.pruned(), None));
        assert!(model.params().iter().last().unwrap().1.iter().all(|&bias| bias != 0.0));
        assert_eq!(model.params().get("linear.weight").unwrap().iter().filter(|&&x| x == 0.0).count(), 10);
        model.params_mut().as_mut_slice().fill(1.0);
        assert!(model.params().as_slice().iter().all(|&x| x == 1.0));
        assert_eq!(model.prune(&mask).unwrap(), second);
    }

    #[test]
    fn a_rule_that_fails_changes_nothing() {
        let mut model = model();
        let before = model.params().as_slice().to_vec();
        assert!(model.prune(Magnitude::share(0.5).only("gru.*")).is_err());
        struct Swap;
        impl Rule<f32> for Swap {
            fn mark(&self, _: &crate::Arena<f32>, mask: &mut Mask) -> Result<()> {
                *mask = Mask::new(Arc::default());
                Ok(())
            }
        }
        let error = model.prune(Swap).unwrap_err().to_string();
        assert!(error.starts_with("mask: found one of 0 parameters"), "{error}");
        assert_eq!((model.params().as_slice(), model.mask()), (&before[..], None));
    }
}
