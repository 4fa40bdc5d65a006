//! A run that was stopped and resumed, anywhere and at any number of threads, ends with the bits of one never stopped.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bptt::data::{Arrays, Dataset};
use bptt::loss::CrossEntropy;
use bptt::nn::{Dropout, Linear, Lstm};
use bptt::optim::{Adam, Sgd};
use bptt::prune::Magnitude;
use bptt::train::schedule::{CosineAnnealing, OneCycle, ReduceOnPlateau, Schedule, Threshold};
use bptt::train::{
    Callback, CallbackState, Checkpoint, Clip, EarlyStopping, EpochEnd, Flow, GradualPruning, Group, History,
    JsonLog, Monitor, Progress,
};
use bptt::{Error, Model, Real, Result, Trainer, rng};
use ndarray::{Array1, Array3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;
use tempfile::TempDir;

const SAMPLES: usize = 93;
const BATCH: usize = 20;
/// The last batch of an epoch has 13 samples.
const STEPS: usize = 5;
const EPOCHS: usize = 4;
const THREADS: [usize; 4] = [1, 2, 3, 8];

fn data<R: Real>(n: usize) -> Arrays<R> {
    let uniform = Uniform::new(-1.0, 1.0).unwrap();
    let x = Array3::random_using((n, 4, 3), uniform, &mut rng::rng(n as u64)).mapv(R::from_f64);
    let y = Array1::from_shape_fn(n, |i| usize::from(x[[i, 0, 0]] > x[[i, 1, 1]]));
    Arrays::classes(x, &y, ["less", "more"]).unwrap()
}

fn model<R: Real>() -> Model<R> {
    model_of(5)
}

fn model_of<R: Real>(units: usize) -> Model<R> {
    Model::builder(data::<R>(1).shape())
        .layer("lstm", Lstm::new(units).layers(2).last())
        .layer("dropout", Dropout::new(0.3))
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap()
}

/// Everything at once: averages, a rate for each step, clipping, groups, and two callbacks with a state.
fn full(folder: &Path) -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.03))
        .schedule(CosineAnnealing::new(9).per_step())
        .ema(0.8)
        .clip(Clip::Norm(0.5))
        .group("linear.*", Group::new().optimizer(Sgd::new(0.1).momentum(0.9)))
        .freeze("lstm.bias_hh_l0")
        .callback(EarlyStopping::new(2).monitor(Monitor::ValidLoss))
        .callback(
            Checkpoint::new(folder.join("best.safetensors")).best_only().monitor(Monitor::ValidAccuracy),
        )
}

/// Early stopping that stops at once.
fn short(_: &Path) -> Trainer {
    Trainer::new(CrossEntropy::default(), Sgd::new(0.3).momentum(0.9))
        .callback(EarlyStopping::new(1).min_delta(0.5))
}

/// A rate that follows from the history, and falls after the first epoch.
fn plateau(_: &Path) -> Trainer {
    Trainer::new(CrossEntropy::default(), Sgd::new(0.3).momentum(0.9))
        .schedule(ReduceOnPlateau::new().patience(0).factor(0.5).threshold(Threshold::Abs(10.0)))
}

/// Pruned little by little, with moments and averages.
fn pruned(_: &Path) -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.03).weight_decay(0.01))
        .ema(0.8)
        .callback(GradualPruning::new(0.6).until_epoch(2))
}

/// Pruned once, and watched by early stopping, which begins again after that, and only then.
fn pruned_early(folder: &Path) -> Trainer {
    full(folder).callback(GradualPruning::new(0.6).until_epoch(1))
}

/// All of the above at once: averages, a rate for each step, masks that grow, early stopping that acts.
fn everything(folder: &Path) -> Trainer {
    full(folder).callback(GradualPruning::new(0.7).from_epoch(3).until_epoch(30))
}

/// A rate that looks at the length of the run, and nothing else.
fn plain(_: &Path) -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.01)).schedule(OneCycle::new(0.02).per_step())
}

