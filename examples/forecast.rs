//! Forecasts of a real series: monthly CO₂ at Mauna Loa, up to a year ahead, compared with naive forecasts.
//!
//! The series is split by time: settings are chosen on the years after the training years, and the last years, which
//! nothing depends on, measure the forecasts.

#[path = "shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bptt::data::Windows;
use bptt::metrics::root_mean_squared_error;
use bptt::ndarray::{Array2, Axis};
use bptt::plot::{Chart, Line};
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
    let fault = |e: csv::Error| Error::file(path, e.to_string());
    let mut weeks: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for row in csv::Reader::from_path(path).map_err(fault)?.deserialize() {
        let (date, value): (usize, Option<f32>) = row.map_err(fault)?;
        weeks.entry(date / 10_000 * 12 + date / 100 % 100).or_default().extend(value);
    }
    let mean = |values: Vec<f32>| values.iter().sum::<f32>() / values.len() as f32;
    weeks.retain(|_, values| !values.is_empty());
    let known: Vec<_> = weeks.into_iter().map(|(month, values)| (month, mean(values))).collect();
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

/// The root mean squared error of forecasts.
fn rmse<'a>(truth: impl IntoIterator<Item = &'a f32>, forecast: impl IntoIterator<Item = &'a f32>) -> f64 {
    root_mean_squared_error(truth, forecast).expect("some months")
}

/// The best model on the validation years, of several windows and sizes, and the windows of the test years.
fn choose(args: &Args, series: &Array2<f32>) -> program::Result<(Model, Windows)> {
    let mut best: Option<(f64, Model, Windows)> = None;
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
            let rmse = rmse(&truth, &forecast);
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
    let mut errors = Chart::new("Error by months ahead", "months ahead", "RMSE, ppm").whole_x();
    for (name, forecast) in &forecasts {
        let each = truth.columns().into_iter().zip(forecast.columns());
        let each: Vec<_> = each.map(|(truth, forecast)| rmse(truth, forecast)).collect();
        let some = [1, 3, 6, 12].map(|ahead| format!("  {:.3}", each[ahead - 1])).concat();
        say(format!("{name:>20}  {:>6.3}{some}", rmse(&truth, forecast)));
        errors = errors.line(Line::new(*name, (1..).map(f64::from).zip(each)));
    }
    // Month 0 is March 1958.
    let year = |month: usize| 1958.0 + (month as f64 + 2.0) / 12.0;
    let line = |name, from: usize, values: &[f32]| {
        Line::new(name, (from..).zip(values).map(|(month, &value)| (year(month), f64::from(value))))
    };
    let mut years = Chart::new("CO₂ at Mauna Loa, and forecasts of a year", "year", "ppm").size(680, 420);
    years = years.line(line("measured", test_from - 24, &series[test_from - 24..]).color(7));
    for i in (0..truth.nrows()).step_by(12) {
        let ppm = &forecasts[3].1.row(i) + series[test.time(i) - 1];
        // One entry in the legend for all.
        let name = if i == 0 { "forecast" } else { "" };
        years = years.line(line(name, test_from + i, &ppm.to_vec()).color(1));
    }
    for (chart, name) in [(years, "forecast.svg"), (errors, "errors.svg")] {
        chart.save(folder.path().join(name))?;
    }
    say(format!("\nthe test years and the errors are drawn in {}", folder.path().display()));
    Ok(End::Finished)
}
