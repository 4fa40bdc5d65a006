//! The example as a whole, for one process or for one of several ranks.

#[path = "../shared/fashion_mnist.rs"]
mod find;
#[path = "../shared/models.rs"]
mod models;
#[path = "../shared/paper.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
mod paper;
mod phases;
#[path = "../shared/program.rs"]
#[allow(dead_code, reason = "each example has use for some of it")]
pub mod program;
#[path = "../shared/recipe.rs"]
mod recipe;
mod shrink;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bptt::data::{Dataset, DatasetExt};
use bptt::prune::Magnitude;
use bptt::{Model, Trainer};
use clap::{Parser, ValueEnum};
use phases::{Images, Phases, Report};
use program::{End, Folder, say};
use recipe::{Cell, Network, Phase, Recipe};
use serde::Serialize;
use shrink::Sizes;

/// Train an LSTM to read Fashion-MNIST images row by row, prune it and train it again.
#[derive(Parser, Serialize)]
pub struct Args {
    /// Folder with the four official files [default: looked for, beginning with data/fashion-mnist]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    data: Option<PathBuf>,
    /// What the model is made of; those that are not recurrent layers alone have cells, sizes and a recipe of their own, and are
    /// not pruned by default
    #[arg(long, value_enum, default_value_t = models::Layers::Recurrent)]
    model: models::Layers,
    /// Recurrent cell
    #[arg(long, value_enum, default_value_t = Cell::Lstm)]
    cell: Cell,
    /// Units of each recurrent layer
    #[arg(long, value_name = "N", default_value_t = 35)]
    hidden: usize,
    /// Recurrent layers
    #[arg(long, value_name = "N", default_value_t = 2)]
    layers: usize,
    /// How the model is trained, unless other flags say otherwise [default: the model's own; that of recurrent layers is the
    /// paper's]
    #[arg(long, value_enum)]
    recipe: Option<Named>,
    /// How often each image is seen before pruning [default: the recipe's; the paper's is 20]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// How often each image is seen after pruning; 0 for no retraining [default: the recipe's; the paper's is 20]
    #[arg(long, value_name = "N")]
    retrain_epochs: Option<usize>,
    /// Images per step [default: the recipe's; the paper's is 64]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Learning rate [default: the recipe's; the paper's is 0.001]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Training images, of the official 60,000; the others are for validation [default: the model's; that of recurrent
    /// layers is 48,000]
    #[arg(long, alias = "patterns", value_name = "N", conflicts_with = "fraction")] // the paper's word
    samples: Option<usize>,
    /// The same as a share of the 60,000, above 0 and at most 1
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    fraction: Option<f64>,
    /// Weights with a smaller magnitude are pruned; `none` prunes nothing [default: 0.03 for recurrent layers, none for others and
    /// by the fast recipe]
    #[arg(long, value_name = "THRESHOLD", value_parser = threshold, allow_negative_numbers = true)]
    prune: Option<Threshold>,
    /// Instead, cuts the units that matter least until at most this share of the weights is left, above 0 and below 1, and trains
    /// the smaller model again, beside one of its size from scratch
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    shrink: Option<f64>,
    /// Also record what the model made of each training image in each epoch, in dynamics.safetensors, and list the hardest
    /// images, the most forgotten and those that probably have a wrong class, by their places among the training images
    #[arg(long)]
    #[serde(skip)]
    dynamics: bool,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads; they change the time, not the result [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder for the model, report.html and metrics.json
    #[arg(long, value_name = "DIR", default_value = "target/fashion_mnist")]
    #[serde(skip)]
    out: PathBuf,
    /// Resume an interrupted run, with the same settings and in the same folder
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    /// The paper's
    Paper,
    /// One chosen on validation images: a cycle of the rate, decoupled decay, mirrored images
    Tuned,
    /// One chosen on validation images for little time: twelve epochs of Muon, most of which draw only the harder half of the
    /// images, without pruning
    Fast,
}

/// Where to prune, if at all. (clap uses `Option` for a flag that may be left out.)
#[derive(Clone, Copy, Serialize)]
struct Threshold(Option<f64>);

fn threshold(text: &str) -> Result<Threshold, String> {
    if text == "none" {
        return Ok(Threshold(None));
    }
    let number = text.parse().ok().filter(|number| (0.0..f64::INFINITY).contains(number));
    number.map(|n| Threshold(Some(n))).ok_or_else(|| "expected a number of at least 0, or none".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share) && *share > 0.0);
    share.ok_or_else(|| "expected a number above 0 and below 1".into())
}

