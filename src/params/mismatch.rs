//! How the tensors of a file and of a model differ, in a message of bounded length.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::shorten;

/// The most faults of a kind that are named one by one; more are counted by module.
const NAMED: usize = 4;
/// The most modules that are named; the others are counted.
const MODULES: usize = 6;
/// The most pairs of modules that are compared in search of a rename; no real model has more.
const PAIRS: usize = 1 << 14;

/// A tensor by its key in the file, its name in the model, and its shape.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", shorten(&self.key))?;
        if self.key == self.name { Ok(()) } else { write!(f, " (here `{}`)", shorten(&self.name)) }
    }
}

/// Everything that keeps a file from being loaded into a model.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Tensors that cannot be loaded, in words.
    pub(super) wrong: Vec<String>,
    /// Tensors of the model that are not in the file, by the expected key.
    pub(super) missing: Vec<Label>,
    /// Tensors of the file that are not in the model.
    pub(super) unexpected: Vec<Label>,
}

impl Faults {
    pub(super) fn any(&self) -> bool {
        !(self.wrong.is_empty() && self.missing.is_empty() && self.unexpected.is_empty())
    }

    /// All of them in one line; with `only_wrong`, without those that are missing or unexpected.
    pub(super) fn describe(&self, only_wrong: bool) -> String {
        let mut parts: Vec<String> = self.wrong.iter().take(2 * NAMED).cloned().collect();
        if self.wrong.len() > parts.len() {
            parts.push(format!("{} more that do not fit", self.wrong.len() - parts.len()));
        }
        if !only_wrong {
            let expected = |label: &Label| format!("missing tensor {label} {:?}", label.shape);
            parts.extend(list("missing", &self.missing, expected));
            parts.extend(list("unexpected", &self.unexpected, |label| format!("unexpected tensor {label}")));
        }
        parts.extend(self.hints());
        parts.join("; ")
    }

    fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        let renames = self.renames();
        if !renames.is_empty() {
            let shown = renames.iter().take(MODULES);
            let calls: String =
                shown.map(|[from, to]| format!(".rename({:?}, {:?})", shorten(from), shorten(to))).collect();
            hints.push(format!("these names would fit: `StateDict::new(){calls}`"));
        }
        // PyTorch's projection from the hidden state to a smaller one.
        let projects = |label: &&Label| leaf(&label.key).starts_with("weight_hr_l");
        if let Some(label) = self.unexpected.iter().find(projects) {
            let size = label.shape.first().copied().unwrap_or(0);
            hints.push(format!("the file's LSTM has `proj_size` {size} ({label}), the model's has none"));
        } else if let Some(label) = self.missing.iter().find(projects) {
            hints.push(format!("the model's LSTM has a `proj_size` ({label}), the file's has none"));
        }
        hints
    }

    /// Renames under which unexpected tensors would be the missing ones.
    fn renames(&self) -> Vec<[String; 2]> {
        let shapes: BTreeMap<_, _> =
            self.unexpected.iter().map(|label| (&*label.key, &label.shape)).collect();
        let Some(first) = self.missing.first() else { return Vec::new() };
        // A prefix before all names, as from `nn.DataParallel`.
        let prefixes = shapes.keys().filter_map(|key| key.strip_suffix(&*first.name)?.strip_suffix('.'));
        let fits = |prefix: &&str| {
            let same =
                |label: &Label| shapes.get(&*format!("{prefix}.{}", label.name)) == Some(&&label.shape);
            self.missing.iter().all(same)
        };
        // Only prefixes of keys that end like the first name can fit, and those are few.
        if let Some(prefix) = prefixes.take(NAMED).find(fits) {
            return vec![[prefix.to_owned(), String::new()]];
        }
        pair(&modules(&self.unexpected, |label| &label.key), &modules(&self.missing, |label| &label.name))
    }
}

/// Faults of one kind: listed one by one if they are few, otherwise by module.
fn list(kind: &str, labels: &[Label], one: impl Fn(&Label) -> String) -> Vec<String> {
    if labels.len() <= NAMED {
        return labels.iter().map(one).collect();
    }
    let modules = modules(labels, |label| &label.key);
    let shown = modules.iter().take(MODULES).map(|(module, tensors)| {
        let location =
            if module.is_empty() { "without a module".into() } else { format!("in `{}`", shorten(module)) };
        let mut names: Vec<_> = tensors
            .iter()
            .take(NAMED)
            .map(|(leaf, shape)| format!("`{}` {shape:?}", shorten(leaf)))
            .collect();
        if tensors.len() > NAMED {
            names.push("…".into());
        }
        format!("{} {location} ({})", tensors.len(), names.join(", "))
    });
    let mut shown: Vec<_> = shown.collect();
    if modules.len() > MODULES {
        let rest: usize = modules.values().skip(MODULES).map(BTreeMap::len).sum();
        shown.push(format!("{rest} in {} other modules", modules.len() - MODULES));
    }
    vec![format!("{kind} {} tensors: {}", labels.len(), shown.join(", "))]
}

/// The modules, each with the names and shapes of its tensors.
type Modules<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a [usize]>>;

fn modules<'a>(labels: &'a [Label], name: impl Fn(&'a Label) -> &'a str) -> Modules<'a> {
    let mut modules = Modules::new();
    for label in labels {
        let (module, leaf) = name(label).rsplit_once('.').unwrap_or(("", name(label)));
        modules.entry(module).or_default().insert(leaf, &label.shape);
    }
    modules
}

fn leaf(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, leaf)| leaf)
}

/// Pairs of modules, theirs and ours, that match each other and no other module.
fn pair(theirs: &Modules<'_>, ours: &Modules<'_>) -> Vec<[String; 2]> {
    if theirs.len().saturating_mul(ours.len()) > PAIRS {
        return Vec::new();
    }
    let (mut pairs, mut taken) = (BTreeMap::new(), BTreeSet::new());
    loop {
        let before = pairs.len();
        for (&our, tensors) in ours {
            let free = theirs.iter().filter(|(their, found)| !taken.contains(*their) && *found == tensors);
            let fitting: Vec<_> = free.map(|(&their, _)| their).take(2).collect();
            if let [their] = fitting[..]
                && !pairs.contains_key(our)
                // Two equal modules of the model would both match it.
                && ours.iter().filter(|(other, same)| !pairs.contains_key(*other) && *same == tensors).count() == 1
            {
                pairs.insert(our, their);
                taken.insert(their);
            }
        }
        if pairs.len() == before {
            return pairs.into_iter().map(|(our, their)| [their.to_owned(), our.to_owned()]).collect();
        }
    }
}
