//! What a chart shows: lines and bars.

/// A curve through points, with a dot at each unless they are many.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) deviations: Vec<f64>,
    pub(super) dashed: bool,
    pub(super) color: Option<usize>,
}

impl Line {
    /// A line through points (x, y), in this order. Those that are not finite are left out. With an empty name it is not in
    /// the legend.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().collect();
        Self { name: name.into(), points, deviations: Vec::new(), dashed: false, color: None }
    }

    /// Draws a whisker of this length above and below each point, such as a standard deviation; of 0, none.
    pub fn deviations(mut self, deviations: impl IntoIterator<Item = f64>) -> Self {
        self.deviations = deviations.into_iter().collect();
        self
    }

    /// Draws the line dashed.
    pub fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }

    /// The place of its colour among the eight that there are, rather than its place among the lines of the chart.
    pub fn color(mut self, place: usize) -> Self {
        self.color = Some(place);
        self
    }

    /// The points that can be drawn, and the length of their whiskers.
    pub(super) fn drawn(&self) -> impl Iterator<Item = ((f64, f64), f64)> {
        let deviations = self.deviations.iter().copied().chain(std::iter::repeat(0.0));
        let finite = |((x, y), sd): &((f64, f64), f64)| x.is_finite() && y.is_finite() && sd.is_finite();
        self.points.iter().copied().zip(deviations).filter(finite)
    }
}

/// Bars that stand on 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) width: f64,
    pub(super) color: usize,
}

impl Bars {
    /// A bar of height y around each x, as wide as `width` less a gap, in one of the eight colours. Those of height 0 are left
    /// out.
    pub fn new(
        name: impl Into<String>,
        width: f64,
        color: usize,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), width, color }
    }

    pub(super) fn drawn(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite() && *y != 0.0)
    }
}
