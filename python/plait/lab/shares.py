"""Where the workers' time went: eight shares that sum to 1.

What is measured: start-up; ``compute``, by the kernel's CPU clocks; the time that workers spend
in tasks, by their own meters; pickling, where the standard library's pickler is wrapped; delays,
by the kernel's account of who was ready to run. What is inferred from these is named:

- What threads wait for in tasks is split as a sampler saw them wait in one run that wasn't timed.
  Where it saw too little: a task that is off the CPU waits. In the serial run there is nobody to
  share a GIL with: what it waits for there, it waits for by itself, and `profile` saw whether in
  a lock or elsewhere. Where it could not look, that is inferred, too.
  Whatever threads wait for in tasks beyond that, they waited for the GIL, as long as others can
  have had it; or for the same, which took longer.
- A worker outside of tasks that is neither pickling nor done for this run waits for its next
  task, or a result to be taken: queueing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .clocks import Cost, Profile

__all__ = ["SHARES", "Waits", "find_shares"]

SHARES = (
    "compute",
    "gil_wait",
    "io_wait",
    "lock_wait",
    "pickling",
    "queueing",
    "startup",
    "idle",
)


_SEEN = {
    "wait_gil": "gil_wait",
    "wait_lock": "lock_wait",
    "wait_io": "io_wait",
    "sleep": "io_wait",
}
_ENOUGH_S = 0.02  # of waiting that was seen: fewer looks tell nothing


def _split(seen: dict[str, float] | None) -> dict[str, float] | None:
    """For what threads waited, of all their waiting, if enough of it was seen."""
    if seen is None:
        return None
    waited = sum(seen.get(state, 0.0) for state in _SEEN)
    if waited < _ENOUGH_S:
        return None
    found: dict[str, float] = {}
    for state, name in _SEEN.items():
        found[name] = found.get(name, 0.0) + seen.get(state, 0.0) / waited
    return found


@dataclass(frozen=True)
class Waits:
    """What the tasks wait for by themselves, by the serial run.

    Attributes:
        seconds: in a run, all tasks together.
        lock_share: of that, in locks.
        has_gil: whether there is a GIL to wait for.
        seen: whether the kernel was asked which it is; else all waiting counts as waiting for I/O.
    """

    seconds: float
    lock_share: float
    has_gil: bool = True
    seen: bool = False

    @classmethod
    def of(cls, serial: Cost, seen: Profile | None, has_gil: bool) -> Waits:
        """From the serial run's cost, and what was seen of it."""
        off = max(0.0, serial.wall - serial.worker_cpu - serial.preempted)
        if seen is None or not seen.asked:
            return cls(off, 0.0, has_gil)
        return cls(off, seen.lock_of_waiting, has_gil, True)


def find_shares(
    kind: str,
    cost: Cost,
    lanes: int,
    startup: float,
    waits: Waits,
    seen: dict[str, float] | None = None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The shares of one model's median run.

    Args:
        kind: what its workers are: ``serial``, ``thread``, ``process``, ``loop`` or ``native``.
        cost: of the run.
        lanes: how many workers.
        startup: seconds until they were ready.
        waits: what the tasks wait for by themselves.
        seen: seconds that its threads were seen in each state in another run; None: not known.

    Returns:
        The shares, and the names of those that are inferred.
    """
    total = lanes * (startup + cost.wall)
    running = lanes * cost.wall
    found = dict.fromkeys(SHARES, 0.0)
    found["startup"] = lanes * startup
    inferred: tuple[str, ...] = ()

    def wait(seconds: float) -> None:
        found["lock_wait"] += seconds * waits.lock_share
        found["io_wait"] += seconds * (1 - waits.lock_share)

    if kind in ("serial", "loop"):
        found["compute"] = min(cost.worker_cpu, running)
        found["queueing"] = min(cost.preempted, running - found["compute"])
        wait(running - found["compute"] - found["queueing"])
        if kind == "loop" or not waits.seen:
            inferred = ("io_wait", "lock_wait")
    elif kind in ("thread", "process") and cost.metered:
        found["compute"] = min(cost.busy_cpu, running)
        found["pickling"] = cost.pickling
        found["idle"] = cost.idle
        in_tasks = max(0.0, cost.busy - cost.busy_cpu)
        delayed = min(cost.delayed, in_tasks)
        split = _split(seen) if kind == "thread" else None
        if split is not None:
            for name, share in split.items():
                found[name] += (in_tasks - delayed) * share
        else:
            own = min(in_tasks - delayed, waits.seconds)
            wait(own)
            rest = in_tasks - delayed - own
            if kind == "thread" and waits.has_gil:
                # Nobody waits for the GIL for longer than the others can have had it.
                gil = min(rest, (lanes - 1) * (cost.busy_cpu + delayed))
                found["gil_wait"] += gil
                rest -= gil
            if waits.seconds > 0:
                wait(rest)  # what they wait for by themselves takes longer
            else:
                found["lock_wait"] += rest
        # What is left between tasks, and what other programs made wait.
        found["queueing"] = max(0.0, running - sum(found.values()) + found["startup"])
        inferred = ("queueing",) if split else ("gil_wait", "io_wait", "lock_wait", "queueing")
    else:
        found["compute"] = min(cost.worker_cpu, running)
        found["idle"] = running - found["compute"]
        inferred = ("idle",)
    # Clocks are read one after another: rounding may add up to a little over or under.
    scale = sum(found.values()) or 1.0
    if scale > total or kind not in ("thread", "process"):
        return {name: value / scale for name, value in found.items()}, inferred
    found["idle"] += total - scale
    return {name: value / total for name, value in found.items()}, inferred
