//! One model, many streams: each thread has its own streams through one shared model, fed step by step or in chunks, as
//! data arrive. The outputs are those of one pass over the whole sequence, bit for bit.
//!
//! `cargo run --example streaming` prints the number of steps per second.

#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bptt::ndarray::{Array2, Array3, ArrayView2, Axis, s};
use bptt::nn::Session;
use bptt::prelude::*;
use bptt::{SimdLevel, rng};
use clap::Parser;
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;
use program::{End, say};

const FEATURES: usize = 8;

#[derive(Parser)]
#[command(about = "One model, many streams, on all threads")]
struct Args {
    /// Streams, divided among the threads
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// Steps of each stream
    #[arg(long, default_value_t = 20_000)]
    steps: usize,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Feeds a sequence to a stream in chunks of these lengths, cyclically; 1 is a single step.
fn feed(stream: &mut Session<Arc<Model>, f32>, steps: ArrayView2<'_, f32>, chunks: &[usize]) -> Array2<f32> {
    let mut out = Array2::zeros((steps.nrows(), 2));
    let (mut start, mut lengths) = (0, chunks.iter().cycle());
    while start < steps.nrows() {
        let end = steps.nrows().min(start + lengths.next().expect("a cycle of some lengths"));
        if end == start + 1 {
            let step = steps.row(start).to_vec();
            out.row_mut(start).assign(&bptt::ndarray::aview1(stream.push(&step)));
        } else {
            out.slice_mut(s![start..end, ..]).assign(&stream.push_all(steps.slice(s![start..end, ..])));
        }
        start = end;
    }
    out
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| run(&args))
}

fn run(args: &Args) -> program::Result<End> {
    let Args { streams, steps, threads } = *args;
    let (streams, steps, threads) = (streams.max(1), steps.max(1), threads.max(1));
    // Random weights are enough to show streams.
    let model: Model = Model::builder(Shape::new(steps, FEATURES))
        .layer("lstm", Lstm::new(35).layers(2))
        .layer("linear", Linear::new(2))
        .build(1)?;
    say(format!("{model}\n"));
    let x: Array3<f32> =
        Array3::random_using((streams, steps, FEATURES), Uniform::new(-1.0, 1.0)?, &mut rng::rng(1));
    let start = Instant::now();
    let whole = model.predict(&x)?;
    let seconds = start.elapsed().as_secs_f64();
    say(format!("whole sequences, as one batch: {:>9.0} steps/s", (streams * steps) as f64 / seconds));

    let model = Arc::new(model);
    for (what, chunks) in
        [("step by step", &[1][..]), ("in chunks of 64", &[64]), ("in chunks of 1, 2 and 500", &[1, 2, 500])]
    {
        let mut out = Array3::zeros(whole.dim());
        let start = Instant::now();
        std::thread::scope(|scope| {
            let share = streams.div_ceil(threads);
            for (x, mut out) in
                x.axis_chunks_iter(Axis(0), share).zip(out.axis_chunks_iter_mut(Axis(0), share))
            {
                let model = Arc::clone(&model);
                scope.spawn(move || {
                    for (x, mut out) in x.outer_iter().zip(out.outer_iter_mut()) {
                        let mut stream = Session::new(Arc::clone(&model)).expect("an LSTM streams");
                        out.assign(&feed(&mut stream, x, chunks));
                    }
                });
            }
        });
        let rate = (streams * steps) as f64 / start.elapsed().as_secs_f64();
        let different = out.iter().zip(&whole).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        say(format!(
            "{what:>29}: {rate:>9.0} steps/s on {threads} threads, {different} of {} values differ",
            whole.len()
        ));
        // A single sample rounds differently only where multiply and add are not fused.
        assert!(different == 0 || SimdLevel::current() == SimdLevel::Portable);
    }

    // A state can be moved from one stream to another, for example after a restart or on another machine.
    let half = steps / 2;
    let (before, after) = x.index_axis(Axis(0), 0).split_at(Axis(0), half);
    let mut first = Session::new(Arc::clone(&model))?;
    first.push_all(before);
    let mut second = Session::new(Arc::clone(&model))?;
    second.set_state(0, &first.state(0));
    assert_eq!(second.push_all(after), first.push_all(after));
    say(format!("a stream whose state was moved after {half} steps continues with the same bits"));
    Ok(End::Finished)
}
