//! The only place where work is given to threads. Without the feature `rayon` everything runs in order, on one thread.
//!
//! Calls do not wait for each other: a training run has its own [`Pool`], and prediction and evaluation ([`for_each`])
//! start threads that end with the call. In a shared pool, a `predict` would wait until a worker is free, and forever if
//! that worker waits for the caller of `predict`. The exception is code that already runs on a rayon worker: it forks in
//! that worker's pool, as everything in rayon does, and meanwhile works on its own fork.

use crate::Result;

/// Calls `f(i, &mut items[i])` for each item, on all threads.
///
/// # Errors
/// The first error of `f`, in the order of the items.
pub fn for_each<T: Send>(items: &mut [T], f: impl Fn(usize, &mut T) -> Result<()> + Sync) -> Result<()> {
    #[cfg(feature = "rayon")]
    if rayon::current_thread_index().is_some() {
        use rayon::prelude::*;
        let items = items.par_iter_mut().enumerate().with_max_len(1);
        return items.find_map_first(|(i, item)| f(i, item).err()).map_or(Ok(()), Err);
    } else if items.len() > 1 {
        return spread::for_each(items, rayon::current_num_threads(), f);
    }
    items.iter_mut().enumerate().try_for_each(|(i, item)| f(i, item))
}

/// More values than this are worth a fork, where each takes a few operations.
pub const PART: usize = 1 << 16;

/// Calls `f` with parts of `y` and the same parts of `xs`, at once where there are many values. An `x` may be empty.
pub fn in_parts<T: Send + Sync>(y: &mut [T], xs: [&[T]; 2], f: &(impl Fn(&mut [T], [&[T]; 2]) + Sync)) {
    if y.len() <= PART {
        return f(y, xs);
    }
    let half = y.len() / 2;
    let [a, b] = xs.map(|x| x.split_at(half.min(x.len())));
    let (first, second) = y.split_at_mut(half);
    join(|| in_parts(first, [a.0, b.0], f), || in_parts(second, [a.1, b.1], f));
}

/// Calls `a` and `b`, at once if this is a thread of a pool in which another has nothing to do.
pub fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    #[cfg(feature = "rayon")]
    if rayon::current_thread_index().is_some() {
        rayon::join(a, b);
        return;
    }
    a();
    b();
}

/// Calls `f` on this thread, and meanwhile keeps another thread of its pool awake, for at most a thousand yields.
///
/// A thread that finds no work falls asleep within the time that a step's serial part takes, and waking it costs more
/// than that, which adds up between the forks of a loop. While waiting, it yields to other programs. A yield with
/// nothing else to run takes some tenths of a microsecond: a thousand of them outlast the serial part of all but large
/// models, where the cost of waking is negligible, and end soon enough not to occupy a core during a long serial part.
pub fn awake<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    #[cfg(feature = "rayon")]
    if rayon::current_thread_index().is_some() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let done = AtomicBool::new(false);
        let work = || {
            let result = f();
            done.store(true, Ordering::Release);
            result
        };
        // Run here, after `work`, if no thread has taken it.
        let wait = || {
            (0..1000).take_while(|_| !done.load(Ordering::Acquire)).for_each(|_| std::thread::yield_now());
        };
        return rayon::join(work, wait).0;
    }
    f()
}

/// The threads of one training run or stepper.
#[derive(Debug, Default)]
pub struct Pool {
    #[cfg(feature = "rayon")]
    pool: Option<rayon::ThreadPool>,
    /// Whether their number was given. If not, code that is already in a pool stays there.
    #[cfg(feature = "rayon")]
    asked: bool,
}

