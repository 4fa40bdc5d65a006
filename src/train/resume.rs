//! A run in a file: all that is needed to go on as if it had never stopped.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exact::Exact;
use super::step::Carried;
use super::{Callback, CallbackState, Epoch, History, Score, Stepper};
use crate::loss::Tally;
use crate::params::{Layout, Named, read_checked, write_checked};
use crate::{Error, Model, Real, Result};

/// The metadata's one key.
const KEY: &str = "bptt-run";
/// The version of the file's form.
const VERSION: u32 = 1;
/// Letters of a setting that a message shows, at the most.
const SHOWN: usize = 160;

/// Where a run stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The epochs done.
    pub(super) history: History,
    /// How far the epoch after these is.
    pub(super) position: Position,
    /// Whether a callback has ended the run.
    pub(super) stopped: bool,
}

/// How far an epoch is, and its running sums.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    pub(super) step: usize,
    pub(super) tally: Tally,
    /// Targets that are classes, and those of them predicted right.
    pub(super) classes: (u64, u64),
    /// Seconds before the run was resumed.
    pub(super) seconds: f64,
}

/// The file, and the settings that a run which goes on from it must share.
#[derive(Debug)]
pub(super) struct RunFile {
    pub(super) path: PathBuf,
    /// Steps from one writing within an epoch to the next.
    pub(super) every: Option<usize>,
    pub(super) settings: BTreeMap<String, String>,
}

/// What the metadata hold. Keys in alphabetical order, so that the JSON is the same however it is sorted.
#[derive(Serialize, Deserialize)]
struct Content {
    averaged: bool,
    callbacks: Vec<serde_json::Value>,
    history: Vec<Row>,
    position: Place,
    settings: BTreeMap<String, String>,
    steps: u64,
    stopped: bool,
    version: u32,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// An [`Epoch`], to the bit.
#[derive(Serialize, Deserialize)]
struct Row {
    epoch: usize,
    lr: Exact,
    seconds: Exact,
    train: (Exact, Option<Exact>),
    valid: Option<(Exact, Option<Exact>)>,
}

/// A [`Position`], to the bit.
#[derive(Serialize, Deserialize)]
struct Place {
    classes: (u64, u64),
    loss: Exact,
    seconds: Exact,
    step: usize,
    weight: Exact,
}

/// A file's content, checked.
pub(super) struct Saved<R> {
    path: PathBuf,
    params: Vec<R>,
    carried: Carried<Vec<R>>,
    callbacks: Vec<CallbackState<R>>,
    standing: Standing,
}

impl RunFile {
    /// Whether a step that left the epoch this far is one to write after. The last of an epoch is not: the epoch's
    /// end is written instead.
    pub(super) fn due(&self, step: usize, steps: usize) -> bool {
        step < steps && self.every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Writes the file, beside its place first. The model has the parameters that steps go on from, not averages.
    pub(super) fn write<R: Real>(
        &self,
        model: &Model<R>,
        stepper: &Stepper<'_, R>,
        callbacks: &[Box<dyn Callback<R>>],
        standing: &Standing,
    ) -> Result<()> {
        let layout = model.params().layout();
        let Carried { steps, moments, average, averaged, states: streams } = stepper.carried();
        let states: Vec<_> = callbacks.iter().filter_map(|callback| callback.save_state()).collect();
        let mut tensors = named("model", layout, model.params().as_slice());
        for (i, moment) in moments.chunks_exact(layout.len().max(1)).enumerate() {
            tensors.extend(named(&format!("optimizer.{i}"), layout, moment));
        }
        if let Some(average) = average {
            tensors.extend(named("average", layout, average));
        }
        for (i, state) in streams.into_iter().enumerate().filter(|(_, state)| !state.is_empty()) {
            tensors.push((format!("stream.{i}"), vec![state.len()], state));
        }
        for (i, state) in states.iter().enumerate().filter(|(_, state)| !state.values.is_empty()) {
            tensors.push((format!("callback.{i}"), vec![state.values.len()], &state.values));
        }
        let content = Content {
            averaged,
            callbacks: states.iter().map(|state| state.json.clone()).collect(),
            history: standing.history.epochs.iter().map(Row::from).collect(),
            position: standing.position.into(),
            settings: self.settings.clone(),
            steps,
            stopped: standing.stopped,
            version: VERSION,
        };
        let json = serde_json::to_string(&content).map_err(|e| Error::file(&self.path, e.to_string()))?;
        write_checked(&self.path, tensors, KEY, &json)
    }

    /// Reads the file for a run of `epochs` epochs of `steps` steps; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] naming every fault or difference.
    pub(super) fn read<R: Real>(
        &self,
        model: &Model<R>,
        stepper: &Stepper<'_, R>,
        (epochs, steps): (usize, usize),
    ) -> Result<Option<Saved<R>>> {
        let path = &*self.path;
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io(path))?,
        };
        self.parse(&bytes, model, stepper, (epochs, steps)).map(Some)
    }

