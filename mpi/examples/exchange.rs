//! What the exchange of a step costs: `mpirun -n 2 mpi/target/release/examples/exchange`, after `cargo build --release
//! --example exchange` in this folder. It sums gradients of the sizes of docs/distributed.md and prints the median time.

use std::process::ExitCode;
use std::time::Instant;

use bptt::train::AllReduce;

/// Parameters of two LSTM layers of 35, 128 and 512 units and a linear one.
const SIZES: [usize; 4] = [1, 19_540, 214_282, 3_216_394];
const ROUNDS: usize = 51;

fn main() -> ExitCode {
    bptt_mpi::main(|mpi| {
        let ranks = mpi.ranks::<f32>();
        for size in SIZES {
            let (mut grads, mut counts) = (vec![0.0_f32; size], [0.0; 5]);
            let mut times: Vec<f64> = Vec::new();
            for _ in 0..ROUNDS {
                let start = Instant::now();
                ranks.sum(&mut grads, &mut counts)?;
                times.push(start.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            if mpi.rank() == 0 {
                let median = 1e6 * times[ROUNDS / 2];
                println!("{} ranks, {} bytes: {median:.0} µs", mpi.size(), 4 * size + 8 * counts.len());
            }
        }
        Ok::<_, bptt::Error>(ExitCode::SUCCESS)
    })
}
