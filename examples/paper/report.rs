//! The page and the figures: what the runs brought, beside what the paper reports.

use std::error::Error;
use std::iter;

use bptt::data::FashionMnist;
use bptt::metrics::ConfusionMatrix;
use bptt::plot::html::{self, confusion, element, escape, figure, table};
use bptt::plot::{Chart, Line};
use bptt::tune::{Summary, Table as Runs};
use serde_json::{Value, json};

use crate::charts;
use crate::recipe::Recipe;
use crate::sections::{Figure, Metric, Plan, Row, Section, Stage, Table};
use crate::sheet::sheet;
use crate::study::{BIN, Outcome, Run, Small};

/// The outcomes, to be asked for by run.
pub struct Report<'a> {
    /// The images that a page can show.
    pub data: &'a FashionMnist,
    pub plan: Plan,
    pub sections: &'a [Section],
    pub runs: &'a Runs<Run, Outcome>,
    /// Runs that went side by side.
    pub workers: usize,
}

/// What a row's runs brought.
pub struct Ours {
    /// In percent.
    pub accuracy: Summary,
    parameters: usize,
    /// An epoch of the first training.
    seconds: Summary,
    /// The choice of patterns and the first training together: the median, because some runs may have shared the machine with
    /// other programs.
    total: Option<f64>,
}

