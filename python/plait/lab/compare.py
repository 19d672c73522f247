"""Run the same input under every model, check that all give the same, and report."""

from __future__ import annotations

import gc
import inspect
import operator
import os
import platform
import statistics
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..kernels import cpu_count
from .clocks import Cost, dispatch_cost, gil_held_share, measured
from .models import Model, find_models
from .report import Bound, Cell, Report, Row
from .same import abbreviate, first_difference
from .sessions import Job
from .verdict import seconds, write_verdict
from .workloads import find_workload

__all__ = ["Plan", "compare", "make_plan", "run_plan"]

Progress = Callable[[str, int, int], None]


def compare(
    what: str | Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    models: Iterable[str] | None = None,
    workers: int | None = None,
    repeats: int = 5,
) -> Report:
    """Run the same work under every model, and tell which is best, and why.

    Each model runs once to warm up and then ``repeats`` times, taking turns, each time on
    workers started for it. A model whose result is not serial's to the bit is refused.

    Args:
        what: a workload's name (see `workloads`), or a callable; an ``async def`` is compared
            under the coroutine models.
        items: what the callable is called with, one after another; not for a workload's name.
        models: names of models (see `models`); by default all, those that don't suit with the
            reason. Serial is always run: it is the reference.
        workers: threads, processes, or coroutines in flight; by default the workload's own
            number, or one a core.
        repeats: timed runs of each model, at most; no further round is begun that would not
            end within the better part of a minute (`BUDGET_S`). `Report.repeats` is how many
            it were.

    Returns:
        A `Report`.

    Raises:
        ValueError: no such workload or model, or ``workers`` or ``repeats`` is below 1.
        TypeError: ``what`` is neither a str nor callable, or ``items`` are missing.

    >>> from plait.lab import compare
    >>> report = compare(lambda n: n * n, range(10), models=["threading"], repeats=1)
    >>> [row.ok for row in report.rows]
    [True, True]
    """
    return run_plan(make_plan(what, items, models=models, workers=workers, repeats=repeats))


@dataclass(frozen=True)
class Plan:
    """A comparison that was checked, with nothing started yet."""

    what: str
    description: str
    open_job: Callable[[], AbstractContextManager[Job]]
    models: list[Model]
    workers: int
    repeats: int


def make_plan(
    what: str | Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    models: Iterable[str] | None = None,
    workers: int | None = None,
    repeats: int = 5,
) -> Plan:
    """Check the arguments of `compare`; starts nothing."""
    if workers is not None:
        workers = _at_least_one("workers", workers)
    repeats = _at_least_one("repeats", repeats)
    chosen = find_models(
        None if models is None else [models] if isinstance(models, str) else list(models)
    )
    if isinstance(what, str):
        workload = find_workload(what)
        if items is not None:
            raise TypeError(
                f"the workload {what!r} brings its own items; pass a callable to map over yours"
            )

        @contextmanager
        def open_job() -> Iterator[Job]:
            with workload.items() as real:
                yield Job(
                    real,
                    workload.task,
                    workload.combine,
                    workload.native,
                    workload.coroutine,
                    workload.tokio,
                )

        count = workers or workload.workers or cpu_count()
        return Plan(what, workload.description, open_job, chosen, count, repeats)
    if not callable(what):
        raise TypeError(f"what must be a workload's name or a callable, got {abbreviate(what)}")
    if items is None:
        raise TypeError("items is missing: what should the callable be called with?")
    name = getattr(what, "__qualname__", None) or type(what).__qualname__
    is_async = inspect.iscoroutinefunction(what) or inspect.iscoroutinefunction(
        getattr(what, "__call__", None)  # noqa: B004 - an object whose __call__ is async
    )
    job = Job(
        list(items),
        what,
        coroutine=what if is_async else None,
        tokio=what if is_async else None,
        task_is_coroutine=is_async,
    )
    description = f"{name} over {len(job.items):,} items"
    return Plan(
        name, description, lambda: nullcontext(job), chosen, workers or cpu_count(), repeats
    )


