//! Windows over one long series.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, Array3};

use crate::data::row_major::row_major;
use crate::data::{Dataset, Sample, TargetShape};
use crate::{Error, Real, Result, Shape};

/// Windows over one long series, to forecast it: each sample is `steps` consecutive rows, and its target the `horizon` rows
/// that follow.
///
/// Nothing is copied: windows overlap in memory, too. A sample is `[steps, inputs]`, its target `[1, horizon · targets]`, row
/// by row, as a linear layer above [`last`](crate::nn::rnn::Recurrent::last) has it. All columns are inputs and targets, unless
/// [`inputs`](Self::inputs) and [`targets`](Self::targets) choose some.
///
/// # Examples
/// Tomorrow's and the next day's demand, from demand and temperature of four days:
/// ```
/// use bptt::data::{Dataset, DatasetExt, Windows};
/// use bptt::loss::Mse;
/// use bptt::nn::{Linear, Lstm};
/// use bptt::optim::Adam;
/// use bptt::{Model, Trainer};
/// use ndarray::Array2;
///
/// let days = Array2::from_shape_fn((100, 2), |(t, column)| (t as f32 / 7.0 + column as f32).sin());
/// let windows = Windows::new(days, 4, 2)?.targets([0])?;
///
/// // No target of the training is in the last 20 days, none of the validation before them.
/// let (train, valid) = windows.split_at(80)?;
/// assert_eq!((train.len(), valid.len()), (75, 19));
/// assert_eq!((train.time(74), valid.time(0)), (78, 80));
///
/// let mut model = Model::builder(train.shape())
///     .normalize(train.mean_sd_per_feature()?)
///     .layer("lstm", Lstm::new(8).last())
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// Trainer::new(Mse, Adam::new(0.01)).epochs(2).fit(&mut model, &train, Some(&valid))?;
///
/// // What has not happened yet.
/// let forecast = model.predict(&windows.latest())?;
/// assert_eq!(forecast.dim(), (1, 1, 2));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "timeseries_dataset_from_array")]
pub struct Windows<R = f32> {
    /// `[rows, columns]`
    series: Arc<[R]>,
    columns: usize,
    steps: usize,
    horizon: usize,
    stride: usize,
    inputs: Vec<usize>,
    targets: Vec<usize>,
    /// For each column, whether its values are differences from the last row of a window.
    relative: Vec<bool>,
    /// The rows among which all targets lie; it begins at `steps` or later.
    rows: Range<usize>,
}

