//! Training with [`bptt`] over MPI.
//!
//! - [`main`] starts MPI and runs a program at every rank; an error or a panic at one rank ends all of them.
//! - [`Mpi::ranks`] makes a run of [`bptt::Trainer`] one of all ranks, which divide its batches and its validation. It has the
//!   bits of one process at any number of ranks, 1 to 16.
//! - [`Mpi::study`] shares the runs of a [`bptt::tune::Study`] among the ranks.
//!
//! An MPI library and libclang are needed to build it; `docs/distributed.md` in the repository says how to get them, what a
//! step exchanges, and where it pays.
//!
//! # Examples
//! ```no_run
//! use std::process::ExitCode;
//!
//! use bptt::data::{Dataset, FashionMnist};
//! use bptt::prelude::*;
//!
//! fn main() -> ExitCode {
//!     bptt_mpi::main(|mpi| {
//!         let data = FashionMnist::open("data/fashion-mnist")?;
//!         let mut model = Model::builder(data.train().shape())
//!             .layer("lstm", Lstm::new(128).last())
//!             .layer("linear", Linear::new(10))
//!             .build(1)?;
//!         let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3))
//!             .batch_size(512)
//!             .all_reduce(mpi.ranks());
//!         trainer.fit(&mut model, data.train(), Some(data.test()))?;
//!         if mpi.rank() == 0 {
//!             model.save("model.safetensors")?;
//!         }
//!         Ok::<_, bptt::Error>(ExitCode::SUCCESS)
//!     })
//! }
//! ```
//! `mpirun -n 4 program` then trains with four ranks.

#![forbid(unsafe_code)]

mod farm;
mod ranks;

pub use ranks::Ranks;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use bptt::{Error, Result};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;

/// How long a rank with an error waits before it ends all ranks, so that the one with the cause can also print it.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// The statuses of a program that an error ended, and of one that a panic did.
const FAILED: i32 = 1;
const PANICKED: i32 = 101;

/// MPI in this process, from its start to its end.
pub struct Mpi {
    /// MPI ends when it is dropped.
    _universe: Universe,
    rank: usize,
    size: usize,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Mpi {
    /// Starts MPI, which a process can do only once. A program that is not started by `mpirun` is one rank.
    ///
    /// From here on a panic in any thread ends all ranks, after its message: the others would wait for this one forever.
    /// [`main`] does the same for errors.
    ///
    /// # Errors
    /// If MPI was already started in this process, or the library does not allow calls from several threads in turn.
    pub fn init() -> Result<Self> {
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) =
            started.ok_or_else(|| Error::config("mpi", "found it started already, expected one start"))?;
        if threading < Threading::Serialized {
            let fault = format!("found a library with threads {threading:?}, expected at least Serialized");
            return Err(Error::config("mpi", fault));
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            hook(panic);
            SimpleCommunicator::world().abort(PANICKED);
        }));
        let world = universe.world();
        // MPI counts in signed integers, and neither is negative.
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Self { _universe: universe, rank, size })
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All ranks, for [`Trainer::all_reduce`](bptt::Trainer::all_reduce). They must not be used after this value is dropped.
    pub fn ranks<R: Default + Clone>(&self) -> Ranks<R> {
        Ranks::new(self.rank, self.size)
    }
}

/// Starts MPI and runs `program` at this rank; its status is the program's.
///
/// An error is printed with the number of its rank, and ends all ranks with status 1.
pub fn main<E: Display + From<Error>>(program: impl FnOnce(&Mpi) -> Result<ExitCode, E>) -> ExitCode {
    let mpi = match Mpi::init() {
        Ok(mpi) => mpi,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match program(&mpi) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rank {}: error: {error}", mpi.rank);
            std::thread::sleep(LAST_WORDS);
            SimpleCommunicator::world().abort(FAILED)
        }
    }
}
