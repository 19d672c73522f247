"""`map` and `imap_unordered` of the pool over pipes."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _byvalue, _pool_words
from ._pipe_state import Options, Task
from .errors import SerializationError

if TYPE_CHECKING:
    from ._pipe_pool import Pool

__all__ = ["Map", "PipeResults", "Plan"]

# What the items of one message should take: seconds. Long against what a message costs.
_BATCH_S = 0.005
_BATCH = 1024  # items at most
_BATCH_BYTES = 256 * 1024
# Bytes of results that wait to be taken, at most.
_WINDOW_BYTES = 64 << 20
# Windows does not end a wait for a lock on ^C: look up now and then.
_LOOK_UP_S = 0.5 if os.name == "nt" else None


class Plan(NamedTuple):
    """What all of a map's tasks have in common."""

    function: int
    name: str
    is_own: bool  # whether the function was defined for this map alone
    kind: str
    context: int
    options: Options
    chunksize: int | None
    buffersize: int | None
    is_ordered: bool
    deadline: float | None
    length: int | None


class _Slot(NamedTuple):
    take: Callable[[], object]  # the value, or an exception
    is_error: bool
    size: int


class Map:
    """A running map: its iterator and the pool (which finishes what is not iterated) have it."""

    def __init__(self, pool: Pool, plan: Plan, items: Iterator[Any]) -> None:
        self._pool = pool
        self.plan = plan
        self._items: Iterator[Any] | None = items
        self._failure: BaseException | None = None  # the iterator's
        self._feeding = threading.Lock()
        self._fed = 0
        self._submitted = self._arrived = self._taken = self._bytes = 0
        # By index, or by when they came.
        self._slots: dict[int, _Slot] = {}
        self._changed = threading.Condition(pool.lock)
        self._watcher: Callable[[], object] | None = None
        self.is_started = self._is_closed = False

    # ---- from the pool -----------------------------------------------------------------------

    def deliver(self, index: int, decode: Callable[[], object], is_error: bool, size: int) -> None:
        self._put(index, _Slot(decode, is_error, size))

    def cancel(self, index: int) -> None:
        refusal = functools.partial(_pool_words.refusal, "cancelled", None)
        self._put(index, _Slot(refusal, True, 0))

    def _put(self, index: int, slot: _Slot) -> None:
        watcher = None
        with self._changed:
            self._slots[index if self.plan.is_ordered else self._arrived] = slot
            self._arrived += 1
            self._bytes += slot.size
            if self._taken in self._slots:
                watcher, self._watcher = self._watcher, None
                self._changed.notify_all()
        if watcher is not None:
            watcher()

    # ---- items -------------------------------------------------------------------------------

    def feed(self, *, everything: bool = False) -> bool:
        """Sends items out: up to the window, or all. False: another thread is at it, or this
        very one, from inside of the user's iterator."""
        if not self._feeding.acquire(blocking=False):
            return False
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
        return True

    def _feed(self, everything: bool) -> None:
        plan, workers = self.plan, self._pool.max_workers
        batch = 1
        if self._pool.mean_s and plan.options.timeout is None:
            batch = max(1, min(_BATCH, int(_BATCH_S / self._pool.mean_s)))
        window = plan.buffersize or 4 * workers * max(batch, plan.chunksize or 1)
        # Not for every result: when half of the window is free.
        if not everything and plan.buffersize is None and self._on_its_way() > window // 2:
            return
        while self._items is not None and not self._is_closed:
            room = window - self._on_its_way()
            is_heavy = self._bytes > _WINDOW_BYTES and self._on_its_way() > 0
            if not everything and (room <= 0 or is_heavy):
                return
            count = plan.chunksize or batch
            if plan.chunksize is None and plan.length is not None:
                left = plan.length - self._submitted
                count = min(count, max(1, -(-left // (4 * workers))))
            self._send(count if everything else min(count, room))

    def _on_its_way(self) -> int:
        return self._submitted - self._taken

    def _send(self, count: int) -> None:
        """Sends one message of up to `count` items."""
        first, size = self._submitted, 0
        items: list[bytes] = []
        refused: Exception | None = None
        while len(items) < count and size < _BATCH_BYTES and self._items is not None:
            index = first + len(items)
            try:
                item = next(self._items)
            except StopIteration:
                self._items = None
                break
            except Exception as error:
                self._items, self._failure = None, _at_item(error, index)
                break
            try:
                items.append(_byvalue.dumps(item, name="item"))
            except SerializationError as error:
                refused = _at_item(error, index)
                break
            size += len(items[-1])
        self._submitted += len(items)
        if items:
            plan = self.plan
            task = Task(
                plan.kind, plan.function, plan.name, plan.context, items, plan.options, self, first
            )
            self._pool.enqueue(task)
        if refused is not None:
            index, self._submitted = self._submitted, self._submitted + 1
            self.deliver(index, functools.partial(_same, refused), True, 0)

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
            with self._changed:
                if has_fed or self._fed == fed_before:
                    self._wait()

    def _wait(self) -> None:
        if self._taken in self._slots or self._is_closed:
            return
        patience = _LOOK_UP_S
        if self.plan.deadline is not None:
            left = self.plan.deadline - time.monotonic()
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
            try:
                value: Any = slot.take()
                if slot.is_error:
                    raise value
            except BaseException:
                if self.plan.is_ordered:
                    self.close()  # as the standard library's: what comes after is not wanted
                raise
            return (value,)
        is_used_up = not self._feeding.locked() and self._items is None
        if not is_used_up or self._on_its_way():
            return None
        self.close()
        failure, self._failure = self._failure, None
        raise StopIteration if failure is None else failure

    def notify(self, callback: Callable[[], object]) -> bool:
        """See `plait._pool_engine.Results`."""
        with self._changed:
            if self._taken in self._slots:
                return False
            self._watcher = callback
            return True

    def close(self) -> None:
        """What has not begun will not."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
        self._pool.map_ended(self)

    def drop(self) -> None:
        """Its iterator is gone. Begun: the rest is not wanted. Never begun: it was called for
        what the function does, and all of it is done."""
        if not self._is_closed and (self.is_started or self.plan.length is None):
            # Not here: a finalizer may come at any time, in the middle of anything.
            self._pool.dropped.append(self)
            self._pool.call_driver()


class PipeResults:
    """The iterator of a `map`: results as they are asked for; it sends out further items then."""

    def __init__(self, mapped: Map) -> None:
        self._map = mapped

    def __iter__(self) -> PipeResults:
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
        self._map.drop()


def _at_item(error: Exception, index: int) -> Exception:
    """The exception, with a note of which item it is about."""
    error.add_note(f"(at item {index} of the iterable)")
    return error


def _same(value: object) -> object:
    return value
