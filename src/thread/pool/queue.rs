//! The queue of a pool of threads: who takes which job, and when a thread is to be started.
//!
//! Algorithm: one FIFO of jobs and the counts of threads under one mutex. A thread that finds
//! no job parks on a condition; who puts a job *calls* one that is parked and not called yet,
//! and only if there is none, and room for one more, tells its caller to start a thread. So a
//! burst wakes each thread once, and later jobs wake nobody while all are awake.
//!
//! A thread that will have nothing to do says so ([`Queue::announce`]) before it hands over its
//! last result: who got that and puts the next job calls this thread rather than starting
//! another. If it comes to do something else first, it takes that back ([`Queue::retire_call`]).
//!
//! A thread that is blocked by a job ([`Queue::block`]) makes room for one more: threads above
//! the limit end when they find nothing to do.
//!
//! The queue starts no thread itself, because one that runs Python needs the interpreter for
//! that. No wake-up is missed: jobs, calls and parked threads are under the same mutex. Jobs that
//! are dropped are handed back: dropping one may run Python code, which no lock may be held for.

use crate::error::locked;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

/// Below so many dead jobs a queue is not searched for them.
const FEW: usize = 32;

pub struct Queue<J> {
    limit: usize,
    state: Mutex<State<J>>,
    called: Condvar,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Jobs in the queue that were done or withdrawn behind its back.
    dead: usize,
    /// Threads that there are or that are being started.
    threads: usize,
    /// Of these, those that are blocked by a job.
    blocked: usize,
    /// Those that wait, or will at once, for a call.
    parked: usize,
    /// Calls that no thread has answered yet; at most `parked`.
    calls: usize,
    end: Option<End>,
}

/// Why a queue takes no more jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Broken,
}

/// What the caller of [`Queue::put`] has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Put<J> {
    /// Nothing: a thread will come.
    Queued,
    /// Start one more thread, or call [`Queue::retract`] when that fails.
    NeedsThread,
    /// The job was not taken.
    Refused(End, J),
}

/// What a thread has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<J> {
    /// A job, and whether it was the last one.
    Job(J, bool),
    /// Call [`Queue::park`], then ask again.
    Park,
    /// End: the queue has ended, or there are threads enough.
    Leave,
}

impl<J> State<J> {
    /// Whether somebody has to start a thread, for a job that has just come or has lost its
    /// thread; `called` is told when one that is parked was called instead.
    fn call(&mut self, limit: usize, called: &Condvar) -> bool {
        if self.parked > self.calls {
            self.calls += 1;
            called.notify_one();
            return false;
        }
        let needed = self.threads < limit + self.blocked;
        if needed {
            self.threads += 1;
        }
        needed
    }

    fn unpark(&mut self) {
        self.parked -= 1;
        self.calls = self.calls.min(self.parked);
    }
}

