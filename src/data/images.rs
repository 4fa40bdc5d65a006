//! Grey images, each read as a sequence of its rows.

use std::marker::PhantomData;
use std::sync::Arc;

use ndarray::{Array1, Array3, ArrayView2};

use crate::data::dataset::{check_tile, gather_rows};
use crate::data::row_major::row_major;
use crate::data::{Dataset, Normalize, Sample, TargetShape};
use crate::{Error, Real, Result, SeqMut, Shape};

/// Grey images with a class each, stored as `u8`.
///
/// An image is a sequence: its rows are the time steps and the pixels of a row the features, each divided by 255,
/// so from 0 to 1. Clones and casts share the memory.
///
/// # Examples
/// ```
/// use bptt::data::{Dataset, Images, Sample};
/// use ndarray::array;
///
/// let pixels = array![[[0, 255], [51, 0]], [[255, 255], [0, 0]], [[1, 2], [3, 4]]];
/// let images = Images::new(pixels, vec![0, 1, 1], ["slash", "bar"])?;
///
/// assert_eq!((images.len(), images.shape().t, images.shape().f), (3, 2, 2));
/// let mut x = [0.0; 4];
/// images.read(Sample::plain(0), &mut x);
/// assert_eq!(x, [0.0, 1.0, 0.2, 0.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Images<R = f32> {
    /// `[n, rows, columns]`
    pixels: Arc<Vec<u8>>,
    labels: Arc<[u8]>,
    class_names: Arc<[String]>,
    shape: Shape,
    elem: PhantomData<fn() -> R>,
}

impl Images {
    /// Images `[n, rows, columns]` with `n` labels, each an index into `class_names`.
    ///
    /// They are read as `f32`; see [`Images::cast`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if images have no pixels, the numbers of images and labels differ, or a label has no
    /// class name.
    pub fn new<S: Into<String>>(
        pixels: Array3<u8>,
        labels: impl Into<Array1<u8>>,
        class_names: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let (n, rows, columns) = pixels.dim();
        let labels: Array1<u8> = labels.into();
        let class_names: Arc<[String]> = class_names.into_iter().map(Into::into).collect();
        crate::names::check_classes(&class_names)?;
        if rows == 0 || columns == 0 {
            return Err(Error::mismatch("images", format!("{rows} × {columns} pixels"), "at least 1 × 1"));
        }
        if labels.len() != n {
            return Err(Error::mismatch("labels", labels.len(), format!("one for each of {n} images")));
        }
        let classes = class_names.len();
        if let Some((i, label)) = labels.indexed_iter().find(|&(_, &label)| usize::from(label) >= classes) {
            return Err(Error::mismatch(
                format!("labels[{i}]"),
                format!("class {label}"),
                format!("an index into the {classes} class names"),
            ));
        }
        Ok(Self {
            pixels: Arc::new(row_major("images", pixels)?),
            labels: labels.iter().copied().collect(),
            class_names,
            shape: Shape::new(rows, columns),
            elem: PhantomData,
        })
    }
}

impl<R> Images<R> {
    /// The same images, read as `Q`.
    pub fn cast<Q>(&self) -> Images<Q> {
        Images {
            pixels: Arc::clone(&self.pixels),
            labels: Arc::clone(&self.labels),
            class_names: Arc::clone(&self.class_names),
            shape: self.shape,
            elem: PhantomData,
        }
    }

    /// The pixels of image `index`, `[rows, columns]`.
    ///
    /// # Panics
    /// If there is no such image.
    #[track_caller]
    pub fn image(&self, index: usize) -> ArrayView2<'_, u8> {
        let Shape { t, f } = self.shape;
        ArrayView2::from_shape((t, f), self.pixels_of(index)).expect("a slice of rows · columns pixels")
    }

    /// The class of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// All pixels, `[n, rows, columns]` row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    #[track_caller]
    fn pixels_of(&self, index: usize) -> &[u8] {
        let size = self.shape.size();
        assert!(index < self.labels.len(), "sample {index} of {}", self.labels.len());
        &self.pixels[index * size..][..size]
    }
}

/// The value of a pixel, 0 to 1.
fn value<R: Real>(pixel: u8) -> R {
    R::from_f64(f64::from(pixel) / 255.0)
}

