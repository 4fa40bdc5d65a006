//! An LSTM that reads Fashion-MNIST images row by row: 28 time steps of 28 pixels.
//!
//! `cargo run --example fashion_mnist` makes the paper's final model: two layers of 35 units, trained on 48,000 images
//! for 20 epochs, pruned at 0.03, retrained for 20 epochs. Each of the three is measured once on the 10,000 test
//! images. The model, a report with its pictures and all figures go to `target/fashion_mnist`. `-- --help` lists what can be changed.
//!
//! With `--shrink`, units are cut rather than weights: the saved model is smaller and faster, and it is compared with one of its
//! size that was trained from scratch.
//!
//! After every epoch the state of the run is written to `train.ckpt` or `retrain.ckpt` in that folder, and kept. With
//! `--resume` an interrupted run continues from them and ends with the same bits as if it had not been interrupted; a
//! finished run ends at once, or continues if `--epochs` is larger. Without `--resume` the run begins again. Ctrl-C ends a
//! run after its epoch, with status 130.

// The package in `mpi/` has the same example for several ranks.
#[path = "app.rs"]
mod app;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = app::Args::parse();
    app::program::main(|| app::run(&args, app::stop()?, &app::Ranks::one()))
}
