//! Sequences of different lengths as one array.

use ndarray::{Array2, Array3, ArrayBase, ArrayView2, Axis, Data, Ix2, Ix3, Slice};

use crate::{Error, Real, Result, memory};

/// Sequences of different lengths, `[T, F]` each, as one array `[n, T, F]`, T that of the longest, and their lengths. What is
/// left of each is 0, which changes no output, loss, mean or sd: padding is never used.
///
/// Sequences of values for each step, as targets, are padded in the same way.
///
/// # Errors
/// [`Error::Mismatch`] naming the sequence if it has no steps or another number of features than the first; [`Error::Config`]
/// if the array does not fit in memory.
///
/// # Source
/// PyTorch's `pad_sequence(batch_first=True)`, with the lengths that its `pack_padded_sequence` wants.
///
/// # Examples
/// ```
/// use bptt::data::{Arrays, Dataset, Sample, pad, pad_classes};
/// use ndarray::array;
///
/// let recordings = [array![[0.1_f32], [0.2], [0.3]], array![[0.5]], array![[0.4], [0.3]]];
/// let (x, lengths) = pad(&recordings)?;
/// assert_eq!((x.dim(), &lengths[..]), ((3, 3, 1), &[3, 1, 2][..]));
///
/// // One class each, a class for each step, or none at all, to predict from.
/// let data = Arrays::classes(x.clone(), &[0, 1, 1], ["rises", "falls"])?.lengths(lengths.clone())?;
/// assert_eq!(data.length(Sample::plain(1)), Some(1));
/// let y = pad_classes([vec![0, 0, 0], vec![1], vec![1, 1]]);
/// Arrays::step_classes(x.clone(), y, ["rises", "falls"])?.lengths(lengths.clone())?;
/// Arrays::unlabelled(x)?.lengths(lengths)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[doc(alias = "pad_sequence")]
pub fn pad<'a, R, S>(
    sequences: impl IntoIterator<Item = &'a ArrayBase<S, Ix2>>,
) -> Result<(Array3<R>, Vec<usize>)>
where
    R: Real,
    S: Data<Elem = R> + 'a,
{
    let sequences: Vec<ArrayView2<'_, R>> = sequences.into_iter().map(|sequence| sequence.view()).collect();
    let features = sequences.first().map_or(0, |first| first.dim().1);
    for (i, sequence) in sequences.iter().enumerate() {
        let (steps, found) = sequence.dim();
        if steps == 0 || found != features || features == 0 {
            let expected = match features {
                0 => "at least one step and one feature".to_owned(),
                _ => format!("at least one step of {features} features"),
            };
            return Err(Error::mismatch(format!("sequence {i}"), format!("[{steps}, {found}]"), expected));
        }
    }
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.dim().0).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let shape = [sequences.len(), longest, features];
    let mut x = Array3::from_shape_vec(shape, memory::zeros("sequences", &shape)?)
        .map_err(|e| Error::mismatch("sequences", e, "an array that fits in memory"))?;
    for (mut row, sequence) in x.outer_iter_mut().zip(&sequences) {
        row.slice_axis_mut(Axis(0), Slice::from(..sequence.dim().0)).assign(sequence);
    }
    Ok((x, lengths))
}

/// A class for each step of sequences of different lengths, as one array `[n, T]` for
/// [`Arrays::step_classes`](super::Arrays::step_classes), T that of the longest. What is left of each has
/// [no class](super::Arrays::NO_CLASS).
pub fn pad_classes(sequences: impl IntoIterator<Item = impl AsRef<[i64]>>) -> Array2<i64> {
    let sequences: Vec<_> = sequences.into_iter().collect();
    let longest = sequences.iter().map(|classes| classes.as_ref().len()).max().unwrap_or(0);
    let mut y = Array2::from_elem((sequences.len(), longest), super::Arrays::<f32>::NO_CLASS);
    for (mut row, classes) in y.outer_iter_mut().zip(&sequences) {
        row.iter_mut().zip(classes.as_ref()).for_each(|(y, &class)| *y = class);
    }
    y
}

