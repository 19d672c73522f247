"""Stand-ins for queues in a race, and all stand-ins by name: see `race_standins`."""

from __future__ import annotations

import collections
import heapq
from queue import Empty, Full
from typing import Any

from plait._queues import ShutDown

from . import race_standins
from .race_standins import StandIn

__all__ = ["STAND_INS"]


class Queue(StandIn):
    kind = "Queue"

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self._items: Any = collections.deque()
        self._unfinished = 0
        self._is_shut = False

    def _push(self, item: Any) -> None:
        self._items.append(item)

    def _pull(self) -> Any:
        return self._items.popleft()

    def _has_room(self) -> bool:
        return self._is_shut or self.maxsize <= 0 or len(self._items) < self.maxsize

    def _has_item(self) -> bool:
        return self._is_shut or bool(self._items)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        text = f"puts {item!r} into {self.kind}" if type(item) in (int, str) else "puts an item"
        if not self._do(text, self._has_room, timeout if block else None, block):
            raise Full
        if self._is_shut:
            raise ShutDown
        self._push(item)
        self._unfinished += 1

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        if not self._do(
            f"gets from {self.kind}", self._has_item, timeout if block else None, block
        ):
            raise Empty
        if not self._items:
            raise ShutDown
        return self._pull()

    def put_nowait(self, item: Any) -> None:
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def qsize(self) -> int:
        self._do(f"looks at {self.kind}")
        return len(self._items)

    def empty(self) -> bool:
        return self.qsize() == 0

    def full(self) -> bool:
        return 0 < self.maxsize <= self.qsize()

    def task_done(self) -> None:
        self._do("tells that a task is done")
        if self._unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self._unfinished -= 1

    def join(self) -> None:
        self._do(f"joins {self.kind}", lambda: self._unfinished == 0)

    def shutdown(self, immediate: bool = False) -> None:
        self._do(f"shuts {self.kind} down")
        self._is_shut = True
        if immediate:
            self._unfinished -= len(self._items)
            self._items.clear()


class LifoQueue(Queue):
    kind = "LifoQueue"

    def _pull(self) -> Any:
        return self._items.pop()


class PriorityQueue(Queue):
    kind = "PriorityQueue"

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._items = []

    def _push(self, item: Any) -> None:
        heapq.heappush(self._items, item)

    def _pull(self) -> Any:
        return heapq.heappop(self._items)


class SimpleQueue(Queue):
    kind = "SimpleQueue"

    def __init__(self) -> None:
        super().__init__()


STAND_INS: dict[str, type[StandIn]] = {
    kind.kind: kind
    for kind in (
        race_standins.Lock,
        race_standins.RLock,
        race_standins.Condition,
        race_standins.Semaphore,
        race_standins.BoundedSemaphore,
        race_standins.Event,
        race_standins.Barrier,
        race_standins.RWLock,
        *(Queue, LifoQueue, PriorityQueue, SimpleQueue),
    )
}
