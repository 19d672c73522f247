//! The ids of the futures that can go on, and one wake-up for all of them.
//!
//! `push` queues an id, then makes the pipe readable unless it already is; the reader clears
//! that mark before it looks at the queue. No wake-up is missed: both sides *swap* the mark
//! with AcqRel, so a pusher that found it set did its push before the reader's swap, and the
//! reader sees the id. At most one byte is ever in the pipe, so neither side can block.

use crate::error::locked;
use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

pub struct Inbox {
    ready: Mutex<VecDeque<u64>>,
    rung: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Inbox {
    pub fn new() -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        Ok(Self { ready: Mutex::default(), rung: AtomicBool::new(false), reader, writer })
    }

    pub fn push(&self, id: u64) {
        locked(&self.ready).push_back(id);
        self.ring();
    }

    /// Makes the pipe readable.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It fails only when the pipe has no reader, and we hold it.
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Called when the pipe is readable: takes the wake-up, and gives the number of ids that
    /// came with it. Those that come later ring again.
    pub fn answer(&self) -> usize {
        let _ = (&self.reader).read(&mut [0]);
        self.rung.swap(false, Ordering::AcqRel);
        locked(&self.ready).len()
    }

    pub fn pop(&self) -> Option<u64> {
        locked(&self.ready).pop_front()
    }

    pub fn reader(&self) -> &PipeReader {
        &self.reader
    }
}

/// The waker of one future.
pub struct Wakeup {
    pub inbox: Arc<Inbox>,
    pub id: u64,
    /// Is the id in the inbox? Cleared before each poll, so that a wake-up during it counts.
    pub queued: AtomicBool,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.inbox.push(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn many_wakes_of_many_futures_are_answered_once() {
        let inbox = Arc::new(Inbox::new().unwrap());
        std::thread::scope(|scope| {
            for id in 0..8 {
                let wakeup =
                    Wakeup { inbox: Arc::clone(&inbox), id, queued: AtomicBool::new(false) };
                let waker = Waker::from(Arc::new(wakeup));
                scope.spawn(move || (0..100).for_each(|_| waker.wake_by_ref()));
            }
        });
        assert_eq!(inbox.answer(), 8);
        let mut ids: Vec<u64> = std::iter::from_fn(|| inbox.pop()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..8).collect::<Vec<_>>());
        inbox.push(9);
        assert_eq!(inbox.answer(), 1);
    }
}
