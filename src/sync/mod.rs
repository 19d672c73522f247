//! Synchronization of threads, asyncio tasks and Rust tasks: one object serves all of them.
//!
//! - `party`: who can hold something and who can wait.
//! - `park`: a thread that waits for a Rust future.
//! - `line`: those who wait for a primitive, in their order; [`line::Acquire`], the one future
//!   that every wait is; [`line::Resource`], what a primitive has to tell.
//! - `observe`: where the wait-for graph looks on.
//! - `lock`, `semaphore`: the primitives. None knows of Python.
//! - `face`: what Python sees, `plait.sync`.

#![allow(dead_code, reason = "the other primitives and statistics come next")]

pub mod line;
pub mod lock;
pub mod observe;
pub mod park;
pub mod party;
pub mod semaphore;

#[cfg(feature = "python")]
pub mod face;
