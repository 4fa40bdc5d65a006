//! A strip of garments read as a string, by connectionist temporal classification: where one image ends and the next one
//! begins is not said, in training as little as later.
//!
//! `cargo run --example garments` puts two to five Fashion-MNIST images below one another, each after a gap of random
//! height, trains an LSTM in both directions that reads the strip row by row, and prints the edit distance on strips of
//! test images.

#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::process::ExitCode;
use std::time::Instant;

use bptt::data::{FashionMnist, Images, Sample, TargetShape};
use bptt::loss::Ctc;
use bptt::metrics::edit_distance;
use bptt::ndarray::{Axis, s};
use bptt::prelude::*;
use bptt::rng;
use bptt::train::{Clip, ProgressBar};
use clap::Parser;
use program::{End, say};

/// Images in a strip, at most and at least.
const MOST: usize = 5;
const LEAST: usize = 2;
/// Rows and columns of an image.
const SIDE: usize = 28;
/// A gap before an image has fewer rows than this.
const GAP: usize = 8;

#[derive(Parser)]
#[command(about = "A strip of garments read as a string")]
struct Args {
    /// Strips to train on
    #[arg(long, default_value_t = 6000)]
    samples: usize,
    /// Epochs
    #[arg(long, default_value_t = 12)]
    epochs: usize,
    /// Units of the LSTM, in each direction
    #[arg(long, default_value_t = 48)]
    units: usize,
    /// Seed of weights, strips and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Strips of random images, computed when they are read.
struct Strips<'a> {
    images: &'a Images<f32>,
    n: usize,
    seed: u64,
    /// The blank, then the classes.
    names: Vec<String>,
}

impl<'a> Strips<'a> {
    fn new(images: &'a Images<f32>, n: usize, seed: u64) -> Self {
        let classes = FashionMnist::CLASSES.into_iter();
        let names = std::iter::once("blank").chain(classes).map(str::to_owned).collect();
        Self { images, n, seed, names }
    }

    /// The images of a strip, each with the row where it begins.
    fn parts(&self, sample: usize) -> impl Iterator<Item = (usize, usize)> {
        let draw = move |what: usize| rng::key(&[self.seed, sample as u64, what as u64]) as usize;
        let count = LEAST + draw(0) % (MOST - LEAST + 1);
        (0..count).scan(0, move |row, i| {
            let first = *row + draw(2 * i + 1) % GAP;
            *row = first + SIDE;
            Some((draw(2 * i + 2) % self.images.len(), first))
        })
    }
}

impl Dataset for Strips<'_> {
    type Elem = f32;

    fn len(&self) -> usize {
        self.n
    }

    fn shape(&self) -> Shape {
        Shape::new(MOST * (SIDE + GAP - 1), SIDE)
    }

    fn target_shape(&self) -> TargetShape {
        TargetShape::Labels { most: MOST }
    }

    fn length(&self, sample: Sample) -> Option<usize> {
        self.parts(sample.index).last().map(|(_, first)| first + SIDE)
    }

    fn read(&self, sample: Sample, x: &mut [f32]) {
        x.fill(0.0);
        for (image, first) in self.parts(sample.index) {
            let pixels = self.images.image(image);
            let rows = &mut x[first * SIDE..][..SIDE * SIDE];
            rows.iter_mut().zip(pixels).for_each(|(x, &pixel)| *x = f32::from(pixel) / 255.0);
        }
    }

    fn classes(&self, sample: Sample, labels: &mut [i64]) {
        labels.fill(-1);
        for (label, (image, _)) in labels.iter_mut().zip(self.parts(sample.index)) {
            *label = 1 + i64::from(self.images.labels()[image]);
        }
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }
}

/// The garments of a strip as text.
fn text(labels: &[usize]) -> String {
    labels.iter().map(|&label| FashionMnist::CLASSES[label - 1]).collect::<Vec<_>>().join(", ")
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| run(&args))
}

fn run(args: &Args) -> program::Result<End> {
    let data = FashionMnist::open("data/fashion-mnist")?;
    let train = Strips::new(data.train(), args.samples, args.seed);
    let test = Strips::new(data.test(), 1000, args.seed);
    let mut model = Model::builder(train.shape())
        .normalize(train.mean_sd()?)
        .layer("lstm", Lstm::new(args.units).layers(2).bidirectional())
        .layer("linear", Linear::new(train.names.len()))
        .classes(train.names.clone())
        .build(args.seed)?;
    say(format!("{model}\n"));

    let (ctc, start) = (Ctc::new(), Instant::now());
    Trainer::new(ctc.clone(), Adam::new(3e-3))
        .epochs(args.epochs)
        .batch_size(64)
        .seed(args.seed)
        .clip(Clip::Norm(1.0))
        .callback(ProgressBar::new())
        .fit(&mut model, &train, None)?;
    let seconds = start.elapsed().as_secs_f64();

    let outputs = model.predict(&test)?;
    let (mut distances, mut garments, mut exact) = ([0, 0], 0, 0);
    for (i, y) in outputs.axis_iter(Axis(0)).enumerate() {
        let (sample, mut truth) = (Sample::plain(i), [0; MOST]);
        test.classes(sample, &mut truth);
        let truth: Vec<_> = truth.iter().filter_map(|&label| usize::try_from(label).ok()).collect();
        let y = y.slice_move(s![..test.length(sample).unwrap_or(y.nrows()), ..]);
        let greedy = ctc.greedy(&y);
        let beam = ctc.beam(&y, 8).swap_remove(0).0;
        if i < 3 {
            say(format!("shown  {}\nread   {}\n", text(&truth), text(&greedy)));
        }
        distances[0] += edit_distance(&truth, &greedy);
        distances[1] += edit_distance(&truth, &beam);
        garments += truth.len();
        exact += usize::from(beam == truth);
    }
    let rate = |distance: usize| 100.0 * distance as f64 / garments as f64;
    say(format!(
        "on {} strips of test images: edit distance {:.2} per 100 garments (by a beam of 8: {:.2}), {exact} strips without \
         a fault; trained in {seconds:.1} s",
        test.len(),
        rate(distances[0]),
        rate(distances[1])
    ));
    Ok(End::Finished)
}
