//! How often each class was predicted as each other one.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, names};

/// The widest table whose columns are headed by names rather than indices, in characters.
const WIDTH: usize = 110;

/// The most samples that a matrix read from a file may hold, 2⁵³: up to there, every count is exact as an f64.
const MOST: u64 = 1 << 53;

/// Counts of (true class, predicted class): rows are true classes, columns predicted ones.
///
/// With n(t, p) samples of class t predicted as class p, and c a class:
///
/// - accuracy = Σₖ n(k, k) / Σₜₚ n(t, p)
/// - precision(c) = n(c, c) / Σₜ n(t, c): of the samples predicted as c, the share that is c
/// - recall(c) = n(c, c) / Σₚ n(c, p): of the samples of c, the share predicted as c
/// - F1(c) = 2 n(c, c) / (Σₜ n(t, c) + Σₚ n(c, p)), the harmonic mean of both
///
/// A share of nothing is 0, as with scikit-learn's `zero_division=0`: the accuracy of an empty matrix, the
/// precision of a class never predicted, the recall of a class without samples.
///
/// In files it is an object of `names` (empty if it has none) and `counts`, a list of rows.
///
/// # Examples
/// ```
/// use bptt::metrics::ConfusionMatrix;
///
/// let mut matrix = ConfusionMatrix::new(2).with_names(["cat", "dog"])?;
/// for (truth, predicted) in [(0, 0), (0, 0), (0, 1), (1, 1)] {
///     matrix.add(truth, predicted);
/// }
/// assert_eq!(matrix.accuracy(), 0.75);
/// assert_eq!(matrix.precision(1), 0.5);
/// assert_eq!(matrix.recall(1), 1.0);
/// assert_eq!(
///     matrix.to_string(),
///     "true \\ predicted  cat  dog
/// cat                 2    1
/// dog                 0    1
/// accuracy 0.7500 (3 of 4)"
/// );
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "MatrixRecord", try_from = "MatrixRecord")]
pub struct ConfusionMatrix {
    classes: usize,
    /// `[true class, predicted class]`, row-major.
    counts: Vec<u64>,
    /// One for each class, or none.
    names: Vec<String>,
}

impl ConfusionMatrix {
    /// A matrix of `classes` classes without names, and no samples yet.
    ///
    /// # Panics
    /// If there are no classes, or so many that their matrix cannot be addressed.
    ///
    /// # Examples
    /// ```
    /// let matrix = bptt::metrics::ConfusionMatrix::new(10);
    /// assert_eq!((matrix.classes(), matrix.total(), matrix.accuracy()), (10, 0, 0.0));
    /// ```
    #[track_caller]
    pub fn new(classes: usize) -> Self {
        assert!(classes > 0, "a confusion matrix of no classes");
        let Some(size) = classes.checked_mul(classes) else {
            panic!("a confusion matrix of {classes} classes");
        };
        Self { classes, counts: vec![0; size], names: Vec::new() }
    }

