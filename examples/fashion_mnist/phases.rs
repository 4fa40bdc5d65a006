//! The phases of a run: training, pruning, retraining; and what is reported of each.

use std::fmt::{self, Display};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bptt::Model;
use bptt::data::{Dataset, FashionMnist};
use bptt::metrics::ConfusionMatrix;
use bptt::plot;
use bptt::train::{Callback, CallbackState, Checkpoint, Epoch, Flow, History, ProgressBar, RecordDynamics};
use serde_json::{Value, json};

use super::models::Layers;
use super::program::{self, End, Folder};
use super::recipe::{Cell, Phase, Recipe};
use super::shrink::Sizes;
use super::{Args, Named, Ranks, Threshold, paper};

/// The official training images.
const OFFICIAL: usize = 60_000;

pub type Data<'a> = &'a dyn Dataset<Elem = f32>;

/// What the phases share.
pub struct Phases<'a> {
    pub args: &'a Args,
    pub folder: &'a Folder,
    pub recipe: &'a Recipe,
    pub stop: Arc<AtomicBool>,
    pub ranks: &'a Ranks<'a>,
}

/// The data of the phases.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    pub train: Data<'a>,
    pub valid: Option<Data<'a>>,
}

impl Phases<'_> {
    /// The file of the model, which exists after the first epoch.
    pub fn saved(&self) -> PathBuf {
        self.folder.path().join("model.safetensors")
    }

    /// The file from which a phase is resumed, which exists after its first epoch.
    pub fn checkpoint(&self, phase: Phase) -> PathBuf {
        self.folder.path().join(match phase {
            Phase::Train => "train.ckpt",
            Phase::Retrain => "retrain.ckpt",
        })
    }

    /// Trains, or resumes the phase if `--resume` is set; `None` if it was stopped.
    pub fn fit(&self, phase: Phase, model: &mut Model, images: Images<'_>) -> bptt::Result<Option<History>> {
        let Self { args, recipe, .. } = self;
        let mut trainer = recipe
            .trainer(phase, args.seed)
            .stop_on(self.stop.clone())
            .resume(args.resume)
            .run_file(self.checkpoint(phase))
            .callback(Checkpoint::new(self.saved()))
            .callback(ProgressBar::new());
        let (retrained, first) = (self.checkpoint(Phase::Retrain), self.ranks.first());
        trainer = match phase {
            // After another epoch of training, the model that was retrained is a different one.
            Phase::Train => trainer.callback(move |_: &Epoch| {
                if first {
                    let _ = fs::remove_file(&retrained);
                }
                Flow::Continue
            }),
            Phase::Retrain => trainer.callback(args.prune()),
        };
        if let Some(threads) = args.threads {
            trainer = trainer.threads(threads);
        }
        let recorder = RecordDynamics::new().file(self.folder.path().join("dynamics.safetensors"));
        let recorded = args.dynamics && phase == Phase::Train;
        if recorded {
            trainer = trainer.callback(recorder.clone());
        }
        trainer = (self.ranks.join)(trainer);
        let history = recipe.fit(trainer, model, images.train, images.valid)?;
        if recorded {
            self.ranks.say(format!("\n{}", recorder.dynamics().report(10)?));
        }
        Ok((!self.stop.load(Ordering::Relaxed)).then_some(history))
    }

    /// The end of a run that was stopped, with a message at the first rank.
    pub fn stopped(&self) -> End {
        if !self.ranks.first() {
            return End::Stopped(String::new());
        }
        let phases = [Phase::Retrain, Phase::Train].map(|phase| self.checkpoint(phase));
        let checkpoint = phases.iter().find(|path| path.exists()).unwrap_or(&phases[1]);
        End::Stopped(format!(
            "stopped: the model of the last whole epoch is in {}, the state of the run in {}; the same command with \
             --resume continues from there",
            self.saved().display(),
            checkpoint.display(),
        ))
    }
}

/// Has the checkpoint of the retraining say where its model was pruned.
impl Callback<f32> for Threshold {
    fn save_state(&self) -> Option<CallbackState> {
        Some(CallbackState { json: json!(self.0), values: Vec::new() })
    }

