//! The runs: what each is, what is kept of it, and what it costs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bptt::data::{Dataset, DatasetExt, FashionMnist};
use bptt::metrics::ConfusionMatrix;
use bptt::prune::Magnitude;
use bptt::train::RecordDynamics;
use bptt::tune::{Finished, Study, Table};
use bptt::{Model, Trainer};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

pub use crate::choice::Way;
use crate::models::Layers;
use crate::program::{complain, say};
use crate::recipe::{Cell, Network, Phase, Recipe, is_default};

/// A model that is trained and, for each threshold, pruned and retrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Whether the weights are counted, before pruning and after.
    pub histograms: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub model: Layers,
    /// Of recurrent layers alone.
    pub network: Network,
    pub patterns: Patterns,
    /// Each prunes a clone of the trained model.
    pub prune: Vec<f64>,
    pub recipe: Recipe,
    pub seed: u64,
    /// The share of the weights that is left once units are cut from a clone of the trained model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shrink: Option<f64>,
    /// How many samples of each kind are kept that stand out in the first training.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stand_out: usize,
    /// Whether the test images are looked at; validation images are if there are any.
    pub test: bool,
}

/// What is trained on, of the official training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patterns {
    /// Whether there are as many steps as on all patterns, by more epochs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub equal_steps: bool,
    /// The first so many are there at all.
    pub pool: usize,
    /// Of the pool, chosen by `way` once `valid` are taken away.
    pub share: f64,
    /// Held out at random.
    pub valid: usize,
    pub way: Way,
}

/// What is kept of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// A model as small as the shrunk one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_scratch: Option<Small>,
    pub histograms: Vec<Histogram>,
    pub parameters: usize,
    pub pruned: Vec<Pruned>,
    /// The mean epoch's.
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<Small>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_out: Option<StandOut>,
    pub test: Option<ConfusionMatrix>,
    /// Seconds of the choice of patterns and of the first training.
    #[serde(default)]
    pub total: Option<f64>,
    /// The accuracy after each epoch, 0 to 1.
    pub valid: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    pub pruned: Option<ConfusionMatrix>,
    pub retrained: Option<ConfusionMatrix>,
    /// The share of all parameters that are 0.
    pub sparsity: f64,
    /// The accuracy on the validation images once it is retrained, 0 to 1.
    #[serde(default)]
    pub valid: Option<f64>,
}

/// A model of fewer units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Small {
    pub parameters: usize,
    /// The mean epoch's.
    pub seconds: f64,
    pub test: Option<ConfusionMatrix>,
    /// Seconds of all trainings that it took.
    pub total: f64,
}

/// Training images, by their numbers, with their scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandOut {
    pub forgotten: Vec<(u32, f64)>,
    pub hardest: Vec<(u32, f64)>,
    pub mislabelled: Vec<(u32, f64)>,
}

/// A layer's weights, counted in bins of [`BIN`] around its multiples from −1 to 1; the few beyond are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    pub after: Vec<u64>,
    pub before: Vec<u64>,
    pub layer: String,
}

pub const BIN: f64 = 0.02;
const BINS: i64 = 50;

impl Run {
    /// Does the run. All but the seconds is a function of the run alone.
    pub fn execute(&self, data: &FashionMnist) -> bptt::Result<Outcome> {
        let Self { network, recipe, seed, .. } = self;
        let pool = data.train().first(self.patterns.pool)?;
        let (train, valid) = match self.patterns.valid {
            0 => (pool.indices().to_vec(), None),
            valid => {
                let (train, valid) = pool.hold_out(valid, *seed)?;
                (train.indices().to_vec(), Some(data.train().subset(valid.indices().to_vec())?))
            }
        };
        let start = Instant::now();
        let train = self.choose(data.train(), train)?;
        let choosing = start.elapsed().as_secs_f64();
        let train = data.train().subset(train)?;
        let valid = valid.as_ref().map(|valid| valid as &dyn Dataset<Elem = f32>);
        let test = |model: &Model| {
            let evaluation = self.test.then(|| model.evaluate(data.test())).transpose()?;
            bptt::Result::Ok(evaluation.and_then(|evaluation| evaluation.confusion().cloned()))
        };

        let mut model = self.model.build(recipe, (network, *seed), &train)?;
        let (recorder, mut trainer) = (RecordDynamics::new(), self.trainer());
        if self.stand_out > 0 {
            trainer = trainer.callback(recorder.clone());
        }
        let history = recipe.fit(trainer, &mut model, &train, valid)?;
        let seconds: f64 = history.epochs.iter().map(|epoch| epoch.seconds).sum();
        let mut outcome = Outcome {
            from_scratch: None,
            histograms: Vec::new(),
            parameters: model.parameter_count(),
            pruned: Vec::new(),
            seconds: seconds / history.epochs.len().max(1) as f64,
            shrunk: None,
            stand_out: self.standing_out(&recorder, train.indices())?,
            test: test(&model)?,
            total: Some(choosing + seconds),
            valid: history.epochs.iter().filter_map(|e| e.valid?.accuracy).collect(),
        };
        for &threshold in &self.prune {
            let mut pruned = model.clone();
            let sparsity = pruned.prune(Magnitude::below(threshold))?.share();
            if self.histograms {
                outcome.histograms = histograms(&model, &pruned);
            }
            let before = test(&pruned)?;
            let (mut retrained, mut after) = (None, None);
            if recipe.retrain_epochs > 0 {
                let trainer = recipe.trainer(Phase::Retrain, *seed);
                let history = recipe.fit(trainer, &mut pruned, &train, valid)?;
                retrained = test(&pruned)?;
                after = history.epochs.last().and_then(|epoch| epoch.valid?.accuracy);
            }
            outcome.pruned.push(Pruned { pruned: before, retrained, sparsity, valid: after });
        }
        if let Some(share) = self.shrink {
            let [mut shrunk, from_scratch] = self.smaller(share, &model, &train, test)?;
            shrunk.total += seconds;
            (outcome.shrunk, outcome.from_scratch) = (Some(shrunk), Some(from_scratch));
        }
        Ok(outcome)
    }

