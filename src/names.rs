//! Names that users give to layers and classes, in code and in files.

use std::collections::HashSet;

use crate::error::shorten;
use crate::{Error, Result};

/// The most characters of a name. A longer one is a mistake, and would make tables unreadable.
const MAX_CHARS: usize = 256;

/// Checks that a name fits into a table: of bounded length, and on one line.
///
/// # Errors
/// [`Error::Config`] under the name of `field`.
pub(crate) fn check(field: &str, name: &str) -> Result<()> {
    if let Some(c) = name.chars().find(|c| c.is_control()) {
        let fault =
            format!("found `{}`, expected a name without control characters such as {c:?}", shorten(name));
        return Err(Error::config(field, fault));
    }
    match name.chars().count() {
        0..=MAX_CHARS => Ok(()),
        count => {
            let fault =
                format!("found `{}` of {count} characters, expected at most {MAX_CHARS}", shorten(name));
            Err(Error::config(field, fault))
        }
    }
}

/// Checks the names of classes: each [fits into a table](check), and no two are equal.
///
/// # Errors
/// [`Error::Config`] naming the class.
pub(crate) fn check_classes<S: AsRef<str>>(names: &[S]) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names.iter().map(AsRef::as_ref) {
        check("classes", name)?;
        if !seen.insert(name) {
            return Err(Error::config("classes", format!("found `{name}` twice, expected different names")));
        }
    }
    Ok(())
}

/// The width of a column of a table, limited to what the formatter can pad to.
pub(crate) fn column(width: usize) -> usize {
    width.min(usize::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_tables() {
        check("layer name", &"é".repeat(MAX_CHARS)).unwrap();
        let long = check("layer name", &"é".repeat(MAX_CHARS + 1)).unwrap_err().to_string();
        assert!(long.ends_with("…` of 257 characters, expected at most 256"), "{long}");
        let broken = check_classes(&["a", "two\nlines"]).unwrap_err().to_string();
        assert_eq!(
            broken,
            r"`classes`: found `two\nlines`, expected a name without control characters such as '\n'"
        );
        assert!(check_classes(&["\u{1b}[31m"]).is_err());
        let twice = check_classes(&["a", "b", "a"]).unwrap_err().to_string();
        assert_eq!(twice, "`classes`: found `a` twice, expected different names");
        check_classes(&["", "a", "A"]).unwrap();
    }
}
