//! Those who wait for a primitive, threads and tasks alike, in the order in which they came.
//!
//! Algorithm: a primitive has a word, and a bit in it (its *mark*) that says whether somebody is
//! in line. Who finds the word free takes it by one compare-and-swap, past those in line
//! (*barging*): a lock that is handed from thread to thread makes a switch of threads of each
//! release. Who finds it taken joins the line, under the line's mutex, and sets the mark there
//! unless the word has become free. Who gives back and sees the mark goes on under that mutex:
//!
//! - If the first in line has waited for [`FAIR`], what was given back is its own (a *grant*):
//!   the word never becomes free, and the waiter leaves the line. So nobody starves.
//! - Else the word becomes free, and the first in line is told to try (a *hint*). It keeps its
//!   place until it has got what it waits for, and whoever leaves without passes the hint on.
//!
//! A waiter that ends early (time limit, signal, cancelled task) is dropped: under the mutex it
//! leaves the line, or gives back what it was granted. So nothing is lost, whatever the moment.
//!
//! A task runs only when its loop's thread does. If that thread itself sleeps in one of our
//! waits, its tasks are passed over; and a hint to a task goes to the first thread in line too,
//! since the loop may be busy for long.
//!
//! Memory order: the mark is set and cleared under the mutex only. Joining sets it by a
//! read-modify-write of the same word that says "taken"; giving back is a read-modify-write as
//! well, so one of the two sees the other. A grant is published by `granted` (Release, Acquire).
//! What a primitive's word itself orders is told in the primitive's file.
//!
//! After the design of WebKit's `WTF::ParkingLot` and the eventual fairness of `WTF::Lock`
//! (Pizlo, "Locking in WebKit", 2016).

use super::observe::{Refused, Wait, Watched, before_wait};
use super::park::Parker;
use super::party::Party;
use crate::error::locked;
use crate::forked::ForkMutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Who has waited for so long is handed what becomes free. As long as in CPython's own locks.
pub const FAIR: Duration = Duration::from_millis(1);

/// A primitive that can be waited for.
///
/// `Want` is what a waiter asks for (a kind, a number; `()` mostly), `Got` what it gets.
pub trait Resource: Send + Sync {
    type Want: Copy + Send + Unpin;
    type Got: Send;

    /// The primitive's name, such as `"Lock"`.
    const KIND: &'static str;

    fn line(&self) -> &Line<Self::Want, Self::Got>;

    /// Takes it if it is free; without the line's mutex, past those in line.
    fn take(&self, party: Party, want: Self::Want) -> Option<Self::Got>;

    /// Under the line's mutex: takes it if it is free, else sets the mark.
    fn take_or_mark(&self, party: Party, want: Self::Want) -> Option<Self::Got>;

    /// Under the line's mutex: nobody is left in line; clears the mark.
    fn unmark(&self);

    /// Under the line's mutex: somebody has left the line, with or without what it wanted. Hints
    /// or grants to others what there is for them.
    fn serve(&self, waiting: &mut Waiting<Self::Want, Self::Got>);

    /// A waiter was granted this and no longer wants it.
    fn give_back(&self, party: Party, got: Self::Got);

    /// Who holds it, if that is one party.
    fn owner(&self) -> Option<Party> {
        None
    }
}

/// The line of one primitive. In a forked child it is empty.
pub struct Line<W, G> {
    waiting: ForkMutex<Waiting<W, G>>,
}

impl<W, G> Default for Line<W, G> {
    fn default() -> Self {
        Self { waiting: ForkMutex::default() }
    }
}

impl<W: Copy, G> Line<W, G> {
    /// Wakes whom the critical section hinted or granted something, after it.
    pub fn lock(&self) -> Serving<'_, W, G> {
        Serving { waiting: Some(self.waiting.lock()) }
    }

    /// Forgets everybody in line.
    pub fn forget(&self) {
        self.waiting.forget();
    }
}

/// Those in line; guarded by the line's mutex.
pub struct Waiting<W, G> {
    places: BTreeMap<u64, Waiter<W, G>>,
    threads: usize,
    /// How many ever came.
    came: u64,
    wakes: Vec<Waker>,
}

struct Waiter<W, G> {
    party: Party,
    want: W,
    waker: Waker,
    /// The thread that sleeps, or that runs the task's loop.
    home: Arc<Parker>,
    since: Instant,
    hinted: bool,
    slot: Arc<Slot<G>>,
}

