"""How each model runs tasks: its workers' start, a run on started workers, and their end.

A session is a context manager: entering it starts the workers and waits until they are there,
leaving it ends them, whatever happened in between: an error, a task that fails, ^C. Nothing of
it may be left, neither a process nor a thread nor a descriptor.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .._meter import Meter, run_delay

__all__ = [
    "AT_ONCE",
    "FuturesThreadSession",
    "Job",
    "NativeSession",
    "SerialSession",
    "Session",
    "ThreadSession",
    "TimedOut",
]


class TimedOut(BaseException):
    """A model took longer than it may; no Exception, so that a task does not swallow it."""


# What ends a session in the middle of its run: tasks that go on are not waited for.
AT_ONCE = (KeyboardInterrupt, TimedOut)

Task = Callable[[Any], Any]


@dataclass(frozen=True)
class Job:
    """One mapping to run: the same for every model."""

    items: Sequence[Any]
    task: Task
    combine: Callable[[list[Any]], Any] = list
    native: Callable[[Sequence[Any], int], Any] | None = None
    coroutine: Callable[[Any], Awaitable[Any]] | None = None
    tokio: Callable[[Any], Awaitable[Any]] | None = None
    task_is_coroutine: bool = False
    guarded: bool = False  # a caller's own: it may do anything
    tolerance: float = 0.0  # by how much floats may differ, relative to their size
    folder: str | None = None  # for files of its sessions; None: where temporary ones are

    @cached_property
    def unshippable(self) -> str | None:
        """Why it can't be sent to another process; None if it can."""
        from .. import _byvalue

        try:
            _byvalue.dumps((self.task, self.items, self.combine, self.coroutine))
        except Exception as error:
            return " ".join(str(error).split())
        return None


