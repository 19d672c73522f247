//! The ids of the futures that can go on, calls that other threads ask for, and one wake-up for
//! all of them.
//!
//! `push` queues an entry, then makes the pipe readable unless the reader is to come anyway; the
//! reader clears that mark before it looks at the queue. No wake-up is missed: both sides change
//! the mark by one read-modify-write (AcqRel), so a pusher that found it set did its push before
//! the reader's, and the reader sees the entry. The byte and its bit in the mark change together,
//! under the pipe's lock: there is one at most, it is read by who takes the bit, and neither side
//! ever blocks. (A reader that found the bit before the byte would wait for the byte with the lock
//! that the writer needs; a second byte would leave the pipe readable for ever.)
//!
//! A task that wakes another one of its own loop needs no system call to get the loop's ear:
//! `hold` keeps the bell from being rung, and leaves it to its caller, who knows the loop and
//! may `take` what there is. One that lingers for an answer before it gives its loop the thread
//! back takes the mark for as long, by `stay`: nobody rings for who is awake.
//!
//! A loop that is closed closes its inbox: the pipe goes, and so does what comes later.

use crate::error::locked;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

/// The reader is to come.
const RUNG: u8 = 1;
/// A byte is in the pipe.
const BYTE: u8 = 2;
/// Somebody wants to see an answer, not only that what is here is looked at.
const ASKED: u8 = 4;

/// `C`: what is called on the loop's thread.
pub struct Inbox<C> {
    entries: Mutex<VecDeque<Entry<C>>>,
    /// `RUNG`, `BYTE`, `ASKED`.
    mark: AtomicU8,
    answers: AtomicU64,
    /// `None`: closed. Locked for a system call, once a wake-up.
    pipe: Mutex<Option<(PipeReader, PipeWriter)>>,
}

pub enum Entry<C> {
    /// The future of this id can go on.
    Ready(u64),
    Call(C),
}

impl<C> Inbox<C> {
    pub fn new() -> std::io::Result<Self> {
        let pipe = Mutex::new(Some(std::io::pipe()?));
        let (mark, answers) = (AtomicU8::new(0), AtomicU64::new(0));
        Ok(Self { entries: Mutex::default(), mark, answers, pipe })
    }

    /// Called when the reader comes: takes the wake-up, and gives the number of entries that came
    /// with it. Those that come later ring again.
    pub fn answer(&self) -> usize {
        let pipe = locked(&self.pipe);
        if self.mark.swap(0, Ordering::AcqRel) & BYTE != 0
            && let Some((reader, _)) = &*pipe
        {
            let interrupted = |error: std::io::Error| error.kind() == ErrorKind::Interrupted;
            while (&*reader).read(&mut [0]).is_err_and(interrupted) {}
        }
        drop(pipe);
        self.answers.fetch_add(1, Ordering::Release);
        locked(&self.entries).len()
    }

    /// Keeps others from ringing until `take`; false: somebody has rung.
    pub fn stay(&self) -> bool {
        self.mark.compare_exchange(0, RUNG, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Takes the mark, for who looks at the entries in the reader's place; their number. `None`:
    /// a byte or a wish for an answer is the reader's business, and it is to come.
    pub fn take(&self) -> Option<usize> {
        let taken = self.mark.compare_exchange(RUNG, 0, Ordering::AcqRel, Ordering::Relaxed);
        taken.ok().map(|_| locked(&self.entries).len())
    }

    /// Takes the entry of a future that is looked at otherwise.
    pub fn forget(&self, id: u64) {
        let mut entries = locked(&self.entries);
        let is_it = |entry: &Entry<C>| matches!(entry, Entry::Ready(other) if *other == id);
        if let Some(at) = entries.iter().position(is_it) {
            entries.remove(at);
        }
    }

    /// The next entry, if it is a future that can go on.
    pub fn pop_ready(&self) -> Option<u64> {
        let mut entries = locked(&self.entries);
        let Some(&Entry::Ready(id)) = entries.front() else { return None };
        entries.pop_front();
        Some(id)
    }

    pub fn is_empty(&self) -> bool {
        locked(&self.entries).is_empty()
    }

    /// How often `answer` was called: whether the loop goes round.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Acquire)
    }

    pub fn pop(&self) -> Option<Entry<C>> {
        locked(&self.entries).pop_front()
    }

    /// Nobody answers any more: gives the pipe's descriptors back.
    pub fn close(&self) {
        let closed = locked(&self.pipe).take();
        drop(closed);
    }

    /// The pipe's reading end; -1 when it is closed.
    #[cfg(unix)]
    pub fn descriptor(&self) -> i32 {
        use std::os::fd::AsRawFd;
        locked(&self.pipe).as_ref().map_or(-1, |(reader, _)| reader.as_raw_fd())
    }
}

impl<C: Send + 'static> Inbox<C> {
    pub fn push(self: &Arc<Self>, entry: Entry<C>) {
        locked(&self.entries).push_back(entry);
        self.ring();
    }

