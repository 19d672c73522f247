//! A thread that looks at all others of this process, `hz` times a second.
//!
//! For each thread it reads the CPU clock. If that has not moved since a look that found the
//! thread asleep, the thread still sleeps in the same call; if it has moved as fast as time, it
//! ran; only else is the kernel asked which call it sleeps in. What it did is noted as spans: one
//! is written when the next begins, or after a tenth of a second, so that little of it is lost
//! if the process is killed. Nothing here runs Python or takes a lock that it takes.

use super::clock;
use super::gil::{Gil, Holder};
use super::proc::{self, Doing, Files};
use super::tape::{Record, Tape};
use super::verdict::{Before, Look, STATES, State, What, asleep, parts};
use crate::error::locked;
use crate::forked::generation;
use crate::os::{Flag, Woken};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kinds of records; Python has more of its own.
pub const SPAN: u8 = 1;
pub const THREAD: u8 = 2;
pub const LOCK: u8 = 3;

/// A span that goes on is written so often, in nanoseconds.
const LONGEST: u64 = 100_000_000;
/// The kernel is asked again about a thread that sleeps, after so many looks: one that was woken
/// and gets no processor has not used any time either.
const ASK_AGAIN: u32 = 8;
/// Looks between two at which threads there are.
const LIST: u64 = 4;
const OWN_NAME: &str = "plait-sampler";
/// Threads of Rust's runtimes, whose waits are for work.
const WORKERS: [&str; 4] = ["plait-rayon", "plait-tokio", "tokio-", "rayon"];

pub type Totals = [u64; STATES];

/// What a sampler knows of the interpreter.
#[derive(Debug, Clone, Default)]
pub struct Interpreter {
    pub has_gil: bool,
    pub gil: Option<Gil>,
}

#[derive(Default)]
struct Shared {
    stop: Flag,
    totals: Mutex<BTreeMap<i32, Totals>>,
    looks: AtomicU64,
    /// Its own CPU time, in nanoseconds.
    cost: AtomicU64,
}

pub struct Sampler {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    tape: Option<Arc<Tape>>,
    of: Interpreter,
    pause: Duration,
    generation: u64,
}

impl Sampler {
    pub fn start(hz: f64, of: Interpreter, tape: Option<Arc<Tape>>) -> std::io::Result<Self> {
        let (shared, thread) = (Arc::default(), Mutex::new(None));
        let pause = Duration::from_secs_f64(1.0 / hz);
        let sampler = Self { shared, thread, tape, of, pause, generation: generation() };
        sampler.resume()?;
        Ok(sampler)
    }

    /// Begins to look, unless it does.
    pub fn resume(&self) -> std::io::Result<()> {
        if self.generation != generation() {
            return Ok(());
        }
        let mut thread = locked(&self.thread);
        if thread.is_none() {
            self.shared.stop.clear();
            let (of, tape) = (self.of.clone(), self.tape.clone());
            let (shared, pause) = (Arc::clone(&self.shared), self.pause);
            let name = OWN_NAME.to_owned();
            *thread = Some(std::thread::Builder::new().name(name).spawn(move || {
                crate::os::block_signals();
                Eye::new(of, tape, shared).watch(pause);
            })?);
        }
        Ok(())
    }