    fn load_state(&mut self, state: CallbackState, _: &mut Model) -> bptt::Result<()> {
        if state.json == json!(self.0) {
            return Ok(());
        }
        Err(bptt::Error::config("prune", format!("found {}, expected {}", state.json, json!(self.0))))
    }
}

/// The results of the phases.
pub struct Report<'a> {
    args: &'a Args,
    recipe: &'a Recipe,
    test: Data<'a>,
    phases: Vec<Outcome>,
}

/// A phase's epochs, and its model on the test images.
struct Outcome {
    name: &'static str,
    epochs: Vec<Epoch>,
    confusion: ConfusionMatrix,
    /// The share of all parameters that are pruned.
    sparsity: f64,
}

/// A figure of the paper's, in percent.
struct Known {
    accuracy: f64,
    precision: Option<f64>,
    place: &'static str,
}

impl<'a> Report<'a> {
    pub fn new(args: &'a Args, recipe: &'a Recipe, test: Data<'a>) -> Self {
        Self { args, recipe, test, phases: Vec::new() }
    }

    /// The test images.
    pub fn test(&self) -> Data<'a> {
        self.test
    }

    /// Adds a phase, and evaluates its model on the test images, which is their only use.
    pub fn add(&mut self, name: &'static str, history: Option<&History>, model: &Model) -> bptt::Result<()> {
        let confusion = model.evaluate(self.test)?.confusion().cloned().expect("the targets are classes");
        let epochs = history.map(|history| history.epochs.clone()).unwrap_or_default();
        self.phases.push(Outcome { name, epochs, confusion, sparsity: model.sparsity().share() });
        Ok(())
    }

    /// Writes `report.html`, about the model that came out, and `metrics.json`.
    pub fn write(&self, folder: &Folder, sizes: &Sizes, model: &Model) -> program::Result<()> {
        let epochs = self.epochs().zip(1..).map(|(epoch, number)| Epoch { epoch: number, ..*epoch });
        let mut page = plot::Report::new(&History { epochs: epochs.collect() })
            .title("Fashion-MNIST, on the test images")
            .model(model);
        if let Some(epochs) = self.pruned_after() {
            page = page.mark(epochs, "pruned");
        }
        if let Some(Outcome { confusion, .. }) = self.phases.last() {
            page = page.confusion(&confusion.clone().with_names(FashionMnist::CLASSES)?);
        }
        page.save(folder.path().join("report.html"))?;
        // Settings that no flag gives have the recipe's values.
        let (mut config, recipe) = (json!(self.args), json!(self.recipe));
        for name in ["batch_size", "epochs", "lr", "retrain_epochs"] {
            config[name] = recipe[name].clone();
        }
        (config["prune"], config["recipe"]) = (json!(self.args.prune()), json!(self.args.named()));
        config["samples"] = json!(self.args.samples(OFFICIAL)?);
        // Names of folders need not be UTF-8, which JSON is.
        config["data"] = json!(self.args.data.as_ref().map(|path| path.display().to_string()));
        config["out"] = json!(self.args.out.display().to_string());
        let metrics = json!({
            "config": config,
            "recipe": recipe,
            "phases": self.phases.iter().map(|phase| self.json(phase)).collect::<Vec<_>>(),
            "sizes": sizes.json(),
        });
        Ok(folder.write("metrics.json", &(serde_json::to_string_pretty(&metrics)? + "\n"))?)
    }

    /// How many epochs there were before pruning, if the model was pruned.
    fn pruned_after(&self) -> Option<usize> {
        self.phases.iter().any(|phase| phase.name == "prune").then(|| self.phases[0].epochs.len())
    }

    fn epochs(&self) -> impl Iterator<Item = &Epoch> {
        self.phases.iter().flat_map(|phase| &phase.epochs)
    }

    fn json(&self, phase: &Outcome) -> Value {
        let epochs = phase.epochs.iter().map(|epoch| {
            json!({
                "epoch": epoch.epoch,
                "train_loss": epoch.train.loss,
                "train_accuracy": epoch.train.accuracy,
                "valid_loss": epoch.valid.and_then(|valid| valid.loss),
                "valid_accuracy": epoch.valid.and_then(|valid| valid.accuracy),
                "seconds": epoch.seconds,
            })
        });
        let mut json = json!({
            "name": phase.name,
            "test": {
                "accuracy": phase.confusion.accuracy(),
                "precision_macro": phase.confusion.precision_macro(),
                "confusion": phase.confusion.rows(),
            },
        });
        if phase.name == "prune" {
            json["threshold"] = json!(self.args.prune());
            json["sparsity"] = json!(phase.sparsity);
        } else {
            json["epochs"] = epochs.collect();
        }
        json
    }

    /// The paper's figures for the model of a phase.
    fn paper(&self, phase: &str) -> Option<Known> {
        let Args { model, cell, hidden, layers, .. } = *self.args;
        let Threshold(threshold) = self.args.prune();
        let samples = self.args.samples(OFFICIAL).ok()?;
        let table_2 = paper::TABLE_2.into_iter().find(|row| row.0 == samples);
        let table_3 = paper::TABLE_3.into_iter().find(|row| Some(row.0) == threshold);
        let known = |accuracy, place| Some(Known { accuracy, precision: None, place });
        match (cell, layers, phase) {
            _ if phase.starts_with("shrink") || model != Layers::Recurrent => None,
            _ if hidden != 35 || (phase != "train" && samples != 48_000) => None,
            (Cell::Rnn, 2, "train") => known(paper::RNN, "before tuning"),
            (Cell::Lstm, 2, "train") => known(table_2?.1, "Table 2"),
            (Cell::Lstm, 2, "prune") => known(table_3?.1, "Table 3"),
            (Cell::Lstm, 2, _) if threshold == Some(0.03) => {
                let (accuracy, precision) = paper::FINAL;
                Some(Known { accuracy, precision: Some(precision), place: "final model; 88.46 % in Table 3" })
            }
            (Cell::Lstm, 2, _) => known(table_3?.2, "Table 3"),
            (Cell::Lstm, 4, "retrain") => {
                let (accuracy, precision) = paper::FOUR_LAYERS;
                Some(Known { accuracy, precision: Some(precision), place: "four layers" })
            }
            _ => None,
        }
    }
}

