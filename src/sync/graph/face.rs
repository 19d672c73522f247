//! What of the graph needs Python: who the parties are, whether anyone else runs, and the error.
//! The words are `plait._deadlocks`'s.
//!
//! All of it is called by a party that is about to sleep, or was woken for nothing, with no lock
//! held; only when the engine has found a cycle, or all that it knows of stands still.

use super::search::{Homes, Verdict, judge_all};
use super::waits::{Guard, State, Wait};
use super::watch::{Place, Refused, Watched, before_wait, has_looked_up};
use super::{Needs, Summons, Waited, waits};
use crate::aio::bridge::{running_loop, runs_loops};
use crate::os::is_main_thread;
use crate::sync::party::Party;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The objects of a wait.
#[derive(Default)]
pub struct Tag {
    /// What is waited for.
    object: Option<Py<PyAny>>,
    task: Option<Py<PyAny>>,
    event_loop: Option<Py<PyAny>>,
}

/// What Python is told of a wait: party, task, event loop, kind, address, object, whom it needs
/// (`None`: nobody in particular), seconds, whether it could go on.
type Record = (
    u64,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
    Option<&'static str>,
    usize,
    Option<Py<PyAny>>,
    Option<Vec<u64>>,
    f64,
    bool,
);

thread_local! {
    /// Where the calling thread is about to wait.
    static HERE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// How long a loop that may stand still is given before it is looked at: asyncio doesn't tell when
/// a loop has nothing more to do.
const LOOK: Duration = Duration::from_millis(50);

/// How many threads Python has, when this was last looked at.
static THREADS: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Tag {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        let copy = |one: &Option<Py<PyAny>>| one.as_ref().map(|one| one.clone_ref(py));
        Self {
            object: copy(&self.object),
            task: copy(&self.task),
            event_loop: copy(&self.event_loop),
        }
    }
}

fn count_threads(py: Python<'_>) {
    static ACTIVE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    if let Ok(active) = ACTIVE.import(py, "threading", "_active") {
        THREADS.store(active.len(), Ordering::Relaxed);
    }
}

/// While it lives, waits of this thread are for that object.
pub struct Here(());

impl Drop for Here {
    fn drop(&mut self) {
        let left = HERE.with(RefCell::take);
        drop(left);
    }
}

/// Called by a thread that is about to wait, attached.
pub fn here(py: Python<'_>, object: Option<&Bound<'_, PyAny>>) -> Here {
    count_threads(py);
    let object = object.map(|object| object.clone().unbind());
    let mut place = Place { event_loop: 0, alias: None, tag: Tag { object, ..Tag::default() } };
    if runs_loops()
        && let Ok(Some(event_loop)) = running_loop(py)
    {
        place.event_loop = event_loop.as_ptr().addr();
        if let Ok(Some(task)) = crate::sync::face::current_task(py) {
            place.alias = Some(Party::task(task.as_ptr().addr()));
        }
        place.tag.event_loop = Some(event_loop.unbind());
    }
    HERE.set(Some(place));
    Here(())
}

pub(super) fn place(party: Party) -> Place {
    let noted = HERE.take();
    if party.is_thread() {
        return noted.unwrap_or(Place { event_loop: 0, alias: None, tag: Tag::default() });
    }
    Python::attach(|py| {
        count_threads(py);
        let mut tag = noted.map_or_else(Tag::default, |noted| noted.tag);
        let task = crate::sync::face::current_task(py).ok().flatten();
        let is_it = |task: &Bound<'_, PyAny>| Party::task(task.as_ptr().addr()) == party;
        tag.task = task.filter(is_it).map(Bound::unbind);
        let event_loop = running_loop(py).ok().flatten().filter(|_| tag.task.is_some());
        let address = event_loop.as_ref().map_or(0, |event_loop| event_loop.as_ptr().addr());
        tag.event_loop = event_loop.map(Bound::unbind);
        Place { event_loop: address, alias: None, tag }
    })
}

/// False: there surely is a thread that runs, or a look at the task's loop is under way.
pub(super) fn may_be_alone(party: Party) -> bool {
    waits().with(|state| {
        // Each task may stand for a thread, whose loop is idle.
        let known = state.by_party.len() + state.idle.len();
        known >= THREADS.load(Ordering::Relaxed)
            && if party.is_task() { LOOKED.with(is_due) } else { state.stands_still() }
    })
}

thread_local! {
    /// When a look at the loop of this thread was last asked for, in nanoseconds.
    static LOOKED: AtomicU64 = const { AtomicU64::new(0) };
}

/// At most once in `LOOK`.
fn is_due(looked: &AtomicU64) -> bool {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed() + LOOK;
    let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let before = looked.load(Ordering::Relaxed);
    let due = now - before.min(now) >= LOOK.as_nanos() as u64;
    if due {
        looked.store(now, Ordering::Relaxed);
    }
    due
}

