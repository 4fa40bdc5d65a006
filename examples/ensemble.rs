//! Several trained models as one: the mean of their probabilities.
//!
//! `cargo run --example ensemble -- target/seeds/*/model.safetensors` reads models that the example `fashion_mnist` saved, such as
//! those of several seeds, and prints the accuracy of each on the test images, their mean and sd, the accuracy of all
//! together, and the recall of each class.
//!
//! `--outputs` also saves each model's outputs beside it, and the model as an ONNX file, which
//! `scripts/fashion_mnist_check.py` compares.

#[path = "shared/fashion_mnist.rs"]
mod find;
#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bptt::data::{FashionMnist, Images, Sample};
use bptt::metrics::ConfusionMatrix;
use bptt::ndarray::{Array3, Axis};
use bptt::prelude::*;
use clap::Parser;
use program::{End, say};

#[derive(Parser)]
#[command(about = "The accuracy of trained models on Fashion-MNIST's test images, one by one and together")]
struct Args {
    /// Models that the example `fashion_mnist` saved
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Also save MODEL's outputs as MODEL.f32 (little-endian, ten for each image), and the model as MODEL.onnx, in place of its
    /// extension
    #[arg(long)]
    outputs: bool,
    /// Folder with the four official files [default: looked for, beginning with data/fashion-mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| run(&args))
}

fn run(args: &Args) -> program::Result<End> {
    let data = find::find(args.data.as_deref())?;
    let test = data.test();
    let (mut single, mut sum) = (Vec::new(), Array3::zeros((test.len(), 1, FashionMnist::CLASSES.len())));
    say("accuracy  parameters  10,000 images    one image  model");
    for path in &args.models {
        let model: Model = Model::load(path)?;
        let start = Instant::now();
        let probabilities = model.predict_proba(test)?;
        let seconds = start.elapsed().as_secs_f64();
        let confusion = confusion(test, &probabilities)?;
        say(format!(
            "{:6.2} %  {:10}  {seconds:11.2} s  {:8.0} µs  {}",
            100.0 * confusion.accuracy(),
            model.parameter_count(),
            1e6 * alone(&model, test)?,
            path.display()
        ));
        if args.outputs {
            save(&model, test, path)?;
        }
        sum += &probabilities;
        single.push(confusion);
    }
    let accuracies: Vec<f64> = single.iter().map(|one| 100.0 * one.accuracy()).collect();
    let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let squares = accuracies.iter().map(|accuracy| (accuracy - mean).powi(2)).sum::<f64>();
    let sd = (squares / (accuracies.len() as f64 - 1.0).max(1.0)).sqrt();
    let together = confusion(test, &sum)?;
    say(format!(
        "\nmean {mean:.2} %, sd {sd:.2}, best {:.2} %",
        accuracies.iter().copied().fold(0.0, f64::max)
    ));
    say(format!("together {:.2} %\n\nrecall       mean  together", 100.0 * together.accuracy()));
    for (class, name) in FashionMnist::CLASSES.iter().enumerate() {
        let recall = single.iter().map(|one| one.recall(class)).sum::<f64>() / single.len() as f64;
        say(format!("{name:11} {:4.1} %    {:4.1} %", 100.0 * recall, 100.0 * together.recall(class)));
    }
    Ok(End::Finished)
}

/// What the classes with the largest of these probabilities, `[n, 1, C]`, are in truth.
fn confusion(test: &Images, probabilities: &Array3<f32>) -> bptt::Result<ConfusionMatrix> {
    let mut confusion = ConfusionMatrix::new(FashionMnist::CLASSES.len());
    for (i, row) in probabilities.rows().into_iter().enumerate() {
        let mut truth = [0];
        test.classes(Sample::plain(i), &mut truth);
        let largest = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class);
        confusion.add(truth[0] as usize, largest);
    }
    Ok(confusion)
}

/// The seconds for one image, the median of many.
fn alone(model: &Model, test: &Images) -> bptt::Result<f64> {
    let mut image = vec![0.0; model.input_shape().size()];
    test.read(Sample::plain(0), &mut image);
    let image = Array3::from_shape_vec((1, 28, 28), image).expect("the shape of an image");
    let mut predictor = model.predictor()?;
    let mut seconds = Vec::new();
    for _ in 0..501 {
        let start = Instant::now();
        predictor.predict(&image)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Saves the model's outputs, and the model as ONNX.
fn save(model: &Model, test: &Images, path: &Path) -> program::Result<()> {
    let outputs = model.predict(test)?;
    let bytes: Vec<u8> = outputs.index_axis(Axis(1), 0).iter().flat_map(|y| y.to_le_bytes()).collect();
    bptt::atomic_write(path.with_extension("f32"), bytes)?;
    model.export_onnx(path.with_extension("onnx"))?;
    Ok(())
}
