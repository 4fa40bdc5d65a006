//! Initialising chosen tensors of a model again.

use super::Model;
use crate::params::{Role, Tensor, matches};
use crate::{Arena, Error, Init, Real, Result, rng};

impl<R: Real> Model<R> {
    /// Initialises again all tensors whose names match `pattern`, in which `*` matches any run of characters.
    ///
    /// Each tensor draws from a separate stream, keyed by `seed` and its position in the model.
    ///
    /// # Errors
    /// [`Error::Config`] if the pattern matches no tensor, or one that `init` does not fit; nothing is changed then.
    ///
    /// # Examples
    /// ```
    /// use bptt::{Init, Model, Shape, nn::Linear};
    /// # fn main() -> bptt::Result<()> {
    /// let linear = Linear::new(2);
    /// let mut model: Model = Model::builder(Shape::new(1, 3)).layer("linear", linear).build(1)?;
    /// model.init("*.weight", Init::XavierUniform(1.0), 7)?;
    /// model.init("linear.bias", Init::Constant(0.5), 7)?;
    /// assert_eq!(model.params().get("linear.bias").unwrap().as_slice().unwrap(), [0.5, 0.5]);
    /// assert!(model.init("lstm.*", Init::Normal(0.1), 7).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn init(&mut self, pattern: &str, init: Init, seed: u64) -> Result<()> {
        let layout = self.params().layout().clone();
        let fits = |tensor: &Tensor| tensor.role == Role::Weight && matches(pattern, &tensor.name);
        let chosen = || layout.tensors().iter().enumerate().filter(|(_, tensor)| fits(tensor));
        chosen().try_for_each(|(_, tensor)| init.check(&tensor.name, &tensor.axes))?;
        if chosen().next().is_none() {
            let names: Vec<_> = layout.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
            let fault = format!("found pattern `{pattern}`, expected one that matches {}", names.join(", "));
            return Err(Error::config("init", fault));
        }
        let mut params = self.params_mut();
        for (i, tensor) in chosen() {
            let values = &mut params.as_mut_slice()[tensor.range()];
            init.fill_tensor(&tensor.axes, values, rng::key(&[seed, i as u64]));
        }
        Ok(())
    }
}

impl<R: Real> Model<R> {
    /// Initialises all parameters again, by the rules of their layers: the same sizes from scratch, for comparison with a model
    /// that was [made smaller](Self::compact). What is pruned stays 0.
    ///
    /// # Examples
    /// ```
    /// use bptt::{Model, Shape, nn::Linear};
    ///
    /// let model = |seed| Model::builder(Shape::new(1, 3)).layer("linear", Linear::new(2)).build(seed);
    /// let (mut first, second): (Model, Model) = (model(1)?, model(2)?);
    /// first.reinitialise(2);
    /// assert_eq!(first.params().as_slice(), second.params().as_slice());
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn reinitialise(&mut self, seed: u64) {
        let new = Arena::initialised(self.params().layout().clone(), seed);
        *self.params_mut() = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::nn::{Linear, Lstm};

    fn builder() -> crate::nn::ModelBuilder<f64> {
        let lstm = Lstm::new(3).layers(2);
        Model::builder(Shape::new(4, 2)).layer("lstm", lstm).layer("linear", Linear::new(2))
    }

    fn values<'a>(params: &'a Arena<f64>, name: &str) -> &'a [f64] {
        &params.as_slice()[params.layout().get(name).unwrap().range()]
    }

    #[test]
    fn only_what_matches_changes() {
        let plain = builder().build(5).unwrap();
        let model = builder().init("*.weight_hh_*", Init::Constant(0.25)).build(5).unwrap();
        let mut changed = Vec::new();
        for ((name, before), (_, after)) in plain.params().iter().zip(model.params().iter()) {
            if before != after {
                assert!(after.iter().all(|&x| x == 0.25), "{name}");
                changed.push(name);
            }
        }
        assert_eq!(changed, ["lstm.weight_hh_l0", "lstm.weight_hh_l1"]);
    }

    /// The rule by which a tensor is initialised by default gives the same numbers when it is requested.
    #[test]
    fn the_stream_is_the_tensors_own() {
        let plain = builder().build(5).unwrap();
        let mut model = builder().init("*", Init::Constant(0.0)).build(5).unwrap();
        assert!(model.params().as_slice().iter().all(|&x| x == 0.0));
        model.init("*", Init::pytorch(3), 5).unwrap();
        assert_eq!(model.params().as_slice(), plain.params().as_slice());
    }

    #[test]
    fn rules_apply_in_their_order() {
        let builder =
            builder().init("*.bias_*", Init::Constant(0.0)).init("*.bias_ih_*", Init::ForgetGate(1.0));
        let model = builder.build(1).unwrap();
        for name in ["lstm.bias_ih_l0", "lstm.bias_ih_l1"] {
            let gates = [[0.0; 3], [1.0; 3], [0.0; 3], [0.0; 3]];
            assert_eq!(values(model.params(), name), gates.as_flattened());
        }
        assert_eq!(values(model.params(), "lstm.bias_hh_l0"), [0.0; 12]);
    }

    #[test]
    fn what_was_packed_is_renewed() {
        let mut model = builder().build(1).unwrap();
        model.init("linear.*", Init::Constant(0.0), 1).unwrap();
        model.init("linear.bias", Init::Constant(2.0), 1).unwrap();
        let y = model.predict(&ndarray::Array3::ones((1, 4, 2))).unwrap();
        assert!(y.iter().all(|&y| y == 2.0), "{y}");
    }

    #[test]
    fn a_rule_that_does_not_fit_is_an_error() {
        let message = |pattern, init| builder().init(pattern, init).build(1).unwrap_err().to_string();
        let found = message("*.weight_xx_*", Init::Constant(0.0));
        let expected = "`init`: found pattern `*.weight_xx_*`, expected one that matches lstm.weight_ih_l0, ";
        assert!(found.starts_with(expected), "{found}");
        assert!(message("lstm.*", Init::KaimingNormal).starts_with("`lstm.bias_ih_l0`: found KaimingNormal"));
        assert!(message("linear.bias", Init::ForgetGate(1.0)).contains("the four gates of an LSTM"));

        let mut model = builder().build(1).unwrap();
        let before = model.params().as_slice().to_vec();
        assert!(model.init("lstm.*", Init::KaimingNormal, 1).is_err());
        assert_eq!(model.params().as_slice(), before);
    }
}