fn setup(make: fn(&Path) -> Trainer, folder: &Path) -> Trainer {
    make(folder).epochs(EPOCHS).batch_size(BATCH).tile(4).seed(7)
}

/// Ends the run by a panic after a step, counted from the first of the run.
struct PanicAt(usize);

impl Callback<f32> for PanicAt {
    fn on_step(&mut self, at: &Progress) {
        if (at.epoch - 1) * at.steps + at.step == self.0 {
            resume_unwind(Box::new("stopped"));
        }
    }
}

/// Ends the run by an error after an epoch.
struct FailAfter(usize);

impl Callback<f32> for FailAfter {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        if end.epoch.epoch == self.0 { Err(Error::config("test", "stopped")) } else { Ok(Flow::Continue) }
    }
}

/// What a run leaves: the saved model, the one saved as the best, and the history but for its clock.
#[derive(Debug, PartialEq)]
struct Left {
    model: Vec<u8>,
    best: Option<Vec<u8>>,
    history: Vec<String>,
}

fn fit(trainer: &mut Trainer, folder: &Path) -> Result<Left> {
    fit_model(model(), trainer, folder)
}

fn fit_model(mut model: Model, trainer: &mut Trainer, folder: &Path) -> Result<Left> {
    let history = trainer.fit(&mut model, &data(SAMPLES), Some(&data(41)))?;
    let path = folder.join("model.safetensors");
    model.save(&path)?;
    let row = |epoch: &bptt::train::Epoch| format!("{:?}", bptt::train::Epoch { seconds: 0.0, ..*epoch });
    Ok(Left {
        model: fs::read(path).unwrap(),
        best: fs::read(folder.join("best.safetensors")).ok(),
        history: history.epochs.iter().map(row).collect(),
    })
}

fn undisturbed(make: fn(&Path) -> Trainer) -> Left {
    let folder = tempfile::tempdir().unwrap();
    fit(&mut setup(make, folder.path()), folder.path()).unwrap()
}

fn with_file(make: fn(&Path) -> Trainer, folder: &TempDir, threads: usize) -> Trainer {
    let path = folder.path().join("run.ckpt");
    setup(make, folder.path()).run_file(path).resume(true).threads(threads)
}

// --- stopped within one process ---

#[test]
fn stopped_after_any_step() {
    for make in [full, short, plateau, pruned, pruned_early, plain] {
        let expected = undisturbed(make);
        for stop in 1..=expected.history.len() * STEPS {
            let folder = tempfile::tempdir().unwrap();
            let mut first = with_file(make, &folder, 2).run_file_every(1 + stop % 3).callback(PanicAt(stop));
            let run = || drop(fit(&mut first, folder.path()));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "not stopped at {stop}");
            let mut second = with_file(make, &folder, THREADS[stop % 4]);
            assert!(fit(&mut second, folder.path()).unwrap() == expected, "stopped at {stop}");
        }
    }
}

#[test]
fn stopped_again_and_again() {
    let expected = undisturbed(full);
    let folder = tempfile::tempdir().unwrap();
    for stop in 1..=expected.history.len() * STEPS {
        let threads = THREADS[stop % 4];
        let mut trainer = with_file(full, &folder, threads).run_file_every(1).callback(PanicAt(stop));
        let run = || drop(fit(&mut trainer, folder.path()));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "not stopped at {stop}");
    }
    assert_eq!(fit(&mut with_file(full, &folder, 1), folder.path()).unwrap(), expected);
}

#[test]
fn stopped_by_an_error_after_an_epoch() {
    for make in [full, plain] {
        let expected = undisturbed(make);
        for stop in 1..=expected.history.len() {
            let folder = tempfile::tempdir().unwrap();
            let error = fit(&mut with_file(make, &folder, 1).callback(FailAfter(stop)), folder.path());
            assert!(error.unwrap_err().to_string().contains("stopped"));
            assert_eq!(fit(&mut with_file(make, &folder, 3), folder.path()).unwrap(), expected);
        }
    }
}