impl Report<'_> {
    fn outcome(&self, run: &Run) -> Option<&Outcome> {
        self.runs.rows().iter().find(|row| row.config == *run)?.result.as_ref().ok()
    }

    /// `None` if a run failed, or there are none.
    pub fn ours(&self, row: &Row) -> Option<Ours> {
        let outcomes: Vec<&Outcome> = row.runs.iter().map(|run| self.outcome(run)).collect::<Option<_>>()?;
        let values: Vec<f64> =
            outcomes.iter().map(|outcome| row.metric.of(outcome)).collect::<Option<_>>()?;
        let costs = outcomes.iter().map(|outcome| match row.metric.small(outcome) {
            Some(small) => (small.parameters, small.seconds, Some(small.total)),
            None => (outcome.parameters, outcome.seconds, outcome.total),
        });
        let costs: Vec<_> = costs.collect();
        let seconds = Summary::of(costs.iter().map(|cost| cost.1));
        let total: Option<Vec<f64>> = costs.iter().map(|cost| cost.2).collect();
        let (parameters, total) = (costs.first()?.0, total.map(median));
        (!values.is_empty()).then(|| Ours { accuracy: Summary::of(values), parameters, seconds, total })
    }

    /// The whole page; it needs no other file.
    pub fn html(&self) -> Result<String, Box<dyn Error>> {
        let sections =
            self.sections.iter().map(|section| self.section(section)).collect::<Result<String, _>>()?;
        let links = self
            .sections
            .iter()
            .map(|s| format!("<li><a href=\"#{}\">{}</a></li>\n", s.name, escape(s.title)));
        let links: String = links.collect();
        let quick = "This page was made with --quick: a fifth of the patterns, half the epochs, fewer repeats. Its figures \
                     are lower than those of the full study, and are no reproduction.";
        let quick = if self.plan.quick {
            format!("<p class=\"quick\">{}</p>\n", escape(quick))
        } else {
            String::new()
        };
        let summary = self.summary()?;
        let title = "An LSTM on Fashion-MNIST: the paper's figures and ours";
        let page = format!(
            "<header>\n{}{quick}{summary}{}\
             <nav aria-label=\"Sections\">\n<ul>\n{links}</ul>\n</nav>\n</header>\n<main>\n{sections}</main>\n\
             <footer>\n{}</footer>\n",
            element("h1", title),
            element("p", &self.about()),
            element(
                "p",
                "Written by the example paper of the crate bptt. docs/paper.md there says how the paper was read where it can \
                 be read in several ways. results.json beside this page has every figure, runs.jsonl every run."
            ),
        );
        Ok(html::page(title, include_str!("page.css"), &page))
    }

    fn about(&self) -> String {
        let (runs, workers) = (self.runs.len(), self.workers);
        let side = if workers > 1 {
            format!(
                "{workers} runs went side by side, one thread each: the seconds of an epoch are those of one thread with others beside it"
            )
        } else {
            "Runs went one after another, on one thread: the seconds of an epoch are those of one thread"
                .into()
        };
        format!(
            "Kexin Zhang's paper “LSTM: An Image Classification Model Based on Fashion-MNIST Dataset”, run again from its text. \
             In each table stand the paper's value, ours as mean ± standard deviation over n seeds (1 to n), and the \
             difference in points. What the paper tuned on validation images is measured on validation images here; the test \
             images are looked at only where the paper reports them, and for the choice of patterns, which goes on from its \
             Table 2. {runs} runs. {side}, and the paper's are from other \
             hardware."
        )
    }

    fn section(&self, section: &Section) -> Result<String, Box<dyn Error>> {
        let tables: String = section.single_tables().map(|table| self.table(table, section.long)).collect();
        let figures =
            section.figures.iter().map(|f| self.figure(section, f)).collect::<Result<String, _>>()?;
        Ok(format!(
            "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n{2}\
             <div class=\"parts\">\n{tables}{figures}</div>\n</section>\n",
            section.name,
            escape(section.title),
            element("p", section.text),
        ))
    }

    /// A table, with the seconds in all if they are asked for.
    fn table(&self, of: &Table, total: bool) -> String {
        let ours: Vec<Option<Ours>> = of.rows.iter().map(|row| self.ours(row)).collect();
        let columns = columns(of, &ours, total);
        let heads: Vec<&str> = iter::once(of.head).chain(columns.iter().map(|column| column.0)).collect();
        let rows = of.rows.iter().zip(&ours).map(|(row, ours)| {
            let cells = columns.iter().map(|(_, cell)| cell(row, ours.as_ref()));
            iter::once(row.label.clone()).chain(cells).collect()
        });
        table(&of.caption, &heads, &rows.collect::<Vec<Vec<String>>>())
    }

    /// Tables of a section as the rows of one.
    fn matrix(&self, section: &Section, title: &str, lines: &[(&str, usize)], seconds: bool) -> String {
        let rows_of = |&(_, table): &(&str, usize)| &section.tables[table].rows;
        let longest = lines.iter().map(rows_of).max_by_key(|rows| rows.len());
        let columns = longest.into_iter().flatten().map(|row| row.label.as_str());
        let heads: Vec<&str> =
            lines.first().map(|line| section.tables[line.1].head).into_iter().chain(columns).collect();
        let rows = lines.iter().map(|line| {
            let cells = rows_of(line).iter().map(|row| match self.ours(row) {
                Some(ours) if seconds => number(ours.total),
                Some(ours) => mean_sd(&ours.accuracy),
                None => "failed".into(),
            });
            let cells = iter::once(line.0.to_owned()).chain(cells).chain(iter::repeat("–".into()));
            cells.take(heads.len()).collect()
        });
        table(title, &heads, &rows.collect::<Vec<Vec<String>>>())
    }

    /// What a figure draws as lines, if it does.
    fn plot(&self, section: &Section, of: &Figure) -> Option<Chart> {
        match *of {
            Figure::Lines { title, x, log, ref lines, paper } => {
                let mut all = Vec::new();
                for (color, &(name, place)) in lines.iter().enumerate() {
                    let rows = &section.tables[place].rows;
                    all.push(self.line(name, color, rows, |ours| ours.accuracy.clone()));
                    if color < paper {
                        let points = rows.iter().filter_map(|row| Some((row.x, row.paper?)));
                        let name = if paper > 1 { format!("{name}, paper") } else { "paper".into() };
                        all.push(Line::new(name, points).dashed().color(color));
                    }
                }
                let chart = Chart::new(title, x, "accuracy, %");
                let chart = if log { chart.log_x() } else { chart };
                Some(all.into_iter().fold(chart, Chart::line))
            }
            Figure::Seconds { title, x, table } => {
                let line = self.line("ours", 0, &section.tables[table].rows, |ours| ours.seconds.clone());
                Some(Chart::new(title, x, "seconds an epoch").line(line))
            }
            Figure::Cost { title, ref lines } => {
                let line = |(color, &(name, place)): (usize, &(&str, usize))| {
                    let rows = &section.tables[place].rows;
                    let values = rows.iter().filter_map(|row| {
                        let Ours { accuracy, total, .. } = self.ours(row)?;
                        Some(((total?, accuracy.mean), accuracy.sd))
                    });
                    let (points, sd): (Vec<_>, Vec<_>) = values.unzip();
                    // The last colour is that of all patterns, which come first.
                    Line::new(name, points).deviations(sd).color(color + 7)
                };
                let chart = Chart::new(title, "seconds of choice and training", "accuracy, %").log_x();
                Some(lines.iter().enumerate().map(line).fold(chart, Chart::line))
            }
            _ => None,
        }
    }

    /// The line charts of the page that have something to show, and names for their files.
    pub fn pictures(&self) -> Vec<(String, Chart)> {
        let mut all = Vec::new();
        for section in self.sections {
            let plots = section.figures.iter().filter_map(|of| self.plot(section, of));
            let drawn = plots.enumerate().filter(|(_, plot)| plot.is_drawn());
            all.extend(drawn.map(|(i, plot)| (format!("{}-{}.svg", section.name, i + 1), plot)));
        }
        all
    }

    pub fn figure(&self, section: &Section, of: &Figure) -> Result<String, Box<dyn Error>> {
        if let Some(plot) = self.plot(section, of) {
            return chart(&plot);
        }
        match of {
            Figure::Lines { .. } | Figure::Seconds { .. } | Figure::Cost { .. } => Ok(String::new()),
            Figure::Confusion { title, run, stage, paper } => {
                let Some(ours) = self.outcome(run).and_then(|outcome| stage.of(outcome)) else {
                    return Ok(element("p", &format!("{title}: the run failed.")));
                };
                let paper: Vec<Vec<u64>> = paper.iter().map(|row| row.to_vec()).collect();
                Ok(both(title, (ours, run.seed), &ConfusionMatrix::from_rows(&paper)?)?)
            }
            Figure::Histograms { run } => {
                let Some(outcome) = self.outcome(run) else { return Ok(element("p", "The run failed.")) };
                let histograms = outcome.histograms.iter().map(|h| {
                    let title = format!("Layer {}", h.layer);
                    let svg = charts::histogram(&title, BIN, &h.before, &h.after).svg()?;
                    let zeros = h.after[h.after.len() / 2];
                    let text = format!(
                        "{title}: histogram of its weights from −1 to 1. After pruning {zeros} weights are at 0 or within \
                         {} of it, before {}.",
                        BIN / 2.0,
                        h.before[h.before.len() / 2]
                    );
                    Ok(figure(&svg, &text))
                });
                histograms.collect()
            }
            Figure::Images { run } => Ok(self.images(run)),
            Figure::Matrix { title, what, lines, seconds } => {
                Ok(self.matrix(section, &format!("{title}: {what}"), lines, *seconds))
            }
            Figure::Settings => Ok(settings()),
            Figure::Ranking(rows) => Ok(self.ranking(rows)),
        }
    }

    /// The images that stand out in a run.
    fn images(&self, run: &Run) -> String {
        let Some(kinds) = self.outcome(run).and_then(|outcome| outcome.stand_out.as_ref()) else {
            return element("p", "The run failed.");
        };
        let kinds = [
            ("The hardest, by EL2N", &kinds.hardest),
            ("The most forgotten, by how often", &kinds.forgotten),
            ("Probably in the wrong class, by the mean margin", &kinds.mislabelled),
        ];
        let drawn = kinds.into_iter().filter(|(_, scores)| !scores.is_empty());
        drawn.map(|(title, scores)| sheet(title, self.data.train(), scores)).collect()
    }

    /// The paper's other models and ours, from the worst to the best.
    fn ranking(&self, rows: &[Row]) -> String {
        let mut ranked: Vec<(f64, Vec<String>)> = rows
            .iter()
            .map(|row| match (self.ours(row), row.paper) {
                (Some(ours), _) => (
                    ours.accuracy.mean,
                    vec![row.label.clone(), mean_sd(&ours.accuracy), row.runs.len().to_string()],
                ),
                (None, Some(paper)) => (paper, vec![row.label.clone(), number(Some(paper)), "–".into()]),
                (None, None) => (0.0, vec![row.label.clone(), "failed".into(), row.runs.len().to_string()]),
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let cells: Vec<_> = ranked.into_iter().map(|(_, cells)| cells).collect();
        table("Accuracy on the test images, in ascending order", &["model", "accuracy %", "n"], &cells)
    }

    fn line(&self, name: &str, color: usize, rows: &[Row], value: impl Fn(&Ours) -> Summary) -> Line {
        let values = rows.iter().filter_map(|row| Some((row.x, value(&self.ours(row)?))));
        let (points, sd): (Vec<_>, Vec<_>) =
            values.map(|(x, summary)| ((x, summary.mean), summary.sd)).unzip();
        Line::new(name, points).deviations(sd).color(color)
    }

    /// Every figure of the page.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let ours = self.ours(row);
            json!({
                "label": row.label,
                "paper": row.paper,
                "paper_seconds": row.paper_seconds,
                "ours": ours.as_ref().map(|ours| &ours.accuracy),
                "seconds": ours.as_ref().map(|ours| &ours.seconds),
                "total_seconds": ours.as_ref().and_then(|ours| ours.total),
                "seeds": row.runs.iter().map(|run| run.seed).collect::<Vec<_>>(),
            })
        };
        let table = |table: &Table| json!({ "caption": table.caption, "rows": table.rows.iter().map(row).collect::<Vec<_>>() });
        let section = |section: &Section| {
            let matrices = section.figures.iter().filter_map(|figure| match figure {
                Figure::Confusion { title, run, stage, .. } => {
                    Some(json!({ "title": title, "seed": run.seed, "counts": stage.of(self.outcome(run)?)?.rows() }))
                }
                _ => None,
            });
            let rankings = section.figures.iter().filter_map(|figure| match figure {
                Figure::Ranking(rows) => Some(rows.iter().map(row).collect::<Vec<_>>()),
                _ => None,
            });
            let images = section.figures.iter().filter_map(|figure| match figure {
                Figure::Images { run } => self.outcome(run)?.stand_out.as_ref(),
                _ => None,
            });
            json!({
                "name": section.name,
                "title": section.title,
                "tables": section.tables.iter().map(table).collect::<Vec<_>>(),
                "confusion": matrices.collect::<Vec<_>>(),
                "images": images.collect::<Vec<_>>(),
                "ranking": rankings.flatten().collect::<Vec<_>>(),
            })
        };
        json!({
            "quick": self.plan.quick,
            "repeats": self.plan.repeats,
            "runs": self.runs.len(),
            "workers": self.workers,
            "sections": self.sections.iter().map(section).collect::<Vec<_>>(),
        })
    }
}

