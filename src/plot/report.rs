//! One page about a training.

use std::path::Path;

use super::html::{confusion, element, escape, figure, page, scrolling, table};
use super::{Chart, Line};
use crate::metrics::ConfusionMatrix;
use crate::train::{Epoch, History, Score};
use crate::{Model, Real, Result, atomic_write};

/// A training as one HTML page that needs no other file: learning curves with the best epoch marked, the learning rate, a
/// confusion matrix with the scores of each class, the model, and all epochs as a table.
///
/// It is readable in light and dark, on wide and narrow screens, and has no script. The module's example shows how it is
/// written.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    history: History,
    marks: Vec<(usize, String)>,
    confusion: Option<ConfusionMatrix>,
    model: Option<String>,
}

impl Report {
    /// A report of these epochs.
    pub fn new(history: &History) -> Self {
        Self {
            title: "Training report".into(),
            history: history.clone(),
            marks: Vec::new(),
            confusion: None,
            model: None,
        }
    }

    /// Its title, rather than `Training report`.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a confusion matrix, such as `model.evaluate(&test)?.confusion()`, and the scores of each class.
    pub fn confusion(mut self, matrix: &ConfusionMatrix) -> Self {
        self.confusion = Some(matrix.clone());
        self
    }

    /// Adds the summary of a model.
    pub fn model<R: Real>(mut self, model: &Model<R>) -> Self {
        self.model = Some(model.to_string());
        self
    }

    /// Marks what happened to the model after so many epochs, such as `pruned`, in the learning curves.
    pub fn mark(mut self, epochs: usize, what: impl Into<String>) -> Self {
        self.marks.push((epochs, what.into()));
        self
    }

    /// Writes the page, by [`atomic_write`](crate::atomic_write).
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        atomic_write(path, self.html()?)
    }

    /// The page.
    ///
    /// # Errors
    /// Those of [`Chart::svg`].
    pub fn html(&self) -> Result<String> {
        let mut html =
            format!("<header>\n{}{}</header>\n<main>\n", element("h1", &self.title), self.summary());
        html += &self.curves()?;
        if let Some(matrix) = &self.confusion {
            html += &classes(matrix);
        }
        if let Some(model) = &self.model {
            let text = scrolling("The model's layers", &element("pre", model));
            html += &section("Model", &text);
        }
        html += "</main>\n";
        Ok(page(&self.title, "", &html))
    }

    /// What came out, in a sentence or two.
    fn summary(&self) -> String {
        let epochs = &self.history.epochs;
        let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
        let count = epochs.len();
        let mut text =
            format!("{count} epoch{}, {seconds:.1} s of training.", if count == 1 { "" } else { "s" });
        if let Some(best) = self.history.best() {
            let (part, score) = best.valid.map_or(("training", best.train), |valid| ("validation", valid));
            text += &format!(" Best: epoch {}, {part} {score}.", best.epoch);
        }
        if let Some(matrix) = &self.confusion {
            let (accuracy, total) = (100.0 * matrix.accuracy(), matrix.total());
            text += &format!(" Confusion matrix: accuracy {accuracy:.2} % of {total} samples.");
        }
        element("p", &text)
    }

    fn curves(&self) -> Result<String> {
        let [loss, accuracy] = [
            ("Loss", "mean loss", 1.0, (|score| score.loss) as fn(Score) -> Option<f64>),
            ("Accuracy", "accuracy, %", 100.0, |score| score.accuracy),
        ]
        .map(|(title, unit, scale, value)| {
            let line = |name, score: fn(&Epoch) -> Option<Score>| {
                let point = |epoch: &Epoch| Some((epoch.epoch as f64, scale * value(score(epoch)?)?));
                Line::new(name, self.history.epochs.iter().filter_map(point))
            };
            let lines =
                [line("training", |epoch| Some(epoch.train)), line("validation", |epoch| epoch.valid)];
            let mut chart = Chart::new(title, "epoch", unit).whole_x();
            for line in lines.into_iter().filter(|line| line.drawn().next().is_some()) {
                chart = chart.line(line);
            }
            self.marked(chart)
        });
        let rates = self.history.epochs.iter().map(|epoch| (epoch.epoch as f64, epoch.lr));
        let rate = Chart::new("Learning rate", "epoch", "learning rate").whole_x();
        let rate = self.marked(rate.line(Line::new("", rates)));
        let mut html = String::new();
        for chart in [loss, accuracy.most(100.0), rate] {
            if chart.is_drawn() {
                html += &figure(&chart.svg()?, &chart.description());
            }
        }
        if html.is_empty() {
            html = element("p", "There is no epoch with a finite loss, accuracy or rate.");
        }
        Ok(section("Learning curves", &format!("<div class=\"parts\">\n{html}</div>\n{}", self.epochs())))
    }

    /// The chart with its marks.
    fn marked(&self, mut chart: Chart) -> Chart {
        let several = self.history.epochs.len() > 1;
        if let Some(best) = self.history.best().filter(|_| several) {
            chart = chart.mark(best.epoch as f64, "best");
        }
        // Between the last epoch before and the first one after.
        self.marks.iter().fold(chart, |chart, (epochs, what)| chart.mark(*epochs as f64 + 0.5, what))
    }

    /// All epochs, folded up.
    fn epochs(&self) -> String {
        let heads =
            ["epoch", "training loss", "accuracy", "validation loss", "accuracy", "learning rate", "seconds"];
        let row = |epoch: &Epoch| {
            let loss =
                |score: Option<Score>| number(score.and_then(|score| score.loss), |v| format!("{v:.4}"));
            let accuracy = |score: Option<Score>| {
                number(score.and_then(|score| score.accuracy), |v| format!("{:.2} %", 100.0 * v))
            };
            let (train, valid) = (Some(epoch.train), epoch.valid);
            vec![
                epoch.epoch.to_string(),
                loss(train),
                accuracy(train),
                loss(valid),
                accuracy(valid),
                epoch.lr.to_string(),
                format!("{:.2}", epoch.seconds),
            ]
        };
        let rows: Vec<_> = self.history.epochs.iter().map(row).collect();
        if rows.is_empty() {
            return String::new();
        }
        format!("<details>\n<summary>All epochs</summary>\n{}</details>\n", table("", &heads, &rows))
    }
}

