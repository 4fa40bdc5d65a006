//! Studies: the same table at any number of workers, kept runs that are not done again, faults that stay in their row.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bptt::data::{Arrays, Dataset, DatasetExt};
use bptt::loss::CrossEntropy;
use bptt::nn::{Linear, Lstm};
use bptt::optim::Adam;
use bptt::tune::{Order, Space, Study, Summary, Table, cross_validate, merge};
use bptt::{Model, Result, Trainer};
use ndarray::{Array1, Array3};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Config {
    hidden: usize,
    lr: f64,
    seed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outcome {
    loss: f64,
    accuracy: Summary,
}

fn data() -> Arrays {
    let y = Array1::from_shape_fn(120, |i| i % 2);
    let x = Array3::from_shape_fn((120, 6, 1), |(i, t, _)| {
        let slope = if y[i] == 0 { 0.1 } else { -0.1 };
        (i * 7 % 20) as f32 / 10.0 - 1.0 + slope * t as f32
    });
    Arrays::classes(x, &y, ["rising", "falling"]).unwrap()
}

fn configs() -> Vec<Config> {
    let space = Space::new().choice("hidden", [2, 5]).choice("lr", [0.01, 0.05]).integer("seed", 1..=2);
    space.grid().unwrap()
}

/// Three folds, each a short training.
fn train(config: &Config) -> Result<Outcome> {
    let mut losses = 0.0;
    let data = data();
    let accuracy = cross_validate(&data.k_fold(3, config.seed)?, |_, train, valid| {
        let mut model = Model::builder(train.shape())
            .layer("lstm", Lstm::new(config.hidden).last())
            .layer("linear", Linear::new(2))
            .build(config.seed)?;
        let mut trainer =
            Trainer::new(CrossEntropy::default(), Adam::new(config.lr)).epochs(2).batch_size(20);
        trainer.fit(&mut model, train, None)?;
        let evaluation = model.evaluate_with(valid, &CrossEntropy::default())?;
        losses += evaluation.loss().unwrap();
        Ok(evaluation.accuracy().unwrap())
    })?;
    Ok(Outcome { loss: losses / 3.0, accuracy })
}

fn results<C: Clone + Serialize, S: Clone + Serialize>(table: &Table<C, S>) -> Vec<(C, S)> {
    table.results().unwrap().into_iter().map(|(config, result)| (config.clone(), result.clone())).collect()
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let one = Study::new().workers(1).run(configs(), train).unwrap();
    assert_eq!(one.rows().iter().map(|row| row.config.clone()).collect::<Vec<_>>(), configs());
    for workers in [2, 3, 20] {
        let table = Study::new().workers(workers).run(configs(), train).unwrap();
        assert_eq!(results(&table), results(&one), "{workers} workers");
    }
    let distinct: std::collections::BTreeSet<_> =
        results(&one).iter().map(|(_, result)| result.loss.to_bits()).collect();
    assert_eq!(distinct.len(), configs().len());
}

/// Each run has a pool of one thread, so that several fit side by side.
#[cfg(feature = "rayon")]
#[test]
fn a_run_has_one_thread_and_several_go_at_once() {
    let barrier = std::sync::Barrier::new(3);
    let table = Study::new().workers(3).run(0..3, |_: &i32| {
        barrier.wait();
        Ok::<_, String>(rayon::current_num_threads())
    });
    assert!(table.unwrap().results().unwrap().iter().all(|&(_, &threads)| threads == 1));
}

/// How many runs were done anew, and what came of all.
fn kept(path: &Path, configs: &[Config]) -> (usize, Vec<(Config, Outcome)>) {
    let runs = AtomicUsize::new(0);
    let table = Study::new().file(path).workers(2).run(configs.to_vec(), |config| {
        runs.fetch_add(1, Ordering::Relaxed);
        train(config)
    });
    (runs.into_inner(), results(&table.unwrap()))
}

#[test]
fn an_interrupted_study_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = (folder.path().join("study.jsonl"), folder.path().join("whole.jsonl"));
    let expected = kept(&whole, &configs()).1;

    // Other configurations first, and in another order: what is known is known.
    let mut some = configs()[2..5].to_vec();
    some.reverse();
    assert_eq!(kept(&path, &some).0, 3);
    assert_eq!(kept(&path, &configs()), (5, expected.clone()));
    assert_eq!(kept(&path, &configs()), (0, expected.clone()));

    // Killed while it wrote: the run of the torn line is lost, and no other.
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    assert_eq!(kept(&path, &configs()), (1, expected.clone()));
    assert_eq!(fs::read(&path).unwrap().iter().filter(|&&byte| byte == b'\n').count(), 9);

    // A result of another form is done again, and replaced.
    let text = fs::read_to_string(&path).unwrap().replacen("\"loss\"", "\"cost\"", 1);
    fs::write(&path, text).unwrap();
    assert_eq!(kept(&path, &configs()), (1, expected.clone()));
    assert_eq!(kept(&path, &configs()), (0, expected));
}