impl<W, G> Waiter<W, G> {
    /// Whether it will go on when it is woken.
    fn can_run(&self) -> bool {
        self.party.is_thread() || !self.home.is_parked()
    }
}

/// Where a grant is put. Not locked by anybody once `granted` is set, so a forked child can take
/// what its parent was granted.
struct Slot<G> {
    granted: AtomicBool,
    got: Mutex<Option<G>>,
}

impl<G> Slot<G> {
    fn take(&self) -> Option<G> {
        if self.granted.load(Ordering::Acquire) { locked(&self.got).take() } else { None }
    }
}

impl<W, G> Default for Waiting<W, G> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), threads: 0, came: 0, wakes: Vec::new() }
    }
}

/// One in line, as primitives see it.
#[derive(Debug, Clone, Copy)]
pub struct InLine<W> {
    ticket: u64,
    pub party: Party,
    pub want: W,
    /// Whether it has waited long enough to be granted what there is.
    pub is_due: bool,
}

impl<W: Copy, G> Waiting<W, G> {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// How many ever had to wait.
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The first who can run; if nobody can, the first.
    pub fn first(&self) -> Option<InLine<W>> {
        let runs = self.places.iter().find(|(_, waiter)| waiter.can_run());
        let (ticket, waiter) = runs.or_else(|| self.places.first_key_value())?;
        let is_due = waiter.can_run() && waiter.since.elapsed() >= FAIR;
        Some(InLine { ticket: *ticket, party: waiter.party, want: waiter.want, is_due })
    }

    /// Hands `got` to one in line, who leaves it.
    pub fn grant(&mut self, to: InLine<W>, got: G) {
        let Some(waiter) = self.remove(to.ticket) else { return };
        *locked(&waiter.slot.got) = Some(got);
        waiter.slot.granted.store(true, Ordering::Release);
        self.wakes.push(waiter.waker);
    }

    /// Has the first `count` in line try to take what is free.
    pub fn hint(&mut self, count: usize) {
        let (mut left, mut threads) = (count, 0);
        for waiter in self.places.values_mut().filter(|waiter| waiter.can_run()) {
            if left == 0 {
                break;
            }
            left -= 1;
            threads += usize::from(waiter.party.is_thread());
            wake(waiter, &mut self.wakes);
        }
        if threads == 0 && count > 0 && self.threads > 0 {
            let thread = self.places.values_mut().find(|waiter| waiter.party.is_thread());
            thread.into_iter().for_each(|waiter| wake(waiter, &mut self.wakes));
        } else if left == count && count > 0 {
            // Only tasks, and none can run: the first will once its loop's thread goes on.
            self.places.values_mut().take(count).for_each(|waiter| wake(waiter, &mut self.wakes));
        }
    }

    fn remove(&mut self, ticket: u64) -> Option<Waiter<W, G>> {
        let waiter = self.places.remove(&ticket)?;
        self.threads -= usize::from(waiter.party.is_thread());
        Some(waiter)
    }
}

fn wake<W, G>(waiter: &mut Waiter<W, G>, wakes: &mut Vec<Waker>) {
    if !std::mem::replace(&mut waiter.hinted, true) {
        wakes.push(waiter.waker.clone());
    }
}

/// The line's mutex, held; wakes are issued once it is not.
pub struct Serving<'a, W, G> {
    waiting: Option<MutexGuard<'a, Waiting<W, G>>>,
}

impl<W, G> Deref for Serving<'_, W, G> {
    type Target = Waiting<W, G>;

    fn deref(&self) -> &Self::Target {
        self.waiting.as_deref().expect("held until it is dropped")
    }
}

impl<W, G> std::ops::DerefMut for Serving<'_, W, G> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.waiting.as_deref_mut().expect("held until it is dropped")
    }
}

impl<W, G> Drop for Serving<'_, W, G> {
    fn drop(&mut self) {
        let wakes = self.waiting.take().map(|mut waiting| std::mem::take(&mut waiting.wakes));
        wakes.into_iter().flatten().for_each(Waker::wake);
    }
}

struct Place<G> {
    ticket: u64,
    slot: Arc<Slot<G>>,
    _watched: Watched,
}

