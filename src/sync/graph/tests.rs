//! Waits of threads and tasks that only exist as numbers, and random ones against a slow,
//! obviously right answer.

use super::search::{Homes, Verdict, judge, judge_all};
use super::waits::{Entry, Guard, Waits};
use super::{Needs, Summons, Waited};
use crate::sync::party::Party;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

struct Fixed(&'static str, Needs, Summons);

impl Waited for Fixed {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn needs(&self) -> Needs {
        self.1.clone()
    }

    fn address(&self) -> usize {
        0
    }

    fn wake(&self) {}

    fn summons(&self) -> &Summons {
        &self.2
    }
}

fn p(number: u64) -> Party {
    Party::of_word(number << 3 | 0b010).unwrap()
}

fn number(party: Party) -> usize {
    (party.ident() >> 3) as usize
}

fn entry(party: Party, kind: &'static str, needs: Needs) -> Entry {
    let waited = Arc::new(Fixed(kind, needs, Summons::default()));
    #[allow(clippy::unit_arg, reason = "the tag is one without Python")]
    Entry { party, waited, event_loop: 0, alias: None, tag: <super::waits::Tag>::default() }
}

fn enter<'a>(
    waits: &'a Waits,
    party: Party,
    kind: &'static str,
    needs: Needs,
) -> (Guard<'a>, Verdict) {
    waits.enter(entry(party, kind, needs))
}

#[test]
fn a_cycle_is_found_by_who_closes_it() {
    let waits = Waits::default();
    let (_one, first) = enter(&waits, p(1), "Lock", Needs::One(p(2)));
    let (_two, second) = enter(&waits, p(2), "RLock", Needs::One(p(3)));
    let (_four, beside) = enter(&waits, p(4), "Lock", Needs::One(p(1)));
    assert_eq!([first, second, beside], [Verdict::Runs, Verdict::Runs, Verdict::Runs]);
    let (three, last) = enter(&waits, p(3), "Lock", Needs::One(p(1)));
    assert_eq!(last, Verdict::Never(vec![p(3), p(1), p(2)]));
    drop(three);
    waits.with(|state| assert_eq!(judge(state, p(1)), Verdict::Runs));
}

#[test]
fn who_was_granted_its_lock_is_no_edge() {
    let waits = Waits::default();
    let (_one, _) = enter(&waits, p(1), "Lock", Needs::Nothing);
    let (_two, verdict) = enter(&waits, p(2), "Lock", Needs::One(p(1)));
    assert_eq!(verdict, Verdict::Runs);
}

#[test]
fn an_own_lock_is_a_deadlock_only_of_a_kind_that_others_cannot_release() {
    let waits = Waits::default();
    let (lock, verdict) = enter(&waits, p(1), "Lock", Needs::One(p(1)));
    assert_eq!(verdict, Verdict::Alone);
    drop(lock);
    let (_write, verdict) = enter(&waits, p(1), "Write", Needs::All(vec![p(1), p(2)]));
    assert_eq!(verdict, Verdict::Never(vec![p(1)]));
    // That of the task which runs in the thread is its own, too.
    let own =
        Entry { alias: Some(Party::task(64)), ..entry(p(3), "Lock", Needs::One(Party::task(64))) };
    assert_eq!(waits.enter(own).1, Verdict::Alone);
}

#[test]
fn of_several_all_are_needed_or_any() {
    let waits = Waits::default();
    let (_one, _) = enter(&waits, p(1), "Lock", Needs::One(p(9)));
    let (all, verdict) = enter(&waits, p(9), "Write", Needs::All(vec![p(5), p(1)]));
    assert_eq!(verdict, Verdict::Never(vec![p(9), p(1)]));
    drop(all);
    let (any, verdict) = enter(&waits, p(9), "Future", Needs::Any(vec![p(5), p(1)]));
    assert_eq!(verdict, Verdict::Runs);
    drop(any);
    let (_five, _) = enter(&waits, p(5), "Lock", Needs::One(p(9)));
    let (_any, verdict) = enter(&waits, p(9), "Future", Needs::Any(vec![p(5), p(1)]));
    assert_eq!(verdict, Verdict::Never(vec![p(9), p(5)]));
}

