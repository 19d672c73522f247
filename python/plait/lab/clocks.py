"""What a run cost: wall and CPU time, and what the serial run was bound by.

CPU time is read from the kernel's own clocks, of the workers too. Nothing here estimates:
what a machine cannot tell is None.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._meter import process_delay, run_delay
from .sessions import SerialSession, Session

__all__ = ["Cost", "Profile", "dispatch_cost", "measured", "profile", "sampled"]


@dataclass
class Cost:
    """One run's cost, in seconds.

    Attributes:
        wall: on the clock on the wall.
        cpu: on all cores together, worker processes and the parent included.
        worker_cpu: of that, what the workers used.
        preempted: how long the only worker could have run but another had its core; 0 where
            there are several, or the kernel doesn't tell.
        beside: what other threads of this process, and processes that it waited for, used of the
            CPU while the only worker ran.
        busy: the workers' time in tasks; 0 here and below where they have no meters.
        busy_cpu: of that, on the CPU.
        delayed: of that, ready to run, but with no core to run on.
        pickling: the workers' time that went into pickling and unpickling.
        idle: the workers' time after their last task, and that of workers that had none.
        metered: how many workers' meters this is from.
    """

    wall: float = 0.0
    cpu: float = 0.0
    worker_cpu: float = 0.0
    preempted: float = 0.0
    beside: float = 0.0
    busy: float = 0.0
    busy_cpu: float = 0.0
    delayed: float = 0.0
    pickling: float = 0.0
    idle: float = 0.0
    metered: int = 0


def _process_clock(pid: int) -> float:
    """The CPU time of another process, from its clock: the kernel numbers it by its pid."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, AttributeError):  # it has ended, or this is no POSIX system
        return 0.0


def _thread_clock(thread: int) -> float:
    """The CPU time of a thread of this process, by its native id."""
    try:
        return time.clock_gettime((~thread << 3) | 6)
    except (OSError, AttributeError):
        return 0.0


def _preempted(session: Session) -> float:
    """How long its only worker was ready to run, but had no core, so far."""
    if session.lanes != 1:
        return 0.0
    return sum(map(run_delay, session.threads)) + sum(map(process_delay, session.pids))


def _reaped() -> float:
    """The CPU time of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


@contextlib.contextmanager
def measured(session: Session) -> Iterator[Cost]:
    """Measure what happens inside the ``with``, on this session's workers."""
    cost = Cost()
    before = sum(each["delayed"] for each in session.spent())
    pids = session.pids
    waited, reaped = _preempted(session), _reaped()
    workers = sum(map(_thread_clock, session.threads))
    children = sum(map(_process_clock, pids))
    process, thread = time.process_time(), time.thread_time()
    start = time.perf_counter()
    yield cost
    end = time.perf_counter()
    cost.wall = end - start
    thread, process = time.thread_time() - thread, time.process_time() - process
    children = sum(map(_process_clock, pids)) - children
    workers = sum(map(_thread_clock, session.threads)) - workers
    cost.preempted = _preempted(session) - waited
    cost.cpu = process + children
    if pids:
        cost.worker_cpu = children
    elif session.by_threads_alone:
        cost.worker_cpu = workers
        in_here = 0.0 if isinstance(session, SerialSession) else thread
        cost.beside = max(0.0, process - workers - in_here) + _reaped() - reaped
    else:
        cost.worker_cpu = max(0.0, process - thread)
    meters = [each for each in session.spent() if each["chunks"]]
    cost.metered = len(meters)
    for each in meters:
        cost.busy += each["busy"]
        cost.busy_cpu += each["cpu"]
        cost.delayed += each["delayed"]
        cost.pickling += each["pickling"]
        cost.idle += max(0.0, end - each["last"])
    if meters:
        cost.delayed = max(0.0, cost.delayed - before)
        cost.idle += cost.wall * max(0, session.lanes - len(meters))


_STATES = (
    "gil",
    "nogil",
    "wait_gil",
    "wait_lock",
    "wait_io",
    "sleep",
    "idle",
    "unknown",
    "delayed",
)


@contextlib.contextmanager
def sampled(session: Session, wanted: bool) -> Iterator[dict[str, float] | None]:
    """Look what a session's threads in this process do meanwhile.

    Yields:
        Filled at the end: seconds in each state, all its threads together; None if it isn't
        wanted, or there is nothing to look with.
    """
    if not wanted or not sys.platform.startswith("linux") or not session.threads:
        yield None
        return
    found: dict[str, float] = {}
    try:
        from .._core import Sampler

        sampler = Sampler(hz=1000.0)
    except (ImportError, OSError, RuntimeError):  # no /proc, no thread to be had
        yield None
        return
    try:
        yield found
    finally:
        sampler.stop()
        totals = sampler.totals()
        for thread in session.threads:
            for state, spent in zip(_STATES, totals.get(thread, ()), strict=False):
                found[state] = found.get(state, 0.0) + spent / 1e9


def _nothing(item: object) -> object:
    return item