impl<R: Real> Windows<R> {
    /// All windows over `series`, `[time, columns]`.
    ///
    /// # Errors
    /// [`Error::Config`] if `steps` or `horizon` is 0; [`Error::Mismatch`] if the series is shorter than a window with its
    /// target, has no columns, or a value is not finite.
    pub fn new(series: Array2<R>, steps: usize, horizon: usize) -> Result<Self> {
        for (field, size) in [("steps", steps), ("horizon", horizon)] {
            if size == 0 {
                return Err(Error::config(field, "found 0, expected at least 1"));
            }
        }
        let (rows, columns) = series.dim();
        if columns == 0 || rows.checked_sub(steps).is_none_or(|left| left < horizon) {
            let expected =
                format!("at least one column, and {steps} rows for a window and {horizon} for its target");
            return Err(Error::mismatch("series", format!("[{rows}, {columns}]"), expected));
        }
        if let Some(((t, column), value)) = series.indexed_iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::mismatch(format!("series[{t}, {column}]"), value, "a finite number"));
        }
        Ok(Self {
            series: row_major("series", series)?.into(),
            columns,
            steps,
            horizon,
            stride: 1,
            inputs: (0..columns).collect(),
            targets: (0..columns).collect(),
            relative: vec![false; columns],
            rows: steps..rows,
        })
    }

    /// The columns that samples have, in this order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none, or one is not in the series.
    pub fn inputs(mut self, columns: impl Into<Vec<usize>>) -> Result<Self> {
        self.inputs = self.checked("inputs", columns.into())?;
        Ok(self)
    }

    /// The columns that are to be forecast, in this order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none, or one is not in the series.
    pub fn targets(mut self, columns: impl Into<Vec<usize>>) -> Result<Self> {
        self.targets = self.checked("targets", columns.into())?;
        Ok(self)
    }

    /// Makes the values of these columns, as inputs and as targets, differences from the last row of each window, for series
    /// that drift: a model cannot extrapolate to values that it has never seen, but changes come again. A prediction is then a
    /// difference from the last known row, too.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are none, or one is not in the series.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::{Dataset, Sample, Windows};
    /// use ndarray::array;
    ///
    /// let windows = Windows::new(array![[340.0], [341.0], [343.0], [346.0]], 2, 1)?.relative([0])?;
    /// let (mut x, mut y) = ([0.0; 2], [0.0]);
    /// windows.read(Sample::plain(1), &mut x);
    /// windows.values(Sample::plain(1), &mut y);
    /// assert_eq!((x, y), ([-2.0, 0.0], [3.0]));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn relative(mut self, columns: impl Into<Vec<usize>>) -> Result<Self> {
        self.checked("relative", columns.into())?.into_iter().for_each(|column| self.relative[column] = true);
        Ok(self)
    }

    fn checked(&self, what: &str, columns: Vec<usize>) -> Result<Vec<usize>> {
        if columns.is_empty() {
            return Err(Error::mismatch(what, "no columns", "at least one"));
        }
        if let Some(column) = columns.iter().find(|&&column| column >= self.columns) {
            let expected = format!("less than {}, the number of columns", self.columns);
            return Err(Error::mismatch(what, format!("column {column}"), expected));
        }
        Ok(columns)
    }

    /// From one window to the next, `stride` rows; 1 by default.
    ///
    /// # Errors
    /// [`Error::Config`] if it is 0.
    pub fn stride(mut self, stride: usize) -> Result<Self> {
        if stride == 0 {
            return Err(Error::config("stride", "found 0, expected at least 1"));
        }
        self.stride = stride;
        Ok(self)
    }

    /// The windows whose targets lie before row `time`, and those whose targets begin there or later, for training and
    /// validation. Windows of the second part may reach back before `time`, as in use they would.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a part would have no windows.
    #[doc(alias = "TimeSeriesSplit")]
    pub fn split_at(&self, time: usize) -> Result<(Self, Self)> {
        let part = |rows: Range<usize>| Self { rows, ..self.clone() };
        let before = part(self.rows.start..time.clamp(self.rows.start, self.rows.end));
        let after = part(time.clamp(self.rows.start, self.rows.end)..self.rows.end);
        if before.is_empty() || after.is_empty() {
            let (first, last) = (self.rows.start + self.horizon, self.rows.end.saturating_sub(self.horizon));
            let expected = format!("{first} to {last}, with a window before and after it");
            return Err(Error::mismatch("time to split at", time, expected));
        }
        Ok((before, after))
    }

    /// The row of the series at which the target of sample `index` begins.
    ///
    /// # Panics
    /// If there is no such sample.
    #[track_caller]
    pub fn time(&self, index: usize) -> usize {
        assert!(index < self.len(), "sample {index} of {}", self.len());
        self.rows.start + index * self.stride
    }

    /// The last window of the series, after which nothing is known, `[1, steps, inputs]`.
    pub fn latest(&self) -> Array3<R> {
        let rows = self.series.len() / self.columns;
        let mut x = Array3::from_elem((1, self.steps, self.inputs.len()), R::ZERO);
        let window = self.values_of(rows - self.steps..rows, &self.inputs, rows);
        x.iter_mut().zip(window).for_each(|(x, value)| *x = value);
        x
    }

    /// The values of some rows and columns, row by row, where a window ends before row `time`.
    fn values_of(&self, rows: Range<usize>, columns: &[usize], time: usize) -> impl Iterator<Item = R> {
        let row = |t: usize| &self.series[t * self.columns..][..self.columns];
        let last = row(time - 1);
        let value = move |of: &[R], column: usize| {
            if self.relative[column] { of[column] - last[column] } else { of[column] }
        };
        rows.flat_map(move |t| columns.iter().map(move |&column| value(row(t), column)))
    }
}

impl<R: Real> Dataset for Windows<R> {
    type Elem = R;

    fn len(&self) -> usize {
        // How far the first target can move until it ends with the rows.
        let room = self.rows.len().checked_sub(self.horizon);
        room.map_or(0, |room| room / self.stride + 1)
    }

    fn shape(&self) -> Shape {
        Shape::new(self.steps, self.inputs.len())
    }

    fn target_shape(&self) -> TargetShape {
        TargetShape::Values(Shape::new(1, self.horizon * self.targets.len()))
    }

    fn read(&self, sample: Sample, x: &mut [R]) {
        assert_eq!(x.len(), self.shape().size(), "a sample of {}", self.shape());
        let time = self.time(sample.index);
        let window = self.values_of(time - self.steps..time, &self.inputs, time);
        x.iter_mut().zip(window).for_each(|(x, value)| *x = value);
    }

