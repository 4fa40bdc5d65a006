//! A run in a file: all that is needed to resume it as if it had never stopped.
//!
//! What always holds here:
//! - A file is read and checked as a whole before anything of the run or the model changes.
//! - What is restored is what [`RunFile::write`] wrote: a resumed run computes the same bits as one that never stopped.
//! - Every release reads what earlier ones wrote; [`record`](super::record) has the forms.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::fingerprint::Described;
use super::record::{Content, KEY, VERSION};
use super::run::Sets;
use super::settings::Settings;
use super::stepper::CarriedState;
use super::{Callback, CallbackState, History, Hits, Score, Stepper};
use crate::data::Sampler;
use crate::loss::Tally;
use crate::params::{Layout, NamedTensor, TensorFile, read_checked, write_checked};
use crate::prune::Mask;
use crate::{Error, Model, Real, Result};

/// The position of a run.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The epochs done.
    pub(super) history: History,
    /// The position in the epoch after these.
    pub(super) position: Position,
    /// Whether a callback has ended the run.
    pub(super) stopped: bool,
    /// The sampler's state before it drew the present epoch, and, in a run that is resumed within an epoch, the one to
    /// which it returns after it has drawn the epoch again.
    pub(super) sampler: SamplerStates,
}

/// The position in an epoch, and its running sums.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    pub(super) step: usize,
    pub(super) tally: Tally,
    pub(super) hits: Hits,
    /// Seconds of the epoch before the run was resumed.
    pub(super) seconds: f64,
}

impl Position {
    /// Loss and accuracy so far.
    pub(super) fn score(&self) -> Score {
        Score { loss: self.tally.mean(), accuracy: self.hits.accuracy() }
    }
}

/// A sampler's states around the drawing of an epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct SamplerStates {
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

/// The file, and the settings that a run resumed from it must share.
#[derive(Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    /// The number of steps between two writes within an epoch.
    every: Option<usize>,
    /// Whether this process writes it: of several ranks, only the first does.
    writes: bool,
    described: Described,
}

/// A file's content, checked.
pub(super) struct Saved<R> {
    path: PathBuf,
    params: Vec<R>,
    /// The mask; a file of the first form does not have it.
    mask: Option<Option<Arc<Mask>>>,
    carried: CarriedState<Vec<R>>,
    callbacks: Vec<CallbackState<R>>,
    standing: Standing,
}

impl RunFile {
    /// The file of the run, if the trainer has one.
    pub(super) fn new<R: Real>(
        settings: &Settings<R>,
        model: &Model<R>,
        sets: Sets<'_, R>,
        sampler: &dyn Sampler,
    ) -> Result<Option<Self>> {
        let Some(path) = &settings.run_file else {
            let fault = "found no file, expected one by `run_file`";
            return match (settings.every, settings.resume) {
                (Some(_), _) => Err(Error::config("run_file_every", fault)),
                (_, true) => Err(Error::config("resume", fault)),
                _ => Ok(None),
            };
        };
        if settings.every == Some(0) {
            return Err(Error::config("run_file_every", "found 0, expected at least 1"));
        }
        let described = Described::new(settings, model, sets, sampler)?;
        let writes = settings.all_reduce.as_ref().is_none_or(|ranks| ranks.rank() == 0);
        Ok(Some(Self { path: path.clone(), every: settings.every, writes, described }))
    }