/// Leaves out steps that do not count, in gaps or before a sequence begins: `[n, T, F]` with the steps of each sample that
/// `counts`, `[n, T]`, marks with `true`, moved together, and how many they are, for
/// [`Arrays::lengths`](super::Arrays::lengths).
///
/// A recurrent layer thereby carries its state over a gap unchanged, as Keras's do for the steps of a `Masking` layer, and a
/// bidirectional one begins behind the gap. Targets of steps are moved in the same way.
///
/// # Errors
/// [`Error::Mismatch`] if the shapes differ, or no step of a sample counts.
///
/// # Examples
/// ```
/// use bptt::data::drop_masked;
/// use ndarray::array;
///
/// let x = array![[[0.0], [0.3], [0.4]], [[0.1], [f32::NAN], [0.2]]];
/// let (x, lengths) = drop_masked(&x, array![[false, true, true], [true, false, true]].view())?;
/// assert_eq!((x, lengths), (array![[[0.3], [0.4]], [[0.1], [0.2]]], vec![2, 2]));
/// # Ok::<(), bptt::Error>(())
/// ```
#[doc(alias = "Masking")]
pub fn drop_masked<R, S>(
    x: &ArrayBase<S, Ix3>,
    counts: ArrayView2<'_, bool>,
) -> Result<(Array3<R>, Vec<usize>)>
where
    R: Real,
    S: Data<Elem = R>,
{
    let (n, steps, _) = x.dim();
    if counts.dim() != (n, steps) {
        let expected = format!("[{n}, {steps}], the samples and steps");
        return Err(Error::mismatch("mask", format!("{:?}", counts.shape()), expected));
    }
    let mut samples = Vec::with_capacity(n);
    for (i, (sample, counts)) in x.outer_iter().zip(counts.outer_iter()).enumerate() {
        let kept: Vec<usize> = (0..steps).filter(|&t| counts[t]).collect();
        if kept.is_empty() {
            let what = format!("mask of sample {i}");
            return Err(Error::mismatch(what, "no step that counts", "at least one"));
        }
        samples.push(sample.select(Axis(0), &kept));
    }
    pad(&samples)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::data::{Arrays, Dataset, Sample, TargetShape};
    use crate::nn::{Linear, Lstm};
    use crate::{Model, Shape};

    #[test]
    fn the_rest_is_zero() {
        let a = array![[1.0_f64, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let b = array![[7.0, 8.0]];
        let (x, lengths) = pad([&a, &b]).unwrap();
        assert_eq!(x, array![[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0], [0.0, 0.0], [0.0, 0.0]]]);
        assert_eq!(lengths, [3, 1]);
        // Views too, in any order of memory.
        let turned = array![[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]];
        assert_eq!(pad([&turned.t(), &b.view()]).unwrap(), (x, lengths));
    }

    #[test]
    fn classes_without_a_step_are_none() {
        let y = pad_classes([vec![3], vec![], vec![1, 2]]);
        assert_eq!(y, array![[3, -100], [-100, -100], [1, 2]]);
    }

    #[test]
    fn samples_without_targets_have_lengths() {
        let data =
            Arrays::unlabelled(array![[[1.0_f32], [2.0]], [[3.0], [0.0]]]).unwrap().lengths([2, 1]).unwrap();
        assert_eq!((data.len(), data.target_shape()), (2, TargetShape::None));
        assert_eq!(data.length(Sample::plain(1)), Some(1));
        assert!(Arrays::unlabelled(array![[[f32::NAN]]]).is_err());
    }

    /// A stream that is not pushed at a masked step keeps its state.
    #[test]
    fn states_are_carried_over_gaps() {
        let model: Model<f64> = Model::builder(Shape::new(5, 2))
            .layer("lstm", Lstm::new(3).last())
            .layer("linear", Linear::new(2))
            .build(1)
            .unwrap();
        let x = Array3::from_shape_fn((3, 5, 2), |(i, t, f)| ((7 * i + 3 * t + f) as f64).sin());
        let counts = Array2::from_shape_fn((3, 5), |(i, t)| (t + i) % 3 != 0 || t == 4);
        let (packed, lengths) = drop_masked(&x, counts.view()).unwrap();
        assert_eq!(lengths, [3, 4, 4]);
        let y = model.predict(&Arrays::unlabelled(packed).unwrap().lengths(lengths).unwrap()).unwrap();
        for i in 0..3 {
            let mut stream = model.session().unwrap();
            let mut last = Vec::new();
            for t in (0..5).filter(|&t| counts[[i, t]]) {
                last = stream.push(&x.index_axis(Axis(0), i).row(t).to_vec()).to_vec();
            }
            assert_eq!(y.index_axis(Axis(0), i).row(0).to_vec(), last);
        }
        let fault = |counts: Array2<bool>| drop_masked(&x, counts.view()).unwrap_err().to_string();
        assert_eq!(
            fault(Array2::from_elem((3, 4), true)),
            "mask: found [3, 4], expected [3, 5], the samples and steps"
        );
        let second = Array2::from_shape_fn((3, 5), |(i, _)| i != 1);
        assert_eq!(fault(second), "mask of sample 1: found no step that counts, expected at least one");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |of: &[Array2<f32>]| pad(of).unwrap_err().to_string();
        let zeros = Array2::<f32>::zeros;
        assert_eq!(
            fault(&[zeros((2, 3)), zeros((2, 4))]),
            "sequence 1: found [2, 4], expected at least one step of 3 features"
        );
        assert!(fault(&[zeros((2, 3)), zeros((0, 3))]).starts_with("sequence 1: found [0, 3]"));
        assert!(fault(&[zeros((2, 0))]).ends_with("at least one step and one feature"));
        assert_eq!(pad(&[] as &[Array2<f32>]).unwrap().0.dim(), (0, 0, 0));
    }
}
