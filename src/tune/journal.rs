//! Finished runs in a file, one per line, each written as soon as it is done.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The first line of the file, with the version of the format.
const HEADER: &str = "{\"bptt-study\":1}";

/// A line: the run of a configuration. Keys are in alphabetical order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct JournalEntry {
    pub(super) config: Value,
    pub(super) result: Value,
    pub(super) seconds: f64,
}

/// The file, open at its end, and locked for as long as it is open.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

/// What was in one file or several.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The runs, each configuration once, in the order in which they were first found.
    entries: Vec<JournalEntry>,
    /// Their places, by [`key`].
    places: HashMap<String, usize>,
    /// How many lines were further runs of a configuration, and how many of these had another result.
    pub(super) repeated: usize,
    pub(super) differing: usize,
    /// What is wrong with each line that is not a run.
    pub(super) unreadable: Vec<String>,
}

impl Kept {
    /// The run of a configuration, by [`key`].
    pub(super) fn get(&self, key: &str) -> Option<&JournalEntry> {
        self.places.get(key).map(|&place| &self.entries[place])
    }

    pub(super) fn entries(&self) -> &[JournalEntry] {
        &self.entries
    }

    /// Whether it has this very run.
    pub(super) fn has(&self, entry: &JournalEntry) -> bool {
        self.get(&key(&entry.config)) == Some(entry)
    }

    pub(super) fn into_entries(self) -> Vec<JournalEntry> {
        self.entries
    }

    /// Adds a run. Of several runs of a configuration, the last one counts: a study repeats a run only if it cannot use the
    /// earlier one.
    pub(super) fn insert(&mut self, entry: JournalEntry) {
        match self.places.entry(key(&entry.config)) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.entries.len());
                self.entries.push(entry);
            }
            Entry::Occupied(place) => {
                let earlier = &mut self.entries[*place.get()];
                self.repeated += 1;
                self.differing += usize::from(earlier.result != entry.result);
                *earlier = entry;
            }
        }
    }

    /// Adds what was in another file.
    fn append(&mut self, other: Self) {
        self.repeated += other.repeated;
        self.differing += other.differing;
        self.unreadable.extend(other.unreadable);
        other.entries.into_iter().for_each(|entry| self.insert(entry));
    }
}

impl Journal {
    /// Opens the file or makes it, and reads the runs that are in it.
    ///
    /// Text after the last newline is a line that was being written when the study was interrupted; it is removed. Any
    /// other line that is not a run loses only that run. A file that does not begin like a study's is left unchanged.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] if the file is in use or is not a study's.
    pub(super) fn open(path: &Path) -> Result<(Self, Kept)> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        lock(path, &file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;

        let (kept, whole) = parse(path, &bytes)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(io)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(io)?;
        if whole == 0 {
            file.write_all(format!("{HEADER}\n").as_bytes()).map_err(io)?;
        }
        Ok((Self { path: path.to_owned(), file }, kept))
    }

    /// Appends some runs, and waits until they are on the disk.
    pub(super) fn add<'a>(&mut self, entries: impl IntoIterator<Item = &'a JournalEntry>) -> Result<()> {
        let mut lines = String::new();
        for entry in entries {
            lines += &serde_json::to_string(entry).map_err(|e| Error::file(&self.path, e.to_string()))?;
            lines.push('\n');
        }
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(Error::io(&self.path))
    }
}

/// Reads the runs of several files without locking or changing them, so a study may be writing to one of them.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] naming the first file that is not a study's.
pub(super) fn read_all(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Kept> {
    let mut all = Kept::default();
    for path in paths {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let (mut kept, whole) = parse(path, &bytes)?;
        if whole < bytes.len() {
            let fault = "the last line: found no end, expected a whole line";
            kept.unreadable.push(Error::file(path, fault).to_string());
        }
        all.append(kept);
    }
    Ok(all)
}

/// The runs in a file's content, and the length of its whole lines.
///
/// # Errors
/// [`Error::File`] if it is not a study's.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<(Kept, usize)> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let mut lines = bytes[..whole].split(|&byte| byte == b'\n');
    let is_study = match whole {
        0 => HEADER.as_bytes().starts_with(bytes),
        _ => lines.next() == Some(HEADER.as_bytes()),
    };
    if !is_study {
        return Err(Error::file(path, format!("line 1: found the start of another file, expected {HEADER}")));
    }
    let mut kept = Kept::default();
    // `split` also returns the empty text after the last newline.
    for (i, line) in (2..).zip(lines).filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice::<JournalEntry>(line) {
            Ok(entry) => kept.insert(entry),
            Err(e) => {
                let fault = format!("line {i}: found something other than a run: {e}");
                kept.unreadable.push(Error::file(path, fault).to_string());
            }
        }
    }
    Ok((kept, whole))
}

