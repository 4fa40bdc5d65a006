//! Some of a dataset's samples, as a dataset.

use std::fmt;
use std::sync::Arc;

use crate::data::dataset::gather_by_reading;
use crate::data::forward::forward;
use crate::data::{Dataset, Normalize, Sample, TargetShape};
use crate::{Error, Result, SeqMut, Shape};

/// The most samples of a tile whose indices are translated on the stack.
const MOST_AT_ONCE: usize = 256;

/// Some samples of a dataset, in any order; the result of hold-out and k-fold splits.
///
/// Nothing is copied: it refers to the dataset. A sample may occur more than once.
///
/// # Examples
/// ```
/// use bptt::data::{Dataset, DatasetExt, Images, Sample};
/// use ndarray::array;
///
/// let images = Images::new(array![[[0]], [[51]], [[255]]], vec![0, 1, 1], ["dark", "bright"])?;
/// let two = images.subset(vec![2, 0])?;
///
/// let mut x = [0.0];
/// two.read(Sample::plain(0), &mut x);
/// assert_eq!((two.len(), x), (2, [1.0]));
/// # Ok::<(), bptt::Error>(())
/// ```
pub struct Subset<'a, D: ?Sized> {
    data: &'a D,
    indices: Arc<[u32]>,
}

impl<D: ?Sized> Clone for Subset<'_, D> {
    fn clone(&self) -> Self {
        Self { data: self.data, indices: Arc::clone(&self.indices) }
    }
}

impl<D: ?Sized> fmt::Debug for Subset<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subset").field("indices", &self.indices).finish_non_exhaustive()
    }
}

impl<'a, D: Dataset + ?Sized> Subset<'a, D> {
    /// The samples `indices` of `data`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is no such sample.
    pub fn new(data: &'a D, indices: impl Into<Arc<[u32]>>) -> Result<Self> {
        let (indices, n) = (indices.into(), data.len());
        if let Some(index) = indices.iter().find(|&&index| index as usize >= n) {
            return Err(Error::mismatch("subset", format!("sample {index}"), format!("less than {n}")));
        }
        Ok(Self { data, indices })
    }

    /// The dataset that this is a part of.
    pub fn dataset(&self) -> &'a D {
        self.data
    }

    /// The indices of these samples in the dataset.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The sample of the dataset, with the same key.
    #[track_caller]
    fn inner(&self, sample: Sample) -> Sample {
        let n = self.indices.len();
        assert!(sample.index < n, "sample {} of {n}", sample.index);
        Sample { index: self.indices[sample.index] as usize, ..sample }
    }
}

