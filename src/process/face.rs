//! What Python sees: the zygote's two ends, frames, and a process's attributes.
//! `plait._zygote` (parent), `plait._child` (zygote and child) are its only users.

use crate::error::ProcessError;
use crate::process::attributes::{self, Attributes};
use crate::process::clone::{self, Forked};
use crate::process::zygote::{self, ForkError, Recipe};
use crate::process::{channel, orphan};
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

fn os_error(action: &'static str, error: Errno) -> PyErr {
    ProcessError::os(action, error).into()
}

/// Python's descriptor numbers, as what Rust wants to see.
#[allow(unsafe_code, reason = "Python knows descriptors by number")]
fn borrowed<'a>(fd: RawFd) -> PyResult<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(PyValueError::new_err(format!("not a file descriptor: {fd}")));
    }
    // SAFETY: fd is not -1. The caller in plait keeps it open during the call, as with every
    // descriptor that Python passes by number; were it closed, the call would fail with EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

#[allow(unsafe_code, reason = "Python knows descriptors by number")]
fn owned(fd: RawFd) -> PyResult<OwnedFd> {
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

#[pymethods]
impl Zygote {
    #[new]
    fn new(
        py: Python<'_>,
        program: OsString,
        arguments: Vec<OsString>,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
        state: Vec<u8>,
    ) -> PyResult<Self> {
        let environment = environment
            .into_iter()
            .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
            .collect();
        let recipe = Recipe { program, arguments, environment, state };
        let started = py.detach(|| zygote::Zygote::start(&recipe))?;
        Ok(Self { inner: Mutex::new(Some(started)) })
    }

    /// Forks a child that waits for its payload.
    fn fork(&self, py: Python<'_>) -> PyResult<Child> {
        let forked = py.detach(|| {
            let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map_or(Err(ForkError::Gone), zygote::Zygote::fork)
        });
        match forked {
            Ok(child) => Ok(Child {
                pid: child.pid,
                fds: Mutex::new(Some((child.pidfd, child.channel))),
                unsent: AtomicBool::new(true),
                owner: std::process::id(),
            }),
            Err(ForkError::Gone) => Err(PyConnectionResetError::new_err("the zygote is gone")),
            Err(ForkError::Refused(error)) => Err(os_error("fork a child process", error)),
        }
    }

    /// Asks for spares until there will be `count`; False: the zygote is gone.
    fn refill(&self, py: Python<'_>, count: usize) -> bool {
        py.detach(|| {
            let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = guard.as_mut().map(|zygote| zygote.refill(count));
            !matches!(asked, None | Some(Err(ForkError::Gone)))
        })
    }

    /// The pids of the spares that are there.
    #[getter]
    fn spares(&self, py: Python<'_>) -> Vec<i32> {
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

/// A child of this process. One that is dropped before its payload was sent, as when ^C ends
/// start() half-way, is killed and waited for: nobody else knows of it.
#[pyclass(frozen)]
pub struct Child {
    pid: i32,
    /// Its pidfd and the channel's end; `None`: closed.
    fds: Mutex<Option<(OwnedFd, OwnedFd)>>,
    unsent: AtomicBool,
    owner: u32,
}

impl Child {
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

    /// Sends the payload, upon which it runs.
    fn send(&self, py: Python<'_>, bytes: &[u8], fds: Vec<RawFd>) -> PyResult<()> {
        send_frame(py, self.channel(), bytes, fds)?;
        self.unsent.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Closes both descriptors; ends the child if it was sent nothing.
    fn close(&self) {
        let fds = self.fds.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not in a forked copy of the process that started it: there it goes on.
        if let Some((pidfd, channel)) = fds
            && self.unsent.load(Ordering::Relaxed)
            && self.owner == std::process::id()
        {
            drop(channel);
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            let _ = zygote::reap(pidfd.as_fd());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close();
    }
}

/// In the zygote: waits for a request. Its kind, number and descriptor; `None`: the parent is
/// gone; kind 0: nothing was asked for `idle` seconds.
#[pyfunction]
#[pyo3(signature = (control, parent, idle=None))]
pub fn next_request(
    control: RawFd,
    parent: RawFd,
    idle: Option<f64>,
) -> PyResult<Option<(u8, u32, RawFd)>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (control, parent) = (borrowed(control)?, borrowed(parent)?);
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(control, PollFlags::IN),
            PollFd::from_borrowed_fd(parent, PollFlags::IN),
        ];
        let patience = idle.map(|seconds| rustix::event::Timespec {
            tv_sec: seconds as i64,
            tv_nsec: (seconds.fract() * 1e9) as i64,
        });
        match poll(&mut fds, patience.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(os_error("wait for a request", error)),
            Ok(0) => return Ok(Some((0, 0, -1))),
            Ok(_) if !fds[1].revents().is_empty() => return Ok(None),
            Ok(_) => {}
        }
        let mut request = [0; zygote::REQUEST];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut request)];
        match recvmsg(control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            Err(_) => return Ok(None),
            Ok(message) if message.bytes != zygote::REQUEST => return Ok(None),
            Ok(_) => {}
        }
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if let Some(fd) = fd {
            let [kind, a, b, c, d] = request;
            return Ok(Some((kind, u32::from_le_bytes([a, b, c, d]), fd.into_raw_fd())));
        }
    }
}

