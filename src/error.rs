//! The crate's error type.

use std::path::PathBuf;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with configurations, data, files and training runs.
///
/// Each message names the file, field or shape at fault, what was found and what was expected.
/// A wrong shape handed straight to a layer is not here: that is a bug of the caller's, and panics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used.
    #[error("`{field}`: {fault}")]
    Config {
        /// The setting, by the name that the builder or the flag gives it.
        field: String,
        /// What was found and what was expected.
        fault: String,
    },
    /// Data that do not fit the model, the loss or each other.
    #[error("{what}: found {found}, expected {expected}")]
    Mismatch {
        /// Whose sizes disagree.
        what: String,
        /// The sizes that were found.
        found: String,
        /// The sizes that were expected.
        expected: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        fault: String,
    },
    /// A loss, gradient or parameter that is no longer a finite number.
    #[error("epoch {epoch}, step {step}: {what} is not finite; first bad tensor: {tensor}. {advice}")]
    NonFinite {
        /// The epoch, from 1.
        epoch: usize,
        /// The step within the epoch, from 1.
        step: usize,
        /// What was found not to be finite: the loss, the gradient or a parameter.
        what: String,
        /// The first tensor, in the order of the model, that holds a value that is not finite.
        tensor: String,
        /// What to try.
        advice: String,
    },
}

impl Error {
    /// An [`Error::Config`].
    pub fn config(field: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Config { field: field.into(), fault: fault.into() }
    }

    /// An [`Error::Mismatch`].
    pub fn mismatch(
        what: impl Into<String>,
        found: impl std::fmt::Display,
        expected: impl std::fmt::Display,
    ) -> Self {
        Self::Mismatch { what: what.into(), found: found.to_string(), expected: expected.to_string() }
    }

    /// An [`Error::Io`], for `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The same, where a [`Error::Config`] is of the part `name` of a whole.
    pub(crate) fn within(self, name: &str) -> Self {
        match self {
            Self::Config { field, fault } => Self::config(format!("{name}: {field}"), fault),
            other => other,
        }
    }

    /// An [`Error::File`].
    pub fn file(path: impl Into<PathBuf>, fault: impl Into<String>) -> Self {
        Self::File { path: path.into(), fault: fault.into() }
    }
}

/// Characters of a name or message that comes from a file.
const SHOWN: usize = 100;

/// A text from a file as a message may show it: of bounded length, on one line.
pub(crate) fn shorten(text: &str) -> String {
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown
}
