//! A stream: a pipe, and those who wait for it.
//!
//! Whoever asks is answered at once if it can be; else their waiter stays here until the
//! reactor finds that their goal is met. A waiter carries no bytes: it comes back and takes
//! them, so that one that was cancelled meanwhile has lost none.

use super::goal::{Found, Goal};
use super::listener::Clients;
use super::pipe::{Fault, Pipe};
use super::reactor::{Change, Reactor, Ready, Source};
use crate::error::locked;
use bytes::{Buf, BytesMut};
use mio::Interest;
use rustls::Connection;
use socket2::{SockAddr, Socket};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

/// How many reads in a row may be answered without the loop having gone round: someone who
/// sends faster than we read must not keep the loop for itself. Also the reads of one round.
const STREAK: u8 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Open,
    /// Closed by us, but not all is sent.
    Closing,
    Closed,
}

/// What came of asking.
pub enum Step<T> {
    Done(T),
    /// The waiter was taken: it will be told.
    Wait,
    /// Somebody else waits for the same.
    Busy,
    Failed(Fault),
}

pub struct Stream<W> {
    inner: Mutex<Inner<W>>,
    reactor: Arc<Reactor<W>>,
    number: usize,
    pub peer: Option<SockAddr>,
    pub local: Option<SockAddr>,
}

struct Inner<W> {
    pipe: Pipe,
    phase: Phase,
    scanned: usize,
    streak: u8,
    reader: Option<(Goal, W)>,
    opener: Option<W>,
    drainers: Vec<W>,
    closers: Vec<W>,
    high: usize,
    low: usize,
    clients: Option<Arc<Clients<W>>>,
}

impl<W> Stream<W> {
    /// A connected socket; for one of a server's, its clients.
    pub fn adopt(
        reactor: &Arc<Reactor<W>>,
        socket: Socket,
        clients: Option<Arc<Clients<W>>>,
    ) -> io::Result<Arc<Self>> {
        let peer = socket.peer_addr().ok();
        Self::register(reactor, socket, peer, Phase::Open, clients)
    }

