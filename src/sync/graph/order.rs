//! Where locks were taken, and in which order: for `record_places(True)`, which is for finding
//! bugs and costs microseconds a lock.
//!
//! While a party holds one lock and takes another, the pair is noted, with the places of both.
//! Two locks that were taken in both orders are an *inversion*: a deadlock that may come one day,
//! though it may not have come yet.

use super::super::party::Party;
use crate::error::locked;
use crate::forked::Forked;
use hashbrown::HashMap;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
}

/// A lock's engine; kept, so that its address is no other lock's.
pub type Thing = Arc<dyn Any + Send + Sync>;

struct Held {
    thing: Thing,
    kind: &'static str,
    place: Place,
    times: usize,
}

/// One lock was taken while another was held.
#[derive(Clone)]
pub struct Pair {
    /// Who did so first.
    pub party: Party,
    pub kinds: [&'static str; 2],
    pub places: [Place; 2],
    things: [Thing; 2],
}

impl Pair {
    pub fn addresses(&self) -> [usize; 2] {
        [address(&self.things[0]), address(&self.things[1])]
    }
}

#[derive(Default)]
pub struct Orders {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<Party, Vec<Held>>,
    pairs: HashMap<[usize; 2], Pair>,
}

fn note_pairs(
    pairs: &mut HashMap<[usize; 2], Pair>,
    held: &[Held],
    party: Party,
    thing: &Thing,
    kind: &'static str,
    place: &Place,
) {
    let here = address(thing);
    for before in held.iter().filter(|before| address(&before.thing) != here) {
        pairs.entry([address(&before.thing), here]).or_insert_with(|| Pair {
            party,
            kinds: [before.kind, kind],
            places: [before.place.clone(), place.clone()],
            things: [Arc::clone(&before.thing), Arc::clone(thing)],
        });
    }
}

fn address(thing: &Thing) -> usize {
    Arc::as_ptr(thing).cast::<()>().addr()
}

impl Orders {
    pub fn acquired(&self, party: Party, thing: Thing, kind: &'static str, place: Place) {
        let mut state = locked(&self.state);
        let State { held, pairs } = &mut *state;
        let held = held.entry(party).or_default();
        let here = address(&thing);
        if let Some(again) = held.iter_mut().find(|other| address(&other.thing) == here) {
            again.times += 1;
            return;
        }
        note_pairs(pairs, held, party, &thing, kind, &place);
        held.push(Held { thing, kind, place, times: 1 });
    }

    /// It waits for it: the order is the same whether it ever gets it.
    pub fn wanted(&self, party: Party, thing: &Thing, kind: &'static str, place: &Place) {
        let mut state = locked(&self.state);
        let State { held, pairs } = &mut *state;
        if let Some(held) = held.get(&party) {
            note_pairs(pairs, held, party, thing, kind, place);
        }
    }

    /// By the party that holds it; or by another one, which may release a Lock.
    pub fn released(&self, party: Party, address_of: usize) {
        let mut state = locked(&self.state);
        let position =
            |held: &Vec<Held>| held.iter().rposition(|one| address(&one.thing) == address_of);
        let own = state.held.get(&party).is_some_and(|held| position(held).is_some());
        let holder = if own {
            Some(party)
        } else {
            let mut all = state.held.iter();
            all.find(|(_, held)| position(held).is_some()).map(|(holder, _)| *holder)
        };
        let Some(holder) = holder else { return };
        let Some(held) = state.held.get_mut(&holder) else { return };
        let Some(at) = position(held) else { return };
        held[at].times -= 1;
        let gone = (held[at].times == 0).then(|| held.remove(at));
        if held.is_empty() {
            state.held.remove(&holder);
        }
        drop(state);
        drop(gone);
    }

    /// What the party holds: kind, address, where it took it.
    pub fn held_by(&self, party: Party) -> Vec<(&'static str, usize, Place)> {
        let state = locked(&self.state);
        let held = state.held.get(&party).into_iter().flatten();
        held.map(|one| (one.kind, address(&one.thing), one.place.clone())).collect()
    }

    /// Pairs that were taken in both orders, each with its opposite.
    pub fn inversions(&self) -> Vec<[Pair; 2]> {
        let state = locked(&self.state);
        let mut found: Vec<[Pair; 2]> = Vec::new();
        for ([first, second], pair) in &state.pairs {
            if first < second
                && let Some(opposite) = state.pairs.get(&[*second, *first])
            {
                found.push([pair.clone(), opposite.clone()]);
            }
        }
        found
    }

    pub fn forget(&self) {
        let old = std::mem::take(&mut *locked(&self.state));
        drop(old);
    }
}

static RECORDING: AtomicBool = AtomicBool::new(false);

static ORDERS: Forked<Orders> = Forked::new(Orders::default, forget_after_fork);

extern "C" fn forget_after_fork() {
    ORDERS.forget();
}

pub fn orders() -> &'static Orders {
    ORDERS.get()
}

/// Whether places are recorded: one load, in each acquisition and release.
#[inline]
pub fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Gives what it was. What was recorded stays, until it begins anew.
pub fn record(on: bool) -> bool {
    let was = RECORDING.swap(on, Ordering::Relaxed);
    if on && !was {
        orders().forget();
    }
    was
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32) -> Place {
        Place { file: "file".into(), line }
    }

    #[test]
    fn both_orders_are_an_inversion_whoever_took_them() {
        let orders = Orders::default();
        let things: Vec<Thing> = (0..3).map(|number: u32| Arc::new(number) as Thing).collect();
        let take = |party, thing: usize, line| {
            orders.acquired(party, Arc::clone(&things[thing]), "Lock", at(line));
        };
        let (a, b) = (Party::rust_task(), Party::rust_task());
        take(a, 0, 1);
        take(a, 1, 2);
        take(a, 1, 3);
        take(a, 2, 4);
        orders.released(a, address(&things[1]));
        assert_eq!(orders.held_by(a).len(), 3);
        for thing in &things {
            orders.released(a, address(thing));
        }
        assert!(orders.held_by(a).is_empty() && orders.inversions().is_empty());
        take(b, 2, 5);
        orders.released(a, address(&things[2])); // by another
        take(b, 1, 6);
        assert!(orders.inversions().is_empty());
        take(b, 0, 7);
        let found = orders.inversions();
        assert_eq!(found.len(), 1);
        let lines: Vec<u32> =
            found[0].iter().flat_map(|p| [p.places[0].line, p.places[1].line]).collect();
        assert!(lines == [1, 2, 6, 7] || lines == [6, 7, 1, 2]);
    }
}
