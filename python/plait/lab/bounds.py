"""What the serial run was bound by: the CPU with or without the GIL, waiting, memory, overhead."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .clocks import Profile
from .machine import Copying, item_bytes
from .report import Bound
from .rounds import Entry
from .verdict import seconds, times

__all__ = ["find_bound", "memory_bound"]

# A task that takes its items' bytes faster than this share of the rate at which one thread copies
# is kept waiting by memory: copies of it, sums and triads come to half and more, CRC-32 to a third,
# hashes to less.
_STREAMS = 0.42
# Below so many bytes of items the caches hold them.
_LARGE = 1 << 24


def find_bound(
    serial: Entry,
    task_s: float,
    dispatch: float,
    seen: Profile | None,
    has_gil: bool,
    again: bool = False,
) -> Bound:
    """Decide, from the serial run.

    Args:
        serial: the serial model's runs.
        task_s: seconds that a task takes; 0 if there are none.
        dispatch: the measured cost of handing one task to a thread and back, in seconds.
        seen: what sampling saw the tasks do; None if nobody could look.
        has_gil: whether the interpreter has a GIL.
        again: whether that is by running them again and again, rather than by serial's runs.
    """
    kind, why = _bound_of(serial, task_s, dispatch, seen, has_gil)
    if kind == "overhead" and again:
        why += ", both done again and again"
    crowded = statistics.median(cost.preempted / cost.wall for cost in serial.costs)
    return Bound(kind, why, crowded, kind == "cpu" and has_gil and seen is None)


def _bound_of(
    serial: Entry, task_s: float, dispatch: float, seen: Profile | None, has_gil: bool
) -> tuple[str, str]:
    if not task_s:
        return "overhead", "there was no task to run"
    if task_s < dispatch:
        return "overhead", (
            f"a task takes {seconds(task_s)}, and handing one to a thread and back "
            f"{seconds(dispatch)}"
        )
    own = _own_times(serial)
    on_cpu = statistics.median(
        cost.worker_cpu / time for cost, time in zip(serial.costs, own, strict=True)
    )
    beside = statistics.median(
        cost.beside / time for cost, time in zip(serial.costs, own, strict=True)
    )
    if on_cpu < 0.8 and beside > 0.2:
        return "mixed", (
            f"serial was on the CPU for {on_cpu:.0%} of its time, while threads and processes "
            f"that tasks wait for, or others of this program, used {beside:.0%} of a core"
        )
    if on_cpu <= 0.2:
        why = f"serial waited for {1 - on_cpu:.0%} of its time"
        if seen is not None and seen.asked and seen.lock_of_waiting > 0.5:
            why += f", in {seen.lock_of_waiting:.0%} of that for locks"
        return "io", why
    why = f"serial was on the CPU for {on_cpu:.0%} of its time"
    if on_cpu < 0.8:
        return "mixed", why
    if beside > 0.2:
        why += f", other threads of this program used {beside:.0%} of a core beside it"
    if not has_gil:
        return "cpu", why
    if seen is None:
        return "cpu", f"{why}; whether it held the GIL could not be seen (inferred: it did)"
    share = seen.gil_of_running
    why += f", and held the GIL for {share:.0%} of it, by {seen.samples} looks"
    if share >= 0.8:
        return "cpu", why
    return ("cpu-nogil" if share < 0.5 else "mixed"), why


def _own_times(serial: Entry) -> list[float]:
    """What its runs took without the time in which other programs had the core, which is neither
    computing nor waiting."""
    return [max(cost.wall - cost.preempted, cost.worker_cpu, 1e-9) for cost in serial.costs]


def memory_bound(
    bound: Bound,
    serial: Entry,
    items: Sequence[object],
    native: float | None,
    copy: Copying,
    ceiling: float,
    has_gil: bool,
) -> Bound:
    """What was found to be bound by the CPU may wait for memory: decide, as far as can be told.

    Args:
        bound: as `find_bound` gave it.
        serial: the serial model's runs.
        items: the tasks' input.
        native: the best speed-up of workers that don't share a GIL; None if there is none.
        copy: the machine's memory.
        ceiling: the speed-up that pure computing reaches on this machine.
        has_gil: whether the interpreter has a GIL.
    """
    # Bytes of items are counted whether they are touched or not, and bytecode touches few in the
    # time that a copy takes. Without a GIL it is told from C by what threads gain.
    streams = bound.kind == "cpu-nogil" or (
        not has_gil and native is not None and native < 1.1 * copy.speedup
    )
    size = sum(map(item_bytes, items))
    rate = size / statistics.median(_own_times(serial))
    if streams and size >= _LARGE and rate >= _STREAMS * copy.rate:
        why = (
            f"{bound.why}; it goes through its items' {size / 1e6:,.0f} MB at {rate / 1e9:.3g} "
            f"GB/s, and copying moves {copy.rate / 1e9:.3g} GB/s here (inferred: it waits for "
            "memory)"
        )
        return Bound("memory", why, bound.crowded, inferred=True)
    stalls = bound.kind == "cpu-nogil" and copy.speedup < 0.7 * ceiling and native is not None
    if stalls and native is not None and abs(native - copy.speedup) < 0.1 * copy.speedup:
        why = (
            f"{bound.why}; its speed-up stalls at {times(native)}, where copying memory does "
            f"({times(copy.speedup)}), and computing reaches {times(ceiling)} (inferred: it "
            "waits for memory)"
        )
        return Bound("memory", why, bound.crowded, inferred=True)
    return bound
