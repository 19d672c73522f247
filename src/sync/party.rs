//! Parties: whoever can hold a primitive or wait for one, as one word.
//!
//! A thread is its `pthread_self`, which is Python's `threading.get_ident()`; an asyncio task is
//! the address of its object; a Rust task gets a number. All three are multiples of 8, and the
//! lowest bits tell them apart. Bit 0 is never set: primitives keep a mark of their own beside
//! their owner.

use std::sync::atomic::{AtomicU64, Ordering};

const THREAD: u64 = 0b010;
const RUST_TASK: u64 = 0b100;
const KIND: u64 = 0b111;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Party(u64);

impl Party {
    /// The calling thread.
    #[inline]
    pub fn this_thread() -> Self {
        Self(thread_ident() & !KIND | THREAD)
    }

    /// An asyncio task, by the address of its object.
    pub fn task(address: usize) -> Self {
        Self(address as u64 & !KIND)
    }

    /// A Rust task; each call gives another one.
    pub fn rust_task() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(1);
        Self(LAST.fetch_add(1, Ordering::Relaxed) << 3 | RUST_TASK)
    }

    /// The party that a primitive's word names, if any; its mark does not count.
    pub fn of_word(word: u64) -> Option<Self> {
        let word = word & !1;
        (word != 0).then_some(Self(word))
    }

    pub fn word(self) -> u64 {
        self.0
    }

    pub fn is_thread(self) -> bool {
        self.0 & KIND == THREAD
    }

    /// Whether it is an asyncio task.
    pub fn is_task(self) -> bool {
        self.0 & KIND == 0
    }

    /// A thread's ident, a task's address, a Rust task's number.
    pub fn ident(self) -> u64 {
        if self.0 & KIND == RUST_TASK { self.0 >> 3 } else { self.0 & !KIND }
    }
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "libc's binding of pthread_self is unsafe for no reason of ours")]
#[inline]
fn thread_ident() -> u64 {
    // SAFETY: it takes nothing, and always succeeds.
    unsafe { libc::pthread_self() as u64 }
}

#[cfg(not(unix))]
fn thread_ident() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    thread_local!(static IDENT: u64 = LAST.fetch_add(1, Ordering::Relaxed) << 3);
    IDENT.with(|ident| *ident)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_tasks_differ() {
        let here = Party::this_thread();
        let there = std::thread::spawn(Party::this_thread).join().unwrap();
        let parties = [here, there, Party::task(0x1000), Party::rust_task(), Party::rust_task()];
        for (index, party) in parties.iter().enumerate() {
            assert_eq!(party.word() & 1, 0);
            assert_eq!(Party::of_word(party.word() | 1), Some(*party));
            assert!(parties[index + 1..].iter().all(|other| other != party));
        }
        assert!(here.is_thread() && !here.is_task());
        assert!(parties[2].is_task() && !parties[3].is_task() && !parties[3].is_thread());
        assert_eq!(Party::of_word(1), None);
    }
}
