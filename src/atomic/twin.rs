//! The lab's twin of the lost update: many threads that each add one to the same number, by a load
//! and a store, or by one `fetch_add`.
//!
//! Memory order: relaxed throughout. Each access is atomic, so there is no data race and no
//! undefined behaviour; what gets lost is lost between two of them. The threads' joins order all of
//! it before the last load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

/// What `threads` threads leave that each add one, `rounds` times.
///
/// None: the system has no such number of threads to give.
pub fn add_together(threads: usize, rounds: u64, in_one_step: bool) -> Option<u64> {
    let number = AtomicU64::new(0);
    let is_open = AtomicBool::new(false); // so that they run at the same time
    let add = || {
        while !is_open.load(Relaxed) {
            thread::yield_now();
        }
        for _ in 0..rounds {
            if in_one_step {
                number.fetch_add(1, Relaxed);
            } else {
                let seen = number.load(Relaxed);
                number.store(seen + 1, Relaxed);
            }
        }
    };
    let all_started = thread::scope(|scope| {
        let all_started = (0..threads).all(|_| {
            thread::Builder::new().name("plait-twin".into()).spawn_scoped(scope, add).is_ok()
        });
        is_open.store(true, Relaxed);
        all_started
    });
    all_started.then(|| number.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::add_together;

    #[test]
    fn one_step_loses_nothing() {
        assert_eq!(add_together(4, 1000, true), Some(4000));
    }

    #[test]
    fn two_steps_never_give_more() {
        let left = add_together(4, 1000, false).expect("four threads");
        assert!((1..=4000).contains(&left), "{left}");
    }

    #[test]
    fn one_thread_loses_nothing() {
        assert_eq!(add_together(1, 1000, false), Some(1000));
    }
}