class Session:
    """What all have in common; the simplest, `SerialSession`, is the reference."""

    #: Whether `threads` do all the work, so that their CPU clocks tell all of it.
    by_threads_alone = False
    #: Whether ``run`` gives the combined value rather than a list of the tasks' results.
    combined = False

    def __init__(self, job: Job, workers: int) -> None:
        self.job = job
        self.workers = workers

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        return None

    @property
    def lanes(self) -> int:
        """Over how many threads or processes the work was spread."""
        return self.workers

    @property
    def pids(self) -> list[int]:
        """The worker processes, so that their CPU clocks can be read."""
        return []

    @property
    def threads(self) -> list[int]:
        """The workers that are threads of this process, by their native ids."""
        return []

    def spent(self) -> list[dict[str, float]]:
        """What each worker's meter says so far; empty where workers have none."""
        return []

    def run(self) -> Any:
        """Run the task on all items, on the workers that were started."""
        raise NotImplementedError

    def run_for(self, seconds: float) -> tuple[int, float]:
        """Run tasks round and round, one after another; serial's only.

        Returns:
            How many, and in how many seconds: at least one, however long it takes.
        """
        raise NotImplementedError

    def chunksize(self) -> int:
        """Items handed over at a time: about four chunks a worker, as ``Pool.map`` does."""
        return max(1, -(-len(self.job.items) // (self.workers * 4)))

    def dispatch_cost(self, tasks: int = 200) -> float | None:
        """Seconds that a task costs that does nothing, handed over by itself; None: not known."""
        return None


class SerialSession(Session):
    """One after another, in the calling thread."""

    by_threads_alone = True

    @property
    def lanes(self) -> int:
        return 1

    @property
    def threads(self) -> list[int]:
        return [threading.get_native_id()]

    def run(self) -> list[Any]:
        task = self.job.task
        return [task(item) for item in self.job.items]

    def run_for(self, seconds: float) -> tuple[int, float]:
        task, start = self.job.task, time.perf_counter()
        for done, item in enumerate(itertools.cycle(self.job.items), 1):
            task(item)
            if (spent := time.perf_counter() - start) >= seconds:
                return done, spent
        return 0, 0.0  # there are no items


class NativeSession(Session):
    """The Rust kernel, on as many rayon threads as there are workers."""

    combined = True

    def __enter__(self) -> NativeSession:
        from .. import kernels

        kernels.count_primes(0, self.workers)  # makes the pool if there is none yet
        return self

    def run(self) -> Any:
        assert self.job.native is not None
        return self.job.native(self.job.items, self.workers)


class _Stop(Exception):
    """Ends a crew's workers between two items."""


class ThreadSession(Session):
    """Started threads that take chunks of items from one queue, as a hand-written crew does."""

    def __init__(
        self, job: Job, workers: int, thread: Callable[..., threading.Thread] = threading.Thread
    ) -> None:
        super().__init__(job, workers)
        self._thread = thread
        self._chunks: queue.SimpleQueue[range | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._results: list[Any] = []
        self._stopped = False
        self._crew: list[threading.Thread] = []
        self._meters: list[Meter] = []

    def __enter__(self) -> ThreadSession:
        try:
            for index in range(self.workers):
                thread = self._thread(target=self._work, name=f"plait-lab-{index}", daemon=True)
                thread.start()
                self._crew.append(thread)
            for _ in self._crew:
                self._done.get()
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def _task(self, index: int) -> None:
        if self._stopped:
            raise _Stop
        self._results[index] = self.job.task(self.job.items[index])

    @property
    def threads(self) -> list[int]:
        return [meter.thread for meter in self._meters]

    def spent(self) -> list[dict[str, float]]:
        return [meter.values() for meter in self._meters]

    def _work(self) -> None:
        meter = Meter()
        self._meters.append(meter)
        self._done.put(None)
        while (chunk := self._chunks.get()) is not None:
            try:
                meter.run(self._task, chunk)
            except BaseException as error:  # a task may raise anything; run() raises it again
                self._done.put(error)
            else:
                self._done.put(None)

    def run(self) -> list[Any]:
        count, step = len(self.job.items), self.chunksize()
        self._results = [None] * count
        chunks = [range(start, min(start + step, count)) for start in range(0, count, step)]
        for chunk in chunks:
            self._chunks.put(chunk)
        for _ in chunks:
            if (error := self._done.get()) is not None:
                raise error
        return self._results

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stopped = True
        for _ in self._crew:
            self._chunks.put(None)
        for thread in self._crew:
            # After ^C a long task is not waited for: a thread cannot be ended from outside,
            # and as a daemon it doesn't keep the program alive.
            thread.join(0.3 if kind in AT_ONCE else None)


class FuturesThreadSession(Session):
    """``concurrent.futures.ThreadPoolExecutor``, one future an item."""

    def __enter__(self) -> FuturesThreadSession:
        self._local, self._meters = threading.local(), list[Meter]()
        self._executor = concurrent.futures.ThreadPoolExecutor(self.workers, "plait-lab")
        everyone = threading.Barrier(self.workers)  # else one early worker would take them all
        asked = [self._executor.submit(everyone.wait) for _ in range(self.workers)]
        concurrent.futures.wait(asked)
        return self

    def run(self) -> list[Any]:
        return list(self._executor.map(self._task, self.job.items))

    def _task(self, item: Any) -> Any:
        try:
            meter: Meter = self._local.meter
        except AttributeError:
            meter = self._local.meter = Meter()
            self._meters.append(meter)
        return meter.run_one(self.job.task, item)

    @property
    def threads(self) -> list[int]:
        return [thread.native_id or 0 for thread in getattr(self._executor, "_threads", ())]

    def spent(self) -> list[dict[str, float]]:
        # Its meters don't look at the kernel's account of delays for each item.
        return [{**m.values(), "delayed": run_delay(m.thread)} for m in self._meters]

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # As in ThreadSession: a task that runs is not waited for after ^C.
        self._executor.shutdown(wait=kind not in AT_ONCE, cancel_futures=True)
        if kind in AT_ONCE:  # nor at the program's end
            joined_at_exit: Any = getattr(concurrent.futures.thread, "_threads_queues", {})
            for thread in getattr(self._executor, "_threads", ()):
                joined_at_exit.pop(thread, None)
