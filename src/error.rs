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

/// Errors of starting processes.
#[cfg(target_os = "linux")]
#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("cannot {action}: {source}")]
    Os { action: &'static str, source: std::io::Error },
    #[error(
        "cannot start the interpreter {program:?}: {reason}; \
         multiprocessing.set_executable() tells which one to use"
    )]
    Interpreter { program: String, reason: String },
    #[error(
        "plait's helper process ended before it could fork ({status}); \
         what it printed to stderr, above, says why"
    )]
    Zygote { status: String },
}

#[cfg(target_os = "linux")]
impl ProcessError {
    pub fn os(action: &'static str, error: rustix::io::Errno) -> Self {
        Self::Os { action, source: error.into() }
    }
}

#[cfg(all(target_os = "linux", feature = "python"))]
impl From<ProcessError> for pyo3::PyErr {
    fn from(error: ProcessError) -> Self {
        use pyo3::exceptions::{PyOSError, PyRuntimeError};
        let message = error.to_string();
        match error {
            // errno first, so that OSError picks its subclass and callers can look at it
            ProcessError::Os { source, .. } => {
                PyOSError::new_err((source.raw_os_error().unwrap_or(0), message))
            }
            _ => PyRuntimeError::new_err(message),
        }
    }
}

/// Errors of the pool's shared memory.
#[cfg(target_os = "linux")]
#[derive(Debug, Error)]
pub enum ArenaError {
    #[error("no memory for the arena to grow by {bytes} bytes: {source}")]
    NoMemory { bytes: u64, source: std::io::Error },
    #[error("cannot {action}: {source}")]
    Os { action: &'static str, source: std::io::Error },
    #[error("a bug in plait: there is no arena at this place of the file")]
    Foreign,
    #[error("a bug in plait: borrower {borrower} of an arena that has {borrowers}")]
    Borrower { borrower: u32, borrowers: u32 },
}

#[cfg(target_os = "linux")]
impl ArenaError {
    pub fn os(action: &'static str, error: rustix::io::Errno) -> Self {
        Self::Os { action, source: error.into() }
    }
}

#[cfg(all(target_os = "linux", feature = "python"))]
impl From<ArenaError> for pyo3::PyErr {
    fn from(error: ArenaError) -> Self {
        use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};
        let message = error.to_string();
        match error {
            ArenaError::NoMemory { .. } => PyMemoryError::new_err(message),
            ArenaError::Os { source, .. } => {
                PyOSError::new_err((source.raw_os_error().unwrap_or(0), message))
            }
            _ => PyRuntimeError::new_err(message),
        }
    }
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

/// Errors of the coroutine engine.
#[derive(Debug, Error)]
pub enum AioError {
    #[error("cannot start plait's tokio threads: {0}")]
    Runtime(std::io::Error),
    #[error("a bug in plait: {0}")]
    Panicked(String),
    #[error("cannot fetch {url:?}: {reason}")]
    Url { url: String, reason: String },
    #[error("GET {url} failed: {reason}")]
    Connection { url: String, reason: String, cause: Broken },
    #[error("GET {url}: the body is larger than {largest} bytes; max_size=None lets it be")]
    TooLarge { url: String, largest: usize },
    #[error(
        "GET {url}: status and headers are larger than {largest} bytes, or Content-Length is beyond all limits"
    )]
    HeadTooLarge { url: String, largest: usize },
    #[error("GET {url} took longer than {seconds} s")]
    Timeout { url: String, seconds: f64 },
}

/// Why a connection failed, as far as it has an exception of its own.
#[derive(Debug)]
pub enum Broken {
    Os(i32),
    Tls(rustls::Error),
    Name(crate::aio::net::resolve::NoAddress),
    Otherwise,
}

#[cfg(feature = "python")]
impl From<AioError> for pyo3::PyErr {
    fn from(error: AioError) -> Self {
        use crate::aio::net::errors::{limit_error, no_address_error, tls_error};
        use pyo3::Python;
        use pyo3::exceptions::{
            PyConnectionError, PyOSError, PyRuntimeError, PyTimeoutError, PyValueError,
        };
        let message = error.to_string();
        match error {
            AioError::Runtime(error) => {
                let code = error.raw_os_error(); // such as too many open files
                code.map_or_else(
                    || PyRuntimeError::new_err(message.clone()),
                    |code| PyOSError::new_err((code, message.clone())),
                )
            }
            AioError::Panicked(_) => PyRuntimeError::new_err(message),
            AioError::Url { .. } => PyValueError::new_err(message),
            AioError::Connection { cause, .. } => match cause {
                // errno first, so that OSError picks its subclass and callers can look at it
                Broken::Os(code) => PyOSError::new_err((code, message)),
                Broken::Tls(error) => Python::attach(|py| tls_error(py, &error, &message)),
                Broken::Name(error) => Python::attach(|py| no_address_error(py, &error, &message)),
                Broken::Otherwise => PyConnectionError::new_err(message),
            },
            AioError::TooLarge { largest, .. } | AioError::HeadTooLarge { largest, .. } => {
                Python::attach(|py| limit_error(py, &message, largest))
            }
            AioError::Timeout { .. } => PyTimeoutError::new_err(message),
        }
    }
}

/// What the system said, with its errno: what PyO3 makes of an I/O error has none.
#[cfg(feature = "python")]
pub fn os_error(error: &std::io::Error) -> pyo3::PyErr {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    match error.raw_os_error() {
        Some(code) => pyo3::exceptions::PyOSError::new_err((code, text)),
        None => pyo3::exceptions::PyOSError::new_err(text),
    }
}

/// Locks a mutex whose data stays valid when a holder panics: each critical section of this
/// crate leaves it so.
pub fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
