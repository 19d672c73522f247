//! A worker's side of its rings: the next task, its results, and when to wake the parent.
//!
//! Waking is what costs, so results are announced late where nobody is kept waiting by it:
//! at once when the worker has nothing else to do, else when `HOLD` has passed or the ring is
//! full. A map's results are for a thread that comes for them when it is not waiting already,
//! so the driver is called for them only after a while. The parent's own waits have a limit for the case that the next task,
//! begun before that, takes long.

use super::message::{Head, Kind, Reply};
use super::ring::{Consumer, Damaged, Producer};
use super::shared::{Board, CLAIMED, Control, Meter, QUEUED, now_ns};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::locked;

/// How long results are held back while there are other tasks: nanoseconds.
const HOLD_NS: u64 = 300_000;
/// How often an idle worker looks at its ring before it sleeps: some 20 µs.
const LOOKS: u32 = 400;
/// How long it may take who iterates a map to come for its results.
const COMING: Duration = Duration::from_micros(500);
/// How long a worker sleeps while it waits for room, for the parent may be stopped.
const ROOM: Duration = Duration::from_millis(500);

/// A task that this worker has claimed, or an order.
#[derive(Debug)]
pub struct Received {
    pub head: Head,
    pub position: u64,
    length: usize,
}

#[derive(Debug)]
pub struct Station {
    control: Control,
    board: Board,
    driver: OwnedFd,
    tasks: Mutex<Consumer>,
    /// Threads that a task started may print.
    results: Mutex<Producer>,
    announced_ns: AtomicU64,
    /// Whether the latest results were a map's.
    was_map: AtomicBool,
}

impl Station {
    pub fn new(control: Control, board: Board, driver: OwnedFd) -> Self {
        let (tasks, results) = (Consumer::new(control.tasks()), Producer::new(control.results()));
        let (tasks, results) = (Mutex::new(tasks), Mutex::new(results));
        Self {
            control,
            board,
            driver,
            tasks,
            results,
            announced_ns: AtomicU64::new(0),
            was_map: AtomicBool::new(false),
        }
    }

    /// The next task that was not taken back, or order; its record (the head, then the items)
    /// replaces what is in `record`.
    pub fn next(&self, record: &mut Vec<u8>) -> Result<Option<Received>, Damaged> {
        let mut tasks = locked(&self.tasks);
        loop {
            record.clear();
            let Some(position) = tasks.peek(record)? else { return Ok(None) };
            let word = tasks.word(position);
            let length = record.len();
            let (head, _) = Head::from_bytes(record).ok_or(Damaged)?;
            let is_mine = !head.kind.is_task()
                || word
                    .compare_exchange(QUEUED, CLAIMED, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
            if is_mine {
                let is_map = matches!(head.kind, Kind::Map | Kind::StarMap);
                self.was_map.store(is_map, Ordering::Relaxed);
                return Ok(Some(Received { head, position, length }));
            }
            tasks.advance(length);
        }
    }

    /// Done with a task, all its results sent, or with an order.
    pub fn done(&self, received: &Received) {
        locked(&self.tasks).advance(received.length);
    }

    pub fn is_idle(&self) -> bool {
        locked(&self.tasks).is_empty()
    }

    /// The item that is begun with, at which `finished` is to be called.
    pub fn started(&self, received: &Received, item: u32, now_ns: u64) {
        self.control.started(received.position, item, now_ns);
    }

    pub fn finished(&self) {
        self.control.finished();
    }

    pub fn meter(&self, more: Meter) {
        self.control.add(more);
    }

    pub fn ready(&self) {
        self.control.is_ready();
    }

    /// Sends a message; false: there is no room now.
    pub fn send(&self, reply: Reply, body: &[u8]) -> bool {
        locked(&self.results).push(reply as u32, &[body]).is_some()
    }

    /// Waits for room; `EINTR`: a signal came.
    pub fn wait_for_room(&self) -> Result<(), Errno> {
        self.control.starved().store(1, Ordering::SeqCst);
        self.announce();
        let starved = || self.control.starved().load(Ordering::SeqCst) == 0;
        match self.control.bell.wait(Some(ROOM), starved) {
            Err(Errno::TIMEDOUT) => Ok(()),
            other => other,
        }
    }

    /// Wakes whoever waits for results.
    pub fn announce(&self) {
        self.announced_ns.store(now_ns(), Ordering::Relaxed);
        if self.board.users.is_anyone_asleep() {
            self.board.users.ring();
        } else {
            self.board.call_driver(self.driver.as_fd());
        }
    }

    /// After a result, at `now_ns`, with other tasks to come: wakes the parent if it is time.
    pub fn announce_in_time(&self, now_ns: u64) {
        if now_ns.saturating_sub(self.announced_ns.load(Ordering::Relaxed)) > HOLD_NS {
            if self.was_map.load(Ordering::Relaxed) {
                self.announced_ns.store(now_ns, Ordering::Relaxed);
                self.board.users.ring();
            } else {
                self.announce();
            }
        }
    }

    /// Waits for something to do, after all results were sent. `EINTR`: a signal came.
    pub fn wait(&self) -> Result<(), Errno> {
        if self.board.users.is_anyone_asleep() {
            self.announce();
        }
        // Whoever waits for nothing in particular is woken a little later: more work is often
        // on its way, and the results are found when it comes.
        for _ in 0..LOOKS {
            if !self.is_idle() {
                return Ok(());
            }
            if self.board.users.is_anyone_asleep() {
                break;
            }
            std::hint::spin_loop();
        }
        if self.was_map.load(Ordering::Relaxed) {
            match self.control.bell.wait(Some(COMING), || !self.is_idle()) {
                Err(Errno::TIMEDOUT) => {}
                other => return other,
            }
        }
        self.announce();
        self.control.bell.wait(None, || !self.is_idle())
    }
}
