//! Fewer samples: Table 2, and samples chosen by their loss.

use super::{Figure, Metric, Plan, Row, Section, Stage, Table, row};
use crate::paper;
use crate::recipe::Recipe;
use crate::study::{Patterns, Run, Way};

impl Plan {
    /// Trained on a share of all official training images, with nothing held out.
    fn share(&self, share: f64, way: Way) -> Run {
        Run { patterns: Patterns { share, way, ..self.patterns(0) }, test: true, ..self.base() }
    }

    pub(super) fn reduction(&self) -> Section {
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
            long: false,
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

    /// Images of the training, to be looked at.
    pub(super) fn standing_out(&self) -> Section {
        let run =
            Run { recipe: self.recipe(Recipe::tuned_for(2)), stand_out: 20, ..self.share(1.0, Way::Random) };
        Section {
            name: "images",
            long: false,
            title: "The images that stand out",
            text: "What one training on all patterns by the tuned recipe made of each, epoch by epoch. The hardest are those \
                   with the largest mean distance of the probabilities from the class (EL2N). The most forgotten were most \
                   often recognised in one epoch and not in the next. Those whose logit for their class was on average \
                   furthest below another's (the area under the margin) are probably in the wrong class. Below each \
                   image: its class, its number among the official training images, and its score.",
            tables: Vec::new(),
            figures: vec![Figure::Images { run: Box::new(run) }],
        }
    }

    pub(super) fn selection(&self) -> Section {
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
            long: false,
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
}
