"""Executors: `concurrent.futures`' interface, on worker processes that no task can take down."""

from __future__ import annotations

import concurrent.futures
import numbers
import operator
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed, wait
from typing import Any, TypeVar

from ._callables import check_callable
from ._future import Future
from ._limits import can_limit_memory
from ._pool import Helpers
from .kernels import cpu_count
from .process import get_context

__all__ = ["Future", "ProcessPoolExecutor", "as_completed", "wait"]

T = TypeVar("T")


class _Tasks:
    """How to submit to a pool: with or without options."""

    _helpers: Helpers
    _options: object

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Schedules ``fn(*args, **kwargs)`` in a worker process.

        The arguments are pickled now: what is changed afterwards is not seen by the task.

        Returns:
            Its future. What cannot be pickled is told by the future, as in the standard
            library.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenProcessPool: the initializer has failed.
        """
        future: Any = self._helpers.core.submit(fn, args, kwargs, self._options)
        return future  # type: ignore[no-any-return]

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """Like ``map(fn, *iterables)``, in worker processes; results in order.

        Unlike the standard library's it is lazy: items are taken from the iterables as results
        are asked for, some of them ahead, so that they may be endless. Of iterables with a
        length all items are done even if no result is ever asked for.

        Args:
            fn: takes as many arguments as there are iterables.
            iterables: the arguments.
            timeout: seconds from now for all of it, None for as long as it takes.
            chunksize: items that are sent together; None: as measured.
            buffersize: items that are on their way, or done and not yet taken, at most; None:
                as measured.
            progress: shows a bar on stderr.

        Returns:
            An iterator, for ``for`` and ``async for``. It raises the first item's exception
            that there is, and ends there.

        Raises:
            TimeoutError: when iterated, after `timeout`.
        """
        return self._map(fn, iterables, timeout, chunksize, buffersize, progress, ordered=True)

    def imap_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """As `map`, but results as they come; an item's exception does not end it."""
        return self._map(fn, iterables, timeout, chunksize, buffersize, progress, ordered=False)

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        progress: bool,
        *,
        ordered: bool,
    ) -> Iterator[T]:
        if not iterables:
            raise TypeError("map needs at least one iterable after the function")
        check_callable("fn", fn)
        for name, value in (("chunksize", chunksize), ("buffersize", buffersize)):
            if value is not None and operator.index(value) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        length = None
        if all(hasattr(iterable, "__len__") for iterable in iterables):
            length = min(len(iterable) for iterable in iterables)  # type: ignore[arg-type]
        star = len(iterables) > 1
        items = zip(*iterables) if star else iter(iterables[0])  # noqa: B905
        results: Any = self._helpers.core.map(
            fn,
            items,
            star=star,
            ordered=ordered,
            options=self._options,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            length=length,
        )
        if progress:
            from ._progress import shown

            results = shown(results, length)
        return results  # type: ignore[no-any-return]


