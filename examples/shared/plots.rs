//! Figures as SVG: learning curves and the confusion matrix.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const TRAIN: RGBColor = RGBColor(31, 119, 180);
const VALID: RGBColor = RGBColor(214, 39, 40);

/// What is drawn of one epoch. Values that are not finite are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochPoint {
    /// The epoch, as it is to be labelled.
    pub epoch: usize,
    /// The mean loss over the training samples.
    pub train_loss: f64,
    /// The accuracy on the training samples, 0 to 1.
    pub train_accuracy: f64,
    /// The mean loss over the validation samples, if there are any.
    pub valid_loss: Option<f64>,
    /// The accuracy on the validation samples, 0 to 1, if there are any.
    pub valid_accuracy: Option<f64>,
}

/// Loss and accuracy over epochs, side by side; a line marks where the model was pruned, after so many epochs.
///
/// # Errors
/// If there is nothing to draw.
pub fn learning_curves(epochs: &[EpochPoint], pruned_after: Option<usize>) -> Result<String> {
    let loss = [curve(epochs, |e| Some(e.train_loss)), curve(epochs, |e| e.valid_loss)];
    let accuracy = [curve(epochs, |e| Some(e.train_accuracy)), curve(epochs, |e| e.valid_accuracy)];
    let pruned = pruned_after.map(|epochs| epochs as f64 + 0.5);
    draw((1000, 400), |root| {
        let (left, right) = root.split_horizontally(500);
        let panels = [
            Panel { title: "Loss", unit: "mean cross-entropy", most: f64::INFINITY, pruned },
            Panel { title: "Accuracy", unit: "share of samples", most: 1.0, pruned },
        ];
        panels[0].draw(&left, &loss)?;
        panels[1].draw(&right, &accuracy)
    })
}

/// Counts as a heat map: rows are true classes, columns predicted ones, colours shares of a row.
///
/// # Errors
/// If there are no counts, they are not square, or there is not one name a class.
pub fn confusion(names: &[&str], counts: &[Vec<u64>], accuracy: f64) -> Result<String> {
    let classes = names.len();
    if classes == 0 || counts.len() != classes || counts.iter().any(|row| row.len() != classes) {
        return Err(format!("{classes} names do not fit the confusion matrix").into());
    }
    let names: Vec<_> = names.iter().map(|name| shorten(name)).collect();
    let side = (CELL.0 * classes as i32, CELL.1 * classes as i32);
    let size = (CORNER.0 + side.0 + 110, CORNER.1 + side.1 + 20);
    draw((size.0 as u32, size.1 as u32), |root| {
        let title = format!("Confusion matrix, accuracy {:.2} %", 100.0 * accuracy);
        let middle = (CORNER.0 + side.0 / 2, CORNER.1 + side.1 / 2);
        root.draw_text(&title, &bold(18, HPos::Center), (middle.0, 24))?;
        root.draw_text("predicted class", &text(14, HPos::Center, &INK), (middle.0, 52))?;
        let upright = text(14, HPos::Center, &INK).transform(FontTransform::Rotate270);
        root.draw_text("true class", &upright, (20, middle.1))?;
        for (truth, row) in counts.iter().enumerate() {
            cells(root, &names, truth, row)?;
        }
        colour_bar(root, (CORNER.0 + side.0 + 24, CORNER.1), side.1)
    })
}

/// Width and height of a cell of the heat map.
const CELL: (i32, i32) = (88, 46);
/// The heat map's upper left corner.
const CORNER: (i32, i32) = (126, 90);

/// (epoch, value), where there is one.
type Curve = Vec<(f64, f64)>;

fn curve(epochs: &[EpochPoint], value: impl Fn(&EpochPoint) -> Option<f64>) -> Curve {
    let point = |e: &EpochPoint| Some((e.epoch as f64, value(e)?)).filter(|p| p.1.is_finite());
    epochs.iter().filter_map(point).collect()
}

