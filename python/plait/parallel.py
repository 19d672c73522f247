"""`map` over one engine or another, and `explain`: which one ran, and why.

Under the GIL only one thread runs Python code, so Python that computes goes to processes,
Python that waits goes to threads, and what is over in a moment stays where it is. On a
free-threaded build threads do both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from typing import Generic, TypeAlias, TypeVar

from . import _engines
from ._callables import check_callable
from .kernels import cpu_count

__all__ = ["Explanation", "explain", "map"]

T = TypeVar("T")
R = TypeVar("R")

HOW = ("auto", "serial", "thread", "process")

# "auto" runs items in place for this long before it decides.
SAMPLE_S = 0.002

# What it costs to have workers ready, in seconds: estimates, rounded up from runs on two
# cores. Work that would gain less than this stays serial.
START_S = {"thread": 0.0005, "process": 0.03}

# A sample that gave up the CPU of its own accord, and was on it for less than this share of
# its time, waited rather than computed.
WAITING = 0.5

# So many threads "auto" gives to work that waits.
MOST_WAITING = 32

# Chunks a worker gets by default: few enough to cost little, enough to even out the load.
CHUNKS_A_WORKER = 8

Done: TypeAlias = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a `map` did.

    Attributes:
        how: the engine that ran: ``serial``, ``thread``, ``process``, or an executor's class.
        reason: why that one.
        items: how many items there were.
        workers: how many threads or processes worked; None: the executor's own matter.
        chunksize: items a message to a worker.
        sampled: items that "auto" ran in place before it decided.
    """

    how: str
    reason: str
    items: int
    workers: int | None
    chunksize: int
    sampled: int = 0

    def __str__(self) -> str:
        told = f"{self.how}: {self.items} items"
        if self.workers is not None and self.how != "serial":
            told += f" on {self.workers} workers, {self.chunksize} at a time"
        if self.sampled:
            told += f", after {self.sampled} in place"
        return f"{told}; {self.reason}"


_last = threading.local()


def explain() -> Explanation:
    """What this thread's last `map` did, and why; the standard library has no such thing.

    Returns:
        An `Explanation`; ``str`` of it is a sentence.

    Raises:
        RuntimeError: this thread has not called `map` yet.

    >>> import plait
    >>> _ = plait.map(abs, [1, -2], how="serial")
    >>> print(plait.explain())
    serial: 2 items; it was asked for
    """
    found: Explanation | None = getattr(_last, "explanation", None)
    if found is None:
        raise RuntimeError("plait.map has not been called in this thread yet")
    return found


