//! Which task goes to which worker: the engine's part that moves tasks and answers.

use super::engine::{Engine, Refusal};
use super::message::{Head, Kind};
use super::shared::now_ns;
use super::state::{Lender, Receiver, Sent, State, Task, Worker};
use crate::trace::tasks::submitted;
use std::sync::Arc;

/// What one worker should have to do: more saves wake-ups, less spreads the work better.
const AHEAD_NS: f64 = 4_000_000.0;
/// Items ahead while it is not known how long one takes, and at most.
const AHEAD: std::ops::RangeInclusive<usize> = 2..=4096;
const AHEAD_AT_FIRST: usize = 8;
/// Work that is too little to wake another worker for: nanoseconds.
const LITTLE_NS: f64 = 50_000.0;
/// A worker that is at one item for so long shall not keep others waiting: nanoseconds.
const LONG_NS: u64 = 2_000_000;

/// What a look at the mail has brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pumped {
    pub delivered: usize,
    /// When to look again at the latest, for a timeout or a worker that has to leave.
    pub next_ns: Option<u64>,
}

impl<R: Receiver, L: Lender> Engine<R, L> {
    /// Delivers what has arrived, ends what takes too long, and sends out more.
    pub fn pump(&self) -> Pumped {
        let mut state = self.state();
        state.forget(self.lender());
        let delivered = state.drain(self.lender());
        let next_ns = state.expire(self.lender());
        state.refill(self.lender());
        state.balance(self.lender());
        let leaving = state.retire();
        let next_ns = next_ns.into_iter().chain(leaving).min();
        Pumped { delivered, next_ns }
    }
}

#[expect(clippy::result_large_err, reason = "a task that finds no room goes back as it came")]
impl<R: Receiver, L: Lender> State<R, L> {
    /// Items that one worker should have to do.
    pub(super) fn ahead(&self) -> usize {
        if self.mean_ns == 0.0 || self.has_limits {
            return AHEAD_AT_FIRST;
        }
        ((AHEAD_NS / self.mean_ns) as usize).clamp(*AHEAD.start(), *AHEAD.end())
    }

    pub(super) fn wants_worker(&self) -> bool {
        self.workers.len() + self.needed < self.max_workers
            && !self.workers.values().any(|worker| worker.items == 0 && worker.is_heard())
    }

    pub(super) fn check_open(&self) -> Result<(), Refusal> {
        match &self.broken {
            Some(reason) => Err(Refusal::Broken(Arc::clone(reason))),
            None if self.closed => Err(Refusal::Closed),
            None => Ok(()),
        }
    }

    /// Takes a new task: to a worker, who is not woken yet, or to what is `pending`. Its serial
    /// number.
    pub(super) fn accept(&mut self, lender: &L, mut task: Task<R, L::Block>, items: &[u8]) -> u64 {
        self.serial += 1;
        let serial = self.serial;
        task.serial = serial;
        task.head.flow = submitted(task.names[0].as_ref().map_or("call", |defined| &defined.name));
        self.has_limits |=
            task.options.as_ref().is_some_and(|options| options.timeout_ns.is_some());
        self.outstanding += task.head.count as usize;
        // A worker that is to be started takes it, rather than one that is busy.
        if self.wants_worker() {
            self.needed += 1;
        }
        let mut left = Some(task); // what no worker has taken
        if self.pending.is_empty()
            && let Some(key) = self.choose()
        {
            left = left.and_then(|task| self.send(lender, key, task, items).err());
        }
        if let Some(mut task) = left {
            task.items = items.to_vec();
            self.pending.push_back(task);
        }
        serial
    }

    /// Wakes those who have something to do.
    fn wake_if(&self, which: impl Fn(&Worker<R, L::Block>) -> bool) {
        let busy = self.workers.values().filter(|worker| !worker.sent.is_empty());
        busy.filter(|worker| which(worker)).for_each(|worker| worker.link.wake());
    }

    pub(super) fn wake(&self, key: u32) {
        if let Some(worker) = self.workers.get(&key) {
            worker.link.wake();
        }
    }

    /// The worker for the next task, if one should have more to do.
    pub(super) fn choose(&self) -> Option<u32> {
        // While others are to be started, nobody takes more than one.
        let ahead = if self.needed > 0 { 1 } else { self.ahead() };
        let all = self.is_within_write();
        let can_take = |worker: &Worker<R, L::Block>| {
            let is_heard = worker.is_heard() || all && worker.is_usable();
            is_heard && worker.items < ahead && worker.left != Some(0)
        };
        // Too little work is not worth waking another one for.
        let little = if self.mean_ns > 0.0 { (LITTLE_NS / self.mean_ns) as usize } else { 0 };
        let last = self.last.and_then(|key| self.workers.get(&key));
        if last.is_some_and(|last| last.items < little && can_take(last) && !last.link.is_asleep())
        {
            return self.last;
        }
        let usable = self.workers.iter().filter(|(_, worker)| can_take(worker));
        let cost = |worker: &Worker<R, L::Block>| {
            let asleep = worker.link.is_asleep();
            (if asleep { worker.items + little } else { worker.items }, asleep)
        };
        usable.min_by_key(|(_, worker)| cost(worker)).map(|(key, _)| *key)
    }

    /// Sends a task to a worker and wakes it; gives the task back if there is no room.
    pub(super) fn push(
        &mut self,
        lender: &L,
        key: u32,
        task: Task<R, L::Block>,
        items: &[u8],
    ) -> Result<(), Task<R, L::Block>> {
        let sent = self.send(lender, key, task, items);
        self.wake(key);
        sent
    }

