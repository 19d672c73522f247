//! What Python sees of cached threads: reserving one, having it run, waiting for its end.

use super::parked::{Inherited, Reserved, set_name};
use super::state::{self, Call};
use crate::error::locked;
use crate::forked::generation;
use crate::os::{Flag, LOOK_UP, Woken, is_main_thread};
use crate::sync::graph;
use crate::sync::graph::watch::{looked_up, or_running};
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::ffi::CString;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The end of a run: what `threading.Thread._handle` is since Python 3.13.
#[pyclass(frozen)]
pub struct RunEnd {
    flag: Arc<Flag>,
    generation: u64,
    #[pyo3(get)]
    ident: u64,
}

impl RunEnd {
    /// In a forked child the other threads are not there.
    fn is_lost(&self) -> bool {
        self.generation != generation() && !is_own(self.ident)
    }
}

#[allow(unsafe_code, reason = "one call of libc without a precondition")]
fn is_own(ident: u64) -> bool {
    // SAFETY: it has no precondition.
    unsafe { libc::pthread_self() == ident }
}

#[pymethods]
impl RunEnd {
    /// Whether it has ended.
    fn is_done(&self) -> bool {
        self.flag.is_set() || self.is_lost()
    }

    /// Waits for it, `timeout` seconds at most. Whether it has ended.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.is_done() {
            return Ok(true);
        }
        let deadline = match timeout {
            None => None,
            Some(seconds) if seconds.is_nan() => {
                return Err(PyValueError::new_err("timeout must be a number of seconds, got nan"));
            }
            Some(seconds) => {
                let length = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
                let length = length.filter(|length| length.as_secs() < 1 << 33);
                let length = length.ok_or_else(|| {
                    PyOverflowError::new_err(format!("timeout value is too large: {seconds}"))
                })?;
                Instant::now().checked_add(length)
            }
        };
        let flag = Arc::clone(&self.flag);
        let over = move || flag.is_set();
        let _watched = match deadline {
            None => Some(graph::face::before_join(py, "Thread", self.ident, over)?),
            Some(_) => None,
        };
        loop {
            let look_up = is_main_thread().then(|| Instant::now() + LOOK_UP);
            let until = deadline.into_iter().chain(look_up).min();
            match py.detach(|| or_running(self.flag.wait(until))) {
                (Woken::Set, _) => return Ok(true),
                (Woken::TimedOut, _) if until == deadline => return Ok(false),
                (Woken::TimedOut | Woken::Interrupted, running) => {
                    py.check_signals()?;
                    drop(running);
                    looked_up();
                }
            }
        }
    }

    fn _set_done(&self) {
        self.flag.set();
    }

    /// As a lock that the run holds: what exit waits for before Python 3.13.
    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        if blocking {
            self.join(py, (timeout >= 0.0).then_some(timeout))
        } else {
            Ok(self.is_done())
        }
    }

    fn release(&self) {}

    fn locked(&self) -> bool {
        !self.is_done()
    }
}

/// A cached thread that waits for its run.
#[pyclass(frozen)]
pub struct CachedThread {
    reserved: Mutex<Option<Reserved>>,
    #[pyo3(get)]
    ident: u64,
    #[pyo3(get)]
    native_id: i32,
    #[pyo3(get)]
    end: Py<RunEnd>,
}

#[pymethods]
impl CachedThread {
    /// Reserves a thread with a stack of this size, 0 for the system's default. Raises
    /// RuntimeError if there is none and none can be made.
    #[new]
    fn new(py: Python<'_>, stack: usize) -> PyResult<Self> {
        if state::is_closed() {
            return Err(PyRuntimeError::new_err("can't start new thread at interpreter shutdown"));
        }
        let reserved = py.detach(|| Reserved::new(stack));
        let reserved = reserved
            .map_err(|error| PyRuntimeError::new_err(format!("can't start new thread: {error}")))?;
        let (ident, native_id) = (reserved.ident, reserved.native_id);
        let end = RunEnd { flag: Arc::default(), generation: generation(), ident };
        let end = Py::new(py, end)?;
        Ok(Self { reserved: Mutex::new(Some(reserved)), ident, native_id, end })
    }

    /// Has the thread call `function(argument)`, under a name that the system shows.
    fn run(
        &self,
        function: Bound<'_, PyAny>,
        argument: Bound<'_, PyAny>,
        name: &str,
    ) -> PyResult<()> {
        let reserved = locked(&self.reserved).take();
        let reserved = reserved.ok_or_else(|| PyRuntimeError::new_err("it was run before"))?;
        let flag = Arc::clone(&self.end.get().flag);
        let call = Call::new(function, argument);
        let name = name.split('\0').next().unwrap_or_default();
        let name = CString::new(name)?.into_boxed_c_str();
        let job = Box::new(move || {
            call.make();
            let end = move || {
                flag.set();
                graph::thread_ended();
            };
            Box::new(end) as super::parked::Ended
        });
        reserved.run(name, Inherited::here(), job);
        Ok(())
    }
}

/// Names the calling thread, for the system.
#[pyfunction]
pub fn name_thread(name: &str) -> PyResult<()> {
    let name = name.split('\0').next().unwrap_or_default();
    set_name(&CString::new(name)?);
    Ok(())
}

/// The interpreter is about to go away: no run begins any more.
#[pyfunction]
pub fn close_threads(py: Python<'_>) {
    py.detach(state::close);
}