def dispatch_cost(tasks: int = 500) -> float:
    """Seconds that it takes to hand one task that does nothing to a thread, and get it back."""
    with ThreadPoolExecutor(1) as executor:
        list(executor.map(_nothing, range(10)))
        start = time.perf_counter()
        list(executor.map(_nothing, range(tasks)))
        return (time.perf_counter() - start) / tasks


@dataclass(frozen=True)
class Profile:
    """What serial's thread was seen doing while it ran tasks, as shares.

    Attributes:
        samples: how many moments were looked at.
        gil: running, and another thread would have had to wait for the GIL.
        nogil: running with the GIL released.
        lock: waiting in a futex, which is what locks are made of.
        io: waiting in any other system call, or asleep.
        asked: whether the kernel told in which call it waited; else all waiting counts as io.
    """

    samples: int
    gil: float
    nogil: float
    lock: float
    io: float
    asked: bool

    @property
    def gil_of_running(self) -> float:
        """The share of its running time in which it held the GIL."""
        return self.gil / max(1e-9, self.gil + self.nogil)

    @property
    def lock_of_waiting(self) -> float:
        """The share of its waiting time in which it waited for a lock."""
        return self.lock / max(1e-9, self.lock + self.io)


def _reader(thread: int) -> Any:
    """A sampler that reads who holds the GIL, and what threads wait in; None: there is none."""
    try:
        from .._core import Sampler

        Path(f"/proc/self/task/{thread}/syscall").read_bytes()
        sampler = Sampler(hz=1000.0)
    except (ImportError, OSError, RuntimeError):
        return None
    if sampler.source == "read":
        return sampler
    sampler.stop()
    return None


def _profile_by(sampler: Any, session: Session, seconds: float) -> Profile | None:
    """`profile`, by a sampler that has begun."""
    try:
        start = time.perf_counter()
        session.run_for(seconds)
        # Longer where looks are few, as on a busy machine.
        while sampler.cost[0] < 20 and time.perf_counter() - start < 4 * seconds:
            session.run_for(seconds / 4)
    finally:
        sampler.stop()
    spent = dict(zip(_STATES, sampler.totals().get(session.threads[0], ()), strict=False))
    seen = {
        "gil": spent.get("gil", 0),
        "nogil": spent.get("nogil", 0),
        "lock": spent.get("wait_lock", 0),
        "io": sum(spent.get(state, 0) for state in ("wait_io", "sleep", "idle")),
    }
    looks, total = sampler.cost[0], sum(seen.values())
    if looks < 3 or not total:
        return None
    return Profile(looks, **{name: value / total for name, value in seen.items()}, asked=True)


_FUTEX = {"x86_64": "202", "aarch64": "98"}.get(platform.machine(), "none")


def profile(session: Session, seconds: float = 0.25) -> Profile | None:
    """Look at serial's thread from another one, again and again, while it runs tasks.

    By the tracer's sampler, where it can read from the interpreter's memory who holds the GIL.
    Else by a thread of Python's, which sleeps for a millisecond each time. If the tasks run
    bytecode, it gets the GIL back only after the switch interval; if they have released it (in C,
    or waiting), at once, and can then ask the kernel what this thread is doing. So it takes tasks
    that release the GIL for a moment, but often, for such that go on without it.

    Args:
        session: serial's.
        seconds: for how long to sample; a single long task may take longer.

    Returns:
        What was seen; None on an interpreter without a GIL, or with too few samples to tell.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or not session.job.items:
        return None
    sampler = _reader(session.threads[0])
    if sampler is not None:
        return _profile_by(sampler, session, seconds)
    seen: dict[str, float] = {"gil": 0.0, "nogil": 0.0, "lock": 0.0, "io": 0.0}
    looks = 0
    asked = stop = False
    limit = sys.getswitchinterval() / 2
    where = f"/proc/self/task/{session.threads[0]}/"
    syscall_file = where + "syscall"

    def look() -> str:
        nonlocal asked
        try:
            with open(syscall_file) as file:
                call = file.read().split(None, 1)[0]
            asked = True
        except (OSError, IndexError):
            try:
                with open(where + "stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                return "nogil"
            return "nogil" if state == "R" else "io"
        if call == "running":
            return "nogil"
        return "lock" if call == _FUTEX else "io"

    def sample() -> None:
        nonlocal looks
        while not stop:
            start, before = time.perf_counter(), run_delay()
            time.sleep(0.001)
            # Waiting for a core that another program has is not waiting for the GIL.
            woken = time.perf_counter() - start - (run_delay() - before)
            # A look that came late stands for all the time that it waited for.
            seen["gil" if woken - 0.001 > limit else look()] += max(woken, 0.001)
            looks += 1

    sampler = threading.Thread(target=sample, name="plait-lab-gil", daemon=True)
    sampler.start()
    try:
        start = time.perf_counter()
        session.run_for(seconds)
        # Longer where looks are few: on a busy machine, or if tasks keep the GIL for long.
        while looks < 20 and time.perf_counter() - start < 4 * seconds:
            session.run_for(seconds / 4)
    finally:
        stop = True
        sampler.join()
    total = sum(seen.values())
    if looks < 3:
        return None
    return Profile(looks, **{name: value / total for name, value in seen.items()}, asked=asked)
