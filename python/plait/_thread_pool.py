"""`plait.ThreadPoolExecutor`; the engine is `src/thread/pool/`."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures._base import LOGGER
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import _core, _thread_words
from ._future import Future
from ._maps import MapResults
from ._outlast import join
from ._pool_tasks import PoolMaps, check_limits
from ._thread_map import ThreadMap
from .kernels import cpu_count

__all__ = ["ThreadPoolExecutor"]

T = TypeVar("T")

_numbers = itertools.count()
_pools: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()
# Held while a thread is started: none is when the interpreter's exit joins threads, which on
# free-threaded Python fails for one that is half started. (A signal handler may start one more.)
_starting = threading.RLock()


class Limits(NamedTuple):
    """Of each task."""

    timeout: float | None
    retries: int
    name: str | None


class _Starter:
    """Starts the threads. It must not refer to the executor, which shall be collected when its
    user drops it."""

    def __init__(
        self, prefix: str, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self._prefix = prefix
        self._initializer = initializer
        self._initargs = initargs
        self._numbers = itertools.count()
        self.threads: set[threading.Thread] = set()

    def __call__(self, served: _core.PoolThread) -> None:
        thread = threading.Thread(
            name=f"{self._prefix}_{next(self._numbers)}",
            target=_work,
            args=(served, self._initializer, self._initargs),
            daemon=False,  # or it would be what the thread that submits is
        )
        with _starting:
            if _thread_words.is_exiting:
                raise _thread_words.refusal("shutdown", None)
            thread.start()
            self.threads.add(thread)


def _work(
    served: _core.PoolThread, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """What a thread of a pool does."""
    if not served.begin():
        return
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException:
            LOGGER.critical("Exception in initializer:", exc_info=True)
            served.break_down("A thread initializer failed, the thread pool is not usable anymore")
            return
    del initializer, initargs
    served.serve(threading.get_ident())


class ThreadPoolExecutor(_core.BaseThreadPool, PoolMaps, concurrent.futures.ThreadPoolExecutor):
    """Threads that run tasks: `concurrent.futures.ThreadPoolExecutor`.

    Differences from the standard library: a task costs a fraction; tasks run in a copy of the
    context of their `submit`, so they see its context variables; futures can be awaited; `map`
    takes items of iterables that have no length as results are asked for; and a task that waits
    for tasks of its own pool can't bring that to a halt: a thread that waits in ``result()``
    for a task that has not begun runs it itself, and where it may not (the wait has a timeout, or
    is in `wait` or `as_completed`, or for another pool's task) the pool has one thread more
    meanwhile.
    After a fork the child's executor has threads of its own.

    ``future.cancel(running=True)`` raises an exception in the thread that is at the task, at its
    next bytecode: the future is cancelled at once, but a call that blocks goes on to its end
    first, and the task's ``finally`` blocks run. It is as abrupt as a ^C in the main thread: use
    it on tasks that hold no locks.

    Args:
        max_workers: threads, started when they are needed; None: 4 more than there are
            processors, 32 at most.
        thread_name_prefix: what their names begin with.
        initializer: is called in each thread, with `initargs`, before its first task. If it
            fails, the pool is broken.
        initargs: a tuple.

    Raises:
        ValueError, TypeError: an argument is not as described.

    >>> import plait
    >>> with plait.ThreadPoolExecutor(max_workers=2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    ...     list(pool.map(abs, [-1, 2, -3]))
    1024
    [1, 2, 3]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        # Not super().__init__(), which would make the standard library's queue.
        if max_workers is None:
            max_workers = min(32, cpu_count() + 4)
        elif max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, got {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, got {initializer!r}")
        self._max_workers = max_workers
        self._thread_name_prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(_numbers)}"
        self._initializer: Any = initializer
        self._initargs = tuple(initargs)
        self._shutdown = False
        self._begin()
        _pools.add(self)
        if _thread_words.is_exiting:  # a daemon thread's: `_at_exit` may not know it
            self._close(False)

    def _begin(self) -> None:
        prefix: Any = self._thread_name_prefix  # the stubs say that it may be None
        starter = _Starter(prefix, self._initializer, self._initargs)
        self._threads = starter.threads
        self._open(self._max_workers, starter, Future)

    if TYPE_CHECKING:  # the base class's, in Rust; here it gets T

        def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...

    # The standard library's own names, which its users look at.
    @property
    def _broken(self) -> bool:  # type: ignore[override]
        return self._ended == "broken"

    @property
    def _work_queue(self) -> _Waiting:  # type: ignore[override]
        return _Waiting(self)

    def _start_map(self, fn: Callable[..., T], items: Iterator[Any], **how: Any) -> Iterator[T]:
        return _start_map(self, None, fn, items, **how)

    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        memory: int | None = None,
        name: str | None = None,
    ) -> _Options:
        """The same pool, for tasks with limits.

        Args:
            timeout: seconds that a task may run; then its future fails with `TaskTimeout`. A
                thread can't be ended: it goes on to the end of the call, whose outcome is
                dropped, and the pool has one thread more until then.
            retries: how often it is tried again when its time was over, while the earlier
                attempt may still be at it.
            memory: cannot be limited for a thread, which shares its process's.
            name: what to call it in errors.

        Returns:
            An object with `submit`, `map` and `imap_unordered`.

        Raises:
            ValueError: a limit is negative, or of memory.

        >>> import plait
        >>> with plait.ThreadPoolExecutor(1) as pool:
        ...     pool.options(timeout=10, name="power").submit(pow, 2, 5).result()
        32
        """
        check_limits(timeout, retries, memory)
        if memory is not None:
            raise ValueError(
                "memory= cannot be limited for a thread, which shares its process's memory; "
                "use ProcessPoolExecutor"
            )
        seconds = None if timeout is None else float(timeout)
        return _Options(self, Limits(seconds, int(retries), name))

    def stats(self) -> list[dict[str, Any]]:
        """What each thread that is running has done.

        Returns:
            One dict a thread: ``ident``, as `threading.get_ident` has it; ``tasks`` done;
            ``busy``, seconds in tasks; ``wait``, seconds without one; ``start``, seconds since
            it began; ``idle``, whether it has nothing to do.
        """
        names = ("ident", "tasks", "busy", "wait", "start", "idle")
        return [dict(zip(names, counts, strict=True)) for counts in self._counts()]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; the threads end when those that there are have ended.

        Args:
            wait: whether to return only then.
            cancel_futures: whether tasks that have not begun are cancelled.
        """
        self._shutdown = True
        self._close(cancel_futures)
        if wait:
            for thread in list(self._threads):
                join(thread)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # ^C ends everything once, rather than when all that is queued has been done.
        is_interrupted = kind is not None and not issubclass(kind, Exception)
        self.shutdown(wait=True, cancel_futures=is_interrupted)


class _Options(PoolMaps):
    """A pool's `options`."""

    def __init__(self, executor: ThreadPoolExecutor, limits: Limits) -> None:
        self._executor = executor
        self._limits = limits

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As `ThreadPoolExecutor.submit`."""
        future: Any = self._executor._submit_limited(fn, args, kwargs or None, *self._limits)
        return future  # type: ignore[no-any-return]

    def _start_map(self, fn: Callable[..., T], items: Iterator[Any], **how: Any) -> Iterator[T]:
        return _start_map(self._executor, self._limits, fn, items, **how)


class _Waiting:
    """What tools that know the standard library's ask of its queue."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def qsize(self) -> int:
        return self._executor._waiting

    def empty(self) -> bool:
        return not self.qsize()


def _start_map(
    executor: ThreadPoolExecutor,
    limits: Limits | None,
    function: Callable[..., T],
    items: Iterator[Any],
    *,
    star: bool,
    ordered: bool,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    length: int | None,
) -> Iterator[T]:
    del chunksize  # threads serve themselves
    if executor._ended is not None:
        raise _thread_words.refusal(executor._ended, "the pool is broken")
    started = ThreadMap(
        executor,
        function,
        items,
        star=star,
        is_ordered=ordered,
        deadline=None if timeout is None else time.monotonic() + timeout,
        buffersize=buffersize,
        length=length,
        limits=limits,
    )
    results: Any = MapResults(started)
    started.feed()
    return results  # type: ignore[no-any-return]


def _at_exit() -> None:
    """Before threads are joined: pools finish what they have, as in the standard library; after
    an unhandled ^C they don't."""
    with _starting:
        _thread_words.is_exiting = True
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    pools = list(_pools)
    for pool in pools:
        pool._close(interrupted)
    for pool in pools:
        for thread in list(pool._threads):
            join(thread)


def _after_fork_in_child() -> None:
    """None of the threads is here."""
    global _starting
    _starting = threading.RLock()
    for pool in list(_pools):
        ended = pool._shutdown
        pool._begin()
        if ended:
            pool._close(True)


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