def map(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    how: str | Executor = "auto",
    workers: int | None = None,
    chunksize: int | None = None,
    ordered: bool = True,
    progress: bool = False,
) -> list[R]:
    """Call ``fn`` for each item, on the engine that suits it or that you choose.

    Unlike the built-in `map` and `concurrent.futures.Executor.map` it returns a list, when all
    is done. If a call raises, that exception is raised here, calls that have not begun are
    dropped, and those under way are waited for (processes are ended).

    Args:
        fn: what to call; for ``process`` also a lambda or a function of a notebook's cell.
        items: any iterable; it is read to its end first.
        how: ``"serial"``, ``"thread"``, ``"process"``, ``"auto"`` (decides after running the
            first items in place), or any `concurrent.futures.Executor`.
        workers: threads or processes, at least 1; by default one a core for computing, and
            some more threads for waiting.
        chunksize: items handed to a worker at once; by default a fraction of its share.
        ordered: results in the order of the items; False: in the order they were ready.
        progress: show a bar on the terminal (needs rich, which ``plait[lab]`` installs).

    Returns:
        The list of results.

    Raises:
        TypeError: ``fn`` is not callable, or ``items`` cannot be iterated over.
        ValueError: ``how`` is unknown, or ``workers`` or ``chunksize`` is below 1.
        plait.errors.SerializationError: something cannot be sent to another process.

    >>> import plait
    >>> plait.map(lambda x: x * x, range(5), how="thread")
    [0, 1, 4, 9, 16]
    """
    check_callable("fn", fn)
    if not isinstance(how, Executor) and how not in HOW:
        known = ", ".join(repr(name) for name in HOW)
        raise ValueError(f"how must be one of {known} or an Executor, got {how!r}")
    _at_least_one("workers", workers)
    _at_least_one("chunksize", chunksize)
    try:
        work = list(items)
    except TypeError as error:
        if isinstance(items, Iterable):
            raise  # it comes from the iteration itself
        raise TypeError(f"items must be iterable, got {items!r}") from error

    with _progress(len(work), progress) as done:
        sample = _Sample.of(fn, work, done) if how == "auto" else _Sample([], 0.0, 0.0)
        rest = work[len(sample.results) :]
        reason = "it was asked for"
        if how == "auto":
            how, workers, reason = _decide(fn, rest, sample, workers)
        if isinstance(how, Executor):
            engine, chunksize = type(how).__name__, chunksize or 1
        else:
            engine = how
            workers = min(workers or _default_workers(how), max(len(rest), 1))
            chunksize = chunksize or max(1, len(rest) // (workers * CHUNKS_A_WORKER))
        _last.explanation = Explanation(
            engine, reason, len(work), workers, chunksize, len(sample.results) if rest else 0
        )
        chunks = [rest[at : at + chunksize] for at in range(0, len(rest), chunksize)]
        if isinstance(how, Executor):
            parts = _engines.on_executor(how, fn, chunks)
        elif how == "thread":
            parts = _engines.on_threads(fn, chunks, workers or 1)
        elif how == "process":
            parts = _engines.on_processes(fn, chunks, workers or 1)
        else:
            parts = _engines.in_place(fn, chunks)
        return sample.results + _collect(parts, len(chunks), ordered, done)


def _collect(
    parts: Generator[tuple[int, list[R]], None, None], count: int, ordered: bool, done: Done
) -> list[R]:
    slots: list[list[R]] = [[] for _ in range(count)]
    arrived: list[R] = []
    with contextlib.closing(parts):
        for index, results in parts:
            slots[index] = results
            arrived += results
            done(len(results))
    return [result for slot in slots for result in slot] if ordered else arrived


@dataclasses.dataclass
class _Sample(Generic[R]):
    """The first items, run in place: their results are kept, their cost decides."""

    results: list[R]
    wall_s: float
    cpu_s: float
    gave_way: bool = False

    @property
    def waited(self) -> bool:
        return self.gave_way and self.cpu_s < WAITING * self.wall_s

    @classmethod
    def of(cls, fn: Callable[[T], R], work: list[T], done: Done) -> _Sample[R]:
        results: list[R] = []
        wall, cpu, switches = time.perf_counter(), time.thread_time(), _own_switches()
        elapsed, batch = 0.0, 1
        while elapsed < SAMPLE_S and len(results) < len(work):
            results += [fn(item) for item in work[len(results) : len(results) + batch]]
            elapsed = time.perf_counter() - wall
            # Looking at the clock must cost less than the calls; no batch takes long either.
            batch = max(1, min(2 * batch, int(len(results) / max(elapsed, 1e-9) * SAMPLE_S / 4)))
        spent = time.perf_counter() - wall, time.thread_time() - cpu
        done(len(results))
        return cls(results, *spent, _own_switches() != switches)


def _own_switches() -> float:
    """How often this thread gave up the CPU to wait. Being pushed off it does not count: on a
    busy machine what computes would look as if it waited."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):  # not told here: take it that it did
        return time.perf_counter()


def _decide(
    fn: Callable[[T], R], rest: list[T], sample: _Sample[R], workers: int | None
) -> tuple[str, int | None, str]:
    """The engine for the rest, how many workers, and why."""
    if not rest:
        return "serial", workers, "it was over before workers would have been ready"
    cores = cpu_count()
    left = sample.wall_s / len(sample.results) * len(rest)
    if sample.waited:
        if workers == 1 or left < START_S["thread"]:
            return "serial", workers, "there is too little to wait for"
        share = 1 - sample.cpu_s / sample.wall_s
        # Waiting takes no core, so there may be more threads than cores.
        workers = workers or min(MOST_WAITING, len(rest))
        return "thread", workers, f"the first items spent {share:.0%} of their time waiting"
    if (workers or cores) == 1:
        return "serial", workers, "one worker computes no faster than none"
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    how = "thread" if free_threaded else "process"
    gain = left * (1 - 1 / min(workers or cores, cores, len(rest)))
    if gain < START_S[how]:
        why = f"{cores} cores would save about {gain * 1e3:.1f} ms, less than it costs to start"
        return "serial", workers, why
    if free_threaded:
        return how, workers or cores, "the first items computed, and this Python has no GIL"
    obstacle = _engines.obstacle_to_processes(fn, rest[0])
    if obstacle:
        return "serial", workers, f"the first items computed, but {obstacle}"
    return how, workers, "the first items computed, and the GIL lets one thread do so at a time"


def _default_workers(how: str) -> int:
    # Threads mostly wait; asyncio and concurrent.futures have the same figure for them.
    return min(32, cpu_count() + 4) if how == "thread" else cpu_count()


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


@contextlib.contextmanager
def _progress(total: int, shown: bool) -> Iterator[Done]:
    if not shown:
        yield lambda count: None
        return
    from ._progress import bar

    with bar(total) as advance:
        yield advance
