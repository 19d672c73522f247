//! Parallel maps: rayon pools that plait owns, and the native kernels that run on them.

pub mod cpus;
pub mod kernels;
pub mod pool;

#[cfg(feature = "python")]
pub mod face;
