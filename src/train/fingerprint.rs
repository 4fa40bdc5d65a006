//! What a run and its file must have in common: settings, model and data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::record::Content;
use super::run::Sets;
use super::settings::Settings;
use crate::data::{Dataset, Sample, Sampler, TargetShape};
use crate::{Error, Model, Real, Result, rng};

/// The most characters of a setting that a message shows.
const SHOWN: usize = 160;
/// How many samples' inputs are compared, evenly spaced: reading all could take as long as an epoch.
const INPUTS: usize = 64;
/// The settings that decide the steps of an epoch.
const OF_STEPS: [&str; 5] = ["batch_size", "sampler", "seed", "stateful", "training data"];

/// The settings of a run, by name.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) settings: BTreeMap<String, Value>,
    /// Those that can be compared with a file of the first form, which has them as text.
    first_form: BTreeMap<&'static str, String>,
    /// Those that are allowed to differ.
    changed: Vec<String>,
}

/// Settings that differ and are allowed to.
#[derive(Debug, Default)]
pub(super) struct Differences(Vec<String>);

impl Differences {
    /// Whether the steps of an epoch differ.
    pub(super) fn of_steps(&self) -> bool {
        self.0.iter().any(|name| OF_STEPS.contains(&&**name))
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl Described {
    pub(super) fn new<R: Real>(
        settings: &Settings<R>,
        model: &Model<R>,
        sets: Sets<'_, R>,
        sampler: &dyn Sampler,
    ) -> Result<Self> {
        let tensors: Vec<_> =
            model.params().layout().tensors().iter().map(|t| (&t.name, t.shape())).collect();
        let layers: Vec<_> =
            model.slots().iter().map(|place| (&place.name, place.layer.describe())).collect();
        let groups: Vec<_> =
            settings.groups.groups.iter().map(|(pattern, group)| (pattern, group.describe())).collect();
        let schedule = settings.schedule.as_ref().map(|schedule| schedule.describe());
        let all = json!({
            "batch_size": settings.batch_size,
            "clip": settings.clip,
            "ema": settings.ema,
            "freeze": settings.groups.frozen,
            "group": groups,
            "group_lasso": settings.group_lasso,
            "input": model.input_shape(),
            "layers": layers,
            "loss": settings.loss.describe(),
            "normalize": model.normalization(),
            "normalize_targets": model.target_normalization(),
            "optimizer": settings.optimizer.describe(),
            "parameters": tensors,
            "sampler": sampler.describe(),
            "schedule": schedule,
            "seed": settings.seed,
            "stateful": settings.stateful,
            "tile": settings.tile,
            "training data": fingerprint(sets.train),
            "type": format!("{:?}", R::DTYPE),
            "validation data": sets.valid.map(fingerprint),
        });
        let Value::Object(all) = all else { unreachable!("an object was made") };
        let described = Self {
            settings: all.into_iter().collect(),
            first_form: first_form(settings, model, sets),
            changed: settings.changed.clone(),
        };
        let unknown = |name: &&String| !described.settings.contains_key(*name);
        if let Some(name) = described.changed.iter().find(unknown) {
            let names: Vec<_> = described.settings.keys().map(String::as_str).collect();
            let fault = format!("found `{name}`, expected one of {}", names.join(", "));
            return Err(Error::config("changed", fault));
        }
        Ok(described)
    }

    /// The differences between the run in the file and this one, if all of them are allowed.
    pub(super) fn compare(&self, content: &Content) -> Result<Differences, String> {
        let found = &content.settings;
        let (names, expected) = if content.version == 1 {
            // The text of a setting that can have any type changed when the type did, so only plain values are compared.
            let expected = |name: &str| self.first_form.get(name).cloned().map(Value::from);
            (
                self.first_form.keys().map(|&name| name.to_owned()).collect(),
                Box::new(expected) as Box<Get<'_>>,
            )
        } else {
            let names: BTreeSet<String> = found.keys().chain(self.settings.keys()).cloned().collect();
            (names, Box::new(|name: &str| self.settings.get(name).cloned()) as Box<Get<'_>>)
        };
        let (mut faults, mut differences) = (Vec::new(), Differences::default());
        for name in names {
            let (found, expected) = (found.get(&name), expected(&name));
            // A file from before there was the setting does not have it.
            let unset = found.is_none() && expected == Some(Value::Null);
            if unset || found == expected.as_ref() {
                continue;
            }
            let known_as = match &*name {
                "training samples" => "training data",
                "validation samples" => "validation data",
                other => other,
            };
            if self.changed.iter().any(|changed| changed == known_as) {
                differences.0.push(known_as.to_owned());
            } else {
                faults.push(difference(&name, found, expected.as_ref()));
            }
        }
        if faults.is_empty() {
            return Ok(differences);
        }
        let faults = shorten(&faults.join("; "), 8 * SHOWN);
        Err(format!("the run in it has other settings: {faults}"))
    }
}

/// At most `most` letters of a text.
fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

type Get<'a> = dyn Fn(&str) -> Option<Value> + 'a;

/// What was found and what was expected; for an object or list, only the parts that differ.
fn difference(name: &str, found: Option<&Value>, expected: Option<&Value>) -> String {
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (found, expected) {
        let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let parts: Vec<_> = names
            .into_iter()
            .filter(|part| a.get(*part) != b.get(*part))
            .map(|part| difference(part, a.get(part), b.get(part)))
            .collect();
        return format!("`{name}`: {}", parts.join(", "));
    }
    let shown = |value: Option<&Value>| {
        let text = match value {
            None => return "nothing".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        shorten(&text, SHOWN)
    };
    format!("`{name}`: found {}, expected {}", shown(found), shown(expected))
}

/// The settings that the first form of the file has as text of plain values.
fn first_form<R: Real>(
    settings: &Settings<R>,
    model: &Model<R>,
    sets: Sets<'_, R>,
) -> BTreeMap<&'static str, String> {
    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap_or_else(|e| e.to_string())
    }
    let tensors: Vec<_> = model.params().layout().tensors().iter().map(|t| (&t.name, t.shape())).collect();
    let mut form = BTreeMap::from([
        ("batch_size", settings.batch_size.to_string()),
        ("clip", format!("{:?}", settings.clip)),
        ("ema", format!("{:?}", settings.ema)),
        ("freeze", format!("{:?}", settings.groups.frozen)),
        ("input", model.input_shape().to_string()),
        ("normalize", json(model.normalization())),
        ("parameters", json(&tensors)),
        ("seed", settings.seed.to_string()),
        ("tile", format!("{:?}", settings.tile)),
        ("training samples", sets.train.len().to_string()),
        ("type", format!("{:?}", R::DTYPE)),
        ("validation samples", sets.valid.map_or(0, |valid| valid.len()).to_string()),
    ]);
    if settings.stateful {
        form.insert("stateful", "true".into());
    }
    form
}

/// What identifies a dataset without reading all of it: its sizes and names, a hash over all targets and lengths, and one
/// over the inputs of a few samples.
fn fingerprint<R: Real>(data: &dyn Dataset<Elem = R>) -> Value {
    let n = data.len();
    let mut x = vec![R::ZERO; data.shape().size()];
    let mut inputs = 0;
    for i in (0..n).step_by(n.div_ceil(INPUTS).max(1)) {
        data.read(Sample::plain(i), &mut x);
        inputs = x.iter().fold(inputs, |hash, x| rng::extend(hash, x.to_f64().to_bits()));
    }
    let length = |sample| data.length(sample).map_or(u64::MAX, |length| length as u64);
    let lengths = (0..n).fold(0, |hash, i| rng::extend(hash, length(Sample::plain(i))));
    let targets = match data.target_shape() {
        TargetShape::Classes { t: size } | TargetShape::Labels { most: size } => {
            let mut classes = vec![0; size];
            (0..n).fold(0, |hash, i| {
                data.classes(Sample::plain(i), &mut classes);
                classes.iter().fold(hash, |hash, &class| rng::extend(hash, class as u64))
            })
        }
        TargetShape::Values(shape) => {
            let mut values = vec![R::ZERO; shape.size()];
            (0..n).fold(0, |hash, i| {
                data.values(Sample::plain(i), &mut values);
                values.iter().fold(hash, |hash, x| rng::extend(hash, x.to_f64().to_bits()))
            })
        }
        _ => 0,
    };
    let hash = |hash: u64| format!("{hash:016x}");
    json!({
        "class names": data.class_names(),
        "inputs": hash(inputs),
        "lengths": hash(lengths),
        "samples": n,
        "shape": data.shape(),
        "target shape": format!("{:?}", data.target_shape()),
        "targets": hash(targets),
    })
}
