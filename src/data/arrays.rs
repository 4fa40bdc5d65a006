//! Sequences held in memory, from arrays.

use std::fmt::Display;

use ndarray::{Array2, Array3, ArrayView1, Axis};

use crate::data::dataset::{check_tile, gather_values};
use crate::data::row_major::row_major;
use crate::data::{Dataset, Normalize, Sample, TargetShape};
use crate::{Error, Real, Result, SeqMut, Shape};

/// Sequences in an array, with their targets.
///
/// # Examples
/// Whether a sequence rises or falls:
/// ```
/// use bptt::data::{Arrays, Dataset};
/// use ndarray::array;
///
/// let x = array![[[1.0_f32], [2.0], [3.0]], [[3.0], [2.0], [1.0]]]; // 2 sequences, 3 steps, 1 feature
/// let data = Arrays::classes(x, &[0, 1], ["rises", "falls"])?;
/// assert_eq!((data.len(), data.shape().t, data.shape().f), (2, 3, 1));
/// # Ok::<(), bptt::Error>(())
/// ```
/// The next value of each:
/// ```
/// # use bptt::data::{Arrays, Dataset, TargetShape};
/// # use ndarray::array;
/// let x = array![[[1.0_f32], [2.0], [3.0]], [[3.0], [2.0], [1.0]]];
/// let data = Arrays::vectors(x, array![[4.0], [0.0]])?;
/// assert_eq!(data.target_shape(), TargetShape::Values(bptt::Shape::new(1, 1)));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Arrays<R = f32> {
    /// `[n, T, F]`
    x: Vec<R>,
    n: usize,
    shape: Shape,
    targets: ArrayTargets<R>,
    class_names: Vec<String>,
    /// One for each sequence, or none.
    lens: Vec<usize>,
    /// One for each sequence, or none.
    weights: Vec<f64>,
}

#[derive(Clone, Debug)]
enum ArrayTargets<R> {
    /// `[n, t]`
    Classes {
        t: usize,
        y: Vec<i64>,
    },
    /// `[n, T', F']`
    Values {
        shape: Shape,
        y: Vec<R>,
    },
    /// `[n, most]`
    Labels {
        most: usize,
        y: Vec<i64>,
    },
    None,
}

impl<R: Real> Arrays<R> {
    /// The class of a step that has none, which losses leave out. It is PyTorch's `ignore_index`.
    pub const NO_CLASS: i64 = -100;

