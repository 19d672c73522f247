//! The Rust core of plait. This file only wires: each area's `mod.rs` lists its parts,
//! its `face.rs` is what Python sees, the files beside it are the engine and know
//! nothing of Python.

mod error;
mod os;
mod parallel;

#[cfg(feature = "python")]
mod python;

/// `plait._core`: private. Users import `plait`, whose Python modules carry the
/// documentation and the types.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::parallel::face::{count_primes, cpu_count, crc32, mandelbrot, word_count};
}
