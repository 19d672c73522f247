//! Frames of bytes and descriptors over a Unix stream socket, and what precedes them.
//!
//! A frame is a header (a mark, length and number of descriptors), the descriptors in batches
//! that ride on the header and on filler bytes after it, and the bytes. Descriptors arrive
//! close-on-exec. The usual frame is one system call to send and one to receive: each carries
//! much that is cold by the time a process is started.
//!
//! A channel carries one frame each way: who receives takes all that is there.
//!
//! Before the frame to a child may come *bells*: its parent has begun to prepare the frame,
//! and a child that is awake when it arrives has it 50 to 100 µs earlier.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    shutdown, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Descriptors a message: the kernel takes 253 (SCM_MAX_FD).
const BATCH: usize = 250;
const HEADER: usize = 13;
/// The first byte of a frame, and a bell.
const FRAME: u8 = b'=';
const BELL: u8 = b'!';
/// What a frame may be at most; a longer length means that the other side is not plait.
const LONGEST: u64 = 1 << 46;
/// What is received at once: usual frames whole.
const GULP: usize = 8192;
/// How long a child that was woken by a bell looks for its frame before it sleeps again: a
/// parent needs a tenth of that, unless what it sends is large or fails to be pickled.
const AWAKE: Duration = Duration::from_micros(1000);

/// A frame as it arrived.
#[derive(Debug)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Both ends of a new channel, close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn send_with_fds(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE); // more than a batch: a mistake of ours
    }
    rustix::io::retry_on_intr(|| sendmsg(socket, parts, &mut control, SendFlags::NOSIGNAL))
}

