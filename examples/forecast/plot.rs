//! A picture of forecasts and their errors.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Told apart by people who do not see all colours (Okabe and Ito).
const COLORS: [RGBColor; 4] =
    [RGBColor(0, 158, 115), RGBColor(230, 159, 0), RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// The series from month `from` on with the forecasts, each with its first month, and beside it the errors of several
/// kinds of forecasts by months ahead, as SVG; the last kind has the forecasts' colour.
///
/// # Errors
/// If it cannot be drawn.
pub fn draw(
    series: &[f32],
    from: usize,
    forecasts: &[(usize, Vec<f32>)],
    errors: &[(&str, Vec<f32>)],
) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1100, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(680);
        draw_forecasts(&left, &series[from..], from, forecasts)?;
        draw_errors(&right, errors)?;
        root.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Draws `shown`, whose first month is `from`, with the forecasts.
fn draw_forecasts(
    area: &Area,
    shown: &[f32],
    from: usize,
    forecasts: &[(usize, Vec<f32>)],
) -> Result<(), Box<dyn Error>> {
    // Month 0 is March 1958.
    let year = |month: usize| 1958.0 + (month as f32 + 2.0) / 12.0;
    let least = shown.iter().copied().fold(f32::INFINITY, f32::min);
    let most = shown.iter().copied().fold(f32::NEG_INFINITY, f32::max);

    let mut chart = ChartBuilder::on(area)
        .caption("CO₂ at Mauna Loa, and forecasts of a year", font(18))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(year(from)..year(from + shown.len()), least - 1.0..most + 1.0)?;
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(GRID).light_line_style(TRANSPARENT).axis_style(INK).label_style(font(13));
    mesh.x_label_formatter(&|year| format!("{year:.0}")).y_label_formatter(&|ppm| format!("{ppm:.0}"));
    mesh.y_desc("ppm").draw()?;
    let line = |start: usize, values: &[f32]| -> Vec<(f32, f32)> {
        values.iter().enumerate().map(|(i, &value)| (year(start + i), value)).collect()
    };
    chart.draw_series(LineSeries::new(line(from, shown), INK.stroke_width(1)))?;
    for (start, values) in forecasts {
        chart.draw_series(LineSeries::new(line(*start, values), COLORS[3].stroke_width(2)))?;
    }
    Ok(())
}

/// Draws the errors of each kind of forecast by months ahead.
fn draw_errors(area: &Area, errors: &[(&str, Vec<f32>)]) -> Result<(), Box<dyn Error>> {
    let most = errors.iter().flat_map(|(_, each)| each).copied().fold(0.0, f32::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Error by months ahead", font(18))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(1..errors[0].1.len(), 0.0..1.5 * most)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().bold_line_style(GRID).light_line_style(TRANSPARENT).axis_style(INK);
    mesh.label_style(font(13)).x_desc("months ahead").y_desc("RMSE, ppm").draw()?;
    for ((name, each), color) in errors.iter().zip(COLORS) {
        let points = (1..).zip(each.iter().copied());
        let series = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        series
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperLeft).label_font(font(13)).draw()?;
    Ok(())
}