    /// A matrix with these counts, a row for each true class.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no rows or they are not square, [`Error::Config`] if the counts sum up to
    /// more than 2⁵³.
    ///
    /// # Examples
    /// ```
    /// let matrix = bptt::metrics::ConfusionMatrix::from_rows(&[[9, 1], [3, 7]])?;
    /// assert_eq!(matrix.accuracy(), 0.8);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn from_rows(rows: &[impl AsRef<[u64]>]) -> Result<Self> {
        let classes = rows.len();
        if classes == 0 {
            return Err(Error::mismatch("confusion matrix", "no rows", "a row for each class"));
        }
        let mut counts = Vec::new();
        for (truth, row) in rows.iter().map(AsRef::as_ref).enumerate() {
            if row.len() != classes {
                let what = format!("confusion matrix, row {truth}");
                return Err(Error::mismatch(what, format!("{} counts", row.len()), classes));
            }
            counts.extend_from_slice(row);
        }
        match counts.iter().try_fold(0_u64, |sum, &n| sum.checked_add(n)) {
            Some(total) if total <= MOST => Ok(Self { classes, counts, names: Vec::new() }),
            _ => Err(Error::config("counts", format!("sum up to more than {MOST}"))),
        }
    }

    /// Names the classes. With an empty list they are shown by their indices.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is neither one name for each class nor none; [`Error::Config`] if two are equal, or one
    /// has control characters or more than 256 characters.
    pub fn with_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        self.names = names.into_iter().map(Into::into).collect();
        if !self.names.is_empty() && self.names.len() != self.classes {
            let found = format!("{} names", self.names.len());
            return Err(Error::mismatch("confusion matrix", found, format!("{} classes", self.classes)));
        }
        names::check_classes(&self.names)?;
        Ok(self)
    }

    /// Counts one sample.
    ///
    /// # Panics
    /// If a class is out of range.
    #[track_caller]
    pub fn add(&mut self, truth: usize, predicted: usize) {
        let i = self.index(truth, predicted);
        self.counts[i] += 1;
    }

    /// Adds another matrix's counts, and takes its names if this one has none.
    ///
    /// # Panics
    /// If the other matrix has a different number of classes, or different names.
    ///
    /// # Examples
    /// ```
    /// use bptt::metrics::ConfusionMatrix;
    ///
    /// let mut matrix = ConfusionMatrix::from_rows(&[[1, 2], [3, 4]])?;
    /// matrix.merge(&ConfusionMatrix::from_rows(&[[10, 0], [0, 20]])?);
    /// assert_eq!(matrix.rows(), [[11, 2], [3, 24]]);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    #[track_caller]
    pub fn merge(&mut self, other: &Self) {
        assert!(self.classes == other.classes, "{} classes merged with {}", self.classes, other.classes);
        if self.names.is_empty() {
            self.names.clone_from(&other.names);
        }
        assert!(
            other.names.is_empty() || self.names == other.names,
            "classes {:?} merged with {:?}",
            self.names,
            other.names
        );
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The names of the classes, or nothing.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many samples of class `truth` were predicted as class `predicted`.
    ///
    /// # Panics
    /// If a class is out of range.
    #[track_caller]
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[self.index(truth, predicted)]
    }

    /// The counts, a row for each true class.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        self.counts.chunks_exact(self.classes).map(<[u64]>::to_vec).collect()
    }

    /// How many samples were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of all samples that were classified correctly; 0 of none.
    ///
    /// This is also precision, recall and F1 averaged over samples ("micro").
    pub fn accuracy(&self) -> f64 {
        share(self.correct(), self.total())
    }

    /// Of the samples predicted as `class`, the share that belongs to it; 0 if there are none.
    ///
    /// # Panics
    /// If the class is out of range.
    #[track_caller]
    pub fn precision(&self, class: usize) -> f64 {
        share(self.count(class, class), self.predicted(class))
    }

    /// Of the samples of `class`, the share predicted as it; 0 if there are none.
    ///
    /// # Panics
    /// If the class is out of range.
    #[track_caller]
    pub fn recall(&self, class: usize) -> f64 {
        share(self.count(class, class), self.support(class))
    }

    /// The harmonic mean of precision and recall; 0 if the class neither occurs nor was predicted.
    ///
    /// # Panics
    /// If the class is out of range.
    #[track_caller]
    pub fn f1(&self, class: usize) -> f64 {
        share(2 * self.count(class, class), self.predicted(class) + self.support(class))
    }

    /// How many samples belong to `class`.
    ///
    /// # Panics
    /// If the class is out of range.
    #[track_caller]
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(class, predicted)).sum()
    }

    /// The mean of the classes' precisions.
    ///
    /// All classes count equally, including those without samples: in scikit-learn's terms, `average="macro"` with all
    /// classes as `labels`.
    pub fn precision_macro(&self) -> f64 {
        self.mean(Self::precision)
    }

    /// The mean of the classes' recalls, over all classes as in [`precision_macro`](Self::precision_macro).
    pub fn recall_macro(&self) -> f64 {
        self.mean(Self::recall)
    }

    /// The mean of the classes' F1 (not the F1 of the means), over all classes as in
    /// [`precision_macro`](Self::precision_macro).
    pub fn f1_macro(&self) -> f64 {
        self.mean(Self::f1)
    }

    /// The class's name, or its index.
    pub(crate) fn name(&self, class: usize) -> Cow<'_, str> {
        self.names.get(class).map_or_else(|| class.to_string().into(), Into::into)
    }

    /// Samples classified correctly.
    pub(crate) fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    /// Samples predicted as `class`.
    #[track_caller]
    pub(super) fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }

    fn mean(&self, of: impl Fn(&Self, usize) -> f64) -> f64 {
        (0..self.classes).map(|class| of(self, class)).sum::<f64>() / self.classes as f64
    }

    #[track_caller]
    fn index(&self, truth: usize, predicted: usize) -> usize {
        let k = self.classes;
        assert!(truth < k && predicted < k, "class {truth} predicted as {predicted}, but classes are 0..{k}");
        truth * k + predicted
    }
}