/// The flag of Ctrl-C ends a run, but not for good; a callback does.
#[test]
fn a_run_that_was_ended() {
    for make in [full, short, plateau, pruned, plain] {
        let expected = undisturbed(make);
        let folder = tempfile::tempdir().unwrap();
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let first = fit(&mut with_file(make, &folder, 1).stop_on(flag), folder.path()).unwrap();
        assert_eq!(first.history.len(), 1);
        for threads in [2, 3] {
            let mut trainer = with_file(make, &folder, threads).epochs(EPOCHS);
            assert_eq!(fit(&mut trainer, folder.path()).unwrap(), expected, "the second time from its end");
        }
    }
    assert!(undisturbed(short).history.len() < EPOCHS, "early stopping did not stop");
}

#[test]
fn more_epochs_may_be_added() {
    let make = |_: &Path| Trainer::new(CrossEntropy::default(), Adam::new(0.01)).ema(0.9);
    let folder = tempfile::tempdir().unwrap();
    let expected = fit(&mut setup(make, folder.path()).epochs(6), folder.path()).unwrap();
    fit(&mut with_file(make, &folder, 1), folder.path()).unwrap();
    assert_eq!(fit(&mut with_file(make, &folder, 1).epochs(6), folder.path()).unwrap(), expected);
    let error = fit(&mut with_file(make, &folder, 1).epochs(5), folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("run.ckpt: found a run in epoch 6, expected at most 5 epochs"), "{error}");
}

#[test]
fn without_resume_a_run_begins_anew() {
    let expected = undisturbed(plain);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("run.ckpt"), "no run").unwrap();
    let mut trainer = with_file(plain, &folder, 1).resume(false);
    for _ in 0..2 {
        assert_eq!(fit(&mut trainer, folder.path()).unwrap(), expected);
    }
}

#[test]
fn the_same_run_gives_the_same_file_but_for_its_clock() {
    let lengths = [1, 8].map(|threads| {
        let folder = tempfile::tempdir().unwrap();
        fit(&mut with_file(full, &folder, threads), folder.path()).unwrap();
        let file = fs::read(folder.path().join("run.ckpt")).unwrap();
        let text = String::from_utf8_lossy(&file[..200]).into_owned();
        assert!(text.contains("__metadata__") && text.contains("bptt-run"), "{text}");
        let data = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        file[data..].to_vec()
    });
    assert!(lengths[0] == lengths[1]);
}

#[test]
fn logs_have_the_epochs_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("history.json");
    let mut first =
        with_file(plain, &folder, 1).callback(JsonLog::new(&log)).callback(PanicAt(2 * STEPS + 1));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(fit(&mut first, folder.path())))).is_err());
    assert_eq!(History::load(&log).unwrap().epochs.len(), 2);
    fit(&mut with_file(plain, &folder, 1).callback(JsonLog::new(&log)), folder.path()).unwrap();
    let epochs: Vec<_> = History::load(&log).unwrap().epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(epochs, [1, 2, 3, 4]);
}

/// A callback of one's own takes part.
struct Counter {
    steps: u64,
    seen: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Callback<f32> for Counter {
    fn on_step(&mut self, _: &Progress) {
        self.steps += 1;
        self.seen.store(self.steps, std::sync::atomic::Ordering::Relaxed);
    }

    fn save_state(&self) -> Option<CallbackState> {
        Some(CallbackState { json: self.steps.into(), values: vec![f32::NAN, -0.0] })
    }

    fn load_state(&mut self, state: CallbackState, _: &mut Model) -> Result<()> {
        let bits: Vec<u32> = state.values.iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [f32::NAN.to_bits(), (-0.0f32).to_bits()]);
        self.steps = state.json.as_u64().ok_or_else(|| Error::config("counter", "found no number"))?;
        Ok(())
    }
}

