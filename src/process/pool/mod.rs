//! The process pool: tasks to worker processes and back, by rings in shared memory.
//!
//! ```text
//!   submit, map ──▶ engine ──task ring──▶ worker ──result ring──▶ engine ──▶ futures, maps
//!                     ▲   (one file in memory a worker)             ▲
//!                     └── driver: deaths, timeouts, results ────────┴── or who waits for one
//! ```
//!
//! * `memory`, `ring`, `shared`: the memory that parent and workers share, and its bells.
//! * `message`: what goes through the rings. `link`, `station`: their two ends.
//! * `state`, `engine`, `schedule`, `fate`: which task goes where, and what becomes of it.
//! * `driver`: the engine with the threads of the parent: who waits, who drives.

pub mod driver;
pub mod engine;
pub mod fate;
pub mod link;
pub mod memory;
pub mod message;
pub mod ring;
pub mod schedule;
pub mod shared;
pub mod state;
pub mod station;

#[cfg(test)]
mod tests;
