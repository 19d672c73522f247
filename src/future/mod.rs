//! The Future that plait's executors share: what a task's outcome is put into by an executor
//! and read from by Python.
//!
//! - `bytes`: a result as it arrived, small ones without an allocation.
//! - `call`: what a task calls, for executors that run it in this process.
//! - `cell`: phases, the lock and the threads that wait; knows nothing of Python.
//! - `core`: what an executor works with: [`core::Core`] and the traits that it implements.
//! - `publish`: what of a completion needs Python: `_condition`, waiters, callbacks.
//! - `lock`: the lock of a `_condition`, which a completion never waits for.
//! - `object`: the Python object, and [`object::make`].
//! - `face`: its methods, the base class of `plait.Future`.
//! - `awaited`: what `await` waits for.
//! - `untracked`: futures that the garbage collector isn't told of.
//! - `promise`: the other half, for executors in Python.

pub mod bytes;
pub mod cell;

#[cfg(feature = "python")]
pub mod awaited;
#[cfg(feature = "python")]
mod call;
#[cfg(feature = "python")]
pub mod core;
#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
mod lock;
#[cfg(feature = "python")]
pub mod object;
#[cfg(feature = "python")]
pub mod promise;
#[cfg(feature = "python")]
mod publish;
#[cfg(feature = "python")]
pub mod untracked;

// What of these only the process pool uses, only Linux does.
#[cfg(feature = "python")]
#[cfg_attr(not(target_os = "linux"), allow(unused_imports))]
pub use bytes::SmallBytes;
#[cfg(feature = "python")]
#[cfg_attr(not(target_os = "linux"), allow(unused_imports))]
pub use core::{Completion, Core, Decoded, Decoder, Encoded, Outcome, Source};
#[cfg(feature = "python")]
#[cfg_attr(not(target_os = "linux"), allow(unused_imports))]
pub use object::make;

#[cfg(feature = "python")]
pub use call::{Call, Limits};
