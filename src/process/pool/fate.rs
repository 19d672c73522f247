//! What becomes of tasks when a worker has ended, or has to.

use super::engine::Engine;
use super::link::Stage;
use super::message::{Head, Kind, next_item};
use super::shared::now_ns;
use super::state::{
    Chore, Duty, Lender, Loss, Outcome, Reason, Receiver, Sent, State, Task, Worker,
};
use std::sync::Arc;

/// The exit code (EX_TEMPFAIL) of one that found no room here.
const TEMPORARY: i32 = 75;

/// A worker, and the place of a task in what it was sent.
type Found<'a, R, L> = (u32, &'a mut Worker<R, <L as Lender>::Block>, usize);

/// How long a worker may take to leave: nanoseconds.
const LEAVE_NS: u64 = 5_000_000_000;

/// Workers in a row that die before they are ready until the pool gives up.
const FALSE_STARTS: u32 = 3;
/// The same for those that were killed, which says little of the next one.
const KILLED_STARTS: u32 = 100;

impl<R: Receiver, L: Lender> Engine<R, L> {
    /// A worker's process has ended and was reaped. It is done with when all that it has printed
    /// is written.
    pub fn ended(&self, key: u32, exitcode: i32) {
        let mut state = self.state();
        while state.workers.get_mut(&key).is_some_and(|worker| worker.has_mail(false))
            && state.drain(self.lender()) > 0
        {}
        if let Some(worker) = state.workers.get_mut(&key).filter(|worker| worker.is_speaking) {
            worker.exitcode = Some(exitcode);
            return;
        }
        let Some(worker) = state.workers.remove(&key) else { return };
        let current = worker.link.current();
        let was_ready = worker.link.is_ready();
        for mut sent in worker.sent {
            let whole = sent.length;
            worker.link.read_back(sent.position, whole, &mut sent.task.items);
            let doomed = worker
                .doomed
                .as_ref()
                .filter(|(serial, item, _)| (*serial, *item) == (sent.task.serial, sent.answered));
            let was_at_it =
                current.is_some_and(|(at, item, _)| (at, item) == (sent.position, sent.answered));
            let reason = match doomed {
                Some((_, _, reason)) => Some(reason.clone()),
                None if was_at_it && worker.doomed.is_none() => {
                    Some(Reason::Died { pid: worker.pid, exitcode })
                }
                None => None,
            };
            state.settle(self.lender(), sent, reason);
        }
        self.lender().reclaim(key);
        let was_killed = matches!(-exitcode, libc::SIGKILL | libc::SIGTERM | libc::SIGINT);
        if was_ready || exitcode == 0 || worker.doomed.is_some() {
            state.false_starts = 0;
        } else if exitcode == TEMPORARY {
            let text = "it met a limit of this user or of the system's processes and threads";
            state.do_without(self.lender(), text);
        } else {
            state.false_starts += 1;
            let count = state.false_starts;
            if count >= if was_killed { KILLED_STARTS } else { FALSE_STARTS } {
                let text = format!(
                    "{count} worker processes in a row ended before they were ready, the last \
                     with exit code {exitcode}; what they printed to stderr says why"
                );
                state.break_down(self.lender(), &text);
            }
        }
        state.refill(self.lender());
    }
}

/// Cuts the items before `answered` off, then one item; `None`: it has so many.
fn cut(items: &[u8], answered: u32) -> Option<(&[u8], &[u8])> {
    let mut rest = items;
    for _ in 0..answered {
        next_item(&mut rest)?;
    }
    let item = next_item(&mut rest)?;
    Some((item, rest))
}

