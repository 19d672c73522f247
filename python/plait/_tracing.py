"""What runs inside a traced process: its sampler, its looker, and what the hooks note.

Apart from `plait.lab`, which begins a trace and reads what was noted, so that child processes
need not import the lab. Each process writes a tape (a file, see src/trace/tape.rs) of its own in
the trace's folder; so what a killed process noted is kept too.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from . import _core
from ._looks import Look, Looker

__all__ = ["FOLDER", "Task", "Tracing", "begin_child", "current", "label_of"]

FOLDER = "PLAIT_TRACE"  # the environment variable that names the folder of a trace: and its hz

# Kinds of records, as in src/trace; the sampler's are SPAN, THREAD and LOCK.
SPAN, THREAD, LOCK, NAME, WORK, SUBMIT, START, STEP, PAUSE, LOOK, TASK, IDENT, CHILD, OWN = range(
    1, 15
)
STATES = ("gil", "nogil", "wait_gil", "wait_lock", "wait_io", "sleep", "idle", "unknown")
STATE_NUMBERS = {state: number for number, state in enumerate(STATES)}
_PROCESS = 1 << 63  # the arrows to a process's start are numbered by its pid
_PAUSE_NS = 100_000  # of a task; what is shorter is not asked what it waited for

now = time.monotonic_ns
current: Tracing | None = None


def label_of(function: Any) -> str:
    """What to call a piece of work."""
    while True:
        inner = getattr(function, "func", None)  # functools.partial's
        if inner is None:
            break
        if getattr(inner, "__name__", "") == "_process_chunk" and function.args:
            inner = function.args[0]  # of ProcessPoolExecutor.map
        function = inner
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


class Tracing:
    """One process's part of a trace.

    Args:
        folder: where the tapes of all processes go.
        hz: looks a second.
        records: how many records the tape keeps.
    """

    def __init__(self, folder: str, hz: float, records: int) -> None:
        self.folder, self.hz, self.records = folder, hz, records
        self.pid = os.getpid()
        self.tasks: dict[int, list[Any]] = {}  # id -> its number, when it last paused, a reference
        self._numbers = itertools.count(1)
        self._names: dict[str, int] = {}
        path = os.path.join(folder, f"{self.pid}-{now()}.tape")
        self.sampler = _core.Sampler(hz, path, records)
        self.note = self.sampler.note
        for thread in list(threading._active.values()):  # type: ignore[attr-defined]
            self.know(thread)
        self._looker: Looker | None = Looker(self._looked, self._goes_on)

    def number(self, text: str) -> int:
        """A number that stands for this text on the tape."""
        found = self._names.get(text)
        if found is None:
            found = self._names[text] = next(self._numbers)
            self.sampler.name(found, text)
        return found

    def flow(self) -> int:
        """A number for an arrow, no other process's."""
        return self.pid << 32 | next(self._numbers)

    def know(self, thread: threading.Thread) -> None:
        """Note a thread's name."""
        tid, ident = thread.native_id, thread.ident
        if tid is not None and ident is not None:
            self.note(IDENT, now(), 0, ident, self.number(thread.name), 0, tid)

    def _looked(self, tid: int, look: Look) -> None:
        number = self.number
        state = 255 if look.state is None else STATE_NUMBERS[look.state]
        wait = number(look.wait) if look.wait else 0
        holder = number(look.holder) if look.holder else 0
        self.note(LOOK, now(), holder, number(look.doing), wait, state, tid)

    def _goes_on(self) -> bool:
        """In the looker: whether there is still somebody to tell; in a worker that outlives
        the trace there is not."""
        global current
        if os.path.isdir(self.folder):
            at = now()
            self.note(OWN, at, at)
            return True
        if current is self:
            current = None
        self.sampler.stop()
        return False

    # Tasks of asyncio.

    def meet(self, task: Any) -> list[Any]:
        """What is known of a task."""
        known = self.tasks.get(id(task))
        if known is None:
            key, tasks = id(task), self.tasks
            reference = weakref.ref(task, lambda _: tasks.pop(key, None))
            known = tasks[key] = [next(self._numbers), 0, reference]
        return known

    def first_step(self, task: Any, known: list[Any], at: int) -> None:
        """Note that it begins, with its name, which it has got by now."""
        self.note(TASK, at, id(task), known[0], self.number(task.get_name()))
        self.note(START, at, at, self.pid << 32 | known[0])

    def pause(self, task: Any, known: list[Any], until: int) -> None:
        """Note what a task has waited for since it last ran."""
        state, wait, holder = task_wait(task)
        self.note(
            PAUSE,
            known[1],
            until,
            known[0],
            self.number(wait) | (self.number(holder) << 32 if holder else 0),
            STATE_NUMBERS[state],
        )

    # Its life.

    def before_fork(self) -> None:
        """Has no threads of its own: a fork with threads is warned of."""
        if self._looker is not None:
            self._looker.stop()
            self._looker = None
        self.sampler.stop()

    def after_fork(self) -> None:
        """In the parent: goes on."""
        self.sampler.resume()
        self._looker = Looker(self._looked, self._goes_on)

    def stop(self) -> None:
        """End it; what was noted stays in the folder."""
        for thread in list(threading._active.values()):  # type: ignore[attr-defined]
            self.know(thread)
        for known in list(self.tasks.values()):
            task = known[2]()
            if task is not None and known[1] and not task.done():
                self.pause(task, known, now())
        self.before_fork()