/// One panel: training and validation over epochs, the legend above it, so that it never hides a curve.
struct Panel {
    title: &'static str,
    unit: &'static str,
    /// The largest value that there can be.
    most: f64,
    /// Where the model was pruned, in epochs.
    pruned: Option<f64>,
}

impl Panel {
    fn draw(&self, area: &Area, curves: &[Curve; 2]) -> Result<()> {
        let over = |value: fn(&(f64, f64)) -> f64| curves.iter().flatten().map(value);
        let (Some(x), Some(y)) = (range(over(|p| p.0)), range(over(|p| p.1))) else {
            return Err(format!("no {} to draw", self.title.to_lowercase()).into());
        };
        let spread = y.end - y.start;
        let room = if spread > 1e-6 * y.end.abs() { 0.06 * spread } else { 0.05 * y.end.abs().max(0.01) };
        let floor = if y.start >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let y = (y.start - room).max(floor)..(y.end + room).min(self.most.max(y.end));

        area.draw_text(self.title, &bold(18, HPos::Left), (70, 26))?;
        legend(area, curves)?;
        let epochs = Axis::new(x.start - 0.5..x.end + 0.5, 10, 1.0);
        let mut chart = axes(area, 48, (epochs, "epoch"), (Axis::new(y.clone(), 8, 0.0), self.unit))?;
        if let Some(at) = self.pruned {
            let style = INK.stroke_width(1);
            chart.draw_series(DashedLineSeries::new([(at, y.start), (at, y.end)], 4, 4, style))?;
            let (left, top) = chart.backend_coord(&(at, y.end));
            // Beside the line, on the side that has room.
            let before = at > (x.start + x.end) / 2.0;
            let (side, left) = if before { (HPos::Right, left - 5) } else { (HPos::Left, left + 5) };
            area.draw_text("pruned", &text(13, side, &INK), (left, top + 9))?;
        }
        for (curve, color) in curves.iter().zip([TRAIN, VALID]) {
            chart.draw_series(LineSeries::new(curve.iter().copied(), color.stroke_width(2)))?;
            // Dots show a single epoch, and where the values are; of a long run they would make a band.
            if curve.len() <= 50 {
                chart.draw_series(curve.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
            }
        }
        Ok(())
    }
}

/// The names of the curves that there are, from the right.
fn legend(area: &Area, curves: &[Curve; 2]) -> Result<()> {
    let mut right = area.dim_in_pixel().0 as i32 - 24;
    for (name, color, curve) in [("validation", &VALID, &curves[1]), ("training", &TRAIN, &curves[0])] {
        if !curve.is_empty() {
            area.draw_text(name, &text(13, HPos::Right, &INK), (right, 26))?;
            let end = right - 8 * name.len() as i32;
            area.draw(&PathElement::new([(end - 26, 26), (end, 26)], color.stroke_width(2)))?;
            area.draw(&Circle::new((end - 13, 26), 3, color.filled()))?;
            right = end - 44;
        }
    }
    Ok(())
}

/// Axes with their names, `top` pixels from above.
pub fn axes<'a, 'b>(
    area: &'a Area<'b>,
    top: i32,
    (x, x_name): (Axis, &str),
    (y, y_name): (Axis, &str),
) -> Result<ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(top)
        .margin_right(18)
        .margin_bottom(6)
        .margin_left(8)
        .x_label_area_size(46)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(font(13).color(&INK))
        .axis_desc_style(font(14).color(&INK))
        .x_desc(x_name)
        .y_desc(y_name)
        .draw()?;
    Ok(chart)
}

/// The smallest range that holds all values.
pub fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    values.map(|v| v..v).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
}

/// An axis with ticks at round numbers.
pub struct Axis {
    range: RangedCoordf64,
    ticks: Vec<f64>,
    /// The decimals that tell ticks apart; none where positions are logarithms.
    digits: Option<usize>,
}

