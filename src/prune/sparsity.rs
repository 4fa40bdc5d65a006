//! How much of a model is pruned.

use std::fmt;

use serde::Serialize;

use crate::names;

/// How many parameters of a model are pruned, tensor by tensor; prints as a table.
///
/// # Examples
/// ```
/// use bptt::prune::Magnitude;
/// use bptt::{Model, Shape, nn::Linear};
///
/// let mut model: Model = Model::builder(Shape::new(1, 4)).layer("linear", Linear::new(2)).build(1)?;
/// let sparsity = model.prune(Magnitude::share(0.25))?;
/// assert_eq!(sparsity.to_string(), "\
/// tensor         values  pruned       %
/// linear.weight       8       2   25.00
/// linear.bias         2       0    0.00
/// total              10       2   20.00");
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sparsity {
    tensors: Vec<TensorSparsity>,
}

/// How many values of a tensor are pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorSparsity {
    /// The tensor.
    pub name: String,
    /// Values.
    pub len: usize,
    /// Pruned values.
    pub pruned: usize,
}

impl TensorSparsity {
    /// The share of values that are pruned, 0 to 1.
    pub fn share(&self) -> f64 {
        share(self.pruned, self.len)
    }
}

impl Sparsity {
    pub(super) fn new(tensors: Vec<TensorSparsity>) -> Self {
        Self { tensors }
    }

    /// The tensors in the order of the model.
    pub fn tensors(&self) -> &[TensorSparsity] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&TensorSparsity> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// How many parameters there are.
    pub fn len(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.len).sum()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many parameters are pruned.
    pub fn pruned(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.pruned).sum()
    }

    /// The share of all parameters that are pruned, 0 to 1.
    pub fn share(&self) -> f64 {
        share(self.pruned(), self.len())
    }
}

fn share(pruned: usize, len: usize) -> f64 {
    if len == 0 { 0.0 } else { pruned as f64 / len as f64 }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.tensors.iter().map(|tensor| tensor.name.chars().count());
        let width = names::column(names.fold("tensor".len(), usize::max));
        let digits = self.len().to_string().len().max("values".len());
        writeln!(f, "{:width$}  {:>digits$}  {:>digits$}  {:>6}", "tensor", "values", "pruned", "%")?;
        let total = TensorSparsity { name: "total".into(), len: self.len(), pruned: self.pruned() };
        for (i, tensor) in self.tensors.iter().chain([&total]).enumerate() {
            let TensorSparsity { name, len, pruned } = tensor;
            let percent = 100.0 * tensor.share();
            write!(f, "{name:width$}  {len:>digits$}  {pruned:>digits$}  {percent:>6.2}")?;
            if i < self.tensors.len() {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
