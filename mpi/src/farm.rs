//! The runs of a study, shared among the ranks.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use bptt::tune::{Study, Table};
use bptt::{Error, Result};
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Mpi;

/// The tags of messages: a configuration, its result, and that there are no more.
const RUN: i32 = 1;
const RESULT: i32 = 2;
const END: i32 = 3;

/// How long a rank that has nothing to do waits before it looks again. To wait within MPI would keep a core busy.
const PAUSE: Duration = Duration::from_millis(1);

/// A run for another rank: its configuration as JSON, and where its result as JSON goes.
struct Request {
    config: String,
    reply: Sender<String>,
}

impl Mpi {
    /// Shares the runs of a study among all ranks, each of which does one at a time: as
    /// [`Study::run`](bptt::tune::Study::run), with the same table. Rank 0 has it, and the others have `None`.
    ///
    /// Every rank calls this with the same `run`; only rank 0's study and configurations count. Rank 0 gives the runs to
    /// whichever rank is free, does some itself, and writes the study's file. If a rank is lost, MPI ends all of them; the
    /// same command then repeats only the runs that were not done.
    ///
    /// # Errors
    /// At rank 0 those of [`Study::run`](bptt::tune::Study::run). The other ranks end without an error.
    ///
    /// # Examples
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// use bptt::tune::Study;
    ///
    /// fn main() -> ExitCode {
    ///     bptt_mpi::main(|mpi| {
    ///         let study = Study::new().file("study.jsonl");
    ///         let table = mpi.study(study, 0..100, |n: &u64| Ok::<_, bptt::Error>(n * n))?;
    ///         if let Some(table) = table {
    ///             println!("{table}");
    ///         }
    ///         Ok::<_, bptt::Error>(ExitCode::SUCCESS)
    ///     })
    /// }
    /// ```
    pub fn study<C, S, E, F>(
        &self,
        study: Study,
        configs: impl IntoIterator<Item = C>,
        run: F,
    ) -> Result<Option<Table<C, S>>>
    where
        C: Serialize + DeserializeOwned + Sync,
        S: Serialize + DeserializeOwned + Send,
        E: Display,
        F: Fn(&C) -> Result<S, E> + Sync,
    {
        if self.rank() > 0 {
            work(run);
            return Ok(None);
        }
        let (requests, receiver) = channel();
        let size = self.size();
        // Whoever holds it runs here; the other workers of the study each wait for a rank.
        let here = Mutex::new(());
        thread::scope(|scope| {
            let others = scope.spawn(move || give_out(size, &receiver));
            let table = study.workers(size).run(configs, |config| match here.try_lock() {
                Ok(_here) => run(config).map_err(|e| e.to_string()),
                Err(_) => elsewhere(config, &requests),
            });
            drop(requests);
            others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            table.map(Some)
        })
    }
}

/// Has another rank do a run.
fn elsewhere<C: Serialize, S: DeserializeOwned>(config: &C, requests: &Sender<Request>) -> Result<S, String> {
    let config = serde_json::to_string(config).map_err(|e| e.to_string())?;
    let (reply, result) = channel();
    let gone = "found the ranks gone, expected a result";
    requests.send(Request { config, reply }).map_err(|_| gone)?;
    let result = result.recv().map_err(|_| gone)?;
    serde_json::from_str::<Result<S, String>>(&result).map_err(|e| e.to_string())?
}

/// Sends runs to free ranks and their results back, until there are no more. Only this thread of rank 0 calls MPI meanwhile.
fn give_out(size: usize, requests: &Receiver<Request>) {
    let world = SimpleCommunicator::world();
    let ranks = i32::try_from(size).expect("a number of ranks of MPI");
    let mut free: Vec<i32> = (1..ranks).rev().collect();
    let mut replies: Vec<Option<Sender<String>>> = vec![None; size];
    loop {
        let request = requests.try_recv();
        if let Ok(Request { config, reply }) = request {
            let rank = free.pop().expect("the study has one worker for each rank");
            replies[rank as usize] = Some(reply);
            world.process_at_rank(rank).send_with_tag(config.as_bytes(), RUN);
        } else if let Some(message) = world.any_process().immediate_matched_probe_with_tag(RESULT) {
            let (result, status) = message.matched_receive_vec::<u8>();
            let rank = status.source_rank();
            if let Some(reply) = replies[rank as usize].take() {
                // A worker that panicked no longer waits.
                let _ = reply.send(String::from_utf8_lossy(&result).into_owned());
            }
            free.push(rank);
        } else if matches!(request, Err(TryRecvError::Disconnected)) {
            break;
        } else {
            thread::sleep(PAUSE);
        }
    }
    (1..ranks).for_each(|rank| world.process_at_rank(rank).send_with_tag(&[0_u8; 0][..], END));
}

/// Does the runs that rank 0 sends, each as a study of one run, so that it has one thread and its errors are those of a study.
fn work<C, S, E>(run: impl Fn(&C) -> Result<S, E> + Sync)
where
    C: Serialize + DeserializeOwned + Sync,
    S: Serialize + DeserializeOwned + Send,
    E: Display,
{
    let world = SimpleCommunicator::world();
    let first = world.process_at_rank(0);
    loop {
        let Some(message) = first.immediate_matched_probe() else {
            thread::sleep(PAUSE);
            continue;
        };
        let (config, status) = message.matched_receive_vec::<u8>();
        if status.tag() == END {
            return;
        }
        let failed = |e: Error| serde_json::json!({ "Err": e.to_string() }).to_string();
        let result = one_run(&config, &run).unwrap_or_else(failed);
        first.send_with_tag(result.as_bytes(), RESULT);
    }
}

/// The result of a run as JSON.
fn one_run<C, S, E>(config: &[u8], run: &(impl Fn(&C) -> Result<S, E> + Sync)) -> Result<String>
where
    C: Serialize + DeserializeOwned + Sync,
    S: Serialize + DeserializeOwned + Send,
    E: Display,
{
    let bad = |e: serde_json::Error| Error::config("configuration", e.to_string());
    let config: C = serde_json::from_slice(config).map_err(bad)?;
    let table = Study::new().workers(1).run([config], run)?;
    serde_json::to_string(&table.rows()[0].result).map_err(bad)
}
