//! The engine with the threads of the parent: those that wait for a result, and the driver.
//!
//! A thread that waits for a result does the pool's work meanwhile: workers wake it directly,
//! and no other thread has to run for it. The driver, one thread for each pool, sleeps then;
//! it is called when nobody waits (callbacks, asyncio), and for deaths and timeouts, which it
//! alone sees. Both sleep without a limit when nothing is on its way; else with one that
//! doubles, for results that a worker holds back (see `station`).

use super::engine::Engine;
use super::shared::{Board, now_ns};
use super::state::{Lender, Receiver};
use crate::error::locked;
use crate::os::{LOOK_UP, is_main_thread};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const FIRST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(250);

/// Why a wait came back.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Attended {
    Done,
    /// Chores are due: do them attached, then wait again.
    Chores,
    TimedOut,
    /// A signal came: let Python run its handlers, then wait again.
    Interrupted,
}

pub struct Pool<R: Receiver, L: Lender> {
    pub engine: Engine<R, L>,
    pub board: Board,
    /// The driver's bell.
    pub bell: OwnedFd,
    /// How often the driver was called: it must not fall asleep over a call.
    calls: AtomicU64,
    /// The workers' sentinels: ready when one has ended.
    sentinels: Mutex<Vec<(u32, Arc<OwnedFd>)>>,
}

impl<R: Receiver, L: Lender> Pool<R, L> {
    pub fn new(engine: Engine<R, L>, board: Board) -> Result<Self, Errno> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { engine, board, bell, calls: AtomicU64::new(0), sentinels: Mutex::default() })
    }

    /// A worker's process is there.
    pub fn watch(&self, key: u32, pid: i32, sentinel: OwnedFd) {
        self.engine.set_pid(key, pid);
        locked(&self.sentinels).push((key, Arc::new(sentinel)));
        self.call_driver();
    }

    /// A worker's process has ended and was reaped.
    pub fn ended(&self, key: u32, exitcode: i32) {
        locked(&self.sentinels).retain(|(other, _)| *other != key);
        self.engine.ended(key, exitcode);
        self.board.users.ring();
    }

    /// Has the driver look at the engine, after something was changed there.
    pub fn call_driver(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.board.call_driver(self.bell.as_fd());
    }

    pub(super) fn pump(&self) -> Option<u64> {
        let pumped = self.engine.pump();
        if pumped.delivered > 0 {
            self.board.users.ring();
        }
        pumped.next_ns
    }

    /// Waits, detached, until `is_done`, which is asked often, or the deadline.
    pub fn attend(&self, is_done: &dyn Fn() -> bool, deadline: Option<Instant>) -> Attended {
        let (mut nap, began) = (FIRST_NAP, Instant::now());
        let attended = loop {
            self.pump();
            if self.engine.has_chores() {
                break Attended::Chores;
            }
            if is_done() {
                break Attended::Done;
            }
            // Who has a deadline can't write: that may take for ever.
            let may_write = deadline.is_none();
            if self.engine.has_duties() || !may_write && self.engine.wants_writer() {
                self.call_driver();
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break Attended::TimedOut;
            }
            if may_write && self.engine.has_outputs() {
                break Attended::Chores;
            }
            let held = self.engine.may_hold().then_some(nap);
            let looks_up = is_main_thread().then(|| LOOK_UP.saturating_sub(began.elapsed()));
            if looks_up == Some(Duration::ZERO) {
                break Attended::Interrupted;
            }
            let limit = left.into_iter().chain(held).chain(looks_up).min();
            match self.board.users.wait(limit, || is_done() || self.engine.has_mail()) {
                Err(Errno::INTR) => break Attended::Interrupted,
                Err(Errno::TIMEDOUT) => nap = (nap * 2).min(LONGEST_NAP),
                _ => {}
            }
        };
        // What came for us to wake up for, and was not ours: somebody has to look at it.
        let leaves = attended != Attended::Chores;
        if self.engine.has_mail()
            || self.engine.has_duties()
            || leaves && (self.engine.has_chores() || self.engine.wants_writer())
        {
            self.call_driver();
        }
        attended
    }

    /// The driver's work, detached: comes back when there are chores or duties. False: the
    /// pool is finished.
    pub fn drive(&self) -> bool {
        let mut nap = FIRST_NAP;
        loop {
            let calls = self.calls.load(Ordering::SeqCst);
            let next_ns = self.pump();
            if self.engine.has_chores() || self.engine.wants_writer() || self.engine.has_duties() {
                return true;
            }
            if self.engine.is_finished() {
                return false;
            }
            self.board.driver_sleeps();
            let attended = self.board.users.is_anyone_asleep();
            let is_called = self.calls.load(Ordering::SeqCst) != calls;
            if is_called || self.engine.has_duties() || !attended && self.engine.has_mail() {
                self.board.driver_wakes();
                continue;
            }
            let due = next_ns.map(|due| Duration::from_nanos(due.saturating_sub(now_ns()) + 1));
            let held = (!attended && self.engine.may_hold()).then_some(nap);
            let limit = due.into_iter().chain(held).min();
            let woken = self.sleep(limit);
            self.board.driver_wakes();
            nap = if woken { FIRST_NAP } else { (nap * 2).min(LONGEST_NAP) };
        }
    }

    /// Sleeps until the bell is rung, a worker has ended (which becomes a duty), or the limit;
    /// false: the limit it was.
    fn sleep(&self, limit: Option<Duration>) -> bool {
        // Copies: the list must not stay locked, since a worker may be added meanwhile.
        let sentinels: Vec<_> = locked(&self.sentinels)
            .iter()
            .filter(|(key, _)| !self.engine.is_burying(*key))
            .cloned()
            .collect();
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        fds.extend(sentinels.iter().map(|(_, fd)| PollFd::new(&**fd, PollFlags::IN)));
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        });
        let count = poll(&mut fds, limit.as_ref()).unwrap_or(1);
        let fired: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if fired[0] {
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        }
        for ((key, _), _) in sentinels.iter().zip(&fired[1..]).filter(|(_, fired)| **fired) {
            self.engine.sentinel_fired(*key);
        }
        count > 0
    }
}
