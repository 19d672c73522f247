//! Threads: the crew of parked workers that runs Python jobs for `aio.to_thread` and
//! `plait.map(how="thread")`.

pub mod crew;

#[cfg(feature = "python")]
pub mod face;
