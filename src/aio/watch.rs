//! The watch over event loops: whether each goes round.
//!
//! Algorithm: the watchman rings each loop's inbox (one byte into a pipe, unless one is there)
//! a few times within the loop's threshold; the loop's reader callback answers by counting.
//! A ring that has no answer for as long as the threshold means that the loop stands still;
//! that is told once, and once more when the answer has come. So a loop that goes round pays
//! some microseconds for each ring, and nobody touches Python as long as all of them do.
//!
//! All of it is under one mutex; the thread sleeps on the condition variable beside it.

use crate::error::locked;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rings within a threshold: a standstill is seen when it has lasted a quarter longer at most.
const RINGS: u32 = 4;

/// A loop's inbox, as the watch sees it.
pub trait Rung: Send + Sync {
    fn ring(&self);
    fn answers(&self) -> u64;
}

impl<C: Send + 'static> Rung for super::inbox::Inbox<C> {
    fn ring(&self) {
        self.ask();
    }

    fn answers(&self) -> u64 {
        self.answers()
    }
}

/// What the watchman tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum News {
    /// It has stood still for so long.
    Stands(Duration),
    /// It goes round again, after so long.
    GoesOn(Duration),
    /// Time to look for loops that have begun.
    Look,
}

#[derive(Default)]
pub struct Watchman {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    watches: Vec<Watch>,
    news: VecDeque<(u64, News)>,
    last_id: u64,
    /// Whether a thread is in `next`, or will be.
    served: bool,
}

struct Watch {
    id: u64,
    /// `None`: only looks for loops.
    rung: Option<Arc<dyn Rung>>,
    threshold: Duration,
    due: Instant,
    /// When it was rung, and how many answers there had been.
    sent: Option<(Instant, u64)>,
    told: bool,
}

impl Watch {
    fn look(&mut self, now: Instant) -> Option<News> {
        if now < self.due {
            return None;
        }
        self.due = now + self.threshold / RINGS;
        let Some(rung) = &self.rung else {
            self.due = now + self.threshold / 2;
            return Some(News::Look);
        };
        let answers = rung.answers();
        let mut news = None;
        if let Some((at, before)) = self.sent {
            if answers == before {
                if self.told || now - at < self.threshold {
                    return None;
                }
                self.told = true;
                return Some(News::Stands(now - at));
            }
            if std::mem::take(&mut self.told) {
                news = Some(News::GoesOn(now - at));
            }
        }
        self.sent = Some((now, answers));
        rung.ring();
        news
    }
}

impl Watchman {
    /// Watches a loop, or looks for loops. Gives the watch's number, and whether the caller has
    /// to start a thread that takes the news.
    pub fn begin(&self, rung: Option<Arc<dyn Rung>>, threshold: Duration) -> (u64, bool) {
        let mut state = locked(&self.state);
        state.last_id += 1;
        let id = state.last_id;
        let due = Instant::now();
        state.watches.push(Watch { id, rung, threshold, due, sent: None, told: false });
        self.changed.notify_all();
        (id, !std::mem::replace(&mut state.served, true))
    }

    pub fn end(&self, id: u64) {
        let mut state = locked(&self.state);
        let place = state.watches.iter().position(|watch| watch.id == id);
        let gone = place.map(|place| state.watches.swap_remove(place));
        self.changed.notify_all();
        drop(state);
        drop(gone); // perhaps the last to hold the loop's inbox
    }

    /// It does not stand still but was stopped: the count begins again.
    pub fn pause(&self, id: u64) {
        let mut state = locked(&self.state);
        if let Some(watch) = state.watches.iter_mut().find(|watch| watch.id == id) {
            (watch.sent, watch.told) = (None, false);
        }
    }

    /// Waits for news. `None`: nothing is left to watch, and the thread that asks may end.
    pub fn next(&self) -> Option<(u64, News)> {
        let mut state = locked(&self.state);
        loop {
            if let Some(news) = state.news.pop_front() {
                return Some(news);
            }
            let now = Instant::now();
            let State { watches, news, .. } = &mut *state;
            news.extend(watches.iter_mut().filter_map(|watch| Some((watch.id, watch.look(now)?))));
            if !news.is_empty() {
                continue;
            }
            let Some(due) = watches.iter().map(|watch| watch.due).min() else {
                state.served = false;
                return None;
            };
            let pause = due.saturating_duration_since(now);
            let woken = self.changed.wait_timeout(state, pause);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    struct Fake {
        answers: AtomicU64,
        stands: AtomicBool,
    }

    impl Rung for Fake {
        fn ring(&self) {
            if !self.stands.load(Ordering::SeqCst) {
                self.answers.fetch_add(1, Ordering::SeqCst);
            }
        }

        fn answers(&self) -> u64 {
            self.answers.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn tells_once_that_it_stands_and_once_that_it_goes_on() {
        let (watchman, fake) = (Watchman::default(), Arc::new(Fake::default()));
        let threshold = Duration::from_millis(4);
        fake.stands.store(true, Ordering::SeqCst);
        let (id, needs_thread) = watchman.begin(Some(fake.clone()), threshold);
        assert!(needs_thread);
        let Some((first, News::Stands(so_far))) = watchman.next() else { panic!("no news") };
        assert_eq!(first, id);
        assert!(so_far >= threshold);
        fake.answers.fetch_add(1, Ordering::SeqCst);
        let Some((_, News::GoesOn(after))) = watchman.next() else { panic!("no news") };
        assert!(after >= so_far);
        watchman.end(id);
        assert_eq!(watchman.next(), None);
        assert!(watchman.begin(None, threshold).1, "the thread has ended");
        assert_eq!(watchman.next().map(|(_, news)| news), Some(News::Look));
    }

    #[test]
    fn one_that_was_stopped_is_not_one_that_stands() {
        let mut watch = Watch {
            id: 1,
            rung: Some(Arc::new(Fake { stands: true.into(), ..Fake::default() })),
            threshold: Duration::from_secs(4),
            due: Instant::now(),
            sent: None,
            told: false,
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watch.look(at(0)), None);
        assert_eq!(watch.look(at(3)), None);
        watch.sent = None; // what `pause` does
        assert_eq!(watch.look(at(4)), None);
        assert_eq!(watch.look(at(7)), None);
        assert_eq!(watch.look(at(8)), Some(News::Stands(Duration::from_secs(4))));
        assert_eq!(watch.look(at(20)), None);
    }
}
