//! An LSTM that reads Fashion-MNIST images row by row: 28 time steps of 28 pixels.
//!
//! `cargo run --example fashion_mnist` trains the paper's model, two layers of 35 units, on 48,000 images for 20
//! epochs, measures it on the 10,000 test images, and leaves the model, two pictures and all figures in
//! `target/fashion_mnist`. `-- --help` lists what can be changed.
//!
//! After every epoch the state of the run goes to `run.ckpt` in that folder, and stays there. With `--resume` a run that
//! was cut short goes on from it and ends with the same bits as if it had not been; one that had come to its end does so
//! again at once, or goes on if `--epochs` says more. Without `--resume` the file is written anew.

mod plots;
mod progress;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bptt::data::{Dataset, DatasetExt, FashionMnist};
use bptt::loss::CrossEntropy;
use bptt::nn::{Evaluation, Linear, Lstm, Rnn};
use bptt::optim::Adam;
use bptt::train::{Checkpoint, History};
use bptt::{Model, Trainer};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::json;

/// Train an LSTM to read Fashion-MNIST images row by row.
#[derive(Parser, Serialize)]
struct Args {
    /// Folder with the four official files [default: looked for, beginning with data/fashion-mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Recurrent cell
    #[arg(long, value_enum, default_value_t = Cell::Lstm)]
    cell: Cell,
    /// Units of each recurrent layer
    #[arg(long, value_name = "N", default_value_t = 35)]
    hidden: usize,
    /// Recurrent layers
    #[arg(long, value_name = "N", default_value_t = 2)]
    layers: usize,
    /// How often each image is seen
    #[arg(long, value_name = "N", default_value_t = 20)]
    epochs: usize,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch_size: usize,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE", default_value_t = 0.001, allow_negative_numbers = true)]
    lr: f64,
    /// Training images, of the official 60,000; the others are for validation
    #[arg(long, value_name = "N", default_value_t = 48_000)]
    patterns: usize,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads; they change the time, not the result [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder for the model, the pictures and metrics.json
    #[arg(long, value_name = "DIR", default_value = "target/fashion_mnist")]
    out: PathBuf,
    /// Go on with a run that was cut short, with the same settings and in the same folder
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cell {
    /// Long short-term memory
    Lstm,
    /// Traditional recurrent network with tanh
    Rnn,
}

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let data = FashionMnist::find_in(args.data.as_deref())?;
    let official = data.train().len();
    if !(1..=official).contains(&args.patterns) {
        return Err(format!("--patterns: found {}, expected 1 to {official}", args.patterns).into());
    }
    let (train, valid) = if args.patterns == official {
        (data.train().first(official)?, None)
    } else {
        let (train, valid) = data.train().hold_out(official - args.patterns, args.seed)?;
        (train, Some(valid))
    };

    let builder = Model::builder(train.shape()).normalize(train.mean_sd()?).classes(FashionMnist::CLASSES);
    let builder = match args.cell {
        Cell::Lstm => builder.layer("lstm", Lstm::new(args.hidden).layers(args.layers).last()),
        Cell::Rnn => builder.layer("rnn", Rnn::new(args.hidden).layers(args.layers).last()),
    };
    let mut model = builder.layer("linear", Linear::new(FashionMnist::CLASSES.len())).build(args.seed)?;
    println!("{model}\n");
    match &valid {
        Some(valid) => println!("training on {} images, validating on {}", train.len(), valid.len()),
        None => println!("training on all {} images: none are left for validation", train.len()),
    }

    fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let saved = args.out.join("model.safetensors");
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        // Once to end after the epoch, twice to end at once.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!(
            "\nending after this epoch; what was learnt is saved, and --resume goes on (Ctrl-C again ends at once)"
        );
    })?;
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(args.lr))
        .epochs(args.epochs)
        .batch_size(args.batch_size)
        .seed(args.seed)
        .stop_on(stop)
        .checkpoint(args.out.join("run.ckpt"))
        .resume(args.resume)
        .with(Checkpoint::last(&saved))
        .with(progress::Bars::new());
    if let Some(threads) = args.threads {
        trainer = trainer.threads(threads);
    }
    let history = trainer.fit(&mut model, &train, valid.as_ref().map(|valid| valid as _))?;

    let test = model.evaluate(data.test())?;
    println!("\n{}\n\n{}", test.confusion(), test.confusion().report());
    model.save(&saved)?;
    report(args, &history, &test)?;
    println!("\ntest accuracy {:.2} %; all of it in {}", 100.0 * test.accuracy(), args.out.display());
    Ok(())
}

/// Writes the pictures and `metrics.json`.
fn report(args: &Args, history: &History, test: &Evaluation) -> Result<(), Box<dyn Error>> {
    let confusion = test.confusion();
    let epochs: Vec<_> = history
        .epochs
        .iter()
        .map(|e| plots::EpochPoint {
            epoch: e.epoch,
            train_loss: e.train.loss,
            train_accuracy: e.train.accuracy.unwrap_or(0.0),
            valid_loss: e.valid.map(|v| v.loss),
            valid_accuracy: e.valid.and_then(|v| v.accuracy),
        })
        .collect();
    if !epochs.is_empty() {
        plots::learning_curves(&args.out.join("learning_curves.svg"), &epochs)?;
    }
    let names = FashionMnist::CLASSES;
    plots::confusion(&args.out.join("confusion.svg"), &names, &confusion.rows(), confusion.accuracy())?;

    let epochs = epochs.iter().zip(&history.epochs).map(|(point, epoch)| {
        json!({
            "epoch": point.epoch,
            "train_loss": point.train_loss,
            "train_accuracy": point.train_accuracy,
            "valid_loss": point.valid_loss,
            "valid_accuracy": point.valid_accuracy,
            "seconds": epoch.seconds,
        })
    });
    let metrics = json!({
        "config": args,
        "phases": [{
            "name": "train",
            "epochs": epochs.collect::<Vec<_>>(),
            "test": {
                "accuracy": confusion.accuracy(),
                "precision_macro": confusion.precision_macro(),
                "confusion": confusion.rows(),
            },
        }],
    });
    let path = args.out.join("metrics.json");
    let part = args.out.join("metrics.json.part");
    fs::write(&part, serde_json::to_string_pretty(&metrics)? + "\n")?;
    fs::rename(part, path)?;
    Ok(())
}
