//! Those who wait for a primitive, threads and tasks alike, in the order in which they came.
//!
//! Algorithm: a primitive has a word, and a bit in it (its *mark*) that says whether somebody is
//! in line. Who finds the word free takes it by one compare-and-swap, past those in line
//! (*barging*): a lock that is handed from thread to thread makes a switch of threads of each
//! release. Who finds it taken joins the line, under the line's mutex, and sets the mark there
//! unless the word has become free. Who gives back and sees the mark goes on under that mutex:
//!
//! - If the first in line is a thread that has waited for [`FAIR`], what was given back is its own
//!   (a *grant*): the word never becomes free, and the waiter leaves the line. So no thread starves.
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

use super::graph::Summons;
use super::observe::{Needs, Refused, Watched, Watching, before_wait};
use super::park::Parker;
use super::party::Party;
use super::waiting::Waiter;
use crate::forked::ForkMutex;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use super::waiting::{Slot, Waiting};

/// Who has waited for so long is handed what becomes free. As long as in CPython's own locks.
pub const FAIR: Duration = Duration::from_millis(1);

/// A primitive that can be waited for.
///
/// `Want` is what a waiter asks for (a kind, a number; `()` mostly), `Got` what it gets.
pub trait Resource: Send + Sync + 'static {
    type Want: Copy + Send + Sync + Unpin + 'static;
    type Got: Send + 'static;

    /// The primitive's name, such as `"Lock"`.
    const KIND: &'static str;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn line(&self) -> &Line<Self::Want, Self::Got>;

    /// Takes it if it is free, past those in line; with or without the line's mutex.
    fn take(&self, party: Party, want: Self::Want) -> Option<Self::Got>;

    /// Under the line's mutex: takes it if it is free, else sets the mark.
    fn take_or_mark(&self, party: Party, want: Self::Want) -> Option<Self::Got>;

    /// Under the line's mutex: as `take_or_mark`, for primitives that look at those in line.
    fn join(
        &self,
        party: Party,
        want: Self::Want,
        _waiting: &mut Waiting<Self::Want, Self::Got>,
    ) -> Option<Self::Got> {
        self.take_or_mark(party, want)
    }

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

    /// Of whom a waiter needs something just now. Called with no lock but the graph's held; it
    /// may take the line's mutex, under which therefore the graph is never called.
    fn needs(&self, _party: Party, _want: Self::Want) -> Needs {
        self.owner().map_or(Needs::Anyone, Needs::One)
    }

    /// How often it was taken, waited for, passed.
    fn acquisitions(&self) -> u64;

    fn statistics(&self) -> Statistics {
        let waiting = self.line().lock();
        Statistics {
            waiters: waiting.len(),
            owner: self.owner(),
            acquisitions: self.acquisitions(),
            contended: waiting.came(),
        }
    }
}

/// How a primitive stands.
#[derive(Debug, Clone, Copy)]
pub struct Statistics {
    /// How many are in line.
    pub waiters: usize,
    pub owner: Option<Party>,
    pub acquisitions: u64,
    /// How many ever had to wait.
    pub contended: u64,
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

/// What refers to a primitive, from its user's side and from the graph's.
pub trait Handle: Deref<Target: Resource> + Clone + Send + Sync + 'static {}

impl<D: Deref<Target: Resource> + Clone + Send + Sync + 'static> Handle for D {}

pub type WantOf<D> = <<D as Deref>::Target as Resource>::Want;
pub type GotOf<D> = <<D as Deref>::Target as Resource>::Got;

struct Place<G> {
    ticket: u64,
    slot: Arc<Slot<G>>,
    watched: Option<Watched>,
    /// Ends with the wait.
    _traced: Option<crate::trace::waits::Wait>,
}

/// Taking a primitive: waits in line if need be. Dropping it leaves the line, and gives back what
/// it was granted meanwhile. Polled by the waiting thread (`park::block_on`) or by a task.
pub struct Acquire<D: Handle> {
    resource: D,
    party: Party,
    want: WantOf<D>,
    timed: bool,
    place: Option<Place<GotOf<D>>>,
}

impl<D: Handle> Acquire<D> {
    /// `timed`: the wait has a limit.
    pub fn new(resource: D, party: Party, want: WantOf<D>, timed: bool) -> Self {
        Self { resource, party, want, timed, place: None }
    }

    pub fn resource(&self) -> &D {
        &self.resource
    }