impl Args {
    fn network(&self) -> Network {
        Network { cell: self.cell, hidden: self.hidden, layers: self.layers }
    }

    /// The recipe's name; `None` for the model's own.
    fn named(&self) -> Option<Named> {
        let default = (self.model == models::Layers::Recurrent).then_some(Named::Paper);
        self.recipe.or(default)
    }

    fn recipe(&self) -> Recipe {
        let named = match (self.named(), self.model.recipe()) {
            (None, Some((own, _))) => own,
            (None | Some(Named::Paper), _) => Recipe::paper(),
            (Some(Named::Tuned), _) => Recipe::tuned_for(self.layers),
            (Some(Named::Fast), _) => Recipe::fast(),
        };
        Recipe {
            epochs: self.epochs.unwrap_or(named.epochs),
            retrain_epochs: self.retrain_epochs.unwrap_or(named.retrain_epochs),
            batch_size: self.batch_size.unwrap_or(named.batch_size),
            lr: self.lr.unwrap_or(named.lr),
            ..named
        }
    }

    /// Where to prune, if at all.
    fn prune(&self) -> Threshold {
        let prunes = self.model == models::Layers::Recurrent && self.recipe != Some(Named::Fast);
        let default = Threshold(prunes.then_some(0.03));
        self.prune.unwrap_or(default)
    }

    /// The number of training images, of so many official ones.
    fn samples(&self, official: usize) -> Result<usize, String> {
        let samples = match self.fraction {
            Some(share) if share > 0.0 && share <= 1.0 => (share * official as f64).round() as usize,
            Some(share) => {
                return Err(format!("--fraction: found {share}, expected a number above 0 and at most 1"));
            }
            None => self.samples.unwrap_or(self.model.recipe().map_or(48_000, |(_, samples)| samples)),
        };
        if !(1..=official).contains(&samples) {
            return Err(format!("--samples: found {samples}, expected 1 to {official}"));
        }
        Ok(samples)
    }
}

/// The ranks among which a run is divided, or the one process that does all of it.
pub struct Ranks<'a> {
    /// The number of this one; only the first prints and writes.
    pub rank: usize,
    /// Makes the run of a trainer one of all ranks.
    pub join: Box<dyn Fn(Trainer) -> Trainer + 'a>,
}

impl Ranks<'_> {
    pub fn one() -> Self {
        Self { rank: 0, join: Box::new(|trainer| trainer) }
    }

    fn first(&self) -> bool {
        self.rank == 0
    }

    fn say(&self, line: impl Display) {
        if self.first() {
            say(line);
        }
    }
}

/// The flag by which Ctrl-C ends a run after its epoch.
pub fn stop() -> program::Result<Arc<AtomicBool>> {
    program::stop_on_ctrl_c("ending after this epoch")
}

