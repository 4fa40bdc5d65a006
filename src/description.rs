//! What a thing is called and how it is configured.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

/// What a layer, loss, optimizer, schedule or sampler is called and how it is configured: all that is needed to build a
/// layer again, and to tell whether a run that is resumed has the same of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The kind: `lstm` or `linear` for example, or the type's name.
    pub kind: String,
    /// Its settings.
    pub config: serde_json::Value,
}

impl Description {
    /// A kind and its settings.
    ///
    /// # Panics
    /// If `config` does not serialise to JSON, as a map with keys that are no strings.
    #[track_caller]
    pub fn new(kind: &str, config: impl Serialize) -> Self {
        let config = serde_json::to_value(config).expect("settings serialise to JSON");
        Self { kind: kind.to_owned(), config }
    }

    /// What `Debug` prints, for types that have nothing better: their runs cannot be resumed by a release that prints
    /// them in other words.
    pub fn debug(value: &(impl Debug + ?Sized)) -> Self {
        Self::new("custom", format!("{value:?}"))
    }
}
