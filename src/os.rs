//! Waiting for a word in memory to change, so that a signal ends the wait.
//!
//! Linux: a futex, which returns EINTR when Python's signal handler ran in this thread.
//! Elsewhere: std has no such wait, so a condition variable that looks up every 50 ms.

use std::time::{Duration, Instant};

/// A one-shot flag that one thread sets and others wait for.
///
/// Memory order: `set` stores with Release and `is_set` loads with Acquire, so what was
/// written before `set` is seen by whoever saw the flag. No wake-up is missed: the futex
/// compares the word with 0 under the kernel's lock before it sleeps.
#[derive(Debug, Default)]
pub struct Flag {
    #[cfg(target_os = "linux")]
    word: std::sync::atomic::AtomicU32,
    #[cfg(not(target_os = "linux"))]
    state: (std::sync::Mutex<bool>, std::sync::Condvar),
}

/// Why [`Flag::wait`] came back.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Woken {
    /// The flag is set.
    Set,
    /// A signal may have arrived: let Python run its handlers, then wait again.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

#[cfg(target_os = "linux")]
impl Flag {
    pub fn set(&self) {
        use std::sync::atomic::Ordering;
        self.word.store(1, Ordering::Release);
        // A wake can only fail on a bad address; the word is alive, we borrow it.
        let _ = rustix::thread::futex::wake(
            &self.word,
            rustix::thread::futex::Flags::PRIVATE,
            i32::MAX as u32,
        );
    }

    pub fn is_set(&self) -> bool {
        self.word.load(std::sync::atomic::Ordering::Acquire) != 0
    }

    /// For one thread that waits again and again; what it does next sees what came before the
    /// `set` that this clears.
    pub fn clear(&self) {
        self.word.swap(0, std::sync::atomic::Ordering::AcqRel);
    }

    pub fn wait(&self, deadline: Option<Instant>) -> Woken {
        loop {
            if self.is_set() {
                return Woken::Set;
            }
            let left = match deadline {
                None => None,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    None | Some(Duration::ZERO) => return Woken::TimedOut,
                    // More than the kernel can count is for ever.
                    Some(left) => rustix::thread::Timespec::try_from(left).ok(),
                },
            };
            let flags = rustix::thread::futex::Flags::PRIVATE;
            if rustix::thread::futex::wait(&self.word, flags, 0, left.as_ref())
                == Err(rustix::io::Errno::INTR)
            {
                return Woken::Interrupted;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Flag {
    pub fn set(&self) {
        *self.state.0.lock().expect("no holder of this lock panics") = true;
        self.state.1.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.state.0.lock().expect("no holder of this lock panics")
    }

    pub fn clear(&self) {
        *self.state.0.lock().expect("no holder of this lock panics") = false;
    }

    pub fn wait(&self, deadline: Option<Instant>) -> Woken {
        let look_up = Instant::now() + Duration::from_millis(50);
        let until = deadline.map_or(look_up, |deadline| deadline.min(look_up));
        let pause = until.saturating_duration_since(Instant::now());
        let guard = self.state.0.lock().expect("no holder of this lock panics");
        match self.state.1.wait_timeout_while(guard, pause, |set| !*set) {
            Ok((set, _)) if *set => Woken::Set,
            _ if deadline.is_some_and(|deadline| deadline <= Instant::now()) => Woken::TimedOut,
            _ => Woken::Interrupted,
        }
    }
}

/// How often the main thread, in which Python runs its handlers, looks for signals: one that
/// comes just before a wait does not end it.
pub const LOOK_UP: Duration = Duration::from_millis(300);

/// Whether this is the thread that runs Python's signal handlers.
pub fn is_main_thread() -> bool {
    #[cfg(target_os = "linux")]
    {
        thread_local! {
            static IS_MAIN: bool = rustix::thread::gettid() == rustix::process::getpid();
        }
        IS_MAIN.with(|is_main| *is_main)
    }
    #[cfg(not(target_os = "linux"))]
    {
        true // not known: then any thread looks
    }
}

/// How others name the calling thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seat {
    /// As `threading.get_ident()`; 0: not known here.
    pub ident: u64,
    /// As `threading.get_native_id()`; 0: not known here.
    pub native: i32,
}

thread_local! {
    static SEAT: std::cell::Cell<Option<Seat>> = const { std::cell::Cell::new(None) };
}

pub fn seat() -> Seat {
    SEAT.get().unwrap_or_else(|| {
        static HOOKED: std::sync::Once = std::sync::Once::new();
        extern "C" fn forget() {
            forget_seat();
        }
        HOOKED.call_once(|| at_fork_in_child(forget));
        #[cfg(target_os = "linux")]
        let native = rustix::thread::gettid().as_raw_nonzero().get();
        #[cfg(not(target_os = "linux"))]
        let native = 0;
        #[cfg(unix)]
        let ident = posix::ident();
        #[cfg(not(unix))]
        let ident = 0;
        let seat = Seat { ident, native };
        SEAT.set(Some(seat));
        seat
    })
}

/// For fork hooks: the child's thread has another number.
pub fn forget_seat() {
    SEAT.set(None);
}

/// Background threads leave signals to Python's threads: the kernel would otherwise be free
/// to run the handler here, and a main thread that waits would not be woken by ^C.
pub fn block_signals() {
    #[cfg(unix)]
    posix::block_signals();
}

/// Has `hook` called in each child that this process forks from now on. It runs while the
/// child has one thread and any lock may be held by a thread that is gone, so it must not
/// wait for one.
pub fn at_fork_in_child(hook: extern "C" fn()) {
    #[cfg(unix)]
    posix::at_fork_in_child(hook);
    #[cfg(not(unix))]
    let _ = hook; // no fork there
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "no call has a safe binding in the crates we use")]
mod posix {
    pub(super) fn ident() -> u64 {
        // SAFETY: it only tells who calls.
        unsafe { libc::pthread_self() as u64 }
    }

    pub(super) fn block_signals() {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set that pthread_sigmask then only reads, and
        // the old mask is not asked for.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
        }
    }

    pub(super) fn at_fork_in_child(hook: extern "C" fn()) {
        // SAFETY: the hook is a plain function of this library, which Python never unloads.
        // Its only failure is ENOMEM: the child then has no hook, and is as it would be
        // without plait.
        unsafe { libc::pthread_atfork(None, None, Some(hook)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_ends_when_another_thread_sets_the_flag() {
        let flag = Flag::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| while flag.wait(None) != Woken::Set {});
            flag.set();
            waiter.join().unwrap();
        });
        assert!(flag.is_set());
    }

    #[test]
    fn wait_ends_at_its_deadline() {
        let flag = Flag::default();
        assert_eq!(flag.wait(Some(Instant::now())), Woken::TimedOut);
        let deadline = Instant::now() + Duration::from_millis(5);
        while flag.wait(Some(deadline)) != Woken::TimedOut {}
        assert!(Instant::now() >= deadline);
    }
}