/// All phases; none after one in which `stop` was set.
pub fn run(args: &Args, stop: Arc<AtomicBool>, ranks: &Ranks<'_>) -> program::Result<End> {
    let data = find::find(args.data.as_deref())?;
    let official = data.train().len();
    let samples = args.samples(official)?;
    let folder = if ranks.first() { Folder::open(&args.out)? } else { Folder::of_another(&args.out) };
    let phases = Phases { args, folder: &folder, recipe: &args.recipe(), stop, ranks };
    if args.resume && !phases.checkpoint(Phase::Train).exists() {
        let found = phases.checkpoint(Phase::Train);
        return Err(
            format!("--resume: found no {}, expected the folder of an earlier run", found.display()).into()
        );
    }
    let (train, valid) = if samples == official {
        (data.train().first(official)?, None)
    } else {
        let (train, valid) = data.train().hold_out(official - samples, args.seed)?;
        (train, Some(valid))
    };

    let mut model = args.model.build(phases.recipe, (&args.network(), args.seed), &train)?;
    ranks.say(format!("{model}\n"));
    match &valid {
        Some(valid) => {
            ranks.say(format!("training on {} images, validating on {}", train.len(), valid.len()))
        }
        None => ranks.say(format!("training on all {} images: none are left for validation", train.len())),
    }
    let images = Images { train: &train, valid: valid.as_ref().map(|valid| valid as _) };
    let mut report = Report::new(args, phases.recipe, data.test());

    let Some(history) = phases.fit(Phase::Train, &mut model, images)? else { return Ok(phases.stopped()) };
    report.add("train", Some(&history), &model)?;
    let Some(sizes) = prune(&phases, &mut model, images, &mut report)? else { return Ok(phases.stopped()) };
    if ranks.first() {
        model.save(phases.saved())?;
        report.write(&folder, &sizes, &model)?;
        say(report);
        if args.shrink.is_some() {
            say(sizes);
        }
    }
    Ok(End::Finished)
}

