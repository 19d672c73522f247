//! What Python sees in the user's process: the zygote, its children, frames, and the process's
//! attributes. `plait._zygote` and `plait._popen` are its only users.

use crate::error::ProcessError;
use crate::process::attributes::{self, Attributes};
use crate::process::channel;
use crate::process::channel::Frame;
use crate::process::reaping;
use crate::process::zygote::{self, ForkError, Payload, Recipe};
use pyo3::exceptions::{PyConnectionResetError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

pub fn os_error(action: &'static str, error: Errno) -> PyErr {
    ProcessError::os(action, error).into()
}

/// Python's descriptor numbers, as what Rust wants to see.
#[allow(unsafe_code, reason = "Python knows descriptors by number")]
pub fn borrowed<'a>(fd: RawFd) -> PyResult<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(PyValueError::new_err(format!("not a file descriptor: {fd}")));
    }
    // SAFETY: fd is not -1. The caller in plait keeps it open during the call, as with every
    // descriptor that Python passes by number; were it closed, the call would fail with EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

#[allow(unsafe_code, reason = "Python knows descriptors by number")]
pub fn owned(fd: RawFd) -> PyResult<OwnedFd> {
    borrowed(fd)?;
    // SAFETY: the Python caller hands its descriptor over and does not use it again.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A zygote; see `plait._zygote`.
#[pyclass(frozen)]
pub struct Zygote {
    /// One request at a time. `None`: ended.
    inner: Mutex<Option<zygote::Zygote>>,
}

impl Zygote {
    /// Does something with it, detached.
    fn with<T>(
        &self,
        py: Python<'_>,
        action: &'static str,
        work: impl Send + FnOnce(&mut zygote::Zygote) -> Result<T, ForkError>,
    ) -> PyResult<T>
    where
        T: Send,
    {
        let result = py.detach(|| {
            let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map_or(Err(ForkError::Gone), work)
        });
        result.map_err(|error| match error {
            ForkError::Gone => PyConnectionResetError::new_err("the zygote is gone"),
            ForkError::Refused(error) => os_error(action, error),
        })
    }
}

#[pymethods]
impl Zygote {
    #[new]
    fn new(
        py: Python<'_>,
        program: OsString,
        arguments: Vec<OsString>,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> PyResult<Self> {
        let environment = environment
            .into_iter()
            .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
            .collect();
        let recipe = Recipe { program, arguments, environment };
        let started = py.detach(|| zygote::Zygote::start(&recipe))?;
        Ok(Self { inner: Mutex::new(Some(started)) })
    }

    /// Tells it the state that its children start with; gives the state's number, which they
    /// have as their generation.
    fn tell(&self, py: Python<'_>, state: &[u8], fds: Vec<RawFd>) -> PyResult<u32> {
        let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
        self.with(py, "talk to the zygote", |zygote| zygote.tell(state, &fds))
    }

    /// Wakes the spare that `take` will give: what it is to do is being prepared.
    fn ring(&self) {
        // Where another thread is busy with it, starts are too many to need this.
        if let Ok(mut guard) = self.inner.try_lock()
            && let Some(zygote) = guard.as_mut()
        {
            zygote.ring();
        }
    }

    /// A spare that waits for its payload, if there is one.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Child>> {
        let taken = self.with(py, "take a spare", |zygote| Ok(zygote.take()))?;
        Ok(taken.map(Child::new))
    }

    /// Forks a child for a payload.
    fn fork(&self, py: Python<'_>, head: &[u8], body: &[u8], fds: Vec<RawFd>) -> PyResult<Child> {
        let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
        let payload = Payload { head, body, fds: &fds };
        let forked = self.with(py, "fork a child process", |zygote| zygote.fork(payload))?;
        Ok(Child::new(forked))
    }

    /// Whether there are no spares.
    fn is_out_of_spares(&self) -> bool {
        // Where another thread is busy with it, that one will look after them.
        self.inner
            .try_lock()
            .is_ok_and(|guard| guard.as_ref().is_some_and(zygote::Zygote::is_out_of_spares))
    }

    /// How many spares there are too few.
    fn missing(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, "count spares", |zygote| Ok(zygote.missing()))
    }

    /// Asks for spares until there will be as many as are wanted.
    fn refill(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, "ask for spares", zygote::Zygote::refill)
    }

    /// Ends the spares that there are, or will be.
    fn drop_spares(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, "end spares", |zygote| {
            zygote.drop_spares();
            Ok(())
        })
    }

    /// The pids of the spares that are ready, and how many there should be.
    #[getter]
    fn spares(&self, py: Python<'_>) -> (Vec<i32>, usize) {
        py.detach(|| {
            let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map(zygote::Zygote::spares).unwrap_or_default()
        })
    }

    /// Whether this process started it: a forked copy of that process must not use it.
    fn is_ours(&self) -> bool {
        // A forked child may find the lock taken for ever by a thread that it doesn't have.
        self.inner.try_lock().is_ok_and(|guard| guard.as_ref().is_some_and(zygote::Zygote::is_ours))
    }

    /// Its process id, None when it was ended.
    #[getter]
    fn pid(&self, py: Python<'_>) -> Option<u32> {
        py.detach(|| {
            let guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_ref().map(zygote::Zygote::pid)
        })
    }

    /// Ends it and says how it ended, as text.
    fn end(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| {
            let zygote = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            let status = zygote.end()?;
            Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown status".to_owned(),
            })
        })
    }
}

