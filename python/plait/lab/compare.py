"""Run the same input under every model, check that all give the same, and report."""

from __future__ import annotations

import inspect
import operator
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from ..kernels import cpu_count
from .insights import Insights, find_insights
from .models import Model, find_models
from .noise import Noise, NoiseMeter
from .report import Cell, Report
from .rounds import Entry, Progress, Rounds
from .same import abbreviate
from .sessions import Job
from .verdict import write_verdict
from .workloads import find_workload

__all__ = ["Plan", "compare", "make_plan", "run_plan"]


def compare(
    what: str | Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    models: Iterable[str] | None = None,
    workers: int | None = None,
    repeats: int = 5,
    timeout: float | None = None,
    tolerance: float = 0.0,
) -> Report:
    """Run the same work under every model, and tell which is best, and why.

    Each model runs once to warm up and then ``repeats`` times, taking turns, each time on
    workers started for it; those whose times differ much run more often, while there is time. A
    model whose result is not serial's to the bit is refused.

    The same are: numbers and text of one class and value, where 1, 1.0 and True are three, 0.0
    and -0.0 two, and NaN is itself; sequences with the same members in the same order; sets and
    dicts with the same ones in any (an OrderedDict in the same); arrays of one shape and element
    type with the same bits; functions with the same code, defaults and values that they close
    over; any other objects of one class that consist of the same parts, which are those that
    ``copy`` and ``pickle`` take of them. Their own ``==`` isn't asked, nor what they leave out: an
    exception's traceback and cause. What has no such parts, such as a lock or a generator, cannot
    be compared, and is refused with that reason; so is a result that a later run changes.

    Serial and the models that use threads and coroutines run in this process, on the very items
    given; the others in processes of their own. A callable of yours is first run once in such a
    process under each model, if it and the items can be sent there: so one that hangs, or
    crashes the interpreter, does so there, and is a row with a reason. What tasks print while
    they are timed is not shown.

    Args:
        what: a workload's name (see `workloads`), or a callable; an ``async def`` is compared
            under the coroutine models.
        items: what the callable is called with, one after another; not for a workload's name.
        models: names of models (see `models`); by default all, those that don't suit with the
            reason. Serial is always run: it is the reference.
        workers: threads, processes, or coroutines in flight; by default the workload's own
            number, or one a core.
        repeats: timed runs of each model; no further round is begun that would not end within
            the better part of a minute. `Report.repeats` is how many it were, and `Row.runs`
            for each model.
        timeout: seconds that one run of a model may take; None: half a minute, or far longer
            than serial took. A named workload ends within a minute then: on a machine so busy that
            the first models take most of it, those after them are not run. In a thread that isn't
            the main one only what runs in a process of its own can be stopped.
        tolerance: by how much floats and complex numbers in results may differ, relative to
            their size, wherever they are, also in arrays and sets; 0: not at all. (Not Decimals:
            they are exact.)

    Returns:
        A `Report`.

    Raises:
        ValueError: no such workload or model, ``workers`` or ``repeats`` is below 1, or
            ``timeout`` or ``tolerance`` is not a sensible number.
        TypeError: ``what`` is neither a str nor callable, or ``items`` are missing.

    >>> from plait.lab import compare
    >>> report = compare(lambda n: n * n, range(10), models=["threading"], repeats=1)
    >>> [row.ok for row in report.rows]
    [True, True]
    """
    return run_plan(
        make_plan(
            what,
            items,
            models=models,
            workers=workers,
            repeats=repeats,
            timeout=timeout,
            tolerance=tolerance,
        )
    )


@dataclass(frozen=True)
class Plan:
    """A comparison that was checked, with nothing started yet."""

    what: str
    description: str
    open_job: Callable[[], AbstractContextManager[Job]]
    models: list[Model]
    workers: int
    repeats: int
    timeout: float | None = None
    tolerance: float = 0.0


def make_plan(
    what: str | Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    models: Iterable[str] | None = None,
    workers: int | None = None,
    repeats: int = 5,
    timeout: float | None = None,
    tolerance: float = 0.0,
) -> Plan:
    """Check the arguments of `compare`; starts nothing."""
    if workers is not None:
        workers = _at_least_one("workers", workers)
    repeats = _at_least_one("repeats", repeats)
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be at least 0 and below 1, got {tolerance!r}")
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
                    tolerance=tolerance,
                )

        count = workers or workload.workers or cpu_count()
        return Plan(
            what, workload.description, open_job, chosen, count, repeats, timeout, tolerance
        )
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
        guarded=True,
        tolerance=tolerance,
    )
    description = f"{name} over {len(job.items):,} items"
    return Plan(
        name,
        description,
        lambda: nullcontext(job),
        chosen,
        workers or cpu_count(),
        repeats,
        timeout,
        tolerance,
    )


def _at_least_one(name: str, value: int) -> int:
    value = operator.index(value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


# After so many seconds nothing is measured any more that the rows don't need.
HURRY_S = 40.0


def run_plan(plan: Plan, progress: Progress | None = None) -> Report:
    """Carry out a plan; ``progress(model, steps_done, steps)`` is told of each run."""
    noise, began = NoiseMeter(), time.monotonic()
    with plan.open_job() as job:
        entries = [
            Entry(model, plan.workers, "python" if job.task_is_coroutine else model.language)
            for model in plan.models
        ]
        for entry in entries:
            entry.reason = entry.model.unsuited(job)
        # The fourth cell: what Rust gains without a second worker.
        entries += [
            Entry(entry.model, 1, "rust", listed=False)
            for entry in entries
            if entry.language == "rust" and entry.reason is None and plan.workers > 1
        ]
        rounds = Rounds(entries, job, plan.repeats, plan.timeout, progress).run()
        insights = None
        if entries[0].reason is None:
            hurried = time.monotonic() - began > HURRY_S
            insights = find_insights(entries, job, plan.workers, hurried)
    return _report(plan, len(job.items), entries, insights, rounds, noise.read())


def _report(
    plan: Plan,
    items: int,
    entries: list[Entry],
    insights: Insights | None,
    rounds: int,
    noise: Noise,
) -> Report:
    serial_s = entries[0].median("wall") if insights is not None else None
    waits = insights.waits if insights is not None else None
    rows = [entry.row(serial_s, waits) for entry in entries if entry.listed]
    totals = {row.model: (row.startup_s or 0) + (row.wall_s or 0) for row in rows if row.ok}
    report = Report(
        what=plan.what,
        description=plan.description,
        items=items,
        workers=plan.workers,
        repeats=rounds,
        rows=rows,
        best=min(totals, key=totals.__getitem__) if totals else None,
        bound=insights.bound.kind if insights else None,
        bound_why=insights.bound.why if insights else "",
        cells=_cells(entries, serial_s),
        verdict="",
        environment=environment(),
        noise=noise,
        ceiling=insights.ceiling if insights else None,
        break_even=insights.break_even if insights else None,
        scaling=insights.scaling if insights else None,
        printed=max(entry.printed for entry in entries),
        tolerance=plan.tolerance,
        bound_inferred=insights.bound.inferred if insights else False,
    )
    return replace(report, verdict=write_verdict(report))


def _cells(entries: list[Entry], serial_s: float | None) -> list[Cell]:
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


def _mode(entry: Entry) -> str:
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
