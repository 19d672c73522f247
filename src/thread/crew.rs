//! A crew of worker threads, and the lanes of jobs that they serve.
//!
//! Algorithm: a *lane* is a FIFO of jobs that at most `limit` workers serve at once. Whoever
//! puts a job into a lane with a free place takes that place and queues a *call* for a
//! worker; a worker answers a call, serves its lane until that is empty, gives the place
//! back and answers the next call, or parks. So a lane's burst costs one wake-up a worker,
//! and lanes never wait for each other's workers (nested maps cannot starve).
//!
//! The crew starts no thread: `put` tells its caller to, because a thread that runs Python
//! must be CPython's own (one of Rust's is unwound through Rust frames at interpreter
//! exit, which aborts the process).
//!
//! No wake-up is missed: calls and the count of parked workers are under one mutex, and a
//! place is given back under the lane's, in the same critical section that saw it empty.

use crate::error::locked;
use crate::sync::graph;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

/// Parked workers that are kept for the next burst; above that they end.
const PARKED: usize = 64;

pub struct Crew<J> {
    state: Mutex<State<J>>,
    called: Condvar,
}

struct State<J> {
    calls: VecDeque<Arc<Lane<J>>>,
    parked: usize,
}

pub struct Lane<J> {
    limit: usize,
    state: Mutex<LaneState<J>>,
}

struct LaneState<J> {
    jobs: VecDeque<J>,
    serving: usize,
}

/// What the caller of [`Crew::put`] has to do.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Put {
    /// Nothing: a worker will come.
    Queued,
    /// Start one more worker, or call [`Crew::retract`] when that fails.
    NeedsWorker,
}

impl<J> Lane<J> {
    pub fn new(limit: usize) -> Arc<Self> {
        let state = LaneState { jobs: VecDeque::new(), serving: 0 };
        Arc::new(Self { limit, state: Mutex::new(state) })
    }

    /// The next job; without one the worker's place is given back.
    fn next(&self) -> Option<J> {
        let mut state = locked(&self.state);
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.serving -= 1;
        }
        job
    }
}

impl<J> Default for Crew<J> {
    fn default() -> Self {
        let state = State { calls: VecDeque::new(), parked: 0 };
        Self { state: Mutex::new(state), called: Condvar::new() }
    }
}

impl<J> Crew<J> {
    pub fn put(&self, lane: &Arc<Lane<J>>, job: J) -> Put {
        {
            let mut state = locked(&lane.state);
            state.jobs.push_back(job);
            if state.serving >= lane.limit {
                return Put::Queued;
            }
            state.serving += 1;
        }
        let mut state = locked(&self.state);
        state.calls.push_back(Arc::clone(lane));
        graph::work_given(1);
        // A woken worker counts as parked until it has taken its call, so compare the two
        // counts: each call beyond the parked ones needs a worker of its own.
        if state.calls.len() > state.parked {
            return Put::NeedsWorker;
        }
        drop(state);
        self.called.notify_one();
        Put::Queued
    }

    /// After `NeedsWorker`, when no thread could be started: takes one call back. Gives back
    /// the job that nobody would run now; `None`: another worker serves the lane.
    pub fn retract(&self, lane: &Arc<Lane<J>>) -> Option<J> {
        {
            let mut state = locked(&self.state);
            let call = state.calls.iter().rposition(|called| Arc::ptr_eq(called, lane))?;
            state.calls.remove(call);
            graph::work_given(-1);
        }
        let mut state = locked(&lane.state);
        state.serving -= 1;
        if state.serving == 0 { state.jobs.pop_back() } else { None }
    }

    /// A worker's next job; waits for one. `lane` is the worker's own memory of what it
    /// serves. `None`: enough others are parked, this worker should end.
    pub fn take(&self, lane: &mut Option<Arc<Lane<J>>>) -> Option<J> {
        loop {
            if let Some(job) = lane.as_ref().and_then(|lane| lane.next()) {
                return Some(job);
            }
            *lane = None;
            let mut state = locked(&self.state);
            while state.calls.is_empty() {
                if state.parked >= PARKED {
                    return None;
                }
                state.parked += 1;
                let _idle = graph::idle();
                state = self.called.wait(state).unwrap_or_else(|held| held.into_inner());
                state.parked -= 1;
            }
            *lane = state.calls.pop_front();
            graph::work_given(-1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    type Job = Box<dyn FnOnce() + Send>;

    fn start_worker(crew: &Arc<Crew<Job>>) {
        let crew = Arc::clone(crew);
        std::thread::spawn(move || {
            let mut lane = None;
            while let Some(job) = crew.take(&mut lane) {
                job();
            }
        });
    }

    #[test]
    fn runs_every_job_with_at_most_limit_at_once() {
        let (crew, lane) = (Arc::new(Crew::<Job>::default()), Lane::new(3));
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
            if crew.put(&lane, job) == Put::NeedsWorker {
                start_worker(&crew);
            }
        }
        drop(done);
        let mut seen: Vec<i32> = results.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[test]
    fn a_lane_does_not_wait_for_another_lanes_workers() {
        let crew = Arc::new(Crew::<Job>::default());
        let (release, blocked) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let blocker: Job = Box::new(move || blocked.recv().unwrap());
        assert_eq!(crew.put(&Lane::new(1), blocker), Put::NeedsWorker);
        start_worker(&crew);
        let quick: Job = Box::new(move || done.send(()).unwrap());
        if crew.put(&Lane::new(1), quick) == Put::NeedsWorker {
            start_worker(&crew);
        }
        finished.recv().unwrap();
        release.send(()).unwrap();
    }

    #[test]
    fn retract_gives_the_job_back_when_nobody_serves_the_lane() {
        let (crew, lane) = (Crew::<u8>::default(), Lane::new(2));
        assert_eq!(crew.put(&lane, 1), Put::NeedsWorker);
        assert_eq!(crew.put(&lane, 2), Put::NeedsWorker);
        assert_eq!(crew.retract(&lane), None); // the first call still stands
        assert_eq!(crew.take(&mut None), Some(1));
    }
}
