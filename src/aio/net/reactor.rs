//! One event loop's sockets: which of them changed, and which waiters can go on.
//!
//! The loop watches one descriptor, that of a poll which watches all of its sockets, so what
//! wakes the loop's thread is the socket itself: with tokio's reactor it would be another
//! thread that the socket wakes, and which wakes the loop, for 6 to 13 µs an await. A round
//! asks what has changed, reads and writes, and has `ready` the waiters whose goal is met.
//!
//! A waiter that becomes ready otherwise (its stream was closed) rings, which makes the poll
//! readable. No ring is missed: `push` queues before it swaps the mark, and a round swaps it
//! before it looks at the queue, both with AcqRel.
//!
//! Locks: a stream's own is taken before the reactor's, and of those the poller's first. A forked
//! child has its parent's poll: it must not touch what is registered there.

use super::listener::Listener;
use super::stream::Stream;
use super::wire::Wire;
use crate::error::locked;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BELL: Token = Token(usize::MAX);

/// How many changes one round takes; there may be another round at once.
const MOST: usize = 1024;

pub enum Source<W> {
    Stream(Arc<Stream<W>>),
    Listener(Arc<Listener<W>>),
    Wire(Arc<Wire>),
}

impl<W> Clone for Source<W> {
    fn clone(&self) -> Self {
        match self {
            Self::Stream(stream) => Self::Stream(Arc::clone(stream)),
            Self::Listener(listener) => Self::Listener(Arc::clone(listener)),
            Self::Wire(wire) => Self::Wire(Arc::clone(wire)),
        }
    }
}

/// What a round has found.
pub enum Ready<W> {
    Waiter(W),
    /// Connections wait to be accepted.
    Listener(Arc<Listener<W>>),
}

/// What epoll says of a socket.
#[derive(Clone, Copy)]
pub struct Change {
    pub readable: bool,
    pub writable: bool,
    pub hung_up: bool,
}

impl Change {
    pub const NONE: Self = Self { readable: false, writable: false, hung_up: false };

    fn of(event: &Event) -> Self {
        let failed = event.is_error();
        Self {
            readable: event.is_readable() || failed,
            writable: event.is_writable() || event.is_write_closed() || failed,
            hung_up: event.is_read_closed() || failed,
        }
    }
}

struct Poller {
    poll: Poll,
    events: Events,
    bell: Waker,
}

pub struct Reactor<W> {
    /// `None` once it is shut down.
    poller: Mutex<Option<Poller>>,
    sources: Mutex<Slab<Source<W>>>,
    ready: Mutex<Vec<Ready<W>>>,
    /// Sources that have more to do than one round does.
    again: Mutex<Vec<Source<W>>>,
    rung: AtomicBool,
    pid: u32,
}

