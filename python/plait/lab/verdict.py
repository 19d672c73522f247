"""The verdict: what the figures of a comparison mean, in words that cite them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .report import Cell, Report, Row

__all__ = ["seconds", "times", "write_verdict"]

_MEANINGS = {
    "cpu": "It is bound by the CPU and holds the GIL, so threads take turns; only processes or "
    "native code can use a second core.",
    "cpu-nogil": "It is bound by the CPU but mostly releases the GIL, so threads can use a second "
    "core too.",
    "io": "It is bound by waiting, so what pays is to wait for many things at once; a second core "
    "has nothing to do.",
    "overhead": "Its tasks are so small that handing them out costs more than doing them; larger "
    "chunks or native code pay, more workers don't.",
    "memory": "It is bound by the speed of memory (inferred), which the cores share, so more "
    "workers gain little.",
    "mixed": "It is bound by neither the CPU nor waiting alone.",
}


_NOT_SEEN = (
    "It is bound by the CPU. If it holds the GIL, as Python code does (inferred: nobody could "
    "look), threads take turns, and only processes or native code can use a second core."
)
_NO_GIL = (
    "It is bound by the CPU, and this interpreter runs without a GIL, so threads can use a second "
    "core too."
)

_THREADS = ("threading", "futures.thread", "plait.thread")
_PROCESSES = ("multiprocessing", "futures.process", "plait.process", "joblib", "dask")


def seconds(value: float) -> str:
    """A time with three digits and the unit that suits it.

    >>> seconds(1), seconds(0.01234), seconds(0.9999e-3)
    ('1.00 s', '12.3 ms', '1.00 ms')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9995 * scale or unit == "µs":  # 0.9996 ms shows as 1.00 ms, not 1e+03 µs
            break
    return f"{value / scale:#.3g}".rstrip(".") + f" {unit}"


def times(value: float) -> str:
    """A ratio with three digits.

    >>> times(1.9753), times(832.4), times(12345.6)
    ('1.98x', '832x', '12,346x')
    """
    return f"{value:,.0f}x" if value >= 1000 else f"{value:.3g}x"


def write_verdict(report: Report) -> str:
    """The paragraph, built of the report's figures alone."""
    serial = report["serial"]
    if serial.wall_s is None or report.bound is None or report.best is None:
        return f"{report.what} has no result to compare with: under serial, {serial.reason}."
    by_name = {row.model: row for row in report.rows}
    task = "1 task" if report.items == 1 else f"{report.items:,} tasks"
    parts = [
        f"{report.what}: {task} took {seconds(serial.wall_s)} serially; {report.bound_why}.",
        _meaning(report),
    ]
    if report.best == "serial":
        parts.append("Nothing beat the serial loop, start-up included.")
    else:
        row = by_name[report.best]
        total = seconds((row.wall_s or 0) + (row.startup_s or 0))
        parts.append(
            f"Best with start-up included: {report.best}, {total} "
            f"({times(row.speedup or 0)} serial's speed once started, {report.workers} workers)."
        )
    if report.items:  # else no model did anything that could be compared
        parts += _gains(report.cells, report.workers, by_name)
        parts += _threads(report.rows) + _losing_processes(report)
        parts += [*_limits(report), _next(report)]
    parts += _doubts(report)
    return " ".join(part for part in parts if part)


def _meaning(report: Report) -> str:
    if report.bound == "cpu" and report.environment.get("gil") == "off":
        return _NO_GIL
    if report.bound == "cpu" and report.bound_inferred:
        return _NOT_SEEN
    return _MEANINGS[report.bound or "mixed"] if report.items else ""


def _threads(rows: list[Row]) -> list[str]:
    """What the GIL did to threads."""
    threads = [row for row in rows if row.ok and row.model in _THREADS]
    if not threads:
        return []
    row = max(threads, key=lambda row: row.speedup or 0)
    share = (row.shares or {}).get("gil_wait", 0.0)
    if share < 0.1:
        return []
    inferred = " (inferred)" if "gil_wait" in row.inferred else ""
    return [
        f"Threads gave {times(row.speedup or 0)} at best ({row.model}): their workers waited for "
        f"the GIL for {share:.0%} of their time{inferred}, and computed for "
        f"{(row.shares or {}).get('compute', 0.0):.0%}."
    ]


def _limits(report: Report) -> list[str]:
    """How far more workers would go, as measured."""
    parts = []
    if report.ceiling is not None and report.bound in ("cpu", "cpu-nogil", "memory"):
        gain, model = _best_gain(report.cells)
        parts.append(
            f"The ceiling for {report.workers} workers on this machine is "
            f"{times(report.ceiling)}, measured by pure computing in Rust."
            if gain <= report.ceiling
            else f"When it was measured how much {report.workers} workers gain at pure computing "
            f"in Rust, it was {times(report.ceiling)}, less than {model} had gained: so this "
            "machine's ceiling is not known."
        )
    if report.scaling is not None and report.bound != "overhead" and report.items > 1:
        scaling = report.scaling
        steps = ", ".join(
            f"{seconds(wall)} with {count}" for count, wall in sorted(scaling.walls.items())
        )
        part = f"{scaling.model} took {steps} of its workers: by Amdahl's law a serial part of "
        part += f"{scaling.serial_part:.0%} (inferred)"
        if 0.01 <= scaling.serial_part < 1:
            part += f", so never more than {times(1 / scaling.serial_part)}"
        parts.append(part + ".")
    if report.break_even is not None and report.bound != "io":
        even = report.break_even
        parts.append(
            f"Handing {even.model} a task with next to no data costs {seconds(even.dispatch_s)}, "
            f"so single ones of those pay from {seconds(even.task_s)} on, and starting its "
            f"workers from {seconds(even.total_s)} of work."
        )
    return parts


