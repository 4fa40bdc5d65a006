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

use bptt::data::Windows;
use bptt::ndarray::{Array2, Axis};
use bptt::prelude::*;
use bptt::{Error, Result};
use clap::Parser;
use program::{End, Folder, say};

const SERIES: &str = "data/mauna-loa/co2.csv";
/// Months ahead.
const AHEAD: usize = 12;
/// The first months, since March 1958, of validation (January 1986) and of the test (January 1994).
const SPLIT: [usize; 2] = [334, 430];

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
    let mut file = csv::Reader::from_path(path).map_err(|e| Error::file(path, e.to_string()))?;
    let mut weeks: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for row in file.deserialize() {
        let (date, value): (usize, Option<f32>) = row.map_err(|e| Error::file(path, e.to_string()))?;
        weeks.entry(date / 10_000 * 12 + date / 100 % 100).or_default().extend(value);
    }
    let mean = |values: Vec<f32>| values.iter().sum::<f32>() / values.len() as f32;
    let known: Vec<(usize, f32)> =
        weeks.into_iter().filter(|(_, v)| !v.is_empty()).map(|(m, v)| (m, mean(v))).collect();
    let between = |pair: &[(usize, f32)]| {
        let ((a, from), (b, to)) = (pair[0], pair[1]);
        (a..b).map(move |m| from + (to - from) * (m - a) as f32 / (b - a) as f32)
    };
    let last = known.last().ok_or_else(|| Error::file(path, "found no values"))?.1;
    Ok(known.windows(2).flat_map(between).chain([last]).collect())
}

/// Forecasts and what came, each `[n, AHEAD]`, as differences from the last known month in ppm.
fn forecast(model: &Model, windows: &Windows) -> Result<[Array2<f32>; 2]> {
    Ok([model.predict(windows)?, windows.target_values()?].map(|values| values.remove_axis(Axis(1))))
}

/// The root mean squared errors of forecasts: over all months ahead, and of each.
fn errors(forecast: &Array2<f32>, truth: &Array2<f32>) -> (f32, Vec<f32>) {
    let squares = (forecast - truth).mapv(|d| d * d);
    let each = squares.mean_axis(Axis(0)).expect("some months");
    (each.mean().expect("some months").sqrt(), each.mapv(f32::sqrt).to_vec())
}

/// The best model on the validation years, of several windows and sizes, and the windows of the test years.
fn choose(args: &Args, series: &Array2<f32>) -> program::Result<(Model, Windows)> {
    let mut best: Option<(f32, Model, Windows)> = None;
    say("\nmonths seen  units  epochs  validation RMSE, ppm");
    for months in [12, 24, 36] {
        // CO2 rises: a model that has seen 340 ppm can tell how much comes next, but not what 360 ppm are.
        let windows = Windows::new(series.clone(), months, AHEAD)?.relative([0])?;
        let (known, test) = windows.split_at(SPLIT[1])?;
        let (train, valid) = known.split_at(SPLIT[0])?;
        for units in [8, 24] {
            let mut model = Model::builder(train.shape())
                .normalize(train.mean_sd()?)
                .normalize_targets(train.target_mean_sd()?)
                .layer("lstm", Lstm::new(units).last())
                .layer("linear", Linear::new(AHEAD))
                .build(args.seed)?;
            let mut trainer = Trainer::new(Mse, Adam::new(5e-3))
                .epochs(args.epochs)
                .batch_size(32)
                .seed(args.seed)
                .callback(EarlyStopping::new(60));
            let epochs = trainer.fit(&mut model, &train, Some(&valid))?.epochs.len();
            let [forecast, truth] = forecast(&model, &valid)?;
            let (rmse, _) = errors(&forecast, &truth);
            say(format!("{months:>11}  {units:>5}  {epochs:>6}  {rmse:>9.3}"));
            if best.as_ref().is_none_or(|(least, ..)| rmse < *least) {
                best = Some((rmse, model, test.clone()));
            }
        }
    }
    let (_, model, test) = best.expect("some settings");
    Ok((model, test))
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

    let column = Array2::from_shape_vec((series.len(), 1), series.clone())?;
    let (model, test) = choose(args, &column)?;

    // The years that nothing was chosen on. Differences from the last known month, here and above.
    let [lstm, truth] = forecast(&model, &test)?;
    let since = |i: usize, month: usize| series[month] - series[test.time(i) - 1];
    let year_ago = |i: usize, k: usize| since(i, test.time(i) + k - 12);
    let growth = |i: usize| -since(i, test.time(i) - 13);
    let forecasts = [
        ("last value", Array2::zeros(truth.dim())),
        ("a year ago", Array2::from_shape_fn(truth.dim(), |(i, k)| year_ago(i, k))),
        ("a year ago + growth", Array2::from_shape_fn(truth.dim(), |(i, k)| year_ago(i, k) + growth(i))),
        ("LSTM", lstm),
    ];
    say(format!("\n{} forecasts from {} months, RMSE in ppm", truth.nrows(), test.shape().t));
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
        of.row(i).iter().map(|difference| difference + series[test.time(i) - 1]).collect()
    };
    let shown: Vec<(usize, Vec<f32>)> =
        (0..truth.nrows()).step_by(12).map(|i| (test_from + i, months(&forecasts[3].1, i))).collect();
    let [years, errors] = ["forecast.svg", "errors.svg"].map(|name| folder.path().join(name));
    plot::forecasts(&series, test_from - 24, &shown).save(&years)?;
    plot::errors(&curves).save(&errors)?;
    say(format!("\nthe test years are drawn in {}, the errors in {}", years.display(), errors.display()));
    Ok(End::Finished)
}