/// Three parts, each with its own file: together they are the study of one process, whatever happened to the files.
#[test]
fn a_study_in_shards_is_the_whole_study() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(format!("{name}.jsonl"));
    let space = Space::new().choice("hidden", [2, 5]).choice("lr", [0.01, 0.02, 0.05]).integer("seed", 1..=4);
    let configs: Vec<Config> = space.grid().unwrap();
    let expected = results(&Study::new().run(configs.clone(), train).unwrap());
    assert_eq!(expected.len(), 24);

    let parts = ["a", "b", "c"].map(path);
    for (i, part) in parts.iter().enumerate() {
        let table = Study::new().file(part).shard(i + 1, 3).run(configs.clone(), train).unwrap();
        let own: Vec<_> = expected.iter().skip(i).step_by(3).cloned().collect();
        assert_eq!(results(&table), own);
    }
    // In any order, a table has all runs.
    let mut all = results(&Table::<Config, Outcome>::read([&parts[2], &parts[0], &parts[1]]).unwrap());
    let place = |config: &Config| configs.iter().position(|known| known == config);
    all.sort_by_key(|(config, _)| place(config));
    assert_eq!(all, expected);

    // A line of the second is torn, and its last one is being written.
    let text = fs::read_to_string(&parts[1]).unwrap();
    let torn = text.lines().nth(3).unwrap();
    fs::write(&parts[1], text.replacen(torn, &torn[..40], 1) + "{\"config\":").unwrap();
    let merged = merge(path("all"), &parts).unwrap();
    assert_eq!((merged.runs, merged.new, merged.repeated, merged.differing), (23, 23, 0, 0));
    let faults =
        ["b.jsonl: line 4: found something other than a run", "b.jsonl: the last line: found no end"];
    assert_eq!(merged.unreadable.len(), 2, "{merged:?}");
    assert!(merged.unreadable.iter().zip(faults).all(|(found, fault)| found.contains(fault)), "{merged:?}");

    // Once it is repaired, only what is missing is added; what was done twice counts once.
    fs::write(&parts[1], &text).unwrap();
    let again: Vec<_> = parts.iter().chain([&parts[1]]).collect();
    let merged = merge(path("all"), again).unwrap();
    assert_eq!((merged.runs, merged.new, merged.repeated, merged.differing), (24, 1, 8, 0));
    assert_eq!(merge(path("all"), &parts).unwrap().new, 0);
    assert_eq!(kept(&path("all"), &configs), (0, expected));
}

#[test]
fn what_cannot_be_merged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    Study::new().workers(1).file(path("a")).run([1, 2], |&n: &i64| Ok::<_, String>(n)).unwrap();
    Study::new().workers(1).file(path("b")).run([2, 3], |&n: &i64| Ok::<_, String>(-n)).unwrap();
    fs::write(path("other"), "{\"weights\": []}\n").unwrap();
    let refused = |into: &str, from: [&str; 2]| merge(path(into), from.map(path)).unwrap_err().to_string();
    let named = |fault: &str, name: &str| fault.starts_with(&format!("{}: ", path(name).display()));

    let fault = refused("all", ["a", "other"]);
    assert!(named(&fault, "other") && fault.contains("found the start of another file"), "{fault}");
    assert!(!path("all").exists());
    assert!(named(&refused("all", ["a", "missing"]), "missing"));
    assert!(named(&refused("other", ["a", "b"]), "other"));
    assert_eq!(fs::read_to_string(path("other")).unwrap(), "{\"weights\": []}\n");
    let fault = Table::<String, i64>::read([path("a")]).unwrap_err().to_string();
    assert!(named(&fault, "a") && fault.contains("found a run of another form: 1: "), "{fault}");

    // Of two results of a configuration, the last counts, and the difference is told.
    let merged = merge(path("all"), ["a", "b"].map(path)).unwrap();
    assert_eq!((merged.runs, merged.repeated, merged.differing), (3, 1, 1));
    let table = Study::new().file(path("all")).run([1, 2, 3], |_| Err::<i64, _>("nothing is left")).unwrap();
    assert_eq!(results(&table), [(1, 1), (2, -2), (3, -3)]);

    for (number, of) in [(0, 2), (3, 2), (1, 0)] {
        let study = Study::new().shard(number, of).run([1], |_| Ok::<_, String>(0));
        let expected = format!("`shard`: found {number}/{of}, expected one of 1/n to n/n");
        assert_eq!(study.unwrap_err().to_string(), expected);
    }
}