impl Pool {
    /// A pool of `threads` threads. Without a number it has as many as rayon's global pool, or, if this is called within a
    /// pool, no threads of its own.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the number is 0, or the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        if threads == Some(0) {
            return Err(crate::Error::config("threads", "found 0, expected at least 1"));
        }
        #[cfg(feature = "rayon")]
        {
            if threads.is_none() && rayon::current_thread_index().is_some() {
                return Ok(Self::default());
            }
            let number = threads.unwrap_or_else(rayon::current_num_threads);
            let builder = rayon::ThreadPoolBuilder::new().num_threads(number);
            let pool = match (builder.thread_name(|i| format!("bptt-{i}")).build(), threads) {
                (Ok(pool), _) => Some(pool),
                // If no number was given and no threads can be started, this thread does the work.
                (Err(_), None) => None,
                (Err(e), Some(_)) => {
                    return Err(crate::Error::config("threads", format!("found {number}: {e}")));
                }
            };
            Ok(Self { pool, asked: threads.is_some() })
        }
        #[cfg(not(feature = "rayon"))]
        Ok(Self::default())
    }

    /// The pool to change to, if this thread is not already where it should fork.
    #[cfg(feature = "rayon")]
    fn elsewhere(&self) -> Option<&rayon::ThreadPool> {
        self.pool.as_ref().filter(|_| self.asked || rayon::current_thread_index().is_none())
    }

    /// Runs `f` on a thread of the pool, so that forks inside `f` are cheap. Within the pool it just calls `f`.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        #[cfg(feature = "rayon")]
        if let Some(pool) = self.elsewhere() {
            return pool.install(f);
        }
        f()
    }

    /// Runs `f` on a thread of the pool, and meanwhile calls `watch` on this one with each message that `f` sends, in
    /// order: some milliseconds later, and with all of them before this returns. Sending gives false, and `f` should
    /// end, once `watch` has panicked.
    ///
    /// A message neither wakes this thread nor waits for it, unless a thousand have piled up: a loop of short steps can
    /// send one each.
    pub fn run_watched<M: Send, T: Send>(
        &self,
        f: impl FnOnce(&mut dyn FnMut(M) -> bool) -> T + Send,
        mut watch: impl FnMut(M),
    ) -> T {
        #[cfg(feature = "rayon")]
        if let Some(pool) = self.elsewhere() {
            return watched::run(pool, f, watch);
        }
        f(&mut |message| {
            watch(message);
            true
        })
    }
}

#[cfg(feature = "rayon")]
mod watched {
    use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
    use std::thread::{Thread, current, park_timeout};
    use std::time::Duration;

    /// The most messages that may wait.
    const ROOM: usize = 1000;
    /// The longest time that messages wait: a screen cannot show more, and waking so rarely costs nothing.
    const LAG: Duration = Duration::from_millis(10);

    /// The sending end; when `f` has ended, even by a panic, it hangs up and wakes the receiver.
    struct Sender<M> {
        channel: Option<SyncSender<M>>,
        receiver: Thread,
    }

    impl<M> Sender<M> {
        fn send(&self, message: M) -> bool {
            let Some(channel) = &self.channel else { return false };
            match channel.try_send(message) {
                Ok(()) => true,
                Err(TrySendError::Disconnected(_)) => false,
                Err(TrySendError::Full(message)) => {
                    self.receiver.unpark();
                    channel.send(message).is_ok()
                }
            }
        }
    }

    impl<M> Drop for Sender<M> {
        fn drop(&mut self) {
            self.channel = None;
            self.receiver.unpark();
        }
    }

    /// See [`Pool::run_watched`](super::Pool::run_watched).
    pub fn run<M: Send, T: Send>(
        pool: &rayon::ThreadPool,
        f: impl FnOnce(&mut dyn FnMut(M) -> bool) -> T + Send,
        watch: impl FnMut(M),
    ) -> T {
        let (channel, messages) = sync_channel(ROOM);
        let sender = Sender { channel: Some(channel), receiver: current() };
        let mut result = None;
        pool.in_place_scope(|scope| {
            let result = &mut result;
            scope.spawn(move |_| *result = Some(f(&mut |message| sender.send(message))));
            // If `watch` panics, `messages` is gone before the scope waits for `f`.
            receive(messages, watch);
        });
        result.expect("the scope passes on a panic of `f`")
    }