/// The last model's confusion matrix, and all models beside the paper's figures.
impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.phases.last() else { return Ok(()) };
        writeln!(f, "\n{}\n\n{}\n", last.confusion, last.confusion.report())?;
        writeln!(f, "on the test images  accuracy  the paper's  precision  the paper's     zeros")?;
        for Outcome { name, confusion, sparsity, .. } in &self.phases {
            let known = self.paper(name);
            let percent = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2} %"));
            let model = match *name {
                "train" => "trained",
                "prune" => "pruned",
                "shrink" => "shrunk",
                "shrink, retrain" => "shrunk, retrained",
                _ => "pruned, retrained",
            };
            let place = known.as_ref().map_or(String::new(), |known| format!("   ({})", known.place));
            writeln!(
                f,
                "{model:18}  {:>8}  {:>11}  {:>9}  {:>11}  {:>8}{place}",
                percent(Some(100.0 * confusion.accuracy())),
                percent(known.as_ref().map(|known| known.accuracy)),
                percent(Some(100.0 * confusion.precision_macro())),
                percent(known.and_then(|known| known.precision)),
                percent(Some(100.0 * sparsity)),
            )?;
        }
        let (accuracy, out) = (100.0 * last.confusion.accuracy(), self.args.out.display());
        write!(f, "\ntest accuracy {accuracy:.2} %")?;
        if self.args.recipe == Some(Named::Fast) {
            let seconds: f64 = self.epochs().map(|epoch| epoch.seconds).sum();
            write!(f, " after {seconds:.2} s of training")?;
        }
        write!(f, "; all of it in {out}")
    }
}