#[test]
fn what_has_no_owner_may_be_given_by_anyone() {
    let waits = Waits::default();
    let (_one, _) = enter(&waits, p(1), "Lock", Needs::One(p(2)));
    let (_two, verdict) = enter(&waits, p(2), "Semaphore", Needs::Anyone);
    assert_eq!(verdict, Verdict::Alone);
    assert!(waits.with(|state| state.stands_still()));
    let (_process, verdict) = enter(&waits, p(3), "Process", Needs::Outside);
    assert_eq!(verdict, Verdict::Runs);
    assert!(!waits.with(|state| state.stands_still()));
}

#[test]
fn a_thread_that_blocks_blocks_the_tasks_of_its_loop() {
    let waits = Waits::default();
    let (task, event_loop) = (Party::task(0x1000), 0x77);
    let blocks = Entry { event_loop, ..entry(p(1), "Lock", Needs::One(task)) };
    let (_thread, verdict) = waits.enter(blocks);
    assert_eq!(verdict, Verdict::AskFor(task));
    waits.with(|state| {
        let there = judge_all(state, p(1), &Homes::from([(task, event_loop)]));
        assert_eq!(there, Verdict::Never(vec![p(1), task]));
        let elsewhere = judge_all(state, p(1), &Homes::from([(task, 0x88)]));
        assert_eq!(elsewhere, Verdict::Runs);
    });
    // Even one which waits for what it would get.
    let waiting = Entry { event_loop, ..entry(task, "Event", Needs::Nothing) };
    assert_eq!(waits.enter(waiting).1, Verdict::Never(vec![task, p(1)]));
}

#[test]
fn waits_are_nested_and_removed_in_any_order() {
    let waits = Waits::default();
    let (outer, _) = enter(&waits, p(1), "Thread", Needs::One(p(2)));
    let (inner, _) = enter(&waits, p(1), "Lock", Needs::Anyone);
    waits.with(|state| assert_eq!(judge(state, p(1)), Verdict::Alone));
    drop(outer);
    waits.with(|state| assert_eq!(judge(state, p(1)), Verdict::Alone));
    drop(inner);
    waits.with(|state| assert!(state.by_party.is_empty()));
}

#[test]
fn one_waiter_looks_again_when_the_last_other_is_gone() {
    let waits = Waits::default();
    let waited = Arc::new(Fixed("Event", Needs::Anyone, Summons::default()));
    let entry = Entry { waited: waited.clone(), ..entry(p(1), "Event", Needs::Anyone) };
    let (_one, _) = waits.enter(entry);
    let (woken, _) = enter(&waits, p(2), "Event", Needs::Nothing);
    drop(waits.idle());
    assert!(!waited.2.take()); // another was woken and will run
    drop(woken);
    waits.look_again();
    assert!(waited.2.take());
}

/// Numbers without a pattern (xorshift): the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn parties(&mut self, most: u64) -> Vec<Party> {
        (0..=self.below(most)).map(|_| p(1 + self.below(8))).collect()
    }
}

/// Which of the parties can go on: as the definition says, starting from nobody.
fn who_goes_on(needs: &[Option<Needs>], anyone: bool) -> Vec<bool> {
    let mut on = vec![false; needs.len()];
    for _ in 0..needs.len() {
        for at in 0..needs.len() {
            let can = |party: &Party| on[number(*party)];
            on[at] = on[at]
                || match &needs[at] {
                    None | Some(Needs::Nothing | Needs::Outside) => true,
                    Some(Needs::One(one)) => can(one),
                    Some(Needs::All(all)) => all.iter().all(can),
                    Some(Needs::Any(any)) => any.iter().any(can),
                    Some(Needs::Anyone) => anyone,
                };
        }
    }
    on
}

