//! Forecasts of a real series: monthly CO₂ at Mauna Loa, up to a year ahead, compared with naive forecasts.
//!
//! The series is split by time: settings are chosen on the years after the training years, and the last years, which
//! nothing depends on, measure the forecasts.

mod plot;
#[path = "../shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bptt::ndarray::{Array2, Array3, Axis};
use bptt::prelude::*;
use bptt::{Error, Result};
use clap::Parser;
use program::{End, Folder, say};

const SERIES: &str = "data/mauna-loa/co2.csv";
/// Months ahead.
const AHEAD: usize = 12;
/// The first months, since March 1958, of validation (January 1986) and of the test (January 1994).
const SPLIT: [usize; 2] = [334, 430];
/// What values are divided by, so that they are of the order of 1, in ppm.
const SCALE: f32 = 4.0;

#[derive(Parser)]
#[command(about = "Forecasts CO2 at Mauna Loa up to a year ahead, against naive forecasts")]
struct Args {
    /// The most epochs; the best one on the validation years is kept
    #[arg(long, default_value_t = 400)]
    epochs: usize,
    /// Seed of weights and shuffles
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the picture
    #[arg(long, default_value = "target/forecast")]
    out: PathBuf,
}

/// Monthly means from weekly ones, `yyyymmdd,value`; the few months without a value are interpolated linearly.
fn months(path: &Path) -> Result<Vec<f32>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut weeks: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for (i, line) in text.lines().enumerate().skip(1) {
        let bad = || Error::file(path, format!("line {}: found `{line}`, expected yyyymmdd,value", i + 1));
        let (date, value) = line.split_once(',').ok_or_else(bad)?;
        let date: usize = date.parse().map_err(|_| bad())?;
        let month = weeks.entry(date / 10_000 * 12 + date / 100 % 100).or_default();
        if !value.is_empty() {
            month.push(value.parse().map_err(|_| bad())?);
        }
    }
    let mean = |values: &Vec<f32>| values.iter().sum::<f32>() / values.len() as f32;
    let known: Vec<(usize, f32)> =
        weeks.iter().filter(|(_, v)| !v.is_empty()).map(|(&m, v)| (m, mean(v))).collect();
    let between = |pair: &[(usize, f32)]| {
        let ((a, from), (b, to)) = (pair[0], pair[1]);
        (a..b).map(move |m| from + (to - from) * (m - a) as f32 / (b - a) as f32)
    };
    let last = known.last().ok_or_else(|| Error::file(path, "found no values"))?.1;
    Ok(known.windows(2).flat_map(between).chain([last]).collect())
}

/// For each year that begins at `from` or later and ends before `to`, its months and the `window` months before it:
/// `[n, window, 1]` and `[n, AHEAD]`, as differences from the last known month.
fn windows(series: &[f32], window: usize, from: usize, to: usize) -> (Array3<f32>, Array2<f32>) {
    let first = from.max(window);
    let at = |i: usize, t: usize| (series[first + i - window + t] - series[first + i - 1]) / SCALE;
    let n = to - AHEAD + 1 - first;
    (
        Array3::from_shape_fn((n, window, 1), |(i, t, _)| at(i, t)),
        Array2::from_shape_fn((n, AHEAD), |(i, k)| at(i, window + k)),
    )
}

/// The root mean squared errors of forecasts, `[n, AHEAD]`, in ppm: over all months ahead, and of each.
fn errors(forecast: &Array2<f32>, truth: &Array2<f32>) -> (f32, Vec<f32>) {
    let squares = (forecast - truth).mapv(|d| (SCALE * d).powi(2));
    let each = squares.mean_axis(Axis(0)).expect("some months");
    (each.mean().expect("some months").sqrt(), each.mapv(f32::sqrt).to_vec())
}