    /// Reads the content of the file.
    pub(super) fn parse<R: Real>(
        &self,
        bytes: &[u8],
        model: &Model<R>,
        stepper: &Stepper<'_, R>,
        (epochs, steps): (usize, usize),
    ) -> Result<Saved<R>> {
        let path = &*self.path;
        let (file, json) = read_checked(path, bytes, KEY, "state of a training run")?;
        let content = content(path, &json)?;
        self.compare(&content.settings)?;
        let standing = standing(&content, epochs, steps).map_err(|fault| Error::file(path, fault))?;

        let layout = model.params().layout();
        let read = |prefix: &str, into: &mut [R]| {
            layout.tensors().iter().try_for_each(|tensor| {
                file.read(&format!("{prefix}.{}", tensor.name), &tensor.shape(), &mut into[tensor.range()])
            })
        };
        let mut params = vec![R::ZERO; layout.len()];
        read("model", &mut params)?;
        let now = stepper.carried();
        let mut moments = vec![R::ZERO; now.moments.len()];
        for (i, moment) in moments.chunks_exact_mut(layout.len().max(1)).enumerate() {
            read(&format!("optimizer.{i}"), moment)?;
        }
        let mut average = now.average.map(|values| vec![R::ZERO; values.len()]);
        if let Some(average) = &mut average {
            read("average", average)?;
        }
        let mut states: Vec<_> = now.states.iter().map(|state| vec![R::ZERO; state.len()]).collect();
        for (i, state) in states.iter_mut().enumerate().filter(|(_, state)| !state.is_empty()) {
            file.read(&format!("stream.{i}"), &[state.len()], state)?;
        }
        let callbacks = content.callbacks.into_iter().enumerate().map(|(i, json)| {
            let name = format!("callback.{i}");
            let mut values = vec![R::ZERO; file.len_of(&name).unwrap_or(0)];
            if !values.is_empty() {
                file.read(&name, &[values.len()], &mut values)?;
            }
            Ok(CallbackState { json, values })
        });
        Ok(Saved {
            path: path.to_owned(),
            params,
            carried: Carried { steps: content.steps, moments, average, averaged: content.averaged, states },
            callbacks: callbacks.collect::<Result<_>>()?,
            standing,
        })
    }

    /// Checks that the run in the file had the settings of this one.
    fn compare(&self, found: &BTreeMap<String, String>) -> Result<()> {
        let none = || "nothing".to_owned();
        let shown = |setting: Option<&String>| {
            setting.map_or_else(none, |setting| match setting.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &setting[..end]),
                None => setting.clone(),
            })
        };
        let names: std::collections::BTreeSet<_> = found.keys().chain(self.settings.keys()).collect();
        let different = names.into_iter().filter(|&name| found.get(name) != self.settings.get(name));
        let faults: Vec<_> = different
            .map(|name| {
                let (found, expected) = (shown(found.get(name)), shown(self.settings.get(name)));
                format!("`{name}`: found {found}, expected {expected}")
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let fault = format!("the run in it has other settings: {}", faults.join("; "));
        Err(Error::file(&self.path, fault))
    }
}

impl<R: Real> Saved<R> {
    /// Puts everything back; callbacks first, so that a fault in their states leaves the model as it was.
    pub(super) fn restore(
        self,
        model: &mut Model<R>,
        stepper: &mut Stepper<'_, R>,
        callbacks: &mut [Box<dyn Callback<R>>],
    ) -> Result<Standing> {
        let Self { path, params, carried, callbacks: states, standing } = self;
        let mut own: Vec<_> =
            callbacks.iter_mut().filter(|callback| callback.save_state().is_some()).collect();
        if own.len() != states.len() {
            let fault = format!("found states of {} callbacks, expected {}", states.len(), own.len());
            return Err(Error::file(path, fault));
        }
        for (i, (callback, state)) in own.iter_mut().zip(states).enumerate() {
            let bad = |e| Error::file(&path, format!("state of callback {}: {e}", i + 1));
            callback.load_state(state, model).map_err(bad)?;
        }
        model.params_mut().as_mut_slice().copy_from_slice(&params);
        let done = standing.history.epochs.len();
        stepper.restore(carried, done + 1, standing.position.step);
        callbacks.iter_mut().try_for_each(|callback| callback.on_resume(&standing.history.epochs))?;
        Ok(standing)
    }
}