class ProcessPoolExecutor(_Tasks, concurrent.futures.ProcessPoolExecutor):
    """Worker processes that no task can take down: `concurrent.futures.ProcessPoolExecutor`.

    Differences from the standard library: a worker that dies costs the one task that it was at,
    which fails with `WorkerDied`; running tasks can be ended, and given time and memory limits;
    `map` is lazy; functions need not be importable; tasks and results go through shared memory,
    large buffers (NumPy arrays) without being copied more than once; what workers print goes to
    where ``sys.stdout`` goes at that moment.

    Args:
        max_workers: worker processes, started when they are needed; None: `cpu_count()`.
        mp_context: a `multiprocessing` context that starts them; None: plait's own.
        initializer: is called in each worker, with `initargs`, before its first task; globals
            that it sets are seen by tasks. If it fails, the pool is broken.
        initargs: a tuple.
        max_tasks_per_child: a worker is replaced after so many tasks; None: never.

    Raises:
        ValueError, TypeError: an argument is not as described.

    >>> import plait
    >>> with plait.ProcessPoolExecutor(max_workers=2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    ...     list(pool.map(abs, [-1, 2, -3]))
    1024
    [1, 2, 3]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        # Not super().__init__(), which would make the standard library's queues.
        if max_workers is None:
            max_workers = cpu_count()
        elif max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, got {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, got {initializer!r}")
        if mp_context is None:
            mp_context = get_context()
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if mp_context.get_start_method(allow_none=False) == "fork":
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start "
                    "method; leave mp_context out to use plait's own"
                )
        self._helpers = Helpers(
            Future, max_workers, mp_context, initializer, tuple(initargs), max_tasks_per_child
        )
        self._options = None
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._shutdown = False

    # The standard library's own names, which its users and its tests look at.
    @property
    def _processes(self) -> dict[int, Any]:  # type: ignore[override]
        return self._helpers.settled_processes()

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        return self._helpers.core.broken or False

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
            timeout: seconds that a task may run; then it is ended and fails with `TaskTimeout`.
            retries: how often it is tried again when its worker died or its time was over. Its
                arguments are then copies, so that each attempt has them as they were.
            memory: bytes that it may use beyond what its worker has; then MemoryError.
            name: what to call it in errors.

        Returns:
            An object with `submit`, `map` and `imap_unordered`.

        Raises:
            ValueError: a limit is negative, or the system knows none of memory.

        >>> import plait
        >>> with plait.ProcessPoolExecutor(1) as pool:
        ...     pool.options(timeout=10, retries=1).submit(pow, 2, 5).result()
        32
        """
        if timeout is not None and not _number("timeout", timeout) >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, got {timeout}")
        if _number("retries", retries) < 0:
            raise ValueError(f"retries must be at least 0, got {retries}")
        if memory is not None and _number("memory", memory) <= 0:
            raise ValueError(f"memory must be at least 1 byte, got {memory}")
        if memory is not None and not can_limit_memory():
            raise ValueError(f"memory= needs Linux, this is {sys.platform}")
        return _Options(self._helpers, self._helpers.kind.options(timeout, retries, memory, name))

    def stats(self) -> list[dict[str, Any]]:
        """What each worker that is running has done.

        Returns:
            One dict a worker: ``pid``; ``tasks`` done; ``busy``, seconds in tasks; ``wait``,
            seconds without one; ``start``, seconds since it was started; ``idle``, whether it
            has nothing to do; ``pickled``, bytes of results that it has sent (large buffers
            excepted).
        """
        now = time.monotonic_ns()
        return [
            {
                "pid": pid,
                "tasks": tasks,
                "busy": busy / 1e9,
                "wait": waited / 1e9,
                "start": (now - started) / 1e9,
                "idle": idle,
                "pickled": pickled,
            }
            for _, pid, idle, started, tasks, busy, waited, pickled in self._helpers.core.workers()
        ]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; frees the workers when those that there are have ended.

        Args:
            wait: whether to return only then.
            cancel_futures: whether tasks that have not begun are cancelled; those that workers
                are being started for count as begun.
        """
        core = self._helpers.core
        self._shutdown = True
        if not core.is_ours():
            return
        if not cancel_futures:
            core.finish_maps()
        core.close(cancel_futures)
        if wait:
            self._helpers.join()

    def kill_workers(self) -> None:
        """Ends all tasks and workers at once, and the executor with them.

        Tasks that have not begun, and those that run, are cancelled. (The standard library has
        it since 3.14.)
        """
        self._shutdown = True
        self._helpers.interrupt()

    terminate_workers = kill_workers

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # ^C ends everything once, rather than when all that is queued has been done.
        if kind is not None and not issubclass(kind, Exception):
            self._helpers.interrupt()
        self.shutdown(wait=True)

    def __del__(self) -> None:
        helpers = getattr(self, "_helpers", None)
        if helpers is not None:
            helpers.core.close()


def _number(name: str, value: Any) -> Any:
    kind = numbers.Real if name == "timeout" else numbers.Integral
    if not isinstance(value, kind):
        wanted = "a number of seconds" if name == "timeout" else "an integer"
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    return value


class _Options(_Tasks):
    """A pool's `options`."""

    def __init__(self, helpers: Helpers, options: object) -> None:
        self._helpers = helpers
        self._options = options
