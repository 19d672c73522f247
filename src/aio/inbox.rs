//! The ids of the futures that can go on, calls that other threads ask for, and one wake-up for
//! all of them.
//!
//! `push` queues an entry, then makes the pipe readable unless it already is; the reader clears
//! that mark before it looks at the queue. No wake-up is missed: both sides *swap* the mark
//! with AcqRel, so a pusher that found it set did its push before the reader's swap, and the
//! reader sees the entry. At most one byte is ever in the pipe, so neither side can block.
//!
//! A loop that is closed closes its inbox: the pipe goes, and so does what comes later.

use crate::error::locked;
use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

/// `C`: what is called on the loop's thread.
pub struct Inbox<C> {
    entries: Mutex<VecDeque<Entry<C>>>,
    rung: AtomicBool,
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
        let (rung, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { entries: Mutex::default(), rung, answers, pipe })
    }

    pub fn push(&self, entry: Entry<C>) {
        locked(&self.entries).push_back(entry);
        self.ring();
    }

    /// Makes the pipe readable.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some((_, writer)) = &*locked(&self.pipe)
        {
            // It fails only when the pipe has no reader, and we hold it.
            let _ = (&*writer).write(&[1]);
        }
    }

    /// Called when the pipe is readable: takes the wake-up, and gives the number of entries that
    /// came with it. Those that come later ring again.
    pub fn answer(&self) -> usize {
        if let Some((reader, _)) = &*locked(&self.pipe) {
            let _ = (&*reader).read(&mut [0]);
        }
        self.rung.swap(false, Ordering::AcqRel);
        self.answers.fetch_add(1, Ordering::Release);
        locked(&self.entries).len()
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

/// The waker of one future.
pub struct Wakeup<C> {
    pub inbox: Arc<Inbox<C>>,
    pub id: u64,
    /// Is the id in the inbox? Cleared before each poll, so that a wake-up during it counts.
    pub queued: AtomicBool,
}

impl<C: Send + 'static> Wake for Wakeup<C> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.inbox.push(Entry::Ready(self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn many_wakes_of_many_futures_are_answered_once() {
        let inbox = Arc::new(Inbox::<()>::new().unwrap());
        std::thread::scope(|scope| {
            for id in 0..8 {
                let wakeup =
                    Wakeup { inbox: Arc::clone(&inbox), id, queued: AtomicBool::new(false) };
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
