//! Processes forked by a lean interpreter of plait's own, the zygote.
//!
//! ```text
//!   user's process ──posix_spawn──▶ zygote           (first start only; idle at poll())
//!        │  "fork", child's end of a channel ─▶ │
//!        │                                      ├─ clone(CLONE_PARENT) ─▶ child
//!        │                                      └── (its parent is the user's process)
//!        │ ◀───────────────── pid, by the channel ─────── first of all
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
//! * A child says its pid, by its channel, before it reads its payload there: a request that is
//!   repeated because the zygote died half-way cannot run a target twice, and no child is
//!   unheard of. A child that was asked for ahead of time, and waits, is a spare.

#![cfg(target_os = "linux")]

pub mod attributes;
pub mod channel;
pub mod clone;
pub mod demand;
pub mod orphan;
pub mod pool;
mod reaping;
pub mod zygote;

#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
pub mod inside;
