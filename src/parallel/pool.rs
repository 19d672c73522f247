//! Rayon pools of plait's own, one a worker count, rebuilt after a fork.
//!
//! Rayon's global pool is never used: another library may have sized it, and it hangs in
//! a forked child, where its threads do not exist.

use super::cpus::cpu_count;
use crate::error::ParallelError;
use crate::forked::Forked;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Pools that are kept for the next call. A program uses one or two worker counts; a sweep
/// over many should not leave a thread for each behind.
const POOLS_KEPT: usize = 4;

type Pools = Mutex<BTreeMap<usize, Arc<ThreadPool>>>;

static POOLS: Forked<Pools> = Forked::new(Pools::default, forget_pools);

extern "C" fn forget_pools() {
    POOLS.forget();
}

/// Asked by a kernel between steps: has its caller been interrupted?
///
/// Relaxed suffices: the flag guards no other memory, and being late by a step is fine.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The pool with this many threads; `None`: one a core.
pub fn get(workers: Option<i64>) -> Result<Arc<ThreadPool>, ParallelError> {
    let workers = match workers {
        None => cpu_count(),
        Some(n) => usize::try_from(n).ok().filter(|n| *n > 0).ok_or(ParallelError::Workers(n))?,
    };
    let mut pools = POOLS.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = pools.get(&workers) {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|index| format!("plait-rayon-{index}"))
        .start_handler(|_| crate::os::block_signals())
        .build()
        .map_err(|error| ParallelError::Pool { workers, reason: error.to_string() })?;
    let pool = Arc::new(pool);
    if pools.len() >= POOLS_KEPT {
        pools.pop_last(); // its threads end when the last call that uses it returns
    }
    pools.insert(workers, Arc::clone(&pool));
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_as_many_threads_as_asked_for() {
        assert_eq!(get(Some(3)).unwrap().current_num_threads(), 3);
        assert_eq!(get(None).unwrap().current_num_threads(), cpu_count());
    }

    #[test]
    fn a_worker_count_below_one_is_refused_with_its_value() {
        let message = get(Some(-2)).unwrap_err().to_string();
        assert!(message.contains("-2"), "{message}");
    }

    #[test]
    fn only_a_few_pools_are_kept() {
        for workers in 1..10 {
            get(Some(workers)).unwrap();
        }
        assert!(POOLS.get().lock().unwrap().len() <= POOLS_KEPT);
    }
}
