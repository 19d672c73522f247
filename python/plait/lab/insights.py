"""What the rows don't say by themselves: what bound the work, and where more workers end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..kernels import cpu_count
from .bounds import find_bound, memory_bound
from .clocks import Profile, dispatch_cost, profile
from .machine import ceiling, copying
from .report import Bound, BreakEven, Scaling
from .rounds import Entry
from .runner import Runner
from .sessions import Job, Session, TimedOut
from .shares import Waits
from .turns import silent, take_turn, time_limit

__all__ = ["Insights", "find_insights", "fit_amdahl"]

# A model that takes longer than this, in seconds, is not run again with fewer workers.
_SCALED_S = 3.0
# Nor one whose serial run took longer than this looked at while it runs once more.
_PROFILED_S = 60.0
# A serial run that takes less tells little of a task: they are run again for so long.
_TINY_S, _AGAIN_S = 1e-3, 0.02
_DISPATCHED = ("futures.process", "multiprocessing", "plait.process")


T = TypeVar("T")


@dataclass(frozen=True)
class Insights:
    """What was measured beside the rows."""

    bound: Bound
    waits: Waits
    ceiling: float | None
    break_even: BreakEven | None
    scaling: Scaling | None


def find_insights(entries: list[Entry], job: Job, workers: int, hurried: bool = False) -> Insights:
    """Measure it; serial's runs are there. If hurried, nothing is run with fewer workers."""
    serial = entries[0]
    serial_s = serial.median("wall")
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    seen: Profile | None = None
    dispatch, again = dispatch_cost(), _tiny_task(serial, job)
    task_s = again if again is not None else serial_s / max(1, len(job.items))
    if task_s >= dispatch and serial_s < _PROFILED_S:
        seen = _look_at(serial, job)
    bound = find_bound(serial, task_s, dispatch, seen, has_gil, bool(again))
    cores = min(workers, cpu_count())
    most = ceiling(cores) if cores > 1 else None
    if bound.kind in ("cpu", "cpu-nogil") and cores > 1 and most is not None:
        kinds = ("thread", "native") if bound.kind == "cpu-nogil" or not has_gil else ("native",)
        native = [
            serial_s / entry.median("wall")
            for entry in entries
            if entry.reason is None and entry.model.kind in kinds and entry.language == "python"
        ]
        bound = memory_bound(
            bound, serial, job.items, max(native, default=None), copying(cores), most, has_gil
        )
    waits = Waits.of(serial.middle(), seen, has_gil)
    scaling = None if hurried else _scaling(entries, job, workers, serial_s)
    return Insights(bound, waits, most, _break_even(entries, workers), scaling)


def _tiny_task(serial: Entry, job: Job) -> float | None:
    """What a task takes, if serial's run is too short to tell; 0 if there are none.

    A few that are tiny are done before the caches are warm, or the clock has moved: they are
    run round and round, as `dispatch_cost` runs what it is compared with.
    """
    if serial.median("wall") >= _TINY_S:
        return None
    found = _with_serial(serial, job, lambda session: session.run_for(_AGAIN_S))
    return found[1] / max(1, found[0]) if found is not None else None


def _look_at(serial: Entry, job: Job) -> Profile | None:
    """What sampling sees of the tasks."""
    return _with_serial(serial, job, profile)


def _with_serial(serial: Entry, job: Job, do: Callable[[Session], T]) -> T | None:
    """Run tasks once more; None if they go wrong this time, or hang."""
    assert serial.model.open is not None
    try:
        with silent(), time_limit(_PROFILED_S), serial.model.open(job, 1) as session:
            return do(session)
    except (Exception, TimedOut):
        return None


def _break_even(entries: list[Entry], workers: int) -> BreakEven | None:
    """From what it cost, on started workers, to hand over tasks that do nothing."""
    known = [
        entry
        for entry in entries
        if entry.model.name in _DISPATCHED and entry.reason is None and entry.dispatch
    ]
    if workers < 2 or not known:
        return None
    entry = min(known, key=lambda entry: entry.dispatch or 0.0)
    gain = workers / (workers - 1)  # of t seconds, all but one worker's part is won
    assert entry.dispatch is not None
    return BreakEven(entry.model.name, entry.dispatch, entry.dispatch * gain, entry.startup * gain)


def _scaling(entries: list[Entry], job: Job, workers: int, serial_s: float) -> Scaling | None:
    """The quickest parallel model again, with fewer workers."""
    candidates = [
        entry
        for entry in entries
        if entry.reason is None
        and entry.listed
        and entry.language == "python"
        and entry.model.kind in ("thread", "process")
    ]
    if workers < 2 or not candidates:
        return None
    entry = min(candidates, key=lambda entry: entry.median("wall"))
    if entry.median("wall") > _SCALED_S or serial_s > _SCALED_S:
        return None
    counts = [1]
    while counts[-1] * 2 < workers:
        counts.append(counts[-1] * 2)
    began = time.monotonic()
    walls: dict[int, float] = {}
    for count in counts:
        if time.monotonic() - began > _SCALED_S:
            break
        wall = _once_with(entry, job, count)
        if wall is None:
            return None
        walls[count] = wall
    if 1 not in walls:
        return None
    walls[workers] = entry.median("wall")
    return Scaling(entry.model.name, walls, fit_amdahl({n: walls[1] / t for n, t in walls.items()}))


def _once_with(entry: Entry, job: Job, workers: int) -> float | None:
    """The lesser of two runs, in seconds; None if one failed."""
    assert entry.model.open is not None
    try:
        if entry.model.own_process:
            runner = Runner(entry.model.open, job, workers)
            try:
                return min(runner.take_turn(60)[0].cost.wall for _ in range(2))
            finally:
                runner.close()
        with time_limit(60):
            return min(take_turn(entry.model.open, job, workers).cost.wall for _ in range(2))
    except (Exception, TimedOut):  # it went well with more workers: so it is no verdict on it
        return None


def fit_amdahl(speedups: dict[int, float]) -> float:
    """The serial part of the work, by least squares: speed-up is 1 / (s + (1 - s) / n).

    >>> round(fit_amdahl({1: 1.0, 2: 1.6, 4: 2.2857}), 3)
    0.25
    """
    # 1/S - 1/n = s (1 - 1/n): a line through 0.
    above = sum((1 / s - 1 / n) * (1 - 1 / n) for n, s in speedups.items())
    below = sum((1 - 1 / n) ** 2 for n in speedups)
    return min(1.0, max(0.0, above / below)) if below else 0.0