/// Prunes or shrinks the model, if it is to be, and trains it again. Returns the models that a smaller one is compared with, or
/// `None` if the training was stopped.
fn prune(
    phases: &Phases<'_>,
    model: &mut Model,
    images: Images<'_>,
    report: &mut Report<'_>,
) -> bptt::Result<Option<Sizes>> {
    if let Some(share) = phases.args.shrink {
        return shrink::shrink(phases, model, images, report, share);
    }
    let Threshold(Some(threshold)) = phases.args.prune() else { return Ok(Some(Sizes::default())) };
    let sparsity = model.prune(Magnitude::below(threshold))?;
    phases.ranks.say(format!("\npruned at {threshold}\n{sparsity}\n"));
    report.add("prune", None, model)?;
    if phases.recipe.retrain_epochs > 0 {
        let Some(history) = phases.fit(Phase::Retrain, model, images)? else { return Ok(None) };
        report.add("retrain", Some(&history), model)?;
    }
    Ok(Some(Sizes::default()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn go(out: &Path, stop: bool, flags: &str) -> Result<End, String> {
        let fixed = "fashion_mnist --samples 300 --hidden 4 --threads 2 --out";
        let args = fixed.split(' ').map(Into::into).chain([out.as_os_str().to_owned()]);
        let args = Args::try_parse_from(args.chain(flags.split_whitespace().map(Into::into)));
        let args = args.map_err(|e| e.to_string())?;
        run(&args, Arc::new(AtomicBool::new(stop)), &Ranks::one()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_was_cut_short_in_either_phase_goes_on_to_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
        assert_eq!(go(&whole, false, "--epochs 2 --retrain-epochs 2"), Ok(End::Finished));

        let fault = go(&cut, false, "--resume --epochs 2").unwrap_err();
        assert!(fault.starts_with("--resume: found no ") && fault.contains("train.ckpt"), "{fault}");
        let End::Stopped(saved) = go(&cut, true, "--epochs 2").unwrap() else { panic!("expected a stop") };
        for part in ["stopped", "model.safetensors", "train.ckpt", "--resume"] {
            assert!(saved.contains(part), "{saved}");
        }
        assert!(!cut.join("metrics.json").exists(), "no test image is used before training is done");
        go(&cut, false, "--resume --epochs 2 --retrain-epochs 1").unwrap();
        let model = |out: &Path| fs::read(out.join("model.safetensors")).unwrap();
        assert_ne!(model(&cut), model(&whole));
        let fault = go(&cut, false, "--resume --epochs 2 --retrain-epochs 2 --prune 0.05").unwrap_err();
        assert!(fault.contains("`prune`: found 0.03, expected 0.05"), "{fault}");
        go(&cut, false, "--resume --epochs 2 --retrain-epochs 2").unwrap();
        assert_eq!(model(&cut), model(&whole));

        let metrics: serde_json::Value =
            serde_json::from_slice(&fs::read(cut.join("metrics.json")).unwrap()).unwrap();
        assert_eq!(
            (&metrics["config"]["batch_size"], &metrics["config"]["samples"]),
            (&64.into(), &300.into())
        );
        let phases = metrics["phases"].as_array().unwrap();
        assert_eq!(
            phases.iter().map(|phase| &phase["name"]).collect::<Vec<_>>(),
            ["train", "prune", "retrain"]
        );
        assert!(phases.iter().all(|phase| phase["test"]["accuracy"].is_f64()));
        assert_eq!(phases[1]["threshold"], 0.03);
        assert!(phases[1]["sparsity"].as_f64().unwrap() > 0.0);
        assert_eq!(phases[2]["epochs"].as_array().unwrap().len(), 2);

        // Another epoch of training makes another model to prune, so the retraining begins again.
        go(&whole, false, "--epochs 3 --retrain-epochs 1").unwrap();
        go(&cut, false, "--resume --epochs 3 --retrain-epochs 1").unwrap();
        assert_eq!(model(&cut), model(&whole));
    }

    #[test]
    fn a_smaller_model_is_saved() {
        let folder = tempfile::tempdir().unwrap();
        let flags = "--epochs 1 --retrain-epochs 1 --shrink 0.7";
        assert_eq!(go(folder.path(), false, flags), Ok(End::Finished));
        let bytes = fs::read(folder.path().join("metrics.json")).unwrap();
        let metrics: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let sizes = metrics["sizes"].as_array().unwrap();
        let parameters = sizes.iter().map(|row| row["parameters"].as_u64().unwrap()).collect::<Vec<_>>();
        assert!(parameters.len() == 3 && parameters[1] < parameters[0] && parameters[1] == parameters[2]);
        let small: Model = Model::load(folder.path().join("model.safetensors")).unwrap();
        assert_eq!(small.parameter_count() as u64, parameters[1]);
        assert!(go(folder.path(), false, "--shrink 1").is_err());
    }

    #[test]
    fn shares_and_thresholds() {
        let parse = |flags: &str| Args::try_parse_from(["x"].into_iter().chain(flags.split_whitespace()));
        assert_eq!(parse("").unwrap().samples(60_000), Ok(48_000));
        assert_eq!(parse("--fraction 0.2").unwrap().samples(60_000), Ok(12_000));
        for flags in ["--fraction 0", "--fraction -1", "--fraction 1.1", "--fraction nan", "--samples 0"] {
            assert!(parse(flags).unwrap().samples(60_000).is_err(), "{flags}");
        }
        assert!(parse("--fraction 0.5 --samples 9").is_err());
        assert_eq!(parse("--patterns 9").unwrap().samples(60_000), Ok(9));
        assert_eq!(parse("--prune none").unwrap().prune().0, None);
        assert_eq!(parse("").unwrap().prune().0, Some(0.03));
        assert_eq!(parse("--model conv-lstm").unwrap().prune().0, None);
        assert!(["-1", "inf", "nan", "much"].iter().all(|bad| parse(&format!("--prune {bad}")).is_err()));
        let fast = parse("--recipe fast").unwrap();
        assert_eq!((fast.prune().0, fast.recipe()), (None, Recipe::fast()));
        assert_eq!(
            parse("--recipe tuned --lr 0.1").unwrap().recipe(),
            Recipe { lr: 0.1, ..Recipe::tuned_for(2) }
        );
    }
}
