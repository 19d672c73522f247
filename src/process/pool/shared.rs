//! What a pool's parent and its workers share beside the rings: a board for all of them, a
//! control page for each worker, and the bells that wake who sleeps.
//!
//! A bell costs a system call, so it is rung only for a sleeper. That no wake-up is lost is
//! Dekker's argument: who sleeps first says so, then looks for work; who brings work first
//! publishes it, then looks for sleepers; with a sequentially consistent fence between the
//! two steps on both sides, at least one of them sees the other.

use super::memory::{Mapping, create};
use super::ring::{Place, Producer};
use rustix::io::Errno;
use rustix::thread::futex;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

/// What has become of a task's record: both sides race for a QUEUED one.
pub const QUEUED: u32 = 0;
/// The worker runs it, or has.
pub const CLAIMED: u32 = 1;
/// The parent took it back; the worker passes over it.
pub const REVOKED: u32 = 2;
/// No task, but word for the worker that can't be taken back.
pub const ORDER: u32 = 3;

/// Bytes of the board and of a control page; the arenas begin behind them.
pub const PAGE: usize = 4096;
/// Bytes of each ring: hundreds of tasks of 1 KB, thousands of small ones.
const RING: usize = 256 * 1024;
/// Bytes of a worker's file before its arena.
pub const WORKER_BYTES: usize = (PAGE + 2 * Place::bytes(RING)).next_multiple_of(PAGE);

/// A process that sleeps on a word, and another one that may wake it.
#[derive(Debug, Clone)]
pub struct Bell {
    memory: Arc<Mapping>,
    at: usize,
}

impl Bell {
    fn count(&self) -> &AtomicU32 {
        self.memory.word(self.at)
    }

    fn asleep(&self) -> &AtomicU32 {
        self.memory.word(self.at + 64)
    }

    /// The highest count that anybody went to sleep at.
    fn newest(&self) -> &AtomicU32 {
        self.memory.word(self.at + 128)
    }

    pub fn is_anyone_asleep(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep().load(Ordering::Relaxed) != 0
    }

    /// The same, without the fence: for who only guesses by it.
    pub fn seems_asleep(&self) -> bool {
        self.asleep().load(Ordering::Relaxed) != 0
    }

    /// Wakes all who sleep; to be called after what they wait for was published.
    pub fn ring(&self) {
        if self.is_anyone_asleep() {
            self.count().fetch_add(1, Ordering::SeqCst);
            let _ = futex::wake(self.count(), futex::Flags::empty(), i32::MAX as u32);
        }
    }

    /// The same for a bell that one process alone rings: not again for sleepers that it has rung
    /// for already, who may take 50 µs to say that they are up. Those who sleep say at which
    /// count, before they look for work; if all of them did at an older one, they are woken, and
    /// who is about to say so will find what was published. (With several processes it would
    /// not do: one could be killed when it has counted and not yet woken anybody.)
    pub fn ring_once(&self) {
        if self.is_anyone_asleep()
            && self.newest().load(Ordering::Relaxed) >= self.count().load(Ordering::Relaxed)
        {
            self.count().fetch_add(1, Ordering::SeqCst);
            let _ = futex::wake(self.count(), futex::Flags::empty(), i32::MAX as u32);
        }
    }

    /// Sleeps until the bell is rung, unless `ready` holds once we are known to sleep.
    /// `EINTR`: a signal came. `ETIMEDOUT`: the time is over.
    pub fn wait(
        &self,
        limit: Option<Duration>,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), Errno> {
        self.asleep().fetch_add(1, Ordering::SeqCst);
        let seen = self.count().load(Ordering::SeqCst);
        // When the count has begun anew, this stays high, and bells are rung too often at worst.
        self.newest().fetch_max(seen, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let result = if ready() {
            Ok(())
        } else {
            let limit = limit.map(|limit| rustix::event::Timespec {
                tv_sec: limit.as_secs() as i64,
                tv_nsec: limit.subsec_nanos().into(),
            });
            match futex::wait(self.count(), futex::Flags::empty(), seen, limit.as_ref()) {
                Err(Errno::AGAIN) => Ok(()), // it was rung meanwhile
                other => other,
            }
        };
        self.asleep().fetch_sub(1, Ordering::SeqCst);
        result
    }
}

/// The page that all of a pool's processes share: who of the parent's threads sleeps.
#[derive(Debug, Clone)]
pub struct Board {
    /// Threads that wait for results.
    pub users: Bell,
    driver_asleep: usize,
    memory: Arc<Mapping>,
}

impl Board {
    /// The file that the board is in; the arena for arguments follows it there.
    pub fn create() -> Result<OwnedFd, Errno> {
        create("plait-pool", PAGE)
    }

    pub fn new(file: impl AsFd) -> Result<Self, Errno> {
        let memory = Arc::new(Mapping::new(file, PAGE)?);
        let users = Bell { memory: Arc::clone(&memory), at: 0 };
        Ok(Self { users, driver_asleep: 256, memory })
    }

    fn driver(&self) -> &AtomicU32 {
        self.memory.word(self.driver_asleep)
    }