impl<R: Real> Dataset for Images<R> {
    type Elem = R;

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn target_shape(&self) -> TargetShape {
        TargetShape::Classes { t: 1 }
    }

    fn read(&self, sample: Sample, x: &mut [R]) {
        let pixels = self.pixels_of(sample.index);
        assert_eq!(x.len(), pixels.len(), "a sample of {}", self.shape);
        for (x, &pixel) in x.iter_mut().zip(pixels) {
            *x = value(pixel);
        }
    }

    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        assert_eq!(classes.len(), 1, "an image has one class");
        assert!(sample.index < self.labels.len(), "sample {} of {}", sample.index, self.labels.len());
        classes[0] = i64::from(self.labels[sample.index]);
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Looks up each pixel in a table of the 256 normalised values; the result is that of the default, bit for bit.
    fn gather(&self, samples: &[Sample], normalize: &Normalize, _scratch: &mut [R], x: SeqMut<'_, R>) {
        check_tile(samples, self.shape, &x);
        let row = |sample: &Sample| self.pixels_of(sample.index);
        let look_up = |feature| {
            let table = table(normalize, feature);
            move |pixel| table[usize::from(pixel)]
        };
        gather_rows(samples, row, normalize, look_up, x);
    }
}

/// The normalised value of each pixel value in feature `feature`.
fn table<R: Real>(normalize: &Normalize, feature: usize) -> [R; 256] {
    let mut table = [R::ZERO; 256];
    for (pixel, entry) in (0..=255).zip(&mut table) {
        *entry = normalize.apply(value(pixel), feature);
    }
    table
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use ndarray_rand::RandomExt;
    use ndarray_rand::rand_distr::Uniform;
    use proptest::prelude::*;

    use super::*;
    use crate::data::Arrays;
    use crate::data::dataset::gather_by_reading;
    use crate::{Scalar, rng};

    /// `n` images of `rows` × `columns` random pixels, in 3 classes.
    fn random(n: usize, rows: usize, columns: usize, seed: u64) -> Images {
        let (mut rng, range) = (rng::rng(seed), |most| Uniform::new_inclusive(0, most).unwrap());
        let pixels = Array3::random_using((n, rows, columns), range(255), &mut rng);
        let labels = Array1::random_using(n, range(2), &mut rng);
        Images::new(pixels, labels, ["a", "b", "c"]).unwrap()
    }

    #[test]
    fn reads_rows_as_steps() {
        let images = Images::new(array![[[0, 51, 102]], [[153, 204, 255]]], vec![1, 0], ["a", "b"]).unwrap();
        assert_eq!((images.len(), images.shape()), (2, Shape::new(1, 3)));
        assert_eq!(images.target_shape(), TargetShape::Classes { t: 1 });
        assert_eq!(images.class_names(), ["a", "b"]);
        let mut x = [9.0; 3];
        images.read(Sample::plain(1), &mut x);
        assert_eq!(x, [0.6, 0.8, 1.0]);
        let mut class = [9];
        images.classes(Sample::plain(0), &mut class);
        assert_eq!(class, [1]);
        assert_eq!(images.image(1), array![[153, 204, 255]]);
    }

    #[test]
    fn takes_arrays_of_any_layout() {
        let columns_first = array![[[1, 2], [3, 4]]].reversed_axes();
        let images = Images::new(columns_first.permuted_axes([2, 0, 1]), vec![0], ["a"]).unwrap();
        assert_eq!(images.pixels(), [1, 3, 2, 4]);
    }

    #[test]
    fn gathers_normalised_and_transposed() {
        let images = Images::new(array![[[0, 255]], [[255, 51]]], vec![0, 0], ["a"]).unwrap();
        let normalize = Normalize::per_feature(vec![0.5, 0.0], vec![0.5, 0.1]).unwrap();
        let mut x = [9.0; 6];
        let tile = SeqMut::new(&mut x, Shape::new(1, 2), 3);
        images.gather(&[Sample::plain(1), Sample::plain(0)], &normalize, &mut [], tile);
        assert_eq!(x, [1.0, -1.0, 0.0, 2.0, 10.0, 0.0]);
    }

    #[test]
    fn casts_share_memory() {
        let images = random(2, 3, 4, 0);
        let wide: Images<f64> = images.cast();
        assert!(Arc::ptr_eq(&images.pixels, &wide.pixels) && Arc::ptr_eq(&images.labels, &wide.labels));
        let mut x = [0.0_f64; 12];
        wide.read(Sample::plain(1), &mut x);
        assert_eq!(x[5], f64::from(images.image(1)[[1, 1]]) / 255.0);
    }

    #[test]
    fn bad_arrays_are_errors() {
        let message =
            |pixels, labels: Vec<u8>| Images::new(pixels, labels, ["a", "b"]).unwrap_err().to_string();
        assert_eq!(
            message(Array3::zeros((2, 0, 3)), vec![0, 0]),
            "images: found 0 × 3 pixels, expected at least 1 × 1"
        );
        assert_eq!(
            message(Array3::zeros((2, 1, 1)), vec![0]),
            "labels: found 1, expected one for each of 2 images"
        );
        assert_eq!(
            message(Array3::zeros((2, 1, 1)), vec![1, 2]),
            "labels[1]: found class 2, expected an index into the 2 class names"
        );
    }

    #[test]
    #[should_panic(expected = "sample 2 of 2")]
    fn reading_past_the_end_panics() {
        random(2, 1, 1, 0).read(Sample::plain(2), &mut [0.0]);
    }

    #[test]
    #[should_panic(expected = "3 samples in a tile of 2 lanes")]
    fn more_samples_than_lanes_panic() {
        random(3, 1, 1, 0).gather(
            &[Sample::plain(0); 3],
            &Normalize::identity(),
            &mut [0.0],
            SeqMut::new(&mut [0.0; 2], Shape::new(1, 1), 2),
        );
    }

    /// Gathers both ways and compares the bytes.
    fn gathers_alike<D: Dataset>(data: &D, indices: &[usize], pad: usize, normalize: &Normalize) {
        let samples: Vec<Sample> = indices.iter().map(|&i| Sample::plain(i)).collect();
        let (shape, lanes) = (data.shape(), indices.len() + pad);
        let mut scratch = vec![D::Elem::ZERO; shape.size()];
        let [mut fast, mut plain] = [(); 2].map(|()| vec![D::Elem::ONE; shape.size() * lanes]);
        data.gather(&samples, normalize, &mut scratch, SeqMut::new(&mut fast, shape, lanes));
        gather_by_reading(data, &samples, normalize, &mut scratch, SeqMut::new(&mut plain, shape, lanes));
        let bytes = |values: &[D::Elem]| {
            let mut bytes = Vec::new();
            values.iter().for_each(|v| v.push_le(&mut bytes));
            bytes
        };
        assert!(bytes(&fast) == bytes(&plain), "{} samples in {lanes} lanes", indices.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn gather_equals_the_default(
            rows in 1_usize..6, columns in 1_usize..6, seed: u64,
            indices in prop::collection::vec(0_usize..20, 0..150), pad in 0_usize..10,
            mean in -1.0..1.0, sd in 0.01..2.0,
        ) {
            let images = random(20, rows, columns, seed);
            let array = Array3::from_shape_fn((20, rows, columns), |(i, t, f)| f32::from(images.image(i)[[t, f]]) - 99.0);
            let arrays = Arrays::unlabelled(array.clone()).unwrap();
            let columns_first = array.t().as_standard_layout().into_owned();
            let means = (0..columns).map(|f| mean + 0.1 * f as f64).collect();
            let sds = (0..columns).map(|f| sd + 0.1 * f as f64).collect();
            for normalize in [
                Normalize::identity(),
                Normalize::scalar(mean, sd).unwrap(),
                Normalize::per_feature(means, sds).unwrap(),
            ] {
                gathers_alike(&images, &indices, pad, &normalize);
                gathers_alike(&images.cast::<f64>(), &indices, pad, &normalize);
                gathers_alike(&array, &indices, pad, &normalize);
                gathers_alike(&arrays, &indices, pad, &normalize);
                gathers_alike(&columns_first.t(), &indices, pad, &normalize);
            }
        }
    }
}