def _at_least_one(name: str, value: int) -> int:
    value = operator.index(value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


# A comparison of a named workload ends within a minute, also on a machine that is busy: no
# round is begun that would end later than this, in seconds.
BUDGET_S = 48.0


@dataclass
class _Entry:
    """A model on its way through the rounds."""

    model: Model
    workers: int
    language: str  # of the task that it runs: a caller's async def is Python also on tokio
    listed: bool = True  # False: run for a cell only
    reason: str | None = None
    lanes: int = 1
    startups: list[float] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    def median(self, figure: str) -> float:
        return float(statistics.median(getattr(cost, figure) for cost in self.costs))

    def row(self, serial_s: float | None) -> Row:
        if self.reason is not None or serial_s is None:
            return Row(self.model.name, False, self.reason)
        wall, startup = self.median("wall"), statistics.median(self.startups)
        time_of_workers = (wall + startup) * self.lanes
        walls = [cost.wall for cost in self.costs]
        return Row(
            model=self.model.name,
            ok=True,
            wall_s=wall,
            spread_s=max(walls) - min(walls),
            cpu_s=self.median("cpu"),
            startup_s=startup,
            speedup=serial_s / wall,
            shares={
                # Clocks are read one after another: rounding may add up to a little over 1.
                "compute": min(
                    self.median("worker_cpu") / time_of_workers, wall / (wall + startup)
                ),
                "startup": startup / (wall + startup),
            },
        )


def run_plan(plan: Plan, progress: Progress | None = None) -> Report:
    """Carry out a plan; ``progress(model, steps_done, steps)`` is told of each run."""
    with plan.open_job() as job:
        entries = [
            _Entry(model, plan.workers, "python" if job.task_is_coroutine else model.language)
            for model in plan.models
        ]
        for entry in entries:
            entry.reason = entry.model.unsuited(job)
        # The fourth cell: what Rust gains without a second worker.
        entries += [
            _Entry(entry.model, 1, "rust", listed=False)
            for entry in entries
            if entry.language == "rust" and entry.reason is None and plan.workers > 1
        ]
        rounds = _run_rounds(entries, job, plan.repeats, progress)
        serial = entries[0]
        bound = None if serial.reason is not None else _find_bound(serial, job)
    return _report(plan, len(job.items), entries, bound, rounds)


def _run_rounds(entries: list[_Entry], job: Job, repeats: int, progress: Progress | None) -> int:
    """Each model's turn, again and again; the first round warms up, and fixes the result.

    Returns how many rounds were timed.
    """
    began = time.monotonic()
    expected: list[Any] = []
    combined: Any = None
    steps = (repeats + 1) * sum(entry.reason is None for entry in entries)
    done = 0
    for turn in range(repeats + 1):
        elapsed = time.monotonic() - began
        if turn > 1 and elapsed * (turn + 1) / turn > BUDGET_S:
            return turn - 1
        for entry in entries:
            if entry.reason is not None:
                continue
            if progress is not None:
                progress(entry.model.name, done, steps)
            done += 1
            try:
                results, value = _run_once(entry, job, keep=turn > 0)
            except Exception as error:
                entry.reason = _say(error)
                if entry is not entries[0]:
                    continue
                for other in entries[1:]:
                    other.reason = other.reason or f"not run: under serial, {entry.reason}"
                return turn
            if entry is entries[0] and turn == 0:
                expected, combined = results, value
            # What is combined of equal results is equal; a kernel gives only that.
            try:
                difference = (
                    first_difference(combined, value)
                    if results is None
                    else first_difference(expected, results)
                )
            except RecursionError:
                difference = "it is nested too deeply, or in itself, to be compared"
            if difference is None:
                continue
            if entry is entries[0]:
                # Whether the others do the same cannot be told then.
                entry.reason = f"refused, its result changes from run to run: {difference}"
                for other in entries[1:]:
                    other.reason = other.reason or f"not compared: serial is {entry.reason}"
                return turn
            entry.reason = f"refused, its result differs from serial's: {difference}"
    return repeats


def _run_once(entry: _Entry, job: Job, keep: bool) -> tuple[Any, Any]:
    """One start, run and end; gives the tasks' results (None if only combined) and the value."""
    assert entry.model.open is not None
    gc.collect()  # one model's garbage is not another's to clear away
    results = None
    start = time.perf_counter()
    with entry.model.open(job, entry.workers) as session:
        startup = time.perf_counter() - start
        with measured(session) as cost:
            if session.combined:
                value = session.run()
            else:
                results = session.run()
                value = job.combine(results)
        entry.lanes = session.lanes
    if keep:
        entry.startups.append(startup)
        entry.costs.append(cost)
    return results, value


def _say(error: Exception) -> str:
    """One line, as the interpreter would end a traceback with."""
    lines = traceback.format_exception_only(error)
    return " ".join(lines[-1].split())


def _find_bound(serial: _Entry, job: Job) -> Bound:
    kind, why = _bound_of(serial, job)
    crowded = statistics.median(cost.preempted / cost.wall for cost in serial.costs)
    return Bound(kind, why, crowded)


def _bound_of(serial: _Entry, job: Job) -> tuple[str, str]:
    """What the serial run was bound by, and why."""
    task_s, dispatch = serial.median("wall") / max(1, len(job.items)), dispatch_cost()
    if task_s < dispatch:
        return "overhead", (
            f"a task takes {seconds(task_s)}, and handing one to a thread and back "
            f"{seconds(dispatch)}"
        )
    # Time in which another program had the core is neither computing nor waiting.
    own = [max(cost.wall - cost.preempted, cost.worker_cpu, 1e-9) for cost in serial.costs]
    on_cpu = statistics.median(
        cost.worker_cpu / time for cost, time in zip(serial.costs, own, strict=True)
    )
    if on_cpu <= 0.2:
        return "io", f"serial waited for {1 - on_cpu:.0%} of its time"
    why = f"serial was on the CPU for {on_cpu:.0%} of its time"
    if on_cpu < 0.8:
        return "mixed", why
    held = None if job.task_is_coroutine else gil_held_share(job.task, job.items)
    if held is None:
        return "cpu", f"{why} (whether it held the GIL could not be sampled)"
    share, samples = held
    why += f", and held the GIL in {share:.0%} of {samples} samples"
    if share >= 0.8:
        return "cpu", why
    return ("cpu-nogil" if share < 0.5 else "mixed"), why


def _report(
    plan: Plan, items: int, entries: list[_Entry], bound: Bound | None, rounds: int
) -> Report:
    serial_s = entries[0].median("wall") if entries[0].reason is None else None
    rows = [entry.row(serial_s) for entry in entries if entry.listed]
    ranking = sorted((row.startup_s or 0) + (row.wall_s or 0) for row in rows if row.ok)
    best = next(
        (r.model for r in rows if r.ok and (r.startup_s or 0) + (r.wall_s or 0) == ranking[0]),
        None,
    )
    cells = _cells(entries, serial_s)
    return Report(
        what=plan.what,
        description=plan.description,
        items=items,
        workers=plan.workers,
        repeats=rounds,
        rows=rows,
        best=best,
        bound=bound.kind if bound else None,
        bound_why=bound.why if bound else "",
        cells=cells,
        verdict=write_verdict(plan.what, items, plan.workers, rounds, rows, best, bound, cells),
        environment=environment(),
    )


def _cells(entries: list[_Entry], serial_s: float | None) -> list[Cell]:
    """The quickest of each kind; the parallel ones only if there is more than one worker."""
    cells = []
    for language in ("python", "rust"):
        for mode in ("serial", "parallel"):
            candidates = [
                entry
                for entry in entries
                if entry.reason is None and entry.language == language and _mode(entry) == mode
            ]
            if not candidates or serial_s is None:
                cells.append(Cell(language, mode))
                continue
            quickest = min(candidates, key=lambda entry: entry.median("wall"))
            wall = quickest.median("wall")
            cells.append(Cell(language, mode, quickest.model.name, wall, serial_s / wall))
    return cells


def _mode(entry: _Entry) -> str:
    return "serial" if entry.workers == 1 or entry.model.name == "serial" else "parallel"


def environment() -> dict[str, str]:
    """The interpreter and the machine, as a report names them."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    build = "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "default"
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "build": build,
        "gil": "on" if gil else "off",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{cpu_count()} of {os.cpu_count()}",
    }