    /// Has the reader come, and answer.
    pub fn ask(&self) {
        if self.mark.fetch_or(RUNG | ASKED, Ordering::AcqRel) & RUNG == 0 {
            self.toll();
        }
    }

    /// Has the reader come.
    pub fn ring(self: &Arc<Self>) {
        if self.mark.fetch_or(RUNG, Ordering::AcqRel) & RUNG == 0 {
            let is_held = HELD.try_with(|held| match &mut *held.borrow_mut() {
                held @ Held::Nothing => {
                    *held = Held::Bell(Arc::<Self>::clone(self));
                    true
                }
                Held::Off | Held::Bell(_) => false,
            });
            if !is_held.unwrap_or(false) {
                self.toll();
            }
        }
    }
}

/// A loop's, which is to be woken.
pub trait Bell: Send + Sync {
    /// Makes the pipe readable.
    fn toll(&self);
}

impl<C: Send> Bell for Inbox<C> {
    fn toll(&self) {
        let pipe = locked(&self.pipe);
        if self.mark.fetch_or(BYTE, Ordering::AcqRel) & BYTE == 0
            && let Some((_, writer)) = &*pipe
        {
            // It fails only when the pipe has no reader, and we hold it.
            let _ = (&*writer).write(&[1]);
        }
    }
}

enum Held {
    /// Bells are rung at once.
    Off,
    Nothing,
    Bell(Arc<dyn Bell>),
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held::Off) };
}

/// Runs this, which runs no Python code. The first bell that it would ring on this thread is not
/// rung but returned, and the caller has to: for the caller's own loop there are cheaper ways.
pub fn hold<R>(run: impl FnOnce() -> R) -> (R, Option<Arc<dyn Bell>>) {
    struct Holding;

    impl Drop for Holding {
        fn drop(&mut self) {
            if let Held::Bell(bell) = HELD.replace(Held::Off) {
                bell.toll(); // a panic goes on
            }
        }
    }

    // A thread that ends, and what it has of its own with it, wakes others too.
    if !HELD.try_with(|held| matches!(*held.borrow(), Held::Off)).unwrap_or(false) {
        return (run(), None); // who holds already will ring
    }
    HELD.set(Held::Nothing);
    let holding = Holding;
    let value = run();
    let held = HELD.replace(Held::Off);
    drop(holding);
    (value, if let Held::Bell(bell) = held { Some(bell) } else { None })
}

/// The waker of one future.
pub struct Wakeup<C> {
    pub inbox: Arc<Inbox<C>>,
    pub id: u64,
    /// Is the id in the inbox? Cleared before each poll, so that a wake-up during it counts.
    pub queued: AtomicBool,
    /// Set when all that is done, for who looks out for it: see `linger`.
    pub arrived: AtomicBool,
}

impl<C> Wakeup<C> {
    pub fn new(inbox: Arc<Inbox<C>>, id: u64) -> Self {
        let [queued, arrived] = [(); 2].map(|()| AtomicBool::new(false));
        Self { inbox, id, queued, arrived }
    }
}

