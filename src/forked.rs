//! A process-wide value that a forked child does not inherit.
//!
//! Threads do not survive a fork, and a lock may be held by one of them at that moment. So
//! the child must not touch its parent's pools at all, not even to look: it forgets them
//! (one leak a fork) and builds its own on first use.
//!
//! Memory order: the value is published with Release by the thread that built it and read
//! with Acquire; the hook runs while the child has one thread.
#![allow(unsafe_code, reason = "one dereference, of memory that is never freed")]

use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A number that is another one in each forked child: who finds it changed has been forked.
pub fn generation() -> u64 {
    static HOOKED: Once = Once::new();
    extern "C" fn next() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    HOOKED.call_once(|| crate::os::at_fork_in_child(next));
    GENERATION.load(Ordering::Relaxed)
}

/// Declared as a `static`; `hook` is a plain function that calls [`Forked::forget`] on it.
pub struct Forked<T: 'static> {
    value: AtomicPtr<T>,
    build: fn() -> T,
    hook: extern "C" fn(),
    hooked: Once,
}

impl<T: Send + Sync> Forked<T> {
    pub const fn new(build: fn() -> T, hook: extern "C" fn()) -> Self {
        let value = AtomicPtr::new(std::ptr::null_mut());
        Self { value, build, hook, hooked: Once::new() }
    }

    /// This process's value, built on first use.
    pub fn get(&self) -> &'static T {
        let mut found = self.value.load(Ordering::Acquire);
        if found.is_null() {
            self.hooked.call_once(|| crate::os::at_fork_in_child(self.hook));
            let built = Box::into_raw(Box::new((self.build)()));
            let raced = self.value.compare_exchange(
                std::ptr::null_mut(),
                built,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            found = match raced {
                Ok(_) => built,
                Err(winner) => {
                    // SAFETY: `built` came from Box::into_raw above and was not published.
                    drop(unsafe { Box::from_raw(built) });
                    winner
                }
            };
        }
        // SAFETY: not null, came from Box::into_raw, and nobody frees it once published:
        // `forget` only replaces the pointer.
        unsafe { &*found }
    }

    /// For the fork hook: the next `get` builds anew.
    pub fn forget(&self) {
        self.value.store(std::ptr::null_mut(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static VALUE: Forked<Mutex<u32>> = Forked::new(|| Mutex::new(7), forget);

    extern "C" fn forget() {
        VALUE.forget();
    }

    #[test]
    fn is_built_once_until_forgotten() {
        *VALUE.get().lock().unwrap() = 8;
        assert_eq!(*VALUE.get().lock().unwrap(), 8);
        let old = VALUE.get().lock().unwrap(); // held, as by a thread that a fork lost
        forget();
        assert_eq!(*VALUE.get().lock().unwrap(), 7);
        drop(old);
    }
}