impl Axis {
    /// Ticks are about `most` at most, and not less than `least` apart.
    pub fn new(range: Range<f64>, most: u32, least: f64) -> Self {
        // The smallest of 1, 2, 5 and 10 times a power of ten that is large enough, forgiving errors of rounding.
        let raw = ((range.end - range.start) / f64::from(most)).max(least);
        let magnitude = 10_f64.powf(raw.log10().floor());
        let factor =
            [1.0, 2.0, 5.0].into_iter().find(|f| f * magnitude >= raw * (1.0 - 1e-9)).unwrap_or(10.0);
        let step = factor * magnitude;
        let first = (range.start / step - 1e-9).ceil() as i64;
        let last = (range.end / step + 1e-9).floor() as i64;
        Self {
            range: range.into(),
            ticks: (first..=last).map(|i| i as f64 * step).collect(),
            digits: Some((-(step * (1.0 + 1e-9)).log10().floor()).max(0.0) as usize),
        }
    }

    /// Positions are logarithms to base 10; ticks are at 1, 2 and 5 times powers of ten, and show these numbers.
    pub fn log(range: Range<f64>) -> Self {
        let powers = range.start.floor() as i32..=range.end.ceil() as i32;
        let ticks =
            powers.flat_map(|power| [1.0_f64, 2.0, 5.0].map(|factor| f64::from(power) + factor.log10()));
        let ticks = ticks.filter(|tick| range.contains(tick)).collect();
        Self { range: range.into(), ticks, digits: None }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        match self.digits {
            Some(digits) if value.abs() < 1e5 => format!("{value:.digits$}"),
            // A run that diverged still has labels that fit.
            Some(_) => format!("{value:.1e}"),
            // A tick has one digit that is not 0; written and read, it has no error of rounding.
            None => {
                let short = format!("{:.0e}", 10_f64.powf(*value));
                let plain = short.parse::<f64>().map_or(short.clone(), |number| number.to_string());
                if plain.len() <= 6 { plain } else { short }
            }
        }
    }
}

/// A row of the heat map and its names.
fn cells(root: &Area, names: &[String], truth: usize, row: &[u64]) -> Result<()> {
    let total = row.iter().sum::<u64>().max(1) as f64;
    let top = CORNER.1 + CELL.1 * truth as i32;
    let middle = top + CELL.1 / 2;
    root.draw_text(&names[truth], &text(13, HPos::Right, &INK), (CORNER.0 - 8, middle))?;
    let heading = CORNER.0 + CELL.0 * truth as i32 + CELL.0 / 2;
    root.draw_text(&names[truth], &text(13, HPos::Center, &INK), (heading, CORNER.1 - 14))?;
    for (predicted, &count) in row.iter().enumerate() {
        let left = CORNER.0 + CELL.0 * predicted as i32;
        let fill = shade(count as f64 / total);
        let corners = [(left, top), (left + CELL.0, top + CELL.1)];
        root.draw(&Rectangle::new(corners, fill.filled()))?;
        root.draw(&Rectangle::new(corners, GRID))?;
        let style = text(14, HPos::Center, if count == 0 { &FAINT } else { readable_on(fill) });
        root.draw_text(&count.to_string(), &style, (left + CELL.0 / 2, middle))?;
    }
    Ok(())
}

/// The shades from 0 at the bottom to 1 at the top, and what they stand for.
fn colour_bar(root: &Area, (left, top): (i32, i32), height: i32) -> Result<()> {
    const STRIPES: i32 = 100;
    let y = |i: i32| top + height - height * i / STRIPES;
    // From the top, each down to the bottom and over the one before: there are no seams for a renderer to show.
    for i in (0..STRIPES).rev() {
        let stripe = [(left, y(i + 1)), (left + 16, y(0))];
        root.draw(&Rectangle::new(stripe, shade((f64::from(i) + 0.5) / f64::from(STRIPES)).filled()))?;
    }
    root.draw(&Rectangle::new([(left, top), (left + 16, top + height)], INK))?;
    for percent in [0, 25, 50, 75, 100] {
        let label = format!("{percent} %");
        root.draw_text(&label, &text(12, HPos::Left, &INK), (left + 22, y(percent)))?;
    }
    root.draw_text("share of row", &text(12, HPos::Left, &INK), (left - 4, top - 22))?;
    Ok(())
}

