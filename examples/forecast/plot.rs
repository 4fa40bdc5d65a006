//! Pictures of forecasts and their errors.

use bptt::plot::{Chart, Line};

/// The series from month `from` on, with the forecasts, each with its first month.
pub fn forecasts(series: &[f32], from: usize, forecasts: &[(usize, Vec<f32>)]) -> Chart {
    // Month 0 is March 1958.
    let year = |month: usize| 1958.0 + (month as f64 + 2.0) / 12.0;
    let line = |name, start: usize, values: &[f32]| {
        let points = (start..).zip(values).map(|(month, &value)| (year(month), f64::from(value)));
        Line::new(name, points.collect::<Vec<_>>())
    };
    let chart = Chart::new("CO₂ at Mauna Loa, and forecasts of a year", "year", "ppm")
        .size(680, 420)
        .line(line("measured", from, &series[from..]).color(7));
    // One entry in the legend for all.
    let names = ["forecast"].into_iter().chain(std::iter::repeat(""));
    let lines =
        forecasts.iter().zip(names).map(|((start, values), name)| line(name, *start, values).color(1));
    lines.fold(chart, Chart::line)
}

/// The errors of several kinds of forecasts by months ahead.
pub fn errors(errors: &[(&str, Vec<f32>)]) -> Chart {
    let line = |(name, each): &(&str, Vec<f32>)| {
        Line::new(*name, (1..).map(f64::from).zip(each.iter().copied().map(f64::from)).collect::<Vec<_>>())
    };
    let chart = Chart::new("Error by months ahead", "months ahead", "RMSE, ppm").whole_x();
    errors.iter().map(line).fold(chart, Chart::line)
}