/// The heat map, and the scores of each class.
fn classes(matrix: &ConfusionMatrix) -> String {
    let share = |value: f64| format!("{value:.4}");
    let scores = |name: &str, [precision, recall, f1]: [f64; 3], support: u64| {
        vec![name.into(), share(precision), share(recall), share(f1), support.to_string()]
    };
    let class = |class: usize| {
        let values = [matrix.precision(class), matrix.recall(class), matrix.f1(class)];
        scores(&matrix.name(class), values, matrix.support(class))
    };
    let mut rows: Vec<_> = (0..matrix.classes()).map(class).collect();
    let means = [matrix.precision_macro(), matrix.recall_macro(), matrix.f1_macro()];
    rows.push(scores("mean of the classes", means, matrix.total()));
    let caption =
        format!("Counts, shaded by their share of the row; accuracy {:.2} %", 100.0 * matrix.accuracy());
    let table = table("Scores of each class", &["class", "precision", "recall", "F1", "samples"], &rows);
    section(
        "Confusion matrix",
        &format!("<div class=\"parts\">\n{}{table}</div>\n", confusion(&caption, matrix)),
    )
}

fn section(title: &str, html: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{html}</section>\n", escape(title))
}

fn number(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or("–".into(), text)
}

#[cfg(test)]
mod tests {
    use super::super::html::unbalanced;
    use super::*;

    fn history(epochs: usize, valid: bool) -> History {
        let epoch = |i: usize| {
            let score = |loss: f64| Score { loss: Some(loss), accuracy: Some(0.5 + i as f64 / 100.0) };
            let valid = valid.then(|| score(0.5 + (i as f64 - 3.0).abs()));
            Epoch { epoch: i, train: score(1.0 / i as f64), valid, lr: 0.5 / i as f64, seconds: 0.25 }
        };
        History { epochs: (1..=epochs).map(epoch).collect() }
    }

    fn times(html: &str, text: &str) -> usize {
        html.matches(text).count()
    }

    #[test]
    fn the_page_has_all_of_it() {
        let matrix =
            ConfusionMatrix::from_rows(&[[30, 10], [0, 25]]).unwrap().with_names(["cat", "<dog>"]).unwrap();
        let report = Report::new(&history(5, true)).title("a & b").confusion(&matrix).mark(4, "pruned");
        let html = report.html().unwrap();
        assert_eq!(unbalanced(&html), None);
        assert_eq!((times(&html, "<svg"), times(&html, "\npruned\n"), times(&html, "\nbest\n")), (3, 3, 3));
        for text in [
            "<h1>a &amp; b</h1>",
            "5 epochs, 1.2 s of training. Best: epoch 3, validation loss 0.5000  accuracy 53.00 %.",
            "accuracy 84.62 % of 65 samples",
            "<td style=\"--s:52%\">30</td>",
            "<th scope=\"row\">&lt;dog&gt;</th><td>0.7143</td><td>1.0000</td><td>0.8333</td><td>25</td>",
            "validation: 51 at 1, 52 at 2, 53 at 3,",
            "<td>0.2500</td><td>54.00 %</td><td>1.5000</td><td>54.00 %</td><td>0.125</td><td>0.25</td>",
        ] {
            assert!(html.contains(text), "{text}\n{html}");
        }
        assert!(!html.contains("<dog>") && !html.contains("src=") && !html.contains("href="));
    }

    #[test]
    fn what_there_is_not_is_left_out() {
        let html = Report::new(&history(1, false)).html().unwrap();
        assert_eq!(
            (times(&html, "<svg"), times(&html, "\nvalidation\n"), times(&html, "\nbest\n")),
            (3, 0, 0)
        );
        assert!(html.contains("Best: epoch 1, training loss 1.0000") && !html.contains("Confusion"));

        let mut values = history(2, true);
        for epoch in &mut values.epochs {
            (epoch.train.accuracy, epoch.valid) = (None, None);
        }
        assert_eq!(times(&Report::new(&values).html().unwrap(), "<svg"), 2);

        let html = Report::new(&History::default()).html().unwrap();
        assert!(
            html.contains("0 epochs") && html.contains("There is no epoch") && unbalanced(&html).is_none()
        );
    }

    #[test]
    fn a_diverged_run_has_a_report() {
        let mut diverged = history(2, false);
        for epoch in &mut diverged.epochs {
            (epoch.train.loss, epoch.lr) = (Some(f64::NAN), f64::INFINITY);
        }
        assert_eq!(times(&Report::new(&diverged).html().unwrap(), "<svg"), 1);
    }
}
