//! OS threads that are used again: the engine of `plait.Thread`.
//!
//! - `parked`: the threads, and the cache that they park in; knows nothing of Python.
//! - `state`: a thread state of CPython's for each run.
//! - `face`: what Python sees.
//!
//! Linux only; elsewhere `plait.Thread` starts its threads as `threading.Thread` does.

pub mod parked;

#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
mod state;
