//! Pruning: Figures 5 and 6, Table 3, and what it costs.

use super::{Figure, Metric, Plan, Section, Stage, Table, row, thresholds};
use crate::paper;
use crate::recipe::Recipe;
use crate::study::Run;

impl Plan {
    pub(super) fn weights(&self) -> Section {
        let base = self.base();
        let recipe = Recipe { retrain_epochs: 0, ..base.recipe.clone() };
        let run = Run { histograms: true, prune: vec![0.05], recipe, ..base };
        Section {
            name: "fig5",
            long: false,
            title: "Figures 5 and 6: weights before and after pruning",
            text: "The weights of each layer of one model, biases left out, before and after those below 0.05 were set to 0: \
                   bars of the first colour alone are what was taken away.",
            tables: vec![],
            figures: vec![Figure::Histograms { run: Box::new(run) }],
        }
    }

    pub(super) fn thresholds(&self) -> Section {
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
            long: false,
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
    pub(super) fn control(&self) -> Section {
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
            long: false,
            title: "What pruning costs",
            text: "Retraining is further training, by the same recipe from the start of its schedule: the gain after pruning \
                   is to be held against that of a model that is trained again without pruning, for as many epochs.",
            tables: self.recipes().map(table).into(),
            figures: vec![],
        }
    }
}
