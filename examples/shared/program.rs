//! What the examples do alike as programs: they print where someone reads, have their folder to themselves, write whole
//! files, and say by their status how they ended.

use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How a program ended that did not fail.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Finished,
    /// By Ctrl-C; what was saved, and how to go on.
    Stopped(String),
}

/// The status of a program that Ctrl-C stopped, as shells have it: 128 and the signal's number.
const STOPPED: u8 = 130;

/// Runs a program. Its status is 0, 1 after an error, which it prints, and 130 if it was stopped.
pub fn main(run: impl FnOnce() -> Result<End>) -> ExitCode {
    match run() {
        Ok(end) => status(&end),
        Err(error) => {
            complain(format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The status of a program that did not fail, after a word on what was saved.
pub fn status(end: &End) -> ExitCode {
    match end {
        End::Finished => ExitCode::SUCCESS,
        End::Stopped(saved) => {
            if !saved.is_empty() {
                complain(saved);
            }
            STOPPED.into()
        }
    }
}

/// Prints a line. Where no one reads any more, as with `| head -1`, or the disk is full, the program goes on without:
/// what it learns is worth more than what it says.
pub fn say(line: impl Display) {
    if cfg!(test) {
        println!("{line}"); // which tests capture
    } else {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// The same on standard error.
pub fn complain(line: impl Display) {
    if cfg!(test) {
        eprintln!("{line}");
    } else {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the program at once.
pub fn stop_on_ctrl_c(first: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(STOPPED.into());
        }
        complain(format!("\n{first} (Ctrl-C again ends at once)"));
    })?;
    Ok(stop)
}

/// Has Ctrl-C end the program at once, after a word on what is saved.
pub fn exit_on_ctrl_c(saved: String) -> Result<()> {
    ctrlc::set_handler(move || {
        complain(format!("\n{saved}"));
        std::process::exit(STOPPED.into());
    })?;
    Ok(())
}

/// A folder that a program writes to, and that no other run has at the same time.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The system gives the lock back when the process ends, however it ends.
    _lock: Option<File>,
}

impl Folder {
    /// Makes the folder if there is none, and locks the file `.lock` in it.
    ///
    /// # Errors
    /// If another run has the folder, or it cannot be written to.
    pub fn open(path: &Path) -> Result<Self> {
        let fault = |error: io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(path).map_err(fault)?;
        let lock = path.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(lock).map_err(fault)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let expected = "expected a folder of its own: wait for the other, or choose another by --out";
                Err(format!("{}: found in use by another run, {expected}", path.display()).into())
            }
            Err(TryLockError::Error(e)) if e.kind() != ErrorKind::Unsupported => Err(fault(e).into()),
            // Where a platform has no locks, nothing can be kept off.
            _ => Ok(Self { path: path.to_owned(), _lock: Some(file) }),
        }
    }

    /// A folder that another rank of the same run has locked.
    pub fn of_another(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of the folder, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> bptt::Result<()> {
        bptt::atomic_write(self.path.join(name), text)
    }
}
