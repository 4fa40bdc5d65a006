//! Measures of a confusion matrix as a whole, and its report.

use std::fmt::Write;

use super::ConfusionMatrix;
use super::confusion::{share, width};

impl ConfusionMatrix {
    /// Matthews' correlation coefficient between true and predicted classes, from −1 to 1; 0 if either are all the same.
    ///
    /// # Source
    /// Gorodkin 2004, for more than two classes; scikit-learn's `matthews_corrcoef`.
    /// # Examples
    /// ```
    /// let matrix = bptt::metrics::ConfusionMatrix::from_rows(&[[3, 1], [1, 3]])?;
    /// assert_eq!(matrix.matthews(), 0.5);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn matthews(&self) -> f64 {
        let [right, expected, truths, predictions] = self.agreement();
        let of_squares = (1.0 - truths) * (1.0 - predictions);
        if of_squares > 0.0 { (right - expected) / of_squares.sqrt() } else { 0.0 }
    }

    /// Cohen's κ: how far true and predicted classes agree beyond chance, from −1 to 1; 1 if all are one class.
    ///
    /// # Source
    /// Cohen 1960; scikit-learn's `cohen_kappa_score`.
    /// # Examples
    /// ```
    /// let matrix = bptt::metrics::ConfusionMatrix::from_rows(&[[20, 5], [10, 15]])?;
    /// assert!((matrix.cohens_kappa() - 0.4).abs() < 1e-15);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn cohens_kappa(&self) -> f64 {
        let [right, expected, ..] = self.agreement();
        if expected < 1.0 { (right - expected) / (1.0 - expected) } else { right }
    }

    /// The mean of the classes' precisions, each weighted by the class's number of samples.
    pub fn precision_weighted(&self) -> f64 {
        self.weighted(Self::precision)
    }

    /// The mean of the classes' recalls, each weighted by the class's number of samples: the accuracy.
    pub fn recall_weighted(&self) -> f64 {
        self.weighted(Self::recall)
    }

    /// The mean of the classes' F1, each weighted by the class's number of samples.
    pub fn f1_weighted(&self) -> f64 {
        self.weighted(Self::f1)
    }

    /// Precision, recall, F1 and support of each class, the accuracy, and the averages, as scikit-learn's
    /// `classification_report` with `digits=4` and `zero_division=0` prints them.
    ///
    /// # Examples
    /// ```
    /// let matrix = bptt::metrics::ConfusionMatrix::from_rows(&[[2, 1], [0, 1]])?.with_names(["cat", "dog"])?;
    /// assert_eq!(
    ///     matrix.report(),
    ///     "              precision    recall  f1-score   support
    ///
    ///          cat     1.0000    0.6667    0.8000         3
    ///          dog     0.5000    1.0000    0.6667         1
    ///
    ///     accuracy                         0.7500         4
    ///    macro avg     0.7500    0.8333    0.7333         4
    /// weighted avg     0.8750    0.7500    0.7667         4"
    /// );
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn report(&self) -> String {
        const WEIGHTED: &str = "weighted avg";
        let names: Vec<_> = (0..self.classes()).map(|class| self.name(class)).collect();
        let label = names.iter().map(|name| width(name)).fold(WEIGHTED.len(), usize::max);
        let mut text = format!(
            "{:label$}  {:>9} {:>9} {:>9} {:>9}\n\n",
            "", "precision", "recall", "f1-score", "support"
        );
        let line = |text: &mut String, name: &str, [precision, recall, f1]: [f64; 3], support| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:>label$}  {precision:9.4} {recall:9.4} {f1:9.4} {support:9}");
        };
        for (class, name) in names.iter().enumerate() {
            let measures = [self.precision(class), self.recall(class), self.f1(class)];
            line(&mut text, name, measures, self.support(class));
        }
        let (accuracy, total) = (self.accuracy(), self.total());
        let _ = writeln!(text, "\n{:>label$}  {:9} {:9} {accuracy:9.4} {total:9}", "accuracy", "", "");
        let means = [self.precision_macro(), self.recall_macro(), self.f1_macro()];
        line(&mut text, "macro avg", means, total);
        let means = [self.precision_weighted(), self.recall_weighted(), self.f1_weighted()];
        line(&mut text, WEIGHTED, means, total);
        text.pop();
        text
    }

    /// With the shares t of true and p of predicted classes: the accuracy, Σ tₖ pₖ, Σ tₖ² and Σ pₖ²; 0 of no samples.
    fn agreement(&self) -> [f64; 4] {
        let total = self.total();
        let shares = (0..self.classes())
            .map(|class| [share(self.support(class), total), share(self.predicted(class), total)]);
        let sums = shares.fold([0.0; 3], |[both, truths, predictions], [t, p]| {
            [both + t * p, truths + t * t, predictions + p * p]
        });
        [self.accuracy(), sums[0], sums[1], sums[2]]
    }

    fn weighted(&self, of: impl Fn(&Self, usize) -> f64) -> f64 {
        let total = self.total();
        (0..self.classes()).map(|class| share(self.support(class), total) * of(self, class)).sum()
    }
}
