//! The result of a gradient check.

use std::fmt;

use super::GradCheck;

/// The check of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The tensor: a parameter's name, `input`, `output`, or `…: initial state`.
    pub name: String,
    /// The number of derivatives that were checked.
    pub count: usize,
    /// The largest error |a − n| / max(|a|, |n|, floor) among them.
    pub error: f64,
    /// The element with this error.
    pub index: usize,
    /// Its derivative, from the backward pass.
    pub analytic: f64,
    /// Its derivative, from differences.
    pub numeric: f64,
}

/// The result of a check, by tensor; prints as a table, the worst first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// One for each tensor.
    pub entries: Vec<Entry>,
}

impl Report {
    pub(super) fn entry(
        &mut self,
        name: &str,
        analytic: &[f64],
        check: &GradCheck,
        mut loss: impl FnMut(usize, f64) -> f64,
    ) {
        let mut worst = Entry {
            name: name.to_owned(),
            count: analytic.len(),
            error: -1.0,
            index: 0,
            analytic: 0.0,
            numeric: 0.0,
        };
        let h = check.step;
        for (index, &analytic) in analytic.iter().enumerate() {
            let near = loss(index, h) - loss(index, -h);
            let far = loss(index, 2.0 * h) - loss(index, -2.0 * h);
            let numeric = (8.0 * near - far) / (12.0 * h);
            let error = (analytic - numeric).abs() / analytic.abs().max(numeric.abs()).max(check.floor);
            // NaN is worse than any number.
            if error > worst.error || error.is_nan() {
                worst = Entry { error, index, analytic, numeric, ..worst };
            }
        }
        self.entries.push(worst);
    }

    /// The tensor with the largest error.
    pub fn worst(&self) -> Option<&Entry> {
        let key = |error: f64| if error.is_nan() { f64::INFINITY } else { error };
        self.entries.iter().max_by(|a, b| key(a.error).total_cmp(&key(b.error)))
    }

    /// The largest error; NaN if any is.
    pub fn max_error(&self) -> f64 {
        self.worst().map_or(0.0, |worst| worst.error)
    }

    /// Asserts that no error reaches `tolerance`.
    ///
    /// # Panics
    /// If one does, with the whole report.
    #[track_caller]
    pub fn assert_below(&self, tolerance: f64) {
        let error = self.max_error();
        assert!(
            error < tolerance,
            "gradients are off by {error:.1e}, expected below {tolerance:.0e}:\n{self}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|a, b| b.error.total_cmp(&a.error));
        let width = entries.iter().map(|e| e.name.chars().count()).max().unwrap_or(0).max(6);
        writeln!(
            f,
            "{:width$}  {:>7}  {:>8}  {:>6}  {:>14}  {:>14}",
            "tensor", "checked", "error", "at", "backward", "differences"
        )?;
        for Entry { name, count, error, index, analytic, numeric } in entries {
            writeln!(
                f,
                "{name:width$}  {count:>7}  {error:>8.1e}  {index:>6}  {analytic:>14.7e}  {numeric:>14.7e}"
            )?;
        }
        Ok(())
    }
}
