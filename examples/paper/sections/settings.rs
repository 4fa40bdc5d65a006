//! What the paper tunes: the cell, the input, the loss, the rate, the epochs and the size of the network.

use super::{Figure, Metric, Plan, Section, Stage, Table, on_validation, row, validation_line};
use crate::paper;
use crate::recipe::{Cell, Criterion, Network, Recipe, Rule};
use crate::study::Run;

impl Plan {
    pub(super) fn cells(&self) -> Section {
        let lstm = Run { test: true, ..self.base() };
        let rnn = Run { network: Network { cell: Cell::Rnn, ..lstm.network.clone() }, ..lstm.clone() };
        let rows = vec![
            row("RNN", Metric::Test(Stage::Trained), Some(paper::RNN), self.some(&rnn)),
            row("LSTM", Metric::Test(Stage::Trained), Some(paper::LSTM), self.some(&lstm)),
        ];
        Section {
            name: "cells",
            long: false,
            title: "RNN against LSTM",
            text: "A traditional recurrent network with tanh, and an LSTM, of the same size, by the same recipe and from \
                   the same seeds. The paper compares before tuning; it does not say at which settings.",
            tables: vec![Table { caption: "Accuracy on the test images".into(), head: "cell", rows }],
            figures: vec![],
        }
    }

    pub(super) fn normalisation(&self) -> Section {
        let on = self.base();
        let off = Run { recipe: Recipe { normalize: false, ..on.recipe.clone() }, ..on.clone() };
        let rows = vec![
            row("pixels from 0 to 1", Metric::Valid, None, self.some(&off)),
            row("mean and sd taken out", Metric::Valid, None, self.some(&on)),
        ];
        Section {
            name: "normalisation",
            long: false,
            title: "Normalisation",
            text: "The paper finds normalisation by mean and standard deviation worth one to two points of accuracy.",
            tables: vec![on_validation("input", rows)],
            figures: vec![],
        }
    }

    pub(super) fn losses(&self) -> Section {
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
            long: false,
            title: "Optimizers and losses",
            text: "In the paper, Adam with cross-entropy is at least 2.5 points ahead of all other pairs. Each optimizer has \
                   PyTorch's default rate here. The negative log-likelihood of log-softmax is the cross-entropy, computed \
                   another way; the margin loss is the multi-class hinge.",
            tables: losses.map(table).into(),
            figures: vec![],
        }
    }

    pub(super) fn rate(&self) -> Section {
        let rows = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1].map(|lr: f64| {
            let base = self.base();
            let recipe = Recipe { lr, ..base.recipe.clone() };
            row(lr, Metric::Valid, None, self.some(&Run { recipe, ..base })).at(lr)
        });
        Section {
            name: "rate",
            long: false,
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

    pub(super) fn epochs(&self) -> Section {
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
            long: false,
            title: "Figure 2: epochs",
            text: "One run, looked at every few epochs. In the paper the accuracy hardly rises after about 20 epochs.",
            tables: vec![on_validation("epochs", rows)],
            figures: vec![validation_line("Accuracy over epochs", "epochs")],
        }
    }

    pub(super) fn blocks(&self) -> Section {
        let rows = (1..=10).map(|i| {
            let hidden = 5 * i;
            let base = self.base();
            let network = Network { hidden, ..base.network.clone() };
            row(hidden, Metric::Valid, None, self.some(&Run { network, ..base })).at(hidden as u32)
        });
        Section {
            name: "fig3",
            long: false,
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

    pub(super) fn layers(&self) -> Section {
        let rows = (2..=6).map(|layers| {
            let base = self.base();
            let network = Network { layers, ..base.network.clone() };
            row(layers, Metric::Valid, None, self.some(&Run { network, ..base })).at(layers as u32)
        });
        Section {
            name: "layers",
            long: false,
            title: "Hidden layers",
            text: "The paper tries two to six and stays with two; four take about 2.5 times as long.",
            tables: vec![on_validation("layers", rows)],
            figures: vec![Figure::Seconds { title: "Time over layers", x: "layers", table: 0 }],
        }
    }

    pub(super) fn tuned_matrix(&self) -> Section {
        let run = Run { test: true, ..self.base() };
        let rows =
            vec![row("tuned model", Metric::Test(Stage::Trained), Some(paper::TUNED), self.some(&run))];
        Section {
            name: "fig4",
            long: false,
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
}
