//! Files that are either whole or do not exist.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Result, rng};

/// The most links that are followed before a path counts as a cycle; the limit of Linux.
const MAX_LINKS: usize = 40;
/// How often a save is tried again because its temporary file was removed.
const ATTEMPTS: usize = 3;
/// The age after which a temporary file counts as left behind, whichever machine wrote it.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The temporary files of this process, numbered.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Writes `bytes` to a temporary file beside `path` and renames it: a reader of `path` finds the old file or the new one,
/// never a part of either, even if other writers are active or the program is killed.
///
/// Everything that this crate saves is written by it. The new file keeps the mode of the one that it replaces and, where
/// the system permits, its owner. A symbolic link is kept, and the file that it points to is replaced. The content and, on
/// Unix, the folder are on the disk when this returns.
///
/// The temporary file is called `.bptt-….part`. If a killed process left one in the folder, a later write to the folder
/// removes it.
///
/// # Errors
/// [`Error::Io`] naming the file; also if `path` is not a regular file, but a folder or a device, for example.
///
/// # Examples
/// ```
/// let path = std::env::temp_dir().join(format!("bptt-atomic-write-{}.json", std::process::id()));
/// bptt::atomic_write(&path, "{}")?;
/// bptt::atomic_write(&path, "{\"accuracy\": 0.9}")?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"accuracy\": 0.9}");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn atomic_write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    write(path, bytes.as_ref()).map_err(Error::io(path))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = follow(path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let old = replaceable(&path)?;
    remove_abandoned(folder);
    let mut attempt = 1;
    loop {
        let written = Temporary::new(folder).and_then(|mut temporary| {
            temporary.write(bytes, old.as_ref())?;
            temporary.rename(&path)
        });
        match written {
            // Another machine may have removed the file, if this program slept between writing and renaming.
            Err(e) if e.kind() == ErrorKind::NotFound && attempt < ATTEMPTS && folder.is_dir() => {
                attempt += 1
            }
            Err(e) => return Err(e),
            Ok(()) => return sync_folder(folder),
        }
    }
}

/// The path to which symbolic links lead; the file need not exist.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("")).join(target);
            }
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => return Ok(path),
        }
    }
    Err(io::Error::other(format!("found more than {MAX_LINKS} symbolic links, one to the next")))
}

