"""The words of a `DeadlockError`: see `_deadlocks`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from ._deadlocks import Wait
    from .errors import DeadlockParty

_ACTS = {
    "Lock": "release it",
    "Semaphore": "release it",
    "BoundedSemaphore": "release it",
    "Event": "set it",
    "Condition": "notify it",
    "Barrier": "come to it",
}


def message(
    waits: list[Wait],
    parties: list[DeadlockParty],
    names: dict[int, str],
    caller: int,
    in_cycle: bool,
) -> str:
    lines = [_headline(waits, in_cycle, bool(caller)), ""]
    for wait, party in zip(waits, parties, strict=True):
        lines.append(f"  {_who(wait, names)} {_waits_for(wait, names, party)}")
        lines += [f"    holds {describe(thing)}{_taken(wait, thing)}" for thing in party.holds]
        if party.stack:
            place = party.stack[-1]
            code = f": {place.line}" if place.line else ""
            lines.append(f"    at {place.filename}:{place.lineno}, in {place.name}{code}")
    if caller:
        lines += ["", f"Raised in {names.get(caller)!r}, so that it can let go of what it holds."]
    lines.append(_advice(waits, parties, in_cycle))
    return "\n".join(lines)


def _taken(wait: Wait, thing: Any) -> str:
    """Where the party took it, if places are recorded."""
    for _, address, file, line in _core.locks_held(wait.party):
        if address == getattr(thing, "_engine", None):
            return f", taken at {file}:{line}"
    return ""


def _headline(waits: list[Wait], in_cycle: bool, raised: bool) -> str:
    if not raised:
        return f"suspected deadlock: this wait has no time limit and lasts {waits[0].seconds:.1f} s"
    if not in_cycle:
        return "deadlock: all threads and tasks of this process wait, so none can wake another"
    if len(waits) == 1:
        return f"deadlock: {_kind(waits[0])} waits for itself"
    return f"deadlock: {len(waits)} parties wait for each other, so none can go on"


def _kind(wait: Wait) -> str:
    return "thread" if wait.is_thread else "task"


def _who(wait: Wait, names: dict[int, str]) -> str:
    return f"{_kind(wait)} {names[wait.party]!r}"


def _waits_for(wait: Wait, names: dict[int, str], party: DeadlockParty) -> str:
    if wait.kind is None:
        return "cannot run, since the thread of its event loop waits"
    text = f"waits for {describe(party.waits_for)}"
    if wait.kind in ("Thread", "Future"):
        runs = ", ".join(repr(_name_of(one, names)) for one in wait.needs or ())
        return text + (" to end" if wait.kind == "Thread" else f", which {runs} runs")
    if wait.needs is None:
        act = _ACTS.get(wait.kind)
        return text + (f", and nobody is left to {act}" if act else "")
    holders = ["itself" if one == wait.party else repr(_name_of(one, names)) for one in wait.needs]
    return f"{text}, held by {', '.join(holders)}"


def _name_of(party: int, names: dict[int, str]) -> str:
    return names.get(party) or name_of(party, None)


def describe(thing: Any) -> str:
    """A lock or a thread, in a few words."""
    if isinstance(thing, str):
        return thing
    name = getattr(thing, "name", None)
    if isinstance(name, str):
        return f"{type(thing).__name__} {name!r}"
    return f"{type(thing).__name__} at {id(thing):#x}"


def _advice(waits: list[Wait], parties: list[DeadlockParty], in_cycle: bool) -> str:
    kinds = {wait.kind for wait in waits}
    if any(wait.kind is None for wait in waits):
        return (
            "In coroutines take locks with 'async with lock:'; one that blocks its thread "
            "stops all tasks of the loop, the lock's owner among them."
        )
    if not in_cycle:
        holds_it = any(parties[0].waits_for is thing for thing in parties[0].holds)
        if kinds == {"Lock"} and len(waits) == 1 and holds_it:
            return "A Lock cannot be taken twice: release it before, or use an RLock."
        return (
            "See that whoever was to act did so before it ended (in 'finally:', or by 'with'), "
            "or wait with a timeout."
        )
    if len(waits) == 1:
        return "Let go of it before you wait for it: an RWLock to read cannot become one to write."
    if kinds & {"Thread", "Process", "Future"}:
        return "Let go of the locks that a thread needs before you wait for its end."
    return (
        "Take locks in the same order everywhere, or hold one at a time, or take the second one "
        "with acquire(timeout=...). plait.sync.lock_order_report() tells where orders differ."
    )


def name_of(party: int, task: Any) -> str:
    if task is not None:
        return str(task.get_name())
    if party & 7 == 2:
        thread = threading._active.get(party & ~7)  # type: ignore[attr-defined]
        return f"thread {party & ~7}" if thread is None else str(thread.name)
    return f"task at {party:#x}"
