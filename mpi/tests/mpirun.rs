//! Ranks as processes: this program starts itself under `mpirun`, and compares what comes of it with one process.

#[path = "../../tests/common/spoiled.rs"]
mod spoiled;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bptt::data::{Arrays, Dataset};
use bptt::ndarray::{Array1, Array3};
use bptt::nn::BatchNorm;
use bptt::optim::Optimizer;
use bptt::prelude::*;
use bptt::prune::Magnitude;
use bptt::train::schedule::OneCycle;
use bptt::train::{Callback, Checkpoint, Clip, Epoch, EpochEnd, Flow};
use bptt::tune::Study;
use bptt::{Error, Init, Real, rng};
use bptt_mpi::Mpi;
use spoiled::Spoiled;

/// No start of a few small processes takes as long.
const LIMIT: Duration = Duration::from_secs(60);
const EPOCHS: usize = 6;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--rank") => bptt_mpi::main(|mpi| at_rank(mpi, &args[1], Path::new(&args[2]))),
        // Flags of `cargo test` are for others.
        _ => drive(),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a rank does.

/// Something that happens at the end of an epoch.
struct After(usize, fn());

impl Callback<f32> for After {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> bptt::Result<Flow> {
        if end.epoch.epoch == self.0 {
            (self.1)();
        }
        Ok(Flow::Continue)
    }
}

fn data<R: Real>(n: usize) -> Arrays<R> {
    let mut values = vec![R::ZERO; n * 5 * 3];
    Init::Uniform(1.0).fill(&mut values, rng::key(&[n as u64]));
    let x = Array3::from_shape_vec((n, 5, 3), values).expect("as many values");
    let y = Array1::from_shape_fn(n, |i| usize::from(x[[i, 0, 0]] > x[[i, 1, 1]]));
    Arrays::classes(x, &y, ["less", "more"]).expect("two classes")
}

/// A model with a normalisation over the batch of all ranks, dropout and a mask.
fn model<R: Real>() -> bptt::Result<Model<R>> {
    let mut model = Model::builder(data::<R>(1).shape())
        .layer("lstm", Lstm::new(6).layers(2).dropout(0.2).last())
        .layer("norm", BatchNorm::new())
        .layer("dropout", Dropout::new(0.3))
        .layer("linear", Linear::new(2))
        .build(1)?;
    model.prune(Magnitude::below(0.05))?;
    Ok(model)
}

/// Clipping, a schedule, averages, early stopping. Batches of 40 in tiles of 2 are 20 tiles in 16 slots; the last has 13
/// samples, so that some ranks have none.
fn trainer<R: Real>() -> Trainer<R>
where
    Adam: Optimizer<R>,
{
    Trainer::new(CrossEntropy::default(), Adam::new(0.03))
        .epochs(EPOCHS)
        .batch_size(40)
        .tile(2)
        .threads(1)
        .clip(Clip::Norm(0.3))
        .ema(0.8)
        .schedule(OneCycle::new(0.03))
        .callback(EarlyStopping::new(2))
}

/// Trains, and writes the model and the history without its times.
fn train<R: Real>(mut trainer: Trainer<R>, rank: usize, out: &Path) -> Result {
    let mut model = model::<R>()?;
    let history = trainer.fit(&mut model, &data::<R>(93), Some(&data::<R>(41)))?;
    let rows = history.epochs.iter().map(|epoch| format!("{:?}\n", Epoch { seconds: 0.0, ..*epoch }));
    fs::write(out.join(format!("history.{rank}")), rows.collect::<String>())?;
    Ok(fs::write(out.join(format!("model.{rank}")), model.to_bytes()?)?)
}

/// A run with a file, from which it is resumed.
fn run(mpi: &Mpi, out: &Path, more: impl FnOnce(Trainer) -> Trainer) -> Result {
    let mut model = model()?;
    let trainer = trainer()
        .run_file(out.join("run"))
        .resume(true)
        .callback(Checkpoint::new(out.join("checkpoint")))
        .all_reduce(mpi.ranks());
    let history = more(trainer).fit(&mut model, &data(93), Some(&data(41)))?;
    fs::write(out.join(format!("epochs.{}", mpi.rank())), history.epochs.len().to_string())?;
    Ok(fs::write(out.join(format!("model.{}", mpi.rank())), model.to_bytes()?)?)
}

fn square(&n: &u64) -> bptt::Result<f64> {
    std::thread::sleep(Duration::from_millis(n % 3));
    if n == 5 { Err(Error::config("five", "failed")) } else { Ok((n as f64).sqrt()) }
}

