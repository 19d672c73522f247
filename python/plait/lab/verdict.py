"""The verdict: what the figures of a comparison mean, in words that cite them."""

from __future__ import annotations

from .report import Bound, Cell, Row

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
    "mixed": "It is bound by neither the CPU nor waiting alone.",
}


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


def write_verdict(
    what: str,
    items: int,
    workers: int,
    repeats: int,
    rows: list[Row],
    best: str | None,
    bound: Bound | None,
    cells: list[Cell],
) -> str:
    """The paragraph, built of the rows and cells alone."""
    by_name = {row.model: row for row in rows}
    serial = by_name["serial"]
    if serial.wall_s is None or bound is None or best is None:
        return f"{what} has no result to compare with: under serial, {serial.reason}."
    task = "1 task" if items == 1 else f"{items:,} tasks"
    parts = [
        f"{what}: {task} took {seconds(serial.wall_s)} serially; {bound.why}.",
        _MEANINGS[bound.kind],
    ]
    if best == "serial":
        parts.append("Nothing beat the serial loop, start-up included.")
    else:
        row = by_name[best]
        total = seconds((row.wall_s or 0) + (row.startup_s or 0))
        parts.append(
            f"Best with start-up included: {best}, {total} "
            f"({times(row.speedup or 0)} serial's speed once started, {workers} workers)."
        )
    parts += _gains(cells, workers, by_name)
    parts += _losing_processes(rows)
    if repeats == 1:
        parts.append("All this from one run each, so nothing is known of their spread.")
    if bound.crowded >= 0.1:
        parts.append(
            "Other programs were using the cores: serial waited for one for "
            f"{bound.crowded:.0%} of its time, so small differences mean nothing here."
        )
    refused = [row.model for row in rows if (row.reason or "").startswith("refused")]
    if refused:
        parts.append(f"Refused, since the result differs: {', '.join(refused)}.")
    return " ".join(parts)


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


def _losing_processes(rows: list[Row]) -> list[str]:
    """Why a second core need not help: what goes to another process is copied there and back."""
    names = ("multiprocessing", "futures.process", "plait.process")
    processes = [row for row in rows if row.ok and row.model in names]
    if not processes:
        return []
    quickest = max(processes, key=lambda row: row.speedup or 0)
    if (quickest.speedup or 0) >= 0.9:
        return []
    busy = (quickest.shares or {}).get("compute", 0)
    return [
        f"Processes lose: {times(quickest.speedup or 0)} at best ({quickest.model}), their workers "
        f"on the CPU for {busy:.0%} of the time (inferred: moving items and results between "
        "processes costs more than the second core gives)."
    ]
