"""Locks, queues and their kin as `race` sees them: stand-ins for `threading`'s and plait's.

The real ones put a thread to sleep, and nobody could tell when it might go on. A stand-in's
operation is one step of a run instead, with a condition under which it can be taken; all of
them behave as the real ones do otherwise. A wait with a time limit ends by it when no thread can
do anything else. Who waits longest is notified first, as in CPython and in plait.

A thread that has nothing to do with a run and makes one gets the real one.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .race_engine import Operation, player

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "RWLock",
    "Semaphore",
    "StandIn",
    "makers",
    "racers",
    "sleep",
]

# The threads that make and look at a state: they get stand-ins, and must not wait for any.
makers: set[int] = set()
# The thread that runs a race just now, if there is one.
racers: list[int] = []


def _caller() -> FrameType:
    """The frame of the program that has called a stand-in."""
    one = player()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        if one is None or one.run.points.is_followed(frame.f_code):
            break
        frame = frame.f_back
    assert frame is not None
    return frame


def _step(operation: Operation, what: str) -> bool:
    """Do an operation when it is its turn. Whether it did not time out."""
    one = player()
    if one is not None:
        one.step(operation)
        return not operation.has_timed_out
    if racers and threading.get_ident() not in (*makers, *racers):
        raise RuntimeError(f"{what} of a race is used by a thread that the race doesn't know")
    return operation.is_ready is None or operation.is_ready()


class StandIn:
    """What all have in common."""

    _is_stand_in = True
    kind = ""

    def __repr__(self) -> str:
        return f"<{self.kind} in a race>"

    def __class_getitem__(cls, item: Any) -> Any:
        return cls

    def owners(self) -> list[int]:
        """The threads that hold it, by index."""
        return []

    def _do(
        self,
        text: str,
        is_ready: Callable[[], bool] | None = None,
        timeout: float | None = None,
        blocking: bool = True,
    ) -> bool:
        """One step. Whether it could be taken; else time has run out."""
        if not blocking:
            if timeout is not None and timeout != -1:
                raise ValueError("can't specify a timeout for a non-blocking call")
            self._do(text)
            return is_ready is None or is_ready()
        if timeout is not None and timeout < 0:
            timeout = None
        frame = _caller()
        operation = Operation(
            text=text,
            file=frame.f_code.co_filename,
            line=frame.f_lineno,
            touches=[((id(self), ""), True)],
            is_ready=is_ready,
            timeout=timeout,
            thing=self,
        )
        taken = _step(operation, f"a {self.kind}")
        if not taken and player() is None and timeout is None:
            raise RuntimeError(f"setup or invariant would wait for ever: {text}")
        if not taken:
            operation.values.append("timed out")
        return taken

    def _at_fork_reinit(self) -> None:
        pass


def _me() -> int:
    one = player()
    return -1 if one is None else one.index


class Lock(StandIn):
    kind = "Lock"

    def __init__(self) -> None:
        self._owner: int | None = None
        self._count = 0

    def owners(self) -> list[int]:
        return [] if self._owner is None else [self._owner]

    def _is_free(self) -> bool:
        return self._owner is None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._do(f"acquires {self.kind}", self._is_free, timeout, blocking):
            return False
        self._owner = _me()
        return True

    def release(self) -> None:
        self._do(f"releases {self.kind}")
        if self._owner is None:
            raise RuntimeError("release unlocked lock")
        self._owner = None

    def locked(self) -> bool:
        self._do(f"looks at {self.kind}")
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    # For a Condition: to let go of it and to take it again, without a step of their own.

    def _is_owned(self) -> bool:
        return self._owner is not None

    def _release_save(self) -> Any:
        saved = (self._owner, self._count)
        self._owner, self._count = None, 0
        return saved

    def _acquire_restore(self, saved: Any) -> None:
        self._owner, self._count = saved


class RLock(Lock):
    kind = "RLock"

    def _is_free(self) -> bool:
        return self._owner is None or self._owner == _me()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = _me()
        is_free = lambda: self._owner is None or self._owner == me  # noqa: E731
        if not self._do("acquires RLock", is_free, timeout, blocking):
            return False
        self._owner = me
        self._count += 1
        return True

    def release(self) -> None:
        self._do("releases RLock")
        if self._owner != _me():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if self._count == 0:
            self._owner = None

    def _is_owned(self) -> bool:
        return self._owner == _me()


class Condition(StandIn):
    kind = "Condition"

    def __init__(self, lock: Any = None) -> None:
        self._lock = RLock() if lock is None else lock
        self._waiters: list[list[bool]] = []
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._lock.__exit__(*exception)

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        self._do("begins to wait for Condition")
        told = [False]
        self._waiters.append(told)
        lock = self._lock
        saved = lock._release_save()
        in_time = self._do("is told by Condition", lambda: told[0] and not lock.owners(), timeout)
        if not in_time:
            if told in self._waiters:
                self._waiters.remove(told)
            self._do("takes the lock again", lambda: not lock.owners())
        lock._acquire_restore(saved)
        return told[0]

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        result = predicate()
        while not result:
            in_time = self.wait(timeout)
            result = predicate()
            if not in_time:
                break
        return result

    def notify(self, n: int = 1) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._do("notifies Condition")
        for told in self._waiters[:n]:
            told[0] = True
        del self._waiters[:n]

    def notify_all(self) -> None:
        self.notify(len(self._waiters))


class Semaphore(StandIn):
    kind = "Semaphore"

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        self._value = self._first = value

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if not self._do(f"acquires {self.kind}", lambda: self._value > 0, timeout, blocking):
            return False
        self._value -= 1
        return True

    def release(self, n: int = 1) -> None:
        if n < 1:
            raise ValueError("n must be one or more")
        self._do(f"releases {self.kind}")
        self._value += n

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


class BoundedSemaphore(Semaphore):
    kind = "BoundedSemaphore"

    def release(self, n: int = 1) -> None:
        super().release(n)
        if self._value > self._first:
            self._value -= n
            raise ValueError("Semaphore released too many times")


class Event(StandIn):
    kind = "Event"

    def __init__(self) -> None:
        self._flag = False

    def is_set(self) -> bool:
        self._do("looks at Event")
        return self._flag

    def set(self) -> None:
        self._do("sets Event")
        self._flag = True

    def clear(self) -> None:
        self._do("clears Event")
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._do("waits for Event", lambda: self._flag, timeout)


class Barrier(StandIn):
    kind = "Barrier"

    def __init__(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        self.parties = parties
        self._action = action
        self._timeout = timeout
        self._round: dict[str, Any] = {"count": 0, "open": False, "broken": False}

    @property
    def n_waiting(self) -> int:
        return 0 if self._round["open"] else int(self._round["count"])

    @property
    def broken(self) -> bool:
        return bool(self._round["broken"])

    def wait(self, timeout: float | None = None) -> int:
        self._do("arrives at Barrier")
        mine = self._round
        if mine["broken"]:
            raise threading.BrokenBarrierError
        index = mine["count"]
        mine["count"] += 1
        if mine["count"] == self.parties:
            try:
                if self._action is not None:
                    self._action()
            except BaseException:
                mine["broken"] = True
                raise
            mine["open"] = True
            self._round = {"count": 0, "open": False, "broken": False}
            return int(index)
        timeout = self._timeout if timeout is None else timeout
        if not self._do("passes Barrier", lambda: mine["open"] or mine["broken"], timeout):
            mine["broken"] = True
        if mine["broken"]:
            raise threading.BrokenBarrierError
        return int(index)

    def abort(self) -> None:
        self._do("breaks Barrier")
        self._round["broken"] = True

    def reset(self) -> None:
        self._do("resets Barrier")
        self._round["broken"] = self._round["count"] > 0
        self._round = {"count": 0, "open": False, "broken": False}


class RWLock(StandIn):
    kind = "RWLock"

    def __init__(self) -> None:
        self._readers: list[int] = []
        self._writer: int | None = None
        self._waiting: list[int] = []  # writers, whom new readers let go first

    def owners(self) -> list[int]:
        return self._readers if self._writer is None else [self._writer]

    def acquire_read(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = _me()

        def is_ready() -> bool:
            return self._writer is None and (not self._waiting or me in self._readers)

        if not self._do("acquires RWLock for reading", is_ready, timeout, blocking):
            return False
        self._readers.append(me)
        return True

    def acquire_write(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = _me()

        def is_ready() -> bool:
            return self._writer is None and not self._readers

        if blocking:
            self._do("asks for RWLock")
            self._waiting.append(me)
        try:
            if not self._do("acquires RWLock for writing", is_ready, timeout, blocking):
                return False
        finally:
            if blocking:
                self._waiting.remove(me)
        self._writer = me
        return True

    def release_read(self) -> None:
        self._do("releases RWLock")
        if _me() not in self._readers:
            raise RuntimeError("release of a read lock that is not held")
        self._readers.remove(_me())

    def release_write(self) -> None:
        self._do("releases RWLock")
        if self._writer != _me():
            raise RuntimeError("release of a write lock that is not held")
        self._writer = None

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        self.acquire_read()
        try:
            yield
        finally:
            self.release_read()

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        self.acquire_write()
        try:
            yield
        finally:
            self.release_write()


def sleep(seconds: float) -> None:
    """Stands in for `time.sleep`: others go on first, if any can; it takes no time."""
    one = player()
    if one is None:
        return
    frame = _caller()
    if any(other is not one and not other.is_done for other in one.run.players):
        one.run.points.is_unseen(
            f"line {frame.f_lineno} of {frame.f_code.co_filename}: how long it sleeps is not "
            "looked at, and that nobody else goes on meanwhile is not tried"
        )
    one.step(
        Operation(
            text=f"sleeps {seconds:g} s",
            file=frame.f_code.co_filename,
            line=frame.f_lineno,
            touches=(),
            yields=True,
        )
    )