impl<W> Reactor<W> {
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Waker::new(poll.registry(), BELL)?;
        let poller = Some(Poller { poll, events: Events::with_capacity(MOST), bell });
        Ok(Self {
            poller: Mutex::new(poller),
            sources: Mutex::default(),
            ready: Mutex::default(),
            again: Mutex::default(),
            rung: AtomicBool::new(false),
            pid: std::process::id(),
        })
    }

    /// What the loop watches, until it is shut down.
    pub fn descriptor(&self) -> Option<RawFd> {
        locked(&self.poller).as_ref().map(|poller| poller.poll.as_raw_fd())
    }

    /// Is this the process that made it, and not a copy of it?
    pub fn is_ours(&self) -> bool {
        std::process::id() == self.pid
    }

    /// Watches a socket from now on. `make` gets its number.
    pub fn add<T>(
        &self,
        descriptor: RawFd,
        interest: Interest,
        make: impl FnOnce(usize) -> (Source<W>, T),
    ) -> io::Result<T> {
        let poller = locked(&self.poller);
        let Some(poller) = &*poller else {
            return Err(io::Error::other("the event loop is closed"));
        };
        let mut sources = locked(&self.sources);
        let entry = sources.vacant_entry();
        let number = entry.key();
        let mut source = SourceFd(&descriptor);
        poller.poll.registry().register(&mut source, Token(number), interest)?;
        let (source, made) = make(number);
        entry.insert(source);
        Ok(made)
    }

    /// Forgets a socket; who calls this closes it.
    pub fn remove(&self, number: usize, descriptor: RawFd) {
        if !self.is_ours() {
            return;
        }
        if let Some(poller) = &*locked(&self.poller) {
            // It fails only for what is not registered.
            let _ = poller.poll.registry().deregister(&mut SourceFd(&descriptor));
        }
        let removed = locked(&self.sources).try_remove(number);
        drop(removed);
    }

    /// Has the loop's next round take these.
    pub fn push(&self, ready: impl IntoIterator<Item = Ready<W>>) {
        let mut ready = ready.into_iter().peekable();
        if ready.peek().is_some() {
            locked(&self.ready).extend(ready);
            self.ring();
        }
    }

    /// Has the next round look at a source without its having changed.
    pub fn look_again(&self, source: Source<W>) {
        locked(&self.again).push(source);
        self.ring();
    }

    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(poller) = &*locked(&self.poller)
        {
            // It can fail only when the counter is at its end, and is readable then.
            let _ = poller.bell.wake();
        }
    }

    /// Has a source asked for another look?
    pub fn has_more(&self) -> bool {
        !locked(&self.again).is_empty()
    }

    /// A round: what can go on.
    pub fn round(&self) -> Vec<Ready<W>> {
        // Until the end of the round nobody needs to ring.
        self.rung.store(true, Ordering::Release);
        let again = std::mem::take(&mut *locked(&self.again));
        let mut changed: Vec<(Source<W>, Change)> =
            again.into_iter().map(|source| (source, Change::NONE)).collect();
        if let Some(Poller { poll, events, .. }) = &mut *locked(&self.poller)
            && poll.poll(events, Some(Duration::ZERO)).is_ok()
        {
            let sources = locked(&self.sources);
            changed.extend(events.iter().filter_map(|event| {
                let source = sources.get(event.token().0)?;
                Some((source.clone(), Change::of(event)))
            }));
        }
        for (source, change) in changed {
            match source {
                Source::Stream(stream) => Stream::changed(&stream, change),
                Source::Listener(listener) => self.push([Ready::Listener(listener)]),
                Source::Wire(wire) => wire.changed(change),
            }
        }
        self.rung.swap(false, Ordering::AcqRel);
        let ready = std::mem::take(&mut *locked(&self.ready));
        if self.has_more() {
            self.ring();
        }
        ready
    }

    /// Closes every socket; nobody is told, because there is no loop any more.
    pub fn shut_down(&self) {
        if !self.is_ours() {
            return;
        }
        let sources = std::mem::take(&mut *locked(&self.sources));
        let (ready, again) =
            (std::mem::take(&mut *locked(&self.ready)), std::mem::take(&mut *locked(&self.again)));
        let poller = locked(&self.poller).take();
        for (_, source) in &sources {
            match source {
                Source::Stream(stream) => stream.abandon(),
                Source::Listener(listener) => listener.abandon(),
                Source::Wire(wire) => wire.abandon(),
            }
        }
        drop((sources, ready, again, poller));
    }

    /// For the garbage collector: what waits here.
    pub fn visit<E>(&self, mut visit: impl FnMut(&W) -> Result<(), E>) -> Result<(), E> {
        // Locked by a thread in the midst of a change: then it is in use, not garbage.
        if let Ok(ready) = self.ready.try_lock() {
            for one in ready.iter() {
                if let Ready::Waiter(waiter) = one {
                    visit(waiter)?;
                }
            }
        }
        let Ok(sources) = self.sources.try_lock() else { return Ok(()) };
        sources.iter().try_for_each(|(_, source)| match source {
            Source::Stream(stream) => stream.visit(&mut visit),
            Source::Listener(_) | Source::Wire(_) => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::goal::{Found, Goal};
    use super::super::listener::Clients;
    use super::super::stream::{Phase, Step};
    use super::*;
    use socket2::{Domain, Socket, Type};

    type Streams = (Arc<Reactor<u32>>, Arc<Stream<u32>>, Arc<Stream<u32>>);

    fn pair() -> Streams {
        let reactor = Arc::new(Reactor::new().unwrap());
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        let adopt = |socket| Stream::adopt(&reactor, socket, None).unwrap();
        let (one, other) = (adopt(one), adopt(other));
        (reactor, one, other)
    }

    /// Rounds until one has somebody ready; the kernel may take a moment.
    fn woken(reactor: &Reactor<u32>) -> Vec<u32> {
        loop {
            let found: Vec<u32> = reactor
                .round()
                .into_iter()
                .filter_map(|one| match one {
                    Ready::Waiter(waiter) => Some(waiter),
                    Ready::Listener(_) => None,
                })
                .collect();
            if !found.is_empty() {
                return found;
            }
            std::thread::yield_now();
        }
    }

    fn read(stream: &Arc<Stream<u32>>, goal: &Goal, waiter: u32) -> Option<Vec<u8>> {
        match stream.read(goal, || waiter, |bytes, _: Found| bytes.to_vec()) {
            Step::Done(bytes) => Some(bytes),
            Step::Wait => None,
            Step::Busy | Step::Failed(_) => panic!("neither busy nor failed"),
        }
    }

    #[test]
    fn a_reader_is_woken_when_its_goal_is_met_and_then_takes_the_bytes() {
        let (reactor, one, other) = pair();
        let goal = Goal::Exactly(4);
        assert_eq!(read(&one, &goal, 7), None);
        other.write(b"ab");
        reactor.round();
        assert!(matches!(one.read(&goal, || 8, |_, _| ()), Step::Busy));
        other.write(b"cdef");
        assert_eq!(woken(&reactor), [7]);
        assert_eq!(read(&one, &Goal::Some(1), 9).unwrap(), b"a"); // who comes first
        assert_eq!(read(&one, &goal, 7).unwrap(), b"bcde");
        assert_eq!(read(&one, &Goal::Some(9), 7).unwrap(), b"f");
    }

    #[test]
    fn closing_wakes_everybody_and_sends_what_is_left() {
        let (reactor, one, other) = pair();
        assert_eq!(read(&one, &Goal::All, 1), None);
        let large = vec![1; 4 << 20];
        other.write(&large);
        other.close();
        assert!(other.phase() == Phase::Closing);
        assert!(matches!(other.closed(|| 2), Step::Wait));
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(woken(&reactor));
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        assert_eq!(read(&one, &Goal::All, 1).unwrap(), large);
        assert!(other.phase() == Phase::Closed && one.at_eof());
    }

    #[test]
    fn a_withdrawn_waiter_is_not_woken() {
        let (reactor, one, other) = pair();
        assert_eq!(read(&one, &Goal::Some(1), 1), None);
        assert_eq!(one.withdraw(|waiter| *waiter == 1), [1]);
        other.write(b"x");
        assert!(reactor.round().is_empty());
        assert_eq!(read(&one, &Goal::Some(1), 2).unwrap(), b"x");
    }

    #[test]
    fn a_server_is_done_when_its_last_client_is() {
        let reactor = Arc::new(Reactor::<u32>::new().unwrap());
        let clients = Arc::new(Clients::default());
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(5).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(&reactor, socket, &clients).unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let client = Stream::connect(&reactor, socket, &address).unwrap();
        let accepted = loop {
            if let Some(stream) = listener.accept().unwrap() {
                break stream;
            }
        };
        if let Step::Wait = client.opened(|| 1) {
            assert_eq!(woken(&reactor), [1]);
        }
        listener.close();
        assert!(clients.close().is_empty());
        assert!(matches!(clients.gone(|| 5), Step::Wait));
        accepted.abort();
        assert_eq!(woken(&reactor), [5]);
        assert!(matches!(clients.gone(|| 6), Step::Done(())));
    }

    #[test]
    fn a_shut_down_reactor_has_closed_everything() {
        let (reactor, one, other) = pair();
        assert_eq!(read(&one, &Goal::All, 1), None);
        reactor.shut_down();
        assert!(one.phase() == Phase::Closed && other.phase() == Phase::Closed);
        assert!(reactor.descriptor().is_none() && reactor.round().is_empty());
        one.write(b"x");
        one.close();
    }
}
