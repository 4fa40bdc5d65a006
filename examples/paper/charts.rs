//! Charts as SVG, in a few known colours without a background, so that the page can give them others in the dark.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::plots::{Area, Axis, INK, Result, axes, bold, range, text};

/// A curve, and the sd of each of its values.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub sd: Vec<f64>,
    /// The paper's are dashed.
    pub dashed: bool,
    /// The place of its colour.
    pub color: usize,
}

/// A chart of lines.
pub struct Chart {
    pub title: &'static str,
    pub x: &'static str,
    /// Whether the distances along x are those of logarithms.
    pub log: bool,
    pub y: &'static str,
    pub lines: Vec<Line>,
}

impl Chart {
    /// Whether there is anything to draw: not where all runs failed.
    pub fn is_drawn(&self) -> bool {
        self.lines.iter().any(|line| !line.points.is_empty())
    }

    /// Where a value of x is drawn.
    fn place(&self, x: f64) -> f64 {
        if self.log { x.log10() } else { x }
    }
}

/// The page has a lighter one for each in the dark.
pub const COLORS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(200, 70, 20),
    RGBColor(30, 130, 60),
    RGBColor(130, 80, 170),
    RGBColor(150, 100, 10),
    RGBColor(200, 50, 120),
    RGBColor(0, 130, 140),
    RGBColor(100, 100, 110),
];

/// A small chart, legible on a phone.
const SIZE: (u32, u32) = (440, 310);

