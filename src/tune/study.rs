//! Running one closure many times.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::journal::{Journal, JournalEntry, Kept, key};
use super::{Row, Shard, Table};
use crate::{Error, Result, par};

/// A run that is done, as [`Study::on_run`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Finished<'a> {
    /// The configuration.
    pub config: &'a Value,
    /// What the closure returned, or what went wrong.
    pub result: Result<&'a Value, &'a str>,
    /// Seconds that the run took.
    pub seconds: f64,
    /// Whether it was found in the file rather than run.
    pub resumed: bool,
    /// How many runs are done, including this one.
    pub done: usize,
    /// How many runs there are in total.
    pub total: usize,
}

type Watch = dyn FnMut(&Finished<'_>) + Send;

/// Runs a closure on many configurations, side by side, and keeps the results.
///
/// Each run has one thread: everything in this crate that the closure calls stays on it, unless
/// [`Trainer::threads`](crate::Trainer::threads) says otherwise. Since results do not depend on the number of threads, the
/// table does not depend on the number of workers, except for its seconds.
///
/// # Examples
/// A study that is interrupted, and one that resumes it:
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use bptt::tune::Study;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("study.jsonl");
///
/// let study = |configs: &[f64]| {
///     let runs = AtomicUsize::new(0);
///     let table = Study::new().file(&path).workers(2).run(configs.to_vec(), |lr| {
///         runs.fetch_add(1, Ordering::Relaxed);
///         Ok::<_, bptt::Error>((lr - 0.3).abs())
///     })?;
///     Ok::<_, bptt::Error>((table, runs.into_inner()))
/// };
/// assert_eq!(study(&[0.1, 0.2])?.1, 2);
/// let (table, runs) = study(&[0.1, 0.2, 0.3])?;
/// assert_eq!((table.len(), runs), (3, 1), "two were in the file");
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Default)]
pub struct Study {
    file: Option<PathBuf>,
    workers: Option<usize>,
    shard: Option<Shard>,
    watch: Option<Box<Watch>>,
}

impl fmt::Debug for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Study")
            .field("file", &self.file)
            .field("workers", &self.workers)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl Study {
    /// A study without a file, with as many runs side by side as there are cores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes each run that succeeds to this file as soon as it is done, one per line, so that an interruption loses only
    /// the runs in progress; runs that are in the file are not repeated.
    ///
    /// A run is identified by its configuration alone: if the closure or the data change, put that into the configuration,
    /// or use another file. Only one study at a time can use the file, which is locked until the study or its process
    /// ends. A line that cannot be read loses only its own run, and is listed in [`Table::unreadable`].
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Sets how many runs go side by side; by default as many as there are cores. Without the feature `rayon` it is one.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Runs only the part with this number, from 1, of so many: every `of`-th configuration, beginning with the `number`-th.
    /// The table has only these.
    ///
    /// Each part can run in its own process, on any machine, with its own [file](Self::file); all must be given the same
    /// configurations in the same order. [`merge`](fn@super::merge) makes one file of them, from which the whole study has its
    /// table. [`Shard`] reads the two numbers from a flag or from what Slurm and MPI set.
    ///
    /// # Examples
    /// ```
    /// use bptt::tune::{Study, merge};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = |name: &str| folder.path().join(name);
    ///
    /// let square = |n: &u64| Ok::<_, bptt::Error>(n * n);
    /// let part = Study::new().file(path("1.jsonl")).shard(1, 2).run(0..5, square)?;
    /// assert_eq!(part.rows().iter().map(|row| row.config).collect::<Vec<_>>(), [0, 2, 4]);
    /// Study::new().file(path("2.jsonl")).shard(2, 2).run(0..5, square)?;
    ///
    /// assert_eq!(merge(path("all.jsonl"), [path("1.jsonl"), path("2.jsonl")])?.runs, 5);
    /// let whole = Study::new().file(path("all.jsonl")).run(0..5, |_| Err("nothing is left to do"))?;
    /// assert_eq!(whole.results()?[3], (&3, &9));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn shard(mut self, number: usize, of: usize) -> Self {
        self.shard = Some(Shard { number, of });
        self
    }

    /// Calls `watch` for each run when it is done: those in the file first, then the others as they end.
    pub fn on_run(mut self, watch: impl FnMut(&Finished<'_>) + Send + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Calls `run` on each configuration, and only once on equal ones. The table has them in the order given.
    ///
    /// A run that fails has its error in the table, and is repeated when the study is; the other runs continue. A result
    /// that cannot be read back from JSON, such as a number that is not finite, is an error of its run.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file, for example if another study is using it or it is not a study's;
    /// [`Error::Config`] if there are no workers, no such shard, or a configuration cannot be written as JSON.
    ///
    /// # Panics
    /// If `run` does; the runs that were done before are in the file.
    pub fn run<C, S, E, F>(self, configs: impl IntoIterator<Item = C>, run: F) -> Result<Table<C, S>>
    where
        C: Serialize + Sync,
        S: Serialize + DeserializeOwned + Send,
        E: Display,
        F: Fn(&C) -> Result<S, E> + Sync,
    {
        let workers =
            self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
        if workers == 0 {
            return Err(Error::config("workers", "found 0, expected at least 1"));
        }
        let mut tasks = tasks(configs)?;
        if let Some(shard) = self.shard {
            tasks = shard.check()?.part(tasks);
        }
        let (journal, kept) = match &self.file {
            Some(path) => Journal::open(path).map(|(journal, kept)| (Some(journal), kept))?,
            None => (None, Kept::default()),
        };
        let total = tasks.len();
        let mut log = Log { journal, watch: self.watch, done: 0, total, fault: None };
        let mut outcomes: Vec<Option<(Result<S, String>, f64)>> = Vec::new();
        for task in &tasks {
            // A result of another form belongs to another study, so the run is repeated.
            let found =
                kept.get(&task.key).and_then(|entry| Some((S::deserialize(&entry.result).ok()?, entry)));
            outcomes.push(found.map(|(result, entry)| {
                log.tell(&entry.config, Ok(&entry.result), entry.seconds, true);
                (Ok(result), entry.seconds)
            }));
        }

        let open: Vec<usize> = (0..total).filter(|&i| outcomes[i].is_none()).collect();
        let (next, log) = (AtomicUsize::new(0), Mutex::new(log));
        let new = Mutex::new(Vec::new());
        par::crew(workers.min(open.len()), || {
            while let Some(&i) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                if lock(&log).fault.is_some() {
                    break;
                }
                let (task, start) = (&tasks[i], Instant::now());
                let result = run(&task.config).map_err(|e| e.to_string()).and_then(through_json);
                let seconds = start.elapsed().as_secs_f64();
                let result = lock(&log).keep(&task.json, result, seconds);
                lock(&new).push((i, (result, seconds)));
            }
        })?;
        let log = log.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = log.fault {
            return Err(fault);
        }
        for (i, outcome) in new.into_inner().unwrap_or_else(PoisonError::into_inner) {
            outcomes[i] = Some(outcome);
        }
        let rows = tasks.into_iter().zip(outcomes).filter_map(|(task, outcome)| {
            let (result, seconds) = outcome?;
            Some(Row { config: task.config, result, seconds })
        });
        Ok(Table::new(rows.collect(), kept.unreadable))
    }
}

