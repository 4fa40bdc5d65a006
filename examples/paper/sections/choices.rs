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

/// What tables and charts are called.
const EPOCHS: [&str; 2] = ["As many epochs", "Accuracy, as many epochs"];
const STEPS: [&str; 2] = ["As many steps", "Accuracy, as many steps"];

const CHOICES: &str = "Table 2 again, with patterns that are chosen by what a training says of them; the paper names this as future work. The \
    recipe is the fast one on all patterns: seven epochs of Muon. Some patterns are chosen once, by a training on all of \
    them for one epoch or two, the others in each epoch. A fresh random share of each epoch is a shorter training on all \
    patterns: the baseline that a choice must beat. Fewer patterns at as many epochs are fewer steps, so both are shown: \
    seven epochs, and as many steps as seven epochs of all patterns take. Accuracies are those on the test images, the \
    seconds those of the choice and the training together, on one thread. CCS cuts none of the hardest at 80 and 60 %, and \
    a tenth of all patterns at 40 and 20 %. InfoBatch leaves out shares of 0.25, 0.5, 0.75 and 0.9 of what is learned, so \
    that about 80, 60, 40 and 28 % are left. It and the hardest, chosen anew, draw all patterns in the first epoch, for \
    their losses: of seven epochs at 20 %, a mean one draws 38 and 31 %. The charts are over what a mean epoch draws. They \
    leave out the hardest, chosen once, which fall far below the others.";

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

/// The ways of the charts, by their tables, of which this is the first.
fn named(from: usize) -> impl Iterator<Item = (&'static str, usize)> {
    NAMES.into_iter().zip(from..).filter_map(|(name, table)| Some((name?, table)))
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

    /// The seeds of a figure.
    fn choice_seeds(&self) -> usize {
        if self.quick { 1 } else { self.repeats }
    }

    fn on_test(&self, label: String, run: &Run) -> Row {
        row(label, Metric::Test(Stage::Trained), None, Self::seeds(self.choice_seeds(), run))
    }

    pub(super) fn choices(&self) -> Section {
        let table = |caption: String, rows: Vec<Row>| Table { caption, head: "patterns", rows };
        let all = self.on_test("100 %".into(), &self.chosen(1.0, Way::Random, 0)).at(100_u32);
        let mut tables = vec![table("All".into(), vec![all])];
        let mut figures = Vec::new();
        for (equal_steps, titles) in [(false, EPOCHS), (true, STEPS)] {
            figures.push(self.compared(titles, tables.len()));
            for (caption, way) in WAYS {
                let rows = self.shares().iter().map(|&share| {
                    let (way, percent) = (way(share), (100.0 * share).round());
                    let mut run = self.chosen(share, way, 0);
                    run.patterns.equal_steps = equal_steps;
                    let epochs = run.epochs();
                    let drawn = way.drawn(share, epochs);
                    self.on_test(format!("{percent} %"), &run).at(100.0 * drawn / epochs as f64)
                });
                tables.push(table(format!("{caption}; {}", titles[0]), rows.collect()));
            }
        }
        // As many steps take as many seconds, but for the choice.
        let over_time = Figure::Cost {
            title: "Accuracy over time, as many epochs",
            lines: std::iter::once(("all", 0)).chain(named(1)).collect(),
        };
        Section {
            name: "choices",
            long: true,
            title: "Table 2 with choices",
            text: CHOICES,
            tables,
            figures: figures.into_iter().flatten().chain([over_time]).collect(),
        }
    }

    /// The ways beside one another: the tables of a section from this one on.
    fn compared(&self, titles: [&'static str; 2], from: usize) -> [Figure; 3] {
        let lines = WAYS.iter().zip(from..).map(|((caption, _), table)| (*caption, table));
        let matrix = |what: &str, seconds| Figure::Matrix {
            title: titles[0],
            what: format!("{what}, of {} seeds", self.choice_seeds()),
            lines: lines.clone().collect(),
            seconds,
        };
        [
            matrix("accuracy on the test images, %", false),
            matrix("median seconds of choice and training", true),
            Figure::Lines {
                title: titles[1],
                x: "% of the training images that a mean epoch draws",
                log: false,
                lines: named(from).collect(),
                paper: 0,
            },
        ]
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
                Table { caption, head: "patterns kept", rows: rows.collect() }
            })
            .collect();
        let names = if self.quick { &["20 %"][..] } else { &["80 %", "60 %", "40 %", "20 %"] };
        let lines: Vec<_> = names.iter().copied().zip(0..).collect();
        let matrix = Figure::Matrix {
            title: "Over the share that is cut",
            what: "accuracy on the validation images, %".into(),
            lines: lines.clone(),
            seconds: false,
        };
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
            figures: vec![matrix, figure],
        }
    }
}