/// White to dark blue: ColorBrewer's "Blues", linear in between.
fn shade(share: f64) -> RGBColor {
    const BLUES: [[u8; 3]; 9] = [
        [255, 255, 255],
        [222, 235, 247],
        [198, 219, 239],
        [158, 202, 225],
        [107, 174, 214],
        [66, 146, 198],
        [33, 113, 181],
        [8, 81, 156],
        [8, 48, 107],
    ];
    let place = share.clamp(0.0, 1.0) * (BLUES.len() - 1) as f64;
    let i = (place as usize).min(BLUES.len() - 2);
    let t = place - i as f64;
    let mix = |c: usize| (f64::from(BLUES[i][c]) * (1.0 - t) + f64::from(BLUES[i + 1][c]) * t).round() as u8;
    RGBColor(mix(0), mix(1), mix(2))
}

/// The colour of a count of 0, which is always on white.
const FAINT: RGBColor = RGBColor(118, 118, 118);

/// Black or white, whichever stands out more.
fn readable_on(fill: RGBColor) -> &'static RGBColor {
    if contrast(fill, BLACK) >= contrast(fill, WHITE) { &BLACK } else { &WHITE }
}

/// The contrast ratio of WCAG 2, 1 to 21; text is readable from 4.5.
fn contrast(a: RGBColor, b: RGBColor) -> f64 {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = |RGBColor(r, g, b)| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    if a > b { a / b } else { b / a }
}

/// A name that fits over its column.
fn shorten(name: &str) -> String {
    let room = f64::from(CELL.0 - 4);
    if name.chars().map(advance).sum::<f64>() <= room {
        return name.into();
    }
    let mut used = advance('…');
    let fits = |c: &char| {
        used += advance(*c);
        used <= room
    };
    name.chars().take_while(fits).chain(['…']).collect()
}

/// About the width of a character of 13 pixels, in a rather wide font: which one it will be is the viewer's choice.
fn advance(c: char) -> f64 {
    13.0 * match c {
        ' ' | '!' | '\'' | '(' | ')' | ',' | '-' | '.' | '/' | ':' | 'I' | 'f' | 'i' | 'j' | 'l' | 'r'
        | 't' => 0.4,
        'M' | 'W' | 'm' | 'w' | '@' | '%' => 1.0,
        'A'..='Z' => 0.75,
        '!'..='~' => 0.63,
        _ => 1.0,
    }
}

/// A font of this many pixels.
fn font(size: i32) -> FontDesc<'static> {
    // The SVG back end divides sizes by 1.24.
    FontDesc::new(FontFamily::SansSerif, f64::from(size) * 1.24, FontStyle::Normal)
}

pub fn text<'a>(size: i32, at: HPos, color: &'a RGBColor) -> TextStyle<'a> {
    TextStyle::from(font(size)).color(color).pos(Pos::new(at, VPos::Center))
}

pub fn bold(size: i32, at: HPos) -> TextStyle<'static> {
    TextStyle::from(font(size).style(FontStyle::Bold)).color(&INK).pos(Pos::new(at, VPos::Center))
}

