"""`map` and `imap_unordered` of the pool of threads.

Items are taken from the user's iterators by the thread that asks for results, never by a worker.
They wait in a queue of the map's own, from which as many workers as there are items for serve
themselves: so none is kept from its turn by a slow one, and no chunk has to be measured.
"""

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import _core, _thread_words
from ._maps import PoolMap, at_item

if TYPE_CHECKING:
    from ._thread_pool import Limits, ThreadPoolExecutor

__all__ = ["ThreadMap"]

# Of iterables without a length, so many items are taken ahead at most.
_WINDOW = 1024


class ThreadMap(PoolMap):
    """A running map. Of iterables with a length all items are taken at once, as in the standard
    library, unless ``buffersize`` says how many."""

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        function: Callable[..., Any],
        items: Iterator[Any],
        *,
        star: bool,
        is_ordered: bool,
        deadline: float | None,
        buffersize: int | None,
        length: int | None,
        limits: Limits | None,
    ) -> None:
        super().__init__(items, threading.RLock(), is_ordered=is_ordered, deadline=deadline)
        # Until all items are sent: then its user may drop it, and it ends with the last of them.
        self._executor: ThreadPoolExecutor | None = executor
        self._pool = weakref.ref(executor)
        self._workers = executor._max_workers
        self._function = functools.partial(_apply, function) if star else function
        self._context = contextvars.copy_context()
        self._buffersize, self._length, self._limits = buffersize, length, limits
        self._queue: deque[tuple[int, Any]] = deque()
        self._runners = 0
        self._futures: set[Future[Any]] = set()  # of single tasks, with limits

    # ---- items -------------------------------------------------------------------------------

    def _feed(self, everything: bool) -> None:
        window = self._buffersize or min(4 * self._workers + self._taken, _WINDOW)
        everything = everything or (self._length is not None and self._buffersize is None)
        executor = self._executor
        while self._items is not None and not self._is_closed and executor is not None:
            if not everything and self._on_its_way() >= window:
                return
            try:
                item = next(self._items)
            except StopIteration:
                self._items = None
            except Exception as error:
                self._items, self._failure = None, at_item(error, self._submitted)
            else:
                self._send(executor, item)
        self._executor = None

    def _send(self, executor: ThreadPoolExecutor, item: Any) -> None:
        index, self._submitted = self._submitted, self._submitted + 1
        if self._limits is not None:
            future = executor._submit_limited(self._function, (item,), None, *self._limits)
            self._futures.add(future)
            future.add_done_callback(functools.partial(self._finish, index))
            return
        with self._changed:
            self._queue.append((index, item))
            if self._runners >= min(self._workers, len(self._queue)):
                return
            self._runners += 1
        # Not `executor.submit`, which a subclass may override.
        try:
            runner = _core.BaseThreadPool.submit(executor, self._run)
        except BaseException:
            with self._changed:
                self._runners -= 1
            raise
        runner.add_done_callback(self._runner_ended)

    # ---- in the workers ----------------------------------------------------------------------

    def _run(self) -> None:
        """Serves itself with items until there are none."""
        while True:
            with self._changed:
                if not self._queue or self._is_closed:
                    self._runners -= 1
                    return
                index, item = self._queue.popleft()
            self._run_item(index, item)
            del item

    def _run_item(self, index: int, item: Any) -> None:
        try:
            value = self._context.copy().run(self._function, item)
        except BaseException as error:
            self.deliver(index, functools.partial(_same, error), True, 0)
        else:
            self.deliver(index, functools.partial(_same, value), False, 0)

    def _runner_ended(self, runner: Any) -> None:
        """If the pool has cancelled it, or is broken, and it was the last: so are the items."""
        if not runner.cancelled():
            if runner.exception() is None:
                return
            error = runner.exception()
        else:
            error = _thread_words.refusal("cancelled", None)
        with self._changed:
            self._runners -= 1
            lost = [] if self._runners else list(self._queue)
            if lost:
                self._queue.clear()
        for index, _ in lost:
            self.deliver(index, functools.partial(_same, error), True, 0)

    def _finish(self, index: int, future: Any) -> None:
        self._futures.discard(future)
        if future.cancelled():
            error = _thread_words.refusal("cancelled", None)
        else:
            error = future.exception()
        if error is not None:
            self.deliver(index, functools.partial(_same, error), True, 0)
        else:
            self.deliver(index, functools.partial(_same, future.result()), False, 0)

    # ---- results -----------------------------------------------------------------------------

    def _await(self, is_worth_it: Callable[[], bool]) -> None:
        """A worker of the same pool runs the items itself rather than wait for another; one that
        has to wait is not missing in its pool meanwhile."""
        pool = self._pool()
        if pool is not None and self._deadline is None and pool._is_here():
            with self._changed:
                found = self._queue.popleft() if self._queue and not self._is_closed else None
            if found is not None:
                self._run_item(*found)
                return
        wait = super()._await
        _core.blocked(functools.partial(wait, is_worth_it))

    # ---- its end -----------------------------------------------------------------------------

    def _has_ended(self) -> None:
        with self._changed:
            self._queue.clear()
        for future in list(self._futures):
            future.cancel()

    def drop(self) -> None:
        """Its iterator is gone. Begun: the rest is not wanted. Never begun: it was called for
        what the function does, and what was sent is done."""
        if self.is_started:
            self._is_closed = True  # no lock here: a finalizer may come at any time


def _apply(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def _same(value: object) -> object:
    return value
