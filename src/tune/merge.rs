//! One file of a study from those of its parts.

use std::path::Path;

use super::journal::{Journal, read_all};
use crate::Result;

/// What [`merge`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// The configurations that are in the merged file, including those that were there before.
    pub runs: usize,
    /// How many runs were added or replaced.
    pub new: usize,
    /// Further runs of a configuration that was already found. The last one counts, in the order of files and lines.
    pub repeated: usize,
    /// Those of them with another result: a result that contains a time, or a program or data that changed in between.
    pub differing: usize,
    /// What is wrong with each line that is not a run, by file and line. The last line of a file may have no end, because its
    /// study is writing it or was interrupted.
    pub unreadable: Vec<String>,
}

/// Adds the runs in the files `from` to the file `into`, which is made if it does not exist; a [`Study`](super::Study) with
/// that file then has the results of all.
///
/// The files `from` are only read, and may be those of studies that are running. To merge again when they have more runs is
/// safe: only what is new is added.
///
/// # Errors
/// [`Error::File`](crate::Error::File) naming the first file that is not a study's, before anything is written, or that
/// `into` is in use; [`Error::Io`](crate::Error::Io).
///
/// # Examples
/// See [`Study::shard`](super::Study::shard).
pub fn merge(into: impl AsRef<Path>, from: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Merged> {
    let mut found = read_all(from)?;
    let (mut journal, mut kept) = Journal::open(into.as_ref())?;
    let mut unreadable = std::mem::take(&mut kept.unreadable);
    unreadable.append(&mut found.unreadable);
    let (repeated, differing) = (found.repeated, found.differing);
    let is_new = |entry: &&_| !kept.has(entry);
    let new: Vec<_> = found.entries().iter().filter(is_new).collect();
    journal.add(new.iter().copied())?;
    let added = new.len();
    found.into_entries().into_iter().for_each(|entry| kept.insert(entry));
    Ok(Merged { runs: kept.entries().len(), new: added, repeated, differing, unreadable })
}
