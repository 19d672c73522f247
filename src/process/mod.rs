//! Processes forked by a lean interpreter of plait's own, the zygote.
//!
//! ```text
//!   user's process ──posix_spawn──▶ zygote           (first start only; idle at poll())
//!        │  "fork", child's end of a channel ─▶ │
//!        │                                      ├─ clone(CLONE_PARENT) ─▶ child
//!        │ ◀──────────────── pid ───────────────┘     (its parent is the user's process)
//!        │ ── payload and descriptors, by the channel ──▶ unpickles, runs the target
//!        │ ◀──────────────── outcome, by the channel ──── exits
//!        └─ pidfd: death;  waitid: exit status
//! ```
//!
//! * The user's process, with its threads and its memory, is never forked; the zygote has
//!   one thread and few pages, so forking it is safe and cheap.
//! * `CLONE_PARENT` makes the child a direct child of the user's process: its exit status is
//!   waited for like any child's, no status has to be relayed, and the zygote may die at any
//!   time without a running child being lost.
//! * A child does nothing until its payload arrives, and the payload is sent only by who
//!   knows the child's pid: a request that is repeated because the zygote died half-way
//!   cannot run a target twice. A child that was asked for ahead of time, and waits, is a
//!   spare.

#![cfg(target_os = "linux")]

pub mod attributes;
pub mod channel;
pub mod clone;
pub mod orphan;
pub mod pool;
pub mod zygote;

#[cfg(feature = "python")]
pub mod face;
