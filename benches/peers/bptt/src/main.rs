//! Our side of compare.py and stream.py. Prints a JSON object:
//!
//! - `peak`: the instruction set, the GFLOP/s of registers on one thread and on all, and how many images a second a small model
//!   reads on the slowest of all threads. Who else computes on the same core slows that down, but not the registers;
//! - `save CELL HIDDEN LAYERS FILE`: nothing; random weights for the following. CELL is `rows`, the paper's model for images
//!   row by row, or `lstm` or `gru`, layers with as many inputs as units;
//! - `train HIDDEN LAYERS BATCH SAMPLES THREADS FOLDER`: the seconds of the second epoch, of the paper's model for images row by
//!   row by Adam. There is no validation, which would take most of the time of a large model;
//! - `infer FILE FOLDER`: the seconds for 10,000 images at several sizes of a call, and for one image;
//! - `step FILE STREAMS`: the nanoseconds of a step of a stream, alone or side by side; see steps.rs.

include!("../../steps.rs");

#[path = "../../../common/peak.rs"]
mod peak;

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

use bptt::data::{Dataset, DatasetExt, FashionMnist};
use bptt::loss::CrossEntropy;
use bptt::ndarray::{Array3, ArrayView2, Axis, s};
use bptt::nn::{Gru, Linear, Lstm, ModelBuilder, Session, Streams};
use bptt::optim::Adam;
use bptt::train::Trainer;
use bptt::{Model, Result, Shape, SimdLevel};
use serde_json::{Map, Value, json};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The seconds of each of `repeats` calls, of which the median counts, after one that does not.
fn seconds(repeats: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        f()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(times))
}

/// The sum over threads that run at once: for each, the median of some hundred bursts, which take so little that other
/// programs disturb few of them.
fn gflops(threads: usize) -> f64 {
    let start = Barrier::new(threads);
    let rate = || {
        start.wait();
        let burst = |_| {
            let begin = Instant::now();
            let operations = black_box(peak::run(peak::ROUNDS)).1;
            1e-9 * operations as f64 / begin.elapsed().as_secs_f64()
        };
        median((0..500).map(burst).collect())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(rate)).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

/// The images a second that the paper's model reads on each of so many threads at once, in bursts of some milliseconds: the
/// median of the slowest.
fn images_a_second(threads: usize) -> Result<f64> {
    let (model, images) =
        (rows(Model::builder(Shape::new(28, 28)), 35, 2)?, Array3::from_elem((32, 28, 28), 0.5));
    let start = Barrier::new(threads);
    let rate = || -> Result<f64> {
        let mut predictor = model.predictor()?;
        start.wait();
        let burst = || (0..8).try_for_each(|_| predictor.predict(&images).map(|y| _ = black_box(y)));
        Ok(8.0 * 32.0 / seconds(15, burst)?)
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(rate)).collect();
        all.into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .try_fold(f64::INFINITY, |least, rate| Ok(least.min(rate?)))
    })
}

/// An LSTM that reads images row by row.
fn rows(builder: ModelBuilder<f32>, hidden: usize, layers: usize) -> Result<Model> {
    builder.layer("rnn", Lstm::new(hidden).layers(layers).last()).layer("linear", Linear::new(10)).build(1)
}

fn train([hidden, layers, batch, samples, threads]: [usize; 5], folder: &str) -> Result<f64> {
    let data = FashionMnist::open(folder)?;
    let data = data.train().first(samples)?;
    let mut model = rows(Model::builder(data.shape()).normalize(data.mean_sd()?), hidden, layers)?;
    let trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3));
    let history = trainer.epochs(2).batch_size(batch).threads(threads).fit(&mut model, &data, None)?;
    Ok(history.epochs[1].seconds)
}

fn save(cell: &str, hidden: usize, layers: usize, file: &str) -> Result<()> {
    let steps = |features| Model::builder(Shape::new(1, features));
    let model: Model = match cell {
        "rows" => rows(Model::builder(Shape::new(28, 28)), hidden, layers)?,
        "lstm" => steps(hidden).layer("rnn", Lstm::new(hidden).layers(layers)).build(1)?,
        _ => steps(hidden).layer("rnn", Gru::new(hidden).layers(layers)).build(1)?,
    };
    model.save(Path::new(file))
}

fn infer(file: &str, folder: &str) -> Result<Value> {
    let (model, data) = (Model::<f32>::load(file)?, FashionMnist::open(folder)?);
    let mut images = Array3::zeros((10_000, 28, 28));
    for (i, mut image) in images.outer_iter_mut().enumerate() {
        image.assign(&data.test().image(i).mapv(|pixel| (f32::from(pixel) / 255.0 - 0.286) / 0.353));
    }
    let mut many = Map::new();
    for size in [64, 250, 1000, 10_000] {
        let all = || {
            images
                .axis_chunks_iter(Axis(0), size)
                .try_for_each(|x| model.predict(x).map(|y| drop(black_box(y))))
        };
        many.insert(size.to_string(), seconds(3, all)?.into());
    }
    let (one, mut predictor) = (images.slice(s![..1, .., ..]), model.predictor()?);
    let alone = seconds(1000, || predictor.predict(black_box(one)).map(|y| _ = black_box(y)))?;
    let output = model.predict(images.slice(s![..64, .., ..]))?;
    Ok(json!({"many": many, "one": alone, "output": output.iter().collect::<Vec<_>>()}))
}

impl Stream for Session<&Model, f32> {
    fn step(&mut self, x: &[f32]) -> &[f32] {
        self.push(x)
    }
}

/// Streams side by side.
impl Stream for Streams<&Model, f32> {
    fn step(&mut self, x: &[f32]) -> &[f32] {
        let n = self.count();
        let x = ArrayView2::from_shape((n, x.len() / n), x).expect("a row for each stream");
        self.push(x).to_slice().expect("rows one after another")
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["peak"] => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let level = SimdLevel::current().name();
            let (one, all, images) = (gflops(1), gflops(threads), images_a_second(threads)?);
            println!(
                "{}",
                json!({"level": level, "threads": threads, "one": one, "all": all, "images": images})
            );
        }
        ["save", cell, hidden, layers, file] => {
            let number = |text: &str| text.parse().expect("a number");
            save(cell, number(hidden), number(layers), file)?;
        }
        ["train", hidden, layers, batch, samples, threads, folder] => {
            let numbers =
                [hidden, layers, batch, samples, threads].map(|text| text.parse().expect("a number"));
            println!("{}", train(numbers, folder)?);
        }
        ["infer", file, folder] => println!("{}", infer(file, folder)?),
        ["step", file, streams] => {
            let (model, streams) = (Model::<f32>::load(file)?, streams.parse().expect("a number"));
            let features = model.input_shape().f;
            match streams {
                1 => time(&mut model.session()?, features, 1),
                n => time(&mut model.streams(n)?, features, n),
            }
        }
        _ => panic!("found the arguments {args:?}, expected those above"),
    }
    Ok(())
}
