//! One loop's sockets, as Python sees them: the loop's reader callback iterates over this and
//! calls what it gets, as it does with a bridge.

use super::address::{fault_error, parse_address};
use super::handle::Handle;
use super::listener::{Clients as Guests, Listener, is_passing};
use super::op::{Ask, Op};
use super::pipe::Fault;
use super::reactor::{Reactor, Ready};
use super::reader::StreamReader;
use super::stream::Stream;
use super::writer::StreamWriter;
use crate::aio::bridge::{Bridge, is_debug};
use crate::aio::http;
use crate::aio::http::client::Client;
use crate::aio::http::clients::Clients;
use crate::aio::http::on_loop::OnLoop;
use crate::aio::inbox::{Bell, hold};
use crate::error::{locked, os_error};
use hashbrown::HashMap;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};
use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// How many connections one server gets in a round.
const MOST_ACCEPTED: usize = 64;

/// An answer often comes while the question's sender is still being served: it is looked for
/// before the loop goes round, which costs several times as much. So many times, and only after
/// rounds in which few had news, so that the loop's other callbacks aren't kept waiting.
const ENCORES: u8 = 4;
const FEW: usize = 8;

type Pair = (Py<StreamReader>, Py<StreamWriter>);
type Due = (Py<PyAny>, Py<PyAny>, Py<PyAny>);

#[pyclass(frozen, weakref)]
pub struct Sockets {
    reactor: Arc<Reactor<Py<Op>>>,
    event_loop: Py<PyAny>,
    agenda: Mutex<Agenda>,
    clients: Arc<Clients>,
}

#[derive(Default)]
struct Agenda {
    due: VecDeque<Due>,
    knocking: VecDeque<Arc<Listener<Py<Op>>>>,
    receptions: HashMap<usize, Reception>,
    /// How many more rounds this callback of the loop's may have.
    encores: u8,
}

/// Who is told of a server's connections.
struct Reception {
    callback: Py<PyAny>,
    context: Py<PyAny>,
    limit: usize,
}

impl Sockets {
    pub fn reactor(&self) -> &Arc<Reactor<Py<Op>>> {
        &self.reactor
    }

    pub fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    fn pair(
        slf: &Bound<'_, Self>,
        stream: Arc<Stream<Py<Op>>>,
        limit: usize,
        server_side: bool,
    ) -> PyResult<Pair> {
        let (py, handle) = (slf.py(), Arc::new(Handle::new(stream)));
        let reader = StreamReader::new(Arc::clone(&handle), slf.clone().unbind(), limit);
        let reader = Py::new(py, reader)?;
        let writer = StreamWriter::new(handle, slf.clone().unbind(), server_side);
        Ok((reader, Py::new(py, writer)?))
    }