/// The counts as a table, with the accuracy underneath. Columns are headed by the names of the classes if the table then
/// fits 110 characters, and by their indices otherwise.
impl Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CORNER: &str = "true \\ predicted";
        let classes = || 0..self.classes;
        let digits = |class| classes().map(|truth| width(&self.count(truth, class).to_string())).max();
        // Each column is as wide as its heading or its widest count, after two spaces.
        let columns = |heads: &[Cow<'_, str>]| -> Vec<usize> {
            classes().map(|class| 2 + width(&heads[class]).max(digits(class).unwrap_or(1))).collect()
        };

        let mut rows: Vec<_> = classes().map(|class| self.name(class)).collect();
        let mut heads = rows.clone();
        let mut widths = columns(&heads);
        let label = |rows: &[Cow<'_, str>]| rows.iter().map(|row| width(row)).fold(CORNER.len(), usize::max);
        if !self.names.is_empty() && label(&rows) + widths.iter().sum::<usize>() > WIDTH {
            let index = width(&(self.classes - 1).to_string());
            heads = classes().map(|class| class.to_string().into()).collect();
            rows = classes().map(|class| format!("{class:index$} {}", self.name(class)).into()).collect();
            widths = columns(&heads);
        }

        let label = label(&rows);
        write!(f, "{CORNER:label$}")?;
        for (head, &width) in heads.iter().zip(&widths) {
            write!(f, "{head:>width$}")?;
        }
        writeln!(f)?;
        for (truth, row) in rows.iter().enumerate() {
            write!(f, "{row:label$}")?;
            for (predicted, &width) in widths.iter().enumerate() {
                write!(f, "{:width$}", self.count(truth, predicted))?;
            }
            writeln!(f)?;
        }
        write!(f, "accuracy {:.4} ({} of {})", self.accuracy(), self.correct(), self.total())
    }
}

/// The form in files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatrixRecord {
    names: Vec<String>,
    counts: Vec<Vec<u64>>,
}

impl From<ConfusionMatrix> for MatrixRecord {
    fn from(matrix: ConfusionMatrix) -> Self {
        Self { counts: matrix.rows(), names: matrix.names }
    }
}

impl TryFrom<MatrixRecord> for ConfusionMatrix {
    type Error = Error;

    fn try_from(record: MatrixRecord) -> Result<Self> {
        Self::from_rows(&record.counts)?.with_names(record.names)
    }
}