# What a coroutine that waits is at: (module, function) -> the state, and what to call it.
_AWAITS: dict[tuple[str, str], tuple[str, str]] = {
    ("asyncio.tasks", "sleep"): ("sleep", "asyncio.sleep"),
    ("asyncio.locks", "acquire"): ("wait_lock", "acquire"),
    ("asyncio.locks", "wait"): ("wait_lock", "wait"),
    ("asyncio.queues", "get"): ("idle", "Queue.get"),
    ("asyncio.queues", "put"): ("wait_lock", "Queue.put"),
    ("asyncio.tasks", "wait"): ("idle", "asyncio.wait"),
    ("asyncio.tasks", "_wait"): ("idle", "asyncio.wait"),
    ("asyncio.tasks", "wait_for"): ("idle", "asyncio.wait_for"),
    ("asyncio.threads", "to_thread"): ("idle", "asyncio.to_thread"),
    ("asyncio.runners", "run"): ("idle", "asyncio.run"),
}
_AWAITS_IO = ("asyncio.streams", "asyncio.base_events", "asyncio.selector_events")


def task_wait(task: Any) -> tuple[str, str, str | None]:
    """The state of a task that is suspended, what it awaits, and whom it waits for."""
    outer: Any = task.get_coro()
    name, inner = "", outer
    for _ in range(200):
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is None:
            break
        name = frame.f_code.co_qualname
        module = str(frame.f_globals.get("__name__", ""))
        place = _AWAITS.get((module, frame.f_code.co_name))
        if place is not None:
            return *place, None
        if module.startswith(_AWAITS_IO):
            return "wait_io", name, None
        following = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
        if following is None:
            break
        inner = following
    waiter: Any = getattr(task, "_fut_waiter", None)
    kind = type(inner if inner is not outer else waiter).__name__
    if kind == "_GatheringFuture" or type(waiter).__name__ == "_GatheringFuture":
        return "idle", "gather", None
    if callable(getattr(waiter, "get_coro", None)):
        return "idle", "await of a task", str(waiter.get_name())
    if name.endswith(("sleep", "interval")):
        return "sleep", name, None
    return "idle", f"await in {name}" if name else "await", None


class Task:
    """A submitted call that notes when, and where, it runs."""

    __slots__ = ("flow", "function", "label")

    def __init__(self, function: Any, flow: int, label: str) -> None:
        self.function, self.flow, self.label = function, flow, label

    def __reduce__(self) -> tuple[Any, ...]:
        return Task, (self.function, self.flow, self.label)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        tracing = current
        if tracing is None:
            return self.function(*args, **kwargs)
        name, began = tracing.number(self.label), now()
        tracing.note(START, began, began, self.flow, name)
        try:
            return self.function(*args, **kwargs)
        finally:
            tracing.note(WORK, began, now(), name)


def begin(folder: str, hz: float, records: int) -> Tracing:
    """Trace this process from now on."""
    from . import _hooks

    global current
    current = Tracing(folder, hz, records)
    os.environ[FOLDER] = f"{hz}:{records}:{folder}"
    _hooks.install(current)
    return current


def end() -> None:
    """Trace this process no longer; again: nothing happens."""
    from . import _hooks

    global current
    tracing, current = current, None
    if tracing is not None:
        _hooks.remove()
        os.environ.pop(FOLDER, None)
        tracing.stop()


def begin_child(told: str | None = None) -> None:
    """In a process that a traced one has started: trace it into the same folder.

    Args:
        told: what the variable `FOLDER` says; None: look there.
    """
    global current
    told = told or os.environ.get(FOLDER)
    if not told or (current is not None and current.pid == os.getpid()):
        return
    hz, records, folder = told.split(":", 2)
    current = None
    if not os.path.isdir(folder):  # the trace has ended meanwhile
        return
    try:
        tracing = begin(folder, float(hz), int(records))
    except OSError:  # a full disk, too many files: it goes untraced
        return
    began = now()
    tracing.note(START, began, began, _PROCESS | os.getpid(), 0)
    atexit.register(end)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        # Its children don't run what atexit has, and forget what was to be done at the end
        # when they begin; the lowest priority comes last.
        util.register_after_fork(tracing, lambda _: util.Finalize(None, end, exitpriority=-1000))


def note_child(tracing: Tracing, pid: int, name: str, began: int) -> None:
    """In the parent: a child has been started."""
    tracing.note(SUBMIT, began, began, _PROCESS | pid, tracing.number(name))
    tracing.note(CHILD, began, began, pid, tracing.number(name))


def submitted(tracing: Tracing, function: Callable[..., Any]) -> Task:
    """The call, wrapped; its submission is noted."""
    flow, label, at = tracing.flow(), label_of(function), now()
    tracing.note(SUBMIT, at, at, flow, tracing.number(label))
    return Task(function, flow, label)
