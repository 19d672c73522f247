//! The process pool: tasks to worker processes and back, by rings in shared memory.
//!
//! ```text
//!   submit, map ──▶ engine ──task ring──▶ worker ──result ring──▶ engine ──▶ futures, maps
//!                     ▲   (one file in memory a worker)             ▲
//!                     └── driver: deaths, timeouts, results ────────┴── or who waits for one
//!
//!   owner: Arena ── encode ─▶ blocks + a few bytes ── ring ─▶ decode ─▶ View: buffers in place
//!     ▲                                                                  │
//!     └── sweeps the counters of returned blocks ◀── shared memory ◀─────┘ on drop
//! ```
//!
//! * `memory`, `ring`, `shared`: the memory that parent and workers share, and its bells.
//! * `message`: what goes through the rings. `link`, `station`: their two ends.
//! * `state`, `engine`, `schedule`, `arrivals`, `fate`: which task goes where, and what becomes
//!   of it.
//! * `driver`: the engine with the threads of the parent: who waits, who drives.
//! * `layout`, `mapping`, `pages`: an arena's file, where it is mapped and what a fork does to
//!   that, and how it gets memory. `extents` is the book of what is free there, `arena` the
//!   owner's side, `view` the other.
//! * `face` is the pool as Python sees it, `common` what that shares with futures and maps,
//!   `map` its iterators (`map_feed` sends their items, `map_results` has what came and was not
//!   taken), `answer` what results are delivered to, `known` which functions the workers have,
//!   `worker` a worker's loop, `rehearsal` a task for one that has no pool.
//! * `codec` turns values into bytes and blocks, and back; `block` is a block as Python sees
//!   it; `numpy` has large arrays made in the arena from the start.

pub mod arena;
mod arrivals;
mod copy;
pub mod defined;
pub mod driver;
pub mod engine;
mod extents;
pub mod fate;
mod layout;
pub mod link;
pub mod mapping;
pub mod memory;
pub mod message;
mod pages;
pub mod ring;
pub mod schedule;
pub mod shared;
pub mod state;
pub mod station;
pub mod view;
mod wire;

#[cfg(feature = "python")]
pub mod answer;
#[cfg(feature = "python")]
pub mod block;
#[cfg(feature = "python")]
pub mod codec;
#[cfg(feature = "python")]
mod common;
#[cfg(feature = "python")]
mod decode;
#[cfg(feature = "python")]
mod encode;
#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
pub mod known;
#[cfg(feature = "python")]
pub mod map;
#[cfg(feature = "python")]
pub mod map_feed;
#[cfg(feature = "python")]
pub mod map_results;
#[cfg(feature = "python")]
pub mod numpy;
#[cfg(feature = "python")]
pub mod rehearsal;
#[cfg(feature = "python")]
pub mod worker;

#[cfg(test)]
mod tests;
