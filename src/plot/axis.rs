//! Axes with ticks at round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;

/// An axis with ticks at round numbers.
pub(super) struct Axis {
    range: RangedCoordf64,
    ticks: Vec<f64>,
    /// The decimals that tell ticks apart; none where positions are logarithms.
    digits: Option<usize>,
}

impl Axis {
    /// Ticks are about `most` at most, and not less than `least` apart.
    pub(super) fn new(range: Range<f64>, most: u32, least: f64) -> Self {
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
    pub(super) fn log(range: Range<f64>) -> Self {
        let powers = range.start.floor() as i32..=range.end.ceil() as i32;
        let ticks =
            powers.flat_map(|power| [1.0_f64, 2.0, 5.0].map(|factor| f64::from(power) + factor.log10()));
        let ticks = ticks.filter(|tick| range.contains(tick)).collect();
        Self { range: range.into(), ticks, digits: None }
    }

    /// The length of its longest label, in characters.
    pub(super) fn longest_label(&self) -> usize {
        self.ticks.iter().map(|tick| self.format_ext(tick).chars().count()).max().unwrap_or(0)
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
            // A rate of a millionth would need more decimals than fit.
            Some(digits) if value.abs() < 1e5 && digits <= 5 => format!("{value:.digits$}"),
            Some(_) if *value == 0.0 => "0".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(Axis::new(0.0..0.003, 6, 0.0).longest_label(), 6);
        assert_eq!(axis(0.0..2e-6, 4, 0.0), ["0", "5.0e-7", "1.0e-6", "1.5e-6", "2.0e-6"]);
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