#[test]
fn callbacks_of_ones_own_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let seen = std::sync::Arc::default();
    let counter = || Counter { steps: 0, seen: std::sync::Arc::clone(&seen) };
    let mut first = with_file(plain, &folder, 1).callback(counter()).run_file_every(2).callback(PanicAt(8));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(fit(&mut first, folder.path())))).is_err());
    fit(&mut with_file(plain, &folder, 1).callback(counter()), folder.path()).unwrap();
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), (EPOCHS * STEPS) as u64);
}

// --- killed ---

/// The variables that make a process of this binary a child: its folder, which of the runs it is to go on with, and at
/// how many threads.
const CHILD: [&str; 3] =
    ["BPTT_TEST_CHECKPOINT_CHILD", "BPTT_TEST_CHECKPOINT_RUN", "BPTT_TEST_CHECKPOINT_THREADS"];

/// A run to be killed.
#[derive(Clone, Copy)]
struct Run {
    make: fn(&Path) -> Trainer,
    epochs: usize,
    units: usize,
}

const RUNS: [Run; 2] =
    [Run { make: full, epochs: EPOCHS, units: 5 }, Run { make: everything, epochs: 60, units: 32 }];

impl Run {
    fn trainer(&self, folder: &Path) -> Trainer {
        setup(self.make, folder).epochs(self.epochs)
    }

    fn fit(&self, trainer: &mut Trainer, folder: &Path) -> Left {
        fit_model(model_of(self.units), trainer, folder).unwrap()
    }
}

/// Notes the number of each step in a file, and takes its time for it.
struct Slow(fs::File);

