//! Units cut rather than weights zeroed: smaller models.

use super::{Figure, Metric, Plan, Section, Stage, Table, row};
use crate::paper;
use crate::recipe::{Network, Recipe};
use crate::study::Run;

/// Of the weights of two layers of 64 units, what has a part of the multiply-adds of two layers of 35.
const SIZES: [(&str, f64); 2] = [("A half", 0.1665), ("A quarter", 0.0832)];

impl Plan {
    pub(super) fn units(&self) -> Section {
        let seeds = if self.quick { 1 } else { self.repeats };
        let base = self.base();
        let recipe = self.recipe(Recipe { retrain_epochs: 24, ..Recipe::fast() });
        let wide =
            Run { network: Network { hidden: 64, ..base.network.clone() }, recipe, test: true, ..base };
        let sizes = SIZES
            .map(|(name, share)| (name, Self::seeds(seeds, &Run { shrink: Some(share), ..wide.clone() })));
        let table = |(name, runs): &(&str, Vec<Run>)| {
            let rows = [
                ("2 layers of 64 units", Stage::Trained),
                ("the same with units cut, trained again", Stage::Shrunk),
                ("as small, from scratch for the same cost", Stage::FromScratch),
            ];
            let rows = rows.map(|(label, stage)| row(label, Metric::Test(stage), None, runs.clone()));
            let caption = format!("{name} of the multiply-adds of 2 × 35. Accuracy on the test images");
            Table { caption, head: "model", rows: rows.into() }
        };
        let confusion = |(name, runs): &(&str, Vec<Run>)| Figure::Confusion {
            title: format!("{name}, with units cut, on the test images"),
            run: Box::new(runs[0].clone()),
            stage: Stage::Shrunk,
            paper: &paper::FIGURE_7,
        };
        Section {
            name: "units",
            long: true,
            title: "Units cut rather than weights zeroed",
            text: "The least important units of a trained model are cut, those that are left make up for their mean, and the \
                   smaller model is trained again, for 24 epochs. Beside it, one of its size is trained from scratch for as many \
                   multiply-adds as both trainings together. All by the fast recipe; the width of the first model and the 24 \
                   epochs were chosen on validation images.",
            tables: sizes.iter().map(table).collect(),
            figures: sizes.iter().map(confusion).collect(),
        }
    }
}
