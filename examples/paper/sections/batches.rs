//! Larger batches, as many ranks need them, and what to do with the learning rate.

use super::{Figure, Metric, Plan, Section, Table, row};
use crate::recipe::Recipe;
use crate::study::Run;

/// The batch size that the learning rate was chosen for.
const BASE: usize = 64;

/// What the rate is multiplied by where a batch is k times as large: k to this power.
const RULES: [(&str, f64); 3] = [("Rate unchanged", 0.0), ("Rate times √k", 0.5), ("Rate times k", 1.0)];

impl Plan {
    pub(super) fn batches(&self) -> Section {
        let sizes: &[usize] = if self.quick { &[64, 512] } else { &[64, 256, 1024, 4096] };
        let seeds = if self.quick { 1 } else { self.repeats };
        let table = |(name, power): (&str, f64)| {
            let rows = sizes.iter().map(|&batch_size| {
                let lr = 0.001 * (batch_size as f64 / BASE as f64).powf(power);
                let recipe = self.recipe(Recipe { one_cycle: true, batch_size, lr, ..Recipe::paper() });
                let run = Run { recipe, ..self.base() };
                row(batch_size, Metric::Valid, None, Self::seeds(seeds, &run)).at(batch_size as u32)
            });
            let caption = format!("{name}. Accuracy on the validation images");
            Table { caption, head: "batch size", rows: rows.collect() }
        };
        Section {
            name: "batches",
            long: true,
            title: "Larger batches",
            text: "The same epochs in batches k times as large are a k-th of the steps. The rate, 0.001 at its highest for \
                   batches of 64, stays, or grows with the root of k (Malladi et al. 2022, for Adam), or with k (Goyal et \
                   al. 2017, for SGD). One cycle of the rate, which begins with a warm-up; otherwise the paper's recipe.",
            tables: RULES.map(table).into(),
            figures: vec![Figure::Lines {
                title: "Accuracy over the batch size",
                x: "patterns in a batch",
                log: true,
                lines: vec![("rate unchanged", 0), ("times √k", 1), ("times k", 2)],
                paper: 0,
            }],
        }
    }
}
