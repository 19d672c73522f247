//! What the engine knows: tasks, workers, and who is told what.

use super::defined::{Defined, Forgotten};
use super::link::Link;
use super::message::{Head, Kind};
use super::shared::Meter;
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::ThreadId;

/// How a task is to be run, where it isn't the usual way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub timeout_ns: Option<u64>,
    pub retries: u32,
    pub memory: Option<u64>,
    pub name: Option<String>,
}

/// What becomes of an item.
#[derive(Debug)]
pub enum Outcome<'a> {
    Value(&'a [u8]),
    Error(&'a [u8]),
    Lost(Loss),
}

/// An item that has no answer.
#[derive(Debug, Clone)]
pub struct Loss {
    pub reason: Reason,
    /// As in the task's head.
    pub function: u32,
    /// The function's name, if it has a number.
    pub name: Option<Arc<str>>,
    /// The item, as it was sent.
    pub item: Vec<u8>,
    pub kind: Kind,
    pub options: Option<Arc<Options>>,
}

#[derive(Debug, Clone)]
pub enum Reason {
    Died {
        pid: i32,
        exitcode: i32,
    },
    TimedOut,
    Cancelled,
    Broken(Arc<str>),
    /// There is no worker, and none could be started.
    NoWorker(Arc<str>),
}

/// Who gets the outcomes of a task's items. Cheap to clone.
pub trait Receiver: Clone + Send {
    /// What is needed to read a worker's answers.
    type Memory: Clone + Send;

    /// Takes an outcome, without Python and without waiting. True: `Chore::Publish` is due.
    fn deliver(&self, index: u64, outcome: Outcome<'_>, memory: Option<&Self::Memory>) -> bool;
}

/// The arena for arguments, as far as the engine deals with it.
pub trait Lender: Send + Sync {
    type Block: Copy + Send;
    fn lend(&self, block: Self::Block, borrower: u32);
    /// Ends a loan that the borrower does not know of: the message never came, or was revoked.
    fn unlend(&self, block: Self::Block, borrower: u32);
    fn release(&self, block: Self::Block);
    fn reclaim(&self, borrower: u32);
}

/// What a task's head names: its function, its context variables.
pub type Names = [Option<Arc<Defined>>; 2];

/// One submission: `head.count` items for one receiver.
#[derive(Debug)]
pub struct Task<R, B> {
    /// Submissions are numbered; see [`Engine::next_serial`].
    pub serial: u64,
    pub receiver: R,
    /// The first item's index, for the receiver.
    pub first: u64,
    pub head: Head,
    pub names: Names,
    pub items: Vec<u8>,
    pub blocks: Vec<B>,
    pub options: Option<Arc<Options>>,
    pub attempts: u32,
}

impl<R, B: Copy> Task<R, B> {
    pub(super) fn lend(&self, lender: &impl Lender<Block = B>, borrower: u32) {
        self.blocks.iter().for_each(|block| lender.lend(*block, borrower));
    }

    pub(super) fn unlend(&self, lender: &impl Lender<Block = B>, borrower: u32) {
        self.blocks.iter().for_each(|block| lender.unlend(*block, borrower));
    }
}

/// A task in a worker's ring.
pub struct Sent<R, B> {
    pub(super) task: Task<R, B>,
    pub(super) position: u64,
    /// Bytes of its items, which are in the ring alone.
    pub(super) length: usize,
    pub(super) answered: u32,
}

/// What needs Python, for any thread.
#[derive(Debug)]
pub enum Chore<R> {
    Publish(R),
}

/// Text that a worker's task has printed.
#[derive(Debug)]
pub struct Output {
    pub worker: u32,
    /// When that was started: another one may have its key later.
    pub started_ns: u64,
    pub is_stderr: bool,
    pub text: Vec<u8>,
}

/// Who is at an output, and whose that is.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) thread: ThreadId,
    pub(super) worker: u32,
    pub(super) started_ns: u64,
}

/// What concerns the workers' processes and what they print, for the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// More workers are wanted.
    Start,
    Kill(u32),
    /// Its sentinel says that it has ended: reap it, and call [`Engine::ended`].
    Bury(u32),
    /// Have a thread call [`Engine::next_output`] until there is none: it may take for ever.
    Write,
}