    /// Whether to write after this step. After the last step of an epoch it does not: the end of the epoch is written
    /// instead.
    pub(super) fn due(&self, step: usize, steps: usize) -> bool {
        step < steps && self.every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Writes the file, by [`atomic_write`](crate::atomic_write). The model must have the parameters of the last step, not
    /// averages.
    pub(super) fn write<R: Real>(
        &self,
        model: &Model<R>,
        stepper: &Stepper<'_, R>,
        callbacks: &[Box<dyn Callback<R>>],
        standing: &Standing,
    ) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        let layout = model.params().layout();
        let carried = stepper.carried();
        let states: Vec<_> = callbacks.iter().filter_map(|callback| callback.save_state()).collect();
        let mut tensors = named("model", layout, model.params().as_slice());
        for (i, moment) in carried.moments.chunks_exact(layout.len().max(1)).enumerate() {
            tensors.extend(named(&format!("optimizer.{i}"), layout, moment));
        }
        if let Some(average) = carried.average {
            tensors.extend(named("average", layout, average));
        }
        for (i, &state) in carried.states.iter().enumerate().filter(|(_, state)| !state.is_empty()) {
            tensors.push((format!("stream.{i}"), vec![state.len()], state));
        }
        for (i, state) in states.iter().enumerate().filter(|(_, state)| !state.values.is_empty()) {
            tensors.push((format!("callback.{i}"), vec![state.values.len()], &state.values));
        }
        let content = Content {
            averaged: carried.averaged,
            callbacks: states.iter().map(|state| state.json.clone()).collect(),
            history: standing.history.epochs.iter().map(Into::into).collect(),
            mask: model.mask().filter(|mask| mask.count() > 0).map(Mask::runs),
            position: standing.position.into(),
            sampler: standing.sampler.after.clone(),
            sampler_before: standing.sampler.before.clone(),
            settings: self.described.settings.clone(),
            steps: carried.steps,
            stopped: standing.stopped,
            version: VERSION,
        };
        let json = serde_json::to_string(&content).map_err(|e| Error::file(&self.path, e.to_string()))?;
        write_checked(&self.path, tensors, KEY, &json)
    }

    /// Reads the file for a run of `epochs` epochs of `steps` steps, if these are known; `None` if there is no file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] naming every fault or difference.
    pub(super) fn read<R: Real>(
        &self,
        model: &Model<R>,
        stepper: &Stepper<'_, R>,
        (epochs, steps): (usize, Option<usize>),
    ) -> Result<Option<Saved<R>>> {
        let path = &*self.path;
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io(path))?,
        };
        self.parse(&bytes, model, stepper, (epochs, steps)).map(Some)
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn parse<R: Real>(
        &self,
        bytes: &[u8],
        model: &Model<R>,
        stepper: &Stepper<'_, R>,
        (epochs, steps): (usize, Option<usize>),
    ) -> Result<Saved<R>> {
        let path = &*self.path;
        let (file, json) = read_checked(path, bytes, KEY, "state of a training run")?;
        let bad = |fault: String| Error::file(path, fault);
        let content = Content::parse(&json).map_err(bad)?;
        let differences = self.described.compare(&content).map_err(bad)?;
        let steps = steps.filter(|_| !differences.of_steps());
        let standing = content.standing(epochs, steps).map_err(bad)?;
        if differences.of_steps() && standing.position.step > 0 {
            let epoch = standing.history.epochs.len() + 1;
            let fault = format!("found a run within epoch {epoch}, expected one at the end of an epoch");
            return Err(bad(format!("{fault}, since {differences} have changed")));
        }
        let layout = model.params().layout();
        let mask = match (&content.mask, content.version) {
            (_, 1) => None,
            (None, _) => Some(None),
            (Some(runs), _) => Some(Some(Arc::new(Mask::from_runs(Arc::clone(layout), runs).map_err(bad)?))),
        };
        let mut params = vec![R::ZERO; layout.len()];
        read(&file, "model", layout, &mut params)?;
        Ok(Saved {
            path: path.to_owned(),
            params,
            mask,
            carried: carried(&file, layout, stepper, &content)?,
            callbacks: callbacks(&file, content.callbacks)?,
            standing,
        })
    }
}

