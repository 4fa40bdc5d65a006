//! The paper's tables and figures, run again, beside the paper's own numbers.
//!
//! `cargo run --example paper` trains every model that the paper reports, several side by side, and writes one page,
//! `target/paper/index.html`, all figures as `results.json`, and the charts as pictures. `-- --quick` does about a tenth
//! of it; `-- --only table2,fig3` some of its sections; `-- --help` lists more.
//!
//! Each run is written to `runs.jsonl` in that folder as soon as it is done: a study that was interrupted, for example by
//! Ctrl-C, resumes from there when it is started again. Delete the file to begin again, for example after a change of the
//! code.
//!
//! `-- --shard 3/16` does one part of the runs, on any machine that shares the folder or is given a copy of the results
//! (docs/distributed.md has a script for Slurm); afterwards the same command without it has only the page to write.

mod charts;
mod choice;
#[path = "../shared/fashion_mnist.rs"]
mod find;
#[path = "../shared/models.rs"]
mod models;
#[path = "../shared/paper.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod paper;
#[path = "../shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod program;
#[path = "../shared/recipe.rs"]
mod recipe;
mod report;
mod sections;
mod sheet;
mod study;
mod summary;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bptt::tune::{Shard, Table};
use clap::Parser;
use program::{End, Folder, complain, say};
use report::Report;
use sections::{Plan, Section};
use study::{Outcome, Run};

/// Run the paper's experiments again, and write a page with its figures and ours.
#[derive(Parser)]
struct Args {
    /// Sections, by the names that this lists when it finds another [default: all but `choices`, `cuts`, `batches`, `units`
    /// and `models`, which take hours; with --quick, all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// A fifth of the patterns, half the epochs, fewer repeats: a look at the page, not a reproduction
    #[arg(long)]
    quick: bool,
    /// Seeds of tables 2 and 3 and of the final models; the other studies have at most 2 [default: 5, quick 2]
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// Folder for the page, results.json and runs.jsonl [default: target/paper, or target/paper-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs side by side, one thread each [default: one a core]
    #[arg(long, value_name = "N", visible_alias = "threads")]
    workers: Option<usize>,
    /// Do only one part of the runs, such as 3/16, or `env` for the part that Slurm or MPI gives this process, and write no
    /// page; the same command without this flag then has the runs of all parts that share the folder
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<Shard>,
    /// Folder with the four official files [default: looked for, beginning with data/fashion-mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn shard(text: &str) -> bptt::Result<Shard> {
    if text == "env" { Shard::from_env() } else { text.parse() }
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| run(&args))
}

fn run(args: &Args) -> program::Result<End> {
    let plan = Plan { quick: args.quick, repeats: args.repeats.unwrap_or(if args.quick { 2 } else { 5 }) };
    if plan.repeats == 0 {
        return Err("--repeats: found 0, expected at least 1".into());
    }
    let sections = chosen(plan, &args.only)?;
    let runs = distinct(&sections);
    let data = find::find(args.data.as_deref())?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| if args.quick { "target/paper-quick" } else { "target/paper" }.into());
    let workers = workers(args);
    if let Some(shard) = args.shard {
        std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
        let runs = shard.part(runs);
        let path = out.join(format!("runs.{}-of-{}.jsonl", shard.number, shard.of));
        announce(&runs, workers, &path)?;
        return finish(&study::run(runs, &data, args.workers, &path)?);
    }
    let folder = Folder::open(&out)?;
    let path = out.join("runs.jsonl");
    let parts = study::parts(&out)?;
    if !parts.is_empty() {
        let merged = bptt::tune::merge(&path, &parts)?;
        merged.unreadable.iter().for_each(complain);
        say(format!("{} runs found in the files of {} parts", merged.new, parts.len()));
    }
    announce(&runs, workers, &path)?;
    let runs = study::run(runs, &data, args.workers, &path)?;
    let report = Report { data: &data, plan, sections: &sections, runs: &runs, workers };
    folder.write("results.json", &(serde_json::to_string_pretty(&report.json())? + "\n"))?;
    folder.write("index.html", &report.html()?)?;
    for (name, chart) in report.pictures() {
        chart.save(folder.path().join(name))?;
    }
    say(out.join("index.html").display());
    finish(&runs)
}

/// How many runs go side by side; without threads, one.
fn workers(args: &Args) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    if cfg!(feature = "rayon") { args.workers.unwrap_or(cores) } else { 1 }
}

/// Says what is about to be done, and makes Ctrl-C say what is kept.
fn announce(runs: &[Run], workers: usize, path: &Path) -> program::Result<()> {
    let minutes = runs.iter().map(Run::cost).sum::<f64>() / 60.0;
    say(format!(
        "{} runs, about {minutes:.1} minutes of one thread, {:.1} with {workers} side by side; kept in {}",
        runs.len(),
        minutes / workers.max(1) as f64,
        path.display()
    ));
    program::exit_on_ctrl_c(format!(
        "stopped: the runs that are done are in {}; the same command continues from there",
        path.display()
    ))
}

/// Names the lines that could not be read and the first run that failed.
fn finish(runs: &Table<Run, Outcome>) -> program::Result<End> {
    runs.unreadable().iter().for_each(complain);
    runs.results().map_err(|e| format!("a run failed; started again, it is tried again: {e}"))?;
    Ok(End::Finished)
}