    /// A loop's; made for it if it has none yet.
    pub fn of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = event_loop.py();
        let found = match event_loop.getattr_opt(intern!(py, "_plait_sockets"))? {
            Some(found) => found,
            None => MAKE.import(py, "plait._streams", "sockets")?.call0()?,
        };
        Ok(found.cast_into()?)
    }

    /// The one that fetches pages with these settings, by connections of this loop.
    pub fn http_client(&self, tls: &Arc<ClientConfig>) -> Arc<Client> {
        self.clients.get(tls, |tls| {
            let (connector, reactor) = (http::connector(), Arc::clone(&self.reactor));
            http::client(tls, OnLoop { connector, reactor })
        })
    }

    /// What futures of Rust's have to tell: who waits for them.
    fn answer(&self, py: Python<'_>, bell: &Arc<dyn Bell>) -> Vec<Due> {
        let event_loop = self.event_loop.bind(py);
        // In debug mode a round of the bridge times what it calls, and names it.
        let is_debug = is_debug(event_loop).unwrap_or(false);
        let bridge = event_loop.getattr_opt(intern!(py, "_plait_bridge"));
        let bridge = bridge.ok().flatten().and_then(|found| found.cast_into::<Bridge>().ok());
        let Some(bridge) = bridge.filter(|_| !is_debug) else {
            bell.toll();
            return Vec::new();
        };
        let due = bridge.get().answer_here(py, bell).into_iter();
        let only = |arguments: Py<PyAny>| arguments.bind(py).get_item(0).map(Bound::unbind);
        due.filter_map(|(callback, context, arguments)| {
            Some((callback, context, only(arguments).ok()?)) // futures' callbacks have one
        })
        .collect()
    }

    /// Asks the sockets; how many callbacks are due.
    fn round(&self, py: Python<'_>) -> usize {
        let (ready, bell) = hold(|| self.reactor.round());
        let mut due = bell.map_or_else(Vec::new, |bell| self.answer(py, &bell));
        let mut knocking = Vec::new();
        for one in ready {
            match one {
                Ready::Listener(listener) => knocking.push(listener),
                Ready::Waiter(op) => {
                    let callbacks = op.get().wake(py);
                    due.extend(callbacks.into_iter().map(|(callback, context)| {
                        (callback, context, op.clone_ref(py).into_any())
                    }));
                }
            }
        }
        let mut agenda = locked(&self.agenda);
        let count = due.len() + knocking.len();
        if count == 0 || count > FEW {
            agenda.encores = 0;
        }
        agenda.due.extend(due);
        agenda.knocking.extend(knocking);
        count
    }

    /// Asks once more, where there was little to do; false: there is nothing, or the loop's
    /// other callbacks have waited long enough.
    fn encore(&self, py: Python<'_>) -> bool {
        {
            let mut agenda = locked(&self.agenda);
            if agenda.encores == 0 || self.reactor.has_more() {
                return false; // who has more than one round's share waits for the next
            }
            agenda.encores -= 1;
        }
        self.round(py) > 0
    }

    /// Takes what waits at a server's door.
    fn receive(slf: &Bound<'_, Self>, listener: &Arc<Listener<Py<Op>>>) -> PyResult<()> {
        let py = slf.py();
        let reception = {
            let agenda = locked(&slf.get().agenda);
            agenda.receptions.get(&listener.number).map(|found| {
                (found.callback.clone_ref(py), found.context.clone_ref(py), found.limit)
            })
        };
        let Some((callback, context, limit)) = reception else { return Ok(()) };
        for _ in 0..MOST_ACCEPTED {
            let news: Py<PyAny> = match listener.accept() {
                Ok(None) => return Ok(()),
                Ok(Some(stream)) => {
                    let pair = Self::pair(slf, stream, limit, true)?;
                    pair.into_pyobject(py)?.into_any().unbind()
                }
                Err(error) if is_passing(&error) => continue,
                Err(error) => {
                    let error = fault_error(py, &Fault::os(&error), None, false);
                    let error = error.into_value(py).into_any();
                    let told = (callback, context, error);
                    locked(&slf.get().agenda).due.push_back(told);
                    return Ok(()); // Python asks for another look, later
                }
            };
            let told = (callback.clone_ref(py), context.clone_ref(py), news);
            locked(&slf.get().agenda).due.push_back(told);
        }
        listener.look_again();
        Ok(())
    }
}

#[pymethods]
impl Sockets {
    #[new]
    fn new(event_loop: Py<PyAny>) -> PyResult<Self> {
        let reactor = Arc::new(Reactor::new().map_err(|error| os_error(&error))?);
        Ok(Self { reactor, event_loop, agenda: Mutex::default(), clients: Arc::default() })
    }

    /// The descriptor that the loop watches.
    fn fileno(&self) -> i32 {
        self.reactor.descriptor().unwrap_or(-1)
    }

    /// What closes the sockets when it goes: the loop has the only reference.
    fn keeper(&self) -> Keeper {
        Keeper { reactor: Arc::clone(&self.reactor), clients: Arc::clone(&self.clients) }
    }