    /// Sends a task to a worker, with what it needs there; gives it back if there is no room.
    fn send(
        &mut self,
        lender: &L,
        key: u32,
        mut task: Task<R, L::Block>,
        items: &[u8],
    ) -> Result<(), Task<R, L::Block>> {
        let Some(worker) = self.workers.get_mut(&key) else { return Err(task) };
        let needs = [
            (Kind::Function, task.head.function, &self.functions),
            (Kind::Context, task.head.context, &self.contexts),
        ];
        for (kind, number, definitions) in needs {
            let known = match kind {
                Kind::Function => &mut worker.functions,
                _ => &mut worker.contexts,
            };
            if number == 0 || known.contains(&number) {
                continue;
            }
            let Some(definition) = definitions.get(&number) else { continue };
            // Lent first: as soon as the message is there, the worker may return a block.
            definition.blocks.iter().for_each(|block| lender.lend(*block, key));
            if worker.link.send(&Head::order(kind, number), &definition.items).is_none() {
                definition.blocks.iter().for_each(|block| lender.unlend(*block, key));
                return Err(task);
            }
            known.insert(number);
        }
        task.lend(lender, key);
        let Some(position) = worker.link.send(&task.head, items) else {
            task.unlend(lender, key);
            return Err(task);
        };
        task.items = Vec::new();
        let count = task.head.count;
        worker.items += count as usize;
        worker.sent.push_back(Sent { task, position, length: items.len(), answered: 0 });
        worker.left = worker.left.map(|left| left.saturating_sub(u64::from(count)));
        self.last = Some(key);
        Ok(())
    }

    /// Lets go of definitions that nobody names any more.
    pub(super) fn forget(&mut self, lender: &L) {
        for (kind, number) in self.forgotten.take() {
            let is_function = kind == Kind::Forget;
            let definitions = if is_function { &mut self.functions } else { &mut self.contexts };
            if let Some(definition) = definitions.remove(&number) {
                definition.blocks.into_iter().for_each(|block| lender.release(block));
            }
            for worker in self.workers.values_mut() {
                let known = if is_function { &mut worker.functions } else { &mut worker.contexts };
                if known.remove(&number) {
                    // Without room it stays known there, which harms nobody.
                    worker.link.send(&Head::order(kind, number), &[]);
                }
            }
        }
    }

    /// Tells those to leave, once they have done what they have, who have had their number of
    /// tasks.
    fn replace(&mut self) {
        for worker in self.workers.values_mut() {
            if worker.left == Some(0)
                && worker.leaving_ns.is_none()
                && worker.link.send(&Head::order(Kind::Exit, 0), &[]).is_some()
            {
                worker.leaving_ns = Some(u64::MAX);
                worker.link.wake();
            }
        }
    }

    /// Sends out what is pending.
    pub(super) fn refill(&mut self, lender: &L) {
        if self.max_tasks.is_some() {
            self.replace();
        }
        let mut is_sent = false;
        while !self.pending.is_empty() {
            let Some(key) = self.choose() else { break };
            let Some(mut task) = self.pending.pop_front() else { break };
            let items = std::mem::take(&mut task.items);
            is_sent = true;
            let sent = self.send(lender, key, task, &items);
            // One that sleeps begins while others get theirs.
            self.wake_if(|worker| worker.link.is_asleep());
            if let Err(mut task) = sent {
                task.items = items;
                self.pending.push_front(task);
                break;
            }
        }
        if is_sent {
            self.wake_if(|_| true); // surely, which costs a fence: once for all of them
        }
        // Each that is to be started takes one.
        if self.pending.len() > self.needed && self.wants_worker() {
            self.needed += 1;
        }
    }

    /// Gives idle workers of what others have not begun with.
    fn balance(&mut self, lender: &L) {
        let idle: Vec<u32> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.sent.is_empty() && worker.is_heard())
            .map(|(key, _)| *key)
            .collect();
        for to in idle {
            let found = self
                .workers
                .iter()
                .filter(|(_, worker)| worker.sent.len() > 1 && worker.is_usable())
                .max_by_key(|(_, worker)| (worker.is_speaking, worker.items))
                .map(|(key, _)| *key);
            let Some(loaded) = found else { return };
            let Some(from) = self.workers.get_mut(&loaded) else { return };
            let is_long = |(_, _, since)| now_ns().saturating_sub(since) > LONG_NS;
            let is_stuck = from.is_speaking || from.link.current().is_some_and(is_long);
            if !is_stuck && self.mean_ns > 0.0 && from.items as f64 * self.mean_ns < 2.0 * LITTLE_NS
            {
                return;
            }
            let keep = if is_stuck { 1 } else { from.sent.len().div_ceil(2) };
            let mut taken = Vec::new();
            while from.sent.len() > keep {
                let Some(task) = from.take_back(from.sent.len() - 1) else { break };
                task.unlend(lender, loaded);
                taken.push(task);
            }
            while let Some(mut task) = taken.pop() {
                let items = std::mem::take(&mut task.items);
                if let Err(mut task) = self.push(lender, to, task, &items) {
                    task.items = items;
                    taken.push(task);
                    break;
                }
            }
            for task in taken {
                self.put_back(task);
            }
        }
    }

    /// Back to what is pending, in the order of submission.
    pub(super) fn put_back(&mut self, task: Task<R, L::Block>) {
        let place = (task.serial, task.first);
        let at = self.pending.partition_point(|other| (other.serial, other.first) < place);
        self.pending.insert(at, task);
    }
}