impl Callback<f32> for Slow {
    fn on_step(&mut self, at: &Progress) {
        use std::io::Write;
        writeln!(self.0, "{}", (at.epoch - 1) * at.steps + at.step).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
}

/// The child's role; for whoever runs all tests, nothing.
#[test]
fn child() {
    let Some(folder) = env::var_os(CHILD[0]).map(PathBuf::from) else { return };
    let number = |name: &str| -> usize { env::var(name).unwrap().parse().unwrap() };
    let run = RUNS[number(CHILD[1])];
    let steps = fs::File::options().append(true).create(true).open(folder.join("steps")).unwrap();
    let mut trainer = run.trainer(&folder).threads(number(CHILD[2])).callback(Slow(steps));
    trainer = trainer.run_file(folder.join("run.ckpt")).run_file_every(1).resume(true);
    run.fit(&mut trainer, &folder);
    fs::write(folder.join("done"), "").unwrap();
}

fn spawn(folder: &Path, run: usize, threads: usize) -> Child {
    let binary = env::current_exe().unwrap();
    let mut command = Command::new(binary);
    command.args(["--exact", "child", "--test-threads=1"]).env(CHILD[0], folder);
    command.env(CHILD[1], run.to_string()).env(CHILD[2], threads.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a run again and again with SIGKILL, some steps after it was resumed: at a random moment, or as soon as it is seen
/// to write its file; then lets it end, and compares what it leaves, byte for byte, with what it leaves undisturbed.
fn killed(number: usize, kills: usize) {
    let run = RUNS[number];
    let folder = tempfile::tempdir().unwrap();
    let expected = run.fit(&mut run.trainer(folder.path()), folder.path());
    for name in ["model.safetensors", "best.safetensors"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let steps = || -> Vec<usize> {
        let text = fs::read_to_string(folder.path().join("steps")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let mut random = rng::rng(rng::key(&[u64::from(std::process::id())]));
    let (mut beginnings, mut writing) = (Vec::new(), 0);
    for kill in 0..kills {
        let (before, threads) = (steps().len(), THREADS[kill % THREADS.len()]);
        let more = 2 + rng::below(&mut random, 1 + 4 * number as u64) as usize;
        let mut child = spawn(folder.path(), number, threads);
        let ours = format!("-{}-", child.id());
        let part = || {
            let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.map(|name| name.into_string().unwrap()).any(|n| n.ends_with(".part") && n.contains(&ours))
        };
        let start = Instant::now();
        let busy = || assert!(start.elapsed() < Duration::from_secs(20), "the child does nothing");
        while steps().len() < before + more {
            busy();
            thread::sleep(Duration::from_micros(200));
        }
        if kill % 2 == 0 {
            thread::sleep(Duration::from_micros(rng::below(&mut random, 5000)));
        } else {
            while !part() && !folder.path().join("done").exists() {
                busy();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!folder.path().join("done").exists(), "kill {kill} came too late");
        let (steps, half) = (steps(), part());
        beginnings.push(steps[before]);
        writing += usize::from(half);
        let last = steps[steps.len() - 1];
        println!(
            "kill {:>2}: {threads} threads, steps {:>3} to {last:>3}, epoch {:>2}, step {} of {STEPS}, {}",
            kill + 1,
            steps[before],
            (last - 1) / STEPS + 1,
            (last - 1) % STEPS + 1,
            if half { "while it wrote its file" } else { "between two writings" }
        );
    }
    assert!(spawn(folder.path(), number, 2).wait().unwrap().success());
    assert_eq!(beginnings[0], 1);
    assert!(beginnings.is_sorted() && beginnings[kills - 1] > kills - 1, "it did not go on: {beginnings:?}");
    let steps = steps();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let (model, best) = (read("model.safetensors"), read("best.safetensors"));
    assert!(model == expected.model, "begun at {beginnings:?}");
    assert!(Some(&best) == expected.best.as_ref(), "begun at {beginnings:?}");
    println!(
        "{kills} kills, {writing} of them while the file was written; {} of {} epochs, stopped {}; {} steps for {}; \
         the {} bytes of the model and the {} of the best one are those of the run that was left alone",
        expected.history.len(),
        run.epochs,
        if expected.history.len() < run.epochs { "early" } else { "at the end" },
        steps.len(),
        expected.history.len() * STEPS,
        model.len(),
        best.len(),
    );
}

#[test]
fn killed_at_any_moment() {
    killed(0, 6);
}

/// `cargo test --test checkpoint killed_twenty_times -- --ignored --nocapture` shows each kill.
#[test]
#[ignore = "takes a while; killed_at_any_moment is the short form of it"]
fn killed_twenty_times() {
    killed(1, 20);
}

// --- files that will not do ---

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.ckpt");
    let mut trainer = with_file(full, &folder, 1).epochs(1);
    fit(&mut trainer, folder.path()).unwrap();
    let good = fs::read(&path).unwrap();
    let (samples, valid) = (data(SAMPLES), data(41));
    let before = model::<f32>();
    let mut fault = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let mut model = before.clone();
        let error = trainer.fit(&mut model, &samples, Some(&valid)).expect_err(what);
        let named = matches!(&error, Error::File { path: at, .. } if *at == path);
        assert!(named, "{what}: {error}");
        assert!(model.params().as_slice() == before.params().as_slice(), "{what}: the model was changed");
        error.to_string()
    };
    for place in (0..good.len()).step_by(29).chain(0..16) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[place] ^= flip;
            fault(&bytes, &format!("byte {place} xor {flip}"));
        }
        fault(&good[..place], &format!("cut at {place}"));
    }
    fault(&[&good[..], &[0]].concat(), "a byte too many");
    let last = good.len() - 1;
    let damaged = fault(&[&good[..last], &[good[last] ^ 1]].concat(), "the last bit");
    assert!(damaged.ends_with("the file is damaged"), "{damaged}");
    model::<f32>().save(&path).unwrap();
    let other = fault(&fs::read(&path).unwrap(), "a model");
    assert!(other.ends_with("found no state of a training run in the metadata, expected one"), "{other}");
    fs::write(&path, &good).unwrap();
    trainer.fit(&mut before.clone(), &samples, Some(&valid)).unwrap();
}

#[test]
fn other_settings_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let plain = |_: &Path| Trainer::new(CrossEntropy::default(), Adam::new(0.01));
    let file = || with_file(plain, &folder, 1);
    fit(&mut file().callback(EarlyStopping::new(9)), folder.path()).unwrap();
    let fault = |trainer: Trainer| {
        let mut trainer = trainer.callback(EarlyStopping::new(9));
        let error = fit(&mut trainer, folder.path()).unwrap_err().to_string();
        let path = folder.path().join("run.ckpt");
        let rest = error.strip_prefix(&format!("{}: ", path.display())).expect("the file's name").to_owned();
        rest.strip_prefix("the run in it has other settings: ").expect("settings").to_owned()
    };
    assert_eq!(fault(file().seed(8)), "`seed`: found 7, expected 8");
    let two = fault(file().seed(8).batch_size(21));
    assert_eq!(two, "`batch_size`: found 20, expected 21; `seed`: found 7, expected 8");
    assert_eq!(fault(file().ema(0.5)), "`ema`: found null, expected 0.5");
    assert_eq!(fault(file().clip(Clip::Value(1.0))), "`clip`: found None, expected {\"Value\":1.0}");
    assert_eq!(fault(file().tile(8)), "`tile`: found 4, expected 8");
    assert_eq!(fault(file().freeze("lstm.*")), "`freeze`: found [], expected [\"lstm.*\"]");
    assert!(fault(file().group("lstm.*", Group::new().lr_scale(0.1))).starts_with("`group`: found [], "));
    assert!(fault(file().schedule(OneCycle::new(0.1))).starts_with("`schedule`: found null, expected"));
    let make = |_: &Path| Trainer::new(CrossEntropy::default().label_smoothing(0.1), Adam::new(0.02));
    let two = fault(with_file(make, &folder, 1));
    let (loss, optimizer) = ("`label_smoothing`: found 0.0, expected 0.1", "`lr`: found 0.01, expected 0.02");
    assert_eq!(two, format!("`loss`: `config`: {loss}; `optimizer`: `config`: {optimizer}"));

    let message = |trainer: &mut Trainer| fit(trainer, folder.path()).unwrap_err().to_string();
    let none = message(&mut file());
    assert!(none.ends_with("run.ckpt: found states of 1 callbacks, expected 0"), "{none}");
    let other = message(&mut file().callback(EarlyStopping::new(9).min_delta(0.1)));
    assert!(other.contains("state of callback 1: `early stopping`: found settings"), "{other}");
    let other =
        message(&mut file().callback(Checkpoint::new(folder.path().join("best.safetensors")).best_only()));
    assert!(other.contains("state of callback 1: `checkpoint`: found "), "{other}");

    let mut trainer = file().callback(EarlyStopping::new(9));
    let fewer = trainer.fit(&mut model(), &data(SAMPLES - 1), Some(&data(41))).unwrap_err().to_string();
    let both = fewer.contains("`samples`: found 93, expected 92") && fewer.contains("`targets`: found ");
    assert!(both && fewer.contains("`training data`: "), "{fewer}");
    let fewer = trainer.fit(&mut model(), &data(SAMPLES), None).unwrap_err().to_string();
    assert!(fewer.contains("`validation data`: found {") && fewer.ends_with("expected null"), "{fewer}");
    let mut small =
        Model::builder(data::<f32>(1).shape()).layer("lstm", Lstm::new(5).last()).build(1).unwrap();
    let layers = trainer.fit(&mut small, &data(SAMPLES), Some(&data(41))).unwrap_err().to_string();
    assert!(layers.contains("`layers`: found ") && layers.contains("`parameters`: found "), "{layers}");
    let mut wide: Trainer<f64> = Trainer::new(CrossEntropy::default(), Adam::new(0.01))
        .run_file(folder.path().join("run.ckpt"))
        .resume(true);
    let wide = wide.fit(&mut model(), &data(SAMPLES), Some(&data(41))).unwrap_err().to_string();
    assert!(wide.contains("`type`: found F32, expected F64"), "{wide}");

    fit(&mut file().callback(EarlyStopping::new(1)), folder.path()).expect("patience may change");
}

/// The mask is the run's, whatever the model that is handed in.
#[test]
fn a_mask_is_resumed() {
    let make = |epochs| Trainer::new(CrossEntropy::default(), Adam::new(0.05)).epochs(epochs).ema(0.9);
    let pruned = || {
        let mut model = model::<f32>();
        model.prune(Magnitude::share(0.5)).unwrap();
        model
    };
    let mut whole = pruned();
    make(4).fit(&mut whole, &data(SAMPLES), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let with_file = |epochs| make(epochs).run_file(folder.path().join("run")).resume(true);
    with_file(2).fit(&mut pruned(), &data(SAMPLES), None).unwrap();
    let mut resumed = model();
    with_file(4).fit(&mut resumed, &data(SAMPLES), None).unwrap();
    assert_eq!(resumed.mask(), whole.mask());
    assert_eq!(resumed.params().as_slice(), whole.params().as_slice());

    // And the other way round: a run that was not pruned.
    let folder = tempfile::tempdir().unwrap();
    let with_file = |epochs| make(epochs).run_file(folder.path().join("run")).resume(true);
    let mut whole = model();
    make(4).fit(&mut whole, &data(SAMPLES), None).unwrap();
    with_file(2).fit(&mut model(), &data(SAMPLES), None).unwrap();
    let mut resumed = pruned();
    with_file(4).fit(&mut resumed, &data(SAMPLES), None).unwrap();
    assert_eq!((resumed.mask(), resumed.params().as_slice()), (None, whole.params().as_slice()));

    // A fault in a callback's state leaves mask and parameters as they were.
    let (mut other, before) = (pruned(), pruned());
    let error = with_file(5).callback(EarlyStopping::new(1)).fit(&mut other, &data(SAMPLES), None);
    assert!(error.is_err());
    assert_eq!((other.mask(), other.params().as_slice()), (before.mask(), before.params().as_slice()));
}

/// A second run by the same trainer knows nothing of the first one's mask.
#[test]
fn a_trainer_forgets_the_mask_of_the_run_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let make = || plain(folder.path()).epochs(4).batch_size(BATCH).run_file(&path);
    let gradual = || GradualPruning::new(0.5).from_epoch(3).until_epoch(3);
    let stop = Arc::new(AtomicBool::new(false));
    let mut trainer = make().callback(gradual()).stop_on(Arc::clone(&stop));
    trainer.fit(&mut model(), &data(SAMPLES), None).unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut second = model();
    trainer.fit(&mut second, &data(SAMPLES), None).unwrap();
    assert_eq!(second.mask(), None);
    let masks = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&masks);
    let mut resumed = make().callback(Masks(seen)).callback(gradual()).resume(true);
    resumed.fit(&mut model(), &data(SAMPLES), None).unwrap();
    assert_eq!(*masks.lock().unwrap(), [false, false, true], "after epochs 2, 3 (before pruning) and 4");
}

/// Whether the model is pruned, epoch by epoch.
struct Masks(Arc<Mutex<Vec<bool>>>);

impl Callback<f32> for Masks {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        self.0.lock().unwrap().push(end.model.mask().is_some());
        Ok(Flow::Continue)
    }
}