    /// Ends it and waits for that; again: nothing happens.
    pub fn stop(&self) {
        // In a forked child the thread is not there, nor is the mutex to be trusted.
        if self.generation != generation() {
            return;
        }
        self.shared.stop.set();
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
            if let Some(tape) = &self.tape {
                tape.end(clock::now());
            }
        }
    }

    pub fn tape(&self) -> Option<Arc<Tape>> {
        self.tape.clone()
    }

    pub fn note(&self, record: Record) {
        if let Some(tape) = &self.tape {
            tape.note(record);
        }
    }

    /// For each thread, nanoseconds in each state until now.
    pub fn totals(&self) -> BTreeMap<i32, Totals> {
        if self.generation == generation() {
            locked(&self.shared.totals).clone()
        } else {
            BTreeMap::new()
        }
    }

    /// How often it looked, and its CPU time in nanoseconds.
    pub fn cost(&self) -> (u64, u64) {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        (load(&self.shared.looks), load(&self.shared.cost))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A thread that is looked at.
struct Seen {
    files: Files,
    name: String,
    is_worker: bool,
    /// It has been seen with the GIL, or waiting for it.
    is_python: bool,
    age: u32,
    looked: u64,
    cpu: u64,
    delay: u64,
    before: Before,
    asleep: Option<What>,
    asked: u32,
    /// The span that goes on.
    what: What,
    since: u64,
    until: u64,
}

struct Eye {
    of: Interpreter,
    tape: Option<Arc<Tape>>,
    shared: Arc<Shared>,
    here: i32,
    seen: HashMap<i32, Seen>,
    holder: Holder,
    /// How many threads ran at the last look.
    ran: u32,
    listed: u64,
}

impl Eye {
    fn new(of: Interpreter, tape: Option<Arc<Tape>>, shared: Arc<Shared>) -> Self {
        let here = rustix::thread::gettid().as_raw_nonzero().get();
        let (seen, holder) = (HashMap::new(), Holder::Hidden);
        Self { of, tape, shared, here, seen, holder, ran: 0, listed: 0 }
    }

    fn watch(mut self, pause: Duration) {
        let (mut next, mut paid) = (Instant::now(), 0);
        for look in 0.. {
            if look % LIST.max(self.seen.len() as u64 / 8) == 0 {
                self.list();
            }
            self.look();
            self.shared.looks.fetch_add(1, Ordering::Relaxed);
            let cost = clock::cpu_of(self.here).unwrap_or(0);
            self.shared.cost.fetch_add(cost - paid, Ordering::Relaxed);
            paid = cost;
            next += pause;
            let now = Instant::now();
            if next < now {
                next = now; // late: no hurry makes up for it
            }
            while let Woken::Interrupted = self.shared.stop.wait(Some(next)) {}
            if self.shared.stop.is_set() {
                break;
            }
        }
        self.look();
        let tids: Vec<i32> = self.seen.keys().copied().collect();
        tids.into_iter().for_each(|tid| self.forget(tid));
    }

    /// Looks which threads there are.
    fn list(&mut self) {
        let now = clock::now();
        let first = self.listed == 0;
        for tid in proc::threads() {
            if let Some(seen) = self.seen.get_mut(&tid) {
                seen.age += 1;
                if seen.age.is_power_of_two() {
                    seen.rename(proc::name_of(tid)); // it has its name only since it runs
                }
            } else if tid != self.here
                && let Some(cpu) = clock::cpu_of(tid)
            {
                // A new thread has run since its start; one from before the trace was not seen.
                let known = if first { cpu } else { 0 };
                let began = now.saturating_sub(cpu - known).max(self.listed);
                if let Some(seen) = Seen::new(tid, known, began) {
                    self.seen.insert(tid, seen);
                }
            }
        }
        self.listed = now;
    }

    fn look(&mut self) {
        let holder = self.of.gil.as_ref().map_or(Holder::Hidden, Gil::holder);
        let earlier = std::mem::replace(&mut self.holder, holder);
        let (mut ended, mut ran) = (Vec::new(), 0);
        let mut totals = locked(&self.shared.totals);
        for (&tid, seen) in &mut self.seen {
            let now = clock::now();
            let Some(cpu) = clock::cpu_of(tid) else {
                ended.push(tid);
                continue;
            };
            let elapsed = now.saturating_sub(seen.looked);
            let used = cpu.saturating_sub(seen.cpu);
            (seen.looked, seen.cpu) = (now, cpu);
            let is_full = used * 10 >= elapsed * 9;
            let doing = if is_full { Doing::Runs } else { seen.doing(used, &self.of, holder) };
            seen.is_python |= holder == Holder::Thread(tid);
            let runs = doing == Doing::Runs;
            ran += u32::from(used * 2 > elapsed);
            let delay = if is_full { 0 } else { seen.delay(runs) };
            let rivals = self.ran > 1;
            let running = running(&self.of, seen, tid, [earlier, holder], is_full || runs, rivals);
            let asleep = seen.asleep;
            let look = Look { elapsed, cpu: used, delay, asleep, runs, running };
            let all = totals.entry(tid).or_default();
            for (what, length) in parts(&mut seen.before, look) {
                if length > 0 {
                    all[what.state as usize] += length;
                    seen.add(what, length, tid, self.tape.as_deref());
                }
            }
        }
        drop(totals);
        self.ran = ran;
        ended.into_iter().for_each(|tid| self.forget(tid));
    }

    /// The thread has ended, or the watch does.
    fn forget(&mut self, tid: i32) {
        let Some(seen) = self.seen.remove(&tid) else { return };
        if let Some(tape) = self.tape.as_deref() {
            seen.write(tid, tape);
            seen.introduce(tid, tape);
        }
    }
}

/// What it is that this thread runs.
fn running(
    of: &Interpreter,
    seen: &Seen,
    tid: i32,
    [earlier, now]: [Holder; 2],
    to_the_end: bool,
    rivals: bool,
) -> State {
    if !of.has_gil || seen.is_worker {
        return State::Nogil;
    }
    match (earlier, now) {
        (_, Holder::Thread(holder)) if holder == tid => State::Gil,
        // It had it, and stopped running since.
        (Holder::Thread(holder), _) if holder == tid && !to_the_end => State::Gil,
        // Not known: one thread alone that runs has it, most probably.
        (_, Holder::Hidden) => {
            if rivals {
                State::Unknown
            } else {
                State::Gil
            }
        }
        // Between two looks, a thread of Python's that ran for a moment had it.
        _ if !to_the_end && seen.is_python => State::Gil,
        _ => State::Nogil,
    }
}

impl Seen {
    fn new(tid: i32, cpu: u64, began: u64) -> Option<Self> {
        let name = proc::name_of(tid);
        if name == OWN_NAME {
            return None;
        }
        let files = Files::open(tid);
        let delay = files.delay().unwrap_or(0);
        let what = What::of(State::Unknown);
        let before = Before { what, carried: 0 };
        let mut seen = Self {
            files,
            name: String::new(),
            is_worker: false,
            is_python: false,
            age: 0,
            looked: began,
            cpu,
            delay,
            before,
            asleep: None,
            asked: 0,
            what,
            since: began,
            until: began,
        };
        seen.rename(name);
        Some(seen)
    }

    fn rename(&mut self, name: String) {
        self.is_worker = WORKERS.iter().any(|start| name.starts_with(start));
        self.name = name;
    }

    fn doing(&mut self, used: u64, of: &Interpreter, holder: Holder) -> Doing {
        self.asked += 1;
        if used == 0 && self.asleep.is_some() && !self.asked.is_multiple_of(ASK_AGAIN) {
            return Doing::Faults; // anything that is asleep: what it sleeps in is known
        }
        let doing = self.files.doing();
        let holder = if let Holder::Thread(tid) = holder { tid.unsigned_abs().into() } else { 0 };
        let is_gils = |word| of.gil.as_ref().is_some_and(|gil| gil.owns(word));
        self.asleep = asleep(doing, self.is_worker, is_gils, holder);
        self.is_python |= self.asleep.is_some_and(|what| what.state == State::WaitGil);
        doing
    }

    /// How long it has waited for a processor since it fell asleep.
    fn delay(&mut self, runs: bool) -> u64 {
        let was_running = matches!(self.before.what.state, State::Gil | State::Nogil);
        if runs == was_running {
            return 0;
        }
        let delay = self.files.delay().unwrap_or(self.delay);
        delay.saturating_sub(std::mem::replace(&mut self.delay, delay))
    }

    fn add(&mut self, what: What, length: u64, tid: i32, tape: Option<&Tape>) {
        let Some(tape) = tape else { return };
        let goes_on = match what.state {
            State::WaitGil => self.what.state == State::WaitGil,
            _ => self.what == what,
        };
        if !goes_on || self.until - self.since >= LONGEST {
            self.write(tid, tape);
            if self.age == 0 || self.until - self.since >= LONGEST {
                self.introduce(tid, tape); // again and again, as the ring may forget it
            }
            (self.what, self.since) = (what, self.until);
        }
        self.until += length;
    }

    fn write(&self, tid: i32, tape: &Tape) {
        if self.until > self.since {
            let (began, ended, state) = (self.since, self.until, self.what.state as u32);
            let (tid, a) = (tid.unsigned_abs(), self.what.detail);
            tape.note(Record { kind: SPAN, began, ended, tid, state, a, b: 0 });
        }
    }

    /// Notes its name.
    fn introduce(&self, tid: i32, tape: &Tape) {
        let mut letters = [0; 16];
        for (to, from) in letters.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        let [a, b] = [0, 8].map(|at| {
            let half = letters.iter().skip(at).take(8).rev();
            half.fold(0, |word, byte| word << 8 | u64::from(*byte))
        });
        let (tid, state) = (tid.unsigned_abs(), u32::from(self.is_worker));
        let record =
            Record { kind: THREAD, began: self.since, ended: self.until, tid, state, a, b };
        tape.note(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_computes_and_one_that_waits() {
        let sampler = Sampler::start(1000.0, Interpreter::default(), None).unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let tid = || rustix::thread::gettid().as_raw_nonzero().get();
        let sleeper = std::thread::spawn(move || (tid(), ended.recv().is_err()));
        let here = tid();
        let state =
            |tid, state: State| sampler.totals().get(&tid).map_or(0, |all| all[state as usize]);
        // Until enough of both has been seen, however slow the machine is.
        while state(here, State::Nogil) < 20_000_000 {
            std::hint::spin_loop();
        }
        drop(end);
        let (other, _) = sleeper.join().unwrap();
        sampler.stop();
        sampler.stop();
        let all = sampler.totals();
        assert!(all[&here][State::Gil as usize] == 0);
        assert!(!all.contains_key(&other) || all[&other][State::Nogil as usize] < 20_000_000);
        let (looks, cost) = sampler.cost();
        assert!(looks > 0 && cost > 0);
    }
}
