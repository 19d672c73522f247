//! The zygote as its user sees it: started on demand, asked to fork, replaced when it dies.

use crate::error::ProcessError;
use crate::process::channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, pidfd_open,
    pidfd_send_signal, waitid,
};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a zygote is asked to do: one byte, with what belongs to it in the same packet.
pub const FORK: u8 = b'F';
/// Python's state to start from, as bytes that only the Python side understands.
pub const STATE: u8 = b'S';

/// How long a zygote may take to answer. It needs 20 ms to start and under 1 ms to fork; one
/// that is stopped, or starved for so long, is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to start a zygote.
pub struct Recipe {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// Sent to it first.
    pub state: Vec<u8>,
}

/// A child that was forked and waits for its payload.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub channel: OwnedFd,
}

/// A running zygote. Dropping it closes its socket, upon which it ends.
#[derive(Debug)]
pub struct Zygote {
    control: OwnedFd,
    pidfd: OwnedFd,
    pid: u32,
    /// Who started it: a forked copy of this process must not talk to it.
    owner: Option<Pid>,
}

impl Zygote {
    /// Starts one. It is asked to fork without waiting for it to be ready.
    pub fn start(recipe: &Recipe) -> Result<Self, ProcessError> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| ProcessError::os("make a socket pair", error))?;
        // std starts programs by posix_spawn, with an empty signal mask.
        let child = Command::new(&recipe.program)
            .args(&recipe.arguments)
            .env_clear()
            .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(stderr())
            .spawn()
            .map_err(|error| ProcessError::Interpreter {
                program: recipe.program.to_string_lossy().into_owned(),
                reason: error.to_string(),
            })?;
        let pidfd = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| ProcessError::os("open a pidfd", error))?;
        let zygote =
            Self { control: ours, pidfd, pid: child.id(), owner: Some(rustix::process::getpid()) };
        zygote
            .send(STATE, &recipe.state, &[])
            .map_err(|error| ProcessError::os("talk to the zygote", error))?;
        Ok(zygote)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this process started it.
    pub fn is_ours(&self) -> bool {
        self.owner == Some(rustix::process::getpid())
    }

    fn send(&self, kind: u8, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        // Large states don't fit a packet, so bytes go by a channel of their own.
        if bytes.is_empty() {
            return send_packet(self.control.as_fd(), kind, fds);
        }
        let (ours, theirs) = channel::pair()?;
        send_packet(self.control.as_fd(), kind, &[theirs.as_fd()])?;
        drop(theirs);
        channel::send_frame(ours.as_fd(), bytes, fds)
    }

    /// Forks a child. The error says whether the zygote is gone, and another may be tried.
    pub fn fork(&self) -> Result<Child, ForkError> {
        let (channel, theirs) = channel::pair().map_err(ForkError::Refused)?;
        self.send(FORK, &[], &[theirs.as_fd()]).map_err(|_| ForkError::Gone)?;
        drop(theirs);
        let answer = self.answer()?;
        let pid = Pid::from_raw(answer)
            .filter(|_| answer > 0)
            .ok_or_else(|| ForkError::Refused(Errno::from_raw_os_error(-answer)))?;
        // The child is ours to reap, so its pid can't have been given to another.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| {
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
            ForkError::Refused(error)
        })?;
        Ok(Child { pid: answer, pidfd, channel })
    }

    fn answer(&self) -> Result<i32, ForkError> {
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit)));
        if ready.is_ok_and(|ready| ready == 0) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            return Err(ForkError::Gone);
        }
        let mut answer = [0; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.control, &mut answer)) {
            Ok(4) => Ok(i32::from_le_bytes(answer)),
            _ => Err(ForkError::Gone),
        }
    }

    /// Ends it and waits until it has; a zygote that is gone already is fine.
    pub fn end(self) -> Option<WaitIdStatus> {
        if !self.is_ours() {
            return None; // a copy in a forked process: the original goes on
        }
        let Self { control, pidfd, .. } = self;
        drop(control);
        let grace = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        if !matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&grace))), Ok(1)) {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
        reap(pidfd.as_fd()).ok().flatten()
    }
}

/// What a zygote complains to while it starts: our stderr, if that is one. It may be closed, or
/// its number be another file's, which exec closes; the zygote's first file must not become 2.
fn stderr() -> Stdio {
    match rustix::io::fcntl_getfd(std::io::stderr()) {
        Ok(flags) if !flags.contains(rustix::io::FdFlags::CLOEXEC) => Stdio::inherit(),
        _ => Stdio::null(),
    }
}

/// Why a zygote did not fork.
#[derive(Debug)]
pub enum ForkError {
    /// It has died, or does not answer.
    Gone,
    /// It, or this process, met a limit.
    Refused(Errno),
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

/// A packet of one byte and some descriptors.
pub fn send_packet(socket: BorrowedFd<'_>, kind: u8, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    let byte = [kind];
    let parts = [std::io::IoSlice::new(&byte)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}
