//! The zygote as its user sees it: started on demand, asked to fork, replaced when it dies.
//!
//! A *spare* is a child that was asked for ahead of time: forked already, rehearsed, waiting
//! for its payload. Taking one costs its user no fork. The zygote forks spares only when it
//! has had nothing else to do for a moment, so that refilling doesn't compete with the work
//! that was just started.

use crate::error::ProcessError;
use crate::process::channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, pidfd_open,
    pidfd_send_signal, waitid,
};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a zygote is asked to do: the first byte of a request, which also carries a number and
/// the child's end of a channel. Its answer is that number and a pid, or minus an errno.
pub const FORK: u8 = b'F';
/// Fork, but not before there has been nothing else to do for a moment.
pub const SPARE: u8 = b'L';
/// Python's state to start from, as bytes that only the Python side understands.
pub const STATE: u8 = b'S';
/// Bytes of a request.
pub const REQUEST: usize = 5;
/// Bytes of an answer.
const ANSWER: usize = 8;

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

/// A child that was asked for ahead of time.
#[derive(Debug)]
struct Spare {
    number: u32,
    channel: OwnedFd,
    /// Not known before the zygote has answered.
    pid: Option<i32>,
}

/// A running zygote. Dropping it closes its socket and its spares' channels, upon which all of
/// them end.
#[derive(Debug)]
pub struct Zygote {
    control: OwnedFd,
    pidfd: OwnedFd,
    pid: u32,
    /// Who started it: a forked copy of this process must not talk to it.
    owner: Option<Pid>,
    /// The last request's number.
    number: u32,
    spares: VecDeque<Spare>,
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
        let zygote = Self {
            control: ours,
            pidfd,
            pid: child.id(),
            owner: Some(rustix::process::getpid()),
            number: 0,
            spares: VecDeque::new(),
        };
        zygote
            .send_state(&recipe.state)
            .map_err(|error| ProcessError::os("talk to the zygote", error))?;
        Ok(zygote)
    }

    /// A state may be larger than a packet, so it goes by a channel of its own.
    fn send_state(&self, state: &[u8]) -> Result<(), Errno> {
        let (ours, theirs) = channel::pair()?;
        send_request(self.control.as_fd(), STATE, 0, theirs.as_fd())?;
        drop(theirs);
        channel::send_frame(ours.as_fd(), state, &[])
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this process started it.
    pub fn is_ours(&self) -> bool {
        self.owner == Some(rustix::process::getpid())
    }

    /// Asks for a child: its number, and our end of its channel.
    fn request(&mut self, kind: u8) -> Result<(u32, OwnedFd), ForkError> {
        let (ours, theirs) = channel::pair().map_err(ForkError::Refused)?;
        self.number = self.number.wrapping_add(1);
        send_request(self.control.as_fd(), kind, self.number, theirs.as_fd())
            .map_err(|_| ForkError::Gone)?;
        Ok((self.number, ours))
    }

    /// A child, from the spares if there is one. The error says whether the zygote is gone, and
    /// another may be tried.
    pub fn fork(&mut self) -> Result<Child, ForkError> {
        while self.readable(Duration::ZERO) {
            self.read_answer()?;
        }
        while let Some(at) = self.spares.iter().position(|spare| spare.pid.is_some()) {
            if let Some(child) = self.spares.remove(at).and_then(alive) {
                return Ok(child);
            }
        }
        let (number, channel) = self.request(FORK)?;
        loop {
            if !self.readable(PATIENCE) {
                let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
                return Err(ForkError::Gone);
            }
            let (answered, answer) = self.read_answer()?;
            if answered == number {
                if answer < 0 {
                    return Err(ForkError::Refused(Errno::from_raw_os_error(-answer)));
                }
                return adopt(answer, channel).map_err(ForkError::Refused);
            }
        }
    }

    /// Asks for spares until there are, or will be, `count`.
    pub fn refill(&mut self, count: usize) -> Result<(), ForkError> {
        while self.spares.len() < count {
            let (number, channel) = self.request(SPARE)?;
            self.spares.push_back(Spare { number, channel, pid: None });
        }
        Ok(())
    }

    /// The pids of the spares that are known to be there.
    pub fn spares(&mut self) -> Vec<i32> {
        while self.readable(Duration::ZERO) && self.read_answer().is_ok() {}
        self.spares.iter().filter_map(|spare| spare.pid).collect()
    }

    fn readable(&self, patience: Duration) -> bool {
        let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN)];
        matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit))), Ok(1))
    }

    /// Reads one answer; one for a spare is noted with it.
    fn read_answer(&mut self) -> Result<(u32, i32), ForkError> {
        let mut answer = [0; ANSWER];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.control, &mut answer)) {
            Ok(ANSWER) => {}
            _ => return Err(ForkError::Gone),
        }
        let [a, b, c, d, e, f, g, h] = answer;
        let (number, answer) = (u32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
        if let Some(at) = self.spares.iter().position(|spare| spare.number == number) {
            if answer > 0 {
                self.spares[at].pid = Some(answer);
            } else {
                self.spares.remove(at); // a limit was met; who needs a child will be told
            }
        }
        Ok((number, answer))
    }

    /// Ends it and waits until it has; a zygote that is gone already is fine.
    pub fn end(self) -> Option<WaitIdStatus> {
        if !self.is_ours() {
            return None; // a copy in a forked process: the original goes on
        }
        let mut zygote = self;
        let _ = rustix::net::shutdown(&zygote.control, rustix::net::Shutdown::Write);
        let grace = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(zygote.pidfd.as_fd(), PollFlags::IN)];
        if !matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&grace))), Ok(1)) {
            let _ = pidfd_send_signal(&zygote.pidfd, Signal::KILL);
        }
        // Only now: it may have forked a spare that we had not heard of.
        zygote.spares();
        let Self { pidfd, spares, .. } = zygote;
        for child in spares.into_iter().filter_map(alive) {
            discard(child.pidfd.as_fd());
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

/// A child by its pid, which can't have been given to another: it is ours to reap, and waits.
fn adopt(pid: i32, channel: OwnedFd) -> Result<Child, Errno> {
    let known = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(known, PidfdFlags::empty()).inspect_err(|_| {
        let _ = kill_process(known, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(known), WaitIdOptions::EXITED));
    })?;
    Ok(Child { pid, pidfd, channel })
}