impl<D: Dataset + ?Sized> Dataset for Subset<'_, D> {
    type Elem = D::Elem;

    forward!(self to self.data, sample is self.inner(sample));

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn read(&self, sample: Sample, x: &mut [Self::Elem]) {
        self.data.read(self.inner(sample), x);
    }

    /// Lets the dataset gather the tile; only a tile of more than 256 samples is read sample by sample.
    fn gather(
        &self,
        samples: &[Sample],
        normalize: &Normalize,
        scratch: &mut [Self::Elem],
        x: SeqMut<'_, Self::Elem>,
    ) {
        let mut inner = [Sample::plain(0); MOST_AT_ONCE];
        let Some(inner) = inner.get_mut(..samples.len()) else {
            return gather_by_reading(self, samples, normalize, scratch, x);
        };
        for (inner, &sample) in inner.iter_mut().zip(samples) {
            *inner = self.inner(sample);
        }
        self.data.gather(inner, normalize, scratch, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DatasetExt;

    /// A sample is its index and its key; gathering by this dataset itself leaves a mark.
    struct Echo(usize);

    impl Dataset for Echo {
        type Elem = f64;
        fn len(&self) -> usize {
            self.0
        }
        fn shape(&self) -> Shape {
            Shape::new(1, 2)
        }
        fn target_shape(&self) -> TargetShape {
            TargetShape::Classes { t: 1 }
        }
        fn read(&self, sample: Sample, x: &mut [f64]) {
            x.copy_from_slice(&[sample.index as f64, sample.key as f64]);
        }
        fn classes(&self, sample: Sample, classes: &mut [i64]) {
            classes[0] = sample.index as i64;
        }
        fn values(&self, sample: Sample, values: &mut [f64]) {
            values[0] = sample.index as f64;
        }
        fn gather(&self, samples: &[Sample], n: &Normalize, scratch: &mut [f64], x: SeqMut<'_, f64>) {
            let (data, shape, lanes) = (x.data, x.shape, x.lanes);
            gather_by_reading(self, samples, n, scratch, SeqMut::new(&mut *data, shape, lanes));
            data.iter_mut().for_each(|x| *x += 0.5);
        }
    }

    const DRAWS: [Sample; 2] = [Sample::new(1, 7), Sample::new(0, 8)];

    #[test]
    fn maps_indices_and_keeps_keys() {
        let subset = Echo(10).subset_of(&[3, 9, 3]);
        assert_eq!((subset.len(), subset.indices()), (3, &[3, 9, 3][..]));
        let (mut x, mut class, mut value) = ([0.0; 2], [0], [0.0]);
        subset.read(DRAWS[0], &mut x);
        subset.classes(DRAWS[0], &mut class);
        subset.values(DRAWS[1], &mut value);
        assert_eq!((x, class, value), ([9.0, 7.0], [9], [3.0]));
    }

    #[test]
    fn gathers_by_the_dataset_itself_even_through_references_and_nested() {
        let echo = Echo(10);
        let outer = echo.subset(vec![5, 3, 9]).unwrap();
        let inner = outer.subset(vec![2, 1]).unwrap();
        let mut x = [0.0; 4];
        inner.gather(&DRAWS, &Normalize::identity(), &mut [0.0; 2], SeqMut::new(&mut x, Shape::new(1, 2), 2));
        assert_eq!(x, [3.5, 9.5, 7.5, 8.5]);
        Dataset::gather(
            &&inner,
            &DRAWS,
            &Normalize::identity(),
            &mut [0.0; 2],
            SeqMut::new(&mut x, Shape::new(1, 2), 2),
        );
        assert_eq!(x, [3.5, 9.5, 7.5, 8.5]);
    }

    #[test]
    fn tiles_too_large_for_the_stack_are_read() {
        let echo = Echo(1000);
        let backwards = echo.subset((0..1000).rev().collect::<Vec<u32>>()).unwrap();
        let draws: Vec<Sample> = (0..257).map(Sample::plain).collect();
        let mut x = vec![9.0; 2 * 260];
        backwards.gather(
            &draws,
            &Normalize::identity(),
            &mut [0.0; 2],
            SeqMut::new(&mut x, Shape::new(1, 2), 260),
        );
        let expected: Vec<f64> = (743..1000).rev().map(f64::from).chain([0.0; 263]).collect();
        assert_eq!(x, expected);
    }

    #[test]
    fn works_on_trait_objects() {
        let echo = Echo(4);
        let data: &dyn Dataset<Elem = f64> = &echo;
        let subset = data.subset(vec![2]).unwrap();
        let mut class = [0];
        subset.classes(Sample::plain(0), &mut class);
        assert_eq!(class, [2]);
    }

    #[test]
    fn no_such_sample_is_an_error() {
        let error = Echo(3).subset(vec![0, 3]).unwrap_err();
        assert_eq!(error.to_string(), "subset: found sample 3, expected less than 3");
    }

    #[test]
    #[should_panic(expected = "sample 1 of 1")]
    fn reading_past_the_end_panics() {
        Echo(3).subset_of(&[0]).read(Sample::plain(1), &mut [0.0; 2]);
    }

    impl Echo {
        fn subset_of(&self, indices: &[u32]) -> Subset<'_, Self> {
            self.subset(indices).unwrap()
        }
    }
}
