//! Datasets: samples of one shape, each with a target.

use ndarray::{ArrayBase, Axis, Data, Ix3};
use serde::{Deserialize, Serialize};

use super::Draw;
use crate::data::forward::forward;
use crate::{Error, Real, Result, Scalar, SeqMut, Shape};

/// One draw of a sample from a dataset.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The index of the sample, `0..len`.
    pub index: usize,
    /// The key of this draw's random numbers, a function of (seed, epoch, position in the epoch).
    ///
    /// A dataset that augments its samples derives all of its random numbers from it; others ignore it. It is 0 where
    /// nothing may be random, as in evaluation.
    pub key: u64,
    /// The epoch of this draw, as [`Batch::epoch`](super::Batch::epoch); 0 outside training.
    pub epoch: usize,
    /// The weight of this draw, 1 unless a sampler gives another. It multiplies the sample's own,
    /// [`Dataset::weight`].
    pub weight: f64,
}

impl Sample {
    /// Sample `index`, with random numbers from `key` and weight 1, of epoch 0.
    pub const fn new(index: usize, key: u64) -> Self {
        Self { index, key, epoch: 0, weight: 1.0 }
    }

    /// What `epoch` drew, its own randomness drawn from `key`.
    pub const fn of(draw: Draw, epoch: usize, key: u64) -> Self {
        Self { index: draw.index as usize, key, epoch, weight: draw.weight }
    }

    /// Sample `index` without randomness: with key 0 and weight 1.
    pub const fn plain(index: usize) -> Self {
        Self::new(index, 0)
    }
}

/// The kind and shape of a dataset's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetShape {
    /// None, as in an array of samples: a model can predict from them, but neither be trained nor evaluated.
    None,
    /// A class for each of `t` steps (1 if the whole sample has one class).
    Classes {
        /// The number of steps.
        t: usize,
    },
    /// Real values of this shape.
    Values(Shape),
    /// A sequence of labels for each sample, which is not aligned with its steps, for [`Ctc`](crate::loss::Ctc).
    Labels {
        /// The most labels of any sample.
        most: usize,
    },
}

impl TargetShape {
    /// Whether the targets are classes.
    pub const fn is_classes(self) -> bool {
        matches!(self, Self::Classes { .. })
    }

    /// How many whole numbers [`Dataset::classes`] writes: classes or labels.
    pub(crate) const fn whole_numbers(self) -> Option<usize> {
        match self {
            Self::Classes { t } => Some(t),
            Self::Labels { most } => Some(most),
            Self::None | Self::Values(_) => None,
        }
    }
}

/// Samples of one shape `[T, F]`, each with a target: classes or real values.
///
/// A custom dataset implements `len`, `shape`, `target_shape`, `read`, and either `classes` or `values`, depending on
/// `target_shape`.
///
/// An array `[n, T, F]`, or a view of one, is a dataset too, of samples without targets, for
/// [`Model::predict`](crate::Model::predict).
///
/// # Examples
/// Data that are computed on request: which of two tones is it?
/// ```
/// use bptt::Shape;
/// use bptt::data::{Dataset, Sample, TargetShape};
///
/// struct Tones(Vec<String>);
///
/// impl Dataset for Tones {
///     type Elem = f32;
///
///     fn len(&self) -> usize {
///         1000
///     }
///     fn shape(&self) -> Shape {
///         Shape::new(40, 1)
///     }
///     fn target_shape(&self) -> TargetShape {
///         TargetShape::Classes { t: 1 }
///     }
///     fn read(&self, sample: Sample, x: &mut [f32]) {
///         let (phase, rate) = (sample.index as f32, if sample.index % 2 == 0 { 0.3 } else { 0.4 });
///         x.iter_mut().enumerate().for_each(|(t, x)| *x = (phase + rate * t as f32).sin());
///     }
///     fn classes(&self, sample: Sample, classes: &mut [i64]) {
///         classes[0] = sample.index as i64 % 2;
///     }
///     fn class_names(&self) -> &[String] {
///         &self.0
///     }
/// }
/// let data = Tones(vec!["low".into(), "high".into()]);
/// let mut x = [0.0; 40];
/// data.read(Sample::plain(3), &mut x);
/// assert_eq!(x[0], 3f32.sin());
/// ```
pub trait Dataset: Send + Sync {
    /// The scalar type of the samples, which is that of the model.
    type Elem: Real;