/// Locks the file against other studies, until it is closed or the process ends in any way.
fn lock(path: &Path, file: &File) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::file(
            path,
            "found in use by another study, expected it to be free: only one study at a time can use it",
        )),
        // Without locks on this platform, nothing can be done.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(source)) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// What identifies a configuration: its JSON with sorted keys.
pub(super) fn key(config: &Value) -> String {
    // This matters only if another crate enables serde_json's `preserve_order`; otherwise keys are sorted anyway.
    let mut sorted = config.clone();
    sorted.sort_all_objects();
    sorted.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(n: u32) -> JournalEntry {
        JournalEntry { config: json!({ "n": n, "a": [n] }), result: json!({ "x": 0.1 }), seconds: 0.1 + 0.2 }
    }

    fn written(folder: &Path, n: u32) -> PathBuf {
        let path = folder.join("study.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        (0..n).for_each(|n| journal.add([&entry(n)]).unwrap());
        path
    }

    fn read(path: &Path) -> Vec<JournalEntry> {
        Journal::open(path).unwrap().1.entries
    }

    #[test]
    fn what_was_added_is_read_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 3);
        let entries = read(&path);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[2], entry(2));
        let (_, kept) = Journal::open(&path).unwrap();
        assert_eq!(kept.get(r#"{"a":[2],"n":2}"#), Some(&entry(2)));
    }

    /// Cut anywhere, the file yields the lines before the cut, and can be continued from there.
    #[test]
    fn torn_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 2);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let lines = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let (mut journal, kept) = Journal::open(&path).unwrap();
            assert_eq!(kept.entries.len(), lines.saturating_sub(1), "cut at {cut}");
            journal.add([&entry(7)]).unwrap();
            drop(journal);
            assert_eq!(read(&path).len(), kept.entries.len() + 1, "cut at {cut}");
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious.json");
        for content in [
            "{\"weights\": []}",
            "{\"weights\": []}\n",
            "{\"bptt-study\":2}\n",
            "\n",
            "{\"bptt-study\":1}x\n{\"config\":1}\n",
        ] {
            std::fs::write(&path, content).unwrap();
            let fault = Journal::open(&path).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("{}: line 1: found", path.display())), "{fault}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let fault = Journal::open(folder.path()).unwrap_err().to_string();
        assert!(fault.starts_with(&format!("{}: ", folder.path().display())), "{fault}");
    }

    /// However a line is damaged, the others are kept, and the file can be continued.
    #[test]
    fn a_bad_line_costs_its_own_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 3);
        let good = std::fs::read_to_string(&path).unwrap();
        let second = good.lines().nth(2).unwrap();
        for bad in
            ["nonsense", "{\"config\":1}", "{\"config\":1,\"res", "\u{0}\u{0}", &format!("{second}{second}")]
        {
            std::fs::write(&path, good.replacen(second, bad, 1)).unwrap();
            let (mut journal, kept) = Journal::open(&path).unwrap();
            assert_eq!(kept.entries.len(), 2, "{bad}");
            let expected = format!("{}: line 3: found something other than a run: ", path.display());
            assert!(kept.unreadable.len() == 1 && kept.unreadable[0].starts_with(&expected), "{kept:?}");
            journal.add([&entry(1)]).unwrap();
            drop(journal);
            assert_eq!(read(&path).len(), 3);
        }
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 1);
        let (first, _) = Journal::open(&path).unwrap();
        let fault = Journal::open(&path).unwrap_err().to_string();
        assert!(fault.contains("study.jsonl: found in use by another study"), "{fault}");
        drop(first);
        assert_eq!(read(&path).len(), 1);
    }
}
