//! What Python sees inside the zygote and the children: for `plait._zygote_loop` and
//! `plait._child`.

use crate::process::attributes::Attributes;
use crate::process::channel::Told;
use crate::process::clone::{self, Forked};
use crate::process::face::{borrowed, os_error, owned, to_python};
use crate::process::{channel, orphan, zygote};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::os::fd::{IntoRawFd, RawFd};
use std::time::Duration;

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

/// In a child, or for one: the word by which its parent knows it, or minus an errno.
#[pyfunction]
pub fn send_hello(socket: RawFd, word: i32) -> PyResult<()> {
    let sent = channel::send_hello(borrowed(socket)?, word);
    sent.map_err(|error| os_error("talk to the parent", error))
}

/// In a child: waits for its payload; see the engine. `True`: it is being prepared; `False`:
/// there will be none. It stays attached, being the only thread.
#[pyfunction]
#[pyo3(signature = (socket, parent, seconds, awake) -> "tuple[bytes, list[int]] | bool")]
pub fn await_frame<'py>(
    py: Python<'py>,
    socket: RawFd,
    parent: RawFd,
    seconds: Option<u64>,
    awake: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let patience = seconds.map(Duration::from_secs);
    let told = channel::await_frame(borrowed(socket)?, borrowed(parent)?, patience, awake);
    match told.map_err(|error| os_error("receive from the parent", error))? {
        Told::Frame(frame) => to_python(py, frame).into_bound_py_any(py),
        Told::Bell => true.into_bound_py_any(py),
        Told::End => false.into_bound_py_any(py),
    }
}

fn attributes_from(bytes: &[u8]) -> PyResult<Attributes> {
    Attributes::from_bytes(bytes)
        .ok_or_else(|| PyRuntimeError::new_err("attributes of another version of plait"))
}

/// Puts attributes of another process in force in this one, but for the blocked signals.
#[pyfunction]
pub fn apply_attributes(bytes: &[u8]) -> PyResult<()> {
    let applied = attributes_from(bytes)?.apply();
    applied.map_err(|error| os_error("take over the parent's limits", error))
}

/// Blocks the signals that these attributes block, and no others.
#[pyfunction]
pub fn unblock(bytes: &[u8]) -> PyResult<()> {
    attributes_from(bytes)?.unblock();
    Ok(())
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

/// Stops watching the parent for good.
#[pyfunction]
pub fn end_watch(py: Python<'_>) {
    py.detach(orphan::end_watch);
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