/// The metadata of the file at `path`, if there is one.
///
/// # Errors
/// If it is not a regular file: nobody means to replace a folder, a device or a pipe by a file.
fn replaceable(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) => {
            let kind = if found.is_dir() { "a folder" } else { "a device, pipe, socket or link" };
            Err(io::Error::other(format!("found {kind}, expected a regular file or none")))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A file that is removed unless it is renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    /// A new file, which no other process has. A process with the same number, in a container or on another machine that
    /// shares the folder, may have used the same name, so names that exist are skipped.
    fn new(folder: &Path) -> io::Result<Self> {
        loop {
            let path = folder.join(name(&HERE, process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                opened => return opened.map(|file| Self { path, file, renamed: false }),
            }
        }
    }

    fn write(&mut self, bytes: &[u8], old: Option<&Metadata>) -> io::Result<()> {
        self.file.write_all(bytes)?;
        if let Some(old) = old {
            keep_owner(&self.file, old);
            self.file.set_permissions(old.permissions())?;
        }
        self.file.sync_all()
    }

    fn rename(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The caller should see the error that led here, not this one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives the file the owner and group of the one that it replaces. Only root may change the owner; for other users this has
/// an effect only if they are members of the group.
#[cfg(unix)]
fn keep_owner(file: &File, old: &Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    if fchown(file, Some(old.uid()), Some(old.gid())).is_err() {
        let _ = fchown(file, None, Some(old.gid()));
    }
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &Metadata) {}

/// Writes the folder's entries to the disk, so that a new name survives a power cut. Only on Unix can a folder be opened as
/// a file.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    // A folder that may be written but not read cannot be opened, and some file systems have no such call.
    let Ok(opened) = File::open(folder) else { return Ok(()) };
    match opened.sync_all() {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

// --- what killed processes leave behind ---

/// Identifies where process numbers have the same meaning: this boot of this machine, and this container. `None` if that is
/// not known.
static HERE: LazyLock<Option<u32>> = LazyLock::new(|| {
    let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let bytes = [&boot[..], namespace.as_os_str().as_encoded_bytes()].concat();
    Some(bytes.iter().fold(0, |key, &byte| rng::extend(key, u64::from(byte))) as u32)
});

/// A temporary file's name, which is short even if the name of the final file is long.
fn name(here: &Option<u32>, process: u32, number: u64) -> String {
    let here = here.map_or_else(|| "any".to_owned(), |here| format!("{here:08x}"));
    format!(".bptt-{here}-{process}-{number}.part")
}

/// The machine and process in a temporary file's name; `None` for any other name.
fn parse(name: &str) -> Option<(Option<u32>, u32)> {
    let mut parts = name.strip_prefix(".bptt-")?.strip_suffix(".part")?.split('-');
    let (here, process, number) = (parts.next()?, parts.next()?, parts.next()?);
    let here = if here == "any" { None } else { Some(u32::from_str_radix(here, 16).ok()?) };
    let (process, number) = (process.parse().ok()?, number.parse().ok()?);
    (parts.next().is_none() && self::name(&here, process, number) == name).then_some((here, process))
}

/// Removes the temporary files that killed processes left in the folder, once per folder and process.
fn remove_abandoned(folder: &Path) {
    static SEEN: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    let Ok(whole) = folder.canonicalize() else { return };
    if !SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(whole) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((here, process)) = name.to_str().and_then(parse) else { continue };
        let old = || {
            let written = entry.metadata().and_then(|found| found.modified()).ok();
            written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED)
        };
        if entry.file_type().is_ok_and(|kind| kind.is_file()) && (is_dead(here, process) || old()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether the process is known to have ended. It is not known if its number may mean a different process here.
fn is_dead(here: Option<u32>, process: u32) -> bool {
    here.is_some() && here == *HERE && !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn threads_that_save_to_one_path_all_succeed_and_readers_find_whole_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        atomic_write(&path, vec![0; 50_000]).unwrap();
        std::thread::scope(|scope| {
            for n in 1..=4u8 {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| atomic_write(path, vec![n; 50_000]).unwrap()));
            }
            for _ in 0..200 {
                let bytes = fs::read(&path).unwrap();
                assert!(bytes.len() == 50_000 && bytes.iter().all(|&byte| byte == bytes[0]));
            }
        });
        assert_eq!(entries(folder.path()), ["model"]);
    }

    /// Such as that of another process with the same number: two containers that share a folder both have a process 1.
    #[test]
    fn a_temporary_file_that_exists_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let next = COUNTER.load(Ordering::Relaxed);
        let others: Vec<_> = (next..next + 500).map(|n| name(&HERE, process::id(), n)).collect();
        others.iter().for_each(|other| fs::write(folder.path().join(other), "theirs").unwrap());
        atomic_write(folder.path().join("model"), "ours").unwrap();
        assert_eq!(fs::read(folder.path().join("model")).unwrap(), b"ours");
        assert!(others.iter().all(|other| fs::read(folder.path().join(other)).unwrap() == b"theirs"));
    }

    #[test]
    fn a_name_may_be_as_long_as_the_system_takes() {
        let folder = tempfile::tempdir().unwrap();
        for length in 240..=255 {
            atomic_write(folder.path().join("n".repeat(length)), "x").unwrap();
        }
        // A bare `file` is in the current folder.
        let message = atomic_write("", "x").unwrap_err().to_string();
        assert!(!message.is_empty());
    }

    #[test]
    fn what_is_not_a_regular_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let message = atomic_write(&taken, "x").unwrap_err().to_string();
        assert_eq!(message, format!("{}: found a folder, expected a regular file or none", taken.display()));
        assert!(taken.is_dir());
        assert_eq!(entries(folder.path()), ["taken"]);
        #[cfg(unix)]
        {
            let message = atomic_write("/dev/null", "x").unwrap_err().to_string();
            assert!(message.contains("expected a regular file"), "{message}");
            let socket = folder.path().join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let message = atomic_write(&socket, "x").unwrap_err().to_string();
            assert!(message.contains("found a device, pipe, socket or link"), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_stay() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("models")).unwrap();
        // Relative, from link to link, to a file that does not exist yet.
        symlink("second", at("first")).unwrap();
        symlink("models/real", at("second")).unwrap();
        for text in ["one", "two"] {
            atomic_write(at("first"), text).unwrap();
            assert_eq!(fs::read_to_string(at("models/real")).unwrap(), text);
            assert!(at("first").is_symlink() && at("second").is_symlink());
        }
        assert_eq!(entries(&at("models")), ["real"]);
        symlink("circle", at("circle")).unwrap();
        let message = atomic_write(at("circle"), "x").unwrap_err().to_string();
        assert!(message.contains("symbolic links"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_owner_are_kept() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for mode in [0o600, 0o640, 0o444] {
            atomic_write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            // Only root may do this.
            let given = chown(&path, Some(1234), Some(2345)).is_ok();
            atomic_write(&path, "new").unwrap();
            let found = fs::metadata(&path).unwrap();
            assert_eq!(found.mode() & 0o777, mode);
            assert!(!given || (found.uid(), found.gid()) == (1234, 2345));
        }
    }

    #[test]
    fn names_come_back() {
        for here in [None, Some(0), Some(u32::MAX)] {
            assert_eq!(parse(&name(&here, 17, u64::MAX)), Some((here, 17)));
            assert!(name(&here, u32::MAX, u64::MAX).len() <= 64);
        }
        for other in [
            "model.part",
            ".bptt-1.part",
            ".bptt-any-1-x.part",
            ".bptt-any-1-2-3.part",
            ".bptt-any-01-2.part",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn files_of_dead_processes_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        let elsewhere = HERE.map(|here| here ^ 1);
        // No process has the largest number.
        let dead = name(&HERE, u32::MAX, 0);
        let kept = [
            name(&HERE, process::id(), u64::MAX),
            name(&elsewhere, u32::MAX - 1, 0),
            name(&None, u32::MAX, 0),
            ".bptt-mine.part".into(),
            "model.part".into(),
        ];
        kept.iter().for_each(|name| put(name));
        put(&dead);
        // A file of another machine, last written two days ago.
        let old = name(&Some(1), 1, 1);
        let file = File::create(folder.path().join(&old)).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * ABANDONED).unwrap();

        atomic_write(folder.path().join("model"), "x").unwrap();
        let left = entries(folder.path());
        assert!(kept.iter().all(|name| left.contains(name)), "{left:?}");
        assert!(!left.contains(&old), "{left:?}");
        assert_eq!(left.contains(&dead), HERE.is_none(), "{left:?}");
    }
}
