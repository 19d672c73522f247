//! Those who wait for one kind of token: an item to get, a free slot to put into, the right to
//! compare.
//!
//! Algorithm: a FIFO of entries, under the channel's mutex as everything here. A token is not
//! handed to who waits: the first in the line is *woken*, and comes back to look, while whoever
//! runs already may be faster (a hand-over would cost a switch of threads for each item). At
//! most one thread is woken and not yet back; who gets a token wakes the next if there are more.
//! So a burst of puts to one consumer costs one wake-up, and to many as many as they take.
//!
//! A task that was woken runs when its loop gets to it, which may be late. So as many tasks are
//! woken as there are tokens, and with a task the first thread in the line too; tasks of a loop
//! whose thread itself sleeps in one of our waits are passed over.
//!
//! Nobody starves: who was woken in vain keeps its place, and once it has waited for `LONG` the
//! next token is *held* for it, which others then do not see. Who leaves (timeout, signal,
//! cancellation) gives back its wake-up, or what was held for it, and the next one is woken.
//!
//! No wake-up is lost: each change that could make "there are tokens, somebody waits, and nobody
//! is woken" true is followed by `next`, before the mutex is let go of.
//!
//! Source: barging with an eventual hand-over, as in WebKit's WTF::ParkingLot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// After which a waiter that was woken in vain has the next token held for it.
const LONG: Duration = Duration::from_millis(10);

/// How a waiter is told to come back.
pub trait Wakes {
    fn wake(self);

    /// Whether it is a thread that sleeps, not a task.
    fn is_thread(&self) -> bool;

    /// Whether it will come back when it is woken.
    fn can_run(&self) -> bool;
}

/// Who is to be woken: a task and a thread at most.
pub type Wakeups<W> = [Option<W>; 2];

/// In no line.
const OUT: u8 = 0;
const WAITING: u8 = 1;
const WOKEN: u8 = 2;
/// A token is held for it.
const HELD: u8 = 3;

/// What became of a waiter. Changed under the mutex; for who waits it is a hint to look.
#[derive(Debug)]
struct Phase(AtomicU8);

impl Phase {
    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

/// A waiter's half of its place. Not to be dropped but given to [`Line::leave`].
#[derive(Debug)]
pub struct Seat {
    id: u64,
    phase: Arc<Phase>,
    by_thread: bool,
    /// Whether it was woken in vain.
    lost: bool,
    since: Instant,
}

impl Seat {
    /// Whether it got in line and was told to look since.
    pub fn was_told(&self) -> bool {
        self.phase.get() > WAITING
    }

    /// Who can tell, without the mutex, whether it was told to look.
    pub fn told(&self) -> Told {
        Told(Arc::clone(&self.phase))
    }
}

/// Whether one who got in line waits no more.
pub struct Told(Arc<Phase>);

impl Told {
    pub fn is_so(&self) -> bool {
        self.0.get() != WAITING
    }
}

struct Entry<W> {
    id: u64,
    phase: Arc<Phase>,
    lost: bool,
    since: Instant,
    wake: W,
}

pub struct Line<W> {
    /// Ordered by id.
    waiting: VecDeque<Entry<W>>,
    next_id: u64,
    /// Seats below it are from before a fork: nobody's.
    first_id: u64,
    /// How many of those who wait are threads.
    threads: usize,
    woken_threads: usize,
    woken_tasks: usize,
    held: usize,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            next_id: 0,
            first_id: 0,
            threads: 0,
            woken_threads: 0,
            woken_tasks: 0,
            held: 0,
        }
    }
}

impl<W: Wakes> Line<W> {
    /// How many tokens are held for somebody.
    pub fn held(&self) -> usize {
        self.held
    }

    /// How many wait who were not told to come back.
    pub fn length(&self) -> usize {
        self.waiting.len()
    }

    /// Back, or here for the first time: true if one of the `free` tokens is held for the seat
    /// now. Else it is in no line. Call `next` afterwards.
    pub fn look(&mut self, seat: &mut Option<Seat>, free: usize) -> bool {
        let fresh = seat.as_ref().is_none_or(|seat| seat.id < self.first_id);
        if fresh {
            if free == 0 {
                return false;
            }
            *seat = Some(self.new_seat());
        }
        let Some(seat) = seat else { return false };
        if seat.phase.get() == HELD {
            return true;
        }
        seat.lost |= seat.phase.get() == WOKEN;
        self.withdraw(seat);
        self.held += usize::from(free > 0);
        seat.phase.set(if free > 0 { HELD } else { OUT });
        free > 0
    }

