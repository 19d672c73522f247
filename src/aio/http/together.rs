//! A connection and who uses it, polled as one.
//!
//! Each wakes the other all the time. From outside that would be a way through the loop for every
//! one of these wake-ups; here the two are just polled again.
//!
//! Memory order: one word, changed by read-modify-writes (AcqRel) alone. A wake-up that finds
//! `IDLE` wakes the task; one that finds `POLLING` leaves its mark, which the poll sees when it
//! gives the word back; with `WOKEN` one is on its way.

use crate::error::locked;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

const IDLE: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

/// The task gets its turn back after so many polls at a stretch.
const MOST: usize = 64;

struct Relay {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            let task = locked(&self.task).clone();
            task.wake(); // after the lock: it may be polled now
        }
    }
}

pub struct Together {
    relay: Arc<Relay>,
    waker: Waker,
}

impl Together {
    pub fn new() -> Self {
        let (state, task) = (AtomicU8::new(IDLE), Mutex::new(Waker::noop().clone()));
        let relay = Arc::new(Relay { state, task });
        Self { waker: Waker::from(Arc::clone(&relay)), relay }
    }

    /// Polls all, until no part has woken another.
    pub fn poll<T>(
        &self,
        context: &Context<'_>,
        mut all: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        {
            let mut task = locked(&self.relay.task);
            if !task.will_wake(context.waker()) {
                task.clone_from(context.waker());
            }
        }
        for _ in 0..MOST {
            self.relay.state.swap(POLLING, Ordering::AcqRel);
            let done = all(&mut Context::from_waker(&self.waker));
            let state = &self.relay.state;
            let quiet = state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if done.is_ready() || quiet.is_ok() {
                return done;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn parts_that_wake_each_other_wake_nobody_else() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let (together, mut polls, mut kept) = (Together::new(), 0, None);
        let first = together.poll(&Context::from_waker(&task), |context| {
            polls += 1;
            kept = Some(context.waker().clone());
            if polls < 3 {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(first.is_pending() && polls == 3 && count.0.load(Ordering::Relaxed) == 0);
        let waker = kept.unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(together.poll(&Context::from_waker(&task), |_| Poll::Ready(())).is_ready());
    }

    #[test]
    fn what_never_rests_gives_the_task_its_turn() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let restless = Together::new().poll(&Context::from_waker(&task), |context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(restless.is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_wake_up_of_another_thread_is_missed() {
        for _ in 0..200 {
            let (count, flag) = (Arc::new(Count::default()), Arc::new(AtomicBool::new(false)));
            let task = Waker::from(Arc::clone(&count));
            let (together, mut thread) = (Together::new(), None);
            let seen = together.poll(&Context::from_waker(&task), |context| {
                if thread.is_none() {
                    let (waker, flag) = (context.waker().clone(), Arc::clone(&flag));
                    thread = Some(std::thread::spawn(move || {
                        flag.store(true, Ordering::Release);
                        waker.wake();
                    }));
                }
                if flag.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
            });
            thread.unwrap().join().unwrap();
            assert!(seen.is_ready() || count.0.load(Ordering::Relaxed) == 1);
        }
    }
}
