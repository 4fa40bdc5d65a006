//! What the paper reports, as lists of runs: each section's tables, their rows, and the paper's figures beside them.

mod batches;
mod choices;
mod finals;
mod models;
mod pruning;
mod samples;
mod settings;
mod units;

use crate::models::Layers;
use crate::paper;
use crate::recipe::{Cell, Network, Recipe};
use crate::study::{Patterns, Run, Way};

/// How much is done of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// About a tenth: a fifth of the patterns, half the epochs.
    pub quick: bool,
    /// Of the tables that the paper gives as means, and of the final models.
    pub repeats: usize,
}

/// A part of the page.
#[derive(Clone, Debug)]
pub struct Section {
    /// What `--only` calls it.
    pub name: &'static str,
    /// Whether it takes hours, and is only done if it is asked for, or quick.
    pub long: bool,
    pub title: &'static str,
    pub text: &'static str,
    pub tables: Vec<Table>,
    pub figures: Vec<Figure>,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub caption: String,
    /// What the first column is.
    pub head: &'static str,
    pub rows: Vec<Row>,
}

/// A figure of the paper's, and the runs whose mean is ours.
#[derive(Clone, Debug)]
pub struct Row {
    pub label: String,
    /// Where the row is in a chart.
    pub x: f64,
    pub metric: Metric,
    /// In percent.
    pub paper: Option<f64>,
    /// Seconds an epoch.
    pub paper_seconds: Option<f64>,
    pub runs: Vec<Run>,
}

/// What of a run is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Accuracy on the validation images after the last epoch.
    Valid,
    /// The same after an epoch, from 1.
    ValidAfter(usize),
    /// The same of the model that was pruned first, once it is retrained.
    ValidRetrained,
    Test(Stage),
    /// Macro precision on the test images.
    Precision(Stage),
    /// The share of the parameters that a threshold's pruning sets to 0.
    Zeros(usize),
}

/// Which model of a run; the number is the threshold's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    Trained,
    Pruned(usize),
    Retrained(usize),
    /// With units cut, and trained again.
    Shrunk,
    /// As small as that, from scratch.
    FromScratch,
}

