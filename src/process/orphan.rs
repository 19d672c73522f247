//! The end of a process whose parent has died.
//!
//! `PR_SET_PDEATHSIG` won't do: it fires when the *thread* that is the parent ends, and ours
//! may be any thread of the user's. A pidfd tells of the whole process, and can't be fooled
//! by a copy of a socket's end that some forked process still holds. A thread without Python
//! waits for it; it stands aside while the process forks, since Python (3.12 and newer) warns
//! of forking with more than one thread, and would blame the user for ours.

use crate::process::channel;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A pidfd for this process's parent, if `expected` still is its parent.
pub fn parent_pidfd(expected: i32) -> Result<OwnedFd, Errno> {
    let expected = Pid::from_raw(expected).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(expected, PidfdFlags::empty())?;
    // Asked after opening: if it still is the parent, the pidfd can't be a later process's.
    if getppid() == Some(expected) { Ok(pidfd) } else { Err(Errno::SRCH) }
}

struct Watch {
    parent: Arc<OwnedFd>,
    /// Whom it is for: a forked copy of this process inherits this, and isn't meant.
    watched: Pid,
    /// Closing our end wakes the thread, which then ends.
    running: Option<(OwnedFd, JoinHandle<()>)>,
}

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

fn spawn(parent: &Arc<OwnedFd>) -> Result<(OwnedFd, JoinHandle<()>), Errno> {
    let (stop, stopped) = channel::pair()?;
    let parent = Arc::clone(parent);
    let wait = move || {
        crate::os::block_signals();
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(parent.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
            ];
            if poll(&mut fds, None).is_err() {
                continue; // EINTR: signals are blocked, but a debugger may attach
            }
            if !fds[1].revents().is_empty() {
                return;
            }
            if !fds[0].revents().is_empty() {
                // SIGKILL, as nothing else is sure to end a busy worker at once.
                let _ = kill_process(getpid(), Signal::KILL);
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("plait-orphan".into())
        .stack_size(64 * 1024)
        .spawn(wait)
        .map_err(|_| Errno::AGAIN)?;
    Ok((stop, thread))
}

/// From now on this process ends when its parent does, however that ends.
pub fn end_with_parent(parent: OwnedFd) -> Result<(), Errno> {
    let parent = Arc::new(parent);
    let running = Some(spawn(&parent)?);
    let watch = Watch { parent, watched: getpid(), running };
    *WATCH.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    Ok(())
}

/// Before a fork: the watching thread ends, so that the process has only Python's threads.
pub fn pause() {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((stop, thread)) = watch.as_mut().and_then(|watch| watch.running.take()) {
        drop(stop);
        let _ = thread.join();
    }
}

/// From now on this process no longer ends with its parent.
pub fn end_watch() {
    pause();
    *WATCH.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// After it, in the process that forked; its child is no child of plait's and isn't watched.
pub fn resume() {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watch) = watch.as_mut()
        && watch.running.is_none()
        && watch.watched == getpid()
    {
        watch.running = spawn(&watch.parent).ok();
    }
}