/// A child of this process. One that is dropped before its release, as when ^C ends start()
/// half-way, is killed and waited for: nobody else knows of it.
#[pyclass(frozen)]
pub struct Child {
    pid: i32,
    /// Its pidfd and the channel's end; `None`: closed.
    fds: Mutex<Option<(OwnedFd, OwnedFd)>>,
    unknown: AtomicBool,
    owner: u32,
    generation: u32,
}

impl Child {
    fn new(child: zygote::Child) -> Self {
        Self {
            pid: child.pid,
            fds: Mutex::new(Some((child.pidfd, child.channel))),
            unknown: AtomicBool::new(true),
            owner: std::process::id(),
            generation: child.generation,
        }
    }

    fn number(&self, which: fn(&(OwnedFd, OwnedFd)) -> &OwnedFd) -> RawFd {
        let fds = self.fds.lock().unwrap_or_else(PoisonError::into_inner);
        fds.as_ref().map_or(-1, |fds| which(fds).as_raw_fd())
    }
}

#[pymethods]
impl Child {
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// A pidfd, readable when it has ended; -1 after close().
    #[getter]
    fn sentinel(&self) -> RawFd {
        self.number(|fds| &fds.0)
    }

    /// The channel's end, as a descriptor; -1 after close().
    #[getter]
    fn channel(&self) -> RawFd {
        self.number(|fds| &fds.1)
    }

    /// The number of the state that it started with.
    #[getter]
    fn generation(&self) -> u32 {
        self.generation
    }

    /// Sends the payload, upon which it runs. BrokenPipeError: it has died, and ran nothing.
    fn send(&self, py: Python<'_>, head: &[u8], body: &[u8], fds: Vec<RawFd>) -> PyResult<()> {
        send_parts(py, self.channel(), head, body, fds)
    }

    /// From now on somebody knows of it: it goes on when this object is gone.
    fn release(&self) {
        self.unknown.store(false, Ordering::Relaxed);
    }

