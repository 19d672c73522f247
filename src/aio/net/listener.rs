//! A listening socket, and the connections that a server has.

use super::reactor::{Reactor, Source};
use super::stream::{Step, Stream};
use crate::error::locked;
use hashbrown::HashMap;
use mio::Interest;
use socket2::Socket;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, Weak};

pub struct Listener<W> {
    socket: Mutex<Option<Socket>>,
    reactor: Arc<Reactor<W>>,
    pub number: usize,
    clients: Arc<Clients<W>>,
}

impl<W> Listener<W> {
    /// A socket that listens.
    pub fn new(
        reactor: &Arc<Reactor<W>>,
        socket: Socket,
        clients: &Arc<Clients<W>>,
    ) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let descriptor = socket.as_raw_fd();
        reactor.add(descriptor, Interest::READABLE, |number| {
            let (reactor, clients) = (Arc::clone(reactor), Arc::clone(clients));
            let socket = Mutex::new(Some(socket));
            let listener = Arc::new(Self { socket, reactor, number, clients });
            (Source::Listener(Arc::clone(&listener)), listener)
        })
    }

    /// The next connection, if there is one.
    pub fn accept(&self) -> io::Result<Option<Arc<Stream<W>>>> {
        let accepted = match &*locked(&self.socket) {
            Some(socket) => socket.accept(),
            None => return Ok(None),
        };
        match accepted {
            Ok((socket, _)) => {
                let clients = Some(Arc::clone(&self.clients));
                Stream::adopt(&self.reactor, socket, clients).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the next round try to accept.
    pub fn look_again(self: &Arc<Self>) {
        self.reactor.look_again(Source::Listener(Arc::clone(self)));
    }

    pub fn close(&self) {
        if let Some(socket) = locked(&self.socket).take() {
            self.reactor.remove(self.number, socket.as_raw_fd());
        }
    }

    /// Its loop is closed.
    pub fn abandon(&self) {
        let socket = locked(&self.socket).take();
        drop(socket);
    }

    pub fn with_socket<T>(&self, look: impl FnOnce(&Socket) -> T) -> Option<T> {
        locked(&self.socket).as_ref().map(look)
    }
}

/// The open connections of a server.
pub struct Clients<W> {
    state: Mutex<State<W>>,
}

struct State<W> {
    open: HashMap<usize, Weak<Stream<W>>>,
    waiters: Vec<W>,
    closed: bool,
}

impl<W> Default for Clients<W> {
    fn default() -> Self {
        let (open, waiters, closed) = (HashMap::new(), Vec::new(), false);
        Self { state: Mutex::new(State { open, waiters, closed }) }
    }
}

impl<W> Clients<W> {
    pub fn enter(&self, number: usize, stream: &Arc<Stream<W>>) {
        locked(&self.state).open.insert(number, Arc::downgrade(stream));
    }

    /// Who waits for the last one to leave, if this was it.
    pub fn leave(&self, number: usize) -> Vec<W> {
        let mut state = locked(&self.state);
        state.open.remove(&number);
        if state.closed && state.open.is_empty() {
            std::mem::take(&mut state.waiters)
        } else {
            Vec::new()
        }
    }

    /// No more will come; gives who waits, if none is there.
    pub fn close(&self) -> Vec<W> {
        let mut state = locked(&self.state);
        state.closed = true;
        if state.open.is_empty() { std::mem::take(&mut state.waiters) } else { Vec::new() }
    }

    /// Is the server closed, and have all of them gone?
    pub fn gone(&self, waiter: impl FnOnce() -> W) -> Step<()> {
        let mut state = locked(&self.state);
        if state.closed && state.open.is_empty() {
            return Step::Done(());
        }
        state.waiters.push(waiter());
        Step::Wait
    }

    pub fn withdraw(&self, is_it: impl Fn(&W) -> bool) -> Vec<W> {
        locked(&self.state).waiters.extract_if(.., |waiter| is_it(waiter)).collect()
    }

    pub fn streams(&self) -> Vec<Arc<Stream<W>>> {
        locked(&self.state).open.values().filter_map(Weak::upgrade).collect()
    }

    pub fn visit<E>(&self, visit: impl FnMut(&W) -> Result<(), E>) -> Result<(), E> {
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        state.waiters.iter().try_for_each(visit)
    }
}

/// A connection that was broken off while it waited: the next one may be good. (The others are
/// shortages of descriptors or memory.)
pub fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted)
}
