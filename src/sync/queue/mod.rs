//! Queues: one object for threads, the coroutines of several event loops and Rust tasks.
//!
//! - `line`: those who wait, and who of them is woken when.
//! - `channel`: the queue itself: items, limits, the count of unfinished tasks, shutdown; `state`:
//!   what of it is guarded.
//! - `guard`: what the queue's state is behind.
//! - `heap`: putting into and getting from a queue whose items are compared.
//! - `model`: what loom makes of these, with every interleaving that it can think of.
//! - `face`: what Python sees of `Queue`, `LifoQueue` and `PriorityQueue`; `simple`: of
//!   `SimpleQueue`; `seat` and `now`: of coroutines; `wait`: how threads wait.

pub mod channel;
pub mod guard;
pub mod heap;
pub mod line;
mod state;

#[cfg(all(test, feature = "model"))]
mod model;

#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
mod now;
#[cfg(feature = "python")]
pub mod seat;
#[cfg(feature = "python")]
pub mod simple;
#[cfg(feature = "python")]
mod wait;
