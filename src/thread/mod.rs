//! Threads that are kept for the next use.
//!
//! - `crew`: parked workers that run Python jobs for `aio.to_thread` and
//!   `plait.map(how="thread")`; `face` is what Python sees of it.
//! - `cached`: OS threads that `plait.Thread` uses again.
//! - `pool`: the threads of a `plait.ThreadPoolExecutor`.

#[cfg(target_os = "linux")]
pub mod cached;
pub mod crew;
pub mod pool;

#[cfg(feature = "python")]
pub mod face;
