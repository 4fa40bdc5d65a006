//! Finished runs in a file, one a line, each written as soon as it is done.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The file's first line. The version is that of the lines' form.
const HEADER: &str = "{\"bptt-study\":1}";

/// A line: the run of a configuration. Keys in alphabetical order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) config: Value,
    pub(super) result: Value,
    pub(super) seconds: f64,
}

/// The file, open at its end.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the file or makes it, and reads the runs that are in it, by [`key`].
    ///
    /// What comes after the last newline is a line that was being written when the study was cut short; it is taken
    /// off. A file that holds anything else is left as it is.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] naming the line that is none of a study's.
    pub(super) fn open(path: &Path) -> Result<(Self, HashMap<String, Entry>)> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;

        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole == 0 && !HEADER.as_bytes().starts_with(&bytes) {
            return Err(no_study(path, 1, format!("expected {HEADER}")));
        }
        let mut entries = HashMap::new();
        for (i, line) in bytes[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if i == 0 {
                if line != HEADER.as_bytes() {
                    return Err(no_study(path, 1, format!("expected {HEADER}")));
                }
                continue;
            }
            let entry: Entry =
                serde_json::from_slice(line).map_err(|e| no_study(path, i + 1, e.to_string()))?;
            entries.insert(key(&entry.config), entry);
        }
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(io)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(io)?;
        if whole == 0 {
            file.write_all(format!("{HEADER}\n").as_bytes()).map_err(io)?;
        }
        Ok((Self { path: path.to_owned(), file }, entries))
    }

    /// Adds a run, and waits until the system has it on the disk.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        let line = serde_json::to_string(entry).map_err(|e| Error::file(&self.path, e.to_string()))? + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(Error::io(&self.path))
    }
}

fn no_study(path: &Path, line: usize, fault: String) -> Error {
    Error::file(path, format!("line {line}: found something else than a study's run: {fault}"))
}

/// What a configuration is known by: its JSON with sorted keys.
pub(super) fn key(config: &Value) -> String {
    // Sorts only where some other crate has serde_json keep the order of keys; otherwise they are sorted as they are.
    let mut sorted = config.clone();
    sorted.sort_all_objects();
    sorted.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(n: u32) -> Entry {
        Entry { config: json!({ "n": n, "a": [n] }), result: json!({ "x": 0.1 }), seconds: 0.1 + 0.2 }
    }

    fn written(folder: &Path, n: u32) -> PathBuf {
        let path = folder.join("study.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        (0..n).for_each(|n| journal.add(&entry(n)).unwrap());
        path
    }

    fn read(path: &Path) -> HashMap<String, Entry> {
        Journal::open(path).unwrap().1
    }

    #[test]
    fn what_was_added_is_read_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 3);
        let entries = read(&path);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[r#"{"a":[2],"n":2}"#], entry(2));
    }

    /// Cut anywhere, the file gives the lines before the cut, and goes on from there.
    #[test]
    fn torn_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 2);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let lines = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let (mut journal, entries) = Journal::open(&path).unwrap();
            assert_eq!(entries.len(), lines.saturating_sub(1), "cut at {cut}");
            journal.add(&entry(7)).unwrap();
            assert_eq!(read(&path).len(), entries.len() + 1, "cut at {cut}");
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious.json");
        for (content, line) in [
            ("{\"weights\": []}", 1),
            ("{\"weights\": []}\n", 1),
            ("{\"bptt-study\":2}\n", 1),
            ("\n", 1),
            ("{\"bptt-study\":1}\n{\"config\":1}\n", 2),
            ("{\"bptt-study\":1}\nnonsense\n{\"config\":", 2),
        ] {
            std::fs::write(&path, content).unwrap();
            let fault = Journal::open(&path).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("{}: line {line}: found", path.display())), "{fault}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let fault = Journal::open(folder.path()).unwrap_err().to_string();
        assert!(fault.starts_with(&format!("{}: ", folder.path().display())), "{fault}");
    }
}