/// Taking a primitive: waits in line if need be. Dropping it leaves the line, and gives back what
/// it was granted meanwhile. Polled by the waiting thread (`park::block_on`) or by a task.
pub struct Acquire<D: Deref<Target: Resource>> {
    resource: D,
    party: Party,
    want: <D::Target as Resource>::Want,
    timed: bool,
    place: Option<Place<<D::Target as Resource>::Got>>,
}

impl<D: Deref<Target: Resource>> Acquire<D> {
    /// `timed`: the wait has a limit.
    pub fn new(
        resource: D,
        party: Party,
        want: <D::Target as Resource>::Want,
        timed: bool,
    ) -> Self {
        Self { resource, party, want, timed, place: None }
    }

    /// Joins the line, unless there is something to take by now.
    fn join(&mut self, waker: &Waker) -> Result<Option<<D::Target as Resource>::Got>, Refused> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let resource = &*self.resource;
        let watched = before_wait(&Wait {
            party: self.party,
            resource: std::ptr::from_ref(resource).addr(),
            kind: <D::Target as Resource>::KIND,
            owner: resource.owner(),
            timed: self.timed,
        })?;
        let slot = Arc::new(Slot { granted: AtomicBool::new(false), got: Mutex::new(None) });
        // Tickets are never used twice: in a forked child, the parent's find nobody.
        let ticket = LAST.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter {
            party: self.party,
            want: self.want,
            waker: waker.clone(),
            home: Parker::here(),
            since: Instant::now(),
            hinted: false,
            slot: Arc::clone(&slot),
        };
        let mut waiting = resource.line().lock();
        if let Some(got) = resource.take_or_mark(self.party, self.want) {
            return Ok(Some(got));
        }
        waiting.came += 1;
        waiting.threads += usize::from(self.party.is_thread());
        waiting.places.insert(ticket, waiter);
        drop(waiting);
        self.place = Some(Place { ticket, slot, _watched: watched });
        Ok(None)
    }

    /// In line: takes what it was granted or hinted. `Err`: it is in line no more, since this is
    /// a forked child.
    fn retry(&mut self, waker: &Waker) -> Result<Option<<D::Target as Resource>::Got>, ()> {
        let resource = &*self.resource;
        let Some(place) = &self.place else { return Err(()) };
        if let Some(got) = place.slot.take() {
            self.place = None;
            return Ok(Some(got));
        }
        let mut waiting = resource.line().lock();
        if let Some(got) = place.slot.take() {
            self.place = None;
            return Ok(Some(got));
        }
        let Some(waiter) = waiting.places.get_mut(&place.ticket) else { return Err(()) };
        waiter.hinted = false;
        let Some(got) = resource.take_or_mark(self.party, self.want) else {
            waiter.waker.clone_from(waker);
            waiter.home = Parker::here();
            return Ok(None);
        };
        leave(resource, &mut waiting, place.ticket);
        self.place = None;
        Ok(Some(got))
    }
}

fn leave<R: Resource + ?Sized>(resource: &R, waiting: &mut Waiting<R::Want, R::Got>, ticket: u64) {
    if waiting.remove(ticket).is_some() {
        if waiting.is_empty() {
            resource.unmark();
        } else {
            resource.serve(waiting);
        }
    }
}

impl<D: Deref<Target: Resource> + Unpin> Future for Acquire<D> {
    type Output = Result<<D::Target as Resource>::Got, Refused>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let waker = context.waker();
        if this.place.is_some() {
            match this.retry(waker) {
                Ok(Some(got)) => return Poll::Ready(Ok(got)),
                Ok(None) => return Poll::Pending,
                Err(()) => this.place = None,
            }
        }
        if let Some(got) = this.resource.take(this.party, this.want) {
            return Poll::Ready(Ok(got));
        }
        match this.join(waker) {
            Ok(Some(got)) => Poll::Ready(Ok(got)),
            Ok(None) => Poll::Pending,
            Err(refused) => Poll::Ready(Err(refused)),
        }
    }
}

impl<D: Deref<Target: Resource>> Drop for Acquire<D> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let mut waiting = self.resource.line().lock();
        match place.slot.take() {
            Some(got) => {
                drop(waiting);
                self.resource.give_back(self.party, got);
            }
            None => leave(&*self.resource, &mut waiting, place.ticket),
        }
    }
}