/// Lines with their names above, and whiskers of one sd.
///
/// # Errors
/// If there is nothing to draw.
pub fn lines(chart: &Chart) -> Result<String> {
    let points = || chart.lines.iter().flat_map(|line| &line.points).map(|&(x, y)| (chart.place(x), y));
    let ends = chart
        .lines
        .iter()
        .flat_map(|line| line.points.iter().zip(&line.sd).flat_map(|((_, y), sd)| [y - sd, y + sd]));
    let (Some(x), Some(y)) = (range(points().map(|p| p.0)), range(ends.chain(points().map(|p| p.1)))) else {
        return Err(format!("{}: nothing to draw", chart.title).into());
    };
    let (wide, high) = ((x.end - x.start).max(1e-9), (y.end - y.start).max(0.1));
    let (x, y) = (x.start - 0.04 * wide..x.end + 0.04 * wide, y.start - 0.06 * high..y.end + 0.06 * high);

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.draw_text(chart.title, &bold(16, HPos::Left), (12, 18))?;
        let top = legend(&area, &chart.lines)?;
        let x = if chart.log { Axis::log(x) } else { Axis::new(x, 8, 0.0) };
        let mut plot = axes(&area, top + 16, (x, chart.x), (Axis::new(y, 7, 0.0), chart.y))?;
        for Line { points, sd, dashed, color, .. } in &chart.lines {
            let color = COLORS[*color];
            let points: Vec<_> = points.iter().map(|&(x, y)| (chart.place(x), y)).collect();
            if *dashed {
                let dashed = DashedLineSeries::new(points.iter().copied(), 6, 4, color.stroke_width(2));
                plot.draw_series(dashed)?;
            } else {
                plot.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
            }
            plot.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
            let whiskers = points.iter().zip(sd).filter(|(_, sd)| **sd > 0.0);
            plot.draw_series(
                whiskers
                    .map(|(&(x, y), sd)| PathElement::new([(x, y - sd), (x, y + sd)], color.stroke_width(1))),
            )?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// The names of lines, in as many rows as they take; returns how far down they go.
fn legend(area: &Area, lines: &[Line]) -> Result<i32> {
    let (mut left, mut top) = (14, 42);
    for line in lines {
        let color = COLORS[line.color];
        let width = 46 + 7 * line.name.chars().count() as i32;
        if left + width > SIZE.0 as i32 {
            (left, top) = (14, top + 18);
        }
        for dash in dashes(left, left + 26, line.dashed) {
            area.draw(&PathElement::new(dash.map(|x| (x, top)), color.stroke_width(2)))?;
        }
        area.draw_text(&line.name, &text(14, HPos::Left, &INK), (left + 32, top))?;
        left += width;
    }
    Ok(top)
}

/// The same on white, for where no page gives it colours.
pub fn on_white(svg: &str) -> String {
    svg.replacen('>', ">\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>", 1)
}

/// The strokes of a line in the legend.
fn dashes(from: i32, to: i32, dashed: bool) -> Vec<[i32; 2]> {
    if !dashed {
        return vec![[from, to]];
    }
    (from..to).step_by(10).map(|left| [left, (left + 6).min(to)]).collect()
}

/// Counts of bins of this width around their middles, before and after, one behind the other. The bin around 0 may be
/// far larger than all others after pruning; it is cut off, and its count written beside it.
pub fn histogram(title: &str, bin: f64, before: &[u64], after: &[u64]) -> Result<String> {
    let middle = before.len() / 2;
    let others = (0..before.len()).filter(|&i| i != middle).map(|i| before[i].max(after[i]));
    let top = 1.25 * before.get(middle).copied().unwrap_or(0).max(others.max().unwrap_or(0)).max(4) as f64;
    let place = |i: usize| (i as f64 - middle as f64) * bin;
    let farthest = (0..before.len()).filter(|&i| before[i] > 0).map(|i| i.abs_diff(middle)).max();
    let end = (farthest.unwrap_or(1) + 2) as f64 * bin;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.draw_text(title, &bold(16, HPos::Left), (12, 18))?;
        for (left, name, color) in [(14, "before", COLORS[1]), (120, "after", COLORS[0])] {
            area.draw(&Rectangle::new([(left, 36), (left + 22, 48)], color.filled()))?;
            area.draw_text(name, &text(14, HPos::Left, &INK), (left + 30, 42))?;
        }
        let mut chart = axes(
            &area,
            58,
            (Axis::new(-end..end, 8, 0.0), "weight"),
            (Axis::new(0.0..top, 7, 0.0), "weights"),
        )?;
        // What did not change is drawn once: edges of the colour below would show.
        let changed =
            before.iter().zip(after).map(|(&before, &after)| if before > after { before } else { 0 });
        for (counts, color) in [(changed.collect(), COLORS[1]), (after.to_vec(), COLORS[0])] {
            let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            chart.draw_series(bars.map(|(i, &count): (usize, &u64)| {
                let (left, right) = (place(i) - 0.45 * bin, place(i) + 0.45 * bin);
                Rectangle::new([(left, 0.0), (right, (count as f64).min(top))], color.filled())
            }))?;
        }
        if let Some(&zeros) = after.get(middle).filter(|&&zeros| zeros as f64 > top) {
            let label = format!("{zeros} around 0");
            let place = chart.backend_coord(&(0.0, top));
            area.draw_text(&label, &text(13, HPos::Left, &INK), (place.0 + 8, place.1 + 10))?;
        }
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::unbalanced;

    fn line(name: &str, dashed: bool, sd: f64) -> Line {
        let points = vec![(1.0, 80.0), (2.0, 85.0), (4.0, 86.0)];
        Line { name: name.into(), sd: vec![sd; points.len()], points, dashed, color: usize::from(dashed) }
    }

    fn count(svg: &str, tag: &str, color: RGBColor) -> usize {
        let color = format!("\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
        svg.lines().filter(|line| line.starts_with(tag) && line.contains(&color)).count()
    }

    #[test]
    fn lines_have_names_dots_and_whiskers() {
        let chart = |lines| Chart { title: "a & b", x: "x", log: false, y: "y", lines };
        let svg = lines(&chart(vec![line("ours", false, 0.5), line("paper", true, 0.0)])).unwrap();
        assert_eq!(unbalanced(&svg), None);
        for text in ["a &amp; b", "ours", "paper", "\nx\n", "\ny\n"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!((count(&svg, "<circle", COLORS[0]), count(&svg, "<circle", COLORS[1])), (3, 3));
        // The legend's, the curve, three whiskers; of the dashed line more than that, but no whisker.
        assert_eq!(count(&svg, "<polyline", COLORS[0]), 5);
        assert!(count(&svg, "<polyline", COLORS[1]) > 10);
        assert!(lines(&chart(Vec::new())).is_err());

        // Rates are shown as they are, at the distances of their logarithms.
        let svg = lines(&Chart { log: true, ..chart(vec![line("ours", false, 0.0)]) }).unwrap();
        assert!(["\n1\n", "\n2\n"].iter().all(|tick| svg.contains(tick)) && !svg.contains("0.3"), "{svg}");
    }

    #[test]
    fn histograms_show_what_went() {
        let svg = histogram("layer", 0.1, &[2, 5, 6, 5, 2], &[2, 0, 16, 5, 2]).unwrap();
        assert_eq!(unbalanced(&svg), None);
        assert!(svg.contains("16 around 0"));
        // The legend's, and the one bin that lost weights; of the others the legend's and four.
        assert_eq!((count(&svg, "<rect", COLORS[1]), count(&svg, "<rect", COLORS[0])), (2, 5));
    }
}
