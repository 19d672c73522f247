"""The sessions of models whose workers are processes, or interpreters of their own.

Each maps `plait._meter.run_chunk` over chunks of the items, about four a worker, which costs what
the pools' own chunks cost, and has the workers note what they spent.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from typing import Any

from .. import _meter
from .scratch import Scratch
from .sessions import Job, Session

__all__ = [
    "DaskSession",
    "ExecutorSession",
    "InterpreterSession",
    "JoblibSession",
    "PlaitPoolSession",
    "PoolSession",
    "ProcessSession",
    "standard_context",
]


def standard_context() -> BaseContext:
    """The standard library's own context, also where plait was installed as the default."""
    return multiprocessing.get_context(multiprocessing.get_all_start_methods()[0])


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
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


class ProcessSession(Session):
    """Worker processes: which they are, and that they end, also if starting them fails."""

    def __init__(self, job: Job, workers: int, context: BaseContext) -> None:
        super().__init__(job, workers)
        self._context = context
        self._others: set[BaseProcess] = set()
        self._workers: list[BaseProcess] = []
        self._warnings = warnings.catch_warnings()
        self._scratch: Scratch | None = None
        self._folder = ""
        self._task = job.task

    @property
    def pids(self) -> list[int]:
        return [process.pid or 0 for process in self._workers]

    def spent(self) -> list[dict[str, float]]:
        return _meter.read_all(self._folder)

    def chunks(self) -> list[Any]:
        """The items, a chunk at a time."""
        items, step = self.job.items, self.chunksize()
        return [items[start : start + step] for start in range(0, len(items), step)]

    def run_chunk(self) -> Callable[[Any], list[Any]]:
        """What a worker calls with a chunk."""
        return functools.partial(_meter.run_chunk, self._folder, self._task)

    def run(self) -> list[Any]:
        return [result for chunk in self._map(self.run_chunk(), self.chunks()) for result in chunk]

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """On the workers, each item by itself."""
        raise NotImplementedError

    def dispatch_cost(self, tasks: int = 200) -> float | None:
        started = time.perf_counter()
        self._map(abs, list(range(tasks)))
        return (time.perf_counter() - started) / tasks

    def __enter__(self) -> Session:
        # Python 3.12 and 3.13 fork by default, and warn where there are other threads, as
        # rayon's: those are idle, or rebuilt in the child. A pool may fork again at any time.
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", ".*multi-threaded, use of", DeprecationWarning)
        self._others = set(multiprocessing.active_children())
        self._scratch = Scratch("plait-lab-", self.job.folder)
        self._folder = self._scratch.path
        try:
            self._task = _meter.ship(self.job.task)
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
            if self._scratch is not None:
                self._scratch.remove()
            self._warnings.__exit__(None, None, None)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Around what starts workers: afterwards they are known, whatever happens."""
        with interrupts_held_back():
            try:
                yield
            finally:
                children = multiprocessing.active_children()
                self._workers = [child for child in children if child not in self._others]

    def _greetings(self) -> list[Any]:
        """What the workers are first sent: the task, so that its modules are imported."""
        return [self.run_chunk()] * self.workers


class PoolSession(ProcessSession):
    """``multiprocessing.Pool``, mapping in its own chunks."""

    _pool: Pool | None = None

    def _start(self) -> None:
        with self._starting():
            self._pool = self._context.Pool(self.workers, _meter.prepare)
        self._map(callable, self._greetings())

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        assert self._pool is not None
        job = self._pool.map_async(task, items, 1)
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


class ExecutorSession(ProcessSession):
    """``concurrent.futures.ProcessPoolExecutor`` on any context."""

    _executor: concurrent.futures.ProcessPoolExecutor | None = None

    def _start(self) -> None:
        self._executor = concurrent.futures.ProcessPoolExecutor(
            self.workers, self._context, _meter.prepare
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

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        assert self._executor is not None
        return list(self._executor.map(task, items))

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


class PlaitPoolSession(ProcessSession):
    """`plait.ProcessPoolExecutor`."""

    _executor: Any = None

    def __init__(self, job: Job, workers: int) -> None:
        from ..process import get_context

        super().__init__(job, workers, get_context())

    @property
    def pids(self) -> list[int]:
        return [worker["pid"] for worker in self._executor.stats()]

    def _start(self) -> None:
        from ..executors import ProcessPoolExecutor

        with interrupts_held_back():
            self._executor = ProcessPoolExecutor(self.workers, initializer=_meter.ignore_interrupts)
        # Workers start on demand: each greeting keeps one for a moment, so that all are needed.
        for attempt in range(8):
            greet = functools.partial(_meter.greet, 0.001 * 2**attempt)
            list(self._executor.map(greet, self._greetings(), chunksize=1))
            if len(self._executor.stats()) >= self.workers:
                break

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        return list(self._executor.map(task, items, chunksize=1))

    def _stop(self, at_once: bool) -> None:
        if self._executor is None:
            return
        if at_once:
            self._executor.shutdown(wait=False, cancel_futures=True)
            for pid in filter(None, self.pids):  # 0 would be our own group
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._executor.shutdown()


class InterpreterSession(ProcessSession):
    """``concurrent.futures.InterpreterPoolExecutor``: threads, each with an interpreter."""

    _executor: concurrent.futures.Executor | None = None

    @property
    def pids(self) -> list[int]:
        return []

    def _start(self) -> None:
        pool: Any = concurrent.futures.InterpreterPoolExecutor  # type: ignore[attr-defined]
        # A new interpreter has the path of a program that has just started.
        path = functools.partial(exec, f"import sys; sys.path[:] = {sys.path!r}")
        self._executor = pool(self.workers, initializer=path)
        self._map(callable, self._greetings())

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        assert self._executor is not None
        return list(self._executor.map(task, items))

    def _stop(self, at_once: bool) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=not at_once, cancel_futures=True)


class JoblibSession(ProcessSession):
    """``joblib.Parallel`` on loky's processes, which it keeps between calls."""

    _parallel: Any = None

    def _start(self) -> None:
        import joblib

        self._parallel = joblib.Parallel(n_jobs=self.workers, batch_size=1)
        self._parallel.__enter__()
        self._map(callable, self._greetings())

    @property
    def pids(self) -> list[int]:
        return list(getattr(self._executor, "_processes", None) or ())

    @property
    def _executor(self) -> Any:
        """The executor that joblib has made: to ask loky for one may end it, and give another."""
        return getattr(getattr(self._parallel, "_backend", None), "_workers", None)

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        import joblib

        return list(self._parallel(joblib.delayed(task)(item) for item in items))

    def _stop(self, at_once: bool) -> None:
        if self._parallel is None:
            return
        executor = self._executor
        self._parallel.__exit__(None, None, None)
        if executor is not None:
            executor.shutdown(kill_workers=True)


class DaskSession(ExecutorSession):
    """``dask.bag`` on its multiprocessing scheduler, with a pool of spawned processes, its own."""

    def _start(self) -> None:
        super()._start()
        # By dask's own way, so that the workers have imported it. One that has sleeps for a
        # moment, so that the others are asked, too.
        self._map(functools.partial(_meter.greet, 0.05), self._greetings())

    def _map(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        import dask.bag

        from_sequence: Any = dask.bag.from_sequence
        if not items:
            return []
        bag = from_sequence(items, npartitions=len(items)).map(task)
        return list(
            bag.compute(scheduler="processes", pool=self._executor, num_workers=self.workers)
        )