impl<C: Send + 'static> Wake for Wakeup<C> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.inbox.push(Entry::Ready(self.id));
            self.arrived.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_held_bell_is_the_callers() {
        let [one, two] = [(); 2].map(|()| Arc::new(Inbox::<()>::new().unwrap()));
        let ((), bell) = hold(|| {
            one.push(Entry::Call(()));
            one.push(Entry::Call(()));
            two.push(Entry::Call(())); // a second one is rung at once
            assert!(hold(|| ()).1.is_none());
        });
        assert_eq!(one.mark.load(Ordering::Relaxed), RUNG);
        assert_eq!(two.mark.load(Ordering::Relaxed), RUNG | BYTE);
        assert_eq!(one.answer(), 2); // no byte is waited for
        bell.unwrap().toll(); // one too many
        assert_eq!((one.answer(), two.answer()), (2, 1));
        assert!(hold(|| two.close()).1.is_none());
        let panics = || {
            hold(|| -> () {
                one.push(Entry::Call(()));
                panic!("meant")
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(one.mark.load(Ordering::Relaxed), RUNG | BYTE);
        one.push(Entry::Call(()));
        assert_eq!(one.answer(), 4);
    }

    #[test]
    fn there_is_one_byte_at_most() {
        let inbox = Arc::new(Inbox::<()>::new().unwrap());
        assert!(inbox.stay()); // as one that is about to ring
        assert_eq!(inbox.answer(), 0); // the reader came for another reason
        inbox.toll();
        inbox.push(Entry::Call(()));
        assert_eq!(inbox.answer(), 1);
        assert!(!has_byte(&inbox));
    }

    #[test]
    fn rings_and_answers_at_once_leave_nothing_in_the_pipe() {
        let inbox = Arc::new(Inbox::<()>::new().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..3000).for_each(|_| inbox.ring()));
            }
            for _ in 0..20_000 {
                inbox.answer();
            }
        });
        inbox.answer();
        assert!(!has_byte(&inbox));
    }

    /// Whether a byte is in the pipe, which is closed.
    fn has_byte(inbox: &Inbox<()>) -> bool {
        let (mut reader, writer) = locked(&inbox.pipe).take().unwrap();
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap() > 0
    }

    #[test]
    fn nobody_rings_for_who_stays() {
        let inbox = Arc::new(Inbox::<()>::new().unwrap());
        let wakeup = Arc::new(Wakeup::new(Arc::clone(&inbox), 7));
        assert!(inbox.stay() && !inbox.stay());
        Waker::from(Arc::clone(&wakeup)).wake();
        assert!(wakeup.arrived.load(Ordering::Relaxed));
        assert_eq!(inbox.mark.load(Ordering::Relaxed), RUNG);
        inbox.push(Entry::Ready(8));
        inbox.push(Entry::Call(()));
        inbox.forget(7);
        assert_eq!(inbox.take(), Some(2));
        assert_eq!((inbox.pop_ready(), inbox.pop_ready()), (Some(8), None)); // a call is next
        assert!(!inbox.is_empty());

        // Who asks for an answer gets one: the reader has to come.
        assert!(inbox.stay());
        inbox.ask();
        assert_eq!(inbox.take(), None);
        inbox.toll();
        assert_eq!((inbox.answer(), inbox.answers()), (1, 1));
        assert!(inbox.stay());
    }

    #[test]
    fn many_wakes_of_many_futures_are_answered_once() {
        let inbox = Arc::new(Inbox::<()>::new().unwrap());
        std::thread::scope(|scope| {
            for id in 0..8 {
                let wakeup = Wakeup::new(Arc::clone(&inbox), id);
                let waker = Waker::from(Arc::new(wakeup));
                scope.spawn(move || (0..100).for_each(|_| waker.wake_by_ref()));
            }
        });
        assert_eq!(inbox.answer(), 8);
        let mut ids: Vec<u64> = std::iter::from_fn(|| inbox.pop())
            .filter_map(|entry| if let Entry::Ready(id) = entry { Some(id) } else { None })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..8).collect::<Vec<_>>());
        inbox.push(Entry::Call(()));
        assert_eq!((inbox.answer(), inbox.answers()), (1, 2));
        inbox.close();
        inbox.push(Entry::Call(())); // goes nowhere, and fails nobody
        #[cfg(unix)]
        assert_eq!(inbox.descriptor(), -1);
    }
}
