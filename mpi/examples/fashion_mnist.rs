//! The example `fashion_mnist` of the main crate, with the same flags and the same bits, by several ranks.
//!
//! `cargo build --example fashion_mnist` in this folder builds it; then, in the repository's folder,
//! `mpirun -n 4 mpi/target/debug/examples/fashion_mnist --threads 1 --batch-size 512` trains with four ranks. Without `--threads`
//! each rank has as many threads as it may use cores. Other ranks than the first print nothing, and all end together:
//! after an error, and after the epoch in which any of them was told to stop.

#[path = "../../examples/fashion_mnist/app.rs"]
#[allow(dead_code, reason = "the main crate's example is a run of one process")]
mod app;

use std::process::ExitCode;

use app::{Args, Ranks, program};
use clap::Parser;

fn main() -> ExitCode {
    let args = Args::parse();
    bptt_mpi::main(|mpi| -> program::Result<ExitCode> {
        let join = |trainer: bptt::Trainer| trainer.all_reduce(mpi.ranks());
        let ranks = Ranks { rank: mpi.rank(), join: Box::new(join) };
        Ok(program::status(&app::run(&args, app::stop()?, &ranks)?))
    })
}
