//! A pool's way to one worker, as the engine sees it, and the Linux one: rings.

use super::message::Head;
use super::ring::{Consumer, Damaged, Producer};
use super::shared::{CLAIMED, Control, Meter, ORDER, QUEUED, Readiness, revoke};
use std::sync::atomic::Ordering;

/// What is being worked on: the task's position, the item, since when (ns).
pub type Current = (u64, u32, u64);

/// How far a worker is with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Sent,
    Begun,
    /// All its answers are sent, not necessarily received.
    Done,
}

/// One side of what connects the pool with a worker; the worker's side is a `Station`.
pub trait Link: Send {
    /// Sends a task or an order; where it is, `None`: there is no room now.
    fn send(&mut self, head: &Head, items: &[u8]) -> Option<u64>;
    /// Wakes the worker, if it sleeps.
    fn wake(&self);
    /// Whether it seems to sleep; asked for each task, so it must cost nothing.
    fn is_asleep(&self) -> bool;
    /// Takes a task back; false: the worker has it.
    fn take_back(&mut self, position: u64) -> bool;
    /// Appends the items of a task that was sent, of `length` bytes.
    fn read_back(&self, position: u64, length: usize, items: &mut Vec<u8>);
    /// How far the worker is with that task.
    fn stage(&mut self, position: u64) -> Stage;
    /// What the worker is at; reliable once it is dead.
    fn current(&self) -> Option<Current>;
    /// Receives one message; its kind.
    fn receive(&mut self, body: &mut Vec<u8>) -> Result<Option<u32>, Damaged>;
    /// Whether there is something to receive.
    fn has_mail(&mut self) -> bool;
    fn meter(&self) -> Meter;
    fn is_ready(&self) -> bool;
}

/// The parent's side of a worker's rings.
#[derive(Debug)]
pub struct RingLink {
    control: Control,
    tasks: Producer,
    results: Consumer,
}

impl RingLink {
    pub fn new(control: Control) -> Self {
        let (tasks, results) = (Producer::new(control.tasks()), Consumer::new(control.results()));
        Self { control, tasks, results }
    }
}

impl Link for RingLink {
    fn send(&mut self, head: &Head, items: &[u8]) -> Option<u64> {
        let word = if head.kind.is_task() { QUEUED } else { ORDER };
        self.tasks.push(word, &[&head.to_bytes(), items])
    }

    fn wake(&self) {
        self.control.bell.ring_once();
    }

    fn is_asleep(&self) -> bool {
        self.control.bell.seems_asleep()
    }

    fn take_back(&mut self, position: u64) -> bool {
        revoke(&self.tasks, position)
    }

    fn read_back(&self, position: u64, length: usize, items: &mut Vec<u8>) {
        self.tasks.read_back(position, Head::BYTES, length, items);
    }

    fn stage(&mut self, position: u64) -> Stage {
        if !self.tasks.is_in_use(position) {
            Stage::Done
        } else if self.tasks.word(position).load(Ordering::Acquire) == CLAIMED {
            Stage::Begun
        } else {
            Stage::Sent
        }
    }

    fn current(&self) -> Option<Current> {
        self.control.current()
    }

    fn receive(&mut self, body: &mut Vec<u8>) -> Result<Option<u32>, Damaged> {
        let Some(position) = self.results.peek(body)? else { return Ok(None) };
        let kind = self.results.word(position).load(Ordering::Relaxed);
        self.results.advance(body.len());
        if self.control.starved().swap(0, Ordering::SeqCst) != 0 {
            self.control.bell.ring_once();
        }
        Ok(Some(kind))
    }

    fn has_mail(&mut self) -> bool {
        !self.results.is_empty()
    }

    fn meter(&self) -> Meter {
        self.control.meter()
    }

    fn is_ready(&self) -> bool {
        self.control.readiness() == Readiness::Ready
    }
}
