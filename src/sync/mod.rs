//! Synchronization of threads, asyncio tasks and Rust tasks: one object serves all of them.
//!
//! - `party`: who can hold something and who can wait.
//! - `park`: a thread that waits for a Rust future.
//! - `line`: those who wait (`waiting`) for a primitive, in their order; [`line::Acquire`], the one future
//!   that every wait is; [`line::Resource`], what a primitive has to tell.
//! - `observe`: where the wait-for graph looks on.
//! - `graph/`: the wait-for graph, which finds deadlocks.
//! - `lock`, `rlock`, `semaphore`, `event`, `condition`, `barrier`, `rwlock`: the primitives.
//!   None knows of Python.
//! - `queue`: the queues, with a line of their own.
//! - `face`: what Python sees, `plait.sync`.

pub mod barrier;
pub mod condition;
pub mod event;
#[allow(dead_code, reason = "pools are to tell which of their workers a future needs")]
pub mod graph;
pub mod line;
pub mod lock;
pub mod observe;
pub mod park;
pub mod party;
pub mod queue;
pub mod rlock;
pub mod rwlock;
pub mod semaphore;
mod waiting;

#[cfg(feature = "python")]
pub mod face;
