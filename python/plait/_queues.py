"""Queues for threads and coroutines at once; `plait.sync` has their public names."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _core

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]

T = TypeVar("T")

if TYPE_CHECKING:

    class ShutDown(Exception): ...

elif hasattr(queue, "ShutDown"):  # since 3.13
    ShutDown = queue.ShutDown
else:

    class ShutDown(Exception):
        """Raised when put/get with shut-down queue."""


# What the engine says to a coroutine that cannot have at once what it wants.
_core.install_shortcuts()  # of plait.sync, too, which imports this
_WAIT = _core.QueueSeat
_OPEN = _core.BaseQueue

# What a class's `_traits` says, as in src/sync/queue/face.rs.
_FIRST, _LAST, _LEAST = range(3)
_OPENS, _OWN_PUT, _OWN_GET = 4, 8, 16
_HOOKS = ("_init", "_qsize", "_put", "_get")


async def _seated(seat: _core.QueueSeat, attempt: Callable[[_core.QueueSeat], Any]) -> Any:
    """Try again each time that the seat is told to, until there is an answer."""
    try:
        while True:
            await seat.told()
            answer = attempt(seat)
            if answer is not _WAIT:
                return answer
    finally:
        seat.leave()


class Queue(_core.BaseQueue, queue.Queue[T]):  # type: ignore[override]
    """A first-in, first-out queue that threads and coroutines share.

    `queue.Queue`'s interface, `shutdown` on every version of Python, and beyond that
    ``get_async``, ``put_async`` and ``join_async`` for coroutines: one queue serves threads and
    the tasks of any number of event loops at once. A coroutine that is cancelled, or a thread
    that ^C or a timeout ends, loses no item.

    A subclass may override ``_init``, ``_qsize``, ``_put`` and ``_get``, and `mutex`, `queue`
    and the conditions are there for who looks for them; such a queue is about as fast as the
    standard library's.

    Args:
        maxsize: how many items it holds at most; 0 or less: no limit.

    >>> import plait
    >>> import threading
    >>> queue = plait.Queue()
    >>> threading.Thread(target=queue.put, args=("an item",)).start()
    >>> queue.get(timeout=5)
    'an item'
    >>> async def coroutine():
    ...     await queue.put_async("another")
    ...     return await queue.get_async()
    >>> plait.aio.run(coroutine())
    'another'
    """

    _traits = _FIRST

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._traits &= ~(_OPENS | _OWN_PUT | _OWN_GET)
        if any(getattr(cls, name) is not getattr(_core.BaseQueue, name) for name in _HOOKS):
            cls._traits |= _OPENS
        if cls.put is not _core.BaseQueue.put:
            cls._traits |= _OWN_PUT
        if cls.get is not _core.BaseQueue.get:
            cls._traits |= _OWN_GET

    async def get_async(self) -> T:
        """Remove and return an item; wait for one if need be.

        Returns:
            The item.

        Raises:
            ShutDown: the queue is empty and was shut down.

        >>> import plait
        >>> queue = plait.Queue()
        >>> queue.put(7)
        >>> plait.aio.run(queue.get_async())
        7
        """
        item = self._get_now()
        if item is _WAIT:
            item = await _seated(self._item_seat(), self._get_now)
        if item is _OPEN:
            item = await self._opened.get_async()
        return item  # type: ignore[no-any-return]

    async def put_async(self, item: T) -> None:
        """Put an item; wait for a free slot if need be.

        Args:
            item: what to put.

        Raises:
            ShutDown: the queue was shut down.

        >>> import plait
        >>> queue = plait.Queue(maxsize=1)
        >>> plait.aio.run(queue.put_async("one"))
        >>> queue.full()
        True
        """
        answer = self._put_now(item)
        if answer is _WAIT:
            answer = await _seated(self._slot_seat(), partial(self._put_now, item))
        if answer is _OPEN:
            await self._opened.put_async(item)

    async def join_async(self) -> None:
        """Wait until `task_done` was called for each item that was put.

        >>> import plait
        >>> plait.aio.run(plait.Queue().join_async())
        """
        answer = self._done_now()
        if answer is _WAIT:
            answer = await _seated(self._done_seat(), self._done_now)
        if answer is _OPEN:
            await self._opened.join_async()

    if TYPE_CHECKING:  # the methods are the base class's, in Rust; here they get T
        _opened: Any

        def put(  # type: ignore[override]
            self, item: T, block: bool = True, timeout: float | None = None
        ) -> None: ...
        def get(  # type: ignore[override]
            self, block: bool = True, timeout: float | None = None
        ) -> T: ...
        def put_nowait(self, item: T) -> None: ...
        def get_nowait(self) -> T: ...
        def shutdown(self, immediate: bool = False) -> None: ...


class LifoQueue(Queue[T], queue.LifoQueue[T]):  # type: ignore[override]
    """A `Queue` that gives the item that was put last first.

    >>> import plait
    >>> queue = plait.LifoQueue()
    >>> for word in "first", "last":
    ...     queue.put(word)
    >>> queue.get()
    'last'
    """

    _traits = _LAST


class PriorityQueue(Queue[T], queue.PriorityQueue[T]):  # type: ignore[override, type-var]
    """A `Queue` that gives the least item first.

    Where comparing two items raises, `put` has not put its item and `get` has not removed one
    (in the standard library, one may be lost). A comparison that uses the queue that it is made
    for gets a RuntimeError, since it would wait for itself.

    >>> import plait
    >>> queue = plait.PriorityQueue()
    >>> for entry in (2, "sleep"), (1, "eat"):
    ...     queue.put(entry)
    >>> queue.get()
    (1, 'eat')
    """

    _traits = _LEAST


class SimpleQueue(_core.BaseSimpleQueue, Generic[T]):
    """An unbounded first-in, first-out queue without `join`, that coroutines share too.

    `queue.SimpleQueue`'s interface, and beyond that ``get_async`` and ``put_async``.

    >>> import plait
    >>> queue = plait.SimpleQueue()
    >>> queue.put("item")
    >>> plait.aio.run(queue.get_async())
    'item'
    """

    __slots__ = ()

    async def get_async(self) -> T:
        """Remove and return an item; wait for one if need be.

        Returns:
            The item.
        """
        item = self._get_now()
        if item is _WAIT:
            item = await _seated(self._item_seat(), self._get_now)
        return item  # type: ignore[no-any-return]

    async def put_async(self, item: T) -> None:
        """Put an item; there is always room for it.

        Args:
            item: what to put.
        """
        self.put(item)

    if TYPE_CHECKING:

        def put(  # type: ignore[override]
            self, item: T, block: bool = True, timeout: float | None = None
        ) -> None: ...
        def get(  # type: ignore[override]
            self, block: bool = True, timeout: float | None = None
        ) -> T: ...
        def put_nowait(self, item: T) -> None: ...
        def get_nowait(self) -> T: ...