/// What the steps carried, checked against the sizes in this run.
fn carried<R: Real>(
    file: &TensorFile<'_>,
    layout: &Layout,
    stepper: &Stepper<'_, R>,
    content: &Content,
) -> Result<CarriedState<Vec<R>>> {
    let now = stepper.carried();
    let mut moments = vec![R::ZERO; now.moments.len()];
    for (i, moment) in moments.chunks_exact_mut(layout.len().max(1)).enumerate() {
        read(file, &format!("optimizer.{i}"), layout, moment)?;
    }
    let mut average = now.average.map(|values| vec![R::ZERO; values.len()]);
    if let Some(average) = &mut average {
        read(file, "average", layout, average)?;
    }
    let mut states: Vec<_> = now.states.iter().map(|state| vec![R::ZERO; state.len()]).collect();
    for (i, state) in states.iter_mut().enumerate().filter(|(_, state)| !state.is_empty()) {
        file.read(&format!("stream.{i}"), &[state.len()], state)?;
    }
    Ok(CarriedState { steps: content.steps, moments, average, averaged: content.averaged, states })
}

fn callbacks<R: Real>(file: &TensorFile<'_>, states: Vec<Value>) -> Result<Vec<CallbackState<R>>> {
    let state = |(i, json)| {
        let name = format!("callback.{i}");
        let mut values = vec![R::ZERO; file.len_of(&name).unwrap_or(0)];
        if !values.is_empty() {
            file.read(&name, &[values.len()], &mut values)?;
        }
        Ok(CallbackState { json, values })
    };
    states.into_iter().enumerate().map(state).collect()
}

impl<R: Real> Saved<R> {
    /// Restores everything; callbacks and sampler first, so that a fault in their states leaves the model unchanged.
    pub(super) fn restore(
        self,
        model: &mut Model<R>,
        stepper: &mut Stepper<'_, R>,
        callbacks: &mut [Box<dyn Callback<R>>],
        sampler: &mut dyn Sampler,
    ) -> Result<Standing> {
        let Self { path, params, mask, carried, callbacks: states, standing } = self;
        if let Some(state) = standing.sampler.before.clone().or_else(|| standing.sampler.after.clone()) {
            sampler
                .load_state(state)
                .map_err(|e| Error::file(&path, format!("state of the sampler: {e}")))?;
        }
        let before = model.shared_mask().cloned();
        if let Some(mask) = mask {
            // Callbacks look at the mask of the resumed model, whose parameters follow below.
            model.set_mask(mask);
        }
        load(callbacks, states, model).map_err(|fault| {
            model.set_mask(before);
            Error::file(&path, fault)
        })?;
        model.params_mut().as_mut_slice().copy_from_slice(&params);
        let done = standing.history.epochs.len();
        stepper.restore(carried, done + 1, standing.position.step);
        callbacks.iter_mut().try_for_each(|callback| callback.on_resume(&standing.history.epochs))?;
        Ok(standing)
    }
}

/// Restores the states of the callbacks that have one, in order.
fn load<R: Real>(
    callbacks: &mut [Box<dyn Callback<R>>],
    states: Vec<CallbackState<R>>,
    model: &mut Model<R>,
) -> Result<(), String> {
    let mut own: Vec<_> = callbacks.iter_mut().filter(|callback| callback.save_state().is_some()).collect();
    if own.len() != states.len() {
        return Err(format!("found states of {} callbacks, expected {}", states.len(), own.len()));
    }
    for (i, (callback, state)) in own.iter_mut().zip(states).enumerate() {
        let bad = |e| format!("state of callback {}: {e}", i + 1);
        callback.load_state(state, model).map_err(bad)?;
    }
    Ok(())
}

fn named<'a, R>(prefix: &str, layout: &Layout, values: &'a [R]) -> Vec<NamedTensor<'a, R>> {
    let tensors = layout.tensors().iter();
    tensors.map(|t| (format!("{prefix}.{}", t.name), t.shape(), &values[t.range()])).collect()
}

fn read<R: Real>(file: &TensorFile<'_>, prefix: &str, layout: &Layout, into: &mut [R]) -> Result<()> {
    layout.tensors().iter().try_for_each(|tensor| {
        file.read(&format!("{prefix}.{}", tensor.name), &tensor.shape(), &mut into[tensor.range()])
    })
}