impl<R: Receiver, L: Lender> State<R, L> {
    /// Of a task that a worker had: the item it was at is lost, for `reason`, unless it may be
    /// tried again; the items without an answer are done anew.
    fn settle(&mut self, lender: &L, sent: Sent<R, L::Block>, reason: Option<Reason>) {
        let Sent { mut task, answered, .. } = sent;
        let count = task.head.count;
        let Some((item, rest)) = cut(&task.items, answered) else {
            // Its memory is damaged: what was asked for can't be known any more.
            let reason = reason.unwrap_or(Reason::Died { pid: 0, exitcode: 0 });
            task.first += u64::from(answered);
            task.head.count -= answered;
            self.lose(lender, task, &reason);
            return;
        };
        let Some(reason) = reason else {
            let kept = task.items.len() - rest.len() - item.len() - 4;
            task.items.drain(..kept);
            task.first += u64::from(answered);
            task.head.count = count - answered;
            self.put_back(task);
            return;
        };
        let retries = task.options.as_ref().map_or(0, |options| options.retries);
        let again = task.attempts < retries && !matches!(reason, Reason::Cancelled);
        let head = Head { count: 1, ..task.head };
        let left = count - answered - 1;
        let mut single = Vec::with_capacity(item.len() + 4);
        single.extend_from_slice(&(item.len() as u32).to_le_bytes());
        single.extend_from_slice(item);
        let one = Task {
            serial: task.serial,
            receiver: task.receiver.clone(),
            first: task.first + u64::from(answered),
            head,
            names: task.names.clone(),
            items: single,
            // All of a task's blocks stay with what is left of it.
            blocks: if left == 0 { std::mem::take(&mut task.blocks) } else { Vec::new() },
            options: task.options.clone(),
            attempts: task.attempts + 1,
        };
        if left > 0 {
            let rest = rest.to_vec();
            task.first += u64::from(answered) + 1;
            task.head.count = left;
            task.items = rest;
            self.put_back(task);
        }
        if again {
            self.put_back(one);
        } else {
            self.lose(lender, one, &reason);
        }
    }

    /// Tells a task's receiver that its items have no answer.
    pub(super) fn lose(&mut self, lender: &L, task: Task<R, L::Block>, reason: &Reason) {
        let mut items = &task.items[..];
        for index in 0..u64::from(task.head.count) {
            let loss = Loss {
                reason: reason.clone(),
                function: task.head.function,
                name: task.names[0].as_ref().map(|defined| Arc::clone(&defined.name)),
                item: next_item(&mut items).unwrap_or_default().to_vec(),
                kind: task.head.kind,
                options: task.options.clone(),
            };
            if task.receiver.deliver(task.first + index, Outcome::Lost(loss), None) {
                self.chores.push_back(Chore::Publish(task.receiver.clone()));
            }
        }
        self.outstanding -= task.head.count as usize;
        task.blocks.into_iter().for_each(|block| lender.release(block));
    }