    /// Sequences `x`, `[n, T, F]`, with a class each: `y`, `[n]`, of indices into `class_names`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a sequence has no values, a value is not finite, the lengths of `x` and `y` differ, or
    /// a class has no name.
    pub fn classes<'a, S: Into<String>>(
        x: Array3<R>,
        y: impl Into<ArrayView1<'a, usize>>,
        class_names: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let y: ArrayView1<'_, usize> = y.into();
        let class_names = names(class_names)?;
        if let Some((i, class)) = y.indexed_iter().find(|&(_, &class)| class >= class_names.len()) {
            return Err(no_such_class(&format!("y[{i}]"), class, class_names.len(), ""));
        }
        let y = y.mapv(|class| class as i64);
        Self::with_classes(x, y.insert_axis(Axis(1)), class_names)
    }

    /// Sequences `x`, `[n, T, F]`, with a class for each step: `y`, `[n, T]`, of indices into `class_names` or
    /// [`Arrays::NO_CLASS`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a sequence has no values, a value is not finite, the shapes of `x` and `y` differ, or
    /// a class has no name.
    pub fn step_classes<S: Into<String>>(
        x: Array3<R>,
        y: Array2<i64>,
        class_names: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        if y.dim().1 != x.dim().1 {
            return Err(Error::mismatch(
                "y",
                format!("{} steps", y.dim().1),
                format!("{} as in x", x.dim().1),
            ));
        }
        let class_names = names(class_names)?;
        let known = 0..class_names.len() as i64;
        let fits = |class: i64| known.contains(&class) || class == Self::NO_CLASS;
        if let Some(((i, t), class)) = y.indexed_iter().find(|&(_, &class)| !fits(class)) {
            let none = format!(", or {} for none", Self::NO_CLASS);
            return Err(no_such_class(&format!("y[{i}, {t}]"), class, class_names.len(), &none));
        }
        Self::with_classes(x, y, class_names)
    }

    /// Sequences `x`, `[n, T, F]`, with a sequence of values each: `y`, `[n, T', F']`. A target that is NaN counts as
    /// missing: losses leave it out.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a sequence or its target has no values, a value of `x` is not finite or one of `y`
    /// infinite, or the lengths of `x` and `y` differ.
    pub fn values(x: Array3<R>, y: Array3<R>) -> Result<Self> {
        let (n, shape, x) = checked("x", x, "a finite number", R::is_finite)?;
        let (targets, target_shape, y) =
            checked("y", y, "a finite number, or NaN for none", |y| !y.to_f64().is_infinite())?;
        check_targets(targets, n)?;
        let targets = ArrayTargets::Values { shape: target_shape, y };
        Ok(Self { x, n, shape, targets, class_names: Vec::new(), lens: Vec::new(), weights: Vec::new() })
    }

    /// Sequences `x`, `[n, T, F]`, with a vector of values each: `y`, `[n, F']`; the target has T' = 1.
    ///
    /// # Errors
    /// As for [`Arrays::values`].
    pub fn vectors(x: Array3<R>, y: Array2<R>) -> Result<Self> {
        Self::values(x, y.insert_axis(Axis(1)))
    }

    /// Sequences `x`, `[n, T, F]`, with a sequence of labels each, which is not aligned with its steps: indices into
    /// `class_names`, as many as there are. The names include the blank, `"blank"` for example, which is no label.
    ///
    /// # Errors
    /// As for [`Arrays::classes`].
    pub fn labels<S: Into<String>>(
        x: Array3<R>,
        labels: impl IntoIterator<Item = impl AsRef<[usize]>>,
        class_names: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let class_names = names(class_names)?;
        let labels: Vec<_> = labels.into_iter().collect();
        let most = labels.iter().map(|labels| labels.as_ref().len()).max().unwrap_or(0);
        let mut y = Vec::with_capacity(labels.len() * most);
        for (i, labels) in labels.iter().enumerate() {
            for (j, &class) in labels.as_ref().iter().enumerate() {
                if class >= class_names.len() {
                    return Err(no_such_class(&format!("labels[{i}][{j}]"), class, class_names.len(), ""));
                }
                y.push(class as i64);
            }
            y.resize((i + 1) * most, Self::NO_CLASS);
        }
        let (n, shape, x) = checked("x", x, "a finite number", R::is_finite)?;
        check_targets(labels.len(), n)?;
        let targets = ArrayTargets::Labels { most, y };
        Ok(Self { x, n, shape, targets, class_names, lens: Vec::new(), weights: Vec::new() })
    }

    /// Sequences `x`, `[n, T, F]`, without targets, for [`Model::predict`](crate::Model::predict). An array is such a dataset,
    /// too; this one can have [`lengths`](Self::lengths).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a sequence has no values, or a value is not finite.
    pub fn unlabelled(x: Array3<R>) -> Result<Self> {
        let (n, shape, x) = checked("x", x, "a finite number", R::is_finite)?;
        let targets = ArrayTargets::None;
        Ok(Self { x, n, shape, targets, class_names: Vec::new(), lens: Vec::new(), weights: Vec::new() })
    }

    /// Sets the length of each sequence in steps, as [`pad`](super::pad) returns it; the steps after it are padding, which
    /// recurrent layers skip.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is not one length for each sequence, or one is not 1 to T.
    pub fn lengths(mut self, lens: impl Into<Vec<usize>>) -> Result<Self> {
        self.lens = lens.into();
        if self.lens.len() != self.n {
            let found = format!("{} lengths", self.lens.len());
            return Err(Error::mismatch("lengths", found, format!("one for each of {} sequences", self.n)));
        }
        let t = self.shape.t;
        if let Some((i, len)) = self.lens.iter().enumerate().find(|(_, len)| !(1..=t).contains(*len)) {
            return Err(Error::mismatch(format!("lengths[{i}]"), len, format!("1 to {t}")));
        }
        Ok(self)
    }

    /// Weights the sequences in the loss and its gradient; see [`Dataset::weight`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is not one weight for each sequence, or one is negative or not finite.
    ///
    /// # Examples
    /// ```
    /// use bptt::data::Arrays;
    /// use ndarray::array;
    ///
    /// let x = array![[[1.0_f32], [2.0]], [[3.0], [2.0]]];
    /// let data = Arrays::classes(x, &[0, 1], ["rises", "falls"])?.weights([1.0, 2.5])?;
    /// # let _ = data;
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn weights(mut self, weights: impl Into<Vec<f64>>) -> Result<Self> {
        self.weights = weights.into();
        if self.weights.len() != self.n {
            let found = format!("{} weights", self.weights.len());
            return Err(Error::mismatch("weights", found, format!("one for each of {} sequences", self.n)));
        }
        if let Some((i, weight)) =
            self.weights.iter().enumerate().find(|(_, w)| !(w.is_finite() && **w >= 0.0))
        {
            return Err(Error::mismatch(format!("weights[{i}]"), weight, "a finite number of at least 0"));
        }
        Ok(self)
    }

    /// Sequences with named classes `y`, `[n, t]`.
    fn with_classes(x: Array3<R>, y: Array2<i64>, class_names: Vec<String>) -> Result<Self> {
        let (n, shape, x) = checked("x", x, "a finite number", R::is_finite)?;
        let (targets, t) = y.dim();
        check_targets(targets, n)?;
        let targets = ArrayTargets::Classes { t, y: row_major("y", y)? };
        Ok(Self { x, n, shape, targets, class_names, lens: Vec::new(), weights: Vec::new() })
    }

    /// Row `index` of `rows`, of `size` values.
    #[track_caller]
    fn row<'a, T>(&self, rows: &'a [T], size: usize, index: usize) -> &'a [T] {
        assert!(index < self.n, "sample {index} of {}", self.n);
        &rows[index * size..][..size]
    }
}

fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Vec<String>> {
    let names: Vec<_> = names.into_iter().map(Into::into).collect();
    crate::names::check_classes(&names)?;
    Ok(names)
}

fn no_such_class(place: &str, class: impl Display, names: usize, or: &str) -> Error {
    Error::mismatch(place, format!("class {class}"), format!("an index into the {names} class names{or}"))
}

/// The number, shape and values of sequences, checked.
fn checked<R: Real>(
    name: &str,
    array: Array3<R>,
    expected: &str,
    fits: impl Fn(R) -> bool,
) -> Result<(usize, Shape, Vec<R>)> {
    let (n, t, f) = array.dim();
    if t == 0 || f == 0 {
        return Err(Error::mismatch(name, format!("[{n}, {t}, {f}]"), "at least one step and one feature"));
    }
    if let Some(((i, t, f), value)) = array.indexed_iter().find(|(_, value)| !fits(**value)) {
        return Err(Error::mismatch(format!("{name}[{i}, {t}, {f}]"), value, expected));
    }
    Ok((n, Shape::new(t, f), row_major(name, array)?))
}

fn check_targets(targets: usize, n: usize) -> Result<()> {
    if targets != n {
        return Err(Error::mismatch("y", format!("{targets} targets"), format!("{n}, one for each of x")));
    }
    Ok(())
}

impl<R: Real> Dataset for Arrays<R> {
    type Elem = R;

    fn len(&self) -> usize {
        self.n
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn target_shape(&self) -> TargetShape {
        match self.targets {
            ArrayTargets::Classes { t, .. } => TargetShape::Classes { t },
            ArrayTargets::Values { shape, .. } => TargetShape::Values(shape),
            ArrayTargets::Labels { most, .. } => TargetShape::Labels { most },
            ArrayTargets::None => TargetShape::None,
        }
    }

    fn length(&self, sample: Sample) -> Option<usize> {
        self.lens.get(sample.index).copied()
    }

    fn weight(&self, sample: Sample) -> f64 {
        self.weights.get(sample.index).copied().unwrap_or(1.0)
    }

    fn read(&self, sample: Sample, x: &mut [R]) {
        let own = self.row(&self.x, self.shape.size(), sample.index);
        assert_eq!(x.len(), own.len(), "a sample of {}", self.shape);
        x.copy_from_slice(own);
    }

    fn gather(&self, samples: &[Sample], normalize: &Normalize, _scratch: &mut [R], x: SeqMut<'_, R>) {
        check_tile(samples, self.shape, &x);
        let row = |sample: &Sample| self.row(&self.x, self.shape.size(), sample.index);
        gather_values(samples, row, normalize, x);
    }

    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        let (ArrayTargets::Classes { t, y } | ArrayTargets::Labels { most: t, y }) = &self.targets else {
            panic!("these targets are no classes");
        };
        assert_eq!(classes.len(), *t, "the classes of a sample");
        classes.copy_from_slice(self.row(y, *t, sample.index));
    }