impl<J> Queue<J> {
    pub fn new(limit: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            dead: 0,
            threads: 0,
            blocked: 0,
            parked: 0,
            calls: 0,
            end: None,
        };
        Self { limit, state: Mutex::new(state), called: Condvar::new() }
    }

    pub fn put(&self, job: J) -> Put<J> {
        let mut state = locked(&self.state);
        if let Some(end) = state.end {
            return Put::Refused(end, job);
        }
        state.jobs.push_back(job);
        match state.call(self.limit, &self.called) {
            true => Put::NeedsThread,
            false => Put::Queued,
        }
    }

    /// After `NeedsThread`, when no thread could be started. Gives back the jobs, if nobody is
    /// left to run them.
    pub fn retract(&self) -> Vec<J> {
        let mut state = locked(&self.state);
        state.threads -= 1;
        if state.threads > 0 { Vec::new() } else { state.jobs.drain(..).collect() }
    }

    /// For a thread: its next job. `announced`: what [`Queue::announce`] said.
    pub fn next(&self, announced: bool) -> Next<J> {
        let mut state = locked(&self.state);
        if let Some(job) = state.jobs.pop_front() {
            if announced {
                state.unpark();
            }
            return Next::Job(job, state.jobs.is_empty());
        }
        state.dead = 0;
        if state.end.is_some() || state.threads > self.limit + state.blocked {
            if announced {
                state.unpark();
            }
            state.threads -= 1;
            return Next::Leave;
        }
        if !announced {
            state.parked += 1;
        }
        Next::Park
    }

    /// A thread is about to hand over its result. True: it has nothing else to do, and counts as
    /// parked.
    pub fn announce(&self) -> bool {
        let mut state = locked(&self.state);
        let idle = state.jobs.is_empty() && state.end.is_none();
        if idle {
            state.parked += 1;
        }
        idle
    }

    /// A thread that has announced itself has something to do after all. True: start a thread,
    /// since it was called meanwhile.
    pub fn retire_call(&self) -> bool {
        let mut state = locked(&self.state);
        let was_called = state.calls == state.parked;
        state.unpark();
        was_called && !state.jobs.is_empty() && state.call(self.limit, &self.called)
    }

    /// Waits until the thread is called, or the queue has ended.
    pub fn park(&self) {
        let mut state = locked(&self.state);
        while state.calls == 0 && state.end.is_none() {
            state = self.called.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.calls = state.calls.saturating_sub(1);
        state.unpark();
    }

    /// A job blocks its thread until [`Queue::unblock`]. True: start a thread.
    pub fn block(&self) -> bool {
        let mut state = locked(&self.state);
        state.blocked += 1;
        !state.jobs.is_empty() && state.call(self.limit, &self.called)
    }

    pub fn unblock(&self) {
        locked(&self.state).blocked -= 1;
    }

    /// A job in the queue was done or withdrawn; `is_dead` says of which that is true. Returns
    /// those that are taken out: half of the queue at least, so that each costs little.
    pub fn died(&self, is_dead: impl Fn(&J) -> bool) -> Vec<J> {
        let mut state = locked(&self.state);
        state.dead += 1;
        if state.dead < FEW || state.dead * 2 < state.jobs.len() {
            return Vec::new();
        }
        state.dead = 0;
        let (dead, jobs) = state.jobs.drain(..).partition(is_dead);
        state.jobs = VecDeque::from_iter::<Vec<J>>(jobs);
        dead
    }

    /// Takes no more jobs. Threads leave when there are none; the jobs that it returns will not be
    /// run (`drain`).
    pub fn end(&self, end: End, drain: bool) -> Vec<J> {
        let mut state = locked(&self.state);
        if state.end != Some(End::Broken) {
            state.end = Some(end);
        }
        self.called.notify_all();
        if drain { state.jobs.drain(..).collect() } else { Vec::new() }
    }

    /// A thread leaves without having asked for a job.
    pub fn left(&self) {
        locked(&self.state).threads -= 1;
    }

    pub fn ended(&self) -> Option<End> {
        locked(&self.state).end
    }

    /// Jobs that wait, the dead ones among them included.
    pub fn len(&self) -> usize {
        locked(&self.state).jobs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    type Job = Box<dyn FnOnce() + Send>;

    fn start(queue: &Arc<Queue<Job>>) {
        let queue = Arc::clone(queue);
        std::thread::spawn(move || {
            let mut announced = false;
            loop {
                match queue.next(announced) {
                    Next::Job(job, _) => {
                        job();
                        announced = queue.announce();
                        continue;
                    }
                    Next::Park => queue.park(),
                    Next::Leave => return,
                }
                announced = false;
            }
        });
    }

    fn put(queue: &Arc<Queue<Job>>, job: Job) {
        match queue.put(job) {
            Put::Queued => {}
            Put::NeedsThread => start(queue),
            Put::Refused(end, _) => panic!("{end:?}"),
        }
    }

    #[test]
    fn runs_every_job_with_at_most_limit_at_once() {
        for _ in 0..20 {
            let queue = Arc::new(Queue::<Job>::new(3));
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (done, results) = mpsc::channel();
            for index in 0..500 {
                let (now, most, done) = (Arc::clone(&now), Arc::clone(&most), done.clone());
                let job: Job = Box::new(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    done.send(index).unwrap();
                });
                put(&queue, job);
            }
            drop(done);
            let mut seen: Vec<i32> = results.iter().collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..500).collect::<Vec<_>>());
            assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
            queue.end(End::Closed, false);
        }
    }

    #[test]
    fn a_thread_that_has_announced_itself_is_called() {
        let queue = Queue::new(4);
        assert_eq!(queue.put(1), Put::NeedsThread);
        assert_eq!(queue.next(false), Next::Job(1, true));
        assert!(queue.announce());
        assert_eq!(queue.put(2), Put::Queued);
        assert_eq!(queue.put(3), Put::NeedsThread);
        assert_eq!(queue.next(true), Next::Job(2, false));
    }

    #[test]
    fn a_call_that_is_not_answered_goes_to_another() {
        let queue = Queue::new(2);
        assert_eq!(queue.put(1), Put::NeedsThread);
        assert_eq!(queue.next(false), Next::Job(1, true));
        assert!(queue.announce());
        assert_eq!(queue.put(2), Put::Queued);
        assert!(queue.retire_call());
        assert_eq!(queue.next(false), Next::Job(2, true)); // the new thread's
    }

    #[test]
    fn a_blocked_thread_makes_room_until_it_goes_on() {
        let queue = Queue::new(1);
        assert_eq!(queue.put(1), Put::NeedsThread);
        assert_eq!(queue.next(false), Next::Job(1, true));
        assert_eq!(queue.put(2), Put::Queued);
        assert!(queue.block());
        assert_eq!(queue.next(false), Next::Job(2, true));
        queue.unblock();
        assert_eq!(queue.next(false), Next::Leave);
        assert_eq!(queue.next(false), Next::Park);
    }

    #[test]
    fn dead_jobs_do_not_pile_up() {
        let queue = Queue::new(1);
        let mut handed_back = 0;
        for job in 0..1000 {
            let _ = queue.put(job);
            handed_back += queue.died(|_| true).len();
        }
        assert!(handed_back > 900);
        assert!(queue.len() < 100);
    }

    #[test]
    fn after_the_end_jobs_are_refused_and_threads_leave() {
        let queue = Queue::new(2);
        assert_eq!(queue.put(1), Put::NeedsThread);
        assert!(queue.end(End::Closed, false).is_empty());
        assert_eq!(queue.put(2), Put::Refused(End::Closed, 2));
        assert_eq!(queue.next(false), Next::Job(1, true));
        assert_eq!(queue.next(false), Next::Leave);
    }

    #[test]
    fn a_thread_that_could_not_be_started_leaves_its_jobs_to_others_if_there_are_any() {
        let queue = Queue::new(2);
        assert_eq!(queue.put(1), Put::NeedsThread);
        assert_eq!(queue.put(2), Put::NeedsThread);
        assert!(queue.retract().is_empty());
        assert_eq!(queue.retract(), [1, 2]);
    }
}
