//! Process pools tell a trace which task was submitted where, and which worker was at it when.
//!
//! A task that is submitted while this process is traced gets a number, which goes along with it;
//! its worker, if that is traced too, notes the number with its own times. Who reads the tapes
//! joins the two.

use super::clock;
use super::tape::Record;
use super::waits::note;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds of records, as in `plait._tracing`.
const WORK: u8 = 5;
const SUBMIT: u8 = 6;
const START: u8 = 7;
/// Apart from the numbers that Python gives: process and number have 32 bits each there.
const POOL: u64 = 1 << 62;

fn own_tid() -> u32 {
    crate::os::seat().native.unsigned_abs()
}

/// Notes that this thread submits a task; its number, 0: nothing is traced.
pub fn submitted(name: &str) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let mut flow = 0;
    note(|tape| {
        let number = LAST.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX);
        flow = POOL | u64::from(std::process::id()) << 32 | number;
        let (now, tid) = (clock::now(), own_tid());
        let b = tape.number_of(name, tid);
        Record { kind: SUBMIT, began: now, ended: now, tid, state: 0, a: flow, b }
    });
    flow
}

/// A task that has begun; it ends when this is dropped.
pub struct Work {
    flow: u64,
    began: u64,
}

impl Work {
    /// `None`: it is not traced.
    pub fn begin(flow: u64) -> Option<Self> {
        if flow == 0 {
            return None;
        }
        let began = clock::now();
        let tid = own_tid();
        note(|_| Record { kind: START, began, ended: began, tid, state: 0, a: flow, b: 0 });
        Some(Self { flow, began })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let (began, ended, tid) = (self.began, clock::now(), own_tid());
        note(|_| Record { kind: WORK, began, ended, tid, state: 0, a: 0, b: self.flow });
    }
}
