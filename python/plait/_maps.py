"""What the maps of pools share that are written in Python: results in order or as they come,
waiting for them, and the iterator."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["MapResults", "PoolMap", "at_item"]

# Windows does not end a wait for a lock on ^C: look up now and then.
_LOOK_UP_S = 0.5 if os.name == "nt" else None
# How often it is looked whether another thread is done with feeding, at least: seconds.
_FEEDING_S = 0.05


class _Slot(NamedTuple):
    take: Callable[[], object]  # the value, or an exception
    is_error: bool
    size: int


class PoolMap:
    """A running map: its iterator and the pool have it. A subclass sends out the items."""

    def __init__(
        self, items: Iterator[Any], lock: Any, *, is_ordered: bool, deadline: float | None
    ) -> None:
        self._items: Iterator[Any] | None = items
        self._is_ordered = is_ordered
        self._deadline = deadline
        self._failure: BaseException | None = None  # the iterator's
        self._feeding = threading.Lock()
        self._feeder: int | None = None  # the thread that has it, or had it last
        self._fed = 0
        self._submitted = self._arrived = self._taken = self._bytes = 0
        # By index, or by when they came.
        self._slots: dict[int, _Slot] = {}
        self._changed = threading.Condition(lock)
        # To be called when there is something to take, or nothing will come any more.
        self._watchers: list[Callable[[], object]] = []
        self.is_started = self._is_closed = False

    # ---- the subclass's ----------------------------------------------------------------------

    def _feed(self, everything: bool) -> None:
        """Sends items out: up to the window, or all."""
        raise NotImplementedError

    def _has_ended(self) -> None:
        """What has not begun will not."""

    def drop(self) -> None:
        """Its iterator is gone."""

    # ---- from the pool -----------------------------------------------------------------------

    def deliver(self, index: int, decode: Callable[[], object], is_error: bool, size: int) -> None:
        """An item's result is there."""
        watchers: list[Callable[[], object]] = []
        with self._changed:
            self._slots[index if self._is_ordered else self._arrived] = _Slot(
                decode, is_error, size
            )
            self._arrived += 1
            self._bytes += size
            if self._taken in self._slots:
                watchers, self._watchers = self._watchers, []
                self._changed.notify_all()
        for watcher in watchers:
            watcher()

    # ---- items -------------------------------------------------------------------------------

    def feed(self, *, everything: bool = False) -> bool:
        """Sends items out: up to the window, or all, then waiting for another thread that is at
        it. False: another one is, or this very one, from inside of the user's iterator."""
        me = threading.get_ident()
        while not self._feeding.acquire(blocking=False):
            if not everything or self._feeder == me:
                return False
            with self._changed:
                self._changed.wait(_FEEDING_S)
        self._feeder = me
        try:
            self._feed(everything)
        except BaseException:
            self._items = None  # nobody knows what of it was sent
            self.close()
            raise
        finally:
            self._feeding.release()
            with self._changed:
                self._fed += 1
                self._changed.notify_all()
            self._tell_if_over()
        return True

    def _on_its_way(self) -> int:
        return self._submitted - self._taken

    def _is_over(self) -> bool:
        return self._items is None and not self._feeding.locked() and not self._on_its_way()

    def _tell_if_over(self) -> None:
        """Has all who wait look again, once nothing will come any more."""
        if not self._is_closed and not self._is_over():
            return
        with self._changed:
            watchers, self._watchers = self._watchers, []
            self._changed.notify_all()
        for watcher in watchers:
            watcher()

    # ---- results -----------------------------------------------------------------------------

    def poll(self) -> tuple[object] | None:
        """See `plait._pool_engine.Results`."""
        self.is_started = True
        if self._is_closed:
            raise StopIteration
        self.feed()
        return self._take()

    def next(self) -> object:
        self.is_started = True
        while True:
            if self._is_closed:
                raise StopIteration
            fed_before = self._fed
            has_fed = self.feed()
            found = self._take()
            if found is not None:
                return found[0]
            self._await(None if has_fed else fed_before)

    def _await(self, fed_before: int | None) -> None:
        """Waits for a change; not if another thread has fed it since the count was this."""
        with self._changed:
            if fed_before is None or self._fed == fed_before:
                self._wait()

    def _wait(self) -> None:
        if self._taken in self._slots or self._is_closed or self._is_over():
            return
        patience = _LOOK_UP_S
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self.close()
                raise TimeoutError("the map has not ended within its timeout")
            patience = left if patience is None else min(left, patience)
        self._changed.wait(patience)

    def _take(self) -> tuple[object] | None:
        """The next result, if it is there; raises what it is, or StopIteration at the end."""
        with self._changed:
            slot = self._slots.get(self._taken)
            if slot is not None:
                self._taken += 1  # what a signal handler raises may come between any two steps
                self._bytes -= slot.size
                del self._slots[self._taken - 1]
        if slot is not None:
            self._tell_if_over()
            try:
                value: Any = slot.take()
                if slot.is_error:
                    raise value
            except BaseException:
                if self._is_ordered:
                    self.close()  # as the standard library's: what comes after is not wanted
                raise
            return (value,)
        if not self._is_over():
            return None
        self.close()
        failure, self._failure = self._failure, None
        raise StopIteration if failure is None else failure

    def notify(self, callback: Callable[[], object]) -> bool:
        """See `plait._pool_engine.Results`."""
        with self._changed:
            if self._taken in self._slots or self._is_closed or self._is_over():
                return False
            self._watchers.append(callback)
            return True

    def close(self) -> None:
        """What has not begun will not."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        self._tell_if_over()
        self._has_ended()


class MapResults:
    """The iterator of a `map`: results as they are asked for; it sends out further items then."""

    def __init__(self, mapped: PoolMap) -> None:
        self._map = mapped

    def __iter__(self) -> MapResults:
        return self

    def __next__(self) -> Any:
        return self._map.next()

    def __aiter__(self) -> Any:
        from ._async_results import iterate  # asyncio is slow to import

        return iterate(self)

    def poll(self) -> tuple[object] | None:
        return self._map.poll()

    def notify(self, callback: Any) -> bool:
        return self._map.notify(callback)

    def close(self) -> None:
        self._map.close()

    def __del__(self) -> None:
        if hasattr(self, "_map"):  # ^C may come before it is
            self._map.drop()


def at_item(error: Exception, index: int) -> Exception:
    """The exception, with a note of which item it is about."""
    error.add_note(f"(at item {index} of the iterable)")
    return error