def _best_gain(cells: list[Cell]) -> tuple[float, str]:
    """What more workers gained at best, in either language, and whose."""
    found = [(0.0, "")]
    for serial, parallel in (cells[:2], cells[2:]):
        if serial.wall_s and parallel.wall_s:
            found.append((serial.wall_s / parallel.wall_s, parallel.model or ""))
    return max(found)


def _next(report: Report) -> str:
    """What to try."""
    best = report.best or ""
    native = next((cell for cell in report.cells[2:] if cell.wall_s), None)
    match report.bound:
        case _ if report.items == 1 and report.bound != "overhead":
            return "To try next: several smaller tasks; one cannot be shared among workers."
        case "io" if report.workers > 1 and 0 < _best_gain(report.cells)[0] < 1.1:
            return (
                f"Waiting for {report.workers} at once gained nothing, so they wait for each "
                "other (inferred: for a lock, a connection, or their loop, which one of them "
                "blocks). To try next: plait.lab.trace, to see what for."
            )
        case "cpu" if report.environment.get("gil") == "off" and best not in _THREADS:
            return "To try next: threads with as many workers as cores; they share the input."
        case "cpu" if native is None:
            if best in _PROCESSES:
                return "To try next: a compiled kernel for the inner loop (plait.map takes one)."
            return "To try next: larger tasks in processes, or a compiled kernel."
        case "cpu":
            return ""
        case "cpu-nogil":
            return "To try next: threads with as many workers as cores; they share the input."
        case "io" if best in _THREADS or best == "serial":
            more = 4 * report.workers
            return f"To try next: more in flight (workers={more}), or coroutines."
        case "io":
            return f"To try next: more in flight (workers={4 * report.workers})."
        case "overhead":
            return "To try next: many items a task, in one loop or one native call."
        case "memory":
            return "To try next: fewer passes over the data, smaller types, blocks that fit caches."
        case _:
            return "To try next: plait.lab.trace, to see which part waits and which computes."


def _doubts(report: Report) -> list[str]:
    parts = []
    if report.repeats == 1:
        parts.append("All this from one run each, so nothing is known of their spread.")
    outliers = sum(row.outliers for row in report.rows)
    if outliers:
        runs = sum(row.runs for row in report.rows)
        who = ", ".join(row.model for row in report.rows if row.outliers)
        parts.append(f"{outliers} of {runs} runs took far longer than their like ({who}).")
    if noise := report.noise.words():
        parts.append(noise)
    if report.printed:
        parts.append(f"The tasks printed {report.printed:,} characters a run, which are not shown.")
    if report.tolerance:
        parts.append(f"Floats were allowed to differ by {report.tolerance:g} of their size.")
    refused = [row.model for row in report.rows if (row.reason or "").startswith("refused")]
    if refused:
        parts.append(f"Refused, since the result differs: {', '.join(refused)}.")
    return parts


def _gains(cells: list[Cell], workers: int, rows: dict[str, Row]) -> list[str]:
    """Compiled gain and parallel gain apart, so that one is never sold as the other."""
    python, python_parallel, rust, rust_parallel = cells
    parts = []
    if python.wall_s and python_parallel.wall_s:
        best = python_parallel.model or ""
        ratio = times(python.wall_s / python_parallel.wall_s)
        noise = ((rows["serial"].spread_s or 0) + (rows[best].spread_s or 0)) / 2
        parts.append(
            f"In Python, {workers} workers gain {ratio} ({best})."
            if python.wall_s - python_parallel.wall_s > noise
            else f"In Python, {workers} workers gain nothing that stands out from the runs' "
            f"spread (at best {ratio}, {best})."
        )
    if python.wall_s and rust.wall_s:
        parts.append(f"Rust alone, with one worker, gains {times(python.wall_s / rust.wall_s)}")
        if rust_parallel.wall_s:
            gain = rust.wall_s / rust_parallel.wall_s
            more = "another" if gain >= 1.05 else "no more:"
            parts[-1] += f", and {workers} workers {more} {times(gain)}"
        parts[-1] += f" ({rust.model})."
    return parts


def _losing_processes(report: Report) -> list[str]:
    """Why a second core need not help: what goes to another process is copied there and back."""
    processes = [row for row in report.rows if row.ok and row.model in _PROCESSES]
    if not processes or report.bound == "overhead":
        return []
    quickest = max(processes, key=lambda row: row.speedup or 0)
    if (quickest.speedup or 0) >= 0.9:
        return []
    shares = quickest.shares or {}
    why = "moving items and results costs more than the second core gives"
    if (report.noise.others or 0) > 0.3:
        why += ", or other programs had that core"
    return [
        f"Processes lose: {times(quickest.speedup or 0)} at best ({quickest.model}), their workers "
        f"on the CPU in tasks for {shares.get('compute', 0):.0%} of the time, pickling for "
        f"{shares.get('pickling', 0):.0%}, waiting for tasks for {shares.get('queueing', 0):.0%}; "
        f"inferred: {why}."
    ]
