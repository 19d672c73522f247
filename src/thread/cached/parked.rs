//! OS threads that park when they have nothing to run, and run again.
//!
//! Algorithm: each thread has a slot, where whoever has reserved it puts a job. A thread that has
//! run one puts its slot into the cache and only then tells that the job has ended, so that
//! whoever waits for that, and then starts another one, finds it there; that it may not have
//! gone to sleep yet does not matter, since it looks into its slot before. One that is not
//! wanted for [`PATIENCE`] takes itself out of the cache and ends.
//!
//! No wake-up is missed: a slot's job and its thread's sleep are under one mutex. A slot is in the
//! cache or reserved, never both: it is taken out under the cache's mutex, by one who reserves it
//! or by its own thread.
//!
//! The threads are made by `pthread_create` with the attributes of CPython's own: the stack's
//! size, and nothing else. What a thread inherits when it is created and keeps (signal mask) is
//! set for each run to what its starter has.
#![allow(unsafe_code, reason = "std's threads have no identity before they run")]

use crate::error::locked;
use crate::forked::{Forked, generation};
use crate::sync::graph;
use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a thread waits for its next job before it ends.
const PATIENCE: Duration = Duration::from_secs(10);
/// As many are kept at most.
const KEPT: usize = 64;

/// What a thread runs. What it returns is called when the thread is in the cache.
pub type Job = Box<dyn FnOnce() -> Ended + Send>;
pub type Ended = Box<dyn FnOnce() + Send>;

/// What a run has from its starter.
pub struct Inherited {
    mask: libc::sigset_t,
}

impl Inherited {
    pub fn here() -> Self {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: a null pointer leaves the mask as it is; the call fills `mask`, and cannot
        // fail with these arguments.
        unsafe {
            libc::sigemptyset(mask.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), mask.as_mut_ptr());
            Self { mask: mask.assume_init() }
        }
    }

    fn apply(&self) {
        // SAFETY: a valid set; the old one is not asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut())
        };
    }
}

struct Order {
    job: Job,
    name: Box<CStr>,
    inherited: Inherited,
}

struct Slot {
    stack: usize,
    state: Mutex<SlotState>,
    changed: Condvar,
}

#[derive(Default)]
struct SlotState {
    order: Option<Order>,
    /// `pthread_self` and `gettid`, once the thread runs.
    ids: Option<(libc::pthread_t, i32)>,
}

struct Cache {
    idle: Mutex<Vec<Arc<Slot>>>,
}

static CACHE: Forked<Cache> = Forked::new(|| Cache { idle: Mutex::default() }, forget);

extern "C" fn forget() {
    CACHE.forget();
}

/// A thread that waits for its job.
pub struct Reserved {
    slot: Option<Arc<Slot>>,
    pub ident: libc::pthread_t,
    pub native_id: i32,
}

impl Reserved {
    /// One from the cache, or a new one, whose stack has this size (0: the system's default).
    pub fn new(stack: usize) -> std::io::Result<Self> {
        let cached = {
            let mut idle = locked(&CACHE.get().idle);
            let found = idle.iter().rposition(|slot| slot.stack == stack);
            found.map(|found| idle.remove(found))
        };
        let slot = match cached {
            Some(slot) => slot,
            None => create(stack)?,
        };
        let mut state = locked(&slot.state);
        let (ident, native_id) = loop {
            if let Some(ids) = state.ids {
                break ids;
            }
            state = slot.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        };
        drop(state);
        Ok(Self { slot: Some(slot), ident, native_id })
    }

    /// Has it run a job, under a name.
    pub fn run(mut self, name: Box<CStr>, inherited: Inherited, job: Job) {
        if let Some(slot) = self.slot.take() {
            locked(&slot.state).order = Some(Order { job, name, inherited });
            slot.changed.notify_one();
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            locked(&CACHE.get().idle).push(slot);
        }
    }
}

