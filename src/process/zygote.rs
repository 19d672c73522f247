//! The zygote as its user sees it: started on demand, asked to fork, replaced when it dies.
//!
//! A request carries one end of a channel; who holds it answers through it. A child says its
//! pid first of all, so that it is known even if the zygote has died meanwhile; and when the
//! channel ends without a word, there is no child. So nothing is lost, and nothing run twice.
//!
//! A *spare* is a child that was asked for ahead of time: forked already, rehearsed, waiting
//! for its payload. Taking one costs its user no fork. The zygote forks spares only when it
//! has had nothing else to do for a moment, so that refilling doesn't compete with the work
//! that was just started.
//!
//! The zygote and its spares are in a process group of their own: ^C at a terminal, or a
//! signal to the user's group, is not for them, and they can't hand it on later. A child is
//! moved to its parent's group when it is taken.

use crate::error::ProcessError;
use crate::process::demand::{self, Demand};
use crate::process::reaping::{adopt, discard, readable, reap, was_interrupted};
use crate::process::{attributes, channel};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdStatus, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a zygote is asked to do: the first byte of a request, which also carries how long a
/// spare is to wait, in seconds, and the other end of a channel.
pub const FORK: u8 = b'F';
/// Fork, but not before there has been nothing else to do for a moment.
pub const SPARE: u8 = b'L';
/// Python's state to start from, as bytes that only the Python side understands.
pub const STATE: u8 = b'S';
/// Bytes of a request.
pub const REQUEST: usize = 5;

/// How long a zygote may take to answer. It needs 20 ms to start and under 1 ms to fork; one
/// that is starved for so long is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// When to look whether it is stopped.
const DOUBT: Duration = Duration::from_millis(100);
/// How long one that was told to end, or to fork a spare, may take to.
const GRACE: Duration = Duration::from_secs(1);
/// A payload up to this size is sent along with the request: it fits a socket's buffer.
const SMALL: usize = 32 * 1024;

/// How to start a zygote.
pub struct Recipe {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
}

/// A payload: what its child is to do.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    pub head: &'a [u8],
    pub body: &'a [u8],
    pub fds: &'a [BorrowedFd<'a>],
}

/// A child that was forked. One from the spares waits for its payload.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub channel: OwnedFd,
    /// Which of the states told to the zygote it has.
    pub generation: u32,
}

/// A child that was asked for ahead of time.
#[derive(Debug)]
struct Spare {
    channel: OwnedFd,
    /// Its pid and pidfd, once it has said its pid.
    known: Option<(i32, OwnedFd)>,
    /// It has said that it is ready, too.
    ready: bool,
    generation: u32,
}

impl Spare {
    /// Ends it. One that is not heard of in time, and may be forked yet, is given back.
    fn end(self, patience: Duration) -> Option<Self> {
        if let Some((_, pidfd)) = self.known {
            discard(pidfd.as_fd());
        } else if !readable(self.channel.as_fd(), patience) {
            return Some(self);
        } else if let Ok(Some(pid)) = channel::receive_hello(self.channel.as_fd(), false)
            && let Ok(pidfd) = adopt(pid)
        {
            // It had been forked without our having heard of it. (If it had not, its channel
            // has just ended without a word.)
            drop(self.channel); // upon which it ends
            let _ = reap(pidfd.as_fd());
        }
        None
    }
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
    /// Whether it and its spares have a process group of their own.
    apart: bool,
    /// How many states it was told.
    generation: u32,
    /// The newest is last, and taken first.
    spares: Vec<Spare>,
    /// Those that were to end before they were heard of.
    unheard: Vec<Spare>,
    /// Whether spares were asked for: the first start finds none, and is no reason for more.
    has_had_spares: bool,
    demand: Demand,
}