    fn values(&self, sample: Sample, values: &mut [R]) {
        let ArrayTargets::Values { shape, y } = &self.targets else {
            panic!("these targets are no values");
        };
        assert_eq!(values.len(), shape.size(), "a target of {shape}");
        values.copy_from_slice(self.row(y, shape.size(), sample.index));
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    /// Two sequences of two steps of three features.
    fn x() -> Array3<f32> {
        Array3::from_shape_fn((2, 2, 3), |(i, t, f)| (100 * i + 10 * t + f) as f32)
    }

    #[track_caller]
    fn message(result: Result<Arrays>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn reads_samples_and_classes() {
        let labels: Array1<usize> = array![1, 0];
        let data = Arrays::classes(x(), &labels, ["a", "b"]).unwrap();
        assert_eq!((data.len(), data.shape()), (2, Shape::new(2, 3)));
        assert_eq!(data.target_shape(), TargetShape::Classes { t: 1 });
        assert_eq!(data.class_names(), ["a", "b"]);
        let (mut sample, mut class) = ([0.0; 6], [9]);
        data.read(Sample::plain(1), &mut sample);
        data.classes(Sample::plain(0), &mut class);
        assert_eq!((sample, class), ([100.0, 101.0, 102.0, 110.0, 111.0, 112.0], [1]));
    }

    #[test]
    fn reads_classes_of_steps() {
        let data = Arrays::step_classes(x(), array![[0, 1], [-100, 1]], ["a", "b"]).unwrap();
        assert_eq!(data.target_shape(), TargetShape::Classes { t: 2 });
        let mut classes = [9; 2];
        data.classes(Sample::plain(1), &mut classes);
        assert_eq!(classes, [Arrays::<f32>::NO_CLASS, 1]);
    }

    #[test]
    fn reads_values() {
        let data = Arrays::values(x(), array![[[1.0, 2.0]], [[3.0, 4.0]]]).unwrap();
        assert_eq!(data.target_shape(), TargetShape::Values(Shape::new(1, 2)));
        let same = Arrays::vectors(x(), array![[1.0, 2.0], [3.0, 4.0]]).unwrap();
        assert_eq!(same.target_shape(), data.target_shape());
        for data in [data, same] {
            let mut values = [0.0; 2];
            data.values(Sample::plain(1), &mut values);
            assert_eq!(values, [3.0, 4.0]);
        }
    }

    #[test]
    fn takes_arrays_of_any_layout() {
        let data = Arrays::classes(x().permuted_axes([0, 2, 1]), &[0, 0], ["a"]).unwrap();
        assert_eq!(data.shape(), Shape::new(3, 2));
        let mut sample = [0.0; 6];
        data.read(Sample::plain(0), &mut sample);
        assert_eq!(sample, [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let names = ["a", "b"];
        assert_eq!(
            message(Arrays::classes(x(), &[0], names)),
            "y: found 1 targets, expected 2, one for each of x"
        );
        assert_eq!(
            message(Arrays::classes(x(), &[0, 2], names)),
            "y[1]: found class 2, expected an index into the 2 class names"
        );
        assert!(
            message(Arrays::classes(x(), &[0, usize::MAX], names))
                .contains(&format!("found class {}", usize::MAX))
        );
        assert_eq!(
            message(Arrays::step_classes(x(), array![[0], [0]], names)),
            "y: found 1 steps, expected 2 as in x"
        );
        assert_eq!(
            message(Arrays::step_classes(x(), array![[0, 0], [-1, 0]], names)),
            "y[1, 0]: found class -1, expected an index into the 2 class names, or -100 for none"
        );
        assert_eq!(
            message(Arrays::vectors(x(), array![[0.0]])),
            "y: found 1 targets, expected 2, one for each of x"
        );
        assert!(message(Arrays::vectors(x(), Array2::zeros((2, 0)))).starts_with("y: found [2, 1, 0]"));
        assert!(message(Arrays::classes(Array3::zeros((2, 0, 3)), &[0, 0], names)).starts_with("x: found"));
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut bad = x();
        bad[[1, 0, 2]] = f32::NAN;
        assert_eq!(
            message(Arrays::classes(bad, &[0, 0], ["a"])),
            "x[1, 0, 2]: found NaN, expected a finite number"
        );
        let y = array![[f32::NAN], [f32::INFINITY]];
        let expected = "y[1, 0, 0]: found inf, expected a finite number, or NaN for none";
        assert_eq!(message(Arrays::vectors(x(), y)), expected);
    }

    #[test]
    #[should_panic(expected = "sample 2 of 2")]
    fn reading_past_the_end_panics() {
        Arrays::classes(x(), &[0, 0], ["a"]).unwrap().classes(Sample::plain(2), &mut [0]);
    }

    #[test]
    #[should_panic(expected = "a sample of [2, 3]")]
    fn reading_into_too_little_panics() {
        Arrays::classes(x(), &[0, 0], ["a"]).unwrap().read(Sample::plain(0), &mut [0.0; 5]);
    }

    #[test]
    #[should_panic(expected = "these targets are no values")]
    fn classes_are_not_values() {
        Arrays::classes(x(), &[0, 0], ["a"]).unwrap().values(Sample::plain(0), &mut [0.0]);
    }

    #[test]
    #[should_panic(expected = "these targets are no classes")]
    fn values_are_not_classes() {
        Arrays::vectors(x(), array![[1.0], [2.0]]).unwrap().classes(Sample::plain(0), &mut [0]);
    }
}