/// A process that has the study of the file named by `BPTT_STUDY`, until it is killed.
#[test]
#[ignore = "run by two_processes_never_share_a_file"]
fn holds_a_study() {
    let Some(path) = std::env::var_os("BPTT_STUDY") else { return };
    let table = Study::new().file(path).run([1, 2], |&n: &i64| {
        if n == 2 {
            println!("held");
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        Ok::<_, String>(n)
    });
    drop(table);
}

/// The second is told that the file is in use; once the first has been killed, it goes on from what was done.
#[test]
fn two_processes_never_share_a_file() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let mut first = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tune::holds_a_study", "--ignored", "--nocapture"])
        .env("BPTT_STUDY", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")), "the first study runs");

    let study = || Study::new().file(&path).workers(1).run([1, 2], |&n: &i64| Ok::<_, String>(n));
    let fault = study().unwrap_err().to_string();
    assert!(fault.contains("study.jsonl: found in use by another study"), "{fault}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(results(&study().unwrap()), [(1, 1), (2, 2)]);
}

/// Two who wrote at once, or a disk that failed: the run of the bad line is done again, and the table says so.
#[test]
fn a_bad_line_costs_its_own_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = || {
        let runs = AtomicUsize::new(0);
        let table = Study::new().file(&path).workers(1).run(0..4, |&n: &i64| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, String>(n)
        });
        (runs.into_inner(), table.unwrap())
    };
    assert!(study().1.unreadable().is_empty());
    let text = fs::read_to_string(&path).unwrap().replacen("{\"config\":2", "{\"con{\"config\":2", 1);
    fs::write(&path, text).unwrap();
    let (runs, table) = study();
    assert_eq!((runs, table.results().unwrap().len()), (1, 4));
    let expected = format!("{}: line 4: found something other than a run: ", path.display());
    assert!(table.unreadable().len() == 1 && table.unreadable()[0].starts_with(&expected), "{table:?}");
    assert_eq!(study().0, 0);
}

/// What had come out before a panic is in the file.
#[test]
fn a_panic_costs_only_its_own_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = |bad: i64| {
        let runs = AtomicUsize::new(0);
        let table = Study::new().file(&path).workers(1).run(0..5, |&n: &i64| {
            runs.fetch_add(1, Ordering::Relaxed);
            assert_ne!(n, bad, "as arranged");
            Ok::<_, String>(n * n)
        });
        (runs.into_inner(), results(&table.unwrap()))
    };
    assert!(std::panic::catch_unwind(|| study(3)).is_err());
    let (runs, table) = study(-1);
    assert_eq!((runs, table), (2, vec![(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]));
}

