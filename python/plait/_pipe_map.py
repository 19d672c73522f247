"""`map` and `imap_unordered` of the pool over pipes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _byvalue, _pool_words
from ._maps import PoolMap, at_item
from ._pipe_state import Definition, Options, Task
from .errors import SerializationError

if TYPE_CHECKING:
    from ._pipe_backlog import Backlog

__all__ = ["Map", "Plan"]

# What the items of one message should take: seconds. Long against what a message costs.
_BATCH_S = 0.005
_BATCH = 1024  # items at most
_BATCH_BYTES = 256 * 1024
# Bytes of results that wait to be taken, at most.
_WINDOW_BYTES = 64 << 20


class Plan(NamedTuple):
    """What all of a map's tasks have in common."""

    function: Definition
    kind: str
    context: Definition | None
    options: Options
    chunksize: int | None
    buffersize: int | None
    is_ordered: bool
    deadline: float | None
    length: int | None


class Map(PoolMap):
    """A map of the pool over pipes, which finishes what is not iterated."""

    def __init__(self, pool: Backlog, plan: Plan, items: Iterator[Any]) -> None:
        super().__init__(items, pool.lock, is_ordered=plan.is_ordered, deadline=plan.deadline)
        self._pool = pool
        self.plan = plan

    # ---- from the pool -----------------------------------------------------------------------

    def cancel(self, index: int) -> None:
        refusal = functools.partial(_pool_words.refusal, "cancelled", None)
        self.deliver(index, refusal, True, 0)

    # ---- items -------------------------------------------------------------------------------

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
                self._items, self._failure = None, at_item(error, index)
                break
            try:
                items.append(_byvalue.dumps(item, name="item"))
            except SerializationError as error:
                refused = at_item(error, index)
                break
            size += len(items[-1])
        self._submitted += len(items)
        if items:
            plan = self.plan
            task = Task(plan.kind, plan.function, plan.context, items, plan.options, self, first)
            self._pool.enqueue(task)
        if refused is not None:
            index, self._submitted = self._submitted, self._submitted + 1
            self.deliver(index, functools.partial(_same, refused), True, 0)

    # ---- its end -----------------------------------------------------------------------------

    def _has_ended(self) -> None:
        self._pool.map_ended(self)

    def drop(self) -> None:
        """Its iterator is gone. Begun: the rest is not wanted. Never begun: it was called for
        what the function does, and all of it is done."""
        if not self._is_closed and (self.is_started or self.plan.length is None):
            # Not here: a finalizer may come at any time, in the middle of anything.
            self._pool.dropped.append(self)
            self._pool.call_driver()


def _same(value: object) -> object:
    return value