    /// How many samples there are.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of each sample.
    fn shape(&self) -> Shape;

    /// The shape of each target.
    fn target_shape(&self) -> TargetShape;

    /// The length of a sample's sequence in steps, 1 to T, where sequences differ in length; the steps after it are
    /// padding. `None` means T.
    ///
    /// Padding is never used: what [`read`](Self::read) leaves there, even NaN, changes no output, loss, accuracy or
    /// gradient, and targets of padded steps do not count.
    fn length(&self, _sample: Sample) -> Option<usize> {
        None
    }

    /// The weight of a sample in the loss and its gradient, a finite number of at least 0; 1 by default. It does not
    /// affect accuracies.
    ///
    /// The mean loss of a batch is Σ wᵢ lossᵢ / n: weights do not enter the denominator, unless the loss is a
    /// [`WeightedMean`](crate::loss::WeightedMean).
    fn weight(&self, _sample: Sample) -> f64 {
        1.0
    }

    /// Writes one sample into `x`, `[T, F]` row-major.
    ///
    /// # Panics
    /// If the length of `x` is not `T · F`, or the index is out of range.
    fn read(&self, sample: Sample, x: &mut [Self::Elem]);

    /// Writes one sample's classes, one per step; where the targets are labels, writes those, and a negative number in
    /// each place that is left.
    ///
    /// # Panics
    /// If the targets are neither classes nor labels.
    fn classes(&self, _sample: Sample, _classes: &mut [i64]) {
        panic!("expected a dataset of classes, found targets {:?}", self.target_shape());
    }

    /// Writes one sample's target values, `[T', F']` row-major.
    ///
    /// # Panics
    /// If the targets are not values.
    fn values(&self, _sample: Sample, _values: &mut [Self::Elem]) {
        panic!("expected a dataset of values, found targets {:?}", self.target_shape());
    }

    /// The names of the classes, if they have any.
    fn class_names(&self) -> &[String] {
        &[]
    }

    /// Fills the tile `x`: sample `samples[l]`, normalised, in lane `l`, and 0 in the lanes that are left.
    ///
    /// By default it reads sample by sample into `scratch` (`T · F` values) and transposes; a dataset that can do this in
    /// one pass may override it.
    ///
    /// # Panics
    /// If there are more samples than lanes, or a shape or length does not fit.
    fn gather(
        &self,
        samples: &[Sample],
        normalize: &Normalize,
        scratch: &mut [Self::Elem],
        x: SeqMut<'_, Self::Elem>,
    ) {
        gather_by_reading(self, samples, normalize, scratch, x);
    }
}

/// The default of [`Dataset::gather`].
pub(super) fn gather_by_reading<D: Dataset + ?Sized>(
    data: &D,
    samples: &[Sample],
    normalize: &Normalize,
    scratch: &mut [D::Elem],
    x: SeqMut<'_, D::Elem>,
) {
    check_tile(samples, data.shape(), &x);
    let (shape, lanes) = (x.shape, x.lanes);
    x.data.fill(D::Elem::ZERO);
    for (lane, &sample) in samples.iter().enumerate() {
        data.read(sample, scratch);
        for (i, &value) in scratch.iter().enumerate() {
            x.data[i * lanes + lane] = normalize.apply(value, i % shape.f);
        }
    }
}

/// As [`gather_by_reading`], of samples that lie in memory as they are read; `row` returns one.
pub(super) fn gather_values<'a, R: Real>(
    samples: &[Sample],
    row: impl Fn(&Sample) -> &'a [R],
    normalize: &Normalize,
    x: SeqMut<'_, R>,
) {
    if normalize.is_identity() {
        return gather_rows(samples, row, normalize, |_| |value| value, x);
    }
    gather_rows(samples, row, normalize, |feature| move |value| normalize.apply(value, feature), x);
}

