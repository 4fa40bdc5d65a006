//! Charts as SVG, in a few known colours and without a background, so that a page can give them others in the dark.

use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::{Bars, Line};
use crate::{Error, Result, atomic_write};

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// The style sheet has a lighter one for each in the dark.
const COLORS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(200, 70, 20),
    RGBColor(30, 130, 60),
    RGBColor(130, 80, 170),
    RGBColor(150, 100, 10),
    RGBColor(200, 50, 120),
    RGBColor(0, 130, 140),
    RGBColor(100, 100, 110),
];

/// More points than this would make a band of their dots.
const MOST_DOTS: usize = 50;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<io::Error>>;

/// A chart of [`Line`]s and [`Bars`] with axes, a legend and a title, as SVG.
///
/// It is 440 pixels wide and 310 high unless [`size`](Self::size) says otherwise, which is legible on a phone.
///
/// # Examples
/// ```
/// use bptt::plot::{Chart, Line};
///
/// let rmse = [(1.0, 0.42), (3.0, 0.55), (6.0, 0.71), (12.0, 0.94)];
/// let chart = Chart::new("Error by months ahead", "months", "RMSE, ppm").line(Line::new("LSTM", rmse));
/// assert!(chart.svg()?.contains("Error by months ahead"));
/// assert!(chart.description().ends_with("LSTM: 0.42 at 1, 0.55 at 3, 0.71 at 6, 0.94 at 12."));
/// # let folder = tempfile::tempdir().unwrap();
/// chart.save(folder.path().join("errors.svg"))?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    x: String,
    y: String,
    size: (u32, u32),
    log: bool,
    whole: bool,
    most: f64,
    range: Option<Range<f64>>,
    lines: Vec<Line>,
    bars: Vec<Bars>,
    marks: Vec<(f64, String)>,
    notes: Vec<((f64, f64), String)>,
}