    fn values(&self, sample: Sample, values: &mut [R]) {
        assert_eq!(values.len(), self.horizon * self.targets.len(), "the values of a target");
        let time = self.time(sample.index);
        let target = self.values_of(time..time + self.horizon, &self.targets, time);
        values.iter_mut().zip(target).for_each(|(y, value)| *y = value);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::data::DatasetExt;

    /// Row t is t, 10 t, 100 t.
    fn series(rows: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, 3), |(t, column)| t as f64 * 10f64.powi(column as i32))
    }

    #[test]
    fn a_window_and_what_follows() {
        let windows = Windows::new(series(9), 3, 2).unwrap().inputs([2, 0]).unwrap().targets([1]).unwrap();
        assert_eq!((windows.len(), windows.shape()), (5, Shape::new(3, 2)));
        let (mut x, mut y) = ([0.0; 6], [0.0; 2]);
        windows.read(Sample::plain(1), &mut x);
        windows.values(Sample::plain(1), &mut y);
        assert_eq!((x, y), ([100.0, 1.0, 200.0, 2.0, 300.0, 3.0], [40.0, 50.0]));
        windows.values(Sample::plain(4), &mut y);
        assert_eq!((windows.time(4), y), (7, [70.0, 80.0]));
        assert_eq!(windows.latest(), array![[[600.0, 6.0], [700.0, 7.0], [800.0, 8.0]]]);
        // All columns by default.
        let all = Windows::new(series(9), 3, 2).unwrap();
        assert_eq!((all.shape(), all.target_values().unwrap().dim()), (Shape::new(3, 3), (5, 1, 6)));
    }

    #[test]
    fn chosen_columns_are_differences() {
        let windows = Windows::new(series(9), 3, 2).unwrap().inputs([2, 0]).unwrap().targets([1]).unwrap();
        let windows = windows.relative([0, 1]).unwrap();
        let (mut x, mut y) = ([0.0; 6], [0.0; 2]);
        windows.read(Sample::plain(1), &mut x);
        windows.values(Sample::plain(1), &mut y);
        assert_eq!((x, y), ([100.0, -2.0, 200.0, -1.0, 300.0, 0.0], [10.0, 20.0]));
        assert_eq!(windows.latest(), array![[[600.0, -2.0], [700.0, -1.0], [800.0, 0.0]]]);
        let fault = windows.relative([3]).unwrap_err().to_string();
        assert_eq!(fault, "relative: found column 3, expected less than 3, the number of columns");
    }

    /// For every size: no target is on both sides, all that fit are on one, and windows are `stride` apart.
    #[test]
    fn a_split_in_time_leaks_nothing() {
        for (steps, horizon, stride, time) in [(3, 2, 1, 12), (1, 1, 3, 7), (4, 3, 2, 9), (5, 1, 4, 6)] {
            let windows = Windows::new(series(20), steps, horizon).unwrap().stride(stride).unwrap();
            let (train, valid) = windows.split_at(time).unwrap();
            let begins = |part: &Windows<f64>| (0..part.len()).map(|i| part.time(i)).collect::<Vec<_>>();
            let expected: Vec<_> = (steps..).step_by(stride).take_while(|t| t + horizon <= time).collect();
            assert_eq!(begins(&train), expected);
            let expected: Vec<_> = (time..).step_by(stride).take_while(|t| t + horizon <= 20).collect();
            assert_eq!(begins(&valid), expected);
        }
        // Not before the first window has its steps.
        let (_, valid) = Windows::new(series(20), 2, 1).unwrap().split_at(3).unwrap();
        assert_eq!((valid.time(0), valid.len()), (3, 17));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |windows: Result<Windows<f64>>| windows.unwrap_err().to_string();
        assert_eq!(fault(Windows::new(series(9), 0, 1)), "`steps`: found 0, expected at least 1");
        assert_eq!(fault(Windows::new(series(9), 1, 0)), "`horizon`: found 0, expected at least 1");
        assert!(fault(Windows::new(series(4), 3, 2)).starts_with("series: found [4, 3], expected"));
        assert!(fault(Windows::new(series(2), 3, usize::MAX)).starts_with("series: found [2, 3]"));
        let windows = || Windows::new(series(5), 3, 2).unwrap();
        assert_eq!(windows().len(), 1);
        assert_eq!(fault(windows().stride(0)), "`stride`: found 0, expected at least 1");
        assert_eq!(
            fault(windows().targets([0, 3])),
            "targets: found column 3, expected less than 3, the number of columns"
        );
        assert_eq!(fault(windows().inputs([])), "inputs: found no columns, expected at least one");
        assert!(fault(Windows::new(array![[0.0], [f64::NAN]], 1, 1)).starts_with("series[1, 0]: found NaN"));
        let longer = Windows::new(series(9), 3, 2).unwrap();
        for time in [0, 4, 8, 99] {
            let fault = longer.split_at(time).unwrap_err().to_string();
            let expected =
                format!("time to split at: found {time}, expected 5 to 7, with a window before and after it");
            assert_eq!(fault, expected);
        }
        assert!(longer.split_at(5).is_ok() && longer.split_at(7).is_ok());
    }
}