/// The sections of these names, or all.
fn chosen(plan: Plan, names: &[String]) -> Result<Vec<Section>, String> {
    let mut sections = plan.sections();
    let known: Vec<_> = sections.iter().map(|section| section.name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("--only: found {name}, expected some of {}", known.join(",")));
    }
    let default = |section: &Section| names.is_empty() && (plan.quick || !section.long);
    sections.retain(|section| default(section) || names.iter().any(|name| name == section.name));
    Ok(sections)
}

/// The sections' runs, each once, the longest first, so that none is left for the end.
fn distinct(sections: &[Section]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for run in sections.iter().flat_map(Section::runs) {
        if !runs.contains(run) {
            runs.push(run.clone());
        }
    }
    runs.sort_by(|a, b| b.cost().total_cmp(&a.cost()));
    runs
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bptt::plot::html;

    use super::*;

    /// All sections, at a size that takes a moment.
    fn tiny() -> Vec<Section> {
        let mut sections = Plan { quick: true, repeats: 1 }.sections();
        let shrink = |run: &mut Run| {
            run.network.hidden = run.network.hidden.min(4);
            run.patterns.pool = 120;
            run.patterns.valid = run.patterns.valid.min(40);
            run.recipe.epochs = 1;
            run.recipe.retrain_epochs = run.recipe.retrain_epochs.min(1);
            run.shrink = run.shrink.map(|_| 0.7);
        };
        for section in &mut sections {
            for row in section.tables.iter_mut().flat_map(|table| &mut table.rows) {
                row.runs.iter_mut().for_each(shrink);
                if let sections::Metric::ValidAfter(epoch) = &mut row.metric {
                    *epoch = 1;
                }
            }
            for figure in &mut section.figures {
                match figure {
                    sections::Figure::Confusion { run, .. }
                    | sections::Figure::Histograms { run }
                    | sections::Figure::Images { run } => shrink(run),
                    sections::Figure::Ranking(rows) => {
                        rows.iter_mut().flat_map(|row| &mut row.runs).for_each(shrink)
                    }
                    _ => {}
                }
            }
        }
        sections
    }

    #[test]
    fn an_interrupted_study_goes_on_to_the_same_page() {
        let data = find::find(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        let sections = tiny();
        let all = distinct(&sections);
        let some = study::run(all[..5].to_vec(), &data, Some(2), &path).unwrap();
        // The last line was being written when the study was killed.
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        let runs = study::run(all.clone(), &data, Some(2), &path).unwrap();
        let again: Vec<_> = runs.rows()[..5]
            .iter()
            .zip(some.rows())
            .filter(|(new, old)| new.seconds == old.seconds)
            .collect();
        assert_eq!(again.len(), 4, "four of five were kept");

        let report = Report {
            data: &data,
            plan: Plan { quick: true, repeats: 1 },
            sections: &sections,
            runs: &runs,
            workers: 2,
        };
        let html = report.html().unwrap();
        assert_eq!(html::unbalanced(&html), None);
        assert!(!html.contains("failed") && !html.contains("NaN"));
        for section in &sections {
            assert!(html.contains(&format!("id=\"{}\"", section.name)));
            assert!(html.contains(&html::escape(section.title)));
        }
        // Nothing is asked from elsewhere.
        assert!(
            !html.contains("<script")
                && !html.contains("<link")
                && !html.contains("src=")
                && !html.contains("@import")
        );
        let json = report.json();
        let rows = json["sections"][8]["tables"][0]["rows"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[1]["paper"]), (5, &87.41.into()));
        assert!(rows[1]["ours"]["mean"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn parts_are_found_and_are_all_runs() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["runs.2-of-2.jsonl", "runs.jsonl", "runs.1-of-2.jsonl", "results.json", "x.1-of-2.jsonl"]
        {
            fs::write(folder.path().join(name), []).unwrap();
        }
        let expected = ["runs.1-of-2.jsonl", "runs.2-of-2.jsonl"].map(|name| folder.path().join(name));
        assert_eq!(study::parts(folder.path()).unwrap(), expected);

        let all = distinct(&tiny());
        let parts = (1..=3).map(|number| Shard { number, of: 3 }.part(all.clone()));
        assert_eq!(parts.map(|part| part.len()).sum::<usize>(), all.len());
    }

    #[test]
    fn equal_runs_are_done_once() {
        let plan = Plan { quick: false, repeats: 5 };
        let named = |names: &[&str]| {
            chosen(plan, &names.iter().map(|&name| name.into()).collect::<Vec<_>>()).unwrap()
        };
        // The final models of two layers are Table 3's, and all that Table 4 tells are final models.
        assert_eq!(distinct(&named(&["table3", "control"])).len(), 10);
        assert_eq!(distinct(&named(&["final"])).len(), 20);
        assert_eq!(distinct(&named(&["table3", "final", "table4"])).len(), 20);
        let fault = chosen(plan, &["table9".into()]).unwrap_err();
        assert!(fault.starts_with("--only: found table9, expected some of cells,normalisation,"), "{fault}");
    }
}
