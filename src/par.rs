//! The only place where work is given to threads. Without the feature `rayon` it runs in order, on one thread.

use crate::Result;

/// Calls `f(i, &mut items[i])` for each item, on all threads of the pool.
///
/// # Errors
/// The first error of `f`, in the order of the items.
pub fn for_each<T: Send>(items: &mut [T], f: impl Fn(usize, &mut T) -> Result<()> + Sync) -> Result<()> {
    #[cfg(feature = "rayon")]
    {
        use rayon::prelude::*;
        let items = items.par_iter_mut().enumerate().with_max_len(1);
        items.find_map_first(|(i, item)| f(i, item).err()).map_or(Ok(()), Err)
    }
    #[cfg(not(feature = "rayon"))]
    items.iter_mut().enumerate().try_for_each(|(i, item)| f(i, item))
}

/// Calls `f` on this thread, and meanwhile keeps another thread of its pool awake, for at most a thousand yields.
///
/// A thread that finds no work falls asleep within the time that one thread works alone in a step, and waking it costs more
/// than that, which adds up between the forks of a loop. While waiting, it yields to other programs.
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

/// Runs `f` within a pool of `threads` threads, or within the global one, so that forks inside it are cheap.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the threads cannot be started.
pub fn within<T: Send>(threads: Option<usize>, f: impl FnOnce() -> T + Send) -> Result<T> {
    #[cfg(feature = "rayon")]
    {
        let Some(threads) = threads else { return Ok(rayon::scope(|_| f())) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| crate::Error::config("threads", format!("found {threads}: {e}")))?;
        Ok(pool.install(f))
    }
    #[cfg(not(feature = "rayon"))]
    {
        let _ = threads;
        Ok(f())
    }
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
