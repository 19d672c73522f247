"""What a worker of the lab's models did with its time; a part of `plait.lab`.

Apart from the lab, since workers import it: a process that was just started, or a
sub-interpreter, must be ready soon, and cannot load plait's native core in the latter case.

A worker adds up what it spent in an array of numbers of its own. One in another process has the
array in a file that is mapped, in a folder that its master reads: nothing is sent, nothing is
asked for, and what a worker did is known also when it was killed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import sys
import threading
import time

TYPE_CHECKING = False  # typing is slow to import, and a worker waits for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = [
    "FIELDS",
    "Meter",
    "Shipped",
    "greet",
    "ignore_interrupts",
    "prepare",
    "process_delay",
    "read_all",
    "run_chunk",
    "run_delay",
    "ship",
]

# Seconds, but for the count of chunks; first and last on the clock of time.perf_counter().
FIELDS = ("busy", "cpu", "delayed", "pickling", "first", "last", "chunks")
_SIZE = 8 * len(FIELDS)


def run_delay(thread: int | None = None) -> float:
    """How long a thread of this process could have run but had no core; 0 if none can tell."""
    return _delay(f"/proc/self/task/{thread or threading.get_native_id()}/schedstat")


def _delay(path: str) -> float:
    try:
        with open(path, "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def process_delay(pid: int) -> float:
    """The same of another process's main thread."""
    return _delay(f"/proc/{pid}/schedstat")


class Meter:
    """One worker's sums."""

    def __init__(self, memory: Any = None) -> None:
        self._numbers = memoryview(bytearray(_SIZE) if memory is None else memory).cast("d")
        self.thread = threading.get_native_id()

    def values(self) -> dict[str, float]:
        """The sums by the names in `FIELDS`."""
        return dict(zip(FIELDS, self._numbers, strict=True))

    def add_pickling(self, seconds: float) -> None:
        """Note time that went into pickling or unpickling."""
        self._numbers[3] += seconds

    def run(self, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Call the task with each item, and add up what that took."""
        numbers = self._numbers
        delayed, cpu, start = run_delay(), time.thread_time(), time.perf_counter()
        numbers[4] = numbers[4] or start
        try:
            return [task(item) for item in items]
        finally:
            end = time.perf_counter()
            numbers[0] += end - start
            numbers[1] += time.thread_time() - cpu
            numbers[2] += run_delay() - delayed
            numbers[5] = end
            numbers[6] += 1

    def run_one(self, task: Callable[[Any], Any], item: Any) -> Any:
        """The same for one item, without the kernel's account of delays, which costs 15 µs."""
        numbers = self._numbers
        cpu, start = time.thread_time(), time.perf_counter()
        numbers[4] = numbers[4] or start
        try:
            return task(item)
        finally:
            numbers[5] = end = time.perf_counter()
            numbers[0] += end - start
            numbers[1] += time.thread_time() - cpu
            numbers[6] += 1


# This process's meters, by the folder of their master and the thread.
_meters: dict[tuple[str, int], Meter] = {}


def _meter(folder: str) -> Meter:
    key = folder, threading.get_ident()
    meter = _meters.get(key)
    if meter is None:
        _meters.clear()  # of a master that has gone
        path = os.path.join(folder, f"{os.getpid()}-{threading.get_native_id()}")
        with open(path, "w+b") as file:
            file.truncate(_SIZE)
            meter = Meter(mmap.mmap(file.fileno(), _SIZE))
        _meters[key] = meter
        _time_pickling(meter)
    return meter


def _time_pickling(meter: Meter) -> None:
    """Wrap what the standard library's pools pickle by; this is a worker, and nothing else."""
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is None or "multiprocessing" not in sys.modules:
        return
    if sys.modules["multiprocessing"].parent_process() is None:
        return  # a sub-interpreter in the main process
    pickler: Any = reduction.ForkingPickler
    dumps, loads = pickler.__dict__["dumps"].__func__, pickle.loads

    def timed_dumps(cls: Any, obj: Any, protocol: Any = None) -> Any:
        start = time.perf_counter()
        try:
            return dumps(cls, obj, protocol)
        finally:
            meter.add_pickling(time.perf_counter() - start)

    def timed_loads(data: Any, /, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return loads(data, **options)
        finally:
            meter.add_pickling(time.perf_counter() - start)

    pickler.dumps, pickler.loads = classmethod(timed_dumps), staticmethod(timed_loads)


def run_chunk(folder: str, task: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """A worker's part: the task on some items, and note in `folder` what it took."""
    return _meter(folder).run(task, items)


def greet(seconds: float, task: Callable[[Any], Any]) -> None:
    """What a worker is first sent: it has the task then, and is busy for a moment."""
    time.sleep(seconds)


def read_all(folder: str) -> list[dict[str, float]]:
    """The sums of all workers that have noted something in `folder`."""
    found = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        if len(data) == _SIZE:
            found.append(Meter(bytearray(data)).values())
    return found


_unpacked: dict[bytes, Any] = {}


def _unpack(pickled: bytes) -> Any:
    if pickled not in _unpacked:
        _unpacked.clear()
        _unpacked[pickled] = pickle.loads(pickled)
    return _unpacked[pickled]


class Shipped:
    """A callable that travels by value, and is unpickled once in each worker."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return _unpack, (self._pickled,)

    def __call__(self, item: Any) -> Any:
        return _unpack(self._pickled)(item)


def ship(task: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The task as workers can get it: by its name if that can be imported, else by value."""
    from . import _byvalue

    if not isinstance(task, Shipped) and not _byvalue.travels_by_name(task):
        try:
            pickled = pickle.dumps(task)
            if b"__main__" not in pickled:
                return task
        except Exception:  # whatever a reducer raises
            pass
        return Shipped(bytes(_byvalue.dumps(task)))
    return task


def ignore_interrupts() -> None:
    """A worker begins, and its parent alone handles ^C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def prepare() -> None:
    """The same for a pool of the standard library's, whose worker is to end with its parent."""
    ignore_interrupts()
    parent = sys.modules["multiprocessing"].parent_process()
    if parent is None:
        return

    def watch() -> None:
        with contextlib.suppress(Exception):
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="plait-lab-orphan", daemon=True).start()