fn record(py: Python<'_>, state: &State, party: Party) -> Record {
    let Some(wait) = state.by_party.get(&party) else {
        return (party.word(), None, None, None, 0, None, None, 0.0, true);
    };
    let Tag { object, task, event_loop } = wait.entry.tag.clone_ref(py);
    let needs = wait.needs();
    let goes_on = matches!(needs, Needs::Nothing | Needs::Outside);
    let needs = match needs {
        Needs::Nothing | Needs::Outside | Needs::Anyone => None,
        Needs::One(one) => Some(vec![one.word()]),
        Needs::All(them) | Needs::Any(them) => Some(them.iter().map(|one| one.word()).collect()),
    };
    let (kind, address) = (wait.entry.waited.kind(), wait.entry.waited.address());
    let seconds = wait.since.elapsed().as_secs_f64();
    (party.word(), task, event_loop, Some(kind), address, object, needs, seconds, goes_on)
}

/// All waits, the longest first, and whatever else belongs to their state.
fn all(py: Python<'_>, state: &State) -> Vec<Record> {
    let mut parties: Vec<&Wait> = state.by_party.values().collect();
    parties.sort_by_key(|wait| wait.key);
    parties.iter().map(|wait| record(py, state, wait.entry.party)).collect()
}

/// Calls a function of `plait._deadlocks`.
fn ask<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = intern!(py, "plait._deadlocks");
    let imported = || py.import(module).map(Bound::unbind);
    let function = MODULE.get_or_try_init(py, imported)?.bind(py).getattr(name)?;
    let arguments = arguments.into_pyobject(py)?;
    function.call1(arguments)
}

/// What has come of a wait that may never end.
pub(super) fn decide(guard: &Guard<'_>, verdict: Verdict) -> Result<(), Refused> {
    let looked = Python::try_attach(|py| {
        match find(py, guard, verdict) {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(Refused { error: PyErr::from_value(error) }),
            // In the main thread it may be a signal handler's, and then it ends the wait.
            Err(error) if !is_main_thread() && error.is_instance_of::<PyException>(py) => {
                error.write_unraisable(py, None); // the wait goes on as it would have
                Ok(())
            }
            Err(error) => Err(Refused { error }), // ^C
        }
    });
    looked.unwrap_or(Ok(())) // the interpreter is gone: the process is about to be
}

fn find<'py>(
    py: Python<'py>,
    guard: &Guard<'_>,
    mut verdict: Verdict,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut homes = Homes::new();
    // Others go on while Python looks at this: what has changed is looked at again, for a while.
    for _ in 0..4 {
        match &verdict {
            Verdict::Runs => return Ok(None),
            Verdict::AskFor(_) => homes = find_homes(py)?,
            Verdict::Alone => return find_alone(py, guard),
            Verdict::Never(parties) => {
                let records: Vec<Record> = waits()
                    .with(|state| parties.iter().map(|party| record(py, state, *party)).collect());
                let error = ask(py, intern!(py, "of_cycle"), (records, guard.party.word()))?;
                if error.is_none() {
                    return Ok(None);
                }
                let now = waits().with(|state| judge_all(state, guard.party, &homes));
                if now == verdict {
                    return Ok(Some(error));
                }
            }
        }
        verdict = waits().with(|state| judge_all(state, guard.party, &homes));
    }
    Ok(None)
}

/// The loops of the tasks whose thread is in a wait.
fn find_homes(py: Python<'_>) -> PyResult<Homes> {
    let blocked: Vec<Py<PyAny>> = waits().with(|state| {
        let threads = state.by_party.values().filter(|wait| wait.entry.party.is_thread());
        let loops = threads.filter_map(|wait| wait.entry.tag.event_loop.as_ref());
        loops.map(|event_loop| event_loop.clone_ref(py)).collect()
    });
    let found = ask(py, intern!(py, "tasks_of"), (blocked,))?;
    let homes: Vec<(usize, usize)> = found.extract()?;
    Ok(homes.into_iter().map(|(task, home)| (Party::task(task), home)).collect())
}

fn find_alone<'py>(py: Python<'py>, guard: &Guard<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let found = if guard.party.is_task() { None } else { alone(py, Some(guard.party))? };
    // Loops have more to do just now: they are looked at again once that is done.
    if found.is_none() && (guard.party.is_task() || is_due(&ASKED)) {
        ask(py, intern!(py, "look_soon"), (LOOK.as_secs_f64(),))?;
    }
    Ok(found.map(|(error, _)| error))
}

