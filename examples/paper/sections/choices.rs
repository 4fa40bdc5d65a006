//! Patterns chosen by what a training says of them, once or in each epoch: Table 2 with choices.

use super::{Figure, Metric, Plan, Row, Section, Stage, Table, row};
use crate::recipe::Recipe;
use crate::study::{Patterns, Run, Way};

/// The ways, by their captions.
type Ways = [(&'static str, fn(f64) -> Way); 7];

const WAYS: Ways = [
    ("Random, chosen once", |_| Way::Random),
    ("Random, anew in each epoch", |_| Way::Fresh),
    ("The hardest, chosen once", |_| Way::Hardest),
    ("The hardest, anew in each epoch", |_| Way::HardestAnew),
    ("All degrees of difficulty (CCS)", |share| Way::Coverage { cut: cut(share) }),
    ("Uncertain and ever easier ones (DUAL)", |_| Way::Dual),
    ("Fewer of the learned ones (InfoBatch)", |share| Way::InfoBatch { ratio: ratio(share) }),
];

/// The names of the ways in charts. The hardest, chosen once, would take so much of the height that the others were one line.
const NAMES: [Option<&str>; 7] =
    [Some("random"), Some("fresh"), None, Some("hardest anew"), Some("CCS"), Some("DUAL"), Some("InfoBatch")];

const CHOICES: &str = "Table 2 again, with patterns that are chosen by what a training says of them; the paper names this as future work. The \
    recipe is the fast one on all patterns: seven epochs of Muon. Some patterns are chosen once, by a training on all of \
    them for one epoch or two, the others in each epoch. A fresh random share of each epoch is a shorter training on all \
    patterns: the baseline that a choice must beat. Fewer patterns at as many epochs are fewer steps, so both are shown: \
    seven epochs, and as many steps as seven epochs of all patterns take. Accuracies are those on the test images, the \
    total seconds those of the choice and the training together, on one thread. The charts leave out the hardest, chosen \
    once, which fall far below the others.";

/// The share that CCS cuts: none of what is hard as long as half of the patterns are kept. A cut of a tenth at 60 % cost
/// more on validation images, in a run of 8 epochs, than choosing at random.
fn cut(share: f64) -> f64 {
    if share > 0.5 { 0.0 } else { 0.1 }
}

/// The share that InfoBatch leaves out of the learned patterns, in place of a share that it keeps.
fn ratio(share: f64) -> f64 {
    match share {
        share if share > 0.7 => 0.25,
        share if share > 0.5 => 0.5,
        share if share > 0.3 => 0.75,
        _ => 0.9,
    }
}

impl Plan {
    /// The shares of Table 2, or one of them.
    fn shares(&self) -> &'static [f64] {
        if self.quick { &[0.2] } else { &[0.8, 0.6, 0.4, 0.2] }
    }

    /// The fast recipe, without its own choice of patterns, on a share of all official training images but those held out.
    fn chosen(&self, share: f64, way: Way, valid: usize) -> Run {
        let patterns = Patterns { share, way, ..self.patterns(valid) };
        Run { patterns, recipe: self.recipe(Recipe::fast_on_all()), test: valid == 0, ..self.base() }
    }

    pub(super) fn choices(&self) -> Section {
        let seeds = if self.quick { 1 } else { self.repeats };
        let test = |label: String, run: Run| {
            row(label, Metric::Test(Stage::Trained), None, Self::seeds(seeds, &run))
        };
        let all = test("100 %".into(), self.chosen(1.0, Way::Random, 0)).at(100_u32);
        let table = |caption: String, rows: Vec<Row>| Table { caption, head: "patterns", rows };
        let mut tables = vec![table("All".into(), vec![all.clone()])];
        for equal_steps in [false, true] {
            let equal = if equal_steps { "as many steps" } else { "as many epochs" };
            for (caption, way) in WAYS {
                let rows = self.shares().iter().map(|&share| {
                    let (way, percent) = (way(share), (100.0 * share).round());
                    let mut run = self.chosen(share, way, 0);
                    run.patterns.equal_steps = equal_steps;
                    let epochs = run.epochs();
                    let drawn = way.drawn(share, epochs);
                    let label = match way {
                        Way::InfoBatch { ratio } => format!("r = {ratio}"),
                        Way::Coverage { cut } => format!("{percent} %, cut {cut}"),
                        _ => format!("{percent} %"),
                    };
                    test(label, run).at(100.0 * drawn / epochs as f64)
                });
                tables.push(table(format!("{caption}; {equal}"), rows.collect()));
            }
        }
        let lines = |from: usize| {
            let named = NAMES.into_iter().zip(from..).filter_map(|(name, table)| Some((name?, table)));
            named.collect::<Vec<_>>()
        };
        let over_share = |title, from| Figure::Lines {
            title,
            x: "% of the training images that a mean epoch draws",
            log: false,
            lines: lines(from),
            paper: 0,
        };
        let over_time = |title, from| Figure::Cost {
            title,
            lines: std::iter::once(("all", 0)).chain(lines(from)).collect(),
        };
        Section {
            name: "choices",
            long: true,
            title: "Table 2 with choices",
            text: CHOICES,
            tables,
            figures: vec![
                over_share("As many epochs", 1),
                over_share("As many steps", 1 + WAYS.len()),
                over_time("As many epochs: accuracy over time", 1),
                over_time("As many steps: accuracy over time", 1 + WAYS.len()),
            ],
        }
    }

    /// How many of the hardest CCS should leave out.
    pub(super) fn cuts(&self) -> Section {
        let tables: Vec<_> = self
            .shares()
            .iter()
            .map(|&share| {
                let cuts = if self.quick { &[0.0, 0.3][..] } else { &[0.0, 0.05, 0.1, 0.2, 0.3] };
                let rows = cuts.iter().copied().filter(|cut| share + cut < 1.0).map(|cut: f64| {
                    let run = self.chosen(share, Way::Coverage { cut }, 12_000);
                    row(cut, Metric::Valid, None, self.some(&run)).at(cut)
                });
                let caption =
                    format!("{} % kept. Accuracy on the validation images", (100.0 * share).round());
                Table { caption, head: "cut", rows: rows.collect() }
            })
            .collect();
        let names = if self.quick { &["20 %"][..] } else { &["80 %", "60 %", "40 %", "20 %"] };
        let lines = names.iter().copied().zip(0..).collect();
        let title = "Accuracy over the share that is cut";
        let figure = Figure::Lines { title, x: "share that is cut", log: false, lines, paper: 0 };
        Section {
            name: "cuts",
            long: true,
            title: "How many of the hardest to leave out",
            text: "CCS cuts the patterns with the smallest area under the margin before it chooses: many of them have wrong \
                   classes. The section before cuts none of them at 80 and 60 % and a tenth at 40 and 20 %; these figures \
                   say what other cuts do.",
            tables,
            figures: vec![figure],
        }
    }
}
