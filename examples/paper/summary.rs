//! What came out, in a few lines and one picture: the beginning of the page.

use std::error::Error;

use bptt::plot::html::{element, table};

use crate::report::{Ours, Report, mean_sd, number};
use crate::sections::{Figure, Row, Section};

/// A line of the summary: a row by the paper's recipe, and one by the tuned recipe.
struct Line {
    label: &'static str,
    section: &'static str,
    /// Each by its table in the section, and its place there.
    paper: Option<(usize, usize)>,
    tuned: Option<(usize, usize)>,
}

const fn line(label: &'static str, section: &'static str, rows: [(usize, usize); 2]) -> Line {
    Line { label, section, paper: Some(rows[0]), tuned: Some(rows[1]) }
}

const LINES: [Line; 10] = [
    line("final model: 2 × 35, 80 % of the patterns, pruned at 0.03, retrained", "final", [(0, 0), (0, 1)]),
    line("the same with four layers", "final", [(0, 2), (0, 3)]),
    line("2 × 35, before pruning, all patterns", "table2", [(0, 0), (1, 0)]),
    line("80 % of them, at random", "table2", [(0, 1), (1, 1)]),
    line("20 % of them, at random", "table2", [(0, 4), (1, 4)]),
    Line { label: "80 % of them, the hardest", section: "selection", paper: Some((1, 0)), tuned: None },
    line("pruned at 0.18", "table3", [(0, 5), (3, 5)]),
    line("pruned at 0.18, retrained", "table3", [(1, 5), (4, 5)]),
    line("nothing pruned, trained for as many more epochs", "control", [(0, 1), (1, 1)]),
    Line {
        label: "a traditional recurrent network of that size",
        section: "cells",
        paper: Some((0, 0)),
        tuned: None,
    },
];

const INTRODUCTION: &str = "The images of Fashion-MNIST show ten kinds of garments. A recurrent network with LSTM cells reads each as a \
    sequence of its 28 rows.";

const RECIPES: &str = "The columns have what the paper reports, what came out by its recipe, and what came out by a recipe of the same \
    size, patterns and epochs whose settings were chosen on validation images.";

const CHOICES: &str = "Trained on fewer images, the network knows less. The paper chooses them at random, and suggests to choose them by \
    what the network finds hard. The table has the accuracy for each share of the images: with random ones, and by the \
    choice that did best.";

impl Report<'_> {
    /// What came out; nothing where none of it was run.
    pub fn summary(&self) -> Result<String, Box<dyn Error>> {
        let find = |name: &str| self.sections.iter().find(|section| section.name == name);
        let lines: Vec<Vec<String>> =
            LINES.iter().filter_map(|line| Some(self.summary_line(line, find(line.section)?))).collect();
        let heads = ["accuracy on the test images", "paper %", "its recipe %", "tuned recipe %"];
        let mut parts = String::new();
        if !lines.is_empty() {
            parts += &self.summary_part(RECIPES, table("", &heads, &lines), find("table2"))?;
        }
        if let Some(section) = find("choices") {
            let heads = ["accuracy on the test images", "at random %", "by the best choice %", "the choice"];
            let lines = self.best_choices(section);
            parts += &self.summary_part(CHOICES, table("", &heads, &lines), Some(section))?;
        }
        if parts.is_empty() {
            return Ok(parts);
        }
        let text = element("p", INTRODUCTION);
        Ok(format!(
            "<section id=\"summary\" aria-labelledby=\"summary-title\">\n<h2 id=\"summary-title\">What came out</h2>\n{text}{parts}</section>\n"
        ))
    }

    /// A text, a table, and the first chart of a section.
    fn summary_part(
        &self,
        text: &str,
        table: String,
        section: Option<&Section>,
    ) -> Result<String, Box<dyn Error>> {
        let chart = |section: &Section| {
            let of = section.figures.iter().find(|of| matches!(of, Figure::Lines { .. }))?;
            Some(self.figure(section, of))
        };
        let picture = section.and_then(chart).transpose()?.unwrap_or_default();
        Ok(format!("{}<div class=\"parts\">\n{table}{picture}</div>\n", element("p", text)))
    }

    /// All patterns, then each share: random ones and the best choice.
    fn best_choices(&self, section: &Section) -> Vec<Vec<String>> {
        let ours = |table: usize, row: usize| self.ours(section.tables.get(table)?.rows.get(row)?);
        let show = |ours: Option<Ours>| ours.map_or("failed".into(), |ours| mean_sd(&ours.accuracy));
        let mut all = vec![vec!["all patterns".into(), show(ours(0, 0)), "–".into(), "–".into()]];
        for figure in &section.figures {
            let Figure::Matrix { title, lines: ways, seconds: false, .. } = figure else { continue };
            let Some((&(_, random), choices)) = ways.split_first() else { continue };
            let equal = title.to_lowercase();
            for (i, row) in section.tables[random].rows.iter().enumerate() {
                let found = choices.iter().filter_map(|&(name, table)| Some((name, ours(table, i)?)));
                let best = found.max_by(|a, b| a.1.accuracy.mean.total_cmp(&b.1.accuracy.mean));
                let (name, best) = best.map_or(("–", None), |(name, ours)| (name, Some(ours)));
                let label = format!("{}, {equal}", row.label);
                all.push(vec![label, show(ours(random, i)), show(best), name.into()]);
            }
        }
        all
    }

    fn summary_line(&self, line: &Line, section: &Section) -> Vec<String> {
        let row = |place: Option<(usize, usize)>| {
            place.and_then(|(table, row)| section.tables.get(table)?.rows.get(row))
        };
        let ours = |row: Option<&Row>| {
            let accuracy = row.map(|row| self.ours(row).map(|ours| mean_sd(&ours.accuracy)));
            accuracy.map_or("–".into(), |accuracy| accuracy.unwrap_or("failed".into()))
        };
        let (paper, tuned) = (row(line.paper), row(line.tuned));
        vec![line.label.into(), number(paper.and_then(|row| row.paper)), ours(paper), ours(tuned)]
    }
}