/// The child that a spare is, unless it has been killed meanwhile: its channel is then at its
/// end. (A spare says nothing of its own accord, so "readable" means just that.) One that
/// awaits a ^C is of no use either: it would end of it as soon as it is started.
fn alive(spare: Spare) -> Option<Child> {
    let pid = spare.pid?;
    if !channel::readable(spare.channel.as_fd()).is_ok_and(|readable| !readable) {
        // Before anything else is done by its pid, which somebody may have reaped, and the
        // kernel given to another: waiting is harmless for one that is no child of ours.
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
        }
        return None;
    }
    let child = adopt(pid, spare.channel).ok()?;
    if was_interrupted(pid) {
        discard(child.pidfd.as_fd());
        return None;
    }
    Some(child)
}

/// Whether ^C or ^\\ at a terminal has reached a child that still blocks them.
fn was_interrupted(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    let bit = |signal: Signal| 1 << (signal.as_raw() - 1);
    pending & (bit(Signal::INT) | bit(Signal::QUIT)) != 0
}

/// Ends a child that was never given anything to do.
fn discard(pidfd: BorrowedFd<'_>) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let _ = reap(pidfd);
}

fn send_request(
    socket: BorrowedFd<'_>,
    kind: u8,
    number: u32,
    fd: BorrowedFd<'_>,
) -> Result<(), Errno> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::MSGSIZE);
    }
    let [a, b, c, d] = number.to_le_bytes();
    let bytes: [u8; REQUEST] = [kind, a, b, c, d];
    let parts = [std::io::IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}