impl Chart {
    /// An empty chart, with what is written along its axes.
    pub fn new(title: impl Into<String>, x: impl Into<String>, y: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            x: x.into(),
            y: y.into(),
            size: (440, 310),
            log: false,
            whole: false,
            most: f64::INFINITY,
            range: None,
            lines: Vec::new(),
            bars: Vec::new(),
            marks: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Its width and height in pixels, at least 200 each.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width.max(200), height.max(200));
        self
    }

    /// Distances along x are those of logarithms; what is not above 0 is left out.
    pub fn log_x(mut self) -> Self {
        self.log = true;
        self
    }

    /// Labels only whole numbers along x, such as epochs.
    pub fn whole_x(mut self) -> Self {
        self.whole = true;
        self
    }

    /// No y can be larger, so that no room is left above.
    pub fn most(mut self, most: f64) -> Self {
        self.most = most;
        self
    }

    /// The range of y that is shown, rather than one that holds all values; what is outside is cut off.
    pub fn range(mut self, range: Range<f64>) -> Self {
        self.range = Some(range);
        self
    }

    /// Adds a line.
    pub fn line(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// Adds bars, behind all lines and before the bars that were added earlier.
    pub fn bars(mut self, bars: Bars) -> Self {
        self.bars.push(bars);
        self
    }

    /// Marks an x by a dashed line and a word beside it.
    pub fn mark(mut self, x: f64, label: impl Into<String>) -> Self {
        self.marks.push((x, label.into()));
        self
    }

    /// Writes a note to the right of a point.
    pub fn note(mut self, at: (f64, f64), text: impl Into<String>) -> Self {
        self.notes.push((at, text.into()));
        self
    }

    /// Its title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whether there is anything to draw, which there is not if no value is finite.
    pub fn is_drawn(&self) -> bool {
        self.points().next().is_some()
    }

    /// The values of all lines in words, for those who do not see the chart.
    pub fn description(&self) -> String {
        let values = |line: &Line| {
            let points: Vec<_> =
                line.drawn().map(|((x, y), _)| format!("{} at {}", rounded(y), rounded(x))).collect();
            format!(" {}: {}.", line.name, points.join(", "))
        };
        let values: String = self.lines.iter().map(values).collect();
        format!("{}: {} over {}.{values}", self.title, self.y, self.x)
    }

    /// The chart without a background, for a page: [`html::STYLE`](super::html::STYLE) has its colours for light and dark.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is nothing to draw.
    pub fn svg(&self) -> Result<String> {
        let Some((x, y)) = self.ranges() else {
            return Err(Error::mismatch(&*self.title, "no finite value", "something to draw"));
        };
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
        // Writing to a string does not fail, but the back end has the type of one that may.
        let fault = |e: DrawingAreaErrorKind<_>| Error::config(&*self.title, e.to_string());
        self.draw(&area, x, y).and_then(|()| area.present()).map_err(fault)?;
        drop(area);
        Ok(svg)
    }

    /// Writes the chart on white, by [`atomic_write`](crate::atomic_write).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is nothing to draw; [`Error::Io`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        const WHITE: &str = ">\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>";
        atomic_write(path, self.svg()?.replacen('>', WHITE, 1))
    }

    /// The range of a position along x, and of y, with some room around.
    fn ranges(&self) -> Option<(Range<f64>, Range<f64>)> {
        let x = self.points().map(|point| point.0).chain(self.marks.iter().map(|mark| self.place(mark.0)));
        let (x, y) = (span(x)?, span(self.points().map(|point| point.1))?);
        let wide = if x.end > x.start { 0.04 * (x.end - x.start) } else { 0.5 };
        let high = y.end - y.start;
        let room = if high > 1e-6 * y.end.abs() { 0.06 * high } else { 0.05 * y.end.abs().max(0.01) };
        let floor = if y.start >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let y = (y.start - room).max(floor)..(y.end + room).min(self.most.max(y.end));
        Some((x.start - wide..x.end + wide, self.range.clone().unwrap_or(y)))
    }

    /// The positions of all ends of lines, whiskers and bars.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let lines = self.lines.iter().flat_map(Line::drawn);
        let ends = lines.flat_map(|((x, y), sd)| [(x, y - sd), (x, y + sd)]);
        let bars = self
            .bars
            .iter()
            .flat_map(|bars| bars.drawn().flat_map(|(x, y)| [(x - bars.width, 0.0), (x + bars.width, y)]));
        ends.chain(bars).map(|(x, y)| (self.place(x), y)).filter(|(x, _)| x.is_finite())
    }

    /// Where a value of x is drawn.
    fn place(&self, x: f64) -> f64 {
        if self.log { x.log10() } else { x }
    }

    fn draw(&self, area: &Area, x: Range<f64>, y: Range<f64>) -> Drawn {
        area.draw_text(&self.title, &bold(16, HPos::Left), (12, 18))?;
        let top = self.legend(area)? + 16;
        let axis = if self.log { Axis::log(x) } else { Axis::new(x, 8, if self.whole { 1.0 } else { 0.0 }) };
        let mut plot = self.axes(area, top, axis, Axis::new(y.clone(), 7, 0.0))?;
        for bars in &self.bars {
            let style = COLORS[bars.color % COLORS.len()].filled();
            plot.draw_series(bars.drawn().map(|(x, height)| {
                let half = 0.45 * bars.width;
                Rectangle::new([(x - half, y.start.max(0.0)), (x + half, height.min(y.end))], style)
            }))?;
        }
        for (i, line) in self.lines.iter().enumerate() {
            self.draw_line(&mut plot, line, color(i, line))?;
        }
        for (i, (at, label)) in self.marks.iter().enumerate() {
            self.draw_mark((area, &mut plot), self.place(*at), label, i)?;
        }
        for (at, note) in &self.notes {
            let (left, top) = plot.backend_coord(&(self.place(at.0), at.1));
            area.draw_text(note, &text(13, HPos::Left), (left + 8, top + 10))?;
        }
        Ok(())
    }

    fn axes<'a, 'b>(&self, area: &'a Area<'b>, top: i32, x: Axis, y: Axis) -> Drawn<Plot<'a, 'b>> {
        // Longer labels than 100.0 push the name of the axis aside.
        let room = 58 + 16 * y.longest_label().saturating_sub(5) as i32;
        let mut plot = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(18)
            .margin_bottom(6)
            .margin_left(8)
            .x_label_area_size(46)
            .y_label_area_size(room)
            .build_cartesian_2d(x, y)?;
        plot.configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(font(13).color(&INK))
            .axis_desc_style(font(14).color(&INK))
            .x_desc(&*self.x)
            .y_desc(&*self.y)
            .draw()?;
        Ok(plot)
    }

    fn draw_line(&self, plot: &mut Plot, line: &Line, color: RGBColor) -> Drawn {
        let whiskers: Vec<_> = line.drawn().map(|((x, y), sd)| ((self.place(x), y), sd)).collect();
        let points: Vec<_> = whiskers.iter().map(|(point, _)| *point).collect();
        let style = color.stroke_width(2);
        if line.dashed {
            plot.draw_series(DashedLineSeries::new(points.iter().copied(), 6, 4, style))?;
        } else {
            plot.draw_series(LineSeries::new(points.iter().copied(), style))?;
        }
        if points.len() <= MOST_DOTS {
            plot.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
        }
        let whiskers = whiskers.into_iter().filter(|(_, sd)| *sd > 0.0);
        plot.draw_series(
            whiskers.map(|((x, y), sd)| PathElement::new([(x, y - sd), (x, y + sd)], color.stroke_width(1))),
        )?;
        Ok(())
    }

    /// The words of several marks are below one another.
    fn draw_mark(&self, (area, plot): (&Area, &mut Plot), at: f64, label: &str, row: usize) -> Drawn {
        let (x, y) = (plot.x_range(), plot.y_range());
        plot.draw_series(DashedLineSeries::new([(at, y.start), (at, y.end)], 4, 4, INK.stroke_width(1)))?;
        let (left, top) = plot.backend_coord(&(at, y.end));
        // Beside the line, on the side that has room.
        let before = at > (x.start + x.end) / 2.0;
        let (side, left) = if before { (HPos::Right, left - 5) } else { (HPos::Left, left + 5) };
        area.draw_text(label, &text(13, side), (left, top + 9 + 16 * row as i32))
    }

    fn has_legend(&self) -> bool {
        let mut names =
            self.bars.iter().map(|bars| &bars.name).chain(self.lines.iter().map(|line| &line.name));
        names.any(|name| !name.is_empty())
    }

    /// The names of bars and lines, in as many rows as they take; returns how far down they go.
    fn legend(&self, area: &Area) -> Drawn<i32> {
        let bars = self.bars.iter().map(|bars| (&bars.name, COLORS[bars.color % COLORS.len()], None));
        let lines = self.lines.iter().enumerate();
        let lines = lines.map(|(i, line)| (&line.name, color(i, line), Some(line.dashed)));
        let (mut left, mut top) = (14, if self.has_legend() { 42 } else { 18 });
        for (name, color, line) in bars.chain(lines).filter(|(name, ..)| !name.is_empty()) {
            let width = 50 + 8 * name.chars().count() as i32;
            if left + width > self.size.0 as i32 && left > 14 {
                (left, top) = (14, top + 18);
            }
            match line {
                Some(dashed) => {
                    for dash in dashes(left, left + 26, dashed) {
                        area.draw(&PathElement::new(dash.map(|x| (x, top)), color.stroke_width(2)))?;
                    }
                }
                None => {
                    area.draw(&Rectangle::new([(left, top - 6), (left + 22, top + 6)], color.filled()))?
                }
            }
            area.draw_text(name, &text(14, HPos::Left), (left + 32, top))?;
            left += width;
        }
        Ok(top)
    }
}

