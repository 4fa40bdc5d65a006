//! The next day's demand for power, from two weeks of demand, temperature and day of the week.

use bptt::data::Windows;
use bptt::metrics::root_mean_squared_error as rmse;
use bptt::ndarray::{Array2, Axis};
use bptt::nn::EmbedColumns;
use bptt::prelude::*;
use bptt::rng;

const DEMAND: usize = 0;
const WEEKDAY: usize = 2;

/// `[days, 3]`: demand in MW, temperature in degrees, day of the week. Cold days and working days need more, and what is
/// needed changes slowly.
fn series(days: usize) -> Array2<f32> {
    let mut rng = rng::rng(3);
    let mut series = Array2::zeros((days, 3));
    let (mut weather, mut habit) = (0.0, 0.0);
    for (day, mut row) in series.rows_mut().into_iter().enumerate() {
        let [a, b] = rng::normals(&mut rng);
        let [noise, _] = rng::normals(&mut rng);
        weather = 0.8 * weather + 2.0 * a;
        habit = 0.98 * habit + 10.0 * b;
        let temperature = 10.0 - 12.0 * (day as f64 / 365.25 * std::f64::consts::TAU).cos() + weather;
        let working = if day % 7 < 5 { 120.0 } else { 0.0 };
        let heating = 15.0 * (16.0 - temperature).max(0.0);
        row[DEMAND] = (2_000.0 + working + heating + habit + 20.0 * noise) as f32;
        (row[1], row[WEEKDAY]) = (temperature as f32, (day % 7) as f32);
    }
    series
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let series = series(1_500);
    let windows = Windows::new(series.clone(), 14, 1)?.targets([DEMAND])?;
    let (train, test) = windows.split_at(1_200)?;
    let (train, valid) = train.split_at(1_000)?;

    let mut model = Model::builder(train.shape())
        .normalize(train.mean_sd_per_feature()?.except([WEEKDAY])?)
        .normalize_targets(train.target_mean_sd()?) // undone in whatever predicts
        .layer("weekday", EmbedColumns::new().column(WEEKDAY, 7, 3))
        .layer("lstm", Lstm::new(24).last())
        .layer("linear", Linear::new(1))
        .build(1)?;
    let mut trainer =
        Trainer::new(Mse, Adam::new(5e-3)).epochs(40).batch_size(32).seed(1).callback(EarlyStopping::new(8));
    trainer.fit(&mut model, &train, Some(&valid))?;

    let file = std::env::temp_dir().join(format!("demand-{}.safetensors", std::process::id()));
    model.save(&file)?;
    let model: Model = Model::load(&file)?; // with the units of its forecasts
    std::fs::remove_file(&file)?;

    let truth = test.target_values()?;
    let of_days_before = |days: usize| {
        let rows: Vec<usize> = (0..test.len()).map(|i| test.time(i) - days).collect();
        series.select(Axis(0), &rows).column(DEMAND).to_owned()
    };
    let error = rmse(&truth, &model.predict(&test)?).ok_or("no days")?;
    let [yesterday, last_week] = [1, 7].map(|days| rmse(&truth, &of_days_before(days)).unwrap_or(0.0));
    println!("RMSE in MW: {error:.1}; yesterday's demand {yesterday:.1}, last week's {last_week:.1}");
    assert!(error < 0.75 * yesterday.min(last_week));

    println!("tomorrow: {:.0} MW", model.predict(&windows.latest())?[[0, 0, 0]]);
    Ok(())
}
