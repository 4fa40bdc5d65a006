//! What several machines exchange in each step of one run.

use std::fmt::Debug;

use crate::Result;

/// Sums over the ranks of a run that is distributed over several processes or machines; see
/// [`Trainer::all_reduce`](crate::Trainer::all_reduce).
///
/// Each rank computes the gradients of its share of every batch. At the end of each step, where a layer such as
/// [`BatchNorm`](crate::nn::BatchNorm) waits for sums over the batch, and at some points between steps, each calls
/// [`sum`](Self::sum) once, with slices of the same lengths. How the sums travel is up to the implementation: by MPI, over
/// sockets, or between the threads of one process.
///
/// # The same bits
/// At any number of ranks the run has the same bits as one process, under one condition: if there are 2, 4, 8 or 16 ranks, they
/// must be summed in pairs, then pairs of pairs, and so on, each time the lower one plus the higher one, that is
/// ((0 + 1) + (2 + 3)) for four. In any other order it is still one run, with the same bits at each rank. At any other number
/// of ranks the order does not matter: there, all ranks but one add −0 to a value, but what is exchanged is several times as
/// large as the gradients.
///
/// # Examples
/// A single rank, which has nothing to add:
/// ```
/// use bptt::train::AllReduce;
///
/// #[derive(Debug)]
/// struct Alone;
///
/// impl AllReduce<f32> for Alone {
///     fn rank(&self) -> usize {
///         0
///     }
///     fn size(&self) -> usize {
///         1
///     }
///     fn sum(&self, _: &mut [f32], _: &mut [f64]) -> bptt::Result<()> {
///         Ok(())
///     }
/// }
/// ```
#[doc(alias = "distributed")]
#[doc(alias = "MPI")]
pub trait AllReduce<R>: Debug + Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are, 1 to 16: a batch is divided into at most 16 parts.
    fn size(&self) -> usize;

    /// Replaces the values of both slices by their sums over all ranks, the same bits at each of them. It returns once
    /// all ranks have called it. The calls of a rank come from different threads, but one after another. Either slice may be
    /// empty.
    ///
    /// # Errors
    /// If the ranks cannot reach each other; this ends the run at this rank. If a rank fails, the others should not wait
    /// for it forever.
    fn sum(&self, grads: &mut [R], counts: &mut [f64]) -> Result<()>;
}