#[derive(Clone, Debug)]
pub enum Figure {
    /// Tables of the section as lines, and the paper's figures of the first so many.
    Lines {
        title: &'static str,
        x: &'static str,
        /// Whether the distances along x are those of logarithms.
        log: bool,
        lines: Vec<(&'static str, usize)>,
        paper: usize,
    },
    /// The same of the seconds an epoch.
    Seconds {
        title: &'static str,
        x: &'static str,
        table: usize,
    },
    Confusion {
        title: String,
        run: Box<Run>,
        stage: Stage,
        paper: &'static [[u64; 10]; 10],
    },
    Histograms {
        run: Box<Run>,
    },
    /// The training images that stand out in a run.
    Images {
        run: Box<Run>,
    },
    /// All of the paper's other models, and these of ours.
    Ranking(Vec<Row>),
    /// Tables of the section as points: accuracy over the seconds of choice and training together.
    Cost {
        title: &'static str,
        lines: Vec<(&'static str, usize)>,
    },
    /// Tables of the section as the rows of one, which stands in their place.
    Matrix {
        title: &'static str,
        /// What it has of them.
        what: String,
        lines: Vec<(&'static str, usize)>,
        /// Whether it has the seconds of choice and training, rather than the accuracy.
        seconds: bool,
    },
    /// Where the tuned recipe is another than the paper's.
    Settings,
}

impl Figure {
    fn runs(&self) -> Vec<&Run> {
        match self {
            Self::Lines { .. }
            | Self::Seconds { .. }
            | Self::Cost { .. }
            | Self::Matrix { .. }
            | Self::Settings => Vec::new(),
            Self::Confusion { run, .. } | Self::Histograms { run } | Self::Images { run } => vec![run],
            Self::Ranking(rows) => rows.iter().flat_map(|row| &row.runs).collect(),
        }
    }
}

impl Section {
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        let rows = self.tables.iter().flat_map(|table| &table.rows);
        rows.flat_map(|row| &row.runs).chain(self.figures.iter().flat_map(Figure::runs))
    }

    /// The tables that do not stand in a matrix.
    pub fn single_tables(&self) -> impl Iterator<Item = &Table> {
        let joined = |i: usize| {
            self.figures.iter().any(|figure| match figure {
                Figure::Matrix { lines, .. } => lines.iter().any(|&(_, table)| table == i),
                _ => false,
            })
        };
        self.tables.iter().enumerate().filter(move |(i, _)| !joined(*i)).map(|(_, table)| table)
    }
}

fn row(label: impl ToString, metric: Metric, paper: Option<f64>, runs: Vec<Run>) -> Row {
    Row { label: label.to_string(), x: f64::NAN, metric, paper, paper_seconds: None, runs }
}

/// What the paper tunes, told by the validation images.
fn on_validation(head: &'static str, rows: impl IntoIterator<Item = Row>) -> Table {
    let caption = "Accuracy on the validation images".into();
    Table { caption, head, rows: rows.into_iter().collect() }
}

/// The section's only table as a line.
fn validation_line(title: &'static str, x: &'static str) -> Figure {
    Figure::Lines { title, x, log: false, lines: vec![("validation", 0)], paper: 0 }
}

impl Row {
    fn at(self, x: impl Into<f64>) -> Self {
        Self { x: x.into(), ..self }
    }
}

impl Plan {
    /// Every section, in the order of the paper.
    pub fn sections(&self) -> Vec<Section> {
        vec![
            self.cells(),
            self.normalisation(),
            self.losses(),
            self.rate(),
            self.epochs(),
            self.blocks(),
            self.layers(),
            self.tuned_matrix(),
            self.reduction(),
            self.selection(),
            self.standing_out(),
            self.choices(),
            self.cuts(),
            self.batches(),
            self.weights(),
            self.thresholds(),
            self.control(),
            self.units(),
            self.tuning(),
            self.final_models(),
            self.others(),
            self.models(),
        ]
    }

    fn recipe(&self, recipe: Recipe) -> Recipe {
        let part = if self.quick { 2 } else { 1 };
        Recipe { epochs: recipe.epochs / part, retrain_epochs: recipe.retrain_epochs / part, ..recipe }
    }

    fn patterns(&self, valid: usize) -> Patterns {
        let part = if self.quick { 5 } else { 1 };
        let (pool, valid) = (60_000 / part, valid / part);
        Patterns { equal_steps: false, pool, share: 1.0, valid, way: Way::Random }
    }

    /// The paper's tuned model, measured on validation images.
    fn base(&self) -> Run {
        Run {
            histograms: false,
            model: Layers::Recurrent,
            network: Network { cell: Cell::Lstm, hidden: 35, layers: 2 },
            patterns: self.patterns(12_000),
            prune: Vec::new(),
            recipe: self.recipe(Recipe::paper()),
            seed: 1,
            shrink: None,
            stand_out: 0,
            test: false,
        }
    }

    /// One for each seed.
    fn seeds(repeats: usize, run: &Run) -> Vec<Run> {
        (1..=repeats as u64).map(|seed| Run { seed, ..run.clone() }).collect()
    }

    fn all(&self, run: &Run) -> Vec<Run> {
        Self::seeds(self.repeats, run)
    }

    /// Where the paper has a single run, or does not say.
    fn some(&self, run: &Run) -> Vec<Run> {
        Self::seeds(self.repeats.min(if self.quick { 1 } else { 2 }), run)
    }

    fn recipes(&self) -> [(&'static str, Recipe); 2] {
        [("The paper's recipe", Recipe::paper()), ("The tuned recipe", Recipe::tuned_for(2))]
    }

    /// A model pruned at each of these thresholds. The first is the final model's.
    fn pruned(&self, layers: usize, recipe: Recipe, prune: Vec<f64>) -> Run {
        let base = self.base();
        let network = Network { layers, ..base.network.clone() };
        Run { network, prune, recipe: self.recipe(recipe), test: true, ..base }
    }
}

/// The models that Table 4 has, and the paper's own.
fn known_models() -> impl Iterator<Item = Row> {
    let own = [
        ("LSTM of the paper, 2 layers", paper::FINAL.0),
        ("LSTM of the paper, 4 layers", paper::FOUR_LAYERS.0),
    ];
    let known = paper::TABLE_4.into_iter().chain(own);
    known.map(|(name, accuracy)| row(name, Metric::Valid, Some(accuracy), vec![]))
}

/// Those of Table 3, and one that prunes nothing.
fn thresholds() -> Vec<f64> {
    paper::TABLE_3.iter().map(|row| row.0).chain([0.0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(plan: Plan, name: &str) -> Section {
        plan.sections().into_iter().find(|section| section.name == name).unwrap()
    }

    const FULL: Plan = Plan { quick: false, repeats: 5 };

    #[test]
    fn tables_are_the_papers() {
        let table2 = &section(FULL, "table2").tables[0];
        let patterns = table2.rows.iter().map(|row| {
            assert_eq!(row.runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
            let Patterns { pool, share, valid, way, .. } = row.runs[0].patterns;
            assert_eq!((pool, valid, way, row.runs[0].recipe.epochs), (60_000, 0, Way::Random, 20));
            (share * pool as f64).round() as usize
        });
        assert_eq!(patterns.collect::<Vec<_>>(), [60_000, 48_000, 36_000, 24_000, 12_000]);
        assert_eq!(table2.rows[4].paper, Some(84.10));

        let [pruned, retrained, ..] = &section(FULL, "table3").tables[..] else { panic!("six tables") };
        assert_eq!(pruned.rows.len(), 6);
        assert_eq!(pruned.rows[5].runs[0].prune, [0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.0]);
        assert_eq!(
            (pruned.rows[5].metric, pruned.rows[5].paper),
            (Metric::Test(Stage::Pruned(5)), Some(80.85))
        );
        assert_eq!(
            (retrained.rows[0].metric, retrained.rows[0].paper),
            (Metric::Test(Stage::Retrained(0)), Some(88.46))
        );

        let blocks = &section(FULL, "fig3").tables[0];
        let sizes: Vec<_> = blocks.rows.iter().map(|row| row.runs[0].network.hidden).collect();
        assert_eq!(sizes, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]);
        let epochs = &section(FULL, "fig2").tables[0];
        assert_eq!(epochs.rows.len(), 10);
        assert_eq!(
            (epochs.rows[9].metric, epochs.rows[9].runs[0].recipe.epochs),
            (Metric::ValidAfter(50), 50)
        );
        assert_eq!(section(FULL, "losses").tables.iter().map(|table| table.rows.len()).sum::<usize>(), 15);
    }

    /// Only what the paper reports on test images looks at them.
    #[test]
    fn tuning_never_sees_the_test_images() {
        for section in FULL.sections() {
            let tuning = [
                "normalisation",
                "losses",
                "rate",
                "fig2",
                "fig3",
                "layers",
                "fig5",
                "tuning",
                "cuts",
                "batches",
            ]
            .contains(&section.name);
            assert!(section.runs().count() > 0);
            assert!(section.runs().all(|run| run.test != tuning), "{}", section.name);
            assert!(section.runs().all(|run| run.test || run.patterns.valid == 12_000), "{}", section.name);
            let all = |run: &Run| run.patterns.pool == run.patterns.valid + 55_000;
            assert!(section.runs().all(|run| run.model == Layers::Recurrent || all(run)), "{}", section.name);
        }
    }

    #[test]
    fn matrices_are_those_printed() {
        for (matrix, right) in [(paper::FIGURE_4, 8761), (paper::FIGURE_7, 8994)] {
            assert!(matrix.iter().all(|row| row.iter().sum::<u64>() == 1000));
            assert_eq!((0..10).map(|i| matrix[i][i]).sum::<u64>(), right);
        }
    }

    #[test]
    fn costs_stay_in_bounds() {
        let cost = |plan: Plan| {
            let mut seen = Vec::new();
            for section in plan.sections().iter().filter(|section| plan.quick || !section.long) {
                for run in section.runs() {
                    if !seen.contains(run) {
                        seen.push(run.clone());
                    }
                }
            }
            seen.iter().map(Run::cost).sum::<f64>()
        };
        let (full, quick) = (cost(FULL), cost(Plan { quick: true, repeats: 2 }));
        println!("{full} s and {quick} s on one thread");
        // Under an hour on two cores, and the quick one about three minutes.
        assert!(full < 115.0 * 60.0, "{full}");
        assert!(quick < 6.25 * 60.0, "{quick}");
    }
}
