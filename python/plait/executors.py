"""Executors: `concurrent.futures`' interface, on threads, and on worker processes that no task can
take down."""

from __future__ import annotations

import concurrent.futures
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, wait
from typing import Any, TypeVar

from ._future import Future
from ._limits import can_limit_memory
from ._pool import Helpers
from ._pool_tasks import PoolMaps, check_limits
from ._thread_pool import ThreadPoolExecutor
from .kernels import cpu_count
from .process import get_context

__all__ = ["Future", "ProcessPoolExecutor", "ThreadPoolExecutor", "as_completed", "wait"]

T = TypeVar("T")


class _Tasks(PoolMaps):
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

    def _start_map(self, fn: Callable[..., T], items: Iterator[Any], **how: Any) -> Iterator[T]:
        results: Any = self._helpers.core.map(fn, items, options=self._options, **how)
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
        check_limits(timeout, retries, memory)
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


class _Options(_Tasks):
    """A pool's `options`."""

    def __init__(self, helpers: Helpers, options: object) -> None:
        self._helpers = helpers
        self._options = options
