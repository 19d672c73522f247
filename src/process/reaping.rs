//! What the system is asked of a child: whether it speaks, was hit by a signal, has ended.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, pidfd_open,
    pidfd_send_signal, waitid,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Whether a descriptor can be read within that time.
pub fn readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let limit =
        Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit))), Ok(1))
}

/// Waits for a dead child's status; `None`: someone else has reaped it.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<WaitIdStatus>, Errno> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(None),
            other => return other,
        }
    }
}

/// A pidfd for a child whose pid it has just told, which can't have been given to another: it
/// is ours to reap, and waits.
pub fn adopt(pid: i32) -> Result<OwnedFd, Errno> {
    // What is no pid says that the zygote could not fork.
    let known = Pid::from_raw(pid.max(0)).ok_or(Errno::SRCH)?;
    pidfd_open(known, PidfdFlags::empty()).inspect_err(|_| {
        let _ = kill_process(known, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(known), WaitIdOptions::EXITED));
    })
}

/// Whether ^C or ^\\ at a terminal has reached a child that still blocks them.
pub fn was_interrupted(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    let bit = |signal: Signal| 1 << (signal.as_raw() - 1);
    pending & (bit(Signal::INT) | bit(Signal::QUIT)) != 0
}

/// Ends a child that was never given anything to do.
pub fn discard(pidfd: BorrowedFd<'_>) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let _ = reap(pidfd);
}