/// Fills a tile with samples that lie in memory; `row` returns one, and `value` what normalises a feature of it. Where all
/// features are normalised alike, they are gathered together.
pub(super) fn gather_rows<'a, T: Copy + 'a, R: Real, V: Fn(T) -> R>(
    samples: &[Sample],
    row: impl Fn(&Sample) -> &'a [T],
    normalize: &Normalize,
    value: impl Fn(usize) -> V,
    mut x: SeqMut<'_, R>,
) {
    let features = if normalize.mean().len() == 1 { 1 } else { x.shape.f };
    for feature in 0..features {
        let places = (feature..x.shape.size()).step_by(features);
        gather_places(samples, &row, places, value(feature), &mut x);
    }
}

/// Fills a tile at some places of a sample, with `value` of what lies there in each of the samples, and 0 in the lanes that
/// are left.
// Four samples at a time: their addresses stay in registers, and four values are written side by side.
fn gather_places<'a, T: Copy + 'a, R: Real>(
    samples: &[Sample],
    row: impl Fn(&Sample) -> &'a [T],
    places: impl Iterator<Item = usize> + Clone,
    value: impl Fn(T) -> R,
    x: &mut SeqMut<'_, R>,
) {
    let (groups, rest) = samples.as_chunks::<4>();
    for (group, lane) in groups.iter().zip((0..).step_by(4)) {
        let rows = group.each_ref().map(&row);
        for place in places.clone() {
            let x = &mut x.data[place * x.lanes + lane..][..4];
            for n in 0..4 {
                x[n] = value(rows[n][place]);
            }
        }
    }
    for (sample, lane) in rest.iter().zip(4 * groups.len()..) {
        let row = row(sample);
        places.clone().for_each(|place| x.data[place * x.lanes + lane] = value(row[place]));
    }
    if samples.len() < x.lanes {
        places.for_each(|place| x.data[place * x.lanes..][samples.len()..x.lanes].fill(R::ZERO));
    }
}

/// Checks the sizes of a tile to be gathered.
///
/// # Panics
/// If there are more samples than lanes, or the tile is of samples of another shape.
#[track_caller]
pub(super) fn check_tile<R>(samples: &[Sample], shape: Shape, x: &SeqMut<'_, R>) {
    assert!(samples.len() <= x.lanes, "{} samples in a tile of {} lanes", samples.len(), x.lanes);
    assert_eq!(x.shape, shape, "a tile of samples of {shape}");
}

impl<D: Dataset + ?Sized> Dataset for &D {
    type Elem = D::Elem;

    forward!(self to (**self), sample is sample);

    fn len(&self) -> usize {
        (**self).len()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn read(&self, sample: Sample, x: &mut [Self::Elem]) {
        (**self).read(sample, x);
    }

    fn gather(
        &self,
        samples: &[Sample],
        normalize: &Normalize,
        scratch: &mut [Self::Elem],
        x: SeqMut<'_, Self::Elem>,
    ) {
        (**self).gather(samples, normalize, scratch, x);
    }
}

/// Samples without targets, `[n, T, F]`.
impl<S: Data<Elem: Real> + Send + Sync> Dataset for ArrayBase<S, Ix3> {
    type Elem = S::Elem;

    fn len(&self) -> usize {
        self.dim().0
    }

    fn shape(&self) -> Shape {
        Shape::new(self.dim().1, self.dim().2)
    }

    fn target_shape(&self) -> TargetShape {
        TargetShape::None
    }

    fn read(&self, sample: Sample, x: &mut [Self::Elem]) {
        let from = self.index_axis(Axis(0), sample.index);
        assert_eq!(from.len(), x.len(), "values of a sample");
        x.iter_mut().zip(from).for_each(|(x, &value)| *x = value);
    }

