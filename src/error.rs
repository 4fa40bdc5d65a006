//! The crate's error type.

use std::path::PathBuf;

/// The result of every fallible function in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with configurations, data, files and training runs.
///
/// Each message names the file, field or shape at fault, what was found and what was expected.
/// A wrong shape passed directly to a layer is not among them: that is a bug in the calling code, and panics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid setting.
    #[error("`{field}`: {fault}")]
    Config {
        /// The setting, by its name in the builder or on the command line.
        field: String,
        /// What was found and what was expected.
        fault: String,
    },
    /// Data that do not fit the model, the loss, or each other.
    #[error("{what}: found {found}, expected {expected}")]
    Mismatch {
        /// The data whose sizes disagree.
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
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file with invalid content.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        fault: String,
    },
    /// A loss, gradient or parameter that is not a finite number.
    #[error("epoch {epoch}, step {step}: {what} is not finite; first bad tensor: {tensor}. {advice}")]
    NonFinite {
        /// The epoch, from 1.
        epoch: usize,
        /// The step within the epoch, from 1.
        step: usize,
        /// What is not finite: the loss, the gradient or a parameter.
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

    /// The same error, with `name` before the field if it is an [`Error::Config`]: the part of a whole in which the
    /// setting is.
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

/// The name in errors of bytes that do not come from a file.
pub(crate) const BYTES: &str = "<bytes>";

/// The most characters shown of a name or message that comes from a file.
const SHOWN: usize = 100;

/// Text from a file, cut to a bounded length and put on one line, for messages.
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