/// The best model on the validation years, of several windows and sizes, with the months that it sees.
fn choose(args: &Args, series: &[f32]) -> program::Result<(usize, Model)> {
    let [valid_from, test_from] = SPLIT;
    let mut best: Option<(f32, usize, Model)> = None;
    say("\nmonths seen  units  epochs  validation RMSE, ppm");
    for window in [12, 24, 36] {
        for units in [8, 24] {
            let data = |from, to| {
                let (x, y) = windows(series, window, from, to);
                Arrays::vectors(x, y)
            };
            let (train, valid) = (data(0, valid_from)?, data(valid_from, test_from)?);
            let mut model = Model::builder(train.shape())
                .layer("lstm", Lstm::new(units).last())
                .layer("linear", Linear::new(AHEAD))
                .build(args.seed)?;
            let mut trainer = Trainer::new(Mse, Adam::new(5e-3))
                .epochs(args.epochs)
                .batch_size(32)
                .seed(args.seed)
                .callback(EarlyStopping::new(60));
            let epochs = trainer.fit(&mut model, &train, Some(&valid))?.epochs.len();
            let loss = model.evaluate_with(&valid, &Mse)?.loss().ok_or("there are no targets")?;
            let rmse = SCALE * loss.sqrt() as f32;
            say(format!("{window:>11}  {units:>5}  {epochs:>6}  {rmse:>9.3}"));
            if best.as_ref().is_none_or(|(least, ..)| rmse < *least) {
                best = Some((rmse, window, model));
            }
        }
    }
    let (_, window, model) = best.expect("some settings");
    Ok((window, model))
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| run(&args))
}

fn run(args: &Args) -> program::Result<End> {
    let folder = Folder::open(&args.out)?;
    let series = months(&Path::new(env!("CARGO_MANIFEST_DIR")).join(SERIES))?;
    let [valid_from, test_from] = SPLIT;
    say(format!(
        "{} months: {valid_from} to learn from, {} to choose by, {} to test on",
        series.len(),
        test_from - valid_from,
        series.len() - test_from
    ));

    let (window, model) = choose(args, &series)?;

    // The years that nothing was chosen on. Differences from the last known month, here and above.
    let (x, truth) = windows(&series, window, test_from, series.len());
    let lstm = model.predict(&x)?.remove_axis(Axis(1));
    let year_ago = |i: usize, k: usize| (series[test_from + i + k - 12] - series[test_from + i - 1]) / SCALE;
    let growth = |i: usize| (series[test_from + i - 1] - series[test_from + i - 13]) / SCALE;
    let forecasts = [
        ("last value", Array2::zeros(truth.dim())),
        ("a year ago", Array2::from_shape_fn(truth.dim(), |(i, k)| year_ago(i, k))),
        ("a year ago + growth", Array2::from_shape_fn(truth.dim(), |(i, k)| year_ago(i, k) + growth(i))),
        ("LSTM", lstm),
    ];
    say(format!("\n{} forecasts from {window} months, RMSE in ppm", truth.nrows()));
    say(format!("{:>20}  {:>6}  1, 3, 6 and 12 months ahead", "", "all"));
    let mut curves = Vec::new();
    for (name, forecast) in &forecasts {
        let (all, each) = errors(forecast, &truth);
        say(format!(
            "{name:>20}  {all:>6.3}  {:.3}  {:.3}  {:.3}  {:.3}",
            each[0], each[2], each[5], each[11]
        ));
        curves.push((*name, each));
    }
    let months = |of: &Array2<f32>, i: usize| {
        of.row(i).iter().map(|d| SCALE * d + series[test_from + i - 1]).collect()
    };
    let shown: Vec<(usize, Vec<f32>)> =
        (0..truth.nrows()).step_by(12).map(|i| (test_from + i, months(&forecasts[3].1, i))).collect();
    let [years, errors] = ["forecast.svg", "errors.svg"].map(|name| folder.path().join(name));
    plot::forecasts(&series, test_from - 24, &shown).save(&years)?;
    plot::errors(&curves).save(&errors)?;
    say(format!("\nthe test years are drawn in {}, the errors in {}", years.display(), errors.display()));
    Ok(End::Finished)
}
