//! The final models: how the tuned recipe came about, Figure 7, Table 4.

use super::{Figure, Metric, Plan, Section, Stage, Table, known_models, row, thresholds};
use crate::paper;
use crate::recipe::Recipe;
use crate::study::Run;

impl Plan {
    /// What led to the tuned recipe, on validation images.
    pub(super) fn tuning(&self) -> Section {
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
            long: false,
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

    pub(super) fn final_models(&self) -> Section {
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
            long: false,
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

    pub(super) fn others(&self) -> Section {
        let ours = self.finals().into_iter().map(|(name, _, runs)| {
            row(format!("LSTM, {name} (ours)"), Metric::Test(Stage::Retrained(0)), None, runs)
        });
        Section {
            name: "table4",
            long: false,
            title: "Table 4: among other models",
            text: "The other models' figures are those that the paper quotes.",
            tables: vec![],
            figures: vec![Figure::Ranking(known_models().chain(ours).collect())],
        }
    }
}