/// An SVG on white.
pub fn draw(size: (u32, u32), paint: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        paint(&root)?;
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, valid: Option<f64>) -> EpochPoint {
        let train = 0.5 / epoch as f64;
        EpochPoint {
            epoch,
            train_loss: train,
            train_accuracy: 1.0 - train,
            valid_loss: valid,
            valid_accuracy: valid.map(|v| 1.0 - v),
        }
    }

    fn curves(epochs: &[EpochPoint]) -> Result<String> {
        learning_curves(epochs, None)
    }

    /// The texts of a figure, in the order in which they were drawn.
    fn texts(svg: &str) -> Vec<&str> {
        svg.split("<text")
            .skip(1)
            .filter_map(|t| Some(t.split_once('>')?.1.split_once('<')?.0.trim()))
            .collect()
    }

    fn dots(svg: &str, color: RGBColor) -> usize {
        let fill = format!("fill=\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
        svg.lines().filter(|line| line.starts_with("<circle") && line.contains(&fill)).count()
    }

    #[test]
    fn both_panels_with_and_without_validation() {
        let svg = curves(&[epoch(1, Some(0.4)), epoch(2, Some(0.3)), epoch(3, None)]).unwrap();
        let all = texts(&svg);
        for (text, times) in [("Loss", 1), ("Accuracy", 1), ("training", 2), ("validation", 2), ("epoch", 2)]
        {
            assert_eq!(all.iter().filter(|&&t| t == text).count(), times, "{text}");
        }
        // A dot an epoch, and one in the legend, in each of two panels.
        assert_eq!((dots(&svg, TRAIN), dots(&svg, VALID)), (8, 6));

        let svg = curves(&[epoch(1, None), epoch(2, None)]).unwrap();
        assert!(!texts(&svg).contains(&"validation"));
        assert_eq!((dots(&svg, TRAIN), dots(&svg, VALID)), (6, 0));
    }

    #[test]
    fn a_single_epoch() {
        let svg = curves(&[epoch(1, None)]).unwrap();
        assert_eq!(dots(&svg, TRAIN), 4);
        assert_eq!(texts(&svg).iter().filter(|&&t| t == "1").count(), 2, "the epoch under each panel");
        // A loss of 0 has no spread and no size to derive one from.
        let perfect = EpochPoint { train_loss: 0.0, train_accuracy: 1.0, ..epoch(1, None) };
        assert_eq!(dots(&curves(&[perfect]).unwrap(), TRAIN), 4);
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let svg =
            curves(&[epoch(1, Some(f64::NAN)), epoch(2, Some(f64::INFINITY)), epoch(3, Some(0.5))]).unwrap();
        assert_eq!((dots(&svg, TRAIN), dots(&svg, VALID)), (8, 4));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn nothing_to_draw() {
        assert_eq!(curves(&[]).unwrap_err().to_string(), "no loss to draw");
        let diverged = EpochPoint { train_loss: f64::NAN, ..epoch(1, None) };
        assert_eq!(curves(&[diverged]).unwrap_err().to_string(), "no loss to draw");
    }

    #[test]
    fn ticks_are_round() {
        let axis = |range, most, least| {
            let axis = Axis::new(range, most, least);
            axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect::<Vec<_>>()
        };
        assert_eq!(axis(0.5..20.5, 10, 1.0), ["2", "4", "6", "8", "10", "12", "14", "16", "18", "20"]);
        assert_eq!(axis(0.5..3.5, 10, 1.0), ["1", "2", "3"]);
        assert_eq!(axis(0.74..0.94, 8, 0.0), ["0.75", "0.80", "0.85", "0.90"]);
        assert_eq!(axis(-0.1..0.3, 4, 0.0), ["-0.1", "0.0", "0.1", "0.2", "0.3"]);
        // 0.1 + 0.2 is a little more than 0.3.
        assert_eq!(axis(0.0..0.1 + 0.2, 3, 0.0), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(axis(1e30..3e30, 5, 0.0), ["1.0e30", "1.5e30", "2.0e30", "2.5e30", "3.0e30"]);
        assert_eq!(axis(0.0..1200.0, 6, 0.0), ["0", "200", "400", "600", "800", "1000", "1200"]);
    }

    #[test]
    fn heat_map_holds_names_and_counts() {
        let counts = [vec![30, 10], vec![0, 25]];
        let svg = confusion(&["cat", "a & b"], &counts, 55.0 / 65.0).unwrap();
        let all = texts(&svg);
        assert_eq!(all[..3], ["Confusion matrix, accuracy 84.62 %", "predicted class", "true class"]);
        assert_eq!(all[3..11], ["cat", "cat", "30", "10", "a &amp; b", "a &amp; b", "0", "25"]);
        // 3/4, 1/4, 0 and 1 of their rows: anchors of the scale.
        let cells: Vec<_> = svg.lines().filter(|line| line.contains(r#"width="88""#)).collect();
        let fills: Vec<_> = cells.iter().filter_map(|line| line.split_once("fill=\"#")?.1.get(..6)).collect();
        assert_eq!(fills, ["2171B5", "C6DBEF", "FFFFFF", "08306B"]);
    }

    #[test]
    fn heat_map_that_does_not_fit() {
        for (names, counts) in [
            (&["a", "b"][..], vec![vec![1, 2]]),
            (&["a", "b"], vec![vec![1, 2], vec![3]]),
            (&["a"], vec![vec![1, 2], vec![3, 4]]),
            (&[], vec![]),
        ] {
            let error = confusion(names, &counts, 1.0).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("{} names do not fit the confusion matrix", names.len())),
                "{error}"
            );
        }
    }

    #[test]
    fn a_row_without_samples_is_white() {
        let svg = confusion(&["a"], &[vec![0]], 0.0).unwrap();
        assert!(svg.lines().any(|line| line.contains(r#"width="88""#) && line.contains("fill=\"#FFFFFF\"")));
    }

    #[test]
    fn counts_are_readable() {
        for i in 0..=1000 {
            let fill = shade(f64::from(i) / 1000.0);
            let contrast = contrast(fill, *readable_on(fill));
            assert!(contrast >= 4.5, "{contrast} at {i}");
        }
        assert!(contrast(shade(0.0), FAINT) >= 4.5);
    }

    #[test]
    fn contrast_by_definition() {
        assert_eq!(contrast(BLACK, WHITE), 21.0);
        // 0.2126 + 0.05 over 0.05
        assert!((contrast(BLACK, RED) - 5.252).abs() < 1e-9);
        // 5 / 255 / 12.92 + 0.05 over 0.05
        assert!((contrast(RGBColor(5, 5, 5), BLACK) - 1.030_353).abs() < 1e-6);
    }

    #[test]
    fn long_names_are_cut() {
        for name in ["T-shirt/Top", "Ankle boots", "Pullover"] {
            assert_eq!(shorten(name), name);
        }
        assert_eq!(shorten("Something very long"), "Somethin…");
        assert_eq!(shorten("WWWWWWWWWW"), "WWWWW…");
    }

    /// The rectangles of the bar cover each other, so that there is no seam between two.
    #[test]
    fn the_colour_bar_has_no_seams() {
        let svg = confusion(&["a"], &[vec![1]], 1.0).unwrap();
        let number = |line: &str, name: &str| -> i32 {
            let value = line.split_once(&format!(" {name}=\"")).unwrap().1.split_once('"').unwrap().0;
            value.parse().unwrap()
        };
        let bar = svg.lines().filter(|line| line.starts_with("<rect") && number(line, "width") == 16);
        let filled: Vec<_> = bar.filter(|line| !line.contains("fill=\"none\"")).collect();
        let ends: Vec<_> = filled.iter().map(|line| number(line, "y") + number(line, "height")).collect();
        let starts: Vec<_> = filled.iter().map(|line| number(line, "y")).collect();
        assert_eq!(filled.len(), 100);
        assert!(ends.iter().all(|end| *end == ends[0]) && starts.is_sorted(), "{filled:#?}");
    }

    /// A line and a word in both panels, where there was pruning.
    #[test]
    fn pruning_is_marked() {
        let epochs: Vec<_> = (1..=4).map(|i| epoch(i, None)).collect();
        let marks = |pruned| {
            let svg = learning_curves(&epochs, pruned).unwrap();
            texts(&svg).iter().filter(|&&text| text == "pruned").count()
        };
        assert_eq!((marks(None), marks(Some(1)), marks(Some(3))), (0, 2, 2));
    }

    #[test]
    fn rates_are_shown_as_they_are() {
        let axis = Axis::log(-3.1..-0.9);
        let labels: Vec<_> = axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect();
        assert_eq!(labels, ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]);
        let axis = Axis::log(-6.0..-5.0);
        assert_eq!(axis.format_ext(&axis.ticks[0]), "1e-6");
    }
}
