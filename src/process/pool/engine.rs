//! The pool's scheduler: which task goes to which worker, and what becomes of it.
//!
//! Every task is in one of three places: `pending`, in the ring of one worker (its record
//! there is in `Worker::sent`, in order), or delivered. A worker works through its ring in
//! order and answers in order, so an answer belongs to the first of `sent`. What goes wrong
//! with a worker costs the one item that it was at (`Link::current`): what it had not begun
//! goes back to `pending`, in the order in which it was submitted.
//!
//! Nothing here runs Python, waits, or calls out while the lock is held, but for `Receiver`,
//! which must do neither. What needs Python is left as a `Chore` for whoever comes next,
//! attached: a thread that waits for a result, or the driver; what concerns processes, as a
//! `Duty` for the driver.

use super::defined::Forgotten;
use super::link::{Link, Stage};
use super::shared::{Meter, now_ns};
use super::state::{
    Chore, Definition, Duty, Lender, Output, Reason, Receiver, State, Task, Worker,
};
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::locked;

/// See the module.
pub struct Engine<R: Receiver, L: Lender> {
    state: Mutex<State<R, L>>,
    lender: L,
    forgotten: Arc<Forgotten>,
}

/// Why a task was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Closed,
    Broken(Arc<str>),
}

impl<R: Receiver, L: Lender> Engine<R, L> {
    pub fn new(lender: L, max_workers: usize, max_tasks: Option<u64>) -> Self {
        let forgotten = Arc::<Forgotten>::default();
        let state = State {
            workers: BTreeMap::new(),
            pending: VecDeque::new(),
            functions: HashMap::new(),
            contexts: HashMap::new(),
            forgotten: Arc::clone(&forgotten),
            outstanding: 0,
            serial: 0,
            mean_ns: 0.0,
            closed: false,
            broken: None,
            false_starts: 0,
            has_limits: false,
            needed: 0,
            max_workers,
            max_tasks,
            last: None,
            chores: VecDeque::new(),
            outputs: VecDeque::new(),
            writing: None,
            is_writer_called: false,
            duties: VecDeque::new(),
            body: Vec::new(),
        };
        Self { state: Mutex::new(state), lender, forgotten }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<R, L>> {
        locked(&self.state)
    }

    pub(super) fn lender(&self) -> &L {
        &self.lender
    }

    /// A worker whose process is about to start; tasks may be sent to it at once.
    pub fn add_worker(&self, key: u32, link: Box<dyn Link>, memory: R::Memory) {
        let mut state = self.state();
        let worker = Worker {
            link,
            memory,
            sent: VecDeque::new(),
            items: 0,
            functions: HashSet::new(),
            contexts: HashSet::new(),
            left: state.max_tasks,
            leaving_ns: None,
            doomed: None,
            burying: false,
            exitcode: None,
            is_speaking: false,
            meter: Meter::default(),
            started_ns: now_ns(),
            pid: 0,
        };
        state.workers.insert(key, worker);
        state.needed = state.needed.saturating_sub(1);
        state.refill(&self.lender);
    }

    /// No worker can be started now.
    pub fn cannot_start(&self, reason: &str) {
        let mut state = self.state();
        state.do_without(&self.lender, reason);
        state.refill(&self.lender);
    }

    pub fn set_pid(&self, key: u32, pid: i32) {
        if let Some(worker) = self.state().workers.get_mut(&key) {
            worker.pid = pid;
        }
    }

    /// Where numbers go that nobody names any more.
    pub fn forgotten(&self) -> &Arc<Forgotten> {
        &self.forgotten
    }

    /// Lets go of definitions that nobody names any more; else the next look at the mail does.
    pub fn forget(&self) {
        self.state().forget(&self.lender);
    }

    /// What tasks may name as `head.function`, from now on.
    pub fn define_function(&self, number: u32, items: Vec<u8>, blocks: Vec<L::Block>) {
        let definition = Definition { items: items.into(), blocks };
        let mut state = self.state();
        state.forget(&self.lender);
        state.functions.insert(number, definition);
    }

    /// What tasks may name as `head.context`, from now on.
    pub fn define_context(&self, number: u32, items: Vec<u8>, blocks: Vec<L::Block>) {
        let definition = Definition { items: items.into(), blocks };
        let mut state = self.state();
        state.forget(&self.lender);
        state.contexts.insert(number, definition);
    }

    /// Takes a task; its serial number.
    pub fn submit(&self, task: Task<R, L::Block>, items: &[u8]) -> Result<u64, Refusal> {
        let mut state = self.state();
        if let Err(refusal) = state.check_open() {
            self.release(task.blocks);
            return Err(refusal);
        }
        let serial = state.accept(&self.lender, task, items);
        if let Some(key) = state.last {
            state.wake(key);
        }
        Ok(serial)
    }

    /// Takes many tasks at once.
    pub fn submit_all<'a>(
        &self,
        tasks: impl Iterator<Item = (Task<R, L::Block>, &'a [u8])>,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        state.check_open()?;
        for (task, items) in tasks {
            state.accept(&self.lender, task, items);
        }
        // Bells last: who is woken finds much to do.
        state.workers.values().for_each(|worker| worker.link.wake());
        Ok(())
    }

    fn release(&self, blocks: Vec<L::Block>) {
        blocks.into_iter().for_each(|block| self.lender.release(block));
    }

    /// Takes a task back that has not begun; true: it will never run.
    pub fn withdraw(&self, serial: u64) -> bool {
        let mut state = self.state();
        let at = state.pending.partition_point(|task| task.serial < serial);
        let mut found = None;
        if state.pending.get(at).is_some_and(|task| task.serial == serial) {
            found = state.pending.remove(at);
        } else {
            for (key, worker) in &mut state.workers {
                if let Some(at) = worker.sent.iter().position(|sent| sent.task.serial == serial) {
                    found = worker.take_back(at);
                    found.iter().for_each(|task| task.unlend(&self.lender, *key));
                    break;
                }
            }
        }
        let Some(task) = found else { return false };
        state.outstanding -= task.head.count as usize;
        self.release(task.blocks);
        true
    }

    /// Whether a task is being run, or its outcome was not looked at yet.
    pub fn has_begun(&self, serial: u64) -> bool {
        let mut state = self.state();
        let Some((_, worker, at)) = state.find(serial) else { return false };
        worker.link.stage(worker.sent[at].position) != Stage::Sent
    }

    /// Ends a task that has begun, by ending its worker; false: it is not running (any more).
    pub fn stop(&self, serial: u64) -> bool {
        let mut state = self.state();
        let Some((key, ..)) = state.find(serial) else { return false };
        state.doom_task(&self.lender, key, serial, Reason::Cancelled)
    }

    /// Takes all tasks back that have not begun and that `which` names; their receivers are
    /// told that they were cancelled.
    pub fn abandon(&self, which: impl Fn(&R) -> bool) {
        self.take_back(|task| which(&task.receiver));
    }

    fn take_back(&self, which: impl Fn(&Task<R, L::Block>) -> bool) {
        let mut state = self.state();
        let all = std::mem::take(&mut state.pending);
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(&which);
        state.pending = kept;
        let mut gone = Vec::from(gone);
        for (key, worker) in &mut state.workers {
            for at in (0..worker.sent.len()).rev() {
                if which(&worker.sent[at].task) {
                    let task = worker.take_back(at);
                    task.iter().for_each(|task| task.unlend(&self.lender, *key));
                    gone.extend(task);
                }
            }
        }
        for task in gone {
            state.lose(&self.lender, task, &Reason::Cancelled);
        }
    }

    /// Takes all tasks back that have not begun. One that a worker is being started for counts
    /// as begun: the standard library's pools do at least those, and programs rely on it.
    pub fn abandon_rest(&self) {
        let mut begun = HashSet::new();
        {
            let state = self.state();
            let mut waiting = state.pending.iter();
            for worker in state.workers.values().filter(|worker| !worker.link.is_ready()) {
                let first = worker.sent.front().map(|sent| &sent.task).or_else(|| waiting.next());
                begun.extend(first.map(|task| task.serial));
            }
            begun.extend(waiting.take(state.needed).map(|task| task.serial));
        }
        self.take_back(|task| !begun.contains(&task.serial));
    }

    /// Takes no more tasks; workers leave when all is done.
    pub fn close(&self) {
        self.state().closed = true;
    }

    /// Ends all tasks and workers, now.
    pub fn abort(&self) {
        self.abandon(|_| true);
        let mut state = self.state();
        state.closed = true;
        let keys: Vec<u32> = state.workers.keys().copied().collect();
        for key in keys {
            state.doom(&self.lender, key, Reason::Cancelled);
        }
    }

    /// The pool can't go on: all that there is fails.
    pub fn break_down(&self, reason: &str) {
        self.state().break_down(&self.lender, reason);
    }

    pub fn broken(&self) -> Option<String> {
        self.state().broken.as_ref().map(|reason| reason.to_string())
    }

    pub fn outstanding(&self) -> usize {
        self.state().outstanding
    }

    pub fn next_chore(&self) -> Option<Chore<R>> {
        self.state().chores.pop_front()
    }

    pub fn next_duty(&self) -> Option<Duty> {
        let mut state = self.state();
        if state.wants_writer() {
            state.is_writer_called = true;
            return Some(Duty::Write);
        }
        let start = (state.needed > 0).then_some(Duty::Start);
        state.duties.pop_front().or(start)
    }

    /// Has another worker started, if there is room for one.
    pub fn grow(&self) {
        let mut state = self.state();
        if !state.closed && state.workers.len() + state.needed < state.max_workers {
            state.needed += 1;
        }
    }

    /// Workers that are to be started.
    pub fn needed(&self) -> usize {
        self.state().needed
    }

    /// Workers that are to be started, or have no process yet.
    pub fn starting(&self) -> usize {
        let state = self.state();
        state.needed + state.workers.values().filter(|worker| worker.pid == 0).count()
    }

    /// The next output; [`written`](Self::written) is to be called when it is. `None`: there is
    /// none, or another thread is at one.
    pub fn next_output(&self) -> Option<Output> {
        self.state().take_output()
    }

    /// As [`next_output`](Self::next_output), for who does as [`Duty::Write`] says.
    pub fn next_output_called(&self) -> Option<Output> {
        let mut state = self.state();
        let output = state.take_output();
        // If another thread is at one now: it goes on, or calls the driver.
        state.is_writer_called = output.is_some();
        output
    }

    /// True: the pool waited for nothing else, or for this with what a worker did before it ended.
    pub fn written(&self) -> bool {
        let mut state = self.state();
        let Some(writing) = state.writing.take() else { return false };
        let key = writing.worker;
        let worker = state.workers.get_mut(&key);
        let worker = worker.filter(|worker| worker.started_ns == writing.started_ns);
        let exitcode = worker.and_then(|worker| {
            worker.is_speaking = false;
            worker.exitcode.take()
        });
        let is_last = state.closed && state.outputs.is_empty();
        drop(state);
        if let Some(exitcode) = exitcode {
            self.ended(key, exitcode);
        }
        is_last || exitcode.is_some()
    }

    pub fn has_chores(&self) -> bool {
        !self.state().chores.is_empty()
    }

    /// Whether there is an output that somebody may write.
    pub fn has_outputs(&self) -> bool {
        let state = self.state();
        !state.outputs.is_empty() && state.writing.is_none()
    }

    /// Whether there is an output that nobody is about to write.
    pub fn wants_writer(&self) -> bool {
        self.state().wants_writer()
    }

    pub fn has_duties(&self) -> bool {
        let state = self.state();
        state.needed > 0 || !state.duties.is_empty()
    }

    /// Whether anything has arrived that nobody has looked at.
    pub fn has_mail(&self) -> bool {
        let mut state = self.state();
        let all = state.is_within_write();
        state.workers.values_mut().any(|worker| worker.has_mail(all))
    }

    /// Whether a worker may hold results back for a while (see `station`).
    pub fn may_hold(&self) -> bool {
        self.state().workers.values().any(|worker| worker.items > 1)
    }

    /// Items that a caller who has more to submit should have on their way, in all.
    pub fn appetite(&self) -> (usize, f64) {
        let state = self.state();
        (state.ahead() * state.max_workers, state.mean_ns)
    }

    /// Of each worker: key, pid, whether it is idle, when it started, its meter.
    pub fn workers(&self) -> Vec<(u32, i32, bool, u64, Meter)> {
        let state = self.state();
        let line = |(key, worker): (&u32, &Worker<R, L::Block>)| {
            (*key, worker.pid, worker.sent.is_empty(), worker.started_ns, worker.link.meter())
        };
        state.workers.iter().map(line).collect()
    }

    /// Whether it is over: closed, nothing to do, no worker left.
    pub fn is_finished(&self) -> bool {
        let state = self.state();
        (state.closed || state.broken.is_some())
            && state.outstanding == 0
            && state.workers.is_empty()
            && state.outputs.is_empty()
            && state.writing.is_none()
            && !state.is_writer_called
    }

    pub fn is_burying(&self, key: u32) -> bool {
        self.state().workers.get(&key).is_some_and(|worker| worker.burying)
    }

    /// A worker's process has ended: the driver shall bury it.
    pub fn sentinel_fired(&self, key: u32) {
        let mut state = self.state();
        if let Some(worker) = state.workers.get_mut(&key)
            && !worker.burying
        {
            worker.burying = true;
            state.duties.push_back(Duty::Bury(key));
        }
    }
}