/// part / whole, or 0 if the whole is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The width in characters, which is what the formatter pads to.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;

    const NAMES: [&str; 10] = [
        "T-shirt/Top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ];

    /// The matrix published for the pruned network on the 10,000 test images.
    fn published() -> ConfusionMatrix {
        ConfusionMatrix::from_rows(&[
            [857, 1, 12, 48, 5, 1, 67, 1, 8, 0],
            [5, 966, 3, 22, 1, 0, 2, 0, 1, 0],
            [18, 2, 854, 22, 38, 1, 60, 0, 5, 0],
            [23, 10, 11, 917, 17, 0, 20, 0, 2, 0],
            [2, 1, 152, 61, 729, 1, 54, 0, 0, 0],
            [0, 1, 0, 0, 0, 959, 0, 25, 1, 14],
            [168, 3, 109, 47, 53, 0, 613, 0, 7, 0],
            [0, 0, 0, 0, 0, 13, 0, 914, 0, 73],
            [3, 0, 3, 8, 2, 4, 5, 4, 971, 0],
            [0, 0, 1, 0, 0, 3, 0, 15, 0, 981],
        ])
        .unwrap()
        .with_names(NAMES)
        .unwrap()
    }

    /// Class 2 occurs but is never predicted; class 3 neither occurs nor is predicted.
    fn lopsided() -> ConfusionMatrix {
        ConfusionMatrix::from_rows(&[[3, 1, 0, 0], [2, 4, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).unwrap()
    }

    #[test]
    fn published_matrix() {
        let matrix = published();
        assert_eq!(matrix.total(), 10_000);
        assert_eq!(matrix.accuracy(), 0.8761);
        assert!((0..10).all(|class| matrix.support(class) == 1000));
        assert_eq!(matrix.count(6, 0), 168);
        // Columns sum to 1076, 984, 1145, 1125, 845, 982, 821, 959, 995, 1068.
        assert_eq!(matrix.precision(0), 857.0 / 1076.0);
        assert_eq!(matrix.precision(6), 613.0 / 821.0);
        assert_eq!(matrix.recall(6), 0.613);
        assert_eq!(matrix.f1(6), 1226.0 / 1821.0);
        assert_abs_diff_eq!(matrix.precision_macro(), 0.877_258_393_304_830_2, epsilon = 1e-15);
        assert_abs_diff_eq!(matrix.recall_macro(), 0.8761, epsilon = 1e-15);
        assert_abs_diff_eq!(matrix.f1_macro(), 0.874_526_096_411_64, epsilon = 1e-14);
    }

    #[test]
    fn shares_of_nothing_are_zero() {
        let matrix = lopsided();
        assert_eq!(matrix.accuracy(), 7.0 / 11.0);
        assert_eq!([0, 1, 2, 3].map(|c| matrix.precision(c)), [0.5, 0.8, 0.0, 0.0]);
        assert_eq!([0, 1, 2, 3].map(|c| matrix.recall(c)), [0.75, 4.0 / 6.0, 0.0, 0.0]);
        assert_eq!([0, 1, 2, 3].map(|c| matrix.f1(c)), [0.6, 8.0 / 11.0, 0.0, 0.0]);
        assert_eq!([0, 1, 2, 3].map(|c| matrix.support(c)), [4, 6, 1, 0]);
        assert_eq!(matrix.precision_macro(), 0.325);
        assert_abs_diff_eq!(matrix.recall_macro(), 17.0 / 48.0, epsilon = 1e-15);
        assert_abs_diff_eq!(matrix.f1_macro(), 73.0 / 220.0, epsilon = 1e-15);

        let empty = ConfusionMatrix::new(3);
        assert_eq!(
            [empty.accuracy(), empty.precision_macro(), empty.recall_macro(), empty.f1_macro()],
            [0.0; 4]
        );
    }

    #[test]
    fn counts_sample_by_sample_and_merges() {
        let mut a = ConfusionMatrix::new(3);
        a.add(0, 2);
        a.add(0, 2);
        a.add(1, 1);
        let mut b = ConfusionMatrix::new(3).with_names(["a", "b", "c"]).unwrap();
        b.add(2, 0);
        b.add(0, 2);
        a.merge(&b);
        assert_eq!(a.rows(), [[0, 0, 3], [0, 1, 0], [1, 0, 0]]);
        assert_eq!(a.names(), ["a", "b", "c"]);
        b.merge(&ConfusionMatrix::new(3));
        assert_eq!(b.names(), ["a", "b", "c"]);
    }

    #[test]
    #[should_panic(expected = "class 0 predicted as 3, but classes are 0..3")]
    fn class_out_of_range() {
        ConfusionMatrix::new(3).add(0, 3);
    }

    #[test]
    #[should_panic(expected = "class 3 predicted as 0, but classes are 0..3")]
    fn support_out_of_range() {
        ConfusionMatrix::new(3).support(3);
    }

    #[test]
    #[should_panic(expected = "2 classes merged with 3")]
    fn merge_of_other_size() {
        ConfusionMatrix::new(2).merge(&ConfusionMatrix::new(3));
    }

    #[test]
    #[should_panic(expected = r#"classes ["a", "b"] merged with ["b", "a"]"#)]
    fn merge_of_other_names() {
        let named = |names: [&str; 2]| ConfusionMatrix::new(2).with_names(names).unwrap();
        named(["a", "b"]).merge(&named(["b", "a"]));
    }

    #[test]
    fn names_that_do_not_fit() {
        let error = ConfusionMatrix::new(3).with_names(["a", "b"]).unwrap_err();
        assert_eq!(error.to_string(), "confusion matrix: found 2 names, expected 3 classes");
        assert_eq!(ConfusionMatrix::new(3).with_names([""; 0]).unwrap(), ConfusionMatrix::new(3));
    }

    #[test]
    fn table_headed_by_names() {
        assert_eq!(
            published().to_string(),
            "\
true \\ predicted  T-shirt/Top  Trouser  Pullover  Dress  Coat  Sandal  Shirt  Sneaker  Bag  Ankle boot
T-shirt/Top               857        1        12     48     5       1     67        1    8           0
Trouser                     5      966         3     22     1       0      2        0    1           0
Pullover                   18        2       854     22    38       1     60        0    5           0
Dress                      23       10        11    917    17       0     20        0    2           0
Coat                        2        1       152     61   729       1     54        0    0           0
Sandal                      0        1         0      0     0     959      0       25    1          14
Shirt                     168        3       109     47    53       0    613        0    7           0
Sneaker                     0        0         0      0     0      13      0      914    0          73
Bag                         3        0         3      8     2       4      5        4  971           0
Ankle boot                  0        0         1      0     0       3      0       15    0         981
accuracy 0.8761 (8761 of 10000)"
        );
    }

    #[test]
    fn table_headed_by_indices() {
        let names: Vec<_> = NAMES.iter().map(|name| format!("{name} of old")).collect();
        assert_eq!(
            published().with_names(names).unwrap().to_string(),
            "\
true \\ predicted        0    1    2    3    4    5    6    7    8    9
0 T-shirt/Top of old  857    1   12   48    5    1   67    1    8    0
1 Trouser of old        5  966    3   22    1    0    2    0    1    0
2 Pullover of old      18    2  854   22   38    1   60    0    5    0
3 Dress of old         23   10   11  917   17    0   20    0    2    0
4 Coat of old           2    1  152   61  729    1   54    0    0    0
5 Sandal of old         0    1    0    0    0  959    0   25    1   14
6 Shirt of old        168    3  109   47   53    0  613    0    7    0
7 Sneaker of old        0    0    0    0    0   13    0  914    0   73
8 Bag of old            3    0    3    8    2    4    5    4  971    0
9 Ankle boot of old     0    0    1    0    0    3    0   15    0  981
accuracy 0.8761 (8761 of 10000)"
        );
    }

    #[test]
    fn table_without_names() {
        assert_eq!(
            lopsided().to_string(),
            "\
true \\ predicted  0  1  2  3
0                 3  1  0  0
1                 2  4  0  0
2                 1  0  0  0
3                 0  0  0  0
accuracy 0.6364 (7 of 11)"
        );
    }

    #[test]
    fn report_of_the_published_matrix() {
        assert_eq!(
            published().report(),
            "              precision    recall  f1-score   support

 T-shirt/Top     0.7965    0.8570    0.8256      1000
     Trouser     0.9817    0.9660    0.9738      1000
    Pullover     0.7459    0.8540    0.7963      1000
       Dress     0.8151    0.9170    0.8631      1000
        Coat     0.8627    0.7290    0.7902      1000
      Sandal     0.9766    0.9590    0.9677      1000
       Shirt     0.7467    0.6130    0.6733      1000
     Sneaker     0.9531    0.9140    0.9331      1000
         Bag     0.9759    0.9710    0.9734      1000
  Ankle boot     0.9185    0.9810    0.9487      1000

    accuracy                         0.8761     10000
   macro avg     0.8773    0.8761    0.8745     10000
weighted avg     0.8773    0.8761    0.8745     10000"
        );
    }

    #[test]
    fn files() {
        let matrix = lopsided().with_names(["a", "b", "c", "d"]).unwrap();
        let json = serde_json::to_string(&matrix).unwrap();
        assert_eq!(json, r#"{"names":["a","b","c","d"],"counts":[[3,1,0,0],[2,4,0,0],[1,0,0,0],[0,0,0,0]]}"#);
        assert_eq!(serde_json::from_str::<ConfusionMatrix>(&json).unwrap(), matrix);
    }

    #[test]
    fn bad_files() {
        for (json, fault) in [
            (r#"{"names":[],"counts":[]}"#, "found no rows"),
            (r#"{"names":[],"counts":[[1,2],[3]]}"#, "row 1: found 1 counts, expected 2"),
            (r#"{"names":["a"],"counts":[[1,2],[3,4]]}"#, "found 1 names, expected 2 classes"),
            (r#"{"names":[],"counts":[[1,18446744073709551615],[3,4]]}"#, "more than 9007199254740992"),
            (r#"{"names":[],"counts":[[9007199254740992,0],[0,1]]}"#, "more than 9007199254740992"),
            (r#"{"names":[],"counts":[[-1]]}"#, "invalid value"),
            (r#"{"counts":[[1]]}"#, "missing field `names`"),
        ] {
            let error = serde_json::from_str::<ConfusionMatrix>(json).unwrap_err().to_string();
            assert!(error.contains(fault), "{json}: {error}");
        }
        assert!(ConfusionMatrix::from_rows(&[[MOST - 1, 0], [0, 1]]).is_ok());
    }
}
