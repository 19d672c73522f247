"""What a run cost: wall and CPU time, and what the serial run was bound by.

CPU time is read from the kernel's own clocks, of the workers too. Nothing here estimates:
what a machine cannot tell is None.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .sessions import SerialSession, Session

__all__ = ["Cost", "dispatch_cost", "gil_held_share", "measured"]


@dataclass
class Cost:
    """One run's cost, in seconds.

    Attributes:
        wall: on the clock on the wall.
        cpu: on all cores together, worker processes and the parent included.
        worker_cpu: of that, what the workers used.
        preempted: how long the calling thread could have run but another had its core; 0 where
            the kernel doesn't tell.
    """

    wall: float = 0.0
    cpu: float = 0.0
    worker_cpu: float = 0.0
    preempted: float = 0.0


def _process_clock(process: BaseProcess) -> float:
    """The CPU time of another process, from its clock: the kernel numbers it by its pid."""
    try:
        return time.clock_gettime((~(process.pid or 0) << 3) | 2)
    except (OSError, AttributeError):  # it has ended, or this is no POSIX system
        return 0.0


def _preempted() -> float:
    try:
        text = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text()
        return int(text.split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


@contextlib.contextmanager
def measured(session: Session) -> Iterator[Cost]:
    """Measure what happens inside the ``with``, on this session's workers."""
    cost = Cost()
    waited = _preempted()
    children = sum(map(_process_clock, session.processes))
    process, thread = time.process_time(), time.thread_time()
    start = time.perf_counter()
    yield cost
    cost.wall = time.perf_counter() - start
    thread, process = time.thread_time() - thread, time.process_time() - process
    children = sum(map(_process_clock, session.processes)) - children
    cost.preempted = _preempted() - waited
    cost.cpu = process + children
    if session.processes:
        cost.worker_cpu = children
    elif isinstance(session, SerialSession):
        cost.worker_cpu = thread
    else:
        cost.worker_cpu = max(0.0, process - thread)


def _nothing(item: object) -> object:
    return item


def dispatch_cost(tasks: int = 500) -> float:
    """Seconds that it takes to hand one task that does nothing to a thread, and get it back."""
    with ThreadPoolExecutor(1) as executor:
        list(executor.map(_nothing, range(10)))
        start = time.perf_counter()
        list(executor.map(_nothing, range(tasks)))
        return (time.perf_counter() - start) / tasks


def gil_held_share(
    task: Callable[[Any], Any], items: Sequence[Any], seconds: float = 0.25
) -> tuple[float, int] | None:
    """At which share of moments, while tasks run, another thread would have had to wait.

    A second thread sleeps for a millisecond again and again. If the tasks run bytecode, it gets
    the GIL back only after the switch interval; if they have released it (in C, or waiting),
    at once.

    Args:
        task: called with the items, round and round, in this thread.
        items: at least one.
        seconds: for how long to sample; a single long task may take longer.

    Returns:
        The share, and the number of samples; None on an interpreter without a GIL, or when
        there were too few samples to tell.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    late: list[bool] = []
    stop = False
    limit = sys.getswitchinterval() / 2

    def sample() -> None:
        while not stop:
            start = time.perf_counter()
            time.sleep(0.001)
            late.append(time.perf_counter() - start - 0.001 > limit)

    sampler = threading.Thread(target=sample, name="plait-lab-gil", daemon=True)
    sampler.start()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for item in items:
                task(item)
                if time.perf_counter() >= end:
                    break
    finally:
        stop = True
        sampler.join()
    return (sum(late) / len(late), len(late)) if len(late) >= 20 else None