/// The error for one who waits, if nothing in the process can go on, and the party it is for:
/// the given one, or the last task that came.
fn alone<'py>(
    py: Python<'py>,
    party: Option<Party>,
) -> PyResult<Option<(Bound<'py, PyAny>, Party)>> {
    let seen = waits().with(|state| {
        let still = state.stands_still() && waits().work.load(Ordering::Acquire) == 0;
        still.then(|| {
            let seats: Vec<(u64, i32)> = state
                .by_party
                .values()
                .filter(|wait| wait.entry.party.is_thread())
                .map(|wait| (wait.entry.party.ident(), wait.seat.native))
                .chain(state.idle.iter().map(|seat| (seat.ident, seat.native)))
                .collect();
            let tasks = state.by_party.values().filter(|wait| wait.entry.party.is_task());
            let last = tasks.max_by_key(|wait| wait.key).map(|wait| wait.entry.party);
            (state.version, seats, all(py, state), party.or(last))
        })
    });
    let Some((version, seats, records, Some(party))) = seen else { return Ok(None) };
    let main = seats.iter().any(|seat| u32::try_from(seat.1) == Ok(std::process::id()));
    if main && !has_looked_up() {
        return Ok(None); // it will, and have this looked at again
    }
    let records = PyList::new(py, records)?;
    if !ask(py, intern!(py, "is_quiet"), (seats, &records))?.extract::<bool>()? {
        return Ok(None);
    }
    let error = ask(py, intern!(py, "of_all"), (records, party.word()))?;
    let same = waits().with(|state| state.version == version && state.stands_still());
    Ok(same.then_some((error, party)))
}

/// Called by a loop that has nothing to do at the moment: refuses the wait of one of its tasks
/// if nothing else in the process can go on either.
#[pyfunction]
pub fn look_for_deadlock(py: Python<'_>) -> PyResult<bool> {
    let Some((error, party)) = alone(py, None)? else { return Ok(false) };
    let waited =
        waits().with(|state| state.by_party.get(&party).map(|wait| Arc::clone(&wait.entry.waited)));
    if let Some(waited) = waited {
        waited.summons().refuse(Refused { error: PyErr::from_value(error) });
        waited.wake();
    }
    Ok(true)
}

/// The waits of this moment that have no time limit. Called once before there is any: what waits
/// need from Python is looked up then, and not by one of them in the midst of another's fork,
/// whose child would wait for the look-up's end for ever.
#[pyfunction]
#[pyo3(signature = () -> "list[Any]")]
pub fn untimed_waits<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
    count_threads(py);
    let records = waits().with(|state| all(py, state));
    PyList::new(py, records)
}

/// Turns the search on or off; gives what it was.
#[pyfunction]
pub fn find_deadlocks(on: bool) -> bool {
    super::enable(on)
}

/// The wait of one that joins a thread or a process, or waits for the result of a task.
struct Join<F> {
    kind: &'static str,
    over: F,
    /// `None`: a process.
    whom: Box<dyn Fn() -> Option<Party> + Send + Sync>,
    summons: Summons,
}

impl<F: Fn() -> bool + Send + Sync> Waited for Join<F> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn needs(&self) -> Needs {
        if (self.over)() {
            return Needs::Nothing;
        }
        (self.whom)().map_or(Needs::Outside, Needs::One)
    }

    fn address(&self) -> usize {
        (self.whom)().map_or(0, |whom| usize::try_from(whom.ident()).unwrap_or(0))
    }

    /// It has nothing to look for: it ends when what is joined does.
    fn wake(&self) {}

    fn summons(&self) -> &Summons {
        &self.summons
    }
}

/// Called by a thread that is about to wait, without a limit, for the end of the thread with this
/// ident; `over` tells whether it has come. `Err`: it never will.
pub fn before_join(
    py: Python<'_>,
    kind: &'static str,
    ident: u64,
    over: impl Fn() -> bool + Send + Sync + 'static,
) -> PyResult<Watched> {
    before_result(py, kind, over, move || Some(Party::thread(ident)))
}

/// As `before_join`; `whom` tells on which thread it depends at the moment, if on any.
pub fn before_result(
    py: Python<'_>,
    kind: &'static str,
    over: impl Fn() -> bool + Send + Sync + 'static,
    whom: impl Fn() -> Option<Party> + Send + Sync + 'static,
) -> PyResult<Watched> {
    let _here = here(py, None);
    let join = || {
        let (whom, summons) = (Box::new(whom), Summons::default());
        Arc::new(Join { kind, over, whom, summons })
    };
    before_wait(Party::this_thread(), || join()).map_err(|refused| refused.error)
}

/// `with JoinsProcess(process):` around a join without a time limit.
#[pyclass(frozen)]
pub struct JoinsProcess {
    process: Py<PyAny>,
    watched: Mutex<Option<Watched>>,
}

#[pymethods]
impl JoinsProcess {
    #[new]
    fn new(process: Py<PyAny>) -> Self {
        Self { process, watched: Mutex::default() }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let _here = here(py, Some(self.process.bind(py)));
        let join = || {
            let (whom, summons) = (Box::new(|| None), Summons::default());
            Arc::new(Join { kind: "Process", over: || false, whom, summons })
        };
        let watched = before_wait(Party::this_thread(), || join());
        let watched = watched.map_err(|refused| refused.error)?;
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(watched);
        Ok(())
    }

    #[pyo3(signature = (*_exc: "object"))]
    fn __exit__(&self, _exc: &Bound<'_, PyAny>) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(watched);
    }
}