    fn receive<M>(messages: Receiver<M>, mut watch: impl FnMut(M)) {
        loop {
            match messages.try_recv() {
                Ok(message) => watch(message),
                Err(TryRecvError::Empty) => park_timeout(LAG),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}

#[cfg(feature = "rayon")]
mod spread {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use crate::{Error, Result};

    /// Calls `f` for each item on at most `threads` threads, this one and others that end with the call. Starting one
    /// takes about as long as waking one of a pool.
    pub fn for_each<T: Send>(
        items: &mut [T],
        threads: usize,
        f: impl Fn(usize, &mut T) -> Result<()> + Sync,
    ) -> Result<()> {
        let helpers = threads.min(items.len()).saturating_sub(1);
        let queue = Mutex::new(items.iter_mut().enumerate());
        let first = Mutex::new(None);
        let work = || {
            // Items are taken in order: once one has failed, those before it are done or under way.
            while lock(&first).is_none() {
                let Some((i, item)) = lock(&queue).next() else { return };
                if let Err(error) = f(i, item) {
                    keep_first(&mut lock(&first), i, error);
                }
            }
        };
        std::thread::scope(|scope| {
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            // Without a thread, the others do its part.
            let helpers: Vec<_> = (0..helpers).map_while(start).collect();
            work();
            for helper in helpers {
                helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        let first = first.into_inner().unwrap_or_else(PoisonError::into_inner);
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn keep_first(first: &mut Option<(usize, Error)>, i: usize, error: Error) {
        if first.as_ref().is_none_or(|(j, _)| i < *j) {
            *first = Some((i, error));
        }
    }

    /// Nothing panics while it holds a lock.
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `f` within a pool of `threads` threads, so that forks inside `f` are cheap.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the threads cannot be started.
#[cfg(any(feature = "rayon", test))]
pub fn within<T: Send>(threads: Option<usize>, f: impl FnOnce() -> T + Send) -> Result<T> {
    Pool::new(threads).map(|pool| pool.run(f))
}

/// Calls `f` on `workers` threads at once, each within a pool of one thread, so that forks inside `f` stay on it. Without
/// the feature `rayon`, calls it once, on this thread.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the threads cannot be started.
///
/// # Panics
/// If `f` does, after all calls have ended.
pub fn crew(workers: usize, f: impl Fn() + Sync) -> crate::Result<()> {
    #[cfg(feature = "rayon")]
    {
        std::thread::scope(|scope| {
            let start = |_| scope.spawn(|| within(Some(1), &f));
            let crew: Vec<_> = (0..workers).map(start).collect();
            let ends =
                crew.into_iter().map(|worker| worker.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            ends.collect()
        })
    }
    #[cfg(not(feature = "rayon"))]
    {
        if workers > 0 {
            f();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Error;

    #[test]
    fn every_item_once_in_a_pool_and_out_of_it() {
        let all = || {
            let mut items = vec![0; 100];
            for_each(&mut items, |i, item| {
                *item += i;
                Ok(())
            })
            .unwrap();
            items
        };
        let expected: Vec<usize> = (0..100).collect();
        assert_eq!(all(), expected);
        for threads in [1, 2, 5] {
            assert_eq!(within(Some(threads), all).unwrap(), expected);
        }
        for_each(&mut [0; 0], |_, _| unreachable!("no item")).unwrap();
    }

    #[test]
    fn the_first_error_in_order() {
        let run = || {
            let fail = |i: usize| match i {
                7 => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    Err(Error::config("seven", ""))
                }
                8.. => Err(Error::config("later", "")),
                _ => Ok(()),
            };
            for_each(&mut [0; 50], |i, _| fail(i)).unwrap_err().to_string()
        };
        for _ in 0..20 {
            assert_eq!(run(), "`seven`: ");
        }
        assert_eq!(within(Some(3), run).unwrap(), "`seven`: ");
    }

    #[test]
    #[should_panic(expected = "item 3")]
    fn a_panic_is_passed_on() {
        let _ = for_each(&mut [0; 9], |i, _| if i == 3 { panic!("item 3") } else { Ok(()) });
    }

    #[test]
    fn messages_arrive_on_this_thread_in_order_and_all_of_them() {
        let here = std::thread::current().id();
        for threads in [None, Some(1), Some(2)] {
            let pool = Pool::new(threads).unwrap();
            let mut got = Vec::new();
            let sum = pool.run_watched(
                |send| {
                    (0..5000).for_each(|i| assert!(send(i)));
                    pool.run(|| 7)
                },
                |i: usize| {
                    assert_eq!(std::thread::current().id(), here);
                    got.push(i);
                },
            );
            assert_eq!((sum, got), (7, (0..5000).collect()));
        }
    }

    #[test]
    fn panics_on_either_side_are_passed_on() {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let pool = Pool::new(Some(2)).unwrap();
        let sent = AtomicUsize::new(0);
        let watcher = catch_unwind(AssertUnwindSafe(|| {
            let f = |send: &mut dyn FnMut(usize) -> bool| while send(sent.fetch_add(1, Ordering::Relaxed)) {};
            pool.run_watched(f, |i| assert!(i < 10, "watched"));
        }));
        if cfg!(feature = "rayon") {
            assert!(watcher.is_err());
        }
        let worker = catch_unwind(AssertUnwindSafe(|| {
            pool.run_watched(|_: &mut dyn FnMut(usize) -> bool| panic!("worked"), |_| ());
        }));
        assert!(worker.is_err());
        assert_eq!(pool.run(|| 3), 3, "the pool works on");
    }
}