/// In the zygote: forks a sibling. 0 in the child, its pid in the zygote; a failed fork is
/// returned as minus the errno, as the parent wants to be told.
#[pyfunction]
#[allow(unsafe_code, reason = "the interpreter's fork hooks have no safe binding")]
pub fn fork_sibling(_py: Python<'_>) -> i32 {
    // SAFETY: attached, and called in the order that os.fork does: before; then, on either
    // side, after. The pyo3 frames in between hold no locks.
    unsafe { pyo3::ffi::PyOS_BeforeFork() };
    match clone::sibling() {
        Ok(Forked::Child) => {
            // SAFETY: as above; this is the child's only thread.
            unsafe { pyo3::ffi::PyOS_AfterFork_Child() };
            0
        }
        other => {
            // SAFETY: as above.
            unsafe { pyo3::ffi::PyOS_AfterFork_Parent() };
            match other {
                Ok(Forked::Parent { child }) => child,
                Ok(Forked::Child) => unreachable!("matched above"),
                Err(error) => -error.raw_os_error(),
            }
        }
    }
}

/// Sends a frame of bytes and descriptors, waiting while the socket is full.
#[pyfunction]
pub fn send_frame(py: Python<'_>, socket: RawFd, bytes: &[u8], fds: Vec<RawFd>) -> PyResult<()> {
    let socket = borrowed(socket)?;
    let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
    py.detach(|| channel::send_frame(socket, bytes, &fds))
        .map_err(|error| os_error("send to a child process", error))
}

/// Receives a frame; `None`: the other side is gone. With `wait=False` also when nothing is
/// there yet.
#[pyfunction]
#[pyo3(signature = (socket, wait=true) -> "tuple[bytes, list[int]] | None")]
pub fn receive_frame<'py>(
    py: Python<'py>,
    socket: RawFd,
    wait: bool,
) -> PyResult<Option<(Bound<'py, PyBytes>, Vec<RawFd>)>> {
    let socket = borrowed(socket)?;
    let received = py.detach(|| {
        if wait || channel::readable(socket)? { channel::receive_frame(socket) } else { Ok(None) }
    });
    let frame = received.map_err(|error| os_error("receive from a process", error))?;
    Ok(frame.map(|frame| {
        let fds = frame.fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
        (PyBytes::new(py, &frame.bytes), fds)
    }))
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
        .detach(|| zygote::reap(pidfd))
        .map_err(|error| os_error("wait for a child process", error))?;
    Ok(status.and_then(|status| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| -signal))
    }))
}

/// Session, user and group ids: a zygote serves one identity only.
#[pyfunction]
pub fn identity() -> Vec<u32> {
    attributes::identity()
}

/// Umask, niceness, process group, limits and affinity, as numbers.
#[pyfunction]
pub fn attributes_now() -> PyResult<Vec<u64>> {
    let now = Attributes::current();
    Ok(now.map_err(|error| os_error("read the process's attributes", error))?.to_words())
}

/// Puts attributes of another process in force in this one.
#[pyfunction]
pub fn apply_attributes(words: Vec<u64>) -> PyResult<()> {
    let wanted = Attributes::from_words(&words)
        .ok_or_else(|| PyRuntimeError::new_err("attributes of another version of plait"))?;
    wanted.apply().map_err(|error| os_error("take over the parent's limits", error))
}

/// A pidfd for the parent, if it still is `expected`; else ProcessLookupError.
#[pyfunction]
pub fn parent_pidfd(expected: i32) -> PyResult<RawFd> {
    let pidfd = orphan::parent_pidfd(expected);
    Ok(pidfd.map_err(|error| os_error("open the parent's pidfd", error))?.into_raw_fd())
}

/// Ends this process as soon as the one behind `pidfd` (handed over) has ended.
#[pyfunction]
pub fn end_with_parent(pidfd: RawFd) -> PyResult<()> {
    let result = orphan::end_with_parent(owned(pidfd)?);
    result.map_err(|error| os_error("watch the parent", error))
}

/// Stops watching the parent, before a fork.
#[pyfunction]
pub fn pause_watch(py: Python<'_>) {
    py.detach(orphan::pause);
}

/// Watches the parent again, after a fork.
#[pyfunction]
pub fn resume_watch(py: Python<'_>) {
    py.detach(orphan::resume);
}
