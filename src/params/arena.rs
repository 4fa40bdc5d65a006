//! One vector of values under a layout, such as the parameters of a model.

use std::sync::Arc;

use ndarray::{ArrayViewD, ArrayViewMutD};

use super::Layout;
use crate::{Real, rng};

/// Values of all tensors of a layout in one vector.
///
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Lstm};
///
/// let model: Model = Model::builder(Shape::new(9, 3)).layer("lstm", Lstm::new(2)).build(1)?;
/// let params = model.params();
/// assert_eq!(params.get("lstm.weight_ih_l0").unwrap().shape(), [8, 3]);
/// let names: Vec<_> = params.iter().map(|(name, _)| name).collect();
/// assert_eq!(names[2..], ["lstm.bias_ih_l0", "lstm.bias_hh_l0"]);
/// assert_eq!(params.as_slice().len(), 8 * (3 + 2 + 2));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Arena<R> {
    layout: Arc<Layout>,
    data: Vec<R>,
}

impl<R: Real> Arena<R> {
    /// All zeros.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let data = vec![R::ZERO; layout.len()];
        Self { layout, data }
    }

    /// Initialises each tensor by its rule, from a stream of random numbers of its own.
    pub fn initialised(layout: Arc<Layout>, seed: u64) -> Self {
        let mut arena = Self::zeros(layout);
        for (i, tensor) in arena.layout.tensors().iter().enumerate() {
            let values = &mut arena.data[tensor.range()];
            tensor.init.fill_tensor(&tensor.axes, values, rng::key(&[seed, i as u64]));
        }
        arena
    }

    /// Names, shapes and offsets.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// All values.
    pub fn as_slice(&self) -> &[R] {
        &self.data
    }

    /// All values, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [R] {
        &mut self.data
    }

    /// A tensor by its name, in its shape.
    pub fn get(&self, name: &str) -> Option<ArrayViewD<'_, R>> {
        let tensor = self.layout.get(name)?;
        ArrayViewD::from_shape(tensor.shape(), &self.data[tensor.range()]).ok()
    }

    /// A tensor by its name, in its shape, mutable.
    ///
    /// # Examples
    /// ```
    /// use bptt::{Model, Shape, nn::Linear};
    /// use ndarray::array;
    ///
    /// let mut model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(1)).build(1)?;
    /// let mut params = model.params_mut();
    /// params.get_mut("linear.weight").unwrap().assign(&array![[2.0, 3.0]]);
    /// params.get_mut("linear.bias").unwrap().fill(0.5);
    /// drop(params); // the model sees the change
    /// assert_eq!(model.predict(&array![[[1.0, 10.0]]])?, array![[[32.5]]]);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn get_mut(&mut self, name: &str) -> Option<ArrayViewMutD<'_, R>> {
        let tensor = self.layout.get(name)?;
        ArrayViewMutD::from_shape(tensor.shape(), &mut self.data[tensor.range()]).ok()
    }

    /// Names and values of the tensors, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[R])> {
        self.layout.tensors().iter().map(|tensor| (tensor.name.as_str(), &self.data[tensor.range()]))
    }

    /// The first tensor that holds a value that is not finite.
    pub fn first_not_finite(&self) -> Option<&str> {
        self.iter().find(|(_, values)| values.iter().any(|x| !x.is_finite())).map(|(name, _)| name)
    }
}
