//! A short wait on the loop's thread for what another thread will have done in a moment.
//!
//! To put a thread to sleep and to wake it costs more than many a job that it waits for: 30 µs
//! from core to core on the machine this was measured on, where tokio's part takes one. So a task
//! that awaits such a job lingers, detached, for a few microseconds before it gives its loop the
//! thread back; if the answer comes meanwhile, nobody is woken, and the task goes on at once.
//!
//! It costs a core that others may need, and keeps the loop from going round. So it is done
//! only where the last waits of the same kind of job were worth it (else one in `RETRY` tries
//! again), where there is another processor for the job, where the loop has nothing else to
//! do, and not more than `IN_A_ROW` times between two rounds of the loop.
//!
//! Memory order: the credit is a hint, read and written Relaxed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// About what it costs to be woken.
const LONGEST: Duration = Duration::from_micros(30);

/// How many awaits may go on without the loop's having gone round.
pub const IN_A_ROW: u32 = 16;

const MOST: u32 = 8;
const PRICE: u32 = 3;
const RETRY: u32 = 64;

/// What is known of a kind of job.
pub struct Brisk {
    credit: AtomicU32,
    skipped: AtomicU32,
}

impl Brisk {
    pub const fn new() -> Self {
        Self { credit: AtomicU32::new(MOST), skipped: AtomicU32::new(0) }
    }

    pub fn is_worth_it(&self) -> bool {
        self.credit.load(Ordering::Relaxed) > 0
            || self.skipped.fetch_add(1, Ordering::Relaxed) % RETRY == RETRY - 1
    }

    /// Waits until the flag is set; whether it was, in time.
    pub fn wait(&self, flag: &AtomicBool) -> bool {
        let start = Instant::now();
        let came = loop {
            if flag.load(Ordering::Acquire) {
                break true;
            }
            if start.elapsed() >= LONGEST {
                break false;
            }
            std::thread::yield_now();
        };
        let credit = self.credit.load(Ordering::Relaxed);
        let now = if came { (credit + 1).min(MOST) } else { credit.saturating_sub(PRICE) };
        if now != credit {
            self.credit.store(now, Ordering::Relaxed);
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_in_time_is_waited_for_seldom() {
        let (brisk, flag) = (Brisk::new(), AtomicBool::new(false));
        let mut waits = 0;
        for _ in 0..640 {
            if brisk.is_worth_it() {
                waits += 1;
                assert!(!brisk.wait(&flag));
            }
        }
        assert!(waits <= 13, "{waits}");
        flag.store(true, Ordering::Release);
        while !brisk.is_worth_it() {}
        assert!(brisk.wait(&flag) && brisk.is_worth_it());
    }
}
