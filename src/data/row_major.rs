//! Turning arrays into vectors.

use ndarray::{Array, Dimension};

use crate::{Error, Result};

/// The values of `array` in row-major order: its own memory if they have this order there, otherwise a copy.
///
/// # Errors
/// [`Error::Mismatch`] naming the array if there is not enough memory for a copy.
pub(super) fn row_major<T: Copy, D: Dimension>(name: &str, array: Array<T, D>) -> Result<Vec<T>> {
    let n = array.len();
    if array.is_standard_layout() {
        let (values, start) = array.into_raw_vec_and_offset();
        // Otherwise memory that a slice cut off would be kept for as long as the dataset.
        return if values.len() == n {
            Ok(values)
        } else {
            copied(name, n, &values[start.unwrap_or(0)..][..n])
        };
    }
    copied(name, n, &array)
}

fn copied<'a, T: Copy + 'a>(name: &str, n: usize, values: impl IntoIterator<Item = &'a T>) -> Result<Vec<T>> {
    let mut copy = Vec::new();
    let no_memory = |_| Error::mismatch(name, format!("{n} values"), "as many as there is memory for");
    copy.try_reserve_exact(n).map_err(no_memory)?;
    copy.extend(values);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis, Slice, array};

    use super::*;

    #[test]
    fn any_layout_gives_rows() {
        let a: Array2<i32> = array![[1, 2, 3], [4, 5, 6]];
        let memory = a.as_ptr();
        let same = row_major("a", a.clone().reversed_axes().reversed_axes()).unwrap();
        assert_eq!(same, [1, 2, 3, 4, 5, 6]);
        assert_eq!(row_major("a", a.clone().reversed_axes()).unwrap(), [1, 4, 2, 5, 3, 6]);
        let (mut last, mut mirrored) = (a.clone(), a.clone());
        last.slice_axis_inplace(Axis(0), Slice::from(1..));
        mirrored.invert_axis(Axis(1));
        assert_eq!(row_major("a", last).unwrap(), [4, 5, 6]);
        assert_eq!(row_major("a", mirrored).unwrap(), [3, 2, 1, 6, 5, 4]);
        let rows = row_major("a", a).unwrap();
        assert_eq!(rows.as_ptr(), memory, "nothing was copied");
    }
}