fn create(stack: usize) -> std::io::Result<Arc<Slot>> {
    let slot = Arc::new(Slot { stack, state: Mutex::default(), changed: Condvar::new() });
    let handed = Arc::into_raw(Arc::clone(&slot));
    let mut attributes = MaybeUninit::uninit();
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised before they are used and destroyed after. `main`
    // gets the reference that `into_raw` gave up, and gives it back.
    let refused = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        let mut refused = 0;
        if stack != 0 {
            refused = libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
        }
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        if refused == 0 {
            let argument = handed.cast_mut().cast();
            refused =
                libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), main, argument);
        }
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        refused
    };
    if refused == 0 {
        return Ok(slot);
    }
    // SAFETY: no thread was made that would have it.
    drop(unsafe { Arc::from_raw(handed) });
    Err(std::io::Error::from_raw_os_error(refused))
}

/// What a thread does. Nothing unwinds through here: jobs see to that.
extern "C" fn main(argument: *mut c_void) -> *mut c_void {
    // SAFETY: see `create`.
    let slot = unsafe { Arc::from_raw(argument.cast_const().cast::<Slot>()) };
    // SAFETY: neither has a precondition.
    let ids = unsafe { (libc::pthread_self(), libc::gettid()) };
    locked(&slot.state).ids = Some(ids);
    slot.changed.notify_one();
    let born = generation();
    while let Some(Order { job, name, inherited }) = next(&slot) {
        inherited.apply();
        set_name(&name);
        let ended = job();
        if generation() != born {
            break; // in a child that the job has forked; the process ends with its last thread
        }
        let is_kept = put_back(&slot);
        ended();
        if !is_kept {
            break;
        }
    }
    std::ptr::null_mut()
}

fn put_back(slot: &Arc<Slot>) -> bool {
    let mut idle = locked(&CACHE.get().idle);
    let is_kept = idle.len() < KEPT;
    if is_kept {
        idle.push(Arc::clone(slot));
    }
    is_kept
}

/// The next job; `None`: the thread is not wanted, and out of the cache.
fn next(slot: &Arc<Slot>) -> Option<Order> {
    let mut state = locked(&slot.state);
    loop {
        if let Some(order) = state.order.take() {
            return Some(order);
        }
        let _parked = graph::parked();
        let waited = slot.changed.wait_timeout(state, PATIENCE);
        let (held, late) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        state = held;
        if late.timed_out() && state.order.is_none() {
            drop(state); // the cache's lock is never taken under a slot's
            let mut idle = locked(&CACHE.get().idle);
            let found = idle.iter().position(|other| Arc::ptr_eq(other, slot));
            if let Some(found) = found {
                idle.remove(found);
                return None;
            }
            drop(idle); // reserved: a job is on its way
            state = locked(&slot.state);
        }
    }
}

/// The name that the system shows; its first 15 bytes.
pub fn set_name(name: &CStr) {
    // SAFETY: a C string, of which the kernel copies what it has room for.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn run(reserved: Reserved, body: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
        let (ended, wait) = mpsc::channel();
        let job: Job = Box::new(move || {
            body();
            Box::new(move || ended.send(()).unwrap())
        });
        reserved.run(c"weft".into(), Inherited::here(), job);
        wait
    }

    #[test]
    fn a_thread_that_has_ended_is_there_for_the_next_job() {
        const STACK: usize = 1 << 20; // no other test's
        let first = Reserved::new(STACK).unwrap();
        let (ident, native_id) = (first.ident, first.native_id);
        let (send, seen) = mpsc::channel();
        let wait = run(first, move || {
            // SAFETY: neither has a precondition.
            send.send(unsafe { (libc::pthread_self(), libc::gettid()) }).unwrap();
        });
        wait.recv().unwrap();
        assert_eq!(seen.recv().unwrap(), (ident, native_id));
        let second = Reserved::new(STACK).unwrap();
        assert_eq!(second.native_id, native_id);
        let third = Reserved::new(STACK).unwrap();
        assert_ne!(third.native_id, native_id);
        drop(second); // not used: back in the cache
        assert_eq!(Reserved::new(STACK).unwrap().native_id, native_id);
    }

    #[test]
    fn names_are_seen_by_the_system() {
        let reserved = Reserved::new(1 << 21).unwrap();
        let path = format!("/proc/self/task/{}/comm", reserved.native_id);
        let (send, seen) = mpsc::channel();
        let wait = run(reserved, move || send.send(std::fs::read_to_string(path)).unwrap());
        wait.recv().unwrap();
        assert_eq!(seen.recv().unwrap().unwrap(), "weft\n");
    }
}