    /// The model with units cut, once it is retrained, and one as small from scratch, for the cost of both trainings.
    fn smaller(
        &self,
        share: f64,
        wide: &Model,
        train: &dyn Dataset<Elem = f32>,
        test: impl Fn(&Model) -> bptt::Result<Option<ConfusionMatrix>>,
    ) -> bptt::Result<[Small; 2]> {
        let Self { recipe, seed, .. } = self;
        let mut shrunk = wide.clone();
        recipe.cut_units(&mut shrunk, train, share, *seed)?;
        let mut from_scratch = shrunk.clone();
        from_scratch.reinitialise(*seed);
        let epochs = recipe.epochs_from_scratch(wide.parameter_count(), &shrunk);
        let fit = |model: &mut Model, trainer: Trainer| {
            let history = recipe.fit(trainer, model, train, None)?;
            let total: f64 = history.epochs.iter().map(|epoch| epoch.seconds).sum();
            let seconds = total / history.epochs.len().max(1) as f64;
            bptt::Result::Ok(Small {
                parameters: model.parameter_count(),
                seconds,
                test: test(model)?,
                total,
            })
        };
        Ok([
            fit(&mut shrunk, recipe.trainer(Phase::Retrain, *seed))?,
            fit(&mut from_scratch, recipe.trainer(Phase::Train, *seed).epochs(epochs))?,
        ])
    }

    /// The samples that stand out, by their numbers among all images: `indices` are those of the training.
    fn standing_out(&self, recorder: &RecordDynamics, indices: &[u32]) -> bptt::Result<Option<StandOut>> {
        if self.stand_out == 0 {
            return Ok(None);
        }
        let report = recorder.dynamics().report(self.stand_out)?;
        let named = |samples: Vec<(u32, f64)>| {
            samples.into_iter().map(|(sample, score)| (indices[sample as usize], score)).collect()
        };
        Ok(Some(StandOut {
            forgotten: named(report.most_forgotten),
            hardest: named(report.hardest),
            mislabelled: named(report.mislabelled),
        }))
    }

    /// The trainer of the first training.
    fn trainer(&self) -> Trainer {
        let Patterns { share, way, .. } = self.patterns;
        let recipe = Recipe { epochs: self.epochs(), ..self.recipe.clone() };
        way.sample(share, recipe.trainer(Phase::Train, self.seed))
    }

    /// The epochs of the first training.
    pub fn epochs(&self) -> usize {
        let Patterns { share, equal_steps, way, .. } = self.patterns;
        if equal_steps { way.as_many_steps(share, self.recipe.epochs) } else { self.recipe.epochs }
    }