/// Sends a frame whose bytes are `head` and `body`; waits while the socket's buffer is full.
/// `EPIPE`: the other side is gone, and has not got the whole of it.
pub fn send_frame(
    socket: BorrowedFd<'_>,
    head: &[u8],
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut header = [FRAME; HEADER];
    let length = head.len() + body.len();
    header[1..9].copy_from_slice(&(length as u64).to_le_bytes());
    header[9..].copy_from_slice(&(fds.len() as u32).to_le_bytes());
    let (first, rest) = fds.split_at(fds.len().min(BATCH));
    // A header is never split: an empty stream socket has room for it.
    let mut sent = 0;
    if rest.is_empty() {
        let parts = [IoSlice::new(&header), IoSlice::new(head), IoSlice::new(body)];
        sent = send_with_fds(socket, &parts, first)?.saturating_sub(HEADER);
    } else {
        send_with_fds(socket, &[IoSlice::new(&header)], first)?;
        for batch in rest.chunks(BATCH) {
            send_with_fds(socket, &[IoSlice::new(&[0])], batch)?;
        }
    }
    while sent < length {
        let (part, at) = if sent < head.len() { (head, sent) } else { (body, sent - head.len()) };
        sent += rustix::io::retry_on_intr(|| send(socket, &part[at..], SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Wakes a child that waits in [`await_frame`].
pub fn ring(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // Where a bell doesn't fit, others wait to be heard.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::io::retry_on_intr(|| send(socket, &[BELL], flags)) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error),
    }
}

/// One call's worth of bytes and descriptors; 0: the end.
fn receive_some(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    flags: RecvFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received =
        match rustix::io::retry_on_intr(|| recvmsg(socket, &mut parts, &mut control, flags)) {
            Err(Errno::CONNRESET) => return Ok(0), // it died with bytes of ours unread
            other => other?,
        };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            fds.extend(arrived);
        }
    }
    Ok(received.bytes)
}

fn receive_exactly(
    socket: BorrowedFd<'_>,
    mut buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<bool, Errno> {
    while !buffer.is_empty() {
        let received = receive_some(socket, buffer, fds, RecvFlags::empty())?;
        if received == 0 {
            return Ok(false);
        }
        buffer = &mut buffer[received..];
    }
    Ok(true)
}

/// Receives a frame; `None`: the other side closed the channel, or died, before it was whole.
pub fn receive_frame(socket: BorrowedFd<'_>) -> Result<Option<Frame>, Errno> {
    match receive_unless_bells(socket, RecvFlags::empty())? {
        Received::Frame(frame) => Ok(Some(frame)),
        Received::Bells => receive_frame(socket),
        Received::End => Ok(None),
    }
}

enum Received {
    Frame(Frame),
    Bells,
    End,
}

/// A frame, or the bells that precede it.
fn receive_unless_bells(socket: BorrowedFd<'_>, flags: RecvFlags) -> Result<Received, Errno> {
    let mut fds = Vec::new();
    let mut gulp = [0; GULP];
    let received = receive_some(socket, &mut gulp, &mut fds, flags)?;
    let bells = gulp[..received].iter().take_while(|byte| **byte == BELL).count();
    if received == 0 {
        return Ok(Received::End);
    }
    let there = received - bells;
    if there == 0 {
        return Ok(Received::Bells);
    }
    let mut header = [0; HEADER];
    let begun = there.min(HEADER);
    header[..begun].copy_from_slice(&gulp[bells..bells + begun]);
    if !receive_exactly(socket, &mut header[begun..], &mut fds)? {
        return Ok(Received::End);
    }
    let (length, count) = header[1..].split_at(8);
    let length = u64::from_le_bytes(length.try_into().map_err(|_| Errno::PROTO)?);
    let count = u32::from_le_bytes(count.try_into().map_err(|_| Errno::PROTO)?) as usize;
    if header[0] != FRAME || length > LONGEST {
        return Err(Errno::PROTO);
    }
    for _ in 1..count.div_ceil(BATCH) {
        if !receive_exactly(socket, &mut [0], &mut fds)? {
            return Ok(Received::End);
        }
    }
    if fds.len() != count {
        return Err(Errno::MFILE); // the kernel drops descriptors that don't fit our limit
    }
    let length = length as usize;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::NOMEM)?;
    bytes.extend_from_slice(&gulp[bells + begun..received]);
    let begun = bytes.len();
    bytes.resize(length, 0);
    let whole = begun <= length && receive_exactly(socket, &mut bytes[begun..], &mut fds)?;
    Ok(if whole { Received::Frame(Frame { bytes, fds }) } else { Received::End })
}

/// What a child that waits is told.
#[derive(Debug)]
pub enum Told {
    Frame(Frame),
    /// Its frame is being prepared.
    Bell,
    /// There will be none: the other side, or the parent, is gone; or nothing has come within
    /// the time that it was to wait.
    End,
}

/// In a child: waits for its frame, or a bell. `patience`: for so long; `awake`: then it was
/// told of a frame, and looks for it for a moment before it sleeps.
pub fn await_frame(
    socket: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    patience: Option<Duration>,
    awake: bool,
) -> Result<Told, Errno> {
    let began = Instant::now();
    while awake && began.elapsed() < AWAKE {
        match receive_unless_bells(socket, RecvFlags::DONTWAIT) {
            Ok(Received::Frame(frame)) => return Ok(Told::Frame(frame)),
            Ok(Received::End) => return Ok(Told::End),
            Ok(Received::Bells) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    let limit = patience.map(|patience| Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: patience.subsec_nanos().into(),
    });
    let mut fds = [
        PollFd::from_borrowed_fd(socket, PollFlags::IN),
        PollFd::from_borrowed_fd(parent, PollFlags::IN),
    ];
    let flags = match rustix::io::retry_on_intr(|| poll(&mut fds, limit.as_ref()))? {
        0 => {
            // What arrived before this is a frame to be run; what is sent after it is
            // refused, and the parent takes another child.
            shutdown(socket, rustix::net::Shutdown::Read)?;
            RecvFlags::empty()
        }
        // The parent's death doesn't end the channel if a process that the parent forked
        // still has a copy of the other end.
        _ if fds[0].revents().is_empty() => return Ok(Told::End),
        _ => RecvFlags::DONTWAIT,
    };
    match receive_unless_bells(socket, flags)? {
        Received::Frame(frame) => Ok(Told::Frame(frame)),
        Received::Bells => Ok(Told::Bell),
        Received::End => Ok(Told::End),
    }
}

/// What a child says first, or the zygote in its place: its pid, or minus an errno. `None`: the
/// other side is gone. `AGAIN`, without `wait`: nothing yet.
pub fn receive_hello(socket: BorrowedFd<'_>, wait: bool) -> Result<Option<i32>, Errno> {
    let mut bytes = [0; 4];
    let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    // Sent in one piece, hence there in one piece.
    match rustix::io::retry_on_intr(|| recv(socket, &mut bytes, flags)) {
        Ok((_, 4)) => Ok(Some(i32::from_le_bytes(bytes))),
        Ok(_) | Err(Errno::CONNRESET) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says it.
pub fn send_hello(socket: BorrowedFd<'_>, word: i32) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| send(socket, &word.to_le_bytes(), SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Whether a frame, or the other side's end, can be read without waiting.
pub fn readable(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_bytes_and_many_descriptors() {
        let (a, b) = pair().unwrap();
        let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
        let fds = vec![null.as_fd(); 2 * BATCH + 7];
        send_frame(a.as_fd(), b"he", b"llo", &fds).unwrap();
        let frame = receive_frame(b.as_fd()).unwrap().unwrap();
        assert_eq!(frame.bytes, b"hello");
        assert_eq!(frame.fds.len(), fds.len());
    }

    #[test]
    fn a_frame_larger_than_the_socket_arrives_whole() {
        let (a, b) = pair().unwrap();
        let sent: Vec<u8> = (0..3_000_000).map(|i| i as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| send_frame(a.as_fd(), &sent[..7], &sent[7..], &[]).unwrap());
            assert_eq!(receive_frame(b.as_fd()).unwrap().unwrap().bytes, sent);
        });
    }

    #[test]
    fn half_a_frame_is_no_frame() {
        let (a, b) = pair().unwrap();
        let mut half = [FRAME; HEADER + 3];
        half[1..].fill(0);
        half[1] = 9;
        send(a.as_fd(), &half, SendFlags::NOSIGNAL).unwrap();
        drop(a);
        assert!(receive_frame(b.as_fd()).unwrap().is_none());
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(receive_frame(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_child_that_is_rung_gets_the_frame_and_one_that_waited_long_refuses_it() {
        let (a, b) = pair().unwrap();
        let (_parent, alive) = pair().unwrap();
        ring(a.as_fd()).unwrap();
        ring(a.as_fd()).unwrap();
        send_frame(a.as_fd(), b"x", b"y", &[]).unwrap();
        let told = await_frame(b.as_fd(), alive.as_fd(), None, true).unwrap();
        assert!(matches!(told, Told::Frame(frame) if frame.bytes == b"xy"));

        ring(a.as_fd()).unwrap();
        let patience = Some(Duration::from_millis(1));
        let told = || await_frame(b.as_fd(), alive.as_fd(), patience, false).unwrap();
        assert!(matches!(told(), Told::Bell));
        assert!(matches!(told(), Told::End));
        assert_eq!(send_frame(a.as_fd(), b"", b"", &[]), Err(Errno::PIPE));
        assert_eq!(ring(a.as_fd()), Err(Errno::PIPE));
    }

    #[test]
    fn a_hello_is_a_word() {
        let (a, b) = pair().unwrap();
        assert_eq!(receive_hello(b.as_fd(), false), Err(Errno::AGAIN));
        send_hello(a.as_fd(), 42).unwrap();
        send_frame(a.as_fd(), b"", b"result", &[]).unwrap();
        assert_eq!(receive_hello(b.as_fd(), true), Ok(Some(42)));
        assert_eq!(receive_frame(b.as_fd()).unwrap().unwrap().bytes, b"result");
        drop(a);
        assert_eq!(receive_hello(b.as_fd(), true), Ok(None));
    }
}
