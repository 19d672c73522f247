//! A pool of threads that run tasks: the engine of `plait.ThreadPoolExecutor`.
//!
//! - `queue`: who takes which job; knows nothing of Python.
//! - `task`: a call, and what its future may ask of it: to take it back, to end it, to wait.
//! - `here`: the thread that runs tasks, seen from inside: which it runs, and ending them.
//! - `engine`: starting threads, their loop, the end.
//! - `face`: what Python sees.

pub mod queue;

#[cfg(feature = "python")]
mod engine;
#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
mod here;
#[cfg(feature = "python")]
mod task;