#[test]
fn a_fault_stays_in_its_row_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let mut configs = configs();
    configs[1].lr = -1.0;
    let study = |configs: &[Config]| Study::new().file(&path).run(configs.to_vec(), train).unwrap();
    let table = study(&configs);
    assert_eq!(table.rows().iter().filter(|row| row.result.is_ok()).count(), 7);
    let fault = table.results().unwrap_err().to_string();
    assert!(fault.starts_with(r#"`{"hidden":2,"lr":-1.0,"seed":2}`: `lr`: found -1"#), "{fault}");
    assert!(table.to_string().lines().nth(2).unwrap().contains("found -1"));

    // A diverged run has a result that JSON cannot hold.
    let nan = Study::new().run([1], |_| Ok::<_, String>(f64::NAN)).unwrap();
    let fault = nan.results().unwrap_err().to_string();
    assert!(fault.starts_with("`1`: found a result that cannot be read back from JSON"), "{fault}");

    let mut sorted = study(&configs);
    sorted.sort_by("accuracy.mean", Order::Descending).unwrap();
    let mean = |i: usize| sorted.rows()[i].result.as_ref().map(|result| result.accuracy.mean);
    assert!((1..7).all(|i| mean(i - 1).unwrap() >= mean(i).unwrap()));
    assert!(mean(7).is_err());
}

#[test]
fn equal_configurations_run_once_and_all_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let told = told.clone();
        let study = Study::new().file(folder.path().join("study.jsonl")).workers(2).on_run(move |run| {
            let result = run.result.map_or(-1, |value| value.as_i64().unwrap());
            told.lock().unwrap().push((run.resumed, result, run.done, run.total));
        });
        let square = |&n: &i64| if n == 2 { Err("two".to_owned()) } else { Ok(n * n) };
        let table = study.run([3, 2, 3, 4, 2], square).unwrap();
        assert_eq!(table.rows().iter().map(|row| row.config).collect::<Vec<_>>(), [3, 2, 4]);
    }
    let mut told = told.lock().unwrap().clone();
    assert!(told.iter().enumerate().all(|(i, &(_, _, done, total))| done == i % 3 + 1 && total == 3));
    assert!(told[..3].iter().all(|run| !run.0) && told[3].0 && told[4].0 && !told[5].0);
    told.sort();
    let results: Vec<_> = told.iter().map(|run| run.1).collect();
    assert_eq!(results.iter().filter(|&&result| result == -1).count(), 2);
}

#[test]
fn what_cannot_be() {
    let none = Study::new().workers(0).run([1], |_| Ok::<_, String>(0)).unwrap_err().to_string();
    assert_eq!(none, "`workers`: found 0, expected at least 1");
    assert!(Study::new().run(Vec::<i32>::new(), |_| Ok::<_, String>(0)).unwrap().is_empty());

    let keys = std::collections::HashMap::from([((1, 2), 3)]);
    let fault = Study::new().run([keys], |_| Ok::<_, String>(0)).unwrap_err().to_string();
    assert!(fault.starts_with("`configuration 0`: found one that cannot be written as JSON"), "{fault}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("study.jsonl");
    let fault = Study::new().file(&path).run([1], |_| Ok::<_, String>(0)).unwrap_err().to_string();
    assert!(fault.starts_with(&format!("{}: ", path.display())), "{fault}");
}

#[test]
fn folds_validate_every_sample_once() {
    let data = data();
    let mut seen = vec![0; data.len()];
    let sizes = cross_validate(&data.k_fold(7, 3).unwrap(), |fold, train, valid| {
        valid.indices().iter().for_each(|&i| seen[i as usize] += 1);
        assert!(train.indices().iter().all(|i| !valid.indices().contains(i)));
        Ok((fold + train.len() + valid.len()) as f64)
    });
    assert_eq!(sizes.unwrap().values, [120.0, 121.0, 122.0, 123.0, 124.0, 125.0, 126.0]);
    assert!(seen.iter().all(|&count| count == 1));
    let fault = cross_validate(&data.k_fold_stratified(3, 1).unwrap(), |_, train, _| {
        let mut model = Model::builder(train.shape()).layer("linear", Linear::new(1)).build(1)?;
        Trainer::new(CrossEntropy::default(), Adam::new(0.1)).fit(&mut model, train, None)?;
        Ok(0.0)
    });
    assert!(fault.is_err());
    let fault = cross_validate(&data.k_fold(2, 1).unwrap()[..0], |_, _, _| Ok(0.0)).unwrap_err();
    assert_eq!(fault.to_string(), "`folds`: found none, expected at least one");
}

#[test]
fn means_and_spreads() {
    assert_eq!(Summary::of([]), Summary { mean: 0.0, sd: 0.0, values: vec![] });
    assert_eq!(Summary::of([4.0]).sd, 0.0);
    let summary = Summary::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
    assert_eq!((summary.mean, summary.sd), (5.0, (32.0f64 / 7.0).sqrt()));
}
