//! The connections to servers that are kept, and those who wait for one.
//!
//! Who finds none begins to make one, and takes another that comes free before that is done; the
//! half-made one is for whoever comes next. A connection that is kept has a waker of its own, by
//! which one that the server closes is closed on this side, too.
//!
//! No lock is held while a connection is polled or dropped, since either may wake another.

use super::client::BoxError;
use super::line::{Io, Line};
use crate::aio::runtime::{self, Spawned};
use crate::error::locked;
use hashbrown::HashMap;
use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many idle connections to one host are kept, and for how long.
const MOST_KEPT: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(60);

type Coming<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Makes connections, with TLS where the URL says so.
pub type Connect = Box<dyn Fn(Uri) -> Coming<Box<dyn Io>> + Send + Sync>;

pub type Place = (Scheme, Authority);

/// A connection that was usable when its watch was last woken, and so still is, as far as is
/// known on this side.
struct Kept {
    number: u64,
    line: Line,
    since: Instant,
}

/// What is known of one place.
#[derive(Default)]
struct Host {
    /// Those that were used last are at the end.
    kept: Vec<Kept>,
    /// Begun by those who got another one.
    begun: Vec<(Instant, Coming<Line>)>,
    /// In the order in which they came.
    waiting: BTreeMap<u64, oneshot::Sender<Line>>,
}

impl Host {
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.begun.is_empty() && self.waiting.is_empty()
    }
}

#[derive(Default)]
struct State {
    hosts: HashMap<Place, Host>,
    last_number: u64,
    /// Closes what nobody has wanted for long.
    reaper: Option<Spawned<()>>,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes something out; a host of which nothing is left goes.
    fn change<T>(&mut self, place: &Place, take: impl FnOnce(&mut Host) -> Option<T>) -> Option<T> {
        let host = self.hosts.get_mut(place)?;
        let taken = take(host);
        if host.is_empty() {
            self.hosts.remove(place);
        }
        taken
    }
}

pub struct Pool {
    connect: Connect,
    state: Mutex<State>,
}

impl Pool {
    pub fn new(connect: Connect) -> Arc<Self> {
        Arc::new(Self { connect, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// A kept connection.
    pub fn take(&self, place: &Place) -> Option<Line> {
        loop {
            let kept = self.lock().change(place, |host| host.kept.pop())?;
            if kept.since.elapsed() < KEPT_FOR {
                return Some(kept.line);
            }
        }
    }

    /// The first that comes free, or a new one; true: it is new.
    pub async fn wait(
        self: &Arc<Self>,
        place: &Place,
        uri: &Uri,
    ) -> Result<(Line, bool), BoxError> {
        let (sender, mut freed) = oneshot::channel();
        let (number, begun) = {
            let mut state = self.lock();
            let number = state.number();
            let host = state.hosts.entry(place.clone()).or_default();
            host.waiting.insert(number, sender);
            (number, host.begun.pop())
        };
        let _waiting = Waiting { pool: self, place, number };
        let is_new = begun.is_none();
        let mut opening = begun.map_or_else(|| self.open(uri), |(_, begun)| begun);
        let mut may_come = true;
        let free = poll_fn(|context| {
            if may_come && let Poll::Ready(come) = Pin::new(&mut freed).poll(context) {
                if let Ok(line) = come {
                    return Poll::Ready(Ok((line, true)));
                }
                may_come = false; // all that was kept was closed
            }
            opening.as_mut().poll(context).map_ok(|line| (line, false))
        });
        let (line, is_free) = free.await?;
        if is_free {
            self.begun(place, opening);
        }
        Ok((line, is_new && !is_free))
    }

    fn open(&self, uri: &Uri) -> Coming<Line> {
        let connecting = (self.connect)(uri.clone());
        Box::pin(async move { Line::new(connecting.await?).await })
    }

    fn begun(self: &Arc<Self>, place: &Place, opening: Coming<Line>) {
        let mut state = self.lock();
        let begun = &mut state.hosts.entry(place.clone()).or_default().begun;
        let surplus = (begun.len() >= MOST_KEPT).then(|| begun.remove(0));
        begun.push((Instant::now(), opening));
        self.see_to_it(&mut state);
        drop(state);
        drop(surplus);
    }

    /// For who waits, or for later.
    pub fn keep(self: &Arc<Self>, place: Place, mut line: Line) {
        let next = || self.lock().change(&place, |host| host.waiting.pop_first());
        loop {
            // First, as who is called and gets nothing would not be called again.
            if !line.is_usable(Waker::noop()) {
                return;
            }
            let Some((_, waiting)) = next() else { break };
            match waiting.send(line) {
                Ok(()) => return,
                Err(back) => line = back,
            }
        }
        let number = self.lock().number();
        self.watch(place, Kept { number, line, since: Instant::now() });
    }

    /// Keeps it until it is taken, or until the server closes it.
    fn watch(self: &Arc<Self>, place: Place, mut kept: Kept) {
        let (pool, number) = (Arc::downgrade(self), kept.number);
        let watch = Arc::new(Watch { pool, place: place.clone(), number });
        if !kept.line.is_usable(&Waker::from(watch)) {
            return;
        }
        let mut state = self.lock();
        let lines = &mut state.hosts.entry(place).or_default().kept;
        // More than enough: the one that was used longest ago goes.
        let surplus = (lines.len() >= MOST_KEPT).then(|| lines.remove(0));
        lines.push(kept);
        self.see_to_it(&mut state);
        drop(state);
        drop(surplus);
    }

    fn see_to_it(self: &Arc<Self>, state: &mut State) {
        if state.reaper.is_none() {
            let weak = Arc::downgrade(self);
            state.reaper = runtime::spawn(reap(weak)).ok(); // else they are closed when looked at
        }
    }

    /// Closes what nobody has wanted for long; false: there is nothing left.
    fn sweep(&self) -> bool {
        let (mut old, mut half_made) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        state.hosts.retain(|_, host| {
            old.extend(host.kept.extract_if(.., |kept| kept.since.elapsed() >= KEPT_FOR));
            half_made.extend(host.begun.extract_if(.., |(since, _)| since.elapsed() >= KEPT_FOR));
            !host.is_empty()
        });
        let is_empty = state.hosts.is_empty();
        let reaper = if is_empty { state.reaper.take() } else { None };
        drop(state);
        drop((old, half_made, reaper));
        !is_empty
    }

    /// Closes all that is kept.
    pub fn clear(&self) {
        let state = std::mem::take(&mut *self.lock());
        drop(state);
    }
}

async fn reap(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEPT_FOR).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

/// A place in the line; left when it is dropped.
struct Waiting<'a> {
    pool: &'a Pool,
    place: &'a Place,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = self.pool.lock().change(self.place, |host| host.waiting.remove(&self.number));
        drop(left);
    }
}

/// Looks after a kept connection.
struct Watch {
    pool: Weak<Pool>,
    place: Place,
    number: u64,
}

impl Wake for Watch {
    /// Something came by it, or it was closed.
    fn wake(self: Arc<Self>) {
        let Some(pool) = self.pool.upgrade() else { return };
        let found = pool.lock().change(&self.place, |host| {
            let at = host.kept.iter().position(|kept| kept.number == self.number)?;
            Some(host.kept.remove(at))
        });
        if let Some(kept) = found {
            pool.watch(self.place.clone(), kept);
        }
    }
}
