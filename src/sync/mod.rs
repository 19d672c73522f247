//! Threads' and coroutines' synchronization.
//!
//! - `party`: who can hold something and who can wait.
//! - `graph`: the wait-for graph, which finds deadlocks.

pub mod graph;
pub mod party;