    /// Gets in line, at its old place if it was there before, after a `look` that was in vain.
    pub fn join(&mut self, seat: &mut Option<Seat>, wake: W) {
        let seat = match seat {
            Some(seat) if seat.id >= self.first_id => seat,
            none => none.insert(self.new_seat()),
        };
        self.withdraw(seat);
        seat.by_thread = wake.is_thread();
        self.threads += usize::from(seat.by_thread);
        seat.phase.set(WAITING);
        let (place, phase) = (self.place(seat.id), Arc::clone(&seat.phase));
        let entry = Entry { id: seat.id, phase, lost: seat.lost, since: seat.since, wake };
        self.waiting.insert(place, entry);
    }

    /// Gives back what the seat has. Call `next` afterwards.
    pub fn leave(&mut self, seat: Option<Seat>) {
        if let Some(seat) = seat {
            self.withdraw(&seat);
        }
    }

    /// Who is to be woken, if so many tokens are free.
    pub fn next(&mut self, free: usize) -> Wakeups<W> {
        if free == 0 || self.waiting.is_empty() {
            return [None, None];
        }
        let first = self.waiting.iter().position(|entry| entry.wake.can_run()).unwrap_or(0);
        let entry = &self.waiting[first];
        if entry.lost && entry.since.elapsed() >= LONG && entry.wake.can_run() {
            self.held += 1;
            return [self.tell(first, HELD), None];
        }
        if entry.wake.is_thread() {
            return [self.wake_thread(first), None];
        }
        let task = if self.woken_tasks + self.woken_threads < free {
            self.woken_tasks += 1;
            self.tell(first, WOKEN)
        } else {
            None
        };
        let thread = self.waiting.iter().position(|entry| entry.wake.is_thread());
        [task, thread.filter(|_| self.threads > 0).and_then(|at| self.wake_thread(at))]
    }

    fn wake_thread(&mut self, at: usize) -> Option<W> {
        if self.woken_threads > 0 {
            return None;
        }
        self.woken_threads += 1;
        self.tell(at, WOKEN)
    }

    fn tell(&mut self, at: usize, phase: u8) -> Option<W> {
        let entry = self.waiting.remove(at)?;
        self.threads -= usize::from(entry.wake.is_thread());
        entry.phase.set(phase);
        Some(entry.wake)
    }

    /// Everybody comes back.
    pub fn all(&mut self) -> Vec<W> {
        self.woken_threads += self.threads;
        self.woken_tasks += self.waiting.len() - self.threads;
        let count = self.waiting.len();
        (0..count).filter_map(|_| self.tell(0, WOKEN)).collect()
    }

    /// Nobody of those waits any more: they were threads of the process that this one was
    /// forked from. Gives what they would have been woken by, to be dropped.
    pub fn forget(&mut self) -> Vec<W> {
        let next_id = self.next_id;
        let old = std::mem::take(self);
        (self.next_id, self.first_id) = (next_id, next_id);
        old.waiting.into_iter().map(|entry| entry.wake).collect()
    }

    fn new_seat(&mut self) -> Seat {
        let id = self.next_id;
        self.next_id += 1;
        let phase = Arc::new(Phase(AtomicU8::new(OUT)));
        Seat { id, phase, by_thread: false, lost: false, since: Instant::now() }
    }

    fn place(&self, id: u64) -> usize {
        self.waiting.partition_point(|entry| entry.id < id)
    }

    /// Takes back whatever a seat stands for.
    fn withdraw(&mut self, seat: &Seat) {
        if seat.id < self.first_id {
            return;
        }
        match seat.phase.get() {
            WAITING => {
                let place = self.place(seat.id);
                self.waiting.remove(place);
                self.threads -= usize::from(seat.by_thread);
            }
            WOKEN if seat.by_thread => self.woken_threads -= 1,
            WOKEN => self.woken_tasks -= 1,
            HELD => self.held -= 1,
            _ => {}
        }
        seat.phase.set(OUT);
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<u8>>>);

