//! A process-wide value that a forked child does not inherit.
//!
//! Threads do not survive a fork, and a lock may be held by one of them at that moment. So
//! the child must not touch its parent's pools at all, not even to look: it forgets them
//! (one leak a fork) and builds its own on first use.
//!
//! Memory order: the value is published with Release by the thread that built it and read
//! with Acquire; the hook runs while the child has one thread.
#![allow(unsafe_code, reason = "pointers to boxes that outlive whoever may read them")]

use crate::error::locked;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once};

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

/// How often this process is a forked child since plait came: what was made at another count
/// belongs to a parent. Never changes while the calling thread runs, unless it forks.
#[inline]
pub fn generation() -> u64 {
    static HOOKED: Once = Once::new();
    static FORKS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    HOOKED.call_once(|| crate::os::at_fork_in_child(count));
    FORKS.load(Ordering::Relaxed)
}

struct Aged<T> {
    generation: u64,
    value: Mutex<T>,
}

/// A mutex in any object, made when it is first locked, and made anew in a forked child: there
/// it may be locked for ever, and what it guards is its parent's.
///
/// Memory order: as with [`Forked`]. What it replaces is leaked (one a mutex and fork).
pub struct ForkMutex<T> {
    current: AtomicPtr<Aged<T>>,
    /// May be sent and shared as a mutex may.
    is_like: PhantomData<Mutex<T>>,
}

impl<T> Default for ForkMutex<T> {
    fn default() -> Self {
        Self { current: AtomicPtr::new(std::ptr::null_mut()), is_like: PhantomData }
    }
}

impl<T: Default> ForkMutex<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let generation = generation();
        let mut found = self.current.load(Ordering::Acquire);
        loop {
            // SAFETY: it came from Box::into_raw, and is freed only by `drop`, which has the
            // mutex for itself.
            if let Some(aged) = unsafe { found.as_ref() }
                && aged.generation == generation
            {
                return locked(&aged.value);
            }
            let value = Mutex::default();
            let made = Box::into_raw(Box::new(Aged { generation, value }));
            let raced =
                self.current.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire);
            found = match raced {
                Ok(_) => made,
                Err(winner) => {
                    // SAFETY: `made` came from Box::into_raw above and was not published.
                    drop(unsafe { Box::from_raw(made) });
                    winner
                }
            };
        }
    }

    /// Forgets what it guards, locked or not.
    pub fn forget(&self) {
        self.current.store(std::ptr::null_mut(), Ordering::Release);
    }
}

impl<T> Drop for ForkMutex<T> {
    fn drop(&mut self) {
        let found = *self.current.get_mut();
        if !found.is_null() {
            // SAFETY: it came from Box::into_raw, was published here only, and nobody has a
            // guard: those borrow the mutex, which is being dropped.
            let aged = unsafe { Box::from_raw(found) };
            if aged.generation != generation() {
                std::mem::forget(aged); // its parent's, perhaps in the midst of a change
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static VALUE: Forked<Mutex<u32>> = Forked::new(|| Mutex::new(7), forget);

    extern "C" fn forget() {
        VALUE.forget();
    }

    #[test]
    fn a_mutex_is_anew_when_it_is_forgotten() {
        let mutex = ForkMutex::<u32>::default();
        *mutex.lock() = 7;
        assert_eq!(*mutex.lock(), 7);
        let held = mutex.lock();
        mutex.forget();
        assert_eq!(*mutex.lock(), 0);
        drop(held);
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
