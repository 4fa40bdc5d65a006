//! The examples as programs: what a shell, a user and another run may do to them.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A training of a moment, in two phases.
const BRIEF: &str = "--samples 300 --hidden 4 --epochs 2 --retrain-epochs 1 --threads 1";
/// One that does not end by itself.
const LONG: &str = "--samples 300 --hidden 4 --epochs 1000000 --threads 1";

/// The program of an example, built if it is not.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build.args((profile.ends_with("release")).then_some("--release"));
    build.args((!cfg!(feature = "rayon")).then_some("--no-default-features"));
    build.env("CARGO_TARGET_DIR", profile.parent().unwrap());
    assert!(build.status().unwrap().success(), "the example {name} is built");
    Command::new(profile.join("examples").join(name))
}

fn with(name: &str, out: &Path, flags: &str) -> Command {
    let mut command = example(name);
    command.args(flags.split_whitespace()).arg("--out").arg(out);
    command
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Where the standard output goes: to a full disk, and to a pipe that no one reads.
fn nowhere() -> Vec<Stdio> {
    let full = File::options().write(true).open("/dev/full").ok().map(Stdio::from);
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    full.into_iter().chain([pipe.into()]).collect()
}

#[test]
fn a_closed_output_costs_nothing_that_was_learnt() {
    for stdout in nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let output = with("fashion_mnist", folder.path(), BRIEF).stdout(stdout).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        for file in ["model.safetensors", "metrics.json", "report.html"] {
            assert!(folder.path().join(file).exists(), "{file}");
        }
        let report = fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(report.contains("\npruned\n"), "the curves mark where it was pruned");
    }
    let small = [
        ("streaming", "--streams 2 --steps 20 --threads 1"),
        ("custom_layer", ""),
        ("custom_cell", ""),
        ("garments", "--epochs 1 --samples 64 --units 4"),
        ("char_rnn", "--epochs 1 --units 4 --letters 3"),
        ("forecast", "--epochs 1"),
        ("paper", "--quick --repeats 1 --only fig5 --workers 1"),
    ];
    for (name, flags) in small {
        let folder = tempfile::tempdir().unwrap();
        let mut command = if ["forecast", "paper"].contains(&name) {
            with(name, folder.path(), flags)
        } else {
            example(name)
        };
        if !["forecast", "paper"].contains(&name) {
            command.args(flags.split_whitespace());
        }
        let output = command.stdout(nowhere().remove(0)).output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
}

#[test]
fn a_folder_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flags, file) in [
        ("fashion_mnist", BRIEF, "metrics.json"),
        ("forecast", "--epochs 1", "forecast.svg"),
        ("paper", "--quick --repeats 1 --only fig5 --workers 1", "index.html"),
    ] {
        let out = folder.path().join(OsStr::from_bytes(b"out\xFF")).join(name);
        let output = with(name, &out, flags).output().unwrap();
        // A file system may refuse such names; then there is nothing to test, and it is said.
        if !folder.path().join(OsStr::from_bytes(b"out\xFF")).exists() {
            assert!(!output.status.success() && !text(&output).contains("panicked"), "{}", text(&output));
            continue;
        }
        assert!(output.status.success() && out.join(file).exists(), "{name}: {}", text(&output));
    }
}

/// A long training, once it has learnt for an epoch.
fn training(out: &Path) -> Child {
    let mut run =
        with("fashion_mnist", out, LONG).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("epoch   2")), "it learns");
    run
}

/// What a program said on standard error, and its status, when it has ended.
fn end(mut run: Child) -> (Option<i32>, String) {
    // What it still prints is read, so that it does not wait for a reader.
    drop(run.stdout.take());
    let mut errors = String::new();
    run.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (run.wait().unwrap().code(), errors)
}

#[test]
fn two_runs_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = training(folder.path());
    for (name, flags) in
        [("fashion_mnist", BRIEF), ("forecast", "--epochs 1"), ("paper", "--quick --repeats 1 --only fig5")]
    {
        let second = with(name, folder.path(), flags).output().unwrap();
        assert_eq!(second.status.code(), Some(1), "{}", text(&second));
        let expected = format!("{}: found in use by another run", folder.path().display());
        assert!(text(&second).contains(&expected), "{}", text(&second));
    }
    // Nothing of a killed run keeps the next one out.
    first.kill().unwrap();
    first.wait().unwrap();
    let next = with("fashion_mnist", folder.path(), BRIEF).output().unwrap();
    assert!(next.status.success(), "{}", text(&next));
}

#[test]
fn ctrl_c_ends_with_130_and_says_what_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let run = training(folder.path());
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    let (status, errors) = end(run);
    assert_eq!(status, Some(130), "{errors}");
    for part in ["ending after this epoch", "stopped: ", "model.safetensors", "train.ckpt", "--resume"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(folder.path().join("model.safetensors").exists());
}

#[test]
fn there_is_nothing_to_resume_in_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let other: PathBuf = folder.path().join("other");
    let output = with("fashion_mnist", &other, &format!("{BRIEF} --resume")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("error: --resume: found no {}", other.join("train.ckpt").display());
    assert!(text(&output).contains(&expected), "{}", text(&output));
    assert!(fs::read_dir(&other).map_or(0, |files| files.count()) <= 1, "nothing but the lock");
}
