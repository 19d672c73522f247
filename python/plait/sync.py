"""Locks, queues and their kin, each for threads, coroutines and Rust tasks on one object.

`threading`'s interface and semantics, 2 to 20 times as fast, and in coroutines ``async with``,
``acquire_async``, ``wait_async``. One object may be shared by threads and several event loops
at once. Waits release the GIL, end on ^C, and honour time limits to a millisecond. A task that
is cancelled, or a wait that times out, passes on what it had been given meanwhile.

They belong to one process: pickling one raises TypeError. `plait.get_context()` makes locks
that processes share.
"""

from __future__ import annotations

from ._core import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    RWLock,
    Semaphore,
)
from ._queues import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue
from ._waits import deadlocks, find_deadlocks, lock_order_report, record_places

TYPE_CHECKING = False  # see plait/__init__.py
if TYPE_CHECKING:
    from ._statistics import Statistics

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Empty",
    "Event",
    "Full",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "RLock",
    "RWLock",
    "Semaphore",
    "ShutDown",
    "SimpleQueue",
    "deadlocks",
    "find_deadlocks",
    "lock_order_report",
    "record_places",
    "statistics",
]


def statistics(
    obj: Barrier | Condition | Event | Lock | RLock | RWLock | Semaphore,
) -> Statistics:
    """How a primitive stands, and what it has seen; the standard library has no counterpart.

    Args:
        obj: one of this module's objects.

    Returns:
        A frozen dataclass with ``waiters`` (how many wait just now), ``owner`` (the ident of the
        thread, or the id of the task, that has the lock; None for what has no one owner),
        ``acquisitions`` (how often it was taken; an event or a barrier: passed; a condition:
        notified) and ``contended`` (how many had to wait). A forked child counts from its own
        beginning who had to wait.

    Raises:
        TypeError: ``obj`` is nothing of this kind.

    >>> import threading
    >>> from plait import Lock, sync
    >>> lock = Lock()
    >>> with lock:
    ...     sync.statistics(lock).owner == threading.get_ident()
    True
    >>> sync.statistics(lock)
    Statistics(waiters=0, owner=None, acquisitions=1, contended=0)
    """
    from ._statistics import Statistics

    read = getattr(type(obj), "_statistics", None)
    if read is None:
        raise TypeError(f"statistics() takes one of plait.sync's objects, got {obj!r}")
    return Statistics(*read(obj))