    pub fn party(&self) -> Party {
        self.party
    }

    /// Takes it if it is free just now, before it is polled.
    pub fn at_once(&self) -> Option<GotOf<D>> {
        self.resource.take(self.party, self.want)
    }

    /// Joins the line now, before it is polled; unless there is something to take, which the
    /// first poll will find.
    /// The wait-for graph hears of the wait at the first poll: until then the caller may have to
    /// let go of what others wait for.
    pub fn enlist(&mut self) {
        if let Some(got) = self.join(Waker::noop()) {
            self.resource.give_back(self.party, got);
        }
    }

    /// Joins the line, unless there is something to take by now.
    fn join(&mut self, waker: &Waker) -> Option<GotOf<D>> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let resource = &*self.resource;
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
        if let Some(got) = resource.join(self.party, self.want, &mut waiting) {
            return Some(got);
        }
        waiting.came += 1;
        waiting.threads += usize::from(self.party.is_thread());
        waiting.places.insert(ticket, waiter);
        drop(waiting);
        let (address, owner) = (std::ptr::from_ref(resource).addr(), resource.owner());
        let traced = crate::trace::waits::Wait::begin(resource.kind(), address, owner, self.party);
        self.place = Some(Place { ticket, slot, watched: None, _traced: traced });
        None
    }

    /// Tells the graph of a wait that begins, or looks whether it found a deadlock meanwhile.
    fn watch(&mut self, waker: &Waker) -> Result<(), Refused> {
        let Some(place) = &mut self.place else { return Ok(()) };
        if let Some(watched) = &place.watched {
            return watched.look_again();
        }
        if self.timed {
            return Ok(());
        }
        let watching = || Watching {
            resource: self.resource.clone(),
            party: self.party,
            want: self.want,
            slot: Arc::clone(&place.slot),
            waker: waker.clone(),
            summons: Summons::default(),
        };
        let watched = before_wait(self.party, || Arc::new(watching()))?;
        place.watched = Some(watched);
        Ok(())
    }

    /// In line, with nothing to take: waits, unless that would never end.
    fn wait(&mut self, waker: &Waker) -> Poll<Result<GotOf<D>, Refused>> {
        let Err(refused) = self.watch(waker) else { return Poll::Pending };
        let result = self.place.take().map(|place| self.refuse(&place, refused));
        match result {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }

    /// Leaves the line, unless it has been granted something by now.
    fn refuse(&self, place: &Place<GotOf<D>>, refused: Refused) -> Result<GotOf<D>, Refused> {
        let mut waiting = self.resource.line().lock();
        if let Some(got) = place.slot.take() {
            return Ok(got);
        }
        leave(&*self.resource, &mut waiting, place.ticket);
        Err(refused)
    }

    /// In line: takes what it was granted or hinted. `None`: it is in line no more, since this is
    /// a forked child.
    fn retry(&mut self, waker: &Waker) -> Option<Option<GotOf<D>>> {
        let place = self.place.as_ref()?;
        let got = match place.slot.take() {
            None => self.take_in_line(place, waker)?,
            granted => granted,
        };
        if got.is_some() {
            self.place = None;
        }
        Some(got)
    }

    fn take_in_line(&self, place: &Place<GotOf<D>>, waker: &Waker) -> Option<Option<GotOf<D>>> {
        let resource = &*self.resource;
        let mut waiting = resource.line().lock();
        if let Some(got) = place.slot.take() {
            return Some(Some(got));
        }
        let waiter = waiting.places.get_mut(&place.ticket)?;
        waiter.hinted = false;
        let Some(got) = resource.take(self.party, self.want) else {
            waiter.waker.clone_from(waker);
            waiter.home = Parker::here();
            return Some(None);
        };
        leave(resource, &mut waiting, place.ticket);
        Some(Some(got))
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

impl<D: Handle + Unpin> Future for Acquire<D> {
    type Output = Result<GotOf<D>, Refused>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let waker = context.waker();
        if this.place.is_some() {
            match this.retry(waker) {
                Some(Some(got)) => return Poll::Ready(Ok(got)),
                Some(None) => return this.wait(waker),
                None => this.place = None,
            }
        }
        let got = this.resource.take(this.party, this.want).or_else(|| this.join(waker));
        got.map_or_else(|| this.wait(waker), |got| Poll::Ready(Ok(got)))
    }
}

impl<D: Handle> Drop for Acquire<D> {
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
