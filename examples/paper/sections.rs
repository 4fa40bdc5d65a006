//! What the paper reports, as lists of runs: each section's tables, their rows, and the paper's figures beside them.

use crate::paper;
use crate::recipe::{Cell, Criterion, Network, Recipe, Rule};
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
    /// All of the paper's other models, and these of ours.
    Ranking(Vec<Row>),
    /// Where the tuned recipe is another than the paper's.
    Settings,
}

impl Figure {
    fn runs(&self) -> Vec<&Run> {
        match self {
            Self::Lines { .. } | Self::Seconds { .. } | Self::Settings => Vec::new(),
            Self::Confusion { run, .. } | Self::Histograms { run } => vec![run],
            Self::Ranking(rows) => rows.iter().flat_map(|row| &row.runs).collect(),
        }
    }
}

impl Section {
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        let rows = self.tables.iter().flat_map(|table| &table.rows);
        rows.flat_map(|row| &row.runs).chain(self.figures.iter().flat_map(Figure::runs))
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
            self.weights(),
            self.thresholds(),
            self.control(),
            self.tuning(),
            self.final_models(),
            self.others(),
        ]
    }

    fn recipe(&self, recipe: Recipe) -> Recipe {
        let part = if self.quick { 2 } else { 1 };
        Recipe { epochs: recipe.epochs / part, retrain_epochs: recipe.retrain_epochs / part, ..recipe }
    }

    fn patterns(&self, valid: usize) -> Patterns {
        let part = if self.quick { 5 } else { 1 };
        Patterns { pool: 60_000 / part, share: 1.0, valid: valid / part, way: Way::Random }
    }

    /// The paper's tuned model, measured on validation images.
    fn base(&self) -> Run {
        Run {
            histograms: false,
            network: Network { cell: Cell::Lstm, hidden: 35, layers: 2 },
            patterns: self.patterns(12_000),
            prune: Vec::new(),
            recipe: self.recipe(Recipe::paper()),
            seed: 1,
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

    fn cells(&self) -> Section {
        let lstm = Run { test: true, ..self.base() };
        let rnn = Run { network: Network { cell: Cell::Rnn, ..lstm.network.clone() }, ..lstm.clone() };
        let rows = vec![
            row("RNN", Metric::Test(Stage::Trained), Some(paper::RNN), self.some(&rnn)),
            row("LSTM", Metric::Test(Stage::Trained), Some(paper::LSTM), self.some(&lstm)),
        ];
        Section {
            name: "cells",
            title: "RNN against LSTM",
            text: "A traditional recurrent network with tanh, and an LSTM, of the same size, by the same recipe and from \
                   the same seeds. The paper compares before tuning; it does not say at which settings.",
            tables: vec![Table { caption: "Accuracy on the test images".into(), head: "cell", rows }],
            figures: vec![],
        }
    }

    fn normalisation(&self) -> Section {
        let on = self.base();
        let off = Run { recipe: Recipe { normalize: false, ..on.recipe.clone() }, ..on.clone() };
        let rows = vec![
            row("pixels from 0 to 1", Metric::Valid, None, self.some(&off)),
            row("mean and sd taken out", Metric::Valid, None, self.some(&on)),
        ];
        Section {
            name: "normalisation",
            title: "Normalisation",
            text: "The paper finds normalisation by mean and standard deviation worth one to two points of accuracy.",
            tables: vec![on_validation("input", rows)],
            figures: vec![],
        }
    }

    fn losses(&self) -> Section {
        let rules = [
            ("Adam", Rule::Adam, 1e-3),
            ("Adamax", Rule::Adamax, 2e-3),
            ("RMSprop", Rule::RmsProp, 1e-2),
            ("SGD", Rule::Sgd, 1e-3),
            ("SGD, momentum 0.9", Rule::Momentum, 1e-3),
        ];
        let losses = [
            ("cross-entropy", Criterion::CrossEntropy),
            ("negative log-likelihood", Criterion::Nll),
            ("multi-class margin", Criterion::MultiMargin),
        ];
        let table = |(name, loss): (&str, Criterion)| {
            let rows = rules.map(|(rule, optimizer, lr)| {
                let base = self.base();
                let recipe = Recipe { loss, lr, optimizer, ..base.recipe.clone() };
                row(format!("{rule}, rate {lr}"), Metric::Valid, None, self.some(&Run { recipe, ..base }))
            });
            let caption = format!("Loss: {name}. Accuracy on the validation images");
            Table { caption, head: "optimizer", rows: rows.into() }
        };
        Section {
            name: "losses",
            title: "Optimizers and losses",
            text: "In the paper, Adam with cross-entropy is at least 2.5 points ahead of all other pairs. Each optimizer has \
                   PyTorch's default rate here. The negative log-likelihood of log-softmax is the cross-entropy, computed \
                   another way; the margin loss is the multi-class hinge.",
            tables: losses.map(table).into(),
            figures: vec![],
        }
    }

    fn rate(&self) -> Section {
        let rows = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1].map(|lr: f64| {
            let base = self.base();
            let recipe = Recipe { lr, ..base.recipe.clone() };
            row(lr, Metric::Valid, None, self.some(&Run { recipe, ..base })).at(lr)
        });
        Section {
            name: "rate",
            title: "Learning rate",
            text: "The paper searches from 0.001 to 0.1 and takes 0.001.",
            tables: vec![on_validation("rate", rows)],
            figures: vec![Figure::Lines {
                title: "Learning rate",
                x: "learning rate",
                log: true,
                lines: vec![("validation", 0)],
                paper: 0,
            }],
        }
    }

    fn epochs(&self) -> Section {
        let base = self.base();
        let recipe = self.recipe(Recipe { epochs: 50, ..Recipe::paper() });
        let run = Run { recipe, ..base };
        let step = run.recipe.epochs / 10;
        let rows = (1..=run.recipe.epochs / step).map(|i| {
            let epoch = i * step;
            row(epoch, Metric::ValidAfter(epoch), None, vec![run.clone()]).at(epoch as u32)
        });
        Section {
            name: "fig2",
            title: "Figure 2: epochs",
            text: "One run, looked at every few epochs. In the paper the accuracy hardly rises after about 20 epochs.",
            tables: vec![on_validation("epochs", rows)],
            figures: vec![validation_line("Accuracy over epochs", "epochs")],
        }
    }

    fn blocks(&self) -> Section {
        let rows = (1..=10).map(|i| {
            let hidden = 5 * i;
            let base = self.base();
            let network = Network { hidden, ..base.network.clone() };
            row(hidden, Metric::Valid, None, self.some(&Run { network, ..base })).at(hidden as u32)
        });
        Section {
            name: "fig3",
            title: "Figure 3: memory blocks",
            text: "In the paper the accuracy hardly rises beyond 35 blocks a layer, and 50 blocks take nearly twice the time of \
                   35.",
            tables: vec![on_validation("blocks", rows)],
            figures: vec![
                validation_line("Accuracy over memory blocks", "memory blocks of a layer"),
                Figure::Seconds { title: "Time over memory blocks", x: "memory blocks of a layer", table: 0 },
            ],
        }
    }

    fn layers(&self) -> Section {
        let rows = (2..=6).map(|layers| {
            let base = self.base();
            let network = Network { layers, ..base.network.clone() };
            row(layers, Metric::Valid, None, self.some(&Run { network, ..base })).at(layers as u32)
        });
        Section {
            name: "layers",
            title: "Hidden layers",
            text: "The paper tries two to six and stays with two; four take about 2.5 times as long.",
            tables: vec![on_validation("layers", rows)],
            figures: vec![Figure::Seconds { title: "Time over layers", x: "layers", table: 0 }],
        }
    }

    fn tuned_matrix(&self) -> Section {
        let run = Run { test: true, ..self.base() };
        let rows =
            vec![row("tuned model", Metric::Test(Stage::Trained), Some(paper::TUNED), self.some(&run))];
        Section {
            name: "fig4",
            title: "Figure 4: the tuned model",
            text: "Two layers of 35 blocks, Adam at 0.001, cross-entropy, before any pruning.",
            tables: vec![Table { caption: "Accuracy on the test images".into(), head: "model", rows }],
            figures: vec![Figure::Confusion {
                title: "The tuned model's answers on the test images".into(),
                run: Box::new(run),
                stage: Stage::Trained,
                paper: &paper::FIGURE_4,
            }],
        }
    }

    /// Trained on a share of all official training images, with nothing held out.
    fn share(&self, share: f64, way: Way) -> Run {
        Run { patterns: Patterns { share, way, ..self.patterns(0) }, test: true, ..self.base() }
    }

    fn reduction(&self) -> Section {
        let table = |(name, recipe): (&str, Recipe)| {
            let rows = paper::TABLE_2.map(|(patterns, accuracy, seconds)| {
                let run = self.share(patterns as f64 / 60_000.0, Way::Random);
                let run = Run { recipe: self.recipe(recipe.clone()), ..run };
                let label = format!("{} % ({})", patterns / 600, patterns / (60_000 / run.patterns.pool));
                let row = row(label, Metric::Test(Stage::Trained), Some(accuracy), self.all(&run));
                Row { paper_seconds: Some(seconds), ..row }.at(100.0 * run.patterns.share)
            });
            let caption = format!("{name}. Accuracy on the test images");
            Table { caption, head: "patterns", rows: rows.into() }
        };
        Section {
            name: "table2",
            title: "Table 2: fewer patterns",
            text: "Patterns chosen at random from the official training images, anew for each seed; 20 epochs, by the \
                   paper's recipe and by the tuned one, whose settings were chosen on validation images.",
            tables: self.recipes().map(table).into(),
            figures: vec![Figure::Lines {
                title: "Accuracy over the share of the patterns",
                x: "% of the training images",
                log: false,
                lines: vec![("paper's recipe", 0), ("tuned recipe", 1)],
                paper: 1,
            }],
        }
    }

    fn selection(&self) -> Section {
        let table = |(name, way): (&str, Way)| {
            let rows = [0.8, 0.6, 0.4, 0.2].map(|share: f64| {
                let (run, percent) = (self.share(share, way), (100.0 * share).round());
                row(format!("{percent} %"), Metric::Test(Stage::Trained), None, self.some(&run)).at(percent)
            });
            let caption = format!("{name}. Accuracy on the test images");
            Table { caption, head: "patterns", rows: rows.into() }
        };
        let ways = [
            ("At random", Way::Random),
            ("The hardest", Way::Hardest),
            ("The easiest", Way::Easiest),
            ("Those between", Way::Middle),
        ];
        Section {
            name: "selection",
            title: "Patterns chosen by their loss",
            text: "The paper leaves this to others. A model is first trained on all patterns for a quarter of the epochs; \
                   then, within each class, those of the largest or smallest losses under it are taken, or the band in the \
                   middle. The time of that first training is not in the seconds.",
            tables: ways.map(table).into(),
            figures: vec![Figure::Lines {
                title: "Accuracy over the share of the patterns",
                x: "% of the training images",
                log: false,
                lines: vec![("random", 0), ("hardest", 1), ("easiest", 2), ("between", 3)],
                paper: 0,
            }],
        }
    }

    fn weights(&self) -> Section {
        let base = self.base();
        let recipe = Recipe { retrain_epochs: 0, ..base.recipe.clone() };
        let run = Run { histograms: true, prune: vec![0.05], recipe, ..base };
        Section {
            name: "fig5",
            title: "Figures 5 and 6: weights before and after pruning",
            text: "The weights of each layer of one model, biases left out, before and after those below 0.05 were set to 0: \
                   bars of the first colour alone are what was taken away.",
            tables: vec![],
            figures: vec![Figure::Histograms { run: Box::new(run) }],
        }
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

    fn thresholds(&self) -> Section {
        let tables = self.recipes().map(|(name, recipe)| {
            let runs = self.all(&self.pruned(2, recipe, thresholds()));
            let table = |what: &str, metric: fn(usize) -> Metric, paper: [Option<f64>; 6]| {
                let rows = paper::TABLE_3.iter().zip(paper).enumerate();
                let rows =
                    rows.map(|(i, (known, paper))| row(known.0, metric(i), paper, runs.clone()).at(known.0));
                Table { caption: format!("{name}. {what}"), head: "threshold", rows: rows.collect() }
            };
            let [pruned, retrained] =
                [|i| Metric::Test(Stage::Pruned(i)), |i| Metric::Test(Stage::Retrained(i))];
            [
                table("Pruned: accuracy on the test images", pruned, paper::TABLE_3.map(|row| Some(row.1))),
                table(
                    "Retrained: accuracy on the test images",
                    retrained,
                    paper::TABLE_3.map(|row| Some(row.2)),
                ),
                table("Parameters at 0", Metric::Zeros, [None; 6]),
            ]
        });
        let lines = |title, first| Figure::Lines {
            title,
            x: "threshold",
            log: false,
            lines: vec![("pruned", first), ("retrained", first + 1)],
            paper: 2,
        };
        Section {
            name: "table3",
            title: "Table 3: pruning",
            text: "Each run trains one model; a copy of it is pruned at each threshold, and retrained by the same recipe with \
                   the pruned weights held at 0.",
            tables: tables.into_iter().flatten().collect(),
            figures: vec![
                lines("Accuracy over the threshold, the paper's recipe", 0),
                lines("Accuracy over the threshold, the tuned recipe", 3),
            ],
        }
    }

    /// What pruning and retraining is worth beside as many epochs without pruning.
    fn control(&self) -> Section {
        let table = |(name, recipe): (&str, Recipe)| {
            let runs = self.all(&self.pruned(2, recipe, thresholds()));
            let last = paper::TABLE_3.len();
            let rows = [
                ("trained", Stage::Trained),
                ("trained again, nothing pruned", Stage::Retrained(last)),
                ("pruned at 0.03 and trained again", Stage::Retrained(0)),
            ];
            let rows = rows.map(|(label, stage)| row(label, Metric::Test(stage), None, runs.clone()));
            let caption = format!("{name}. Accuracy on the test images");
            Table { caption, head: "model", rows: rows.into() }
        };
        Section {
            name: "control",
            title: "What pruning costs",
            text: "Retraining is further training, by the same recipe from the start of its schedule: the gain after pruning \
                   is to be held against that of a model that is trained again without pruning, for as many epochs.",
            tables: self.recipes().map(table).into(),
            figures: vec![],
        }
    }

    /// What led to the tuned recipe, on validation images.
    fn tuning(&self) -> Section {
        let start = Recipe { one_cycle: true, lr: 0.005, ..Recipe::paper() };
        let [two, four] = [2, 4].map(Recipe::tuned_for);
        let tried = [
            ("the paper's recipe", 2, Recipe::paper()),
            ("one cycle up to 0.005", 2, start.clone()),
            ("and mirrored images", 2, Recipe { flip: 0.5, ..start.clone() }),
            ("and images moved by 1", 2, Recipe { flip: 0.5, shift: 1, ..start }),
            ("mirrored, up to 0.007, decay 0.02: the tuned recipe", 2, two.clone()),
            ("and moved by 1", 2, Recipe { shift: 1, ..two.clone() }),
            ("and clipped at norm 1", 2, Recipe { clip: Some(1.0), ..two.clone() }),
            ("and averaged weights, decay 0.9995", 2, Recipe { ema: Some(0.9995), ..two.clone() }),
            ("the tuned recipe of two layers", 4, two),
            ("and moved by 1: the tuned recipe of four layers", 4, four),
        ];
        let table = |layers: usize| {
            let rows = tried.iter().filter(|tried| tried.1 == layers).map(|(label, _, recipe)| {
                let run =
                    Run { test: false, ..self.pruned(layers, recipe.clone(), vec![paper::TABLE_3[0].0]) };
                row(label, Metric::ValidRetrained, None, self.some(&run))
            });
            let caption =
                format!("{layers} layers, pruned at 0.03 and retrained. Accuracy on the validation images");
            Table { caption, head: "recipe", rows: rows.collect() }
        };
        Section {
            name: "tuning",
            title: "The tuned recipe",
            text: "A part of what was tried for a better recipe at the same size, patterns and epochs. Differences of a \
                   few tenths are within what another seed makes.",
            tables: vec![table(2), table(4)],
            figures: vec![Figure::Settings],
        }
    }

    fn finals(&self) -> [(&'static str, (f64, f64), Vec<Run>); 4] {
        let first = || vec![paper::TABLE_3[0].0];
        [
            // The runs of Table 3 have it among theirs.
            ("2 layers, the paper's recipe", paper::FINAL, self.pruned(2, Recipe::paper(), thresholds())),
            ("2 layers, tuned recipe", paper::FINAL, self.pruned(2, Recipe::tuned_for(2), thresholds())),
            ("4 layers, the paper's recipe", paper::FOUR_LAYERS, self.pruned(4, Recipe::paper(), first())),
            ("4 layers, tuned recipe", paper::FOUR_LAYERS, self.pruned(4, Recipe::tuned_for(4), first())),
        ]
        .map(|(name, known, run)| (name, known, self.all(&run)))
    }

    fn final_models(&self) -> Section {
        let finals = self.finals();
        let table = |caption: &str, metric: Metric, paper: Option<fn((f64, f64)) -> f64>| {
            let rows = finals
                .iter()
                .map(|(name, known, runs)| row(name, metric, paper.map(|paper| paper(*known)), runs.clone()));
            Table { caption: caption.into(), head: "model", rows: rows.collect() }
        };
        let matrix = |i: usize, title: &str| Figure::Confusion {
            title: format!("{title}, on the test images"),
            run: Box::new(finals[i].2[0].clone()),
            stage: Stage::Retrained(0),
            paper: &paper::FIGURE_7,
        };
        Section {
            name: "final",
            title: "Figure 7: the final model, and four layers",
            text: "Trained, pruned at 0.03, retrained: by the paper's recipe, and by one whose settings were chosen on \
                   validation images.",
            tables: vec![
                table(
                    "Retrained. Accuracy on the test images",
                    Metric::Test(Stage::Retrained(0)),
                    Some(|p| p.0),
                ),
                table(
                    "Retrained. Precision (macro) on the test images",
                    Metric::Precision(Stage::Retrained(0)),
                    Some(|p| p.1),
                ),
                table("Before pruning. Accuracy on the test images", Metric::Test(Stage::Trained), None),
            ],
            figures: vec![matrix(0, "The final model's answers"), matrix(1, "With the tuned recipe")],
        }
    }

    fn others(&self) -> Section {
        let known = |name: &str, accuracy| row(name, Metric::Valid, Some(accuracy), vec![]);
        let mut rows: Vec<Row> =
            paper::TABLE_4.iter().map(|(name, accuracy)| known(name, *accuracy)).collect();
        rows.push(known("LSTM of the paper, 2 layers", paper::FINAL.0));
        rows.push(known("LSTM of the paper, 4 layers", paper::FOUR_LAYERS.0));
        rows.extend(self.finals().into_iter().map(|(name, _, runs)| {
            row(format!("LSTM, {name} (ours)"), Metric::Test(Stage::Retrained(0)), None, runs)
        }));
        Section {
            name: "table4",
            title: "Table 4: among other models",
            text: "The other models' figures are those that the paper quotes.",
            tables: vec![],
            figures: vec![Figure::Ranking(rows)],
        }
    }
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
            let Patterns { pool, share, valid, way } = row.runs[0].patterns;
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
            let tuning = ["normalisation", "losses", "rate", "fig2", "fig3", "layers", "fig5", "tuning"]
                .contains(&section.name);
            assert!(section.runs().count() > 0);
            assert!(section.runs().all(|run| run.test != tuning), "{}", section.name);
            assert!(section.runs().all(|run| run.test || run.patterns.valid == 12_000), "{}", section.name);
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
            for section in plan.sections() {
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
        // Under an hour on two cores, and the quick one under five minutes with the build.
        assert!(full < 115.0 * 60.0, "{full}");
        assert!(quick < 5.5 * 60.0, "{quick}");
    }
}
