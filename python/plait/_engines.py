"""What `plait.parallel.map` runs on. Each engine yields ``(chunk's index, its results)`` as
they arrive, raises the first exception, and drops what has not begun when it is closed."""

from __future__ import annotations

import contextvars
import functools
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, as_completed
from typing import TypeAlias, TypeVar

from . import _core, _workers

__all__ = ["in_place", "obstacle_to_processes", "on_executor", "on_processes", "on_threads"]

T = TypeVar("T")
R = TypeVar("R")
Parts: TypeAlias = Generator[tuple[int, list[R]], None, None]


def call_each(fn: Callable[[T], R], chunk: list[T]) -> list[R]:
    """One chunk's work on an executor's worker."""
    return [fn(item) for item in chunk]


def in_place(fn: Callable[[T], R], chunks: list[list[T]]) -> Parts[R]:
    """Call in this thread, one by one."""
    for index, chunk in enumerate(chunks):
        yield index, call_each(fn, chunk)


def on_threads(fn: Callable[[T], R], chunks: list[list[T]], workers: int) -> Parts[R]:
    """Call on threads of the crew; each takes the next chunk when it is through with one."""
    waiting = deque(enumerate(chunks))  # its popleft is atomic, without a GIL too
    arrived: queue.SimpleQueue[tuple[int, list[R]] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def serve() -> None:
        try:
            while not stop.is_set():
                try:
                    index, chunk = waiting.popleft()
                except IndexError:
                    break
                results = []
                for item in chunk:
                    if stop.is_set():
                        break
                    results.append(fn(item))
                arrived.put((index, results))
        except BaseException as error:
            arrived.put(error)
        finally:
            arrived.put(None)  # this worker has ended

    lane = _core.Lane(workers)
    working = 0
    failure: BaseException | None = None
    try:
        for _ in range(min(workers, len(chunks))):
            working += 1
            try:
                lane.post(functools.partial(contextvars.copy_context().run, serve))
            except RuntimeError:
                serve()  # no thread can be started, as while the interpreter exits: then here
        while working:
            got = _workers.receive(arrived)
            if got is None:
                working -= 1
            elif isinstance(got, BaseException):
                failure = failure or got
                stop.set()
            elif failure is None:
                yield got
    finally:
        stop.set()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # no cycle through this frame


def on_processes(fn: Callable[[T], R], chunks: list[list[T]], workers: int) -> Parts[R]:
    """Call on processes of a pool of its own."""
    from .executors import ProcessPoolExecutor

    if not chunks:
        return
    pool = ProcessPoolExecutor(workers)
    try:
        items = itertools.chain.from_iterable(chunks)
        results = pool.map(fn, items, chunksize=len(chunks[0]))
        for index, chunk in enumerate(chunks):
            yield index, list(itertools.islice(results, len(chunk)))
    except BaseException:
        # Calls that are under way could take any time, and nobody wants their results.
        pool.kill_workers()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def on_executor(executor: Executor, fn: Callable[[T], R], chunks: list[list[T]]) -> Parts[R]:
    """Call on somebody else's executor, which is left running."""
    futures = {executor.submit(call_each, fn, chunk): index for index, chunk in enumerate(chunks)}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def obstacle_to_processes(fn: object, item: object) -> str | None:
    """Why processes cannot do it, as the end of a sentence."""
    import multiprocessing

    from . import _byvalue
    from .errors import SerializationError

    if multiprocessing.current_process().daemon:
        return "a daemonic process may not start others"
    try:
        _byvalue.dumps(fn, name="fn")
        _byvalue.dumps(item, name="item")
    except SerializationError as error:
        return f"processes cannot do it: {error}"
    return None