/// Each part of the data by which a run is known, changed alone.
#[test]
fn other_data_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = || plain(folder.path()).epochs(2).run_file(folder.path().join("run")).resume(true);
    let x = Array3::from_shape_fn((20, 4, 3), |(i, t, f)| ((i * 5 + t * 3 + f) % 7) as f32);
    let y = Array1::from_shape_fn(20, |i| i % 2);
    let arrays =
        |x: &Array3<f32>, y: &Array1<usize>, names: [&str; 2]| Arrays::classes(x.clone(), y, names).unwrap();
    let data = arrays(&x, &y, ["less", "more"]);
    trainer().epochs(1).fit(&mut model(), &data, Some(&data)).unwrap();
    let fault = |train: &Arrays, valid: &Arrays| {
        let mut trainer = trainer();
        trainer.fit(&mut model(), train, Some(valid)).unwrap_err().to_string()
    };
    let other_x = arrays(&x.mapv(|x| if x == 6.0 { 6.5 } else { x }), &y, ["less", "more"]);
    assert!(fault(&other_x, &data).contains("settings: `training data`: `inputs`: found "));
    let other_y = arrays(&x, &y.mapv(|y| 1 - y), ["less", "more"]);
    assert!(fault(&data, &other_y).contains("settings: `validation data`: `targets`: found "));
    let names = fault(&arrays(&x, &y, ["more", "less"]), &data);
    assert!(names.contains(r#"`class names`: found ["less","more"], expected ["more","less"]"#), "{names}");

    // Whoever knows may go on.
    let mut known = trainer().changed(["training data", "validation data"]);
    assert_eq!(known.fit(&mut model(), &other_x, Some(&other_y)).unwrap().epochs.len(), 2);
}

#[test]
fn settings_may_change_on_purpose() {
    let folder = tempfile::tempdir().unwrap();
    let make = |lr| {
        let trainer = Trainer::new(CrossEntropy::default(), Adam::new(lr)).epochs(3).batch_size(BATCH);
        trainer.run_file(folder.path().join("run")).resume(true)
    };
    let fit = |trainer: Trainer| { trainer }.fit(&mut model(), &data(SAMPLES), None);
    fit(make(0.01).epochs(1)).unwrap();
    let fault = |trainer: Trainer| fit(trainer).unwrap_err().to_string();
    assert!(fault(make(0.02).changed(["batch_size"])).contains("`optimizer`: `config`: `lr`: found 0.01"));
    assert!(
        fault(make(0.02).changed(["rate"])).starts_with("`changed`: found `rate`, expected one of batch_")
    );
    let history = fit(make(0.02).epochs(2).changed(["optimizer"])).unwrap();
    assert_eq!(history.epochs.iter().map(|epoch| epoch.lr).collect::<Vec<_>>(), [0.01, 0.02]);
    // Another batch size, from an epoch's end.
    let history = fit(make(0.02).epochs(3).batch_size(30).changed(["batch_size"])).unwrap();
    assert_eq!(history.epochs.len(), 3);
    // But not within an epoch, which has other steps then.
    let mut stopped = make(0.02).resume(false).run_file_every(1).callback(PanicAt(STEPS + 2));
    let run = || drop(stopped.fit(&mut model(), &data(SAMPLES), None));
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    let within = fault(make(0.02).batch_size(30).changed(["batch_size"]));
    assert!(within.contains("found a run within epoch 2") && within.contains("batch_size"), "{within}");
    fit(make(0.02)).unwrap();
}

#[test]
fn settings_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let message = |trainer: Trainer| fit(&mut { trainer }, folder.path()).unwrap_err().to_string();
    let file = "found no file, expected one by `run_file`";
    assert_eq!(message(setup(plain, folder.path()).resume(true)), format!("`resume`: {file}"));
    let every = setup(plain, folder.path()).run_file_every(3);
    assert_eq!(message(every), format!("`run_file_every`: {file}"));
    let zero = with_file(plain, &folder, 1).run_file_every(0);
    assert_eq!(message(zero), "`run_file_every`: found 0, expected at least 1");
    let nowhere = setup(plain, folder.path()).run_file(folder.path().join("none/run.ckpt"));
    assert!(message(nowhere).contains("run.ckpt"));
}
