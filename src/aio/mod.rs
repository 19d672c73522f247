//! Coroutines: Rust futures on plait's own tokio runtime, awaited from asyncio.
//!
//! A future is polled first on its loop's thread. If it is not ready, its waker puts an id
//! into the loop's `inbox` and makes the loop's pipe readable, once for however many ids; the
//! loop then polls those futures and steps the tasks that wait for them. Rust's threads
//! never touch Python.

pub mod channel;
pub mod coding;
pub mod files;
pub mod http;
pub mod inbox;
pub mod linger;
pub mod net;
pub mod runtime;
pub mod watch;

#[cfg(feature = "python")]
pub mod awaitable;
#[cfg(feature = "python")]
pub mod bridge;
#[cfg(feature = "python")]
pub mod channel_face;
#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
pub mod gather;
#[cfg(feature = "python")]
mod panics;
#[cfg(feature = "python")]
pub mod probe;
#[cfg(feature = "python")]
mod protocol;
#[cfg(feature = "python")]
pub mod ready;
#[cfg(feature = "python")]
pub mod settled;
#[cfg(feature = "python")]
pub mod start;
#[cfg(feature = "python")]
mod unawaited;
#[cfg(feature = "python")]
pub mod watch_face;
