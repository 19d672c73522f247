"""The verdict: what the figures of a comparison mean, in words that cite them."""

from __future__ import annotations

from .report import Bound, Cell, Row

__all__ = ["seconds", "write_verdict"]

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


def write_verdict(
    what: str,
    items: int,
    workers: int,
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
            f"({row.speedup:.3g} times serial's speed once started, {workers} workers)."
        )
    parts += _gains(cells, workers)
    refused = [row.model for row in rows if (row.reason or "").startswith("refused")]
    if refused:
        parts.append(f"Refused, since the result differs: {', '.join(refused)}.")
    return " ".join(parts)


def _gains(cells: list[Cell], workers: int) -> list[str]:
    """Compiled gain and parallel gain apart, so that one is never sold as the other."""
    python, python_parallel, rust, rust_parallel = cells
    parts = []
    if python.wall_s and python_parallel.wall_s:
        gain = python.wall_s / python_parallel.wall_s
        parts.append(f"In Python, {workers} workers gain {gain:.3g}x ({python_parallel.model}).")
    if python.wall_s and rust.wall_s:
        parts.append(f"Rust alone, with one worker, gains {python.wall_s / rust.wall_s:.3g}x")
        if rust_parallel.wall_s:
            gain = rust.wall_s / rust_parallel.wall_s
            parts[-1] += f", and {workers} workers another {gain:.3g}x"
        parts[-1] += f" ({rust.model})."
    return parts
