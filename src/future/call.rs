//! What a task calls. A future whose executor runs it in this process keeps it until somebody
//! takes it, which takes no allocation beside the future's own.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// What a task calls, and the context that it does so in.
pub struct Call {
    pub function: Py<PyAny>,
    pub args: Py<PyTuple>,
    pub kwargs: Option<Py<PyDict>>,
    /// `None`: no variable was set. One that is not there is one less for the garbage collector.
    pub context: Option<Py<PyAny>>,
    pub limits: Option<Box<Limits>>,
}

/// Limits of a task, and what it is called in errors.
#[derive(Clone)]
pub struct Limits {
    pub timeout: Option<f64>,
    pub retries: u32,
    pub name: Option<String>,
}