    /// The worker that a task was sent to, and its place there.
    pub(super) fn find(&mut self, serial: u64) -> Option<Found<'_, R, L>> {
        self.workers.iter_mut().find_map(|(key, worker)| {
            let at = worker.sent.iter().position(|sent| sent.task.serial == serial)?;
            Some((*key, worker, at))
        })
    }

    /// Has a worker killed for the item that it is at; what it has not begun goes to others.
    /// False: it has ended, or is being killed already.
    pub(super) fn doom(&mut self, lender: &L, key: u32, reason: Reason) -> bool {
        self.unload(lender, key, 1);
        let Some(worker) = self.workers.get_mut(&key).filter(|worker| worker.lives()) else {
            return false;
        };
        let at = worker.sent.front().map_or((0, 0), |sent| (sent.task.serial, sent.answered));
        worker.doomed = Some((at.0, at.1, reason));
        self.duties.push_back(Duty::Kill(key));
        true
    }

    /// Has a worker killed for a task. False: it is not at it (any more).
    pub(super) fn doom_task(&mut self, lender: &L, key: u32, serial: u64, reason: Reason) -> bool {
        let found = self.find(serial).map(|(_, _, at)| at);
        let Some(at) = found else { return false };
        // First nothing else may begin there: the kill must not hit another task.
        self.unload(lender, key, at + 1);
        // What it has answered meanwhile was not ended.
        self.drain(lender);
        let Some((_, worker, at)) = self.find(serial) else { return false };
        let Sent { position, answered, .. } = worker.sent[at];
        // In order: with a later one begun, or done, it is done with this one.
        if !worker.lives() || at + 1 < worker.sent.len() {
            return false;
        }
        if worker.link.stage(position) != Stage::Begun {
            return false;
        }
        worker.doomed = Some((serial, answered, reason));
        self.duties.push_back(Duty::Kill(key));
        true
    }

    /// Takes back what a worker has not begun with, but for its first tasks.
    fn unload(&mut self, lender: &L, key: u32, keeps: usize) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let mut taken = Vec::new();
        for at in (keeps..worker.sent.len()).rev() {
            taken.extend(worker.take_back(at));
        }
        for task in taken {
            task.unlend(lender, key);
            self.put_back(task);
        }
    }

    /// A worker could not be started. If there are others, they have to do; else what is pending
    /// fails, and the next task is another try.
    pub(super) fn do_without(&mut self, lender: &L, reason: &str) {
        self.needed = 0;
        if self.workers.is_empty() {
            let reason = Reason::NoWorker(reason.into());
            for task in std::mem::take(&mut self.pending) {
                self.lose(lender, task, &reason);
            }
        }
    }

    pub(super) fn break_down(&mut self, lender: &L, reason: &str) {
        if self.broken.is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        self.broken = Some(Arc::clone(&reason));
        let reason = Reason::Broken(reason);
        for task in std::mem::take(&mut self.pending) {
            self.lose(lender, task, &reason);
        }
        let keys: Vec<u32> = self.workers.keys().copied().collect();
        for key in keys {
            let Some(worker) = self.workers.get_mut(&key) else { continue };
            let sent = std::mem::take(&mut worker.sent);
            worker.items = 0;
            if worker.doomed.is_none() {
                worker.doomed = Some((0, 0, Reason::Cancelled));
                self.duties.push_back(Duty::Kill(key));
            }
            for sent in sent {
                let mut task = sent.task;
                task.first += u64::from(sent.answered);
                task.head.count -= sent.answered;
                self.lose(lender, task, &reason);
            }
        }
    }

    /// Ends tasks whose time is over; when to look again.
    pub(super) fn expire(&mut self, lender: &L) -> Option<u64> {
        if !self.has_limits {
            return None;
        }
        let now = now_ns();
        let mut next: Option<u64> = None;
        let mut late = Vec::new();
        for (key, worker) in &self.workers {
            if worker.doomed.is_some() {
                continue;
            }
            for sent in &worker.sent {
                let limit = sent.task.options.as_ref().and_then(|options| options.timeout_ns);
                let Some(limit) = limit else { continue };
                let begun = match worker.link.current() {
                    Some((position, _, since)) if position == sent.position => since,
                    _ => now, // not yet: it can't be late before its time has passed once
                };
                let due = begun.saturating_add(limit);
                if due <= now {
                    late.push((*key, sent.task.serial));
                } else {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
        }
        for (key, serial) in late {
            self.doom_task(lender, key, serial, Reason::TimedOut);
        }
        next
    }

    /// Sends the workers home when all is done; when to look whether they have gone.
    pub(super) fn retire(&mut self) -> Option<u64> {
        if !self.closed || self.outstanding > 0 {
            return None;
        }
        let now = now_ns();
        let mut next: Option<u64> = None;
        for (key, worker) in &mut self.workers {
            if worker.doomed.is_some() || worker.burying {
                continue;
            }
            match worker.leaving_ns {
                None | Some(u64::MAX) => {
                    worker.link.send(&Head::order(Kind::Exit, 0), &[]);
                    worker.link.wake();
                    worker.leaving_ns = Some(now);
                }
                Some(since) if since.saturating_add(LEAVE_NS) <= now => {
                    worker.doomed = Some((0, 0, Reason::Cancelled));
                    self.duties.push_back(Duty::Kill(*key));
                }
                Some(_) => {}
            }
            if let Some(since) = worker.leaving_ns {
                let due = since.saturating_add(LEAVE_NS);
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }
}