    /// Begins a round.
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        locked(&slf.get().agenda).encores = ENCORES;
        slf.get().round(slf.py());
        slf
    }

    /// The next `(callback, context, argument)`.
    fn __next__(slf: Bound<'_, Self>) -> PyResult<Option<Due>> {
        loop {
            let listener = {
                let mut agenda = locked(&slf.get().agenda);
                if let Some(due) = agenda.due.pop_front() {
                    return Ok(Some(due));
                }
                agenda.knocking.pop_front()
            };
            match listener {
                Some(listener) => Self::receive(&slf, &listener)?,
                None if slf.get().encore(slf.py()) => {}
                None => return Ok(None),
            }
        }
    }

    /// Asks for another round: this one ended early.
    fn ring(&self) {
        self.reactor.ring();
    }

    /// Begins to connect to a tuple as of `getaddrinfo`, or to a Unix socket's path as bytes.
    #[pyo3(signature = (address, limit, local=None))]
    fn connect(
        slf: Bound<'_, Self>,
        address: Bound<'_, PyAny>,
        limit: usize,
        local: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Pair> {
        let address = parse_address(&address)?;
        let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None);
        let socket = socket.map_err(|error| os_error(&error))?;
        if let Some(local) = local {
            socket.bind(&parse_address(&local)?).map_err(|error| os_error(&error))?;
        }
        let stream = Stream::connect(&slf.get().reactor, socket, &address);
        let stream = stream
            .map_err(|error| fault_error(slf.py(), &Fault::os(&error), Some(&address), true))?;
        Self::pair(&slf, stream, limit, false)
    }

    /// Takes over a connected socket's descriptor.
    fn adopt(slf: Bound<'_, Self>, descriptor: i32, limit: usize) -> PyResult<Pair> {
        let stream = take(descriptor)
            .and_then(|socket| Stream::adopt(&slf.get().reactor, socket, None))
            .map_err(|error| os_error(&error))?;
        Self::pair(&slf, stream, limit, false)
    }

    /// Takes over a listening socket's descriptor. `callback` gets a reader and a writer for
    /// each connection, or an OSError.
    fn listen(
        &self,
        descriptor: i32,
        visitors: Bound<'_, Visitors>,
        callback: Py<PyAny>,
        context: Py<PyAny>,
        limit: usize,
    ) -> PyResult<Door> {
        let clients = &visitors.get().clients;
        let listener = take(descriptor)
            .and_then(|socket| Listener::new(&self.reactor, socket, clients))
            .map_err(|error| os_error(&error))?;
        let reception = Reception { callback, context, limit };
        locked(&self.agenda).receptions.insert(listener.number, reception);
        Ok(Door { listener })
    }

    /// Closes a listening socket; what it has accepted goes on.
    fn shut(&self, door: Bound<'_, Door>) {
        door.get().listener.close();
        let removed = locked(&self.agenda).receptions.remove(&door.get().listener.number);
        drop(removed); // after the lock: dropping may run Python code
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // Locked by a thread in the midst of a change: then it is in use, not garbage.
        if let Ok(agenda) = self.agenda.try_lock() {
            for (callback, context, argument) in &agenda.due {
                visit.call(callback)?;
                visit.call(context)?;
                visit.call(argument)?;
            }
            for reception in agenda.receptions.values() {
                visit.call(&reception.callback)?;
                visit.call(&reception.context)?;
            }
        }
        self.reactor.visit(|op| visit.call(op))
    }

    fn __clear__(&self) {
        self.reactor.shut_down();
        if let Ok(mut agenda) = self.agenda.try_lock() {
            let cleared = std::mem::take(&mut *agenda);
            drop(agenda);
            drop(cleared);
        }
    }
}

/// A descriptor that Python has let go of.
#[allow(unsafe_code, reason = "a number becomes an owned descriptor")]
fn take(descriptor: i32) -> io::Result<Socket> {
    if descriptor < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: `plait._streams` passes what `socket.detach()` gave, which nobody else owns.
    Ok(Socket::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// A listening socket.
#[pyclass(frozen)]
pub struct Door {
    listener: Arc<Listener<Py<Op>>>,
}

#[pymethods]
impl Door {
    /// -1 when it is closed.
    fn fileno(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.listener.with_socket(AsRawFd::as_raw_fd).unwrap_or(-1)
    }

    fn look_again(&self) {
        self.listener.look_again();
    }
}

/// The open connections of a server.
#[pyclass(frozen)]
pub struct Visitors {
    clients: Arc<Guests<Py<Op>>>,
    sockets: Py<Sockets>,
}

#[pymethods]
impl Visitors {
    #[new]
    fn new(sockets: Py<Sockets>) -> Self {
        Self { clients: Arc::default(), sockets }
    }

    /// No more will come.
    fn close(&self) {
        let ready = self.clients.close();
        self.sockets.get().reactor.push(ready.into_iter().map(Ready::Waiter));
    }

    fn close_all(&self) {
        self.clients.streams().iter().for_each(|stream| stream.close());
    }

    fn abort_all(&self) {
        self.clients.streams().iter().for_each(|stream| stream.abort());
    }

    /// Until the server is closed and the last of them gone.
    fn wait(&self, py: Python<'_>) -> Op {
        Op::new(Ask::Gone(Arc::clone(&self.clients)), &self.sockets, py)
    }

    fn __len__(&self) -> usize {
        self.clients.streams().len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sockets)?;
        self.clients.visit(|op| visit.call(op))
    }

    fn __clear__(&self) {
        let withdrawn = self.clients.withdraw(|_| true);
        drop(withdrawn);
    }
}

/// Closes a loop's sockets when the loop lets go of it.
#[pyclass(frozen)]
pub struct Keeper {
    reactor: Arc<Reactor<Py<Op>>>,
    clients: Arc<Clients>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.clients.clear();
        self.reactor.shut_down();
    }
}
