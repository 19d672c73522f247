//! Clocks: one for all processes, and each thread's own CPU time.
#![allow(unsafe_code, reason = "the clock of another thread has no safe binding")]

/// `time.monotonic_ns()`: on Linux the same in all processes.
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// The CPU time of a thread of this process, in nanoseconds; `None`: it has ended.
pub fn cpu_of(tid: i32) -> Option<u64> {
    // As the kernel numbers them: bit 2 says "a thread's", the lowest two "as the scheduler has it".
    read((!tid << 3) | 6)
}

fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes the one structure that it is given.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    (!failed).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_computes_uses_time_and_one_that_ended_has_no_clock() {
        let here = rustix::thread::gettid().as_raw_nonzero().get();
        let before = cpu_of(here).unwrap();
        while cpu_of(here).unwrap() < before + 1_000_000 {
            std::hint::spin_loop();
        }
        let other = || rustix::thread::gettid().as_raw_nonzero().get();
        let ended = std::thread::spawn(other).join().unwrap();
        // The kernel may take a moment to forget it.
        while cpu_of(ended).is_some() {
            std::thread::yield_now();
        }
    }
}