    /// About the seconds that the run takes on one thread, of a machine on which the paper's model takes 0.9 s for an
    /// epoch of 48,000 patterns.
    pub fn cost(&self) -> f64 {
        const SECONDS: f64 = 0.9 / 48_000.0;
        let Self { network, recipe, patterns, .. } = self;
        let (h, layers) = (network.hidden as f64, network.layers as f64);
        // Products of the paper's model: 4 · 35 · (28 + 35) + 4 · 35 · (35 + 35); pointwise work goes with the units.
        let work = |h: f64, layers: f64| h * (28.0 + h) + (layers - 1.0) * h * 2.0 * h + 30.0 * h * layers;
        let cell = match (self.model, network.cell) {
            (Layers::RowsAndColumns | Layers::ConvLstm, _) => 20.0,
            (Layers::ConvLstmSmall, _) => 5.0,
            (Layers::Recurrent, Cell::Rnn) => 0.4,
            (Layers::Recurrent, _) => 1.0,
        };
        let augmented = if recipe.shift > 0 || recipe.flip > 0.0 { 1.3 } else { 1.0 };
        let epoch = SECONDS * cell * augmented * work(h, layers) / work(35.0, 2.0);
        let all = (patterns.pool - patterns.valid) as f64;
        let scoring = if patterns.share < 1.0 { patterns.way.scorer_epochs(recipe) } else { 0 };
        let retrained = self.prune.len() * recipe.retrain_epochs;
        let drawn = patterns.way.drawn(patterns.share, self.epochs()) + scoring as f64;
        let drawn = drawn + patterns.share * retrained as f64;
        // From scratch, a smaller model costs what the training and the retraining of the shrunk one cost together.
        let drawn = match self.shrink {
            Some(share) => 2.0 * (drawn + share * recipe.retrain_epochs as f64),
            None => drawn,
        };
        epoch * (drawn * all + 0.3 * ((self.epochs() + retrained) * patterns.valid) as f64)
    }
}

/// Runs all, those of `path` excepted, with a bar that shows the time left.
pub fn run(
    runs: Vec<Run>,
    data: &FashionMnist,
    workers: Option<usize>,
    path: &Path,
) -> bptt::Result<Table<Run, Outcome>> {
    let bar = ProgressBar::new(runs.iter().map(|run| millis(run.cost())).sum());
    let style = ProgressStyle::with_template("{msg} {wide_bar:.cyan/blue} {elapsed} gone, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("0/{} runs", runs.len()));
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    let told = bar.clone();
    let mut study = Study::new().file(path).on_run(move |finished: &Finished<'_>| {
        told.set_message(format!("{}/{} runs", finished.done, finished.total));
        told.inc(Run::deserialize(finished.config).map_or(0, |run| millis(run.cost())));
        if finished.resumed {
            told.reset_eta();
        } else if told.is_hidden() {
            // Where there is no terminal, as in a log.
            let (share, minutes) = (
                told.position() as f64 / told.length().unwrap_or(1) as f64,
                told.elapsed().as_secs_f64() / 60.0,
            );
            say(format!(
                "{}/{} runs, {:.0} % of the work, {minutes:.1} minutes",
                finished.done,
                finished.total,
                100.0 * share
            ));
        }
        if let Err(fault) = finished.result {
            told.suspend(|| complain(format!("{}: {fault}", finished.config)));
        }
    });
    if let Some(workers) = workers {
        study = study.workers(workers);
    }
    let table = study.run(runs, |run| run.execute(data));
    bar.finish_and_clear();
    table
}

/// The files of parts of the study in a folder, in alphabetical order.
pub fn parts(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_part = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.starts_with("runs.") && name.contains("-of-") && name.ends_with(".jsonl")
    };
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(is_part);
    paths.sort();
    Ok(paths)
}

fn millis(seconds: f64) -> u64 {
    (1000.0 * seconds) as u64
}

/// Of each layer's weights together, and of the linear layer's.
fn histograms(before: &Model, after: &Model) -> Vec<Histogram> {
    let layer = |name: &str| {
        let (layer, tensor) = name.split_once('.')?;
        let number = tensor.rsplit_once("_l").map_or(String::new(), |(_, number)| format!(" l{number}"));
        tensor.starts_with("weight").then(|| format!("{layer}{number}"))
    };
    let count = |model: &Model| {
        let mut counts: Vec<(String, Vec<u64>)> = Vec::new();
        for (name, values) in model.params().iter() {
            let Some(layer) = layer(name) else { continue };
            if counts.last().is_none_or(|last| last.0 != layer) {
                counts.push((layer, vec![0; 2 * BINS as usize + 1]));
            }
            let Some((_, bins)) = counts.last_mut() else { continue };
            for &value in values {
                let bin = (f64::from(value) / BIN).round() as i64 + BINS;
                if let Some(bin) = usize::try_from(bin).ok().and_then(|bin| bins.get_mut(bin)) {
                    *bin += 1;
                }
            }
        }
        counts
    };
    let pairs = count(before).into_iter().zip(count(after));
    pairs.map(|((layer, before), (_, after))| Histogram { after, before, layer }).collect()
}