/// A column's head, and its cell in a row.
type Column = (&'static str, fn(&Row, Option<&Ours>) -> String);

/// The columns of a table that have something to tell.
fn columns(of: &Table, ours: &[Option<Ours>], total: bool) -> Vec<Column> {
    let paper = of.rows.iter().any(|row| row.paper.is_some());
    let times = of.rows.iter().any(|row| row.paper_seconds.is_some());
    // Rows that tell of the same runs have the same seconds.
    let timed = of.rows.len() == 1 || of.rows.iter().any(|row| row.runs != of.rows[0].runs);
    let mut sizes = ours.iter().flatten().map(|ours| ours.parameters);
    let first = sizes.next();
    let sized = sizes.any(|size| Some(size) != first);
    let all: [(bool, Column); 8] = [
        (paper, ("paper %", |row, _| number(row.paper))),
        (true, ("ours %", |_, ours| ours.map_or("failed".into(), |ours| mean_sd(&ours.accuracy)))),
        (
            paper,
            ("difference", |row, ours| {
                difference(ours.zip(row.paper).map(|(ours, paper)| ours.accuracy.mean - paper))
            }),
        ),
        (true, ("n", |row, _| row.runs.len().to_string())),
        (
            times,
            ("paper s/epoch", |row, _| {
                row.paper_seconds.map_or("–".into(), |seconds| format!("{seconds:.1}"))
            }),
        ),
        (timed, ("s/epoch", |_, ours| number(ours.map(|ours| ours.seconds.mean)))),
        (total, ("total s", |_, ours| number(ours.and_then(|ours| ours.total)))),
        (sized, ("parameters", |_, ours| ours.map_or("–".into(), |ours| ours.parameters.to_string()))),
    ];
    all.into_iter().filter_map(|(shown, column)| shown.then_some(column)).collect()
}

/// Our confusion matrix, with the seed of its run, beside the paper's.
fn both(
    title: &str,
    (ours, seed): (&ConfusionMatrix, u64),
    theirs: &ConfusionMatrix,
) -> bptt::Result<String> {
    let show = |whose: &str, matrix: &ConfusionMatrix| {
        let caption = format!("{title}: {whose}, {:.2}\u{a0}%", 100.0 * matrix.accuracy());
        Ok(confusion(&caption, &matrix.clone().with_names(FashionMnist::CLASSES)?))
    };
    let (ours, theirs) = (show(&format!("ours, seed {seed}"), ours)?, show("the paper's", theirs)?);
    Ok(format!("<div class=\"parts pair\">\n{ours}{theirs}</div>\n"))
}

/// Where the recipes differ.
fn settings() -> String {
    let paper = json!(Recipe::paper());
    let tuned = [2, 4].map(|layers| json!(Recipe::tuned_for(layers)));
    let rows = paper.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let [two, four] = [&tuned[0][name], &tuned[1][name]];
        let differs = two != value || four != value;
        differs.then(|| vec![name.clone(), plain(value), plain(two), plain(four)])
    });
    let heads = ["setting", "the paper's", "tuned, 2 layers", "tuned, 4 layers"];
    table("Where the recipes differ", &heads, &rows.collect::<Vec<_>>())
}