    fn gather(
        &self,
        samples: &[Sample],
        normalize: &Normalize,
        scratch: &mut [Self::Elem],
        x: SeqMut<'_, Self::Elem>,
    ) {
        let Some(all) = self.as_slice() else {
            return gather_by_reading(self, samples, normalize, scratch, x);
        };
        check_tile(samples, Dataset::shape(self), &x);
        let size = x.shape.size();
        gather_values(samples, |sample| &all[sample.index * size..][..size], normalize, x);
    }
}

/// x' = (x − mean) / sd, with one mean and sd for all features or one for each.
///
/// It is measured on the training samples, saved with the model, and applied whenever samples are gathered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Normalize {
    mean: Vec<f64>,
    sd: Vec<f64>,
}

/// A [`Normalize`] as it is in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    mean: Vec<f64>,
    sd: Vec<f64>,
}

impl TryFrom<Unchecked> for Normalize {
    type Error = Error;

    fn try_from(Unchecked { mean, sd }: Unchecked) -> Result<Self> {
        Self::per_feature(mean, sd)
    }
}

impl Normalize {
    /// Leaves every value as it is.
    pub fn identity() -> Self {
        Self { mean: vec![0.0], sd: vec![1.0] }
    }

    /// The same `mean` and `sd` for every feature.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is not finite, or `sd` is not positive.
    pub fn scalar(mean: f64, sd: f64) -> Result<Self> {
        Self::per_feature(vec![mean], vec![sd])
    }

    /// A mean and sd for each feature.
    ///
    /// # Errors
    /// [`Error::Config`] if the lengths differ or are 0, a number is not finite, or an sd is not positive.
    pub fn per_feature(mean: Vec<f64>, sd: Vec<f64>) -> Result<Self> {
        if mean.len() != sd.len() || mean.is_empty() {
            return Err(Error::mismatch(
                "normalize",
                format!("{} means", mean.len()),
                format!("{} sds", sd.len()),
            ));
        }
        if let Some(bad) = mean.iter().find(|x| !x.is_finite()) {
            return Err(Error::config("mean", format!("found {bad}, expected a finite number")));
        }
        if let Some(bad) = sd.iter().find(|x| !(x.is_finite() && **x > 0.0)) {
            return Err(Error::config("sd", format!("found {bad}, expected a positive number")));
        }
        Ok(Self { mean, sd })
    }

    /// The means: one, or one for each feature.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviations: one, or one for each feature.
    pub fn sd(&self) -> &[f64] {
        &self.sd
    }

    /// Whether this leaves every value as it is.
    pub fn is_identity(&self) -> bool {
        self.mean.iter().all(|&m| m == 0.0) && self.sd.iter().all(|&s| s == 1.0)
    }

    /// The normalised value of `x` in feature `feature`.
    pub fn apply<R: Real>(&self, x: R, feature: usize) -> R {
        let i = if self.mean.len() == 1 { 0 } else { feature };
        (x - R::from_f64(self.mean[i])) / R::from_f64(self.sd[i])
    }

    /// The value whose normalised value is `x`: sd · x + mean.
    pub fn undo<R: Real>(&self, x: R, feature: usize) -> R {
        let i = if self.mean.len() == 1 { 0 } else { feature };
        x * R::from_f64(self.sd[i]) + R::from_f64(self.mean[i])
    }

    /// The same, but with these features left as they are: such as indices, which an
    /// [`EmbedColumns`](crate::nn::EmbedColumns) reads.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is one mean for all features, or no such feature.
    pub fn except(mut self, features: impl IntoIterator<Item = usize>) -> Result<Self> {
        for feature in features {
            if self.mean.len() == 1 || feature >= self.mean.len() {
                let expected = format!("one of {} features with a mean each", self.mean.len());
                return Err(Error::mismatch("normalize", format!("feature {feature}"), expected));
            }
            (self.mean[feature], self.sd[feature]) = (0.0, 1.0);
        }
        Ok(self)
    }

    /// Checks that this fits samples of `features` features.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it does not.
    pub fn check(&self, features: usize) -> Result<()> {
        if self.mean.len() == 1 || self.mean.len() == features {
            return Ok(());
        }
        Err(Error::mismatch("normalize", format!("{} means", self.mean.len()), format!("1 or {features}")))
    }
}
