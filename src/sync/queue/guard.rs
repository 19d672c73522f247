//! What a queue's state is behind: a mutex, unless the interpreter's lock is one already.
//!
//! A lock and an unlock are two atomic read-modify-writes, half of what putting or getting an
//! item costs otherwise. Where the interpreter has a GIL, all who come here hold it, and it does
//! not change hands in here: critical sections run no Python code and do not detach. So there
//! the state is just used, and a flag finds out who tries to use it twice at once.
//!
//! Models use loom's mutex, engines without an interpreter the standard library's.

#[cfg(feature = "model")]
pub use loom::sync::{Mutex as Guard, MutexGuard as Guarded};

#[cfg(not(any(feature = "model", feature = "python")))]
pub use std::sync::{Mutex as Guard, MutexGuard as Guarded};

#[cfg(all(feature = "python", not(feature = "model")))]
pub use attached::{Guard, Guarded};

#[cfg(all(feature = "python", not(feature = "model")))]
#[allow(unsafe_code, reason = "a cell that the GIL guards")]
mod attached {
    use std::cell::{Cell, UnsafeCell};
    use std::ops::{Deref, DerefMut};
    use std::sync::{LockResult, Mutex, MutexGuard, PoisonError, TryLockError, TryLockResult};

    /// Whether threads run Python in parallel: an object then has a larger head, for a second
    /// count of references, among others. (So it has in some debug builds, which is no harm.)
    const PARALLEL: bool = size_of::<pyo3::ffi::PyObject>() > 2 * size_of::<usize>();

    /// Used as a mutex is, by threads that are attached to the interpreter.
    pub struct Guard<T> {
        mutex: Mutex<()>,
        busy: Cell<bool>,
        value: UnsafeCell<T>,
    }

    // SAFETY: a `Guarded` is had by one thread at a time (see `lock`), and only through it are
    // the cells used. `T: Send` since it is used by one thread after the other.
    unsafe impl<T: Send> Sync for Guard<T> {}

    pub struct Guarded<'a, T> {
        guard: &'a Guard<T>,
        /// `None` where the GIL serves. Not sent to another thread either way.
        _locked: Option<MutexGuard<'a, ()>>,
    }

    impl<T> Guard<T> {
        pub fn new(value: T) -> Self {
            Self { mutex: Mutex::new(()), busy: Cell::new(false), value: UnsafeCell::new(value) }
        }

        /// Never fails.
        #[inline]
        pub fn lock(&self) -> LockResult<Guarded<'_, T>> {
            let locked =
                PARALLEL.then(|| self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(self.begin(locked))
        }

        #[inline]
        pub fn try_lock(&self) -> TryLockResult<Guarded<'_, T>> {
            let locked = if PARALLEL {
                match self.mutex.try_lock() {
                    Err(TryLockError::WouldBlock) => return Err(TryLockError::WouldBlock),
                    Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                    Ok(locked) => Some(locked),
                }
            } else if self.busy.get() {
                return Err(TryLockError::WouldBlock);
            } else {
                None
            };
            Ok(self.begin(locked))
        }

        #[inline]
        fn begin<'a>(&'a self, locked: Option<MutexGuard<'a, ()>>) -> Guarded<'a, T> {
            debug_assert!(PARALLEL || is_attached(), "a queue is for attached threads");
            assert!(!self.busy.replace(true), "a queue's state is used within its use");
            Guarded { guard: self, _locked: locked }
        }
    }

    fn is_attached() -> bool {
        // SAFETY: it takes nothing, and may be called by any thread at any time.
        unsafe { pyo3::ffi::PyGILState_Check() != 0 }
    }

    impl<T> Deref for Guarded<'_, T> {
        type Target = T;

        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: no other thread comes between `begin` and `drop`: the mutex is locked, or
            // this thread has the GIL and keeps it (see the head of this file). In this thread
            // nobody else does, or `busy` would have been set. So references from here are the
            // only ones, and end with the borrow of `self`.
            unsafe { &*self.guard.value.get() }
        }
    }

    impl<T> DerefMut for Guarded<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: as in `deref`.
            unsafe { &mut *self.guard.value.get() }
        }
    }

    impl<T> Drop for Guarded<'_, T> {
        #[inline]
        fn drop(&mut self) {
            self.guard.busy.set(false); // before the mutex is unlocked, if it was locked
        }
    }
}