impl Metric {
    /// The smaller model that it is told of, if it is one.
    fn small(self, outcome: &Outcome) -> Option<&Small> {
        match self {
            Self::Test(Stage::Shrunk) => outcome.shrunk.as_ref(),
            Self::Test(Stage::FromScratch) => outcome.from_scratch.as_ref(),
            _ => None,
        }
    }

    /// In percent.
    fn of(self, outcome: &Outcome) -> Option<f64> {
        let share = match self {
            Self::Valid => *outcome.valid.last()?,
            Self::ValidAfter(epoch) => *outcome.valid.get(epoch - 1)?,
            Self::ValidRetrained => outcome.pruned.first()?.valid?,
            Self::Test(stage) => stage.of(outcome)?.accuracy(),
            Self::Precision(stage) => stage.of(outcome)?.precision_macro(),
            Self::Zeros(i) => outcome.pruned.get(i)?.sparsity,
        };
        Some(100.0 * share)
    }
}

impl Stage {
    fn of(self, outcome: &Outcome) -> Option<&ConfusionMatrix> {
        match self {
            Self::Trained => outcome.test.as_ref(),
            Self::Pruned(i) => outcome.pruned.get(i)?.pruned.as_ref(),
            Self::Retrained(i) => outcome.pruned.get(i)?.retrained.as_ref(),
            Self::Shrunk => outcome.shrunk.as_ref()?.test.as_ref(),
            Self::FromScratch => outcome.from_scratch.as_ref()?.test.as_ref(),
        }
    }
}

/// A chart, and its values for those who do not see it.
fn chart(plot: &Chart) -> Result<String, Box<dyn Error>> {
    if !plot.is_drawn() {
        return Ok(element("p", &format!("{}: the runs failed.", plot.title())));
    }
    Ok(figure(&plot.svg()?, &plot.description()))
}

/// A setting as it is, without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The value in the middle, or the lower one of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

pub fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.2}"))
}

pub fn mean_sd(summary: &Summary) -> String {
    match summary.values.len() {
        1 => format!("{:.2}", summary.mean),
        _ => format!("{:.2} ± {:.2}", summary.mean, summary.sd),
    }
}

fn difference(points: Option<f64>) -> String {
    points.map_or("–".into(), |points| format!("{points:+.2}").replace('-', "−"))
}
