"""What serves a queue whose insides are used: see "open queues" in src/sync/queue/face.rs.

The rules are the standard library's. They are written once, as generators that yield the
condition to wait for and the number of seconds; threads and coroutines wait for it each in
their way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from typing import Any

from . import sync
from ._queues import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown

__all__ = ["Opened", "open_queue"]

Steps = Generator[tuple[sync.Condition, float | None], None, Any]


def open_queue(queue: Queue[Any]) -> Opened:
    """Open a queue, or get what serves it when another thread was faster."""
    opened = Opened(queue)
    with opened.mutex:  # who finds the queue open waits until its items are here
        items = queue._hand_over(opened)
        if items is not None:
            queue._init(queue.maxsize)
            if items:
                opened.queue.extend(items)
    return queue._opened  # type: ignore[no-any-return]


class Opened:
    """An open queue's insides."""

    def __init__(self, queue: Queue[Any]) -> None:
        self.owner = queue
        self.queue: Any = None
        self.mutex = sync.Lock()
        self.not_empty = sync.Condition(self.mutex)
        self.not_full = sync.Condition(self.mutex)
        self.all_tasks_done = sync.Condition(self.mutex)

    # The hooks as they are if they are not overridden, by the kind of the queue.

    def init(self, maxsize: int) -> None:
        self.queue = [] if isinstance(self.owner, (LifoQueue, PriorityQueue)) else deque()

    def length(self) -> int:
        return len(self.queue)

    def push(self, item: object) -> None:
        if isinstance(self.owner, PriorityQueue):
            from heapq import heappush

            heappush(self.queue, item)
        else:
            self.queue.append(item)

    def pop(self) -> Any:
        if isinstance(self.owner, PriorityQueue):
            from heapq import heappop

            return heappop(self.queue)
        return self.queue.pop() if isinstance(self.owner, LifoQueue) else self.queue.popleft()

    # The rules, with the mutex held.

    def putting(self, item: object, block: bool, timeout: float | None) -> Steps:
        queue = self.owner
        if queue.is_shutdown:
            raise ShutDown
        if queue.maxsize > 0:
            end = limit(block, timeout)
            while queue._qsize() >= queue.maxsize:
                seconds = left(end)
                if seconds is not None and seconds <= 0:
                    raise Full
                yield self.not_full, seconds
                if queue.is_shutdown:
                    raise ShutDown
        queue._put(item)
        queue.unfinished_tasks += 1
        self.not_empty.notify()

    def getting(self, block: bool, timeout: float | None) -> Steps:
        queue = self.owner
        if queue.is_shutdown and not queue._qsize():
            raise ShutDown
        end = limit(block, timeout)
        while not queue._qsize():
            seconds = left(end)
            if seconds is not None and seconds <= 0:
                raise Empty
            yield self.not_empty, seconds
            if queue.is_shutdown and not queue._qsize():
                raise ShutDown
        item = queue._get()
        self.not_full.notify()
        return item

    def joining(self) -> Steps:
        while self.owner.unfinished_tasks:
            yield self.all_tasks_done, None

    # For threads.

    def drive(self, steps: Steps) -> Any:
        with self.mutex:
            while True:
                try:
                    condition, seconds = next(steps)
                except StopIteration as end:
                    return end.value
                condition.wait(seconds)

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        self.drive(self.putting(item, block, timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return self.drive(self.getting(block, timeout))

    def join(self) -> None:
        self.drive(self.joining())

    # For coroutines.

    async def drive_async(self, steps: Steps) -> Any:
        async with self.mutex:
            while True:
                try:
                    condition, _ = next(steps)
                except StopIteration as end:
                    return end.value
                await condition.wait_async()

    async def put_async(self, item: object) -> None:
        await self.drive_async(self.putting(item, True, None))

    async def get_async(self) -> Any:
        return await self.drive_async(self.getting(True, None))

    async def join_async(self) -> None:
        await self.drive_async(self.joining())

    # What need not wait.

    def qsize(self) -> int:
        with self.mutex:
            return int(self.owner._qsize())

    def empty(self) -> bool:
        with self.mutex:
            return not self.owner._qsize()

    def full(self) -> bool:
        with self.mutex:
            return bool(0 < self.owner.maxsize <= self.owner._qsize())

    def task_done(self) -> None:
        with self.all_tasks_done:
            unfinished = self.owner.unfinished_tasks - 1
            if unfinished < 0:
                raise ValueError("task_done() called too many times")
            self.owner.unfinished_tasks = unfinished
            if unfinished == 0:
                self.all_tasks_done.notify_all()

    def shutdown(self, immediate: bool) -> None:
        with self.mutex:
            queue = self.owner
            queue.is_shutdown = True
            if immediate:
                while queue._qsize():
                    queue._get()
                    if queue.unfinished_tasks > 0:
                        queue.unfinished_tasks -= 1
                self.all_tasks_done.notify_all()
            self.not_empty.notify_all()
            self.not_full.notify_all()


def limit(block: bool, timeout: float | None) -> float | None:
    """When a wait is over, on the monotonic clock; None: never."""
    if not block:
        return 0.0
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return time.monotonic() + timeout


def left(end: float | None) -> float | None:
    """How many seconds are left; None: no limit."""
    return None if end is None else end - time.monotonic()