/// The smallest range that holds all values.
fn span(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    values.map(|v| v..v).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
}

/// To four decimals, or four digits where these are fewer.
fn rounded(value: f64) -> String {
    let near = (value * 1e4).round() / 1e4;
    if near == 0.0 && value != 0.0 || !near.is_finite() { format!("{value:.3e}") } else { near.to_string() }
}

fn color(place: usize, line: &Line) -> RGBColor {
    COLORS[line.color.unwrap_or(place) % COLORS.len()]
}

/// The strokes of a line in the legend.
fn dashes(from: i32, to: i32, dashed: bool) -> Vec<[i32; 2]> {
    if !dashed {
        return vec![[from, to]];
    }
    (from..to).step_by(10).map(|left| [left, (left + 6).min(to)]).collect()
}

/// A font of this many pixels.
fn font(size: i32) -> FontDesc<'static> {
    // The SVG back end divides sizes by 1.24.
    FontDesc::new(FontFamily::SansSerif, f64::from(size) * 1.24, FontStyle::Normal)
}

fn text(size: i32, at: HPos) -> TextStyle<'static> {
    TextStyle::from(font(size)).color(&INK).pos(Pos::new(at, VPos::Center))
}

fn bold(size: i32, at: HPos) -> TextStyle<'static> {
    TextStyle::from(font(size).style(FontStyle::Bold)).color(&INK).pos(Pos::new(at, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::super::html::unbalanced;
    use super::*;

    fn line(name: &str) -> Line {
        Line::new(name, [(1.0, 80.0), (2.0, 85.0), (4.0, 86.0)])
    }

    fn chart() -> Chart {
        Chart::new("a & b", "x", "y")
    }

    fn count(svg: &str, tag: &str, color: RGBColor) -> usize {
        let color = format!("\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
        svg.lines().filter(|line| line.starts_with(tag) && line.contains(&color)).count()
    }

    #[test]
    fn lines_have_names_dots_and_whiskers() {
        let both = chart().line(line("ours").deviations([0.5; 3])).line(line("paper").dashed());
        let svg = both.svg().unwrap();
        assert_eq!(unbalanced(&svg), None);
        for text in ["a &amp; b", "ours", "paper", "\nx\n", "\ny\n"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!((count(&svg, "<circle", COLORS[0]), count(&svg, "<circle", COLORS[1])), (3, 3));
        // The legend's, the curve, three whiskers; of the dashed line more than that, but no whisker.
        assert_eq!(count(&svg, "<polyline", COLORS[0]), 5);
        assert!(count(&svg, "<polyline", COLORS[1]) > 10);
        assert_eq!(
            both.description(),
            "a & b: y over x. ours: 80 at 1, 85 at 2, 86 at 4. paper: 80 at 1, 85 at 2, 86 at 4."
        );

        // Rates are shown as they are, at the distances of their logarithms.
        let svg = chart().log_x().line(line("ours")).svg().unwrap();
        assert!(["\n1\n", "\n2\n"].iter().all(|tick| svg.contains(tick)) && !svg.contains("0.3"), "{svg}");
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let points = [(1.0, f64::NAN), (2.0, f64::INFINITY), (3.0, 0.5)];
        let svg = chart().line(Line::new("", points)).svg().unwrap();
        assert!(count(&svg, "<circle", COLORS[0]) == 1 && !svg.contains("NaN"));
        for empty in [chart(), chart().line(Line::new("", [(1.0, f64::NAN)]))] {
            assert!(!empty.is_drawn());
            let fault = "a & b: found no finite value, expected something to draw";
            assert_eq!(empty.svg().unwrap_err().to_string(), fault);
        }
        // On an axis of logarithms, 0 is nowhere.
        assert!(!chart().log_x().line(Line::new("", [(0.0, 1.0)])).is_drawn());
    }

    /// A loss of 0 has no spread and no size to derive one from.
    #[test]
    fn a_single_point_is_drawn() {
        let svg = chart().whole_x().line(Line::new("", [(1.0, 0.0)])).svg().unwrap();
        assert!(count(&svg, "<circle", COLORS[0]) == 1 && svg.contains("\n1\n"), "{svg}");
    }

    #[test]
    fn many_points_have_no_dots() {
        let svg = chart().line(Line::new("", (0..51).map(|i| (f64::from(i), 1.0)))).svg().unwrap();
        assert_eq!((count(&svg, "<circle", COLORS[0]), count(&svg, "<polyline", COLORS[0])), (0, 1));
    }

    #[test]
    fn bars_are_cut_off_where_the_range_ends() {
        let bars = |color, tall| Bars::new("bars", 0.1, color, [(-0.1, 5.0), (0.0, tall), (0.1, 0.0)]);
        let chart = chart().bars(bars(1, 6.0)).bars(bars(0, 16.0)).range(0.0..10.0);
        let svg = chart.note((0.0, 10.0), "16 around 0").svg().unwrap();
        assert_eq!(unbalanced(&svg), None);
        assert!(svg.contains("16 around 0"));
        // The legend's, and two that are not 0.
        assert_eq!((count(&svg, "<rect", COLORS[1]), count(&svg, "<rect", COLORS[0])), (3, 3));
    }

    /// A line and a word, beside one another where there are two marks.
    #[test]
    fn marks_have_a_word() {
        let svg = chart().line(line("")).mark(2.5, "pruned").mark(3.0, "best").svg().unwrap();
        assert!(svg.contains("pruned") && svg.contains("best"));
        let rows: Vec<_> = ["pruned", "best"]
            .map(|word| svg.split("<text").find(|text| text.contains(word)).unwrap().to_owned())
            .iter()
            .map(|text| text.split_once(" y=\"").unwrap().1.split_once('"').unwrap().0.to_owned())
            .collect();
        assert_ne!(rows[0], rows[1]);
    }
}
