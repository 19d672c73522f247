//! A socket for futures that are polled on its loop's own thread, such as an HTTP connection.
//!
//! As a pipe it remembers what epoll tells of changes only. News wake the future from within the
//! reactor's round, which polls it then and there: no other thread has a part in it.

use super::pipe::NO_SIGNAL;
use super::reactor::{Change, Reactor, Source};
use crate::error::locked;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use mio::Interest;
use socket2::Socket;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// How many reads there may be until the loop has gone round.
const STREAK: u8 = 8;

/// The reactor's side of it.
pub struct Wire {
    state: Mutex<State>,
}

struct State {
    /// `None` once its loop is closed.
    socket: Option<Socket>,
    readable: bool,
    writable: bool,
    hung_up: bool,
    streak: u8,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// The reactor has news, or was asked to look again.
    pub fn changed(&self, change: Change) {
        let woken = {
            let mut state = self.lock();
            state.streak = 0;
            state.readable |= change.readable || change.hung_up;
            state.writable |= change.writable;
            state.hung_up |= change.hung_up;
            let reader = if state.readable { state.reader.take() } else { None };
            [reader, if change.writable { state.writer.take() } else { None }]
        };
        woken.into_iter().flatten().for_each(Waker::wake); // after the lock: it may be polled now
    }

    /// Its loop is closed.
    pub fn abandon(&self) {
        let mut state = self.lock();
        let left = (state.socket.take(), state.reader.take(), state.writer.take());
        drop(state);
        drop(left);
    }
}

/// The future's side of it, which owns the connection.
pub struct WireEnd<W> {
    wire: Arc<Wire>,
    reactor: Arc<Reactor<W>>,
    number: usize,
}

impl<W> WireEnd<W> {
    /// A connected socket.
    pub fn new(reactor: &Arc<Reactor<W>>, socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let descriptor = socket.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        reactor.add(descriptor, interest, |number| {
            let state = State {
                socket: Some(socket),
                readable: true, // not known yet: the first read finds out
                writable: true,
                hung_up: false,
                streak: 0,
                reader: None,
                writer: None,
            };
            let wire = Arc::new(Wire { state: Mutex::new(state) });
            let reactor = Arc::clone(reactor);
            (Source::Wire(Arc::clone(&wire)), Self { wire, reactor, number })
        })
    }
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the event loop is closed")
}

impl<W> Read for WireEnd<W> {
    #[allow(unsafe_code, reason = "bytes are received into memory that was never written")]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.wire.lock();
        let state = &mut *state;
        while state.readable && state.streak < STREAK {
            let Some(socket) = &state.socket else { return Poll::Ready(Err(closed())) };
            // SAFETY: `recv` only writes into it, and never what is not initialized.
            let unfilled = unsafe { buffer.as_mut() };
            let room = unfilled.len();
            match socket.recv(unfilled) {
                Ok(count) => {
                    state.streak += 1;
                    // A short read has found all, but the end may have come with it.
                    state.readable = count == room || count == 0 || state.hung_up;
                    // SAFETY: so many bytes were received into the front of it.
                    unsafe { buffer.advance(count) };
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => state.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if state.socket.is_none() {
            return Poll::Ready(Err(closed()));
        }
        state.reader = Some(context.waker().clone());
        if state.readable {
            // It sends faster than we read: others have their turn.
            self.reactor.look_again(Source::Wire(Arc::clone(&self.wire)));
        }
        Poll::Pending
    }
}

impl<W> Write for WireEnd<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.wire.lock();
        while state.writable {
            let Some(socket) = &state.socket else { return Poll::Ready(Err(closed())) };
            match socket.send_with_flags(data, NO_SIGNAL) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => state.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.wire.lock();
        Poll::Ready(state.socket.as_ref().map_or(Ok(()), |socket| socket.shutdown(Shutdown::Write)))
    }
}

impl<W> Connection for WireEnd<W> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl<W> Drop for WireEnd<W> {
    fn drop(&mut self) {
        if self.reactor.is_ours() {
            let descriptor = self.wire.lock().socket.as_ref().map(AsRawFd::as_raw_fd);
            if let Some(descriptor) = descriptor {
                self.reactor.remove(self.number, descriptor);
            }
            self.wire.abandon();
        } else if let Ok(mut state) = self.wire.state.try_lock() {
            // A copy in a forked child, where a lock may be held by a thread that is gone.
            state.socket = None;
        }
    }
}
