//! Frames of bytes and descriptors over a Unix stream socket.
//!
//! A frame is a header (length and number of descriptors), the descriptors in batches that
//! ride on the header and on filler bytes after it, and the bytes. Descriptors arrive
//! close-on-exec.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Descriptors a message: the kernel takes 253 (SCM_MAX_FD).
const BATCH: usize = 250;
const HEADER: usize = 12;
/// What a frame may be at most; a longer length means that the other side is not plait.
const LONGEST: u64 = 1 << 46;

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
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE); // more than a batch: a mistake of ours
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))
}

/// Sends a frame; waits while the socket's buffer is full. `EPIPE`: the other side is gone.
pub fn send_frame(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    header[8..].copy_from_slice(&(fds.len() as u32).to_le_bytes());
    let (first, rest) = fds.split_at(fds.len().min(BATCH));
    // A header of 12 bytes is never split: an empty stream socket has room for it.
    send_with_fds(socket, &header, first)?;
    for batch in rest.chunks(BATCH) {
        send_with_fds(socket, &[0], batch)?;
    }
    let mut left = bytes;
    while !left.is_empty() {
        let sent = rustix::io::retry_on_intr(|| send(socket, left, SendFlags::NOSIGNAL))?;
        left = &left[sent..];
    }
    Ok(())
}

fn receive_exactly(
    socket: BorrowedFd<'_>,
    mut buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<bool, Errno> {
    while !buffer.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buffer)];
        let received = match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(arrived) = message {
                fds.extend(arrived);
            }
        }
        if received.bytes == 0 {
            return Ok(false);
        }
        buffer = &mut buffer[received.bytes..];
    }
    Ok(true)
}

/// Receives a frame; `None`: the other side closed the channel, or died, before it was whole.
pub fn receive_frame(socket: BorrowedFd<'_>) -> Result<Option<Frame>, Errno> {
    let mut fds = Vec::new();
    let mut header = [0; HEADER];
    let end = |result: Result<bool, Errno>| match result {
        Err(Errno::CONNRESET) => Ok(false), // it died with bytes of ours unread
        other => other,
    };
    if !end(receive_exactly(socket, &mut header, &mut fds))? {
        return Ok(None);
    }
    let (length, count) = header.split_at(8);
    let length = u64::from_le_bytes(length.try_into().map_err(|_| Errno::PROTO)?);
    let count = u32::from_le_bytes(count.try_into().map_err(|_| Errno::PROTO)?) as usize;
    let length = if length > LONGEST { return Err(Errno::PROTO) } else { length as usize };
    for _ in 1..count.div_ceil(BATCH) {
        if !end(receive_exactly(socket, &mut [0], &mut fds))? {
            return Ok(None);
        }
    }
    if fds.len() != count {
        return Err(Errno::MFILE); // the kernel drops descriptors that don't fit our limit
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::NOMEM)?;
    bytes.resize(length, 0);
    Ok(end(receive_exactly(socket, &mut bytes, &mut fds))?.then_some(Frame { bytes, fds }))
}

/// Whether a frame, or the other side's end, can be read without waiting.
pub fn readable(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
        send_frame(a.as_fd(), b"hello", &fds).unwrap();
        let frame = receive_frame(b.as_fd()).unwrap().unwrap();
        assert_eq!(frame.bytes, b"hello");
        assert_eq!(frame.fds.len(), fds.len());
    }

    #[test]
    fn a_frame_larger_than_the_socket_arrives_whole() {
        let (a, b) = pair().unwrap();
        let sent: Vec<u8> = (0..3_000_000).map(|i| i as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| send_frame(a.as_fd(), &sent, &[]).unwrap());
            assert_eq!(receive_frame(b.as_fd()).unwrap().unwrap().bytes, sent);
        });
    }

    #[test]
    fn half_a_frame_is_no_frame() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &[9; HEADER + 3], SendFlags::NOSIGNAL).unwrap();
        drop(a);
        // Its length is garbage; either answer is fine, as long as it is one.
        assert!(!matches!(receive_frame(b.as_fd()), Ok(Some(_))));
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(receive_frame(b.as_fd()).unwrap().is_none());
    }
}