    /// Begins to connect; [`Self::opened`] tells how it went.
    pub fn connect(
        reactor: &Arc<Reactor<W>>,
        socket: Socket,
        address: &SockAddr,
    ) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let phase = match socket.connect(address) {
            Ok(()) => Phase::Open,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Phase::Connecting,
            Err(error) => return Err(error),
        };
        Self::register(reactor, socket, Some(address.clone()), phase, None)
    }

    fn register(
        reactor: &Arc<Reactor<W>>,
        socket: Socket,
        peer: Option<SockAddr>,
        phase: Phase,
        clients: Option<Arc<Clients<W>>>,
    ) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        if peer.as_ref().is_some_and(SockAddr::is_ipv4)
            || peer.as_ref().is_some_and(SockAddr::is_ipv6)
        {
            let _ = socket.set_tcp_nodelay(true); // a wish: it is slower without
        }
        let local = socket.local_addr().ok();
        let descriptor = socket.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        reactor.add(descriptor, interest, |number| {
            let inner = Inner {
                pipe: Pipe::new(socket),
                phase,
                scanned: 0,
                streak: 0,
                reader: None,
                opener: None,
                drainers: Vec::new(),
                closers: Vec::new(),
                high: 64 * 1024,
                low: 16 * 1024,
                clients: clients.clone(),
            };
            let reactor = Arc::clone(reactor);
            let inner = Mutex::new(inner);
            let stream = Arc::new(Self { inner, reactor, number, peer, local });
            if let Some(clients) = clients {
                clients.enter(number, &stream);
            }
            (Source::Stream(Arc::clone(&stream)), stream)
        })
    }

    /// Is it connected?
    pub fn opened(&self, waiter: impl FnOnce() -> W) -> Step<()> {
        let mut inner = locked(&self.inner);
        match inner.phase {
            Phase::Connecting if inner.opener.is_some() => Step::Busy,
            Phase::Connecting => {
                inner.opener = Some(waiter());
                Step::Wait
            }
            _ => inner.pipe.read_fault.clone().map_or(Step::Done(()), Step::Failed),
        }
    }

    /// Goes over to TLS.
    pub fn begin_tls(&self, tls: Connection) {
        let mut inner = locked(&self.inner);
        inner.scanned = 0;
        inner.pipe.begin_tls(tls);
    }

    /// Is TLS's handshake done?
    pub fn shaken(&self, waiter: impl FnOnce() -> W) -> Step<()> {
        let mut inner = locked(&self.inner);
        inner.shake();
        if let Some(fault) = inner.pipe.read_fault.clone().or(inner.pipe.write_fault.clone()) {
            return Step::Failed(fault);
        }
        if !inner.pipe.handshaking() {
            return Step::Done(());
        }
        if inner.pipe.ended() {
            let text = "the other side ended the connection during the TLS handshake".to_owned();
            return Step::Failed(Fault::Os { code: libc::ECONNRESET, text });
        }
        if inner.opener.is_some() {
            return Step::Busy;
        }
        inner.opener = Some(waiter());
        Step::Wait
    }

    /// Answers a read: `make` gets the bytes, which are taken then.
    pub fn read<T>(
        self: &Arc<Self>,
        goal: &Goal,
        waiter: impl FnOnce() -> W,
        make: impl FnOnce(&[u8], Found) -> T,
    ) -> Step<T> {
        let mut inner = locked(&self.inner);
        let inner = &mut *inner;
        if inner.reader.is_none() {
            inner.scanned = 0; // for this goal nothing was looked at yet
        }
        loop {
            let ended = inner.pipe.ended() || inner.phase == Phase::Closed;
            let mut scanned = inner.scanned;
            let found = goal.look(&inner.pipe.incoming, ended, &mut scanned);
            if inner.reader.is_none() {
                inner.scanned = scanned;
            }
            if let Some(found) = found {
                let short = matches!(found, Found::Incomplete { .. })
                    || (matches!(found, Found::Take(_)) && inner.pipe.incoming.is_empty());
                if short
                    && *goal != Goal::Some(0)
                    && let Some(fault) = &inner.pipe.read_fault
                {
                    return Step::Failed(fault.clone());
                }
                return Step::Done(inner.take(goal, found, make));
            }
            if inner.reader.is_some() {
                return Step::Busy;
            }
            if !inner.pipe.may_fill() || inner.streak >= STREAK {
                break;
            }
            inner.streak += 1;
            inner.pipe.fill();
        }
        inner.reader = Some((goal.clone(), waiter()));
        if inner.pipe.may_fill() {
            self.reactor.look_again(Source::Stream(Arc::clone(self)));
        }
        Step::Wait
    }

    /// What reading failed with.
    pub fn read_fault(&self) -> Option<Fault> {
        locked(&self.inner).pipe.read_fault.clone()
    }

    /// Is the end of the stream reached, with all bytes taken?
    pub fn at_eof(&self) -> bool {
        let mut inner = locked(&self.inner);
        let idle = inner.reader.is_none() && inner.opener.is_none() && inner.phase == Phase::Open;
        if idle && inner.pipe.incoming.is_empty() && inner.pipe.may_fill() {
            inner.pipe.fill();
        }
        inner.pipe.incoming.is_empty() && (inner.pipe.eof || inner.phase == Phase::Closed)
    }

    /// False: nothing can be sent any more, because of `write_eof`.
    pub fn write(self: &Arc<Self>, data: &[u8]) -> bool {
        let mut inner = locked(&self.inner);
        if inner.pipe.write_ended {
            return false;
        }
        if inner.phase == Phase::Open {
            inner.pipe.send(data);
        }
        true
    }

    pub fn write_eof(&self) {
        let mut inner = locked(&self.inner);
        if inner.phase == Phase::Open && !inner.pipe.write_ended {
            inner.pipe.write_ended = true;
            inner.pipe.flush();
        }
    }

    /// May more be written, by asyncio's flow control?
    pub fn drained(&self, waiter: impl FnOnce() -> W) -> Step<()> {
        let mut inner = locked(&self.inner);
        if let Some(fault) = &inner.pipe.write_fault {
            return Step::Failed(fault.clone());
        }
        if inner.phase == Phase::Closed {
            let text = "Connection lost".to_owned();
            return Step::Failed(Fault::Os { code: libc::ECONNRESET, text });
        }
        if inner.pipe.outgoing.len() <= inner.high {
            return Step::Done(());
        }
        inner.drainers.push(waiter());
        Step::Wait
    }

    /// Is it closed?
    pub fn closed(&self, waiter: impl FnOnce() -> W) -> Step<()> {
        let mut inner = locked(&self.inner);
        if inner.phase == Phase::Closed {
            let fault = inner.pipe.write_fault.clone().or(inner.pipe.read_fault.clone());
            return fault.map_or(Step::Done(()), Step::Failed);
        }
        inner.closers.push(waiter());
        Step::Wait
    }

    /// Closes it once everything is sent.
    pub fn close(&self) {
        self.end(false);
    }

    /// Closes it now.
    pub fn abort(&self) {
        self.end(true);
    }

    fn end(&self, now: bool) {
        let mut ready = Vec::new();
        {
            let mut inner = locked(&self.inner);
            if matches!(inner.phase, Phase::Connecting | Phase::Open) {
                if self.reactor.is_ours() && !now {
                    inner.pipe.say_goodbye();
                }
                inner.phase = Phase::Closing;
            }
            if now || inner.pipe.outgoing.is_empty() || inner.pipe.write_fault.is_some() {
                inner.finish(self, &mut ready);
            }
            // Reads are over. (What has come already can still be taken.)
            inner.pipe.eof = true;
            ready.extend(inner.reader.take().map(|(_, waiter)| waiter));
        }
        self.reactor.push(ready.into_iter().map(Ready::Waiter));
    }

    /// The reactor has news, or was asked to look again.
    pub fn changed(stream: &Arc<Self>, change: Change) {
        let (mut ready, mut again) = (Vec::new(), false);
        {
            let mut inner = locked(&stream.inner);
            inner.pipe.readable |= change.readable;
            inner.pipe.hung_up |= change.hung_up;
            inner.streak = 0;
            if inner.phase == Phase::Connecting && (change.writable || change.hung_up) {
                let error =
                    inner.pipe.socket.as_ref().and_then(|socket| socket.take_error().ok()?);
                inner.pipe.read_fault = error.map(|error| Fault::os(&error));
                inner.phase = Phase::Open;
                ready.extend(inner.opener.take());
            }
            if change.writable {
                inner.pipe.writable = true;
                inner.pipe.flush();
            }
            if inner.opener.is_some() && inner.phase != Phase::Connecting {
                inner.shake();
                if !inner.pipe.handshaking() || inner.pipe.ended() {
                    ready.extend(inner.opener.take());
                }
            }
            again |= inner.serve_reader(&mut ready);
            if inner.pipe.outgoing.len() <= inner.low {
                ready.append(&mut inner.drainers);
            }
            let sent = inner.pipe.outgoing.is_empty() || inner.pipe.write_fault.is_some();
            if inner.phase == Phase::Closing && sent {
                inner.finish(stream, &mut ready);
            }
        }
        stream.reactor.push(ready.into_iter().map(Ready::Waiter));
        if again {
            stream.reactor.look_again(Source::Stream(Arc::clone(stream)));
        }
    }

    /// Its loop is closed.
    pub fn abandon(&self) {
        let mut waiters = Vec::new();
        {
            let mut inner = locked(&self.inner);
            inner.phase = Phase::Closed;
            inner.pipe.socket = None;
            inner.pipe.eof = true;
            inner.pipe.outgoing = BytesMut::new();
            inner.take_waiters(&mut waiters);
        }
        drop(waiters); // after the lock: dropping one may run Python code
    }

    /// Its owner is gone.
    pub fn forget(&self) {
        if self.reactor.is_ours() {
            self.close();
        } else if let Ok(mut inner) = self.inner.try_lock() {
            // A copy in a forked child, where a lock may be held by a thread that is gone.
            inner.pipe.socket = None;
        }
    }

    /// Gives back the waiters of which this is true.
    pub fn withdraw(&self, is_it: impl Fn(&W) -> bool) -> Vec<W> {
        let mut inner = locked(&self.inner);
        let mut found = Vec::new();
        if inner.reader.as_ref().is_some_and(|(_, waiter)| is_it(waiter)) {
            found.extend(inner.reader.take().map(|(_, waiter)| waiter));
        }
        if inner.opener.as_ref().is_some_and(&is_it) {
            found.extend(inner.opener.take());
        }
        found.extend(inner.drainers.extract_if(.., |waiter| is_it(waiter)));
        found.extend(inner.closers.extract_if(.., |waiter| is_it(waiter)));
        found
    }

    pub fn phase(&self) -> Phase {
        locked(&self.inner).phase
    }

    pub fn unsent(&self) -> usize {
        locked(&self.inner).pipe.outgoing.len()
    }

    pub fn limits(&self) -> (usize, usize) {
        let inner = locked(&self.inner);
        (inner.low, inner.high)
    }

    pub fn set_limits(&self, low: usize, high: usize) {
        let mut inner = locked(&self.inner);
        (inner.low, inner.high) = (low, high);
    }

    pub fn with_tls<T>(&self, look: impl FnOnce(&Connection) -> T) -> Option<T> {
        locked(&self.inner).pipe.tls.as_deref().map(look)
    }

    pub fn with_socket<T>(&self, look: impl FnOnce(&Socket) -> T) -> Option<T> {
        locked(&self.inner).pipe.socket.as_ref().map(look)
    }

    pub fn visit<E>(&self, mut visit: impl FnMut(&W) -> Result<(), E>) -> Result<(), E> {
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        if let Some((_, waiter)) = &inner.reader {
            visit(waiter)?;
        }
        let others = inner.opener.iter().chain(&inner.drainers).chain(&inner.closers);
        others.into_iter().try_for_each(visit)
    }
}

