"""How each model runs tasks: its workers' start, a run on started workers, and their end.

A session is a context manager: entering it starts the workers and waits until they are there,
leaving it ends them, whatever happened in between: an error, a task that fails, ^C. Nothing of
it may be left, neither a process nor a thread nor a descriptor.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import queue
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from typing import Any

__all__ = [
    "ExecutorSession",
    "FuturesThreadSession",
    "Job",
    "NativeSession",
    "PoolSession",
    "SerialSession",
    "Session",
    "ThreadSession",
    "standard_context",
]

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


class Session:
    """What all have in common; the simplest, `SerialSession`, is the reference."""

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
    def processes(self) -> list[BaseProcess]:
        """The worker processes, so that their CPU clocks can be read."""
        return []

    def run(self) -> Any:
        """Run the task on all items, on the workers that were started."""
        raise NotImplementedError

    def chunksize(self) -> int:
        """Items handed over at a time: about four chunks a worker, as ``Pool.map`` does."""
        return max(1, -(-len(self.job.items) // (self.workers * 4)))


class SerialSession(Session):
    """One after another, in the calling thread."""

    @property
    def lanes(self) -> int:
        return 1

    def run(self) -> list[Any]:
        task = self.job.task
        return [task(item) for item in self.job.items]


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

    def _work(self) -> None:
        self._done.put(None)
        while (chunk := self._chunks.get()) is not None:
            try:
                for index in chunk:
                    if self._stopped:
                        raise _Stop
                    self._results[index] = self.job.task(self.job.items[index])
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
            thread.join(0.3 if kind is KeyboardInterrupt else None)


def standard_context() -> BaseContext:
    """The standard library's own context, also where plait was installed as the default."""
    return multiprocessing.get_context(multiprocessing.get_all_start_methods()[0])


# A worker's initializer: ^C reaches every process of the terminal; the parent alone handles it.
_IGNORE_INTERRUPTS = (signal.signal, (signal.SIGINT, signal.SIG_IGN))


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """^C waits until the workers are started, and known, so that it can end them too.

    By a handler that notes it: blocked in this thread, the signal would go to another one, and
    Python would run the handler here all the same.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is None or threading.current_thread() is not threading.main_thread():
        yield  # not Python's, or not run here
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            signal.raise_signal(signal.SIGINT)


class _ProcessSession(Session):
    """Worker processes: which they are, and that they end, also if starting them fails."""

    def __init__(self, job: Job, workers: int, context: BaseContext) -> None:
        super().__init__(job, workers)
        self._context = context
        self._others: set[BaseProcess] = set()
        self._workers: list[BaseProcess] = []
        self._warnings = warnings.catch_warnings()

    @property
    def processes(self) -> list[BaseProcess]:
        return self._workers

    def __enter__(self) -> Session:
        # Python 3.12 and 3.13 fork by default, and warn where there are other threads, as
        # rayon's: those are idle, or rebuilt in the child. A pool may fork again at any time.
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", ".*multi-threaded, use of", DeprecationWarning)
        self._others = set(multiprocessing.active_children())
        try:
            self._start()
        except BaseException:
            self._end(at_once=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._end(at_once=kind is not None)

    def _start(self) -> None:
        raise NotImplementedError

    def _stop(self, at_once: bool) -> None:
        raise NotImplementedError

    def _end(self, at_once: bool) -> None:
        try:
            self._stop(at_once)
            for process in self._workers:
                if at_once and process.is_alive():  # of a pool that was not made to its end
                    process.kill()
                process.join()
        finally:
            self._warnings.__exit__(None, None, None)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Around what starts workers: afterwards they are known, whatever happens."""
        with _interrupts_held_back():
            try:
                yield
            finally:
                children = multiprocessing.active_children()
                self._workers = [child for child in children if child not in self._others]

    def _greetings(self) -> list[Task]:
        """What the workers are first sent: the task, so that its modules are imported."""
        return [self.job.task] * self.workers


class PoolSession(_ProcessSession):
    """``multiprocessing.Pool``, mapping in its own chunks."""

    _pool: Pool | None = None

    def _start(self) -> None:
        with self._starting():
            self._pool = self._context.Pool(self.workers, *_IGNORE_INTERRUPTS)
        self._map(callable, self._greetings(), 1)

    def run(self) -> list[Any]:
        return self._map(self.job.task, self.job.items, self.chunksize())

    def _map(self, task: Task, items: Sequence[Any], chunksize: int) -> list[Any]:
        assert self._pool is not None
        job = self._pool.map_async(task, items, chunksize)
        while True:
            job.wait(0.2)
            if job.ready():
                return job.get()
            # Pool.map waits for ever if a worker is killed: the pool replaces the worker, but
            # not its task.
            for process in self._workers:
                if process.exitcode is not None:
                    raise RuntimeError(
                        f"a worker ended with exit code {process.exitcode}, and Pool.map would "
                        "wait for its task for ever"
                    )

    def _stop(self, at_once: bool) -> None:
        if self._pool is None:
            return
        if at_once:
            self._pool.terminate()
        else:
            self._pool.close()
        self._pool.join()


class ExecutorSession(_ProcessSession):
    """``concurrent.futures.ProcessPoolExecutor`` on any context."""

    _executor: concurrent.futures.ProcessPoolExecutor | None = None

    def _start(self) -> None:
        self._executor = concurrent.futures.ProcessPoolExecutor(
            self.workers, self._context, *_IGNORE_INTERRUPTS
        )
        # Workers start on demand: ask for all. An early one may take a second task before the
        # last is asked for, so ask again until all are there.
        for _ in range(20):
            with self._starting():
                asked = [self._executor.submit(callable, task) for task in self._greetings()]
            for future in asked:
                future.result()
            if len(self._workers) >= self.workers:
                break

    def run(self) -> list[Any]:
        assert self._executor is not None
        task, items = self.job.task, self.job.items
        return list(self._executor.map(task, items, chunksize=self.chunksize()))

    def _stop(self, at_once: bool) -> None:
        if self._executor is None:
            return
        if not at_once:
            self._executor.shutdown()
            return
        # In this order: map() cancels its futures when it is left, and the executor's thread,
        # were it to find its workers dead first, would fail at those and say so on stderr.
        manager: threading.Thread | None = getattr(self._executor, "_executor_manager_thread", None)
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in self._workers:
            if process.is_alive():
                process.kill()
        if manager is not None:
            manager.join()


class FuturesThreadSession(Session):
    """``concurrent.futures.ThreadPoolExecutor``, one future an item."""

    def __enter__(self) -> FuturesThreadSession:
        self._executor = concurrent.futures.ThreadPoolExecutor(self.workers, "plait-lab")
        everyone = threading.Barrier(self.workers)  # else one early worker would take them all
        asked = [self._executor.submit(everyone.wait) for _ in range(self.workers)]
        concurrent.futures.wait(asked)
        return self

    def run(self) -> list[Any]:
        return list(self._executor.map(self.job.task, self.job.items))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # As in ThreadSession: a task that runs is not waited for after ^C.
        self._executor.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)
