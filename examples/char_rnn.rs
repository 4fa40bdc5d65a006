//! A network that learns to write, letter by letter, from the first volume of Pride and Prejudice.
//!
//! The text is cut into streams that lie side by side in a batch; each step of training goes back through 64 letters and
//! carries its states to the next step (truncated backpropagation through time). A session then measures letters that were
//! held out, and writes text.

#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bptt::ndarray::{Array2, Array3};
use bptt::prelude::*;
use bptt::train::schedule::CosineAnnealing;
use bptt::train::{Clip, Epoch, Flow};
use bptt::{Error, Result, rng};
use clap::Parser;
use program::{End, say};

const TEXT: &str = "data/austen/pride-and-prejudice-1.txt";
/// Letters that a step of training goes back through.
const T: usize = 64;

#[derive(Parser)]
#[command(about = "Learns to write letter by letter, from the first volume of Pride and Prejudice")]
struct Args {
    /// How often the text is read
    #[arg(long, default_value_t = 20)]
    epochs: usize,
    /// Units of the LSTM
    #[arg(long, default_value_t = 128)]
    units: usize,
    /// Streams that the text is cut into: the batch size
    #[arg(long, default_value_t = 32)]
    streams: usize,
    /// Letters to write at the end
    #[arg(long, default_value_t = 400)]
    letters: usize,
    /// Below 1, likely letters become likelier; above 1, unlikely ones
    #[arg(long, default_value_t = 0.6)]
    temperature: f64,
    /// Seed of weights, dropout and writing
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Consecutive windows of T letters, each with the letters that follow.
fn windows(text: &[usize], names: &[String]) -> Result<Arrays> {
    let n = (text.len() - 1) / T;
    let x = Array3::from_shape_fn((n, T, 1), |(i, t, _)| text[i * T + t] as f32);
    let y = Array2::from_shape_fn((n, T), |(i, t)| text[i * T + t + 1] as i64);
    Arrays::step_classes(x, y, names)
}

/// ln p of each class, of logits divided by a temperature.
fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&y| f64::from(y) / temperature).collect();
    let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = scaled.iter().map(|y| (y - max).exp()).sum::<f64>().ln() + max;
    scaled.iter().map(|y| y - sum).collect()
}

/// The mean of −log₂ p of each letter, given all before it in one stream.
fn bits_per_letter(model: &Model, text: &[usize]) -> Result<f64> {
    let mut stream = model.session()?;
    let bits = text.windows(2).map(|pair| -log_softmax(stream.push(&[pair[0] as f32]), 1.0)[pair[1]]);
    Ok(bits.sum::<f64>() / (text.len() - 1) as f64 / std::f64::consts::LN_2)
}

/// Continues a beginning, with each letter drawn from what the model expects after those before it.
fn write(model: &Model, beginning: &[usize], args: &Args) -> Result<Vec<usize>> {
    let mut stream = model.session()?;
    let mut random = rng::rng(rng::key(&[args.seed]));
    let mut text = beginning.to_vec();
    let mut expected = Vec::new();
    beginning.iter().for_each(|&letter| expected = stream.push(&[letter as f32]).to_vec());
    for _ in 0..args.letters {
        let mut left = rng::unit(&mut random);
        let drawn = log_softmax(&expected, args.temperature).iter().position(|p| {
            left -= p.exp();
            left < 0.0
        });
        text.push(drawn.unwrap_or(0));
        expected = stream.push(&[text[text.len() - 1] as f32]).to_vec();
    }
    Ok(text)
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| run(&args))
}

fn run(args: &Args) -> program::Result<End> {
    if args.temperature.is_nan() || args.temperature <= 0.0 {
        return Err(format!("--temperature: found {}, expected a positive number", args.temperature).into());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TEXT);
    let text = std::fs::read_to_string(&path).map_err(Error::io(path))?;
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    let number = |letter: char| letters.binary_search(&letter).expect("a letter of the text");
    let numbers: Vec<usize> = text.chars().map(number).collect();
    // A name is shown, so a line break has one that can be.
    let names: Vec<String> = letters.iter().map(|letter| letter.escape_debug().to_string()).collect();
    let (learnt, held_out) = numbers.split_at(numbers.len() * 9 / 10);
    let train = windows(learnt, &names)?;

    let mut model = Model::builder(train.shape())
        .layer("embedding", Embedding::new(letters.len(), 32))
        .layer("lstm", Lstm::new(args.units))
        .layer("dropout", Dropout::new(0.1))
        .layer("linear", Linear::new(letters.len()))
        .classes(names)
        .build(args.seed)?;
    say(format!("{model}\n"));
    say(format!(
        "{} letters to learn from, {} held out, {} kinds",
        learnt.len(),
        held_out.len(),
        letters.len()
    ));
    say(format!("before: {:.3} bits a letter on those held out", bits_per_letter(&model, held_out)?));
    let start = Instant::now();
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(4e-3))
        .schedule(CosineAnnealing::new(args.epochs.max(1)))
        .clip(Clip::Norm(1.0))
        .stateful()
        .epochs(args.epochs)
        .batch_size(args.streams)
        .seed(args.seed)
        .callback(|epoch: &Epoch| {
            let bits = epoch.train.loss.unwrap_or(f64::NAN) / std::f64::consts::LN_2;
            say(format!(
                "epoch {:>2}: {bits:.3} bits a letter while learning, {:.1} s",
                epoch.epoch, epoch.seconds
            ));
            Flow::Continue
        });
    trainer.fit(&mut model, &train, None)?;
    say(format!(
        "after {:.0} s: {:.3} bits a letter on those held out",
        start.elapsed().as_secs_f64(),
        bits_per_letter(&model, held_out)?
    ));
    let beginning: Vec<usize> = "It is a truth universally acknowledged, that ".chars().map(number).collect();
    let written: String = write(&model, &beginning, args)?.iter().map(|&i| letters[i]).collect();
    say(format!("\n{written}"));
    Ok(End::Finished)
}