impl<W> Inner<W> {
    fn take<T>(&mut self, goal: &Goal, found: Found, make: impl FnOnce(&[u8], Found) -> T) -> T {
        let have = self.pipe.incoming.len();
        let (shown, taken) = match (&found, goal) {
            (Found::Take(count), _) => (*count, *count),
            (Found::Incomplete { .. }, _) => (have, have),
            // readline throws away what it cannot give, readuntil leaves it there.
            (Found::Overrun { found: true, consumed }, Goal::Line { .. }) => (0, consumed + 1),
            (Found::Overrun { found: false, .. }, Goal::Line { .. }) => (0, have),
            (Found::Overrun { .. }, _) => (0, 0),
        };
        let made = make(&self.pipe.incoming[..shown], found);
        if taken > 0 {
            self.pipe.incoming.advance(taken);
            self.pipe.trim();
            self.scanned = 0;
        }
        made
    }

    fn shake(&mut self) {
        while self.pipe.handshaking() && self.pipe.may_fill() {
            self.pipe.fill();
        }
    }

    /// Reads for who waits for it. True: there is more to read.
    fn serve_reader(&mut self, ready: &mut Vec<W>) -> bool {
        for _ in 0..STREAK {
            let Some((goal, _)) = &self.reader else { return false };
            let ended = self.pipe.ended();
            let found = goal.look(&self.pipe.incoming, ended, &mut self.scanned);
            if found.is_some() || ended {
                ready.extend(self.reader.take().map(|(_, waiter)| waiter));
                return false;
            }
            if !self.pipe.may_fill() {
                return false;
            }
            self.pipe.fill();
        }
        self.reader.is_some()
    }

    fn finish(&mut self, stream: &Stream<W>, ready: &mut Vec<W>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.pipe.outgoing = BytesMut::new();
        if let Some(socket) = self.pipe.socket.take() {
            stream.reactor.remove(stream.number, socket.as_raw_fd());
        }
        self.take_waiters(ready);
        if let Some(clients) = self.clients.take() {
            ready.extend(clients.leave(stream.number));
        }
    }

    fn take_waiters(&mut self, waiters: &mut Vec<W>) {
        waiters.extend(self.reader.take().map(|(_, waiter)| waiter));
        waiters.extend(self.opener.take());
        waiters.append(&mut self.drainers);
        waiters.append(&mut self.closers);
    }
}
