//! Pruning: weights are set to 0 and stay 0, and units are cut.
//!
//! - A [`Rule`] says which weights are pruned: [`Magnitude`] the small ones, [`Random`] any, for comparison, [`Custom`]
//!   those that a closure chooses, and a [`Mask`] those that it marks. [`Blocks`] prunes blocks of weights, which a stream's
//!   steps then skip. [`Units`] prunes whole units, by [`UnitScores`].
//! - [`Model::prune`](crate::Model::prune) applies a rule. The model keeps the [`Mask`], training and restoring obey
//!   it, and it is saved with the model: a pruned weight is exactly 0 until [`Model::unmask`](crate::Model::unmask).
//! - [`GradualPruning`](crate::train::GradualPruning) prunes during training.
//! - [`Model::compact`](crate::Model::compact) returns a smaller model without the units that are dead, and
//!   [`Stepper::compact`](crate::train::Stepper::compact) continues its training.
//!
//! # Source
//! Han et al. 2015, "Learning both weights and connections for efficient neural networks": prune, then retrain.
//! # Examples
//! ```
//! use bptt::prune::Magnitude;
//! use bptt::{Model, Shape, nn::{Linear, Lstm}};
//!
//! let lstm = Lstm::new(4).last();
//! let mut model: Model =
//!     Model::builder(Shape::new(5, 3)).layer("lstm", lstm).layer("linear", Linear::new(2)).build(1)?;
//! let sparsity = model.prune(Magnitude::share(0.5).only("lstm.*"))?;
//! assert_eq!((sparsity.pruned(), sparsity.len()), (24 + 32, 48 + 64 + 32 + 8 + 2));
//! println!("{sparsity}");
//! # Ok::<(), bptt::Error>(())
//! ```

mod blocks;
mod magnitude;
mod mask;
mod rule;
mod scores;
mod sparsity;
mod units;

pub use blocks::Blocks;
pub use magnitude::Magnitude;
pub use mask::Mask;
pub use rule::{Custom, Random, Rule};
pub use scores::UnitScores;
pub use sparsity::{Sparsity, TensorSparsity};
pub use units::Units;
