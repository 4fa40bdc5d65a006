//! What came out, in a few lines and one picture: the beginning of the page.

use std::error::Error;

use bptt::plot::html::{element, table};

use crate::report::{Report, mean_sd, number};
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

impl Report<'_> {
    /// What came out; nothing where none of it was run.
    pub fn summary(&self) -> Result<String, Box<dyn Error>> {
        let find = |name: &str| self.sections.iter().find(|section| section.name == name);
        let lines: Vec<Vec<String>> =
            LINES.iter().filter_map(|line| Some(self.summary_line(line, find(line.section)?))).collect();
        if lines.is_empty() {
            return Ok(String::new());
        }
        let heads = ["accuracy on the test images", "paper %", "its recipe %", "tuned recipe %"];
        let picture = find("table2").and_then(|section| Some((section, section.figures.first()?)));
        let picture =
            picture.map(|(section, of): (&Section, &Figure)| self.figure(section, of)).transpose()?;
        Ok(format!(
            "<section id=\"summary\" aria-labelledby=\"summary-title\">\n<h2 id=\"summary-title\">What came out</h2>\n{}\
             <div class=\"parts\">\n{}{}</div>\n</section>\n",
            element(
                "p",
                "The images of Fashion-MNIST show ten kinds of garments. A recurrent network with LSTM cells reads each as a \
                 sequence of its 28 rows. The columns have what the paper reports, what came out by its recipe, and what came out \
                 by a recipe of the same size, patterns and epochs whose settings were chosen on validation images."
            ),
            table("", &heads, &lines),
            picture.unwrap_or_default(),
        ))
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
