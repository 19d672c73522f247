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
from typing import TYPE_CHECKING, Any

from . import _core
from ._looks import Look, Looker

if TYPE_CHECKING:
    from .lessons.spans import State

__all__ = ["FOLDER", "Task", "Tracing", "begin_child", "current", "label_of"]

FOLDER = "PLAIT_TRACE"  # the environment variable that names the folder of a trace: and its hz

# Kinds of records, as in src/trace; the sampler's are SPAN, THREAD and LOCK.
SPAN, THREAD, LOCK, NAME, WORK, SUBMIT, START, STEP, PAUSE, LOOK, TASK, IDENT, CHILD, OWN = range(
    1, 15
)
STATES: tuple[State, ...] = (
    *("gil", "nogil", "wait_gil", "wait_lock", "wait_io", "sleep", "idle", "unknown"),
)
STATE_NUMBERS: dict[str, int] = {state: number for number, state in enumerate(STATES)}
_PROCESS = 1 << 63  # the arrows to a process's start are numbered by its pid

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
        self.told = f"{hz}:{records}:{folder}"  # to child processes
        self.tasks: dict[int, tuple[int, Any]] = {}  # id -> its number, a reference
        self._numbers = itertools.count(1)
        self._names: dict[str, int] = {}
        path = os.path.join(folder, f"{self.pid}-{now()}.tape")
        self.sampler = _core.Sampler(hz, path, records)
        self.note = self.sampler.note
        steps = self.sampler.steps()
        assert steps is not None  # as there is a tape
        self.steps: _core.Steps = steps
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

    def meet(self, task: Any) -> int:
        """The task's number, which it gets if it has none."""
        key = id(task)
        if (known := self.tasks.get(key)) is not None:
            return known[0]
        number = next(self._numbers)

        steps, tasks = self.steps, self.tasks

        def forget(_: Any) -> None:
            steps.forget(key)
            tasks.pop(key, None)

        tasks[key] = number, weakref.ref(task, forget)
        steps.know(task, number)
        return number

    def first_step(self, task: Any, at: int) -> int:
        """Note that it begins, with its name, which it has got by now; gives its number."""
        number = self.meet(task)
        self.note(TASK, at, id(task), number, self.number(task.get_name()))
        self.note(START, at, at, self.pid << 32 | number)
        return number

    def place(self, coroutine: Any) -> tuple[int, int] | None:
        """What it means that a task waits in this coroutine: what to call it, by its number, and
        the state; None: it depends on what that waits for."""
        found = place_of(coroutine)
        return None if found is None else (self.number(found[1]), STATE_NUMBERS[found[0]])

    def pause(self, task: Any, number: int, since: int, until: int) -> tuple[int, int] | None:
        """Note what a task has waited for since it last ran.

        Returns:
            As `place` does, if that is so whenever such a coroutine waits for such a future.
        """
        state, wait, holder = task_wait(task)
        what, which = self.number(wait), STATE_NUMBERS[state]
        who = self.number(holder) << 32 if holder else 0
        self.note(PAUSE, since, until, number, what | who, which)
        return None if holder else (what, which)

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
        self.steps.stop()
        for key, (number, reference) in list(self.tasks.items()):
            task, since = reference(), self.steps.paused(key)
            if task is not None and since and not task.done():
                self.pause(task, number, since, now())
        self.tasks.clear()
        self.before_fork()


# What a coroutine that waits is at: (module, function) -> the state, and what to call it.
_AWAITS: dict[tuple[str, str], tuple[State, str]] = {
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


def place_of(coroutine: Any) -> tuple[State, str] | None:
    """The state of a task that waits in this coroutine, and what to call that; None: it depends
    on what the coroutine awaits."""
    frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
    if frame is None:
        return None
    module = str(frame.f_globals.get("__name__", ""))
    if (place := _AWAITS.get((module, frame.f_code.co_name))) is not None:
        return place
    if module.startswith(_AWAITS_IO):
        return "wait_io", frame.f_code.co_qualname
    return None


def task_wait(task: Any) -> tuple[State, str, str | None]:
    """The state of a task that is suspended, what it awaits, and whom it waits for."""
    outer: Any = task.get_coro()
    name, inner = "", outer
    for _ in range(200):
        if (place := place_of(inner)) is not None:
            return *place, None
        code = getattr(inner, "cr_code", None) or getattr(inner, "gi_code", None)
        following = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
        name = code.co_qualname if code is not None else name
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
    os.environ[FOLDER] = current.told
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
