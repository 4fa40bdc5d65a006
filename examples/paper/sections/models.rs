//! Other cells, and other models of the main example, among the models that the paper quotes.

use super::{Figure, Metric, Plan, Row, Section, Stage, Table, known_models, row};
use crate::models::Layers;
use crate::paper;
use crate::recipe::{Cell, Network, Recipe};
use crate::study::Run;

const CELLS: [(&str, Cell); 4] = [
    ("RNN, 2 layers of 35 units", Cell::Rnn),
    ("GRU, 2 layers of 35 units", Cell::Gru),
    ("LSTM with peepholes, 2 layers of 35 units", Cell::Peephole),
    ("LSTM, 2 layers of 35 units", Cell::Lstm),
];

const MODELS: [(&str, Layers); 3] = [
    ("conv-lstm-small", Layers::ConvLstmSmall),
    ("rows-and-columns", Layers::RowsAndColumns),
    ("conv-lstm", Layers::ConvLstm),
];

impl Plan {
    pub(super) fn models(&self) -> Section {
        let seeds = if self.quick { 1 } else { self.repeats };
        let cells = CELLS.iter().map(|&(name, cell)| {
            let network = Network { cell, hidden: 35, layers: 2 };
            let run = Run { network, recipe: self.recipe(Recipe::tuned_for(2)), test: true, ..self.base() };
            row(name, Metric::Test(Stage::Trained), None, Self::seeds(seeds, &run))
        });
        // The others take minutes a run, quick as it may be.
        let models = &MODELS[..if self.quick { 1 } else { MODELS.len() }];
        let others = models.iter().filter_map(|&(name, model)| {
            let (recipe, samples) = model.recipe()?;
            let patterns = self.patterns(60_000 - samples);
            let run = Run { model, patterns, recipe: self.recipe(recipe), test: true, ..self.base() };
            Some(row(name, Metric::Test(Stage::Trained), None, Self::seeds(seeds, &run)))
        });
        let rows: Vec<Row> = cells.chain(others).collect();
        let best = rows.last().and_then(|row| Some((row.label.clone(), row.runs.first()?.clone())));
        let figures = best.into_iter().map(|(name, run)| Figure::Confusion {
            title: format!("{name}, on the test images"),
            run: Box::new(run),
            stage: Stage::Trained,
            paper: &paper::FIGURE_7,
        });
        Section {
            name: "models",
            long: true,
            title: "Table 4 with other models",
            text: "Each cell in the paper's tuned network, by the tuned recipe and without pruning, and the models of the main \
                   example that join convolutions with an LSTM or read rows and columns side by side, which the paper \
                   names as future work. Recipes were chosen on validation images. The total seconds are those of the \
                   training, on one thread.",
            tables: vec![Table {
                caption: "Accuracy on the test images".into(),
                head: "model",
                rows: rows.clone(),
            }],
            figures: figures.chain([Figure::Ranking(known_models().chain(rows).collect())]).collect(),
        }
    }
}
