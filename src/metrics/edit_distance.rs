//! How far two sequences are from each other.

/// The edit distance (Levenshtein's): the fewest insertions, deletions and substitutions that make one sequence the other.
///
/// Divided by the length of the true sequence, summed over samples, it is the label error rate.
///
/// # Examples
/// ```
/// use bptt::metrics::edit_distance;
///
/// assert_eq!(edit_distance(&[1, 2, 3], &[1, 3, 3, 4]), 2);
/// assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
/// ```
pub fn edit_distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    // distances[j]: between what was read of `a` and the first j of `b`.
    let mut distances: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.iter().enumerate() {
        let mut diagonal = distances[0];
        distances[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = distances[j + 1];
            distances[j + 1] = substituted.min(diagonal + 1).min(distances[j] + 1);
        }
    }
    distances[b.len()]
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn by_hand() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
            ("ab", "ba", 2),
            ("aaaa", "aa", 2),
        ] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), expected, "{a}, {b}");
        }
    }
}