    /// A waiter by name; below 100 it is a thread.
    struct Note(Log, u8, Rc<Cell<bool>>);

    impl Wakes for Note {
        fn wake(self) {
            self.0.0.borrow_mut().push(self.1);
        }

        fn is_thread(&self) -> bool {
            self.1 < 100
        }

        fn can_run(&self) -> bool {
            !self.2.get()
        }
    }

    impl Log {
        fn join(&self, line: &mut Line<Note>, name: u8) -> Option<Seat> {
            let mut seat = None;
            assert!(!line.look(&mut seat, 0));
            line.join(&mut seat, Note(self.clone(), name, Rc::default()));
            seat
        }

        fn next(&self, line: &mut Line<Note>, free: usize) -> Vec<u8> {
            line.next(free).into_iter().flatten().for_each(Note::wake);
            self.0.take()
        }
    }

    #[test]
    fn one_thread_is_woken_at_a_time_and_in_order() {
        let (mut line, log) = (Line::default(), Log::default());
        let (mut first, _second) = (log.join(&mut line, 1), log.join(&mut line, 2));
        assert_eq!(log.next(&mut line, 1), [1]);
        assert!(log.next(&mut line, 5).is_empty()); // the first is under way
        assert!(line.look(&mut first, 5));
        assert_eq!(line.held(), 1);
        line.leave(first);
        assert_eq!(line.held(), 0);
        assert_eq!(log.next(&mut line, 4), [2]);
    }

    #[test]
    fn tasks_are_woken_as_tokens_come_and_a_thread_with_them() {
        let (mut line, log) = (Line::default(), Log::default());
        let seats = [100, 101, 1, 2].map(|name| log.join(&mut line, name));
        assert_eq!(log.next(&mut line, 1), [100, 1]);
        assert!(log.next(&mut line, 2).is_empty());
        assert_eq!(log.next(&mut line, 3), [101]);
        for seat in seats {
            line.leave(seat);
        }
        assert_eq!((line.woken_tasks, line.woken_threads, line.threads), (0, 0, 0));
    }

    #[test]
    fn tasks_of_a_loop_whose_thread_sleeps_are_passed_over() {
        let (mut line, log) = (Line::default(), Log::default());
        let mut asleep = None;
        line.join(&mut asleep, Note(log.clone(), 100, Rc::new(Cell::new(true))));
        let _thread = log.join(&mut line, 1);
        assert_eq!(log.next(&mut line, 1), [1]);
        assert_eq!(log.next(&mut line, 2), [100]); // there is nobody else
    }

    #[test]
    fn who_was_woken_in_vain_keeps_its_place_and_has_a_token_held_in_the_end() {
        let (mut line, log) = (Line::default(), Log::default());
        let (mut first, _second) = (log.join(&mut line, 1), log.join(&mut line, 2));
        assert_eq!(log.next(&mut line, 1), [1]);
        assert!(!line.look(&mut first, 0));
        first.as_mut().unwrap().since -= LONG;
        line.join(&mut first, Note(log.clone(), 1, Rc::default()));
        assert_eq!(log.next(&mut line, 1), [1]);
        assert_eq!(line.held(), 1);
        assert!(line.look(&mut first, 0));
    }

    #[test]
    fn who_leaves_gives_back_its_wake_up() {
        let (mut line, log) = (Line::default(), Log::default());
        let (first, second) = (log.join(&mut line, 1), log.join(&mut line, 2));
        assert_eq!(log.next(&mut line, 1), [1]);
        line.leave(first);
        assert_eq!(log.next(&mut line, 1), [2]);
        line.leave(second);
        assert_eq!((line.length(), line.held(), line.woken_threads), (0, 0, 0));
    }

    #[test]
    fn seats_from_before_a_fork_are_nobodys() {
        let (mut line, log) = (Line::default(), Log::default());
        let waiting = log.join(&mut line, 1);
        let mut held = None;
        assert!(line.look(&mut held, 1));
        assert_eq!(line.forget().len(), 1);
        line.leave(waiting);
        line.leave(held);
        assert_eq!((line.held(), line.length()), (0, 0));
        assert!(log.next(&mut line, 1).is_empty());
    }
}
