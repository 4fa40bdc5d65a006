//! The sum over all ranks.

use std::sync::{Mutex, PoisonError};

use bptt::train::AllReduce;
use bptt::{Real, Result};
use mpi::datatype::Equivalence;
use mpi::point_to_point::send_receive_into;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;

/// Sums over all ranks by recursive doubling: in turn n, ranks whose numbers differ in bit n exchange what they have, and both
/// add it. After log₂ of the number of ranks all of them have the sum, in the order ((0 + 1) + (2 + 3)), since either
/// order of two summands gives the same bits.
///
/// If the number of ranks is not a power of two, those beyond the largest one first add what they have to a lower rank, and
/// are sent the sum at the end.
#[derive(Debug)]
pub struct Ranks<R> {
    rank: usize,
    size: usize,
    /// What comes from another rank; only one thread at a time sums.
    received: Mutex<(Vec<R>, Vec<f64>)>,
}

impl<R: Default + Clone> Ranks<R> {
    pub(crate) fn new(rank: usize, size: usize) -> Self {
        Self { rank, size, received: Mutex::default() }
    }
}

impl<R: Real + Equivalence> AllReduce<R> for Ranks<R> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    /// # Errors
    /// None: if a rank is gone, MPI ends the others.
    fn sum(&self, grads: &mut [R], counts: &mut [f64]) -> Result<()> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let (their_grads, their_counts) = &mut *received;
        their_grads.resize(grads.len(), R::ZERO);
        their_counts.resize(counts.len(), 0.0);
        // The largest power of two of ranks.
        let doubling = 1 << self.size.ilog2();
        let (rank, beyond) = (self.rank, self.rank + doubling);
        if rank >= doubling {
            let partner = Partner::new(rank - doubling);
            partner.send(grads, counts);
            partner.receive(grads, counts);
            return Ok(());
        }
        if beyond < self.size {
            Partner::new(beyond).receive(their_grads, their_counts);
            add(grads, their_grads);
            add(counts, their_counts);
        }
        let mut bit = 1;
        while bit < doubling {
            let partner = Partner::new(rank ^ bit);
            partner.exchange(grads, their_grads);
            partner.exchange(counts, their_counts);
            add(grads, their_grads);
            add(counts, their_counts);
            bit *= 2;
        }
        if beyond < self.size {
            Partner::new(beyond).send(grads, counts);
        }
        Ok(())
    }
}

/// Another rank.
struct Partner {
    world: SimpleCommunicator,
    rank: i32,
}

impl Partner {
    fn new(rank: usize) -> Self {
        Self { world: SimpleCommunicator::world(), rank: i32::try_from(rank).expect("a rank of MPI") }
    }

    // Nothing is sent of an empty slice, which both sides have.

    fn exchange<T: Equivalence>(&self, own: &[T], theirs: &mut [T]) {
        if !own.is_empty() {
            let process = self.world.process_at_rank(self.rank);
            send_receive_into(own, &process, theirs, &process);
        }
    }

    fn send<R: Equivalence>(&self, grads: &[R], counts: &[f64]) {
        let process = self.world.process_at_rank(self.rank);
        if !grads.is_empty() {
            process.send(grads);
        }
        process.send(counts);
    }

    fn receive<R: Equivalence>(&self, grads: &mut [R], counts: &mut [f64]) {
        let process = self.world.process_at_rank(self.rank);
        if !grads.is_empty() {
            process.receive_into(grads);
        }
        process.receive_into(counts);
    }
}

fn add<T: Copy + std::ops::AddAssign>(own: &mut [T], theirs: &[T]) {
    own.iter_mut().zip(theirs).for_each(|(own, &theirs)| *own += theirs);
}