    /// Closes both descriptors; ends the child if it was not released.
    fn close(&self) {
        let fds = self.fds.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not in a forked copy of the process that started it: there it goes on.
        if let Some((pidfd, channel)) = fds
            && self.unknown.load(Ordering::Relaxed)
            && self.owner == std::process::id()
        {
            drop(channel);
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            let _ = reaping::reap(pidfd.as_fd());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close();
    }
}

fn send_parts(
    py: Python<'_>,
    socket: RawFd,
    head: &[u8],
    body: &[u8],
    fds: Vec<RawFd>,
) -> PyResult<()> {
    let socket = borrowed(socket)?;
    let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
    py.detach(|| channel::send_frame(socket, head, body, &fds))
        .map_err(|error| os_error("send to a child process", error))
}

/// Sends a frame of bytes and descriptors, waiting while the socket is full.
#[pyfunction]
pub fn send_frame(py: Python<'_>, socket: RawFd, bytes: &[u8], fds: Vec<RawFd>) -> PyResult<()> {
    send_parts(py, socket, &[], bytes, fds)
}

pub type PyFrame<'py> = (Bound<'py, PyBytes>, Vec<RawFd>);

pub fn to_python(py: Python<'_>, frame: Frame) -> PyFrame<'_> {
    let fds = frame.fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
    (PyBytes::new(py, &frame.bytes), fds)
}

/// Receives a frame; `None`: the other side is gone. With `wait=False` also when nothing is
/// there yet.
#[pyfunction]
#[pyo3(signature = (socket, wait=true) -> "tuple[bytes, list[int]] | None")]
pub fn receive_frame<'py>(
    py: Python<'py>,
    socket: RawFd,
    wait: bool,
) -> PyResult<Option<PyFrame<'py>>> {
    let socket = borrowed(socket)?;
    let received = py.detach(|| {
        if wait || channel::readable(socket)? { channel::receive_frame(socket) } else { Ok(None) }
    });
    let frame = received.map_err(|error| os_error("receive from a process", error))?;
    Ok(frame.map(|frame| to_python(py, frame)))
}

/// A new file in memory, close-on-exec. (An interpreter that was built on an old C library
/// lacks os.memfd_create and the calls for pidfds, whatever the kernel has.)
#[pyfunction]
pub fn memfd(name: &str) -> PyResult<RawFd> {
    let created = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC);
    Ok(created.map_err(|error| os_error("make a file in memory", error))?.into_raw_fd())
}

/// Sends a signal to the process behind a pidfd; a process that has ended is fine.
#[pyfunction]
pub fn signal_process(pidfd: RawFd, number: i32) -> PyResult<()> {
    let signal = rustix::process::Signal::from_named_raw(number)
        .ok_or_else(|| PyValueError::new_err(format!("no such signal: {number}")))?;
    match rustix::process::pidfd_send_signal(borrowed(pidfd)?, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(os_error("signal a child process", error)),
    }
}

/// The exit code of an ended child, minus the signal's number if one ended it. `None`: someone
/// else has waited for it already.
#[pyfunction]
pub fn reap(py: Python<'_>, pidfd: RawFd) -> PyResult<Option<i32>> {
    let pidfd = borrowed(pidfd)?;
    let status = py
        .detach(|| reaping::reap(pidfd))
        .map_err(|error| os_error("wait for a child process", error))?;
    Ok(status.and_then(|status| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| -signal))
    }))
}

/// What is compared at each start, each as bytes: session, user and group ids (a zygote serves
/// one identity only); umask, niceness, blocked signals, limits and affinity; and which
/// directory this is.
#[pyfunction]
#[pyo3(signature = () -> "tuple[bytes, bytes, bytes]")]
pub fn surroundings(
    py: Python<'_>,
) -> PyResult<(Bound<'_, PyBytes>, Bound<'_, PyBytes>, Bound<'_, PyBytes>)> {
    let now = Attributes::current();
    let now = now.map_err(|error| os_error("read the process's attributes", error))?;
    let identity: Vec<u8> = attributes::identity().into_iter().flat_map(u32::to_le_bytes).collect();
    let directory: Vec<u8> =
        attributes::directory().into_iter().flat_map(u64::to_le_bytes).collect();
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
    Ok((bytes(&identity), bytes(&now.to_bytes()), bytes(&directory)))
}
