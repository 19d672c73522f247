//! Who holds the GIL, read from the interpreter's memory without its knowledge.
//!
//! CPython keeps it in one structure inside of `_PyRuntime`: the switch interval, the thread
//! state that last had it, and whether it is held now. Where that is differs from build to
//! build, and `runtime` finds it by what it must hold; the same way it finds where a thread state
//! keeps its thread's number. Best effort: two words are read one after the other, and the
//! holder may change in between.
#![allow(unsafe_code, reason = "another component's memory is read by address")]

use std::ops::Range;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Where it is written.
#[derive(Debug, Clone)]
pub struct Gil {
    /// All of `_PyRuntime`, which is there until the process ends.
    pub runtime: Range<usize>,
    /// In it, the thread state that last had the GIL, and then whether it is held: an `int`.
    pub last_holder: usize,
    /// Of a thread state: where its thread's number is.
    pub tid_offset: usize,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    Thread(i32),
    /// It could not be read.
    Hidden,
}

impl Gil {
    /// Whether a thread that sleeps on this word waits for the GIL: the words of its condition
    /// and mutex lie in `_PyRuntime`, those of locks elsewhere.
    pub fn owns(&self, word: u64) -> bool {
        usize::try_from(word).is_ok_and(|word| self.runtime.contains(&word))
    }

    pub fn holder(&self) -> Holder {
        // SAFETY: `runtime` found both words inside of `_PyRuntime`, aligned; the interpreter
        // changes them by atomic operations.
        let (state, held) = unsafe {
            let state = AtomicUsize::from_ptr(self.last_holder as *mut usize);
            let held = AtomicI32::from_ptr((self.last_holder + size_of::<usize>()) as *mut i32);
            (state.load(Ordering::Acquire), held.load(Ordering::Acquire))
        };
        if held <= 0 || state == 0 {
            return Holder::Nobody;
        }
        match peek(state + self.tid_offset) {
            Some(tid) => i32::try_from(tid).map_or(Holder::Hidden, Holder::Thread),
            None => Holder::Hidden,
        }
    }
}

/// A word of this process's memory, if there is one at that address: the kernel looks, so that a
/// thread state that was freed meanwhile is no fault.
fn peek(address: usize) -> Option<u64> {
    let mut word = 0_u64;
    let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<u64>() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: size_of::<u64>() };
    // SAFETY: it writes the one word that `local` describes, and answers with an error for a
    // remote address that is not mapped.
    let read = unsafe {
        libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
    };
    (read == size_of::<u64>() as isize).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_there_and_one_that_is_not() {
        let word = 77_u64;
        // Where a sandbox forbids the call, nothing is read, and nothing is claimed.
        assert!(matches!(peek((&raw const word).addr()), Some(77) | None));
        assert_eq!(peek(8), None);
    }

    #[test]
    fn the_holder_is_read_while_it_is_held() {
        let state: [u64; 2] = [0, 4321];
        let gil_words = [(&raw const state).addr() as u64, 1];
        let start = (&raw const gil_words).addr();
        let mut gil = Gil { runtime: start..start + 16, last_holder: start, tid_offset: 8 };
        assert!(matches!(gil.holder(), Holder::Thread(4321) | Holder::Hidden));
        assert!(gil.owns(start as u64 + 8) && !gil.owns(start as u64 + 16));
        let free = [(&raw const state).addr() as u64, 0];
        gil.last_holder = (&raw const free).addr();
        assert_eq!(gil.holder(), Holder::Nobody);
    }
}