fn at_rank(mpi: &Mpi, what: &str, out: &Path) -> Result<ExitCode> {
    let second = mpi.rank() == 1;
    match what {
        "f32" => train(trainer::<f32>().all_reduce(mpi.ranks()), mpi.rank(), out)?,
        "f64" => train(trainer::<f64>().all_reduce(mpi.ranks()), mpi.rank(), out)?,
        "run" => run(mpi, out, |trainer| trainer)?,
        "error" => {
            let train = Spoiled::new(data(93), second);
            trainer().all_reduce(mpi.ranks()).fit(&mut model()?, &train, None)?;
        }
        "early" if second => return Err("found no data here".into()),
        "early" => run(mpi, out, |trainer| trainer)?,
        "panic" => run(mpi, out, |trainer| match second {
            true => trainer.callback(After(2, || panic!("as arranged"))),
            false => trainer,
        })?,
        "killed" => run(mpi, out, |trainer| match second {
            true => trainer.callback(After(2, kill_myself)),
            false => trainer,
        })?,
        "stop" => {
            let flag = Arc::new(AtomicBool::new(false));
            let own = Arc::clone(&flag);
            let set = move |epoch: &Epoch| {
                own.store(second && epoch.epoch == 2, Ordering::Relaxed);
                Flow::Continue
            };
            run(mpi, out, |trainer| trainer.callback(set).stop_on(flag))?;
        }
        "endless" => {
            let trainer: Trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(1_000_000);
            let mut trainer = trainer.run_file(out.join("run")).all_reduce(mpi.ranks());
            trainer.fit(&mut model()?, &data(93), None)?;
        }
        "study" => {
            let table = mpi.study(Study::new().file(out.join("study.jsonl")), 0..24, square)?;
            if let Some(table) = table {
                fs::write(out.join("table"), results(&table))?;
            }
        }
        other => return Err(format!("found no test {other}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn kill_myself() {
    let id = std::process::id().to_string();
    Command::new("kill").args(["-KILL", &id]).status().expect("kill is a program");
    std::thread::sleep(LIMIT);
}

fn results(table: &bptt::tune::Table<u64, f64>) -> String {
    table.rows().iter().map(|row| format!("{} {:?}\n", row.config, row.result)).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// What is compared.

/// How ranks ended, and what they printed.
struct Ended {
    success: bool,
    printed: String,
}

/// Starts ranks: more of them than there are cores, unbound, also as root. Only Open MPI reads these variables.
fn mpirun() -> Command {
    let mut command = Command::new(std::env::var_os("MPIRUN").unwrap_or("mpirun".into()));
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .env("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
        .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
        .env("PRTE_MCA_hwloc_default_binding_policy", "none");
    command
}

fn this() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

fn start(ranks: usize, what: &str, out: &Path) -> Result<Child> {
    let mut command = mpirun();
    command.args(["-n", &ranks.to_string()]).arg(this()?).args(["--rank", what]).arg(out);
    launch(command, out)
}

/// With its output in a file, which no one has to read while it runs.
fn launch(mut command: Command, out: &Path) -> Result<Child> {
    let printed = fs::File::create(out.join("printed"))?;
    Ok(command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed).spawn()?)
}

fn wait(mut child: Child, out: &Path) -> Result<Ended> {
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            let printed = fs::read_to_string(out.join("printed"))?;
            return Err(format!("did not end within {LIMIT:?}, and printed: {printed}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok(Ended { success: status.success(), printed: fs::read_to_string(out.join("printed"))? })
}

fn ranks(number: usize, what: &str, out: &Path) -> Result<Ended> {
    wait(start(number, what, out)?, out)
}

fn check(holds: bool, otherwise: impl Into<String>) -> Result {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

/// Whether ranks succeeded.
fn succeeded(ended: &Ended) -> Result {
    check(ended.success, format!("ended with an error: {}", ended.printed))
}

/// Whether they failed, and named the cause.
fn failed(ended: &Ended, causes: &[&str]) -> Result {
    let named = causes.iter().all(|cause| ended.printed.contains(cause));
    check(!ended.success && named, format!("expected an end with {causes:?}: {}", ended.printed))
}

fn same(a: &Path, b: &Path) -> Result {
    check(fs::read(a)? == fs::read(b)?, format!("{} and {} differ", a.display(), b.display()))
}

/// Whether every rank has the model and the history of one process.
fn as_one(number: usize, out: &Path, one: &Path) -> Result {
    (0..number).try_for_each(|rank| {
        same(&out.join(format!("model.{rank}")), &one.join("model.0"))?;
        let history = out.join(format!("history.{rank}"));
        if history.exists() { same(&history, &one.join("history.0")) } else { Ok(()) }
    })
}

fn same_bits(number: usize, what: &str, out: &Path, one: &Path) -> Result {
    succeeded(&ranks(number, what, out)?)?;
    as_one(number, out, one)
}

/// Each rank on another instruction set.
fn mixed(out: &Path, one: &Path) -> Result {
    let mut command = mpirun();
    for (i, level) in ["portable", "", "portable"].into_iter().enumerate() {
        command.args((i > 0).then_some(":")).args(["-n", "1"]);
        if !level.is_empty() {
            command.args(["env", &format!("BPTT_SIMD={level}")]);
        }
        command.arg(this()?).args(["--rank", "f32"]).arg(out);
    }
    succeeded(&wait(launch(command, out)?, out)?)?;
    as_one(3, out, one)
}

/// What a run that was cut short left is resumed at another number of ranks.
fn resumed(number: usize, out: &Path, one: &Path) -> Result {
    check(out.join("run").exists(), "found no file of the run")?;
    same_bits(number, "run", out, one)
}

fn stopped(out: &Path, one: &Path) -> Result {
    succeeded(&ranks(3, "stop", out)?)?;
    let epochs = |rank: usize| fs::read_to_string(out.join(format!("epochs.{rank}")));
    check((epochs(0)?, epochs(1)?, epochs(2)?) == ("2".into(), "2".into(), "2".into()), "not after epoch 2")?;
    resumed(2, out, one)
}

/// Ctrl-C, of which `mpirun` tells the ranks by a signal that ends them. Its own status is not ours: MPICH's is 0 when the signal
/// comes early.
fn interrupted(out: &Path) -> Result {
    let child = start(2, "endless", out)?;
    let start = Instant::now();
    while !out.join("run").exists() && start.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    let begun = out.join("run").exists();
    wait(child, out)?;
    check(begun, "the run did not begin")
}

fn study(number: usize, out: &Path) -> Result {
    let alone = Study::new().workers(1).run(0..24, square)?;
    succeeded(&ranks(number, "study", out)?)?;
    check(fs::read_to_string(out.join("table"))? == results(&alone), "another table")?;
    let lines = fs::read_to_string(out.join("study.jsonl"))?.lines().count();
    check(lines == 1 + 23, format!("{lines} lines, expected the header and the runs that succeeded"))
}

fn drive() -> ExitCode {
    let (mut passed, mut failures) = (0, 0);
    let folder = tempfile::tempdir().expect("a folder");
    let one = |what: &str| folder.path().join(format!("one {what}"));
    for what in ["f32", "f64"] {
        fs::create_dir(one(what)).expect("a folder");
    }
    train(trainer::<f32>(), 0, &one("f32")).expect("a run without MPI");
    train(trainer::<f64>(), 0, &one("f64")).expect("a run without MPI");

    let mut test = |name: String, test: &dyn Fn(&Path) -> Result| {
        let (out, start) = (folder.path().join(&name), Instant::now());
        let result = fs::create_dir(&out).map_err(Into::into).and_then(|()| test(&out));
        let outcome = match result {
            Ok(()) => {
                passed += 1;
                "ok".to_owned()
            }
            Err(fault) => {
                failures += 1;
                format!("FAILED: {fault}")
            }
        };
        println!("test {name} ... {outcome} ({:.1} s)", start.elapsed().as_secs_f64());
    };
    let f32 = one("f32");
    for n in 1..=4 {
        test(format!("the bits of one process in f32, {n} ranks"), &|out| same_bits(n, "f32", out, &f32));
    }
    for n in [2, 3] {
        test(format!("the bits of one process in f64, {n} ranks"), &|out| {
            same_bits(n, "f64", out, &one("f64"))
        });
    }
    test("the bits of one process on mixed instruction sets".into(), &|out| mixed(out, &f32));
    test("an error in a step at one rank ends all".into(), &|out| {
        failed(&ranks(3, "error", out)?, &["rank 1: error: ", "found 99", "found a failure at rank 1"])
    });
    test("an error before the run at one rank ends all".into(), &|out| {
        failed(&ranks(2, "early", out)?, &["rank 1: error: found no data here"])
    });
    test("a panic at one rank ends all".into(), &|out| failed(&ranks(3, "panic", out)?, &["as arranged"]));
    test("a rank that is killed ends all, and the run resumes".into(), &|out| {
        failed(&ranks(4, "killed", out)?, &[])?;
        resumed(3, out, &f32)
    });
    test("a stop at one rank stops all, and the run resumes".into(), &|out| stopped(out, &f32));
    test("Ctrl-C ends all".into(), &interrupted);
    for n in [1, 2, 4] {
        test(format!("a study shared among ranks, {n} ranks"), &|out| study(n, out));
    }
    println!("\n{passed} passed, {failures} failed");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