/// A configuration, and what identifies it.
struct Task<C> {
    config: C,
    json: Value,
    key: String,
}

/// The configurations, each once.
fn tasks<C: Serialize>(configs: impl IntoIterator<Item = C>) -> Result<Vec<Task<C>>> {
    let mut seen = HashSet::new();
    let mut tasks = Vec::new();
    for (i, config) in configs.into_iter().enumerate() {
        let bad = |e| {
            Error::config(
                format!("configuration {i}"),
                format!("found one that cannot be written as JSON: {e}"),
            )
        };
        let json = serde_json::to_value(&config).map_err(bad)?;
        let key = key(&json);
        if seen.insert(key.clone()) {
            tasks.push(Task { config, json, key });
        }
    }
    Ok(tasks)
}

/// A result, read back from its JSON, and the JSON: so it is the same whether it was in the file or not.
fn through_json<S: Serialize + DeserializeOwned>(result: S) -> Result<(S, Value), String> {
    let back = |e| format!("found a result that cannot be read back from JSON: {e}");
    let json = serde_json::to_value(result).map_err(back)?;
    Ok((S::deserialize(&json).map_err(back)?, json))
}

/// What the workers share.
struct Log {
    journal: Option<Journal>,
    watch: Option<Box<Watch>>,
    done: usize,
    total: usize,
    /// Why no more runs can be written.
    fault: Option<Error>,
}

impl Log {
    fn keep<S>(
        &mut self,
        config: &Value,
        result: Result<(S, Value), String>,
        seconds: f64,
    ) -> Result<S, String> {
        let result = match result {
            Ok((result, json)) => {
                let entry = JournalEntry { config: config.clone(), result: json, seconds };
                // After a fault the file may end in half a line, to which nothing must be appended.
                if let (None, Some(journal)) = (&self.fault, &mut self.journal) {
                    self.fault = journal.add([&entry]).err();
                }
                self.tell(config, Ok(&entry.result), seconds, false);
                return Ok(result);
            }
            Err(fault) => fault,
        };
        self.tell(config, Err(&result), seconds, false);
        Err(result)
    }

    fn tell(&mut self, config: &Value, result: Result<&Value, &str>, seconds: f64, resumed: bool) {
        self.done += 1;
        if let Some(watch) = &mut self.watch {
            watch(&Finished { config, result, seconds, resumed, done: self.done, total: self.total });
        }
    }
}

/// Takes a lock even if its holder panicked: the panic is passed on when all workers have ended.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