#[test]
fn random_waits_are_judged_as_the_definition_says() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut seen = [0; 3];
    for _ in 0..20_000 {
        let (waits, mut guards) = (Waits::default(), Vec::new());
        let mut needs: Vec<Option<Needs>> = vec![None; 9];
        for party in 1..9 {
            let wanted = match random.below(8) {
                0 => continue,
                1 => Needs::Nothing,
                2 => Needs::Anyone,
                3 => Needs::Any(random.parties(3)),
                4 => Needs::All(random.parties(3)),
                _ => Needs::One(p(1 + random.below(8))),
            };
            needs[party as usize] = Some(wanted.clone());
            guards.push(enter(&waits, p(party), "RLock", wanted).0);
        }
        let (with, without) = (who_goes_on(&needs, true), who_goes_on(&needs, false));
        for party in 1..9 {
            let verdict = waits.with(|state| judge(state, p(party)));
            let at = party as usize;
            match verdict {
                Verdict::Never(parties) => {
                    seen[0] += 1;
                    assert!(!with[at] && parties[0] == p(party));
                    for (one, next) in parties.iter().zip(parties.iter().cycle().skip(1)) {
                        assert!(!with[number(*one)]);
                        assert!(match &needs[number(*one)] {
                            Some(Needs::One(other)) => other == next,
                            Some(Needs::All(others) | Needs::Any(others)) => others.contains(next),
                            _ => false,
                        });
                    }
                }
                Verdict::Alone => {
                    seen[1] += 1;
                    assert!(with[at] && !without[at]);
                }
                Verdict::Runs => {
                    seen[2] += 1;
                    // Or it waits for a cycle in which it is not.
                    assert!(without[at] || !with[at]);
                }
                Verdict::AskFor(_) => unreachable!("no task, no loop"),
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 1000), "{seen:?}");
}

/// A lock as its engine would be: an owner word, taken and let go of by its owner.
struct Mutual {
    owner: AtomicU64,
    taken: Mutex<bool>,
    freed: std::sync::Condvar,
}

struct ForMutual(Arc<Mutual>, Summons);

impl Waited for ForMutual {
    fn kind(&self) -> &'static str {
        "RLock"
    }

    fn needs(&self) -> Needs {
        match self.0.owner.load(Ordering::Acquire) {
            0 => Needs::Nothing,
            word => Needs::One(Party::of_word(word).unwrap()),
        }
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn wake(&self) {}

    fn summons(&self) -> &Summons {
        &self.1
    }
}

impl Mutual {
    fn new() -> Arc<Self> {
        let (owner, taken) = (AtomicU64::new(0), Mutex::new(false));
        Arc::new(Self { owner, taken, freed: std::sync::Condvar::new() })
    }

    /// False: a deadlock was found.
    fn acquire(self: &Arc<Self>, waits: &Waits, party: Party) -> bool {
        let mut guard = None;
        loop {
            let mut taken = self.taken.lock().unwrap();
            if !*taken {
                *taken = true;
                self.owner.store(party.word(), Ordering::Release);
                return true;
            }
            if guard.is_none() {
                drop(taken);
                let waited: Arc<dyn Waited> =
                    Arc::new(ForMutual(Arc::clone(self), Summons::default()));
                let tagged = entry(party, "RLock", Needs::Nothing);
                let (entered, verdict) = waits.enter(Entry { waited, ..tagged });
                if matches!(verdict, Verdict::Never(_)) {
                    return false;
                }
                guard = Some(entered);
            } else {
                drop(self.freed.wait(taken).unwrap());
            }
        }
    }

    fn release(&self) {
        let mut taken = self.taken.lock().unwrap();
        self.owner.store(0, Ordering::Release);
        *taken = false;
        drop(taken);
        self.freed.notify_all();
    }
}

/// Threads that take locks in one order never see a deadlock; those that take them in any order
/// always end, since each deadlock is found.
#[test]
fn threads_in_order_never_meet_a_deadlock_and_in_disorder_always_end() {
    for ordered in [true, false] {
        let waits = Waits::default();
        let locks: Vec<_> = (0..4).map(|_| Mutual::new()).collect();
        let found = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 1..5_u64 {
                let (waits, locks, found) = (&waits, &locks, &found);
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    for _ in 0..3_000 {
                        let mut wanted: Vec<usize> = Vec::new();
                        for _ in 0..3 {
                            let one = random.below(4) as usize;
                            if !wanted.contains(&one) {
                                wanted.push(one);
                            }
                        }
                        if ordered {
                            wanted.sort_unstable();
                        }
                        let mut held = Vec::new();
                        for &one in &wanted {
                            if !locks[one].acquire(waits, p(seed)) {
                                found.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                            held.push(one);
                            std::thread::yield_now();
                        }
                        held.iter().rev().for_each(|&one| locks[one].release());
                    }
                });
            }
        });
        waits.with(|state| assert!(state.by_party.is_empty()));
        if ordered {
            assert_eq!(found.load(Ordering::Relaxed), 0);
        }
    }
}