impl Zygote {
    /// Starts one. It is asked to fork without waiting for it to be ready.
    pub fn start(recipe: &Recipe) -> Result<Self, ProcessError> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| ProcessError::os("make a socket pair", error))?;
        // A group of outside this pid namespace has no name, so its children could not join it.
        let apart = own_group().is_some();
        // std starts programs by posix_spawn, with an empty signal mask.
        let mut command = Command::new(&recipe.program);
        if apart {
            command.process_group(0);
        }
        let child = command
            .args(&recipe.arguments)
            .env_clear()
            .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(stderr())
            .spawn()
            .map_err(|error| match Errno::from_io_error(&error) {
                // It says nothing of the program.
                Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                    ProcessError::Os { action: "start the interpreter", source: error }
                }
                _ => ProcessError::Interpreter {
                    program: recipe.program.to_string_lossy().into_owned(),
                    reason: error.to_string(),
                },
            })?;
        drop(command); // it holds the other end of the socket
        let pidfd = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| ProcessError::os("open a pidfd", error))?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            control: ours,
            pidfd,
            pid: child.id(),
            owner: Some(rustix::process::getpid()),
            apart,
            generation: 0,
            spares: Vec::new(),
            unheard: Vec::new(),
            has_had_spares: false,
            demand: Demand::new(Instant::now(), cpus),
        })
    }

    /// Tells it the state that its children are to start with from now on. A state may be
    /// larger than a packet, so it goes by a channel of its own.
    pub fn tell(&mut self, state: &[u8], fds: &[BorrowedFd<'_>]) -> Result<u32, ForkError> {
        let (ours, theirs) = channel::pair().map_err(ForkError::Refused)?;
        send_request(self.control.as_fd(), STATE, 0, theirs.as_fd())?;
        drop(theirs);
        channel::send_frame(ours.as_fd(), &[], state, fds).map_err(|_| ForkError::Gone)?;
        self.generation = self.generation.wrapping_add(1);
        Ok(self.generation)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this process started it.
    pub fn is_ours(&self) -> bool {
        self.owner == Some(rustix::process::getpid())
    }

    /// Wakes the spare that `take` will give.
    pub fn ring(&mut self) {
        if let Some(at) = self.next_spare() {
            let _ = channel::ring(self.spares[at].channel.as_fd()); // dead: take() will see
        }
    }

    fn next_spare(&mut self) -> Option<usize> {
        let ready = |spares: &[Spare]| spares.iter().rposition(|spare| spare.ready);
        ready(&self.spares).or_else(|| {
            self.listen();
            ready(&self.spares)
        })
    }

    /// A spare, if one is ready.
    pub fn take(&mut self) -> Option<Child> {
        while let Some(at) = self.next_spare() {
            let spare = self.spares.remove(at);
            if let Some((pid, pidfd)) = spare.known {
                // One that awaits a ^C is of no use: it would end of it as soon as it is started.
                if !self.apart && was_interrupted(pid) {
                    discard(pidfd.as_fd());
                    continue;
                }
                self.bring_in(pid);
                let left = self.spares.iter().filter(|spare| spare.ready).count();
                self.demand.took(Some(left));
                let Spare { channel, generation, .. } = spare;
                return Some(Child { pid, pidfd, channel, generation });
            }
        }
        None
    }

    /// Moves a child to our process group. (It has ended: who waits for it will be told.)
    fn bring_in(&self, pid: i32) {
        if self.apart
            && let (Some(group), Some(pid)) = (own_group(), Pid::from_raw(pid))
        {
            let _ = rustix::process::setpgid(Some(pid), Some(group));
        }
    }

    /// Has a child forked for this payload. `Gone`: nothing was run, and another zygote may be
    /// tried.
    pub fn fork(&mut self, payload: Payload<'_>) -> Result<Child, ForkError> {
        if self.has_had_spares {
            self.demand.took(None);
        }
        let (ours, theirs) = channel::pair().map_err(ForkError::Refused)?;
        send_request(self.control.as_fd(), FORK, 0, theirs.as_fd())?;
        drop(theirs);
        let Payload { head, body, fds } = payload;
        // The child finds it when it comes up. It speaks before it reads: as long as it has
        // not been heard of, nothing runs.
        let at_once = head.len() + body.len() <= SMALL;
        let send = || match channel::send_frame(ours.as_fd(), head, body, fds) {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()), // its end will tell
            Err(error) => Err(ForkError::Refused(error)),
        };
        if at_once {
            send()?;
        }
        let pid = self.hear(ours.as_fd())?;
        let pidfd = adopt(pid).map_err(ForkError::Refused)?;
        self.bring_in(pid);
        if !at_once && let Err(error) = send() {
            discard(pidfd.as_fd());
            return Err(error);
        }
        Ok(Child { pid, pidfd, channel: ours, generation: self.generation })
    }

    /// Waits until a child says its pid.
    fn hear(&self, channel: BorrowedFd<'_>) -> Result<i32, ForkError> {
        if !readable(channel, DOUBT) {
            // Stopped by somebody, it would be so for ever; it is our helper, and needed now.
            if self.is_stopped() {
                let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
            }
            if !readable(channel, PATIENCE) {
                let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            }
        }
        match channel::receive_hello(channel, true) {
            Ok(Some(pid)) if pid > 0 => Ok(pid),
            Ok(Some(error)) => Err(ForkError::Refused(Errno::from_raw_os_error(-error))),
            _ => Err(ForkError::Gone),
        }
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// How many spares there are too few.
    pub fn missing(&mut self) -> usize {
        self.listen();
        self.demand.wanted(Instant::now()).saturating_sub(self.spares.len())
    }

    /// Asks for spares until there will be as many as are wanted. To be called when nobody is
    /// in a hurry: it wakes the zygote.
    pub fn refill(&mut self) -> Result<(), ForkError> {
        self.has_had_spares = true;
        for _ in 0..self.missing() {
            let (channel, theirs) = channel::pair().map_err(ForkError::Refused)?;
            let patience = demand::patience(self.spares.len()).as_secs() as u32;
            send_request(self.control.as_fd(), SPARE, patience, theirs.as_fd())?;
            let generation = self.generation;
            self.spares.push(Spare { channel, known: None, ready: false, generation });
        }
        Ok(())
    }

    /// Ends the spares that there are, or will be.
    pub fn drop_spares(&mut self) {
        let dropped = std::mem::take(&mut self.spares);
        self.unheard.extend(dropped.into_iter().filter_map(|spare| spare.end(GRACE)));
    }

    /// Whether the next start will find none.
    pub fn is_out_of_spares(&self) -> bool {
        self.spares.is_empty()
    }

    /// The pids of the spares that are ready, and how many there should be.
    pub fn spares(&mut self) -> (Vec<i32>, usize) {
        self.listen();
        let ready = self.spares.iter().filter(|spare| spare.ready);
        let pids = ready.filter_map(|spare| Some(spare.known.as_ref()?.0)).collect();
        (pids, self.demand.wanted(Instant::now()))
    }

    /// Hears what spares have said; those that have ended are no more.
    fn listen(&mut self) {
        if !self.unheard.is_empty() {
            let unheard = std::mem::take(&mut self.unheard).into_iter();
            self.unheard = unheard.filter_map(|spare| spare.end(Duration::ZERO)).collect();
        }
        self.spares.retain_mut(|spare| {
            loop {
                match channel::receive_hello(spare.channel.as_fd(), false) {
                    Ok(Some(pid)) if pid > 0 && spare.known.is_none() => match adopt(pid) {
                        Ok(pidfd) => spare.known = Some((pid, pidfd)),
                        Err(_) => return false,
                    },
                    Ok(Some(pid)) if pid > 0 => spare.ready = true,
                    Err(Errno::AGAIN) => return true,
                    _ => {
                        // A limit was met (who needs a child will be told), it was killed, or
                        // nobody needed it for long. Not killed here: were it reaped already,
                        // its pid might be another's by the time that it was adopted.
                        if let Some((_, pidfd)) = &spare.known {
                            let _ = reap(pidfd.as_fd());
                        }
                        return false;
                    }
                }
            }
        });
    }

    /// Ends it and waits until it has; a zygote that is gone already is fine.
    pub fn end(self) -> Option<WaitIdStatus> {
        if !self.is_ours() {
            return None; // a copy in a forked process: the original goes on
        }
        let Self { control, pidfd, spares, unheard, .. } = self;
        let _ = rustix::net::shutdown(&control, rustix::net::Shutdown::Write);
        if !readable(pidfd.as_fd(), GRACE) {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
        drop(control); // with requests in it that nobody has read
        for spare in spares.into_iter().chain(unheard) {
            // Its channel ends, or it speaks: nobody else has the other end any more.
            let _ = spare.end(PATIENCE);
        }
        reap(pidfd.as_fd()).ok().flatten()
    }
}

/// Our process group, unless its leader is outside this pid namespace.
fn own_group() -> Option<Pid> {
    Pid::from_raw(attributes::group())
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

fn send_request(
    socket: BorrowedFd<'_>,
    kind: u8,
    number: u32,
    fd: BorrowedFd<'_>,
) -> Result<(), ForkError> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(ForkError::Refused(Errno::MSGSIZE));
    }
    let [a, b, c, d] = number.to_le_bytes();
    let bytes: [u8; REQUEST] = [kind, a, b, c, d];
    let parts = [std::io::IoSlice::new(&bytes)];
    let send = || sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL);
    rustix::io::retry_on_intr(send).map(|_| ()).map_err(|_| ForkError::Gone)
}