/// The settings of a model that a file must share, by name.
pub(super) fn describe<R: Real>(model: &Model<R>) -> BTreeMap<String, String> {
    let json = |value: serde_json::Result<String>| value.unwrap_or_else(|e| e.to_string());
    let layers = model.places().iter().map(|place| (&place.name, place.layer.describe()));
    let tensors = model.params().layout().tensors().iter().map(|t| (&t.name, t.shape()));
    [
        ("input", model.input_shape().to_string()),
        ("layers", json(serde_json::to_string(&layers.collect::<Vec<_>>()))),
        ("normalize", json(serde_json::to_string(model.normalization()))),
        ("parameters", json(serde_json::to_string(&tensors.collect::<Vec<_>>()))),
        ("type", format!("{:?}", R::DTYPE)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A callback's state out of JSON.
pub(super) fn parse<T: DeserializeOwned>(callback: &str, json: serde_json::Value) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::config(callback, format!("found no state of it: {e}")))
}

/// Checks that a callback's settings are those of the file.
pub(super) fn same<T: PartialEq + Debug>(callback: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::config(callback, format!("found settings {found:?}, expected {expected:?}")))
}

fn named<'a, R>(prefix: &str, layout: &Layout, values: &'a [R]) -> Vec<Named<'a, R>> {
    let tensors = layout.tensors().iter();
    tensors.map(|t| (format!("{prefix}.{}", t.name), t.shape(), &values[t.range()])).collect()
}

fn content(path: &Path, json: &str) -> Result<Content> {
    let bad = |e| Error::file(path, format!("found a state of a training run that cannot be read: {e}"));
    let Version { version } = serde_json::from_str(json).map_err(bad)?;
    if version != VERSION {
        return Err(Error::file(path, format!("found version {version}, expected {VERSION}")));
    }
    serde_json::from_str(json).map_err(bad)
}

/// Where the run in the file stands, if that is a place in a run of `epochs` epochs of `steps` steps.
fn standing(content: &Content, epochs: usize, steps: usize) -> Result<Standing, String> {
    let (done, step) = (content.history.len(), content.position.step);
    if done > epochs || (done == epochs && step > 0) {
        let begun = done + usize::from(step > 0);
        return Err(format!("found a run in epoch {begun}, expected at most {epochs} epochs"));
    }
    let taken = done.checked_mul(steps).and_then(|taken| taken.checked_add(step));
    if step >= steps || taken.and_then(|taken| u64::try_from(taken).ok()) != Some(content.steps) {
        let found = format!("step {step} after {done} epochs and {} steps in all", content.steps);
        return Err(format!("found {found}, expected {steps} steps an epoch"));
    }
    let (all, right) = content.position.classes;
    let numbered = content.history.iter().zip(1..).all(|(row, number)| row.epoch == number);
    if !numbered || right > all || all > u64::MAX / 2 {
        return Err("found epochs or counts that no run has".into());
    }
    let history = History { epochs: content.history.iter().map(Epoch::from).collect() };
    Ok(Standing { history, position: (&content.position).into(), stopped: content.stopped })
}

impl From<&Epoch> for Row {
    fn from(epoch: &Epoch) -> Self {
        let score = |score: Score| (Exact(score.loss), score.accuracy.map(Exact));
        Self {
            epoch: epoch.epoch,
            lr: Exact(epoch.lr),
            seconds: Exact(epoch.seconds),
            train: score(epoch.train),
            valid: epoch.valid.map(score),
        }
    }
}

impl From<&Row> for Epoch {
    fn from(row: &Row) -> Self {
        let score = |(loss, accuracy): (Exact, Option<Exact>)| Score {
            loss: loss.0,
            accuracy: accuracy.map(|accuracy| accuracy.0),
        };
        Self {
            epoch: row.epoch,
            train: score(row.train),
            valid: row.valid.map(score),
            lr: row.lr.0,
            seconds: row.seconds.0,
        }
    }
}

impl From<Position> for Place {
    fn from(at: Position) -> Self {
        let Position { step, tally, classes, seconds } = at;
        Self { classes, loss: Exact(tally.loss), seconds: Exact(seconds), step, weight: Exact(tally.weight) }
    }
}

impl From<&Place> for Position {
    fn from(place: &Place) -> Self {
        let tally = Tally { loss: place.loss.0, weight: place.weight.0 };
        Self { step: place.step, tally, classes: place.classes, seconds: place.seconds.0 }
    }
}
