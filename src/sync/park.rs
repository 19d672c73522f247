//! A thread that waits for a Rust future: it sleeps on a word of its own between two polls.
//!
//! Algorithm: a thread has one [`Parker`], whose flag its wakers set. `block_on` clears the flag,
//! polls, and sleeps until it is set. A wake-up that is late (of a future that has ended since)
//! costs one poll too many, never one too few: after any wake-up, and after a wait within a wait
//! (a signal handler that takes a lock), the future is polled before the thread sleeps again.
//!
//! Memory order: [`Flag`]'s. The clear comes before the poll, so a wake that the poll did not see
//! the cause of sets the flag after it.

use crate::os::{Flag, Woken};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// One thread's place to sleep.
#[derive(Debug, Default)]
pub struct Parker {
    flag: Flag,
    /// In how many waits the thread is, one within the other.
    waits: AtomicU32,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.flag.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.set();
    }
}

impl Parker {
    /// The calling thread's.
    pub fn here() -> Arc<Self> {
        thread_local!(static HERE: Arc<Parker> = Arc::default());
        // A thread that ends (its locals are gone) gets one for this wait only.
        HERE.try_with(Arc::clone).unwrap_or_default()
    }

    /// Whether its thread sleeps, so that tasks of its loop can't go on.
    pub fn is_parked(&self) -> bool {
        self.waits.load(Ordering::Relaxed) != 0
    }
}

struct Parked<'a>(&'a Parker);

impl<'a> Parked<'a> {
    fn new(parker: &'a Parker) -> Self {
        parker.waits.fetch_add(1, Ordering::Relaxed);
        Self(parker)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a wait came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    Ready(T),
    TimedOut,
    /// A signal may have come: look, then wait on with the same future, which keeps its place.
    Interrupted,
}

/// Sleeps until the future is ready, or the deadline, or a signal.
pub fn block_on<F: Future>(mut future: Pin<&mut F>, deadline: Option<Instant>) -> Ended<F::Output> {
    let parker = Parker::here();
    let waker = Waker::from(Arc::clone(&parker));
    let _parked = Parked::new(&parker);
    let mut woken = Woken::Set;
    loop {
        parker.flag.clear();
        // Polled after the deadline too: what was granted at the last moment counts.
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ended::Ready(value);
        }
        match woken {
            Woken::Set => woken = parker.flag.wait(deadline),
            Woken::TimedOut => return Ended::TimedOut,
            Woken::Interrupted => return Ended::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::time::Duration;

    #[test]
    fn waits_for_another_thread() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(7));
        let mut receiver = pin!(receiver);
        assert_eq!(block_on(receiver.as_mut(), None), Ended::Ready(Ok(7)));
    }

    #[test]
    fn ends_at_its_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(5);
        let mut never = pin!(std::future::pending::<()>());
        while block_on(never.as_mut(), Some(deadline)) != Ended::TimedOut {}
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert!(!Parker::here().is_parked());
    }
}
