"""What users can ask the wait-for graph: part of `plait.sync`."""

from __future__ import annotations

# Now, not when the first wait asks for it: then a signal's handler may raise in the midst of the
# import, or a fork in another thread leave its child with the module's lock held.
from . import _core, _deadlocks

_core.untimed_waits()

TYPE_CHECKING = False  # see plait/__init__.py
if TYPE_CHECKING:
    from .errors import DeadlockError

__all__ = ["deadlocks", "find_deadlocks", "lock_order_report", "record_places"]


def find_deadlocks(on: bool) -> bool:
    """Turn the search for deadlocks on or off; it is on at first.

    While it is on, a wait without a time limit that can never end raises `DeadlockError` in one
    of those who wait. It costs a few hundred nanoseconds each time that a thread or task is about
    to sleep, and nothing otherwise. Waits that have begun while it is off are not seen.

    Args:
        on: whether deadlocks are looked for from now on.

    Returns:
        Whether they were until now.

    >>> import plait
    >>> lock = plait.RWLock()
    >>> with lock.read():
    ...     try:
    ...         lock.acquire_write()
    ...     except plait.errors.DeadlockError as error:
    ...         print(str(error).splitlines()[0])
    deadlock: thread waits for itself
    >>> plait.sync.find_deadlocks(True)
    True
    """
    return _core.find_deadlocks(bool(on))


def deadlocks() -> list[DeadlockError]:
    """The waits that may be deadlocks: no time limit, and nobody known to plait will end them.

    A lock that is held by a thread that waits for ever, a semaphore or an event that nobody may
    be left to release or set: whether some thread will do so, only its author knows, so nothing
    is raised as long as any thread runs. This tells who waits, for what, where, for how long.

    Returns:
        A `DeadlockError` for each, not raised, the longest wait first.

    >>> import plait
    >>> event = plait.Event()
    >>> thread = plait.Thread(target=event.wait, name="reader")
    >>> thread.start()
    >>> while not plait.sync.deadlocks():
    ...     pass
    >>> [suspect] = plait.sync.deadlocks()
    >>> suspect.cycle[0].name, suspect.cycle[0].waits_for is event
    ('reader', True)
    >>> event.set()
    >>> thread.join()
    """
    return _deadlocks.suspects()


def record_places(on: bool) -> bool:
    """Record where each Lock, RLock and RWLock is taken, and in which order; off at first.

    `DeadlockError` then tells where a lock was taken, and `lock_order_report` what may become a
    deadlock. It is for tests and for finding bugs: taking a lock costs some microseconds more,
    and locks that were taken together are kept. Turning it on begins anew.

    Args:
        on: whether places are recorded from now on.

    Returns:
        Whether they were until now.

    >>> import plait
    >>> plait.sync.record_places(True)
    False
    >>> plait.sync.record_places(False)
    True
    """
    return _core.record_places(bool(on))


def lock_order_report() -> str:
    """Which locks were taken in both orders, while `record_places` was on.

    One thread that takes lock A and then B, and another one that takes B and then A, block each
    other when both have their first one. It need not have happened yet to be reported.

    Returns:
        A few lines for each such pair of locks; "" if there is none.

    >>> import plait
    >>> a, b = plait.Lock(), plait.Lock()
    >>> was = plait.sync.record_places(True)
    >>> with a, b:
    ...     pass
    >>> print(plait.sync.lock_order_report())
    <BLANKLINE>
    >>> with b, a:
    ...     pass
    >>> was = plait.sync.record_places(was)
    >>> print(plait.sync.lock_order_report())  # doctest: +ELLIPSIS
    2 locks were taken in both orders: ...
    """
    return _deadlocks.order_report()