    /// The driver is about to sleep at its eventfd; it then has to look for work once more.
    pub fn driver_sleeps(&self) {
        self.driver().store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub fn driver_wakes(&self) {
        self.driver().store(0, Ordering::SeqCst);
    }

    /// Wakes the driver, if it sleeps.
    pub fn call_driver(&self, bell: BorrowedFd<'_>) {
        fence(Ordering::SeqCst);
        if self.driver().load(Ordering::Relaxed) != 0
            && self.driver().swap(0, Ordering::SeqCst) != 0
        {
            // Full is as good as rung.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }
}

/// How a worker's initializer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Readiness {
    Starting = 0,
    Ready = 1,
}

/// What a worker has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    pub tasks: u64,
    pub busy_ns: u64,
    pub waited_ns: u64,
    pub pickled: u64,
}

/// One worker's page, and where its rings are.
#[derive(Debug, Clone)]
pub struct Control {
    pub bell: Bell,
    memory: Arc<Mapping>,
}

const CURRENT: usize = 256;
const ITEM: usize = 264;
const STARVED: usize = 268;
const STARTED: usize = 272;
const READY: usize = 280;
const METER: usize = 320;

impl Control {
    /// A new worker's file; its arena for results follows what is described here.
    pub fn create() -> Result<OwnedFd, Errno> {
        create("plait-worker", WORKER_BYTES)
    }

    pub fn new(file: impl AsFd) -> Result<Self, Errno> {
        let memory = Arc::new(Mapping::new(file, WORKER_BYTES)?);
        Ok(Self { bell: Bell { memory: Arc::clone(&memory), at: 0 }, memory })
    }

    pub fn tasks(&self) -> Place {
        Place { memory: Arc::clone(&self.memory), at: PAGE, capacity: RING }
    }

    pub fn results(&self) -> Place {
        Place { memory: Arc::clone(&self.memory), at: PAGE + Place::bytes(RING), capacity: RING }
    }

    /// The worker begins with an item of the record at `position`. Of what a dead worker
    /// wrote, the parent must know which item it was at, so `current` is stored last here,
    /// and first in [`finished`](Self::finished).
    pub fn started(&self, position: u64, item: u32, now_ns: u64) {
        self.memory.word(ITEM).store(item, Ordering::Relaxed);
        self.memory.long(STARTED).store(now_ns, Ordering::Relaxed);
        self.memory.long(CURRENT).store(position + 1, Ordering::Release);
    }

    pub fn finished(&self) {
        self.memory.long(CURRENT).store(0, Ordering::Release);
    }

    /// The item that is being worked on: position, index in its record, since when.
    pub fn current(&self) -> Option<(u64, u32, u64)> {
        let position = self.memory.long(CURRENT).load(Ordering::Acquire).checked_sub(1)?;
        let item = self.memory.word(ITEM).load(Ordering::Relaxed);
        Some((position, item, self.memory.long(STARTED).load(Ordering::Relaxed)))
    }

    /// Whether the worker waits for room for its results.
    pub fn starved(&self) -> &AtomicU32 {
        self.memory.word(STARVED)
    }

    pub fn readiness(&self) -> Readiness {
        if self.memory.word(READY).load(Ordering::Acquire) == Readiness::Ready as u32 {
            Readiness::Ready
        } else {
            Readiness::Starting
        }
    }

    pub fn is_ready(&self) {
        self.memory.word(READY).store(Readiness::Ready as u32, Ordering::Release);
    }

    fn meters(&self) -> [&AtomicU64; 4] {
        [METER, METER + 8, METER + 16, METER + 24].map(|at| self.memory.long(at))
    }

    pub fn meter(&self) -> Meter {
        let [tasks, busy_ns, waited_ns, pickled] =
            self.meters().map(|meter| meter.load(Ordering::Relaxed));
        Meter { tasks, busy_ns, waited_ns, pickled }
    }

    /// The worker is the only one who adds.
    pub fn add(&self, more: Meter) {
        let more = [more.tasks, more.busy_ns, more.waited_ns, more.pickled];
        for (meter, more) in self.meters().into_iter().zip(more) {
            meter.store(meter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        }
    }
}

/// Takes back a record that the worker has not claimed.
pub fn revoke(ring: &Producer, position: u64) -> bool {
    // One that the worker is done with may have left its room to another record.
    if !ring.is_kept(position) {
        return false;
    }
    let word = ring.word(position);
    word.compare_exchange(QUEUED, REVOKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// The clock of all processes: nanoseconds.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_never_missed() {
        for ring in [Bell::ring, Bell::ring_once] {
            never_missed(ring);
        }
    }

    fn never_missed(ring: fn(&Bell)) {
        let file = Board::create().unwrap();
        let board = Board::new(&file).unwrap();
        let work = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=20_000 {
                    work.store(number, Ordering::Release);
                    ring(&board.users);
                    while work.load(Ordering::Acquire) != 0 {
                        std::hint::spin_loop();
                    }
                }
            });
            for number in 1..=20_000 {
                while work.load(Ordering::Acquire) != number {
                    let _ = board.users.wait(None, || work.load(Ordering::Acquire) == number);
                }
                work.store(0, Ordering::Release);
            }
        });
    }

    #[test]
    fn a_control_page_tells_what_was_written() {
        let file = Control::create().unwrap();
        let (worker, parent) = (Control::new(&file).unwrap(), Control::new(&file).unwrap());
        assert_eq!(parent.current(), None);
        worker.started(4096, 7, 99);
        assert_eq!(parent.current(), Some((4096, 7, 99)));
        worker.finished();
        assert_eq!(parent.current(), None);
        worker.add(Meter { tasks: 2, busy_ns: 3, waited_ns: 4, pickled: 5 });
        assert_eq!(parent.meter().busy_ns, 3);
        assert_eq!(parent.readiness(), Readiness::Starting);
        worker.is_ready();
        assert_eq!(parent.readiness(), Readiness::Ready);
    }
}