pub struct Worker<R: Receiver, B> {
    pub(super) link: Box<dyn Link>,
    pub(super) memory: R::Memory,
    pub(super) sent: VecDeque<Sent<R, B>>,
    /// Items in `sent` without an answer.
    pub(super) items: usize,
    pub(super) functions: HashSet<u32>,
    pub(super) contexts: HashSet<u32>,
    /// Tasks that it may still get, `None`: any number.
    pub(super) left: Option<u64>,
    /// It was told to leave, then.
    pub(super) leaving_ns: Option<u64>,
    /// It is being killed: for which task, at which of its items, and why.
    pub(super) doomed: Option<(u64, u32, Reason)>,
    pub(super) burying: bool,
    /// It has ended with that, and what it has printed is not all written yet.
    pub(super) exitcode: Option<i32>,
    /// What it has printed is not written yet: what it says after that has to wait.
    pub(super) is_speaking: bool,
    pub(super) meter: Meter,
    pub(super) started_ns: u64,
    pub(super) pid: i32,
}

/// A function, or a set of context variables, as it goes to the workers.
pub struct Definition<B> {
    pub(super) items: Arc<[u8]>,
    pub(super) blocks: Vec<B>,
}

pub struct State<R: Receiver, L: Lender> {
    pub(super) workers: BTreeMap<u32, Worker<R, L::Block>>,
    pub(super) pending: VecDeque<Task<R, L::Block>>,
    pub(super) functions: HashMap<u32, Definition<L::Block>>,
    pub(super) contexts: HashMap<u32, Definition<L::Block>>,
    pub(super) forgotten: Arc<Forgotten>,
    /// Items without an outcome.
    pub(super) outstanding: usize,
    pub(super) serial: u64,
    /// How long an item takes, of late; 0: not known.
    pub(super) mean_ns: f64,
    pub(super) closed: bool,
    pub(super) broken: Option<Arc<str>>,
    pub(super) false_starts: u32,
    /// Whether any task ever had a time limit.
    pub(super) has_limits: bool,
    /// Workers that are to be started.
    pub(super) needed: usize,
    pub(super) max_workers: usize,
    pub(super) max_tasks: Option<u64>,
    /// The worker that got the last task.
    pub(super) last: Option<u32>,
    pub(super) chores: VecDeque<Chore<R>>,
    pub(super) outputs: VecDeque<Output>,
    /// What is being written: another thread would write the next one into it, or before it.
    pub(super) writing: Option<Writing>,
    /// The driver was told to have outputs written, and who does it has not said that it is done.
    pub(super) is_writer_called: bool,
    pub(super) duties: VecDeque<Duty>,
    pub(super) body: Vec<u8>,
}

impl<R: Receiver, L: Lender> State<R, L> {
    /// Whether this thread is in the `write` of what workers print to, which asks the pool for
    /// something: then nothing can wait for that to come back.
    pub(super) fn is_within_write(&self) -> bool {
        self.writing.as_ref().is_some_and(|it| it.thread == std::thread::current().id())
    }

    /// The next output, which this thread is to write; `None`: there is none, or another is at
    /// one.
    pub(super) fn take_output(&mut self) -> Option<Output> {
        if self.writing.is_some() {
            return None;
        }
        let output = self.outputs.pop_front()?;
        let Output { worker, started_ns, .. } = output;
        self.writing = Some(Writing { thread: std::thread::current().id(), worker, started_ns });
        Some(output)
    }

    /// Whether there is an output that nobody is about to write.
    pub(super) fn wants_writer(&self) -> bool {
        !self.outputs.is_empty() && self.writing.is_none() && !self.is_writer_called
    }
}

impl<R: Receiver, B: Copy> Worker<R, B> {
    /// Whether it has said something that may be looked at; `all`: whatever it is.
    pub(super) fn has_mail(&mut self, all: bool) -> bool {
        (all || !self.is_speaking) && self.link.has_mail()
    }

    /// Whether it may be sent tasks.
    pub(super) fn is_usable(&self) -> bool {
        self.leaving_ns.is_none() && self.lives()
    }

    /// Whether it may be sent tasks, and what it says of them is listened to now.
    pub(super) fn is_heard(&self) -> bool {
        self.is_usable() && !self.is_speaking
    }

    /// Whether it has not ended, and is not being killed.
    pub(super) fn lives(&self) -> bool {
        self.doomed.is_none() && !self.burying
    }

    /// Takes back the task at that place of `sent`, unless it has begun.
    pub(super) fn take_back(&mut self, at: usize) -> Option<Task<R, B>> {
        if !self.link.take_back(self.sent[at].position) {
            return None;
        }
        let sent = self.sent.remove(at)?;
        self.items -= sent.task.head.count as usize;
        self.left = self.left.map(|left| left + u64::from(sent.task.head.count));
        let mut task = sent.task;
        self.link.read_back(sent.position, sent.length, &mut task.items);
        Some(task)
    }
}
