//! One error enum an area; its message names the offending value and what to do about it.

use thiserror::Error;

/// Errors of the parallel kernels.
#[derive(Debug, Error)]
pub enum ParallelError {
    #[error("workers must be at least 1, got {0}; leave it out to use every available core")]
    Workers(i64),
    #[error("cannot start {workers} worker threads: {reason}; ask for fewer workers")]
    Pool { workers: usize, reason: String },
    #[error("{name} must be at least {least}, got {value}")]
    TooSmall { name: &'static str, least: i64, value: i64 },
    #[error("an image of {width} x {height} pixels does not fit in memory; ask for a smaller one")]
    ImageTooLarge { width: i64, height: i64 },
}

#[cfg(feature = "python")]
impl From<ParallelError> for pyo3::PyErr {
    fn from(error: ParallelError) -> Self {
        use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
        let message = error.to_string();
        match error {
            ParallelError::Pool { .. } => PyRuntimeError::new_err(message),
            ParallelError::ImageTooLarge { .. } => PyMemoryError::new_err(message),
            _ => PyValueError::new_err(message),
        }
    }
}
